//! Commands: keys, fields, values, secrets.

use super::*;

fn class<'a>(told: &'a Told, name: &str) -> &'a Class {
    &told.fields[name].class
}

fn keyed(key: &str, field: &str) -> Class {
    Class::Keyed { key: key.to_owned(), field: field.to_owned() }
}

#[test]
fn each_value_stands_under_its_key_and_field() {
    let outcome = told("hashes", "hashes");
    is_clean(&outcome);
    let set = all(&outcome)[0];
    assert_eq!(text(set), "HSET user:7 name ? password ? age ?");
    assert_eq!(*class(set, "db.query.parameter.2"), keyed("user:7", "password"));
    for line in ["HGETALL user:7", "HSCAN user:7 0", "HRANDFIELD user:7 3 WITHVALUES"] {
        assert_eq!(
            *class(of(&outcome, line), "db.redis.reply.password"),
            keyed("user:7", "password"),
            "{line}"
        );
    }
    assert_eq!(*class(of(&outcome, "HGET user:7 password"), "db.redis.reply"), keyed("user:7", "password"));
    let strings = told("redis_cli", "redis_cli");
    let get = of(&strings, "MGET a missing session:token");
    assert_eq!(*class(get, "db.redis.reply.3"), keyed("session:token", ""));
}

#[test]
fn entries_of_streams_are_told_by_field() {
    let outcome = told("streams", "streams");
    is_clean(&outcome);
    assert_eq!(text(all(&outcome)[0]), "XADD race MAXLEN ~ 1000 * rider ? speed ? token ?");
    for line in
        ["XRANGE race - +", "XREAD COUNT 2 STREAMS race other 0 0", "XREADGROUP GROUP g me STREAMS race >"]
    {
        assert_eq!(*class(of(&outcome, line), "db.redis.reply.token"), keyed("race", "token"), "{line}");
    }
}

#[test]
fn scripts_are_text_and_their_keys_are_keys() {
    let outcome = told("scripts", "scripts");
    is_clean(&outcome);
    let eval = all(&outcome)[0];
    assert_eq!(text(eval), "EVAL ? 1 s:1 ?");
    assert!(field(eval, "db.redis.script").starts_with("return {KEYS[1]"));
    assert_eq!(*class(eval, "db.query.parameter.1"), keyed("s:1", ""));
    assert_eq!(field(all(&outcome)[2], "db.stored_procedure.name").len(), 40);
    assert_eq!(field(of(&outcome, "FCALL f 1 s:2 ?"), "db.stored_procedure.name"), "f");
    let codes: Vec<String> = all(&outcome).iter().map(|told| field(told, "error.type")).collect();
    assert!(codes.iter().any(|code| code == "NOSCRIPT") && codes.iter().any(|code| code == "MYERR"));
}

#[test]
fn credentials_are_secrets_wherever_they_stand() {
    let outcome = told("auth", "auth");
    is_clean(&outcome);
    assert_eq!(text(all(&outcome)[4]), "HELLO 3 AUTH ann ? SETNAME shop");
    assert_eq!(secrets(&outcome), 8);
    assert_eq!(outcome.session["db.user"].value, Value::Text("ann".to_owned()));
    let settings = told("config", "config");
    assert_eq!(text(all(&settings)[0]), "CONFIG SET masterauth ? maxmemory ?");
    assert_eq!(text(all(&settings)[4]), "ACL SETUSER eve on ? ? ~app:* +get &*");
    assert!(text(all(&settings)[12]).contains("AUTH2 ann ? KEYS"));
    assert_eq!(*class(all(&settings)[1], "db.redis.reply.masterauth"), Class::Secret("password"));
    let sentinel = told("sentinel", "sentinel");
    assert_eq!(text(all(&sentinel)[2]), "SENTINEL SET m auth-pass ?");
    assert!(secrets(&sentinel) >= 2);
    let open = told("hostile", "open_quote");
    assert_eq!(text(all(&open)[0]), "AUTH ?", "a line that is refused may hold one too");
    let odd = talk(
        "> 1 \"*6\\r\\n$5\\r\\nHELLO\\r\\n$1\\r\\n3\\r\\n$7\\r\\nSETNAME\\r\\n$4\\r\\nauth\\r\\n$4\\r\\nAUTH\\r\\n$1\\r\\nu\\r\\n\"\n",
    );
    assert_eq!(text(all(&odd)[0]), "HELLO 3 SETNAME auth AUTH u");
}

#[test]
fn errors_repeat_no_argument() {
    let outcome = told("redis_cli", "redis_cli");
    assert!(!field(of(&outcome, "NOSUCH thing ?"), "error.message").contains("argument'"));
    let settings = told("config", "config");
    assert_eq!(field(all(&settings)[9], "error.message"), "ERR Error in ACL SETUSER modifier ");
}

#[test]
fn inline_commands_are_commands() {
    let outcome = told("inline", "inline");
    is_clean(&outcome);
    assert_eq!(text(all(&outcome)[1]), "SET inl ?");
    assert_eq!(text(all(&outcome)[3]), "set user:password ?");
    assert_eq!(all(&outcome).len(), 8, "empty lines and empty arrays ask nothing");
}

#[test]
fn errors_of_a_cluster_are_named() {
    let outcome = told("cluster", "cluster");
    is_clean(&outcome);
    let codes: Vec<String> = all(&outcome).iter().map(|told| field(told, "error.type")).collect();
    for code in ["CLUSTERDOWN", "MOVED", "CROSSSLOT", "ASK"] {
        assert!(codes.iter().any(|told| told == code), "{code}");
    }
    assert_eq!(field(all(&told("cluster", "tryagain"))[1], "error.type"), "TRYAGAIN");
    assert!(is_ok(of(&outcome, "ASKING")) && is_ok(of(&outcome, "READONLY")));
}
