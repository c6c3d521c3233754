//! The spool through crashes: torn tails, damage in the middle, deaths between cursor and deletion.

use std::collections::BTreeMap;

use custody_ledger::{BootId, Chain, Draft, Echo, EntryType, HostId, HostKey};

use super::*;

fn chain(counter: u64) -> Chain {
    let (key, _) = HostKey::generate().unwrap();
    Chain::start(&key, HostId::from_bytes([7; 16]), BootId([1; 16]), counter, None).unwrap()
}

fn batch(chain: &mut Chain) -> SignedBatch {
    let body = [0x5a_u8; 300];
    chain.append(&Draft::new(EntryType::Heartbeat, &body)).unwrap();
    chain.close_batch(BTreeMap::new(), Echo::default()).unwrap()
}

fn open(folder: &Path) -> (Spool, Recovery) {
    Spool::open(folder, &config::Spool::default()).unwrap()
}

/// A spool of `count` synced batches of one start.
fn filled(folder: &Path, counter: u64, count: usize) -> Vec<Position> {
    let (mut spool, _) = open(folder);
    let mut chain = chain(counter);
    let positions = (0..count)
        .map(|_| {
            let batch = batch(&mut chain);
            spool.append(&batch).unwrap();
            batch.position
        })
        .collect();
    spool.sync().unwrap();
    positions
}

fn positions(spool: &Spool) -> Vec<Position> {
    spool.unsent(usize::MAX, usize::MAX).unwrap().into_iter().map(|(position, _)| position).collect()
}

fn file(folder: &Path, number: u64) -> PathBuf {
    folder.join("spool").join(segment::file_name(number))
}

#[test]
fn nothing_leaves_before_its_sync() {
    let folder = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(folder.path());
    let batch = batch(&mut chain(1));
    spool.append(&batch).unwrap();
    assert_eq!(positions(&spool), []);
    assert_eq!(spool.free(&batch.position).unwrap(), 0);
    spool.sync().unwrap();
    assert_eq!(spool.unsent(usize::MAX, usize::MAX).unwrap(), [(batch.position, batch.frame)]);
}

#[test]
fn what_was_not_freed_is_there_after_a_start_oldest_first() {
    let folder = tempfile::tempdir().unwrap();
    let first = filled(folder.path(), 1, 3);
    let second = filled(folder.path(), 2, 2);
    let (mut spool, recovery) = open(folder.path());
    assert_eq!(positions(&spool), [&first[..], &second[..]].concat());
    assert_eq!(recovery.last, Some(second[1]));
    assert_eq!(spool.free(&first[1]).unwrap(), 2);
    drop(spool);
    let (mut spool, _) = open(folder.path());
    assert_eq!(positions(&spool), [first[2], second[0], second[1]]);
    spool.free(&second[1]).unwrap();
    assert!(!file(folder.path(), 0).exists() && !file(folder.path(), 1).exists());
    drop(spool);
    // Nothing is left, and the last position is still known for the next RESUME.
    let (spool, recovery) = open(folder.path());
    assert_eq!((spool.waiting(), recovery.last), (0, Some(second[1])));
}

#[test]
fn a_torn_tail_is_cut_off_at_any_byte_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let kept = filled(folder.path(), 1, 3);
    let bytes = std::fs::read(file(folder.path(), 0)).unwrap();
    let (spool, _) = open(folder.path());
    let last = spool.places[2];
    drop(spool);
    for end in last.offset + 1..last.offset + last.length {
        std::fs::write(file(folder.path(), 0), &bytes[..end as usize]).unwrap();
        let (spool, recovery) = open(folder.path());
        assert_eq!(positions(&spool), kept[..2]);
        assert_eq!(recovery.torn_bytes, end - last.offset);
        assert_eq!(recovery.last, Some(kept[1]));
        assert!(recovery.damaged.is_empty());
    }
}

