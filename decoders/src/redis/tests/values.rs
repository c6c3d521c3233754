//! Types of both RESP versions.

use super::*;

/// The reply types of a case, in order.
fn types(outcome: &Outcome) -> Vec<String> {
    all(outcome).iter().map(|told| reply_type(told)).collect()
}

#[test]
fn resp2_types_are_told() {
    let outcome = told("redis_cli", "redis_cli");
    is_clean(&outcome);
    for kind in ["string", "error", "integer", "bulk", "array", "null"] {
        assert!(types(&outcome).iter().any(|told| told == kind), "{kind}");
    }
    let error = of(&outcome, "LPOP greeting");
    assert_eq!(field(error, "error.type"), "WRONGTYPE");
    assert_eq!(field(error, "db.response.status_code"), "WRONGTYPE");
    assert_eq!(reply_type(&all(&told("streamed", "null_array"))[0].clone()), "null");
}

#[test]
fn resp3_types_are_told() {
    let outcome = told("streamed", "one_of_each");
    is_clean(&outcome);
    assert_eq!(
        types(&outcome),
        ["boolean", "boolean", "double", "big_number", "bulk_error", "verbatim", "null"]
    );
    assert_eq!(field(all(&outcome)[4], "error.type"), "SYNTAX");
    assert_eq!(field(all(&outcome)[5], "db.redis.reply"), "Some string", "what it is stands before it");
    let real = told("resp3", "redis_cli_3");
    is_clean(&real);
    for kind in ["map", "set", "double", "big_number", "null", "array"] {
        assert!(types(&real).iter().any(|told| told == kind), "{kind}");
    }
}

#[test]
fn attributes_stand_beside_their_value() {
    let outcome = told("resp3", "all_types");
    is_clean(&outcome);
    let reply = all(&outcome)[1];
    assert!(field(reply, "db.redis.attributes").contains("key-popularity"));
    assert_eq!(field(reply, "db.redis.reply"), "Some real reply following the attribute");
    let within = told("streamed", "attributes_within");
    assert!(!field(all(&within)[0], "db.redis.reply").contains("ttl"), "it is no element");
}

#[test]
fn streamed_values_are_joined() {
    let string = told("streamed", "streamed_string");
    is_clean(&string);
    assert_eq!(field(all(&string)[0], "db.redis.reply"), "Hello world");
    let outcome = told("streamed", "streamed_aggregates");
    is_clean(&outcome);
    assert_eq!(types(&outcome), ["array", "map", "set"]);
    assert_eq!(field(all(&outcome)[1], "db.redis.reply.f"), "v");
}

#[test]
fn large_values_are_kept_to_a_limit_and_never_hide_what_follows() {
    for case in ["large_argument", "large_reply", "large_part"] {
        is_clean(&told("large", case));
    }
    let outcome = told("large", "large_argument");
    let value = &all(&outcome)[0].fields["db.query.parameter.1"];
    assert_eq!(value.cut, 3000 - 512);
    assert_eq!(text(all(&outcome)[0]), "SET a ? EX 10");
    let many = told("large", "many_elements");
    assert_eq!(field(all(&many)[0], "db.response.returned_rows"), "Unsigned(100)");
    assert_eq!(field(all(&many)[0], "db.response.rows_cut"), "Unsigned(96)");
    assert_eq!(field(all(&told("large", "many_arguments"))[0], "db.redis.arguments_cut"), "Unsigned(7)");
}

#[test]
fn a_million_elements_do_not_fill_the_memory() {
    let outcome = talk(
        "> 1 \"*4\\r\\n$6\\r\\nLRANGE\\r\\n$1\\r\\na\\r\\n$1\\r\\n0\\r\\n$2\\r\\n-1\\r\\n\"\n< 2 \"*1000000\\r\\n\"\n< 3 repeat 1000000 \"$3\\r\\nabc\\r\\n\"\n",
    );
    assert_eq!(field(all(&outcome)[0], "db.response.returned_rows"), "Unsigned(1000000)");
    assert!(outcome.held_bytes_max < 1 << 20, "{}", outcome.held_bytes_max);
}

#[test]
fn bytes_that_are_no_text_stay_bytes() {
    let outcome = told("streamed", "bytes_that_are_no_text");
    assert_eq!(text(all(&outcome)[0]), "SET \"\\xff\\x00\" ?");
    assert!(matches!(all(&outcome)[1].fields["db.redis.reply"].value, Value::Bytes(_)));
}

#[test]
fn a_bulk_that_goes_on_behind_its_length_forges_no_value() {
    let outcome = told("hostile", "bulk_without_its_end");
    assert_eq!(all(&outcome)[0].anomalies, ["redis_bulk_end"]);
    assert_eq!(field(all(&outcome)[1], "db.redis.reply"), "ok");
    let outcome = told("hostile", "argument_without_its_end");
    assert_eq!(all(&outcome)[0].anomalies, ["redis_bulk_end"]);
    assert_eq!(text(all(&outcome)[1]), "PING");
}

#[test]
fn lengths_that_cannot_be_are_an_anomaly() {
    for (case, code) in [
        ("absurd_length_of_a_command", "redis_bad_length"),
        ("negative_argument", "redis_bad_length"),
        ("too_many_arguments", "redis_bad_length"),
        ("no_bulk_as_argument", "redis_unknown_type"),
    ] {
        let outcome = told("hostile", case);
        let malformed =
            all(&outcome).into_iter().find(|told| !told.anomalies.is_empty()).expect(case).clone();
        assert_eq!(malformed.anomalies, [code], "{case}");
        assert_eq!(field(&malformed, "error.type"), "ERR", "{case}: the server refused it");
        assert!(outcome.accounts[0].unparsed > 0, "{case}");
    }
    let outcome = told("hostile", "length_over_the_bound");
    assert!(outcome.anomalies.contains(&"redis_bad_length"), "{:?}", outcome.anomalies);
}

#[test]
fn unknown_types_are_counted_and_shown() {
    let outcome = told("hostile", "unknown_type");
    assert!(outcome.anomalies.contains(&"redis_unknown_type"), "{:?}", outcome.anomalies);
    assert_eq!(outcome.accounts[1].unparsed, 7);
    for case in ["nested_too_deep", "parts_where_none_may_stand", "end_where_none_may_stand", "no_number"] {
        assert!(told("hostile", case).anomalies.iter().any(|code| code.starts_with("redis_")), "{case}");
    }
}
