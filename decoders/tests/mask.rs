//! What masking does to each class of field: tables of what goes in and what comes out.

use custody_decoders::item::{Class, Dialect, Field, Rows};
use custody_decoders::mask::rules::recognisers;
use custody_decoders::mask::{Draft, MaskRules, Masker};
use custody_record::{Kind, Record, Times, Value, names};

fn draft(fields: Vec<Field>, rows: Option<Rows>) -> Draft {
    let times = Times::default();
    Draft {
        kind: Kind::Exchange,
        session: Some(1),
        exchange: Some(1),
        times,
        fields,
        rows,
        anomalies: Vec::new(),
    }
}

fn masker(rules: &str) -> Masker {
    let rules = serde_json::from_str::<MaskRules>(rules).expect("rules in this file are JSON");
    Masker::new(rules).expect("rules in this file are valid")
}

fn mask(fields: Vec<Field>) -> Record {
    Masker::default().mask(draft(fields, None)).into_inner()
}

fn text_of(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        Value::List(items) => items
            .iter()
            .map(|item| item.as_ref().map_or("NULL".into(), text_of))
            .collect::<Vec<_>>()
            .join(" | "),
        other => format!("{other:?}"),
    }
}

fn masked_by(masker: &Masker, value: impl Into<Value>, class: Class) -> String {
    let record = masker.mask(draft(vec![Field::new("field", value, class)], None)).into_inner();
    assert!(record.anomalies.is_empty(), "{:?}", record.anomalies);
    text_of(&record.fields["field"])
}

fn masked(value: impl Into<Value>, class: Class) -> String {
    masked_by(&Masker::default(), value, class)
}

fn check(class: &Class, table: &[(&str, &str)]) {
    for (input, expected) in table {
        assert_eq!(masked(*input, class.clone()), *expected, "of {input}");
    }
}

const SQL: Class = Class::Statement(Dialect::Postgres);

#[test]
fn literals_are_masked_by_the_column_that_they_meet() {
    check(
        &SQL,
        &[
            (
                "UPDATE u SET password = 'x1', name='bob'",
                "UPDATE u SET password = '‹password·redact›', name='bob'",
            ),
            (
                "INSERT INTO users (email, password, n) VALUES ('a', 'x1', 5), ('b', 'x2', 6)",
                "INSERT INTO users (email, password, n) VALUES ('a', '‹password·redact›', 5), ('b', '‹password·redact›', 6)",
            ),
            (
                "INSERT INTO s.users AS u (\"Password\", n) SELECT 'x1', 'n' FROM t",
                "INSERT INTO s.users AS u (\"Password\", n) SELECT '‹password·redact›', 'n' FROM t",
            ),
            (
                "SELECT 1 FROM u WHERE u.password IN ('a', 'b') AND n = 'c'",
                "SELECT 1 FROM u WHERE u.password IN ('‹password·redact›', '‹password·redact›') AND n = 'c'",
            ),
            (
                "SELECT 1 WHERE lower(password) = 'x1' OR name = 'y'",
                "SELECT 1 WHERE lower(password) = '‹password·redact›' OR name = 'y'",
            ),
            (
                "SELECT 1 WHERE password = crypt('x1', password)",
                "SELECT 1 WHERE password = crypt('‹secret·redact›', password)",
            ),
            ("SELECT 1 WHERE 'x1' = password", "SELECT 1 WHERE '‹password·redact›' = password"),
            ("SELECT 'x1' AS password, 'y' AS name", "SELECT '‹password·redact›' AS password, 'y' AS name"),
            (
                "SELECT 1 WHERE password::text = $$x1$$",
                "SELECT 1 WHERE password::text = $$‹password·redact›$$",
            ),
            (
                "SELECT 1 WHERE token BETWEEN 'a' AND 'b' AND c = 'd'",
                "SELECT 1 WHERE token BETWEEN '‹token·redact›' AND '‹token·redact›' AND c = 'd'",
            ),
            (
                "SELECT 1 WHERE d->>'password' = 'x1' AND d->>'name' = 'y'",
                "SELECT 1 WHERE d->>'password' = '‹password·redact›' AND d->>'name' = 'y'",
            ),
            (
                "UPDATE u SET (name, password) = ('n', 'x1') WHERE id = 3",
                "UPDATE u SET (name, password) = ('n', '‹password·redact›') WHERE id = 3",
            ),
            ("UPDATE u SET pin = 1234 WHERE id = 5", "UPDATE u SET pin = ‹secret·redact› WHERE id = 5"),
            (
                "SELECT set_config('app.jwt_secret', 'x1', false)",
                "SELECT set_config('app.jwt_secret', '‹token·redact›', false)",
            ),
            ("SELECT f(password => 'x1', n => 'y')", "SELECT f(password => '‹password·redact›', n => 'y')"),
            (
                "SELECT 1 WHERE password = E'x\\'1' AND n = 'y'",
                "SELECT 1 WHERE password = E'‹password·redact›' AND n = 'y'",
            ),
        ],
    );
}

