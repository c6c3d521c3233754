//! Secrets among noise, and inputs made to break the masker: none survives, nothing panics, nobody forges a
//! mask.

use custody_decoders::item::{Class, Dialect, Field, Rows};
use custody_decoders::mask::{Draft, Masker};
use custody_record::{Kind, Record, Times, Value};
use proptest::prelude::*;

const SQL: Class = Class::Statement(Dialect::Postgres);

fn body(media_type: &str) -> Class {
    Class::Body { media_type: media_type.into(), coding: String::new() }
}

fn mask(fields: Vec<Field>, rows: Option<Rows>) -> Record {
    let times = Times::default();
    let draft =
        Draft { kind: Kind::Exchange, session: None, exchange: None, times, fields, rows, anomalies: vec![] };
    Masker::default().mask(draft).into_inner()
}

fn stored(record: &Record) -> Vec<u8> {
    rmp_serde::to_vec_named(record).expect("a record is MessagePack")
}

fn holds(record: &Record, secret: &str) -> bool {
    memchr::memmem::find(&stored(record), secret.as_bytes()).is_some()
}

fn classes() -> Vec<Class> {
    let name = String::new();
    vec![
        Class::Structure,
        Class::Identifier,
        Class::Text,
        SQL,
        Class::Value { name: name.clone() },
        Class::Header { name: "x".into() },
        Class::Header { name: "cookie".into() },
        Class::Header { name: "set-cookie".into() },
        Class::Header { name: "authorization".into() },
        Class::Query,
        body("application/json"),
        body("application/x-www-form-urlencoded"),
        body("multipart/form-data"),
        body("text/plain"),
        body("text/tab-separated-values"),
        body("application/octet-stream"),
        body(""),
        Class::Arguments,
        Class::Secret("password"),
        Class::Opaque,
    ]
}

#[test]
fn the_search_for_secrets_finds_what_is_there() {
    assert!(holds(&mask(vec![Field::structure("field", "a k4n4ry b")], None), "k4n4ry"));
}

