//! The changes: each is drawn from its seed alone, and says in words what it did.

use custody_ledger::retention::Thinned;
use custody_ledger::segment::{self, MAGIC, Reader, Record, RecordKind, put_record};
use custody_ledger::tree;
use custody_tests::random::Random;

use crate::evidence::Files;

type Change = fn(&mut Files, &mut Random) -> Option<String>;

/// All of them by name.
pub(crate) const CHANGES: &[(&str, Change)] = &[
    ("bit flipped", flip_bit),
    ("byte replaced", replace_byte),
    ("file cut off", truncate),
    ("bytes appended", append),
    ("range cut out", cut_range),
    ("range zeroed", zero_range),
    ("range doubled", double_range),
    ("ranges swapped in a file", swap_ranges),
    ("range copied from another file", copy_range),
    ("file deleted", delete_file),
    ("file doubled under another name", double_file),
    ("files swapped", swap_files),
    ("record deleted", delete_record),
    ("record doubled", double_record),
    ("records swapped", swap_records),
    ("record moved to the end", move_record),
    ("record again at the end", repeat_record),
    ("record changed, its hash made to fit", forge_record),
    ("record without its bodies", thin_record),
];

/// A file's path; segments and log alike often, though there are more files of the log.
fn pick(files: &Files, random: &mut Random, least_bytes: usize) -> Option<String> {
    let prefix = *random.one(&["segments/", "log/"]);
    let candidates: Vec<&String> = files
        .iter()
        .filter(|(path, bytes)| path.starts_with(prefix) && bytes.len() >= least_bytes)
        .map(|(path, _)| path)
        .collect();
    (!candidates.is_empty()).then(|| (*random.one(&candidates)).clone())
}

fn pick_range(bytes: &[u8], random: &mut Random) -> (usize, usize) {
    let length = 1 + random.below(*random.clone().one(&[4, 64, 1024]).min(&bytes.len()));
    (random.below(bytes.len() + 1 - length.min(bytes.len())), length.min(bytes.len()))
}

