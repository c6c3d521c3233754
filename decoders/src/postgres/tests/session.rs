//! Start, encryption, authentication, parameters, cancels, and what the server says unasked.

use super::*;

const SSL: u32 = 80_877_103;
const GSS: u32 = 80_877_104;
const CANCEL: u32 = 80_877_102;
const VERSION: u32 = 3 << 16;

fn start() -> Talk {
    let mut talk = Talk::new();
    talk.up(startup(
        VERSION,
        b"user\0alice\0database\0shop\0application_name\0psql\0client_encoding\0UTF8\0\0",
    ));
    talk
}

#[test]
fn a_start_up_tells_who_and_where() {
    let mut talk = start();
    talk.down([authentication(0, b""), message(b'S', b"server_version\x0015.3\0")].concat())
        .down([message(b'K', b"\0\0\x01\0keyk"), ready(b'I')].concat());
    let said = |name: &str| talk.told.session[name].clone();
    assert_eq!(said("db.user"), Value::from("alice"));
    assert_eq!(said("db.namespace"), Value::from("shop"));
    assert_eq!(said("db.client.application"), Value::from("psql"));
    assert_eq!(said("db.postgresql.server_version"), Value::from("15.3"));
    assert_eq!(said("db.postgresql.backend_pid"), Value::Unsigned(256));
    assert_eq!(said("network.protocol.version"), Value::from("3.0"));
    let told = talk.exchange(1);
    assert_eq!(told.text("db.postgresql.message"), "StartupMessage");
    assert_eq!(told.text("db.postgresql.startup.client_encoding"), "UTF8");
    assert_eq!(told.text("db.postgresql.authentication"), "none");
    assert_eq!(told.outcome, Some(Outcome::Ok));
}

#[test]
fn a_database_without_a_name_is_called_as_the_user() {
    let mut talk = Talk::new();
    talk.up(startup(VERSION | 2, b"user\0bob\0replication\0database\0\0"));
    assert_eq!(talk.told.session["db.namespace"], Value::from("bob"));
    assert_eq!(talk.told.session["db.postgresql.replication"], Value::from("logical"));
    talk.down(message(b'v', b"\0\x03\0\0\0\0\0\x01_pq_.x\0"));
    talk.down([authentication(0, b""), ready(b'I')].concat());
    let refused = Value::List(vec![text_cell("_pq_.x")]);
    assert_eq!(talk.exchange(1).fields["db.postgresql.options_refused"].0, refused);
    assert_eq!(talk.told.session["network.protocol.version"], Value::from("3.0"));
}

#[test]
fn each_kind_of_authentication_is_named_and_no_credential_leaves() {
    let sasl: &[u8] = b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
    for (kind, data, answer, name) in [
        (2, &b""[..], &b"canary"[..], "kerberos_v5"),
        (3, b"", b"canary\0", "cleartext"),
        (5, b"salt", b"md5canary\0", "md5"),
        (1, b"", b"canary", "kerberos_v4"),
        (4, b"sa", b"canary\0", "crypt"),
        (6, b"", b"canary", "scm"),
        (99, b"", b"canary", "unknown"),
        (7, b"", b"canary", "gss"),
        (9, b"", b"canary", "sspi"),
        (10, sasl, b"SCRAM-SHA-256\0\0\0\0\x06canary", "SCRAM-SHA-256"),
        (10, sasl, b"canary\0\0\0\0\0", "sasl"),
    ] {
        let mut talk = start();
        talk.down(authentication(kind, data)).up(message(b'p', answer));
        talk.down(
            [authentication(if kind == 10 { 11 } else { 8 }, b"canary"), authentication(0, b"")].concat(),
        );
        talk.down(ready(b'I'));
        let told = talk.exchange(1);
        assert_eq!(told.text("db.postgresql.authentication"), name);
        let odd = if name == "unknown" { &["postgres_unknown_code"][..] } else { &[] };
        assert_eq!(told.anomalies, odd);
        assert!(matches!(told.class("db.postgresql.credential"), Class::Secret(_)));
        assert!(!format!("{:?} {:?}", told, talk.told.session).contains("canary"), "{name}");
    }
}

#[test]
fn a_refused_login_is_an_error_of_the_start_up() {
    let mut talk = start();
    talk.down(authentication(3, b"")).up(message(b'p', b"canary\0")).down(error("28P01", "no"));
    assert_eq!(talk.exchange(1).outcome, Some(Outcome::Error));
    assert_eq!(talk.exchange(1).text("db.response.status_code"), "28P01");
}

