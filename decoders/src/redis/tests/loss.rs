//! Holes, joining in the middle, the end, and who is recognised.

use super::*;
use crate::protocol::{Heads, Probe, Protocol};

#[test]
fn values_of_uncertain_replies_are_not_shown() {
    let outcome = told("middle", "silence_makes_certain");
    let uncertain = of(&outcome, "GET a");
    assert_eq!(uncertain.anomalies, ["pairing_uncertain"]);
    assert_eq!(uncertain.fields["db.redis.reply"].class, Class::Opaque);
    assert!(of(&outcome, "GET c").anomalies.is_empty(), "after a silence it is certain");
    let unmatched = told("middle", "an_answer_to_what_was_not_seen");
    assert_eq!(all(&unmatched)[0].anomalies, ["response_without_request"]);
    assert_eq!(all(&unmatched)[0].fields["db.redis.reply"].class, Class::Opaque);
}

#[test]
fn a_client_that_waits_for_each_reply_is_certain_after_the_first() {
    let outcome = talk(
        "middle\n> 1 \"*1\\r\\n$4\\r\\nPING\\r\\n\"\n< 2 \"+PONG\\r\\n\"\n> 3 \"*2\\r\\n$3\\r\\nGET\\r\\n$1\\r\\nb\\r\\n\"\n< 4 \"$1\\r\\n2\\r\\n\"\n",
    );
    assert_eq!(all(&outcome)[0].anomalies, ["pairing_uncertain"]);
    assert!(all(&outcome)[1].anomalies.is_empty());
}

#[test]
fn joined_within_a_value_it_goes_on_at_the_next() {
    let outcome = talk(
        "middle\n> 1 \"alue\\r\\n*2\\r\\n$3\\r\\nGET\\r\\n$1\\r\\na\\r\\n\"\n< 2 \"rest of it\\r\\n+OK\\r\\n$1\\r\\n1\\r\\n\"\n",
    );
    assert_eq!(text(of(&outcome, "GET a")), "GET a");
    assert!(outcome.accounts[0].unparsed >= 6);
}

#[test]
fn a_hole_in_the_replies_leaves_the_commands_without_them() {
    let outcome = told("middle", "hole_in_the_replies");
    assert_eq!(of(&outcome, "GET a").anomalies, ["answer_lost"]);
    let within = told("large", "hole_within_a_large_reply");
    assert_eq!(all(&within)[0].anomalies, ["redis_torn"]);
    assert!(all(&within)[1].anomalies.is_empty(), "the next one is sure");
}

#[test]
fn what_ends_early_is_not_told_as_whole() {
    let outcome = told("hostile", "ends_early");
    assert_eq!(all(&outcome)[0].anomalies, ["redis_truncated"]);
    assert_eq!(all(&outcome).len(), 1);
}

#[test]
fn surplus_replies_are_bounded() {
    let replies = "+OK\\r\\n".repeat(100);
    let outcome = talk(&format!("middle\n< 1 \"{replies}\"\n"));
    assert!(all(&outcome).len() <= 32, "{}", all(&outcome).len());
    assert!(outcome.anomalies.contains(&"redis_unmatched"), "{:?}", outcome.anomalies);
}

#[test]
fn more_commands_than_are_remembered_pair_again() {
    let outcome = told("large", "more_commands_than_are_remembered");
    assert_eq!(reply_type(of(&outcome, "TIME")), "array");
}

fn probed(up: &str, down: &str, port: u16) -> Probe {
    Redis.probe(Heads { up: up.as_bytes(), down: down.as_bytes(), port })
}

#[test]
fn redis_is_recognised_on_any_port_and_nothing_else_is() {
    let get = "*2\r\n$3\r\nGET\r\n$1\r\na\r\n";
    assert_eq!(probed(get, "", 1), Probe::Yes);
    assert_eq!(probed("$1\r\na\r\n", get, 1), Probe::Reversed);
    assert_eq!(probed("*2\r\n$3\r\nG", "", 1), Probe::More);
    assert_eq!(probed("*1\r\n$9\r\nFT.SEARCH\r\n", "", 1), Probe::Yes);
    assert_eq!(probed("PING\r\n", "+PONG\r\n", 1), Probe::Yes);
    assert_eq!(probed("*0\r\n*-1\r\n*1\r\n$4\r\nPING\r\n", "", 1), Probe::Yes, "commands of no words");
    assert_eq!(probed("PING\r\n", "", 1), Probe::More);
    assert_eq!(probed("PING\r\n", "", 6379), Probe::Yes);
    for words in ["-NOAUTH Authentication required.\r\n", "-DENIED Redis is running in protected mode"] {
        assert_eq!(probed("", words, 1), Probe::Yes, "{words}");
    }
    assert_eq!(probed("", ">2\r\n+server\r\n:1\r\n", 1), Probe::Yes);
    for (up, down) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", ""),
        ("", "220 mail.example ESMTP\r\n"),
        ("", "SSH-2.0-OpenSSH\r\n"),
        ("get key\r\n", "VALUE key 0 1\r\nx\r\nEND\r\n"),
        ("\0\0\0\x08\x04", ""),
        ("*2\r\n$3\r\nGETT", ""),
    ] {
        assert_ne!(probed(up, down, 1), Probe::Yes, "{up:?} {down:?}");
    }
    assert_eq!(probed("", "+OK POP3 ready\r\n", 1), Probe::More, "others greet so too");
}