fn flip_bit(files: &mut Files, random: &mut Random) -> Option<String> {
    let path = pick(files, random, 1)?;
    let bytes = files.get_mut(&path)?;
    let bit = random.below(bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
    Some(format!("{path}, byte {}, bit {}", bit / 8, bit % 8))
}

fn replace_byte(files: &mut Files, random: &mut Random) -> Option<String> {
    let path = pick(files, random, 1)?;
    let bytes = files.get_mut(&path)?;
    let (at, other) = (random.below(bytes.len()), random.below(256) as u8);
    bytes[at] = other;
    Some(format!("{path}, byte {at} is {other:#04x}"))
}

fn truncate(files: &mut Files, random: &mut Random) -> Option<String> {
    let path = pick(files, random, 1)?;
    let bytes = files.get_mut(&path)?;
    let length = random.below(bytes.len());
    bytes.truncate(length);
    Some(format!("{path} to {length} bytes"))
}

fn append(files: &mut Files, random: &mut Random) -> Option<String> {
    let path = pick(files, random, 0)?;
    let more: Vec<u8> = (0..=random.below(40)).map(|_| random.below(256) as u8).collect();
    files.get_mut(&path)?.extend_from_slice(&more);
    Some(format!("{path}, {more:02x?}"))
}

fn cut_range(files: &mut Files, random: &mut Random) -> Option<String> {
    let path = pick(files, random, 1)?;
    let bytes = files.get_mut(&path)?;
    let (at, length) = pick_range(bytes, random);
    bytes.drain(at..at + length);
    Some(format!("{path}, {length} at {at}"))
}

fn zero_range(files: &mut Files, random: &mut Random) -> Option<String> {
    let path = pick(files, random, 1)?;
    let bytes = files.get_mut(&path)?;
    let (at, length) = pick_range(bytes, random);
    bytes[at..at + length].fill(0);
    Some(format!("{path}, {length} at {at}"))
}

fn double_range(files: &mut Files, random: &mut Random) -> Option<String> {
    let path = pick(files, random, 1)?;
    let bytes = files.get_mut(&path)?;
    let (from, length) = pick_range(bytes, random);
    let to = random.below(bytes.len() + 1);
    let copy = bytes[from..from + length].to_vec();
    bytes.splice(to..to, copy);
    Some(format!("{path}, {length} at {from} again at {to}"))
}

fn swap_ranges(files: &mut Files, random: &mut Random) -> Option<String> {
    let path = pick(files, random, 2)?;
    let bytes = files.get_mut(&path)?;
    let middle = 1 + random.below(bytes.len() - 1);
    let (before, after) = bytes.split_at_mut(middle);
    let length = 1 + random.below(before.len().min(after.len()).min(512));
    let (one, other) = (random.below(before.len() + 1 - length), random.below(after.len() + 1 - length));
    before[one..one + length].swap_with_slice(&mut after[other..other + length]);
    Some(format!("{path}, {length} at {one} and {}", middle + other))
}

fn copy_range(files: &mut Files, random: &mut Random) -> Option<String> {
    let (path, from) = (pick(files, random, 1)?, pick(files, random, 1)?);
    let (at, length) = pick_range(&files[&from], random);
    let copy = files[&from][at..at + length].to_vec();
    let bytes = files.get_mut(&path)?;
    let to = random.below(bytes.len());
    let end = (to + length).min(bytes.len());
    bytes.splice(to..end, copy);
    Some(format!("{length} at {at} of {from} to {to} of {path}"))
}

fn delete_file(files: &mut Files, random: &mut Random) -> Option<String> {
    let path = pick(files, random, 0)?;
    files.remove(&path);
    Some(path)
}

fn double_file(files: &mut Files, random: &mut Random) -> Option<String> {
    let path = pick(files, random, 0)?;
    let other = match path.strip_prefix("segments/") {
        Some(_) => format!("segments/{}", segment::file_name(random.below(40) as u64)),
        None => {
            pick(files, random, 0).filter(|other| other.starts_with("log/")).unwrap_or(format!("{path}x"))
        }
    };
    files.insert(other.clone(), files[&path].clone());
    Some(format!("{path} as {other}"))
}

fn swap_files(files: &mut Files, random: &mut Random) -> Option<String> {
    let (one, other) = (pick(files, random, 0)?, pick(files, random, 0)?);
    let (first, second) = (files[&one].clone(), files[&other].clone());
    files.insert(one.clone(), second);
    files.insert(other.clone(), first);
    Some(format!("{one} and {other}"))
}

/// Where each record of a segment stands.
fn records(bytes: &[u8]) -> Vec<(usize, usize)> {
    let records = Reader::open(bytes).into_iter().flatten().map_while(Result::ok);
    records.map(|record| (record.offset as usize, record.length as usize)).collect()
}

/// A segment with at least so many records, and where they stand.
fn pick_records(files: &Files, random: &mut Random, least: usize) -> Option<(String, Vec<(usize, usize)>)> {
    let candidates: Vec<_> = files
        .iter()
        .filter(|(path, _)| path.starts_with("segments/"))
        .map(|(path, bytes)| (path.clone(), records(bytes)))
        .filter(|(_, records)| records.len() >= least)
        .collect();
    (!candidates.is_empty()).then(|| random.one(&candidates).clone())
}

fn delete_record(files: &mut Files, random: &mut Random) -> Option<String> {
    let (path, records) = pick_records(files, random, 1)?;
    let (at, length) = *random.one(&records);
    files.get_mut(&path)?.drain(at..at + length);
    Some(format!("{path}, byte {at}"))
}

fn double_record(files: &mut Files, random: &mut Random) -> Option<String> {
    let (path, records) = pick_records(files, random, 1)?;
    let (at, length) = *random.one(&records);
    let copy = files[&path][at..at + length].to_vec();
    let (other, places) = pick_records(files, random, 1)?;
    let (to, _) = *random.one(&places);
    files.get_mut(&other)?.splice(to..to, copy);
    Some(format!("{path}, byte {at}, again in {other} before byte {to}"))
}

fn swap_records(files: &mut Files, random: &mut Random) -> Option<String> {
    let (path, records) = pick_records(files, random, 2)?;
    let first = random.below(records.len() - 1);
    let second = first + 1 + random.below(records.len() - 1 - first);
    let bytes = files.get_mut(&path)?;
    let of = |index: usize| records[index].0..records[index].0 + records[index].1;
    let (one, other) = (bytes[of(first)].to_vec(), bytes[of(second)].to_vec());
    bytes.splice(of(second), one);
    bytes.splice(of(first), other);
    Some(format!("{path}, records {first} and {second}"))
}

fn move_record(files: &mut Files, random: &mut Random) -> Option<String> {
    let (path, records) = pick_records(files, random, 1)?;
    let (at, length) = *random.one(&records);
    let moved: Vec<u8> = files.get_mut(&path)?.drain(at..at + length).collect();
    let last = files.keys().rfind(|path| path.starts_with("segments/"))?.clone();
    files.get_mut(&last)?.extend_from_slice(&moved);
    Some(format!("{path}, byte {at}, to the end of {last}"))
}

/// Behind the checkpoint, where the tree does not vouch for it yet.
fn repeat_record(files: &mut Files, random: &mut Random) -> Option<String> {
    let (path, records) = pick_records(files, random, 1)?;
    // The first segment begins with the enrolments, and ends with the statements.
    let at = *random.one(&[0, random.clone().below(records.len()), records.len() - 1]);
    let (at, length) = records[at];
    let copy = files[&path][at..at + length].to_vec();
    let last = files.keys().rfind(|path| path.starts_with("segments/"))?.clone();
    files.get_mut(&last)?.extend_from_slice(&copy);
    Some(format!("{path}, byte {at}, again at the end of {last}"))
}

/// As the sink does when bodies expire, and nobody has stated it.
fn thin_record(files: &mut Files, random: &mut Random) -> Option<String> {
    let without = |record: &Record| {
        let thinned = (record.kind == RecordKind::Batch).then(|| Thinned::of(record).ok()?)??;
        let mut bytes = Vec::new();
        put_record(&mut bytes, record.kind, &thinned.meta, &thinned.frame).ok()?;
        Some((record.offset as usize, record.length as usize, bytes))
    };
    let whole = files.iter().filter(|(path, _)| path.starts_with("segments/")).flat_map(|(path, bytes)| {
        let records = Reader::open(bytes.as_slice()).into_iter().flatten().map_while(Result::ok);
        records.filter_map(|record| Some((path.clone(), without(&record)?)))
    });
    let whole: Vec<_> = whole.collect();
    let (path, (at, length, bytes)) = (!whole.is_empty()).then(|| random.one(&whole).clone())?;
    files.get_mut(&path)?.splice(at..at + length, bytes);
    Some(format!("{path}, byte {at}"))
}

/// Who knows the format changes a record and writes its hash anew.
fn forge_record(files: &mut Files, random: &mut Random) -> Option<String> {
    let (path, records) = pick_records(files, random, 1)?;
    let (at, length) = *random.one(&records);
    let bytes = files.get_mut(&path)?;
    // Lengths are left as they are: a record that ends elsewhere is found by its next neighbour already.
    let places = [4, 5, 16 + random.below(length - 48), 16 + random.below(length - 48)];
    let (place, bit) = (at + *random.one(&places), random.below(8));
    bytes[place] ^= 1 << bit;
    let hash = tree::hash_of(&bytes[at..at + length - 32]);
    bytes[at + length - 32..at + length].copy_from_slice(&hash.0);
    debug_assert!(at >= MAGIC.len());
    Some(format!("{path}, record at {at}, byte {place}, bit {bit}"))
}
