//! COPY in all its directions.

use super::*;

fn data(bytes: &[u8]) -> Vec<u8> {
    message(b'd', bytes)
}
const TEXT: [u8; 5] = [0, 0, 1, 0, 0];
const BINARY: [u8; 5] = [1, 0, 1, 0, 1];

#[test]
fn copy_in_counts_and_keeps_its_data() {
    let mut talk = Talk::joined();
    talk.up(query("copy t from stdin")).down(message(b'G', &TEXT));
    talk.up([data(b"1\ta\n"), data(b"2\tb\n"), bare(b'c')].concat());
    talk.down([complete("COPY 2"), ready(b'I')].concat());
    let told = talk.exchange(1);
    assert_eq!(told.number("db.postgresql.copy.messages"), Some(2));
    assert_eq!(told.number("db.postgresql.copy.bytes"), Some(8));
    assert_eq!(told.text("db.postgresql.copy.data"), "1\ta\n2\tb\n");
    assert_eq!(told.text("db.postgresql.copy.direction"), "in");
    assert!(matches!(told.class("db.postgresql.copy.data"), Class::Body { .. }));
    assert_eq!(told.number("db.response.returned_rows"), Some(2));
}

#[test]
fn copy_out_keeps_no_more_than_the_limit() {
    let mut talk = Talk::with(Limits { body_bytes_max: 10, ..Limits::default() }, true);
    talk.up(query("copy t to stdout")).down(message(b'H', &TEXT));
    talk.down([data(b"12345\n"), data(b"67890\n"), bare(b'c'), complete("COPY 2"), ready(b'I')].concat());
    let told = talk.exchange(1);
    assert_eq!(told.text("db.postgresql.copy.data"), "12345\n6789");
    assert_eq!(told.number("db.postgresql.copy.bytes"), Some(12));
}

#[test]
fn binary_copy_data_are_opaque() {
    let mut talk = Talk::joined();
    talk.up(query("copy t to stdout binary")).down(message(b'H', &BINARY));
    talk.down([data(b"PGCOPY\n"), bare(b'c'), complete("COPY 0"), ready(b'I')].concat());
    assert_eq!(talk.exchange(1).class("db.postgresql.copy.data"), &Class::Opaque);
}

#[test]
fn a_client_gives_its_copy_up() {
    let mut talk = Talk::joined();
    talk.up(query("copy t from stdin")).down(message(b'G', &TEXT));
    talk.up([data(b"1\n"), message(b'f', b"changed my mind\0")].concat());
    talk.down([error("57014", "COPY from stdin failed"), ready(b'I')].concat());
    let told = talk.exchange(1);
    assert_eq!(told.outcome, Some(Outcome::Cancelled));
    assert_eq!(told.text("db.postgresql.copy.failure"), "changed my mind");
}

#[test]
fn a_sync_before_the_data_is_ignored_by_the_server_and_here() {
    let mut talk = Talk::joined();
    talk.up([parse("", "copy t from stdin", &[]), bind("", "", 0, &[], 0), execute(""), sync()].concat());
    talk.down([bare(b'1'), bare(b'2'), message(b'G', &TEXT)].concat());
    talk.up([data(b"1\n"), sync(), bare(b'c'), sync()].concat());
    talk.down([complete("COPY 1"), ready(b'I')].concat());
    talk.up(query("select 1")).down([complete("SELECT 1"), ready(b'I')].concat());
    assert_eq!(talk.exchange(1).number("db.postgresql.copy.bytes"), Some(2));
    assert_eq!(talk.exchange(2).text("db.postgresql.command_tag"), "SELECT 1");
    assert!(talk.told.anomalies.is_empty());
}

#[test]
fn replication_is_counted_both_ways_and_not_kept() {
    let mut talk = Talk::joined();
    talk.up(query("START_REPLICATION 0/0")).down(message(b'W', &[0, 0, 0]));
    talk.down(data(b"w123")).up(data(b"r12")).down(data(b"k1")).up(bare(b'c'));
    talk.down([bare(b'c'), complete("START_STREAMING"), ready(b'I')].concat());
    let told = talk.exchange(1);
    assert_eq!(told.text("db.query.summary"), "START_REPLICATION");
    assert_eq!(told.text("db.postgresql.copy.direction"), "both");
    assert_eq!(told.number("db.postgresql.copy.messages"), Some(3));
    for name in ["xlog_data", "standby_status", "keepalive"] {
        let name = format!("db.postgresql.replication.messages.{name}");
        assert_eq!(told.number(&name), Some(1), "{name}");
    }
    assert!(!told.fields.contains_key("db.postgresql.copy.data"));
}

