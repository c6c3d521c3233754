//! What the cases of `fixtures/` must say, asserted by name, so that a blessed golden cannot hide a change.

use std::collections::BTreeSet;

use custody_record::{Kind, Value};

use super::Http1;
use crate::anomaly;
use crate::driver::exchanges::{OPEN_AFTER_NS, Telling};
use crate::driver::{Driver, State};
use crate::harness::Suite;
use crate::harness::replay::{Outcome, Told, replay};
use crate::protocol::{Direction, Limits, Protocol as _};

/// What is told of the case whose name begins so.
fn outcome(file: &str, case: &str) -> Outcome {
    let name = format!("{file}: {case}");
    let files = Suite::new(&Http1, "http1").files();
    let case = files.iter().flat_map(|(_, cases)| cases).find(|case| case.name.starts_with(&name));
    replay(&Http1, case.unwrap_or_else(|| panic!("no case {name}")), usize::MAX)
}

/// Its only exchange.
fn only(file: &str, case: &str) -> Told {
    let mut exchanges = outcome(file, case).exchanges;
    assert_eq!(exchanges.len(), 1, "{case}");
    exchanges.pop_first().expect("one").1
}

/// A field as text; empty when there is none.
fn text(told: &Told, name: &str) -> String {
    match told.fields.get(name).map(|field| &field.value) {
        Some(Value::Text(text)) => text.clone(),
        Some(Value::Bytes(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        Some(Value::Unsigned(number)) => number.to_string(),
        Some(Value::List(values)) => format!("{values:?}"),
        Some(other) => panic!("{name}: {other:?}"),
        None => String::new(),
    }
}

const BODY: &str = "http.response.body.content";

/// Statuses of all exchanges, in order.
fn statuses(outcome: &Outcome) -> Vec<String> {
    outcome.exchanges.values().map(|told| text(told, "http.response.status_code")).collect()
}

#[test]
fn messages_end_where_the_specification_says() {
    for (case, expected) in [
        ("the answer to HEAD", vec!["200", "200"]),
        ("204 and 304", vec!["204", "304", "200"]),
        ("a length of no bytes", vec!["200", "200"]),
        ("interim answers", vec!["200"]),
        ("an error before the request's body", vec!["413"]),
    ] {
        assert_eq!(statuses(&outcome("framing", case)), expected, "{case}");
    }
    let chunked = only("framing", "a chunked answer with");
    assert_eq!(text(&chunked, BODY), "hello world");
    assert_eq!(text(&chunked, "http.response.header.digest"), "sha-256=abc", "a trailer field");
    assert_eq!(text(&only("framing", "an answer without a length"), BODY), "first second");
    let short = only("framing", "an answer that ends before");
    assert_eq!(short.anomalies, [anomaly::HTTP1_TRUNCATED]);
    let interim = only("framing", "interim answers");
    assert_eq!(text(&interim, "http.response.interim"), "[Some(Unsigned(100)), Some(Unsigned(103))]");
    assert_eq!(text(&only("lines", "trailer fields"), "http.request.header.x-one"), "1, 2");
    assert_eq!(text(&only("lines", "a reason that is missing"), BODY), "ok");
}

#[test]
fn request_lines_are_read_in_all_forms() {
    for (case, method, path, version) in [
        ("absolute form", "GET", "/", "1.1"),
        ("asterisk form", "OPTIONS", "*", "1.1"),
        ("a method of its own", "BREW", "/pot", "1.1"),
        ("a method in lower case", "get", "/", "1.1"),
        ("a method that is no token", "GE(T", "/", "1.1"),
        ("spaces in the target", "GET", "/a b", "1.1"),
        ("no Host in HTTP/1.0", "GET", "/", "1.0"),
        ("a request of HTTP/0.9 and", "GET", "/old", "0.9"),
    ] {
        let told = only("lines", case);
        let found =
            ["http.request.method", "url.path", "network.protocol.version"].map(|name| text(&told, name));
        assert_eq!(found, [method, path, version], "{case}");
    }
    assert_eq!(text(&only("lines", "absolute form"), "url.origin"), "http://ann:canary-url@shop.example:81");
    assert_eq!(text(&only("lines", "a request of HTTP/0.9 and"), BODY), "<html>old</html>");
}

/// Paths and statuses of all exchanges, in order.
fn paths_and_statuses(file: &str, case: &str) -> Vec<(String, String)> {
    let exchanges = outcome(file, case).exchanges;
    let names = ["url.path", "http.response.status_code"];
    exchanges.values().map(|told| names.map(|name| text(told, name)).into()).collect()
}

#[test]
fn odd_lines_and_torn_heads_lose_no_exchange() {
    for (file, case, expected) in [
        ("lines", "versions that are none at all", vec![("/1", "200"), ("/2", "201"), ("/3", "202")]),
        ("lines", "a request line without its end", vec![("", "408")]),
        (
            "lines",
            "request lines without a version",
            vec![("/1", "400"), ("/", "401"), ("/", "402"), ("/4\tHTTP/1.1", "403")],
        ),
        ("framing", "a head that ends before", vec![("/head", "203")]),
        ("framing", "a head whose rest is missing", vec![("/cookies", "203")]),
        ("framing", "an answer that nobody asked for", vec![("/a", "200"), ("", "408")]),
        ("smuggling", "lengths of a request that differ", vec![("/1", "200"), ("/3", "")]),
        ("smuggling", "a request behind one without", vec![("/1", "200"), ("/2", "201")]),
        ("smuggling", "a length with a plus", vec![("/1", "200"), ("/2", "201"), ("/3", "202")]),
    ] {
        let told = paths_and_statuses(file, case);
        let told: Vec<(&str, &str)> =
            told.iter().map(|(path, status)| (path.as_str(), status.as_str())).collect();
        assert_eq!(told, expected, "{case}");
    }
    let torn = only("framing", "a head whose rest is missing");
    assert!(torn.anomalies.contains(&anomaly::HTTP1_TRUNCATED));
    assert!(!torn.fields.contains_key("http.request.header.host"), "a field may go on, or come again");
    let old = only("lines", "a request of HTTP/0.9 with a space");
    assert_eq!((text(&old, "url.path"), text(&old, BODY)), ("/old".into(), "<html>old</html>".into()));
}

#[test]
fn what_is_joined_in_the_middle_is_read_from_the_first_sure_message_on() {
    let outcome = outcome("switch", "joined in the middle of a body");
    assert_eq!(statuses(&outcome), ["200"]);
    assert_eq!(text(&outcome.exchanges[&1], "url.path"), "/known");
}

#[test]
fn answers_pair_with_requests_in_their_order() {
    assert_eq!(statuses(&outcome("exchange", "pipelined")), ["200", "404", "204"]);
    let split = outcome("smuggling", "an answer split");
    assert_eq!(statuses(&split), ["302", "200"]);
    assert!(split.exchanges.values().any(|told| !told.requested), "the second one was asked by nobody");
}

#[test]
fn leaving_http_is_followed_by_no_guess() {
    for (case, state) in [("an upgrade to WebSocket", State::Stopped), ("a tunnel", State::Left)] {
        let outcome = outcome("switch", case);
        assert_eq!(outcome.state, state, "{case}");
        assert!(outcome.accounts.iter().all(|account| account.unknown > 0), "{case}");
    }
    assert_eq!(outcome("lines", "an upgrade to HTTP/2").state, State::Left);
    for case in ["an upgrade that is refused", "a tunnel that is refused"] {
        let outcome = outcome("switch", case);
        assert_eq!((outcome.state, outcome.exchanges.len()), (State::Running, 2), "{case}");
    }
}

#[test]
fn codings_are_taken_off_and_their_breaks_are_told() {
    let plain = "{\"name\": \"ann\", \"token\": \"canary-coded\"}";
    for case in [
        "gzip in chunks",
        "deflate as zlib",
        "deflate without",
        "br",
        "zstd",
        "two codings",
        "gzip as a coding",
    ] {
        let told = only("codings", case);
        assert_eq!(text(&told, BODY), plain, "{case}");
        assert_eq!(text(&told, "http.response.body.decoded_size"), plain.len().to_string(), "{case}");
        assert_eq!(told.anomalies, [""; 0], "{case}");
    }
    for (case, code) in [
        ("a torn coding", anomaly::CONTENT_TRUNCATED),
        ("a broken coding", anomaly::CONTENT_BROKEN),
        ("bytes behind", anomaly::CONTENT_TRAILING),
    ] {
        let told = only("codings", case);
        assert_eq!(told.anomalies, [code], "{case}");
        assert!(plain.starts_with(&text(&told, BODY)) && !text(&told, BODY).is_empty(), "{case}");
    }
    let bomb = only("codings", "a bomb");
    assert_eq!(
        (bomb.anomalies.as_slice(), text(&bomb, BODY).len()),
        (&[anomaly::CONTENT_BOMB][..], 64 << 10)
    );
}

#[test]
fn forms_and_their_parts_become_fields() {
    for case in ["a form in parts, with a file", "a form in parts, in chunks"] {
        let told = only("bodies", case);
        for (name, value) in [
            ("http.request.form.user", "ann"),
            ("http.request.form.api_key", "canary-part"),
            ("http.request.file.photo", "me.png"),
            ("http.request.file_type.photo", "image/png"),
            ("http.request.file_size.photo", "16"),
            ("http.request.form_fields", "4"),
            ("http.request.body.content", ""),
        ] {
            assert_eq!(text(&told, name), value, "{case}");
        }
    }
    assert_eq!(text(&only("bodies", "a gzip form"), "http.request.form.user"), "ann");
    let form = only("bodies", "a form");
    assert_eq!(text(&form, "http.request.form.note"), "[Some(Text(\"a+b c\")), Some(Text(\"😀\"))]");
}

#[test]
fn cookies_keep_their_names_and_lose_their_values() {
    let told = only("bodies", "cookies and credentials");
    let masked = crate::harness::render::masked(&told);
    let shown = |name: &str| format!("{:?}", masked.fields[name]);
    assert_eq!(
        shown("http.request.header.cookie"),
        "Text(\"a=‹cookie·redact›; b=‹cookie·redact›; c=‹cookie·redact›\")"
    );
    assert_eq!(shown("http.request.header.authorization"), "Text(\"Basic ‹credentials·redact›\")");
    let set = shown("http.response.header.set-cookie");
    assert!(
        set.contains("Path=/; Expires=Wed, 09 Jun 2027") && set.contains("t=‹cookie·redact›; HttpOnly"),
        "{set}"
    );
}

#[test]
fn trace_context_is_told_as_facts() {
    let told = outcome("bodies", "trace context");
    let ids: Vec<_> = told.exchanges.values().map(|told| text(told, "trace_id")).collect();
    assert_eq!(ids, ["4bf92f3577b34da6a3ce929d0e0e4736", ""], "version ff is none");
    let first = &told.exchanges[&1];
    assert_eq!(text(first, "http.request.header.tracestate"), "vendor=opaque,other=1");
}

#[test]
fn every_code_of_http_is_shown_by_a_case() {
    let files = Suite::new(&Http1, "http1").files();
    let mut seen = BTreeSet::new();
    for case in files.iter().flat_map(|(_, cases)| cases) {
        let outcome = replay(&Http1, case, usize::MAX);
        seen.extend(outcome.anomalies.iter().copied());
        seen.extend(outcome.exchanges.values().flat_map(|told| told.anomalies.clone()));
    }
    let ours = |code: &&str| code.starts_with("http1_") || code.starts_with("content_");
    let known = anomaly::ALL.iter().map(|anomaly| anomaly.code).filter(ours);
    let unseen: Vec<_> = known.filter(|code| !seen.contains(code)).collect();
    assert_eq!(unseen, [""; 0], "no case shows them");
}

/// Tellings of an answer whose pieces come at these moments, ns.
fn tellings(media_type: &str, pieces: &[(u64, &str)]) -> Vec<Telling> {
    let mut driver = Driver::new(Http1.open(&Limits::default(), false), Limits::default());
    driver.bytes(Direction::Up, 0, 1, b"GET /e HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\nTransfer-Encoding: chunked\r\n\r\n");
    driver.bytes(Direction::Down, 0, 2, head.as_bytes());
    let mut position = head.len() as u64;
    let mut told = Vec::new();
    for (time_ns, piece) in pieces {
        driver.tick(*time_ns);
        let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
        driver.bytes(Direction::Down, position, *time_ns, chunk.as_bytes());
        position += chunk.len() as u64;
        told.extend(std::iter::from_fn(|| driver.exchanges().next_told()));
    }
    told
}

fn body(telling: &Telling) -> String {
    let field = telling.fields.iter().find(|field| field.name == BODY);
    match field.map(|field| &field.value) {
        Some(Value::Bytes(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        _ => String::new(),
    }
}

#[test]
fn an_endless_answer_is_told_in_parts_of_whole_events() {
    const SECOND: u64 = 1_000_000_000;
    let pieces = [
        (OPEN_AFTER_NS / 2, "data: 1\n\nda"),
        (OPEN_AFTER_NS * 2, "ta: 2\n\n"),
        (2 * SECOND, "data: 3\n\ndata: ha"),
        (4 * SECOND, "lf\n\n"),
        (6 * SECOND, "data: last\n\n"),
    ];
    let told = tellings("text/event-stream; charset=utf-8", &pieces);
    let found: Vec<_> = told.iter().map(|telling| (telling.kind, body(telling))).collect();
    let expected = [
        (Kind::ExchangeOpen, "data: 1\n\n"),
        (Kind::ExchangePart, "data: 2\n\n"),
        (Kind::ExchangePart, "data: 3\n\n"),
        (Kind::ExchangePart, "data: half\n\n"),
    ];
    assert_eq!(found, expected.map(|(kind, body)| (kind, body.to_owned())));
}

#[test]
fn many_events_at_once_are_told_in_parts_of_the_limit_and_bounded_by_the_second() {
    let lines = format!("{{\"line\":\"{}\"}}\n", "x".repeat(1000)).repeat(40);
    let pieces: Vec<_> = (0..40u64).map(|number| (number * 200_000_000 + 3, lines.as_str())).collect();
    let told = tellings("application/x-ndjson", &pieces);
    let sizes: Vec<_> = told.iter().map(|telling| body(telling).len()).collect();
    assert!(sizes.iter().all(|size| *size <= 256 << 10), "{sizes:?}");
    let kept: usize = sizes.iter().sum();
    assert!(kept <= 9 * (64 << 10), "{kept} bytes within eight seconds");
    assert!(told.iter().all(|telling| body(telling).is_empty() || body(telling).ends_with("}\n")));
}