#[test]
fn passwords_of_roles_and_connections_are_always_masked() {
    let off = masker(r#"{"recognisers":{"email":"off","card":"off","iban":"off"}}"#);
    for (input, expected) in [
        (
            "ALTER ROLE bob WITH ENCRYPTED PASSWORD 'x1' VALID UNTIL '2030-01-01'",
            "ALTER ROLE bob WITH ENCRYPTED PASSWORD '‹password·redact›' VALID UNTIL '2030-01-01'",
        ),
        ("create user a identified by 'x1'", "create user a identified by '‹password·redact›'"),
        (
            "CREATE USER MAPPING FOR a SERVER s OPTIONS (user 'u', password 'x1')",
            "CREATE USER MAPPING FOR a SERVER s OPTIONS (user 'u', password '‹password·redact›')",
        ),
        ("SET my.password TO 'x1'", "SET my.password TO '‹password·redact›'"),
        ("SET SESSION AUTHORIZATION 'bob'", "SET SESSION AUTHORIZATION 'bob'"),
        (
            "CREATE SUBSCRIPTION s CONNECTION 'host=h user=u password=x1 dbname=d' PUBLICATION p",
            "CREATE SUBSCRIPTION s CONNECTION 'host=h user=u password=‹password·redact› dbname=d' PUBLICATION p",
        ),
        (
            "SELECT dblink_connect('postgres://u:x1@h/d')",
            "SELECT dblink_connect('postgres://u:‹password·redact›@h/d')",
        ),
        ("SELECT 1 -- password=x1\n", "SELECT 1 -- password=‹password·redact›\n"),
        ("SELECT /* Bearer abcdef0123456789 */ 1", "SELECT /* Bearer ‹credentials·redact› */ 1"),
        ("ALTER ROLE bob PASSWORD 'never closed", "ALTER ROLE bob PASSWORD '‹password·redact›"),
    ] {
        assert_eq!(masked_by(&off, input, SQL), expected);
    }
}

#[test]
fn recognisers_look_into_every_kind_of_literal() {
    check(
        &SQL,
        &[
            ("SELECT 'to alice@example.org now'", "SELECT 'to ‹email·redact› now'"),
            ("SELECT E'alice\\x40example.org'", "SELECT E'‹email·redact›'"),
            ("SELECT U&'alice\\0040example.org'", "SELECT U&'‹email·redact›'"),
            ("SELECT 'o''brien@example.org'", "SELECT '‹email·redact›'"),
            ("SELECT $q$4111 1111 1111 1111$q$", "SELECT $q$‹card·redact›$q$"),
            ("SELECT 4111111111111111, 4111111111111112", "SELECT ‹card·redact›, 4111111111111112"),
            ("SELECT '\\x616c696365406578616d706c652e6f7267'::bytea", "SELECT '\\‹email·redact›'::bytea"),
            (
                "SELECT '{\"password\": \"x1\", \"a\": 1}'::jsonb",
                "SELECT '{\"password\": \"‹password·redact›\", \"a\": 1}'::jsonb",
            ),
        ],
    );
}

#[test]
fn all_literals_are_masked_when_asked() {
    let all = masker(r#"{"literals":"all"}"#);
    let out = masked_by(&all, "SELECT a, 'x', 5, $1, \"b\" FROM t -- 'c'", SQL);
    assert_eq!(out, "SELECT a, '‹literal·redact›', ‹literal·redact›, $1, \"b\" FROM t -- 'c'");
}

#[test]
fn bound_parameters_are_masked_by_the_column_of_their_statement() {
    let parameter = |number: u32, text: &str| {
        Field::new(
            format!("{}{number}", names::DB_QUERY_PARAMETER),
            text,
            Class::Value { name: String::new() },
        )
    };
    let record = mask(vec![
        parameter(1, "x1"),
        parameter(2, "bob"),
        parameter(3, "alice@example.org"),
        Field::new(names::DB_QUERY_TEXT, "UPDATE u SET password=$1 WHERE name=$2 AND mail=$3", SQL),
    ]);
    assert_eq!(text_of(&record.fields["db.query.parameter.1"]), "‹password·redact›");
    assert_eq!(text_of(&record.fields["db.query.parameter.2"]), "bob");
    assert_eq!(text_of(&record.fields["db.query.parameter.3"]), "‹email·redact›");
    let paths: Vec<_> =
        record.masked.iter().map(|field| (field.path.as_ref(), field.kind.as_ref())).collect();
    assert_eq!(paths, [("db.query.parameter.1", "password"), ("db.query.parameter.3", "email")]);
}

#[test]
fn copied_rows_are_masked_by_the_columns_of_their_statement() {
    let copy = |statement: &str, data: &str| {
        let tabular = Class::Body { media_type: "text/tab-separated-values".into(), coding: String::new() };
        let record =
            mask(vec![Field::new("data", data, tabular), Field::new(names::DB_QUERY_TEXT, statement, SQL)]);
        text_of(&record.fields["data"])
    };
    let statement = "COPY users (name, password, mail) FROM STDIN";
    assert_eq!(
        copy(statement, "bob\tx1\ta@b.org\nann\t\\N\tc\n\\.\n"),
        "bob\t‹password·redact›\t‹email·redact›\nann\t\\N\tc\n\\.\n"
    );
    assert_eq!(copy(statement, "bob,x1,a\n"), "‹password·redact›\n");
    assert_eq!(copy("COPY users (name, n) TO STDOUT", "bob,x\n"), "bob,x\n");
}

#[test]
fn free_text_shows_no_secret() {
    check(
        &Class::Text,
        &[
            ("Key (password)=(x1) already exists.", "Key (password)=(‹password·redact›) already exists."),
            ("Password: x1 next", "Password: ‹password·redact› next"),
            ("\"apiKey\": \"x1\", \"b\": 2", "\"apiKey\": \"‹secret·redact›\", \"b\": 2"),
            ("{\\\"password\\\":\\\"x1\\\"}", "{\\\"password\\\":\\\"‹password·redact›\\\"}"),
            (
                "<wsse:Password Type=\"t\">x1</wsse:Password>",
                "<wsse:Password Type=\"t\">‹password·redact›</wsse:Password>",
            ),
            ("PGPASSWORD=x1 psql", "PGPASSWORD=‹password·redact› psql"),
            (
                "GET Authorization: Basic YTpi\r\nHost: h",
                "GET Authorization: ‹credentials·redact›\r\nHost: h",
            ),
            ("use Bearer abcdef012345 now", "use Bearer ‹credentials·redact› now"),
            ("bearer authentication is a basic thing", "bearer authentication is a basic thing"),
            ("mysql://root:p/w@h/db", "mysql://root:‹password·redact›@h/db"),
            ("http://host:8080/a@b", "http://host:8080/a@b"),
            ("https://h/p?token=abc&x=1", "https://h/p?token=‹token·redact›&x=1"),
            ("/reset/alice%40example.org/x", "/reset/‹email·redact›/x"),
            ("b64 YWxpY2VAZXhhbXBsZS5vcmc= end", "b64 ‹email·redact› end"),
            ("AKIAIOSFODNN7EXAMPLE", "‹aws_key·redact›"),
            ("ghp_0123456789abcdefghijABCDEFGHIJ012345", "‹api_token·redact›"),
            ("xoxb-12345678901-abcdef", "‹api_token·redact›"),
            ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "‹jwt·redact›"),
            (
                "a -----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY----- b",
                "a ‹private_key·redact› b",
            ),
            ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl", "‹private_key·redact›"),
            (
                "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----",
                "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----",
            ),
            ("a ‹card·redact› b", "a \\u2039card·redact\\u203a b"),
        ],
    );
}

#[test]
fn queries_and_forms_are_masked_by_name_and_by_decoded_value() {
    check(
        &Class::Query,
        &[
            ("a=1&password=x%201&b=2", "a=1&password=‹password·redact›&b=2"),
            ("user%5Bpassword%5D=x1", "user%5Bpassword%5D=‹password·redact›"),
            ("e=alice%40example.org&c=4111+1111+1111+1111", "e=‹email·redact›&c=‹card·redact›"),
            ("alice%40example.org", "‹email·redact›"),
            ("access_token", "access_token"),
            ("", ""),
        ],
    );
}

#[test]
fn headers_of_credentials_never_show_them() {
    let header = |name: &str, value: &str| masked(value, Class::Header { name: name.to_owned() });
    for (name, value, expected) in [
        ("authorization", "Bearer x1", "Bearer ‹credentials·redact›"),
        ("authorization", "x1 x2", "‹credentials·redact›"),
        ("cookie", "sid=x1; theme=x2", "sid=‹cookie·redact›; theme=‹cookie·redact›"),
        ("cookie", "x1", "‹cookie·redact›"),
        (
            "set-cookie",
            "sid=x1; Path=/; HttpOnly; x2=x3",
            "sid=‹cookie·redact›; Path=/; HttpOnly; x2=‹cookie·redact›",
        ),
        ("set-cookie", "path=x1; Path=/", "path=‹cookie·redact›; Path=/"),
        ("x-api-key", "x1", "‹secret·redact›"),
        ("referer", "https://h/?password=x1", "https://h/?password=‹password·redact›"),
        ("user-agent", "curl/8.0", "curl/8.0"),
    ] {
        assert_eq!(header(name, value), expected, "{name}");
    }
}

#[test]
fn json_bodies_stay_json_with_their_secrets_masked() {
    let json = Class::Body { media_type: "application/json".into(), coding: String::new() };
    check(
        &json,
        &[
            (
                r#"{"user":"bob","password":"x1","n":5}"#,
                r#"{"user":"bob","password":"‹password·redact›","n":5}"#,
            ),
            (r#"{"pin":1234,"ok":true,"token":null}"#, r#"{"pin":"‹secret·redact›","ok":true,"token":null}"#),
            (
                r#"{"credentials":{"a":"x1","b":["x2",3]}}"#,
                r#"{"credentials":{"a":"‹secret·redact›","b":["‹secret·redact›","‹secret·redact›"]}}"#,
            ),
            (r#"["alice\u0040example.org", 4111111111111111]"#, r#"["‹email·redact›", "‹card·redact›"]"#),
            (r#"{"pass\u0077ord":"x1"}"#, r#"{"pass\u0077ord":"‹password·redact›"}"#),
            (r#"{"log":"{\"password\":\"x1\"}"}"#, r#"{"log":"{\"password\":\"‹password·redact›\"}"}"#),
            (r#"{"password":"x1"#, r#"{"password":"‹password·redact›"#),
            ("{\"a\":1}\n{\"password\":\"x1\"}", "{\"a\":1}\n{\"password\":\"‹password·redact›\"}"),
            (r#"{"alice@example.org":1}"#, r#"{"‹email·redact›":1}"#),
        ],
    );
}

#[test]
fn bodies_that_nobody_reads_are_left_out_with_their_length() {
    let body = |media_type: &str, coding: &str, bytes: &[u8]| {
        let class = Class::Body { media_type: media_type.into(), coding: coding.into() };
        masked(Value::Bytes(bytes.to_vec()), class)
    };
    assert_eq!(body("application/json", "gzip", b"\x1f\x8b123"), "‹coded·drop·5›");
    assert_eq!(body("image/png", "", b"abc"), "‹binary·drop·3›");
    assert_eq!(body("text/plain", "", b"a\0b"), "‹binary·drop·3›");
    assert_eq!(body("", "", &[0xFF, 0xFE, 0x41]), "‹binary·drop·3›");
    assert_eq!(body("", "", b"hello"), "hello");
    assert_eq!(body("text/plain", "", b"caf\xe9 password=x1"), "caf\u{FFFD} password=‹password·redact›");
    assert_eq!(masked(Value::Bytes(vec![1, 2, 3]), Class::Opaque), "‹opaque·drop·3›");
}

#[test]
fn parts_of_forms_are_masked_by_their_names_and_files_are_left_out() {
    let class = Class::Body { media_type: "multipart/form-data".into(), coding: String::new() };
    let part =
        |head: &str, value: &str| format!("--B\r\nContent-Disposition: form-data; {head}\r\n\r\n{value}\r\n");
    let form = |a: &str, b: &str, c: &str| {
        [
            part("name=\"password\"", a),
            part("name=\"f\"; filename=\"n.txt\"", b),
            part("name=\"c\"", c),
            "--B--\r\n".into(),
        ]
        .concat()
    };
    let out = masked(form("x1", "line", "hi"), class);
    assert_eq!(out, form("‹password·redact›", "‹file·redact›", "hi"));
}

#[test]
fn arguments_of_programs_show_no_password() {
    let arguments = |words: &[&str]| {
        let items = words.iter().map(|word| Some(Value::from(*word))).collect();
        masked(Value::List(items), Class::Arguments)
    };
    for (words, expected) in [
        (&["mysql", "-uroot", "-px1"][..], "mysql | -uroot | -p‹password·redact›"),
        (&["mysql", "-p", "db"], "mysql | -p | db"),
        (
            &["psql", "-p5433", "-c", "ALTER ROLE a PASSWORD 'x1'"],
            "psql | -p5433 | -c | ALTER ROLE a PASSWORD '‹password·redact›'",
        ),
        (
            &["/usr/bin/curl", "-u", "bob:x1", "http://h"],
            "/usr/bin/curl | -u | bob:‹password·redact› | http://h",
        ),
        (&["curl", "-ubob:x1"], "curl | -ubob:‹password·redact›"),
        (&["curl", "-H", "Authorization: Bearer x1"], "curl | -H | Authorization: ‹credentials·redact›"),
        (&["curl", "-HX-Api-Key: x1"], "curl | -HX-Api-Key: ‹secret·redact›"),
        (&["curl", "-H", "Cookie: a=x1"], "curl | -H | Cookie: ‹cookie·redact›"),
        (&["curl", "-b", "a=x1"], "curl | -b | a=‹cookie·redact›"),
        (&["curl", "-d", "{\"password\":\"x1\"}"], "curl | -d | {\"password\":\"‹password·redact›\"}"),
        (&["curl", "--data", "a=1&pwd=x1"], "curl | --data | a=1&pwd=‹password·redact›"),
        (&["x", "--password=x1 x2", "--host", "h"], "x | --password=‹password·redact› | --host | h"),
        (&["x", "--password", "x1", "h"], "x | --password | ‹password·redact› | h"),
        (&["x", "--password", "--host", "h"], "x | --password | --host | h"),
        (&["x", "--api-key", "x1"], "x | --api-key | ‹secret·redact›"),
        (&["env", "PGPASSWORD=x1 x2", "psql"], "env | PGPASSWORD=‹password·redact› | psql"),
        (&["sh", "-c", "PGPASSWORD=x1 psql -h h"], "sh | -c | PGPASSWORD=‹password·redact› psql -h h"),
        (&["redis-cli", "-a", "x1", "ping"], "redis-cli | -a | ‹password·redact› | ping"),
        (&["sshpass", "-px1", "ssh", "h"], "sshpass | -p‹password·redact› | ssh | h"),
        (&["docker", "run", "-p", "80:80"], "docker | run | -p | 80:80"),
        (&["docker", "login", "-u", "a", "-p", "x1"], "docker | login | -u | a | -p | ‹password·redact›"),
        (&["openssl", "rsa", "-passin", "pass:x1"], "openssl | rsa | -passin | ‹password·redact›"),
        (
            &["aws", "configure", "set", "aws_secret_access_key", "x1"],
            "aws | configure | set | aws_secret_access_key | ‹secret·redact›",
        ),
        (&["psql", "postgres://u:x1@h/d"], "psql | postgres://u:‹password·redact›@h/d"),
        (&["psql", "host=h password=x1 user=u"], "psql | host=h password=‹password·redact› user=u"),
        (
            &["sh", "-c", "mysql -uroot -px1 db && curl -u a:x2 h"],
            "sh | -c | mysql -uroot -p‹password·redact› db && curl -u a:‹password·redact› h",
        ),
        (
            &["sh", "-c", "curl -H 'Authorization: Bearer x1' h"],
            "sh | -c | curl -H 'Authorization: ‹credentials·redact›' h",
        ),
    ] {
        assert_eq!(arguments(words), expected);
    }
}

#[test]
fn rows_are_masked_by_column_and_by_content_and_counted() {
    let cell = |text: &str| Some(Value::from(text));
    let rows = Rows {
        columns: vec!["id".into(), "mail".into(), "password_hash".into()],
        rows: vec![
            vec![Some(Value::Unsigned(1)), cell("alice@example.org"), cell("x1")],
            vec![Some(Value::Unsigned(4_111_111_111_111_111)), cell("bob@example.org"), None],
        ],
    };
    let record = Masker::default().mask(draft(Vec::new(), Some(rows))).into_inner();
    assert_eq!(
        text_of(&record.fields[names::DB_ROWS]),
        "Unsigned(1) | ‹email·redact› | ‹password·redact› | ‹card·redact› | ‹email·redact› | NULL"
    );
    let kinds: Vec<_> = record.kinds.iter().map(|(kind, count)| (kind.as_ref(), *count)).collect();
    assert_eq!(kinds, [("card", 1), ("email", 2), ("password", 1)]);
    assert!(record.masked.iter().any(|field| field.path == "db.response.rows.mail"), "{:?}", record.masked);
}

#[test]
fn the_example_of_the_manual_is_a_valid_configuration() {
    #[derive(serde::Deserialize)]
    struct Configuration {
        masking: MaskRules,
    }
    let manual = include_str!("../../docs/masking.md");
    let example =
        manual.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let rules = toml::from_str::<Configuration>(example).expect("it can be read").masking;
    assert_eq!(rules.rules.len(), 1);
    Masker::new(rules).expect("its rules are valid");
}

#[test]
fn secrets_hide_in_no_coding() {
    let mail = "canary@example.org";
    let base64 = |text: &str| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text);
    let each = |form: fn(u8) -> String| mail.bytes().map(form).collect::<String>();
    let wide: String = mail.chars().flat_map(|letter| [letter, '\0']).collect();
    for text in [
        each(|byte| format!("%{byte:02X}")),
        each(|byte| format!("\\u{byte:04x}")),
        each(|byte| format!("&#{byte};")),
        each(|byte| format!("&#x{byte:x};")),
        each(|byte| format!("={byte:02X}")),
        "canary=40example=\r\n.org".to_owned(),
        "canary&commat;example&period;org".to_owned(),
        hex::encode(mail),
        base64(mail),
        base64(&base64(&format!("to {mail}"))),
        base64(&wide),
        "canary%2540example.org".to_owned(),
        wide.clone(),
    ] {
        let out = masked(text.clone(), Class::Text);
        assert!(out.contains("‹email·redact›"), "{text}: {out}");
    }
}

#[test]
fn json_in_cells_and_values_is_read_by_its_paths() {
    let rules = masker(r#"{"rules":[{"id":"who","json":["**.person.name"]}]}"#);
    let cell = |text: &str, class| masked_by(&rules, text, class);
    let column = || Class::Value { name: "document".into() };
    let document = r#"{"person":{"name":"Bob","pin":12},"ssn":536221234,"n":7}"#;
    let expected =
        r#"{"person":{"name":"‹field·redact·who›","pin":"‹secret·redact›"},"ssn":"‹us_ssn·redact›","n":7}"#;
    assert_eq!(cell(document, column()), expected);
    assert_eq!(cell(document, Class::Keyed { key: "doc:1".into(), field: String::new() }), expected);
    // What only begins like JSON is read as text too: a log line, a list of PostgreSQL.
    assert_eq!(cell("[INFO] password=x1", column()), "[INFO] ‹password·redact›");
    assert_eq!(cell("{a@b.org,c}", column()), "{‹email·redact›,c}");
}

#[test]
fn xml_is_read_by_the_names_of_elements_and_attributes() {
    let rules = masker(r#"{"rules":[{"id":"who","xml":["order.buyer.name","**.@phone"]}]}"#);
    let xml = |text: &str| {
        masked_by(&rules, text, Class::Body { media_type: "text/xml".into(), coding: String::new() })
    };
    for (text, expected) in [
        (
            "<o:order id=\"7\"><o:buyer phone='1'><name>Bob <b>X</b></name><n>1</n></o:buyer></o:order>",
            "<o:order id=\"7\"><o:buyer phone='‹field·redact·who›'><name>‹field·redact·who›</name><n>1</n></o:buyer></o:order>",
        ),
        ("<a><password><![CDATA[x<1]]></password></a>", "<a><password>‹password·redact›</password></a>"),
        ("<a><ssn>536221234</ssn></a>", "<a><ssn>‹us_ssn·redact›</ssn></a>"),
        ("<a token=\"x>1\"/><b/>", "<a token=\"‹token·redact›\"/><b/>"),
        ("<order><buyer><name>Bob", "<order><buyer><name>‹field·redact·who›"),
        ("a < b <", "a < b <"),
    ] {
        assert_eq!(xml(text), expected);
    }
}

#[test]
fn a_rule_says_what_a_cookie_was_and_never_shows_it() {
    let rules =
        masker(r#"{"rules":[{"id":"seen","kind":"visitor","action":{"keep_last":8},"cookies":["visit*"]}]}"#);
    let cookies = Class::Header { name: "cookie".into() };
    assert_eq!(
        masked_by(&rules, "visitor=0123456789abcdef0123456789abcdef; b=c", cookies),
        "visitor=‹visitor·redact·seen›; b=‹cookie·redact›"
    );
}

#[test]
fn the_column_that_a_literal_or_parameter_meets_names_its_kind() {
    for (text, expected) in [
        ("SELECT 1 FROM p WHERE ssn = 536221234", "SELECT 1 FROM p WHERE ssn = ‹us_ssn·redact›"),
        (
            "INSERT INTO p (id, n, nhs_number) VALUES (1, 'a name of some length that keeps the other far away', '9434765919')",
            "INSERT INTO p (id, n, nhs_number) VALUES (1, 'a name of some length that keeps the other far away', '‹uk_nhs·redact›')",
        ),
    ] {
        assert_eq!(masked(text, SQL), expected);
    }
    let record = mask(vec![
        Field::new("db.query.text", "UPDATE p SET ssn = $1, n = $2", SQL),
        Field::new("db.query.parameter.1", "536221234", Class::Value { name: String::new() }),
        Field::new("db.query.parameter.2", "536221234", Class::Value { name: String::new() }),
    ]);
    assert_eq!(text_of(&record.fields["db.query.parameter.1"]), "‹us_ssn·redact›");
    assert_eq!(text_of(&record.fields["db.query.parameter.2"]), "536221234");
}

#[test]
fn tokens_of_vendors_are_known_by_their_beginning() {
    for token in [
        "glrt-abcdefghij0123456789",
        "shpat_0123456789abcdef0123456789abcdef",
        "dapi0123456789abcdef0123456789abcdef",
        "SK0123456789abcdef0123456789abcdef",
        "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw1",
        "GOCSPX-abcdefghijklmnopqrstuvwx",
        "dckr_pat_abcdefghijklmnopqrst",
    ] {
        assert_eq!(masked(format!("use {token} now"), Class::Text), "use ‹api_token·redact› now");
    }
    for text in ["SKU0123456789", "task-force", "key-value", "10:AAB", "dapibus"] {
        assert_eq!(masked(text, Class::Text), text);
    }
}

#[test]
fn the_manual_lists_each_recogniser_as_it_is() {
    let manual = include_str!("../../docs/masking.md");
    let listed: Vec<&str> = manual.lines().skip_while(|line| !line.starts_with("| key |")).skip(2).collect();
    for (line, one) in listed.iter().zip(recognisers()) {
        let default = if one.on { "redact" } else { "off" };
        assert_eq!(*line, format!("| `{}` | {} | {} | {default} |", one.kind, one.what, one.told));
    }
    assert_eq!(listed.get(recognisers().count()), Some(&""), "the manual lists more than there are");
}

#[test]
fn configured_rules_name_themselves_in_the_mask() {
    let rules = masker(
        r#"{"recognisers":{"card":{"keep_last":4},"email":"off"},"rules":[
            {"id":"r1","kind":"name","columns":["customers.full_name"],"parameters":["q*"],"headers":["x-who"],
             "json":["**.person.name"]},
            {"id":"weak","action":{"keep_last":8},"columns":["*"],"headers":["*"]}]}"#,
    );
    let value = |name: &str, text: &str| masked_by(&rules, text, Class::Value { name: name.into() });
    assert_eq!(value("full_name", "Bob"), "‹name·redact·r1›");
    assert_eq!(value("password", "0123456789012345678901234567890123456789"), "‹password·redact›");
    assert_eq!(value("other", "0123456789abcdef"), "‹field·keep_last·weak›cdef");
    assert_eq!(masked_by(&rules, "query=x", Class::Query), "query=‹name·redact·r1›");
    assert_eq!(masked_by(&rules, "x", Class::Header { name: "x-who".into() }), "‹name·redact·r1›");
    let json = Class::Body { media_type: "application/json".into(), coding: String::new() };
    assert_eq!(
        masked_by(&rules, r#"{"a":[{"person":{"name":"Bob"}}],"m":"a@b.org"}"#, json),
        r#"{"a":[{"person":{"name":"‹name·redact·r1›"}}],"m":"a@b.org"}"#
    );
    assert_eq!(masked_by(&rules, "4111111111111111", Class::Text), "‹card·keep_last›1111");
}

#[test]
fn names_that_came_with_the_payload_are_payload() {
    let record = mask(vec![Field::new(
        "http.request.header.alice@example.org‹".to_owned(),
        "x",
        Class::Header { name: "alice@example.org".into() },
    )]);
    let names: Vec<_> = record.fields.keys().map(AsRef::as_ref).collect();
    assert_eq!(names, ["http.request.header.‹email·redact›\\u2039"]);
}

#[test]
fn a_secret_that_a_limit_cut_in_half_does_not_survive() {
    let cut = |text: String, class: Class| {
        let record = mask(vec![Field::new("field", text, class).cut_by(10)]);
        text_of(&record.fields["field"])
    };
    let filler = "a word and another ".repeat(50);
    for half in [
        "4111 1111 1111 1",
        "alice@exam",
        "AKIAIOSFODNN7",
        "postgres://u:secre",
        "eyJhbGciOiJI",
        "DE89 3704 0044",
    ] {
        let out = cut(format!("{filler}{half}"), Class::Text);
        assert!(!out.contains(half) && out.contains("‹cut·drop·"), "{half}: {out}");
    }
    let long = "k".repeat(2000);
    for (text, class) in [
        (format!("{filler}password={long}"), Class::Text),
        (format!("{filler}-----BEGIN PRIVATE KEY-----\n{long}"), Class::Text),
        (format!("SELECT 1 WHERE password = '{long}"), SQL),
        (
            format!("{{\"a\":1,\"password\":\"{long}"),
            Class::Body { media_type: "application/json".into(), coding: String::new() },
        ),
        (format!("a=1&token={long}"), Class::Query),
    ] {
        let out = cut(text, class);
        assert!(!out.contains("kk"), "{out}");
    }
}

#[test]
fn a_record_has_a_bound_and_says_when_it_was_reached() {
    let rows =
        Rows { columns: vec!["pin".into(); 1000], rows: vec![vec![Some(Value::from("1")); 1000]; 1000] };
    let record = Masker::default().mask(draft(Vec::new(), Some(rows))).into_inner();
    assert_eq!(record.anomalies, ["mask_record_cut"]);
    let bytes = rmp_serde::to_vec_named(&record).unwrap();
    assert!(bytes.len() < 8 << 20, "{}", bytes.len());
}

#[test]
fn a_list_of_masked_fields_has_a_bound() {
    let fields = (0..100).map(|n| Field::new(format!("f{n}"), "x", Class::Secret("password"))).collect();
    let record = mask(fields);
    assert_eq!(record.masked.len(), 64);
    assert_eq!(record.kinds["password"], 100);
    assert_eq!(record.anomalies, ["mask_list_cut"]);
}