#[test]
fn a_base_backup_is_counted_by_its_messages_and_not_kept() {
    let mut talk = Talk::new();
    talk.up(startup(3 << 16, b"user\0a\0replication\0true\0\0"));
    talk.down([authentication(0, b""), ready(b'I')].concat());
    talk.up(query("BASE_BACKUP")).down(message(b'H', &[0, 0, 0]));
    talk.down([data(b"nbase.tar\0\0"), data(b"dcanary"), data(b"dmore"), data(b"p\0"), data(b"?")].concat());
    talk.down([bare(b'c'), complete("SELECT"), ready(b'I')].concat());
    let told = talk.exchange(2);
    let count = |name: &str| told.number(&format!("db.postgresql.replication.messages.{name}"));
    assert_eq!((count("new_archive"), count("archive_data")), (Some(1), Some(2)));
    assert_eq!((count("progress"), count("other")), (Some(1), Some(1)));
    assert!(!told.fields.contains_key("db.postgresql.copy.data"));
}

#[test]
fn a_long_copy_is_told_while_it_goes_on() {
    let mut talk = Talk::joined();
    talk.up(query("copy t from stdin")).down(message(b'G', &TEXT));
    let line = [b"x".repeat(9_999), b"\n".to_vec()].concat();
    for _ in 0..5 {
        talk.up(data(&line));
    }
    assert_eq!(talk.exchange(1).number("db.postgresql.copy.bytes"), Some(40_000));
    assert_eq!(talk.exchange(1).text("db.postgresql.copy.data").len(), 40_000);
    talk.up(data(&line)).up(data(&line)).up(data(&line)).up(bare(b'c'));
    talk.down([complete("COPY 8"), ready(b'I')].concat());
    let told = talk.exchange(1);
    assert_eq!(told.number("db.postgresql.copy.bytes"), Some(80_000));
    assert_eq!(told.text("db.postgresql.copy.data").len(), 64 << 10, "no more than the limit, in all");
}

#[test]
fn copy_data_that_overtake_the_wish_for_them_are_kept() {
    let mut talk = Talk::joined();
    talk.up(query("copy t from stdin")).up([data(b"1\ta\n"), data(b"2\tb\n"), bare(b'c')].concat());
    talk.down(message(b'G', &TEXT)).down([complete("COPY 2"), ready(b'I')].concat());
    let told = talk.exchange(1);
    assert_eq!(told.number("db.postgresql.copy.messages"), Some(2));
    assert_eq!(told.text("db.postgresql.copy.data"), "1\ta\n2\tb\n");
    assert!(told.anomalies.is_empty());
}

#[test]
fn a_sync_behind_overtaking_data_is_answered_and_one_before_them_is_not() {
    let mut talk = Talk::joined();
    talk.up([parse("", "copy t from stdin", &[]), bind("", "", 0, &[], 0), execute(""), sync()].concat());
    talk.up([data(b"1\n"), bare(b'c'), sync()].concat());
    talk.down([bare(b'1'), bare(b'2'), message(b'G', &TEXT), complete("COPY 1"), ready(b'I')].concat());
    talk.up(query("select 1")).down([complete("SELECT 1"), ready(b'I')].concat());
    assert_eq!(talk.exchange(1).number("db.postgresql.copy.bytes"), Some(2));
    assert_eq!(talk.exchange(2).text("db.postgresql.command_tag"), "SELECT 1");
    assert!(talk.told.anomalies.is_empty());
}

#[test]
fn data_that_the_server_ignores_belong_to_no_later_copy() {
    let mut talk = Talk::joined();
    talk.up(query("select 1")).up([data(b"stray"), bare(b'c')].concat());
    talk.down([complete("SELECT 1"), ready(b'I')].concat());
    talk.up(query("copy t from stdin")).down(message(b'G', &TEXT)).up([data(b"1\n"), bare(b'c')].concat());
    talk.down([complete("COPY 1"), ready(b'I')].concat());
    assert_eq!(talk.exchange(2).text("db.postgresql.copy.data"), "1\n");
}

#[test]
fn data_behind_a_hole_are_not_joined_to_those_before_it() {
    let mut talk = Talk::joined();
    talk.up(query("copy t from stdin")).down(message(b'G', &TEXT)).up(data(b"1\ta\n"));
    talk.gap(Direction::Up).up([data(b"3\tc\n"), bare(b'c')].concat());
    talk.down([complete("COPY 3"), ready(b'I')].concat());
    let told = talk.exchange(1);
    assert_eq!(told.text("db.postgresql.copy.data"), "1\ta\n");
    assert_eq!(told.anomalies, ["postgres_copy_lost"]);
}
