//! What changes who speaks: pipelines, transactions, subscriptions, pushes, MONITOR, CLIENT REPLY, replication.

use super::*;

fn ends(outcome: &Outcome) -> Vec<&'static str> {
    all(outcome).iter().map(|told| told.end.map_or("open", End::as_str)).collect()
}

#[test]
fn pipelined_commands_are_answered_in_their_order() {
    let outcome = told("pipelining", "pipelining");
    is_clean(&outcome);
    assert_eq!(all(&outcome).len(), 19);
    for number in 0..6 {
        assert_eq!(field(of(&outcome, &format!("GET p:{number}")), "db.redis.reply"), format!("v{number}"));
    }
}

#[test]
fn a_queued_command_ends_with_its_transaction() {
    let outcome = told("transaction", "transaction");
    is_clean(&outcome);
    let exec = of(&outcome, "EXEC");
    assert_eq!(field(exec, "db.operation.batch.size"), "Unsigned(4)");
    assert_eq!(field(of(&outcome, "LPOP t"), "error.type"), "WRONGTYPE", "one failed, the others ran");
    assert_eq!(field(of(&outcome, "INCR t"), "db.redis.reply"), "Unsigned(2)");
    let ends = ends(&outcome);
    assert_eq!((ends[7], ends[11], ends[12]), ("cancelled", "cancelled", "error"), "discarded, refused");
    assert_eq!((ends[15], ends[16]), ("cancelled", "cancelled"), "a watched key changed");
    is_clean(&told("large", "transaction_over_the_limit"));
}

#[test]
fn messages_of_channels_are_no_replies() {
    let outcome = told("pubsub", "pubsub");
    is_clean(&outcome);
    let kinds = ["message", "pmessage", "smessage"].map(|kind| messages(&outcome, kind));
    assert_eq!(kinds, [3, 1, 1]);
    assert_eq!(field(of(&outcome, "SUBSCRIBE news sport"), "db.response.returned_rows"), "Unsigned(2)");
    assert!(is_ok(of(&outcome, "RESET")));
}

#[test]
fn pushes_are_no_replies() {
    let outcome = told("push", "push");
    is_clean(&outcome);
    let kinds = ["message", "pmessage", "invalidate"].map(|kind| messages(&outcome, kind));
    assert_eq!(kinds, [2, 1, 2]);
    assert_eq!(field(of(&outcome, "GET tracked"), "db.redis.reply_type"), "null");
    assert_eq!(messages(&told("resp3", "all_types"), "push"), 1, "a kind that nobody knows");
}

#[test]
fn monitored_commands_are_read_like_commands() {
    let outcome = told("monitor", "monitor");
    is_clean(&outcome);
    assert_eq!(messages(&outcome, "monitor"), 6, "one of them from a script");
    assert_eq!(text(all(&outcome)[1]), "SET m:password ?");
}

#[test]
fn commands_without_a_reply_shift_no_other() {
    let outcome = told("reply_mode", "reply_mode");
    is_clean(&outcome);
    let silent = all(&outcome).iter().filter(|told| !field(told, "db.redis.no_reply").is_empty()).count();
    assert_eq!(silent, 9);
    let last = *all(&outcome).last().expect("some");
    assert_eq!((text(last), field(last, "db.redis.reply")), ("GET r".to_owned(), "2".to_owned()));
}

#[test]
fn blocking_commands_wait_for_their_reply() {
    let outcome = told("blocking", "blocking");
    is_clean(&outcome);
    assert_eq!(reply_type(of(&outcome, "BLPOP queue 0.1")), "null");
    assert_eq!(reply_type(of(&outcome, "BLPOP queue other 5")), "array");
}

#[test]
fn replication_is_told_as_what_it_is() {
    let marked = told("replication", "replication_1");
    is_clean(&marked);
    assert_eq!(
        (messages(&marked, "snapshot"), text(of(&marked, "SET after:password ?"))),
        (1, "SET after:password ?".to_owned())
    );
    assert!(messages(&marked, "replication") >= 5);
    let sized = told("replication", "replication_2");
    is_clean(&sized);
    assert_eq!(messages(&sized, "snapshot"), 1);
    let synced = told("replication", "replication_3");
    is_clean(&synced);
    assert_eq!((messages(&synced, "snapshot"), messages(&synced, "replication")), (1, 2));
    let acknowledged =
        all(&marked).iter().filter(|told| field(told, "db.redis.no_reply") == "replication").count();
    assert!(acknowledged >= 2);
}

#[test]
fn a_replica_that_was_there_before_is_recognised() {
    let outcome = talk(
        "middle\n> 1 \"*3\\r\\n$8\\r\\nREPLCONF\\r\\n$3\\r\\nACK\\r\\n$2\\r\\n42\\r\\n\"\n< 2 \"*3\\r\\n$3\\r\\nSET\\r\\n$1\\r\\na\\r\\n$1\\r\\n1\\r\\n\"\n",
    );
    assert_eq!(messages(&outcome, "replication"), 1);
}
