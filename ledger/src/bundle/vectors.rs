//! The vectors for other readers of bundles: files that must be read so, and one for each attack. They are written and
//! compared as the other golden files are (`cargo xtask golden`); docs/bundle.md says how to use them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::attacks::{Whose, attacks, checked};
use super::stand::{Bundle, EARLY, HOST, LATE, OTHER, Stand, WITNESSES, gone_of, of_age, redacted};
use super::{KeyChain, Report};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/bundle")
}

/// What must be read, each with what it is there for.
fn good(stand: &Stand) -> Vec<(&'static str, Whose, Bundle)> {
    let session = stand.session();
    let mut one_left_out = session.clone();
    one_left_out.batches[1].0 = redacted(&session.batches[1].0, |_| true);
    let mut epoch_unfinished = stand.both_epochs();
    epoch_unfinished.batches.remove(2);
    let rotated = Stand::forged(|_, second| *second = Stand::epoch_of_a_rotated_key(HOST, 0xb0));
    let mut cosigned = stand.session();
    cosigned.checkpoint = stand.cosigned(&WITNESSES);
    let own = [
        ("session", session),
        ("session_with_an_anchor", stand.anchored()),
        ("session_without_one_of_its_bodies", one_left_out),
        ("entries_with_all_bodies", stand.entries(4, 9)),
        ("entries_from_the_first", stand.entries(0, 3)),
        ("one_entry", stand.entries(8, 8)),
        ("over_a_restart", stand.both_epochs()),
        ("over_a_restart_with_a_batch_missing", epoch_unfinished),
        ("over_a_rotation_of_the_key", rotated.both_epochs()),
        ("after_a_rotation_of_the_key", rotated.end_of_the_second()),
        ("session_with_cosignatures_that_nobody_asked_for", cosigned.clone()),
    ];
    let witnessed = [("session_that_two_witnesses_cosigned", Whose::Witnessed, cosigned)];
    let own = own.map(|(name, bundle)| (name, Whose::Own, bundle)).into_iter();
    own.chain(witnessed).chain(old()).collect()
}

/// What must be read of bundles that were made when bodies had expired.
fn old() -> Vec<(&'static str, Whose, Bundle)> {
    let old = Stand::old();
    let early = Stand::aged(&[of_age(gone_of(EARLY, &[(HOST, 3)]))]);
    let mut half = early.session();
    half.expire(&early.stated[0], 0, 0..1);
    let mut half_left_out = half.clone();
    half_left_out.batches[1].0 = redacted(&half.batches[1].0, |_| true);
    let mut anchored = old.anchored();
    (anchored.stated, anchored.batches) = (old.old_session().stated, old.old_session().batches);
    let mut over_a_restart = old.both_epochs();
    over_a_restart.expire(&old.stated[1], 0, 0..5);
    let mut unstated = old.old_session();
    unstated.stated.clear();
    let never = Stand::aged_without_bodies_of_batch_3(&[of_age(gone_of(LATE, &[(HOST, 4), (OTHER, 2)]))]);
    let mut never_came = never.session();
    never_came.expire(&never.stated[0], 1, 1..3);
    let mut cosigned = old.old_session();
    cosigned.checkpoint = old.cosigned(&WITNESSES);
    let own = [
        ("session_that_expired", old.old_session()),
        ("session_that_expired_with_an_anchor", anchored),
        ("session_whose_beginning_expired", half),
        ("session_whose_beginning_expired_and_a_body_was_left_out", half_left_out),
        ("entries_that_expired_over_a_restart", over_a_restart),
        ("session_that_expired_as_nobody_states", unstated),
        ("session_that_expired_but_for_what_never_came", never_came),
    ];
    let own = own.map(|(name, bundle)| (name, Whose::Own, bundle)).into_iter();
    own.chain([("session_that_expired_and_two_witnesses_cosigned", Whose::Witnessed, cosigned)]).collect()
}

/// What a reader must have counted, as one line.
fn counts(report: &Report) -> String {
    let keys = match report.keys {
        KeyChain::Enrolled => "enrolled".to_owned(),
        KeyChain::Anchored(number) => format!("anchored:{number}"),
    };
    let session = report.session.map_or("-".to_owned(), |session| {
        format!("{}:{}:{}:{}", session.seq, session.entries, session.redacted, session.closed)
    });
    let of_session = report.session.map_or(0, |session| session.expired);
    // Bundles of before have nothing of this, and their lines stay as they were.
    let expired = match report.expired {
        0 => String::new(),
        number => format!(" expired={number}:{of_session}:{}", report.expiries.len()),
    };
    format!(
        "verified={} redacted={} gaps={} around={} batches={} epochs={} keys={keys} session={session} witnesses={}{expired}",
        report.verified,
        report.redacted,
        report.gaps,
        report.around,
        report.batches,
        report.epochs,
        report.cosigned.len()
    )
}

/// Name, policy, verdict, and the check that rejects or what is counted.
fn index(stand: &Stand) -> Vec<(String, Vec<u8>)> {
    let mut index = String::from("# file policy verdict check-or-counts\n");
    let mut files = Vec::new();
    for (name, whose, bundle) in good(stand) {
        let bytes = bundle.encode();
        let report = checked(&bytes, &whose.policy(stand)).unwrap();
        let verdict = if report.is_whole() { "verified" } else { "incomplete" };
        index += &format!("{name}.bundle {} {verdict} {}\n", whose.file(), counts(&report));
        files.push((format!("{name}.bundle"), bytes));
    }
    for attack in attacks() {
        let check = attack.stopped_by[0].name();
        index += &format!("{}.bundle {} rejected {check}\n", attack.name, attack.policy.file());
        files.push((format!("{}.bundle", attack.name), attack.bytes));
    }
    for whose in Whose::ALL {
        files.push((whose.file().to_owned(), whose.policy(stand).to_string().into_bytes()));
    }
    files.push(("index.txt".to_owned(), index.into_bytes()));
    files
}

#[test]
fn golden_vectors_of_bundles() {
    let files = index(&Stand::new());
    let folder = folder();
    if std::env::var_os("BLESS").is_some() {
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        files.iter().for_each(|(name, bytes)| std::fs::write(folder.join(name), bytes).unwrap());
    }
    for (name, bytes) in &files {
        let golden = std::fs::read(folder.join(name))
            .unwrap_or_else(|error| panic!("{name}: {error}; `cargo xtask golden --bless` writes it"));
        assert!(golden == *bytes, "{name} changed: bundles of before can no longer be read or verified");
    }
    let here = std::fs::read_dir(&folder).unwrap().map(|item| item.unwrap().file_name());
    let here: BTreeSet<String> = here.map(|name| name.to_str().unwrap().to_owned()).collect();
    let made: BTreeSet<String> = files.into_iter().map(|(name, _)| name).collect();
    assert_eq!(here, made, "a vector that nothing makes");
}