#[test]
fn damage_in_the_middle_is_put_aside_with_what_hangs_on_it() {
    let folder = tempfile::tempdir().unwrap();
    let first = filled(folder.path(), 1, 4);
    let second = filled(folder.path(), 2, 1);
    let (spool, _) = open(folder.path());
    let hit = spool.places[1].offset as usize + 40;
    drop(spool);
    let mut bytes = std::fs::read(file(folder.path(), 0)).unwrap();
    bytes[hit] ^= 1;
    std::fs::write(file(folder.path(), 0), &bytes).unwrap();
    let (spool, recovery) = open(folder.path());
    assert_eq!(positions(&spool), [first[0], second[0]]);
    assert_eq!(recovery.stranded, first[2..]);
    assert_eq!(recovery.damaged.len(), 1);
    assert_eq!(std::fs::read(&recovery.damaged[0]).unwrap(), bytes, "the damaged file is kept as it was");
    // The next start finds it in order.
    drop(spool);
    let (spool, recovery) = open(folder.path());
    assert_eq!(positions(&spool), [first[0], second[0]]);
    assert!(recovery.damaged.is_empty() && recovery.stranded.is_empty());
}

#[test]
fn a_file_that_is_no_segment_is_put_aside() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path(), 1, 1);
    std::fs::write(file(folder.path(), 0), b"something else entirely").unwrap();
    let (spool, recovery) = open(folder.path());
    assert_eq!((spool.waiting(), recovery.damaged.len()), (0, 1));
}

#[test]
fn a_damaged_cursor_frees_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let kept = filled(folder.path(), 1, 2);
    let (mut spool, _) = open(folder.path());
    spool.free(&kept[0]).unwrap();
    drop(spool);
    std::fs::write(folder.path().join("spool/cursor"), b"{").unwrap();
    assert_eq!(positions(&open(folder.path()).0), kept);
}

#[test]
fn a_full_spool_has_room_for_control_records_only() {
    let folder = tempfile::tempdir().unwrap();
    let limits =
        config::Spool { bytes_max: 1000, reserve_bytes: 600, segment_bytes: 100, ..Default::default() };
    let (spool, _) = Spool::open(folder.path(), &limits).unwrap();
    assert!(spool.has_room(400, false) && !spool.has_room(401, false) && spool.has_room(1000, true));
}

#[test]
fn a_refused_batch_stays_on_disk_and_out_of_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let kept = filled(folder.path(), 1, 2);
    let (mut spool, _) = open(folder.path());
    assert_eq!(spool.put_aside().unwrap(), Some(kept[0]));
    assert_eq!(positions(&spool), kept[1..]);
    assert_eq!(std::fs::read_dir(folder.path().join("spool/aside")).unwrap().count(), 1);
}

#[test]
fn a_refused_batch_waits_for_the_chain_to_name_it_over_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let kept = filled(folder.path(), 1, 3);
    let (mut spool, _) = open(folder.path());
    spool.put_aside().unwrap();
    spool.put_aside().unwrap();
    let (spool, _) = open(folder.path());
    assert_eq!((spool.aside().batches, spool.aside().unnamed), (2, kept[..2].to_vec()));
    // One that has no file of its own keeps no other from being marked.
    assert!(spool.named(&[kept[2], kept[0]]).is_err());
    assert_eq!((spool.aside().batches, spool.aside().unnamed), (2, kept[1..2].to_vec()));
}

/// Batches that wait to be committed stand before one that the sink refuses: they stay, and it does not come back.
#[test]
fn a_refused_batch_behind_stored_ones_takes_none_of_them_along() {
    let folder = tempfile::tempdir().unwrap();
    let all = filled(folder.path(), 1, 4);
    let (mut spool, _) = open(folder.path());
    spool.mark_sent(&all[1]);
    assert_eq!(spool.next_unsent(), Some(all[2]));
    assert_eq!(spool.put_aside().unwrap(), Some(all[2]));
    assert_eq!((spool.waiting(), positions(&spool)), (3, vec![all[3]]));
    drop(spool);
    let (mut spool, _) = open(folder.path());
    assert_eq!(positions(&spool), [all[0], all[1], all[3]]);
    spool.mark_sent(&all[3]);
    assert_eq!(spool.free(&all[1]).unwrap(), 2);
    assert!(spool.rewind(None));
    assert_eq!(positions(&spool), [all[3]]);
}