/// Texts in which the secret stands the way that tells what it is.
fn told(secret: &str) -> Vec<(Class, String)> {
    let percent: String = secret.bytes().map(|byte| format!("%{byte:02X}")).collect();
    vec![
        (SQL, format!("UPDATE u SET n = 1, password = '{secret}' WHERE id = 7")),
        (SQL, format!("INSERT INTO u (id, api_key) VALUES (1, '{secret}')")),
        (SQL, format!("ALTER ROLE r PASSWORD $x${secret}$x$")),
        (SQL, format!("SELECT 1 FROM u WHERE pw = crypt('{secret}', pw)")),
        (Class::Text, format!("postgresql://u:{secret}@h:5432/d")),
        (Class::Text, format!("host=h password={secret} user=u")),
        (Class::Text, format!("Key (password)=({secret}) already exists.")),
        (Class::Header { name: "authorization".into() }, format!("Bearer {secret}")),
        (Class::Header { name: "cookie".into() }, format!("a={secret}; b={secret}")),
        (Class::Header { name: "set-cookie".into() }, format!("a={secret}; Path=/")),
        (Class::Header { name: "x-auth-token".into() }, secret.to_owned()),
        (Class::Query, format!("a=1&password={secret}&b=2")),
        (Class::Query, format!("pass%77ord={percent}")),
        (body("application/x-www-form-urlencoded"), format!("a=1&token={percent}")),
        (body("application/json"), format!("{{\"a\":[1,{{\"client_secret\":\"{secret}\"}}]}}")),
        (body("text/plain"), format!("Authorization: Basic {secret}\r\nX: y")),
        (body("text/xml"), format!("<a><password>{secret}</password></a>")),
        (Class::Value { name: "user_password".into() }, secret.to_owned()),
        (Class::Secret("password"), secret.to_owned()),
        (Class::Opaque, secret.to_owned()),
        (body("application/octet-stream"), secret.to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_secret_whose_place_tells_what_it_is_does_not_survive(secret in "[A-Za-z0-9]{12,24}") {
        let secret = format!("k4n4ry{secret}");
        for (class, text) in told(&secret) {
            let record = mask(vec![Field::new("field", text.clone(), class.clone())], None);
            prop_assert!(!holds(&record, &secret), "{class:?}: {text}");
            let bytes = mask(vec![Field::new("field", Value::Bytes(text.clone().into_bytes()), class.clone())], None);
            prop_assert!(!holds(&bytes, &secret), "{class:?} as bytes: {text}");
        }
    }

    #[test]
    fn what_looks_like_a_secret_does_not_survive_in_any_noise(
        before in "[a-z ,;:()=\\[\\]{}\"'<>/&?.-]{0,40}",
        after in "[a-z ,;:()\\[\\]{}\"'<>/&?-]{0,40}",
    ) {
        for secret in [
            "canary.person@example.org",
            "4111111111111111",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.Y2FuYXJ5",
            "AKIACANARYCANARY1234",
            "ghp_0123456789abcdefghijABCDEFGHIJ012345",
        ] {
            let text = format!("{before} {secret} {after}");
            for class in classes().into_iter().filter(|class| *class != Class::Structure) {
                let record = mask(vec![Field::new("field", text.clone(), class.clone())], None);
                prop_assert!(!holds(&record, secret), "{class:?}: {text}");
            }
            let rows = Rows { columns: vec!["c".into()], rows: vec![vec![Some(Value::from(text.clone()))]] };
            prop_assert!(!holds(&mask(Vec::new(), Some(rows)), secret), "{text}");
        }
    }

    #[test]
    fn nothing_panics_and_brackets_are_masks_alone(text in ".{0,300}", cut in 0u64..2) {
        for class in classes() {
            let field = Field::new("field", format!("{text}‹card·redact›"), class.clone()).cut_by(cut);
            let record = mask(vec![field], None);
            prop_assert!(record.anomalies.is_empty(), "{class:?} of {text:?}: {:?}", record.anomalies);
            if let Value::Text(out) = &record.fields["field"] {
                let open = out.matches('‹').count();
                let listed: u64 = record.kinds.values().sum();
                prop_assert_eq!(open, out.matches('›').count());
                prop_assert!(open as u64 <= listed + cut, "{} of {:?}", out, class);
            }
        }
    }

    #[test]
    fn bytes_of_any_kind_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for class in classes() {
            let record = mask(vec![Field::new("field", Value::Bytes(bytes.clone()), class)], None);
            prop_assert!(record.anomalies.is_empty());
        }
    }

    #[test]
    fn statements_of_any_tokens_do_not_panic(tokens in proptest::collection::vec(
        prop::sample::select(vec![
            "'", "''", "\"", "$$", "$a$", "E'", "U&'", "\\", "(", ")", "[", "]", ",", ";", "--", "/*", "*/", "\n", "=",
            "->>", "::", "password", "INSERT INTO", "VALUES", "SELECT", "x", "1", "$1", "COPY", ".", "IDENTIFIED BY",
            "BETWEEN", "AND", "set_config", "ROW", "ä", "‹",
        ]), 0..60)
    ) {
        let record = mask(vec![Field::new("field", tokens.join(" "), SQL), Field::new("f", tokens.concat(), SQL)], None);
        prop_assert!(record.anomalies.is_empty(), "{:?}", record.anomalies);
    }
}

/// Each of these makes some scanner look far from many places, if it does so at all.
#[test]
fn long_hostile_texts_are_masked() {
    let long = 256 << 10;
    for unit in [
        "a",
        "@",
        "a@",
        "a@b.",
        "eyJ",
        "eyJhbGciOiJub25lIn0.",
        "-----BEGIN PRIVATE KEY",
        "-----BEGIN ",
        "://",
        "a://b:c",
        "a://b:c@d/",
        "password=",
        "password=\"",
        "password=(",
        "<password>",
        "<password ",
        "basic ",
        "bearer a",
        "sk-ant-",
        "AKIA",
        "1",
        "1 ",
        "4111 ",
        "DE89 ",
        "DE",
        "%4",
        "%41",
        "\\",
        "\\u0041",
        "\\\"",
        "{\"a\":",
        "[",
        "{\"",
        "(",
        "'",
        "$a$",
        "$a",
        "/*",
        "=",
        ":",
        "&",
        ";",
        "--B\r\n",
        "\t",
        "‹",
        "QUFB",
        "x'",
        "/* ",
        "a=b&",
        "pass:",
        "END",
        "- BEGIN ",
    ] {
        let text = unit.repeat(long / unit.len());
        for class in classes() {
            let record = mask(vec![Field::new("field", text.clone(), class.clone())], None);
            assert!(record.anomalies.is_empty(), "{unit:?} as {class:?}: {:?}", record.anomalies);
        }
    }
}