#[test]
fn encryption_is_asked_for_before_the_start() {
    let mut talk = Talk::new();
    talk.up(startup(GSS, b"")).down(b"N").up(startup(SSL, b"")).down(b"S");
    assert!(talk.told.tls);
    assert_eq!(talk.told.session["db.postgresql.encryption"], Value::from("ssl_accepted"));
    talk.up(startup(VERSION, b"user\0a\0\0")).down([authentication(0, b""), ready(b'I')].concat());
    assert_eq!(talk.exchange(1).outcome, Some(Outcome::Ok));

    let mut talk = Talk::new();
    talk.up(startup(SSL, b"")).down(b"N").up(startup(VERSION, b"user\0a\0\0"));
    assert!(!talk.told.tls);
    assert_eq!(talk.told.exchanges.len(), 1);

    let mut talk = Talk::new();
    talk.up(startup(GSS, b"")).down(b"G");
    assert!(talk.told.unknown);

    let mut talk = Talk::new();
    talk.up(startup(SSL, b"")).down(error("0A000", "unsupported"));
    assert_eq!(talk.exchange(1).text("db.postgresql.message"), "SSLRequest");
    assert_eq!(talk.exchange(1).outcome, Some(Outcome::Error));
}

#[test]
fn a_cancel_names_the_backend_and_never_its_key() {
    let mut talk = Talk::new();
    talk.up(startup(CANCEL, b"\0\0\x01\0KEYK"));
    assert_eq!(talk.exchange(1).number("db.postgresql.backend_pid"), Some(256));
    assert_eq!(talk.exchange(1).outcome, None);
    let told = talk.end();
    assert_eq!(told.exchanges[&1].outcome, Some(Outcome::Ok));
    assert!(!format!("{:?}", told.exchanges).contains("KEYK"));
}

#[test]
fn a_cancel_and_its_victim_carry_the_same_secret_of_any_length() {
    for length in [4, 32, 256] {
        let secret = [&[0, 0, 1, 0][..], &vec![b'k'; length]].concat();
        let mut victim = start();
        victim.down([authentication(0, b""), message(b'K', &secret), ready(b'I')].concat());
        assert_eq!(victim.told.session["db.postgresql.backend_pid"], Value::Unsigned(256));
        let mut cancel = Talk::new();
        cancel.up(startup(CANCEL, &secret));
        assert_eq!(victim.told.goes_by, std::slice::from_ref(&secret));
        assert_eq!(cancel.told.names_other, [(1, secret)]);
    }
}

#[test]
fn a_cancelled_statement_says_who_asked_unless_that_came_too_late() {
    let cancelled = || [error("57014", "canceling statement due to user request"), ready(b'I')].concat();
    let mut talk = Talk::joined();
    talk.decoder.on_named(7);
    talk.up(query("select 1")).down(cancelled());
    assert_eq!(talk.exchange(1).number("db.postgresql.cancelled_by_session"), None, "nothing ran");
    talk.up(query("select 2"));
    talk.decoder.on_named(7);
    talk.down(cancelled());
    assert_eq!(talk.exchange(2).number("db.postgresql.cancelled_by_session"), Some(7));
    talk.up(query("select 3"));
    talk.decoder.on_named(8);
    talk.down([complete("SELECT 1"), ready(b'I')].concat()).up(query("select 4")).down(cancelled());
    assert_eq!(talk.exchange(4).number("db.postgresql.cancelled_by_session"), None, "it was over");
    talk.up([parse("", "select 5", &[]), bind("", "", 0, &[], 0), execute(""), sync()].concat());
    talk.decoder.on_named(9);
    talk.down([bare(b'1'), bare(b'2'), cancelled()].concat());
    assert_eq!(talk.exchange(5).number("db.postgresql.cancelled_by_session"), Some(9));
}

#[test]
fn a_server_of_old_answers_with_text_alone() {
    let said = b"EFATAL:  unsupported frontend protocol 1234.5679: server supports 1.0 to 2.0\n\0";
    let mut talk = Talk::new();
    talk.up(startup(SSL, b"")).down(said);
    assert_eq!(talk.exchange(1).text("db.postgresql.message"), "SSLRequest");
    assert_eq!(talk.exchange(1).text("db.postgresql.severity"), "FATAL");
    assert!(talk.exchange(1).text("error.message").starts_with("unsupported frontend protocol 1234.5679"));

    let mut talk = start();
    talk.down(b"Ecould not fork new process for connection: no memory\n\0");
    assert_eq!(talk.exchange(1).outcome, Some(Outcome::Error));
    assert!(talk.exchange(1).text("error.message").starts_with("could not fork"));
    assert_eq!(talk.end().exchanges.len(), 1);
}

#[test]
fn a_start_of_protocol_2_is_named_and_not_decoded() {
    let mut fields = [0; 288];
    fields[..4].copy_from_slice(b"shop");
    fields[64..69].copy_from_slice(b"alice");
    let begin = startup(2 << 16, &fields);
    let mut talk = Talk::new();
    talk.up(&begin);
    assert_eq!(talk.told.session["network.protocol.version"], Value::from("2.0"));
    assert_eq!(talk.told.session["db.namespace"], Value::from("shop"));
    assert_eq!(talk.told.session["db.user"], Value::from("alice"));
    assert!(!talk.told.unknown);
    talk.down(b"R");
    assert!(talk.told.unknown);

    let mut talk = Talk::new();
    talk.up(&begin).down(error("0A000", "unsupported frontend protocol 2.0"));
    assert_eq!(talk.exchange(1).text("db.response.status_code"), "0A000");
    assert!(!talk.told.unknown);
}

#[test]
fn a_notification_and_an_error_to_all_stand_by_themselves() {
    let mut talk = Talk::joined();
    talk.down(message(b'A', b"\0\0\0\x07jobs\0payload\0"));
    assert_eq!(talk.exchange(1).text("db.postgresql.notification.channel"), "jobs");
    let sender = talk.exchange(1).number("db.postgresql.notification.backend_pid");
    assert_eq!(sender, Some(7), "not the session's own");
    talk.up(query("select 1")).down(message(b'A', b"\0\0\0\x07jobs\0more\0"));
    talk.down([complete("SELECT 1"), ready(b'I'), error("57P01", "shutdown")].concat());
    assert_eq!(talk.exchange(2).outcome, Some(Outcome::Ok));
    assert_eq!(talk.exchange(3).text("db.postgresql.notification.payload"), "more");
    assert_eq!(talk.exchange(4).text("db.postgresql.message"), "ErrorResponse");
    assert_eq!(talk.exchange(4).text("db.response.status_code"), "57P01");
}

#[test]
fn notices_belong_to_the_answer_in_which_they_come() {
    let notice = || message(b'N', b"SNOTICE\0C00000\0Mhello\0\0");
    let mut talk = Talk::joined();
    talk.up(query("do $$ $$")).down([notice(), notice(), complete("DO"), ready(b'I')].concat());
    assert_eq!(talk.exchange(1).number("db.postgresql.notices"), Some(2));
    assert_eq!(talk.exchange(1).text("db.postgresql.notice.2.message"), "hello");
    talk.down(message(b'N', b"SHINWEIS\0VNOTICE\0C01000\0Mhi\0scanary_schema\0Ffile.c\0L7\0Rroutine\0\0"));
    let told = talk.exchange(2);
    assert_eq!(told.text("db.postgresql.message"), "NoticeResponse");
    for (name, value) in [
        ("severity", "NOTICE"),
        ("schema", "canary_schema"),
        ("file", "file.c"),
        ("line", "7"),
        ("routine", "routine"),
    ] {
        assert_eq!(told.text(&format!("db.postgresql.notice.1.{name}")), value);
    }
}

#[test]
fn the_application_may_change_its_name() {
    let mut talk = start();
    talk.down(message(b'S', b"application_name\0report\0"));
    assert_eq!(talk.told.session["db.client.application"], Value::from("report"));
}

#[test]
fn a_fatal_error_ends_the_query_without_ready() {
    let mut talk = Talk::joined();
    talk.up(query("select pg_terminate_backend(1)")).down(error("57P01", "terminating"));
    assert_eq!(talk.end().exchanges[&1].outcome, Some(Outcome::Error));
}

#[test]
fn a_statement_that_the_server_never_answered_is_told_when_the_connection_ends() {
    let mut talk = Talk::joined();
    talk.up([parse("s", "select crash()", &[]), sync()].concat());
    let told = talk.end();
    assert_eq!(told.exchanges[&1].text("db.query.text"), "select crash()");
    assert_eq!(told.exchanges[&1].outcome, None);
}

#[test]
fn probes_need_a_start_or_two_messages() {
    let probe = |up: &[u8], down: &[u8]| Postgres.probe(Heads { up, down, port: 0 });
    let begin = startup(VERSION, b"user\0a\0\0");
    assert_eq!(probe(&begin, b""), Probe::Yes);
    assert_eq!(probe(b"", &begin), Probe::Reversed);
    assert_eq!(probe(&begin[..6], b""), Probe::More);
    assert_eq!(probe(&startup(SSL, b""), b"N"), Probe::Yes);
    let batch = [bind("", "s", 0, &[], 0), execute(""), sync()].concat();
    assert_eq!(probe(&batch, b""), Probe::Yes);
    assert_eq!(probe(b"", &batch), Probe::Reversed);
    assert_eq!(probe(b"", &[complete("SELECT 1"), ready(b'I')].concat()), Probe::Yes);
    assert_eq!(probe(&query("select 1"), b""), Probe::Yes);
    assert_eq!(probe(b"GET / HTTP/1.1\r\n\r\n", b""), Probe::No);
    assert_eq!(probe(b"", b"HTTP/1.1 200 OK\r\n\r\n"), Probe::No);
    assert_eq!(probe(b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"), Probe::No);
    assert_eq!(probe(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", b""), Probe::No);
    assert_eq!(probe(b"", b"I\0\0\0\x0a5.7.35\0"), Probe::No);
    assert_eq!(probe(b"", b""), Probe::More);
}
