//! Live Redis: what redis-cli, redis-py and redis-benchmark said, connection by connection and in order, equals what the
//! server itself logged of each command. Nothing is lost, nothing is unknown.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result};
use custody_tests::observed;
use custody_tests::process::output;
use custody_tests::redis::Redis;
use custody_tests::stand::field;
use serde_json::Value;

/// Pipelines, transactions, a subscription, hashes, lists, a script and an error, by redis-py.
const PYTHON: &str = r#"
import sys, redis
r = redis.Redis(port=int(sys.argv[1]), db=2)
for n in range(50):
    r.set(f"py:{n}", f"value-{n}"); r.get(f"py:{n}")
r.hset("py:h", mapping={"name": "Ann", "city": "Graz"}); r.hgetall("py:h"); r.hmget("py:h", "name", "none")
r.rpush("py:l", "a", "b c", "d"); r.lrange("py:l", 0, -1); r.incr("py:n"); r.mget("py:1", "py:2")
with r.pipeline(transaction=False) as p:
    for n in range(100): p.get(f"py:{n}")
    p.execute()
with r.pipeline() as p:
    p.set("py:t", "1"); p.incr("py:t"); p.execute()
r.eval("return redis.call('GET', KEYS[1])", 1, "py:1")
try: r.lpush("py:1", "x")
except redis.ResponseError: pass
s = r.pubsub(); s.subscribe("py:news"); s.get_message(timeout=2)
r.publish("py:news", "extra"); print(s.get_message(timeout=2)["data"].decode())
"#;

/// Commands that the server leaves out of its log, and those by which the test asks it.
const NOT_LOGGED: [&str; 2] = ["SLOWLOG", "EXEC"];

#[test]
fn each_command_of_redis_is_recorded_once_and_as_the_server_logged_it() -> Result<()> {
    let (_folders, stand, redis) = observed::redis()?;
    traffic(&redis)?;
    let mut logged: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    // What a script calls comes from no connection, which the server writes as port 0.
    for one in redis.logged()?.into_iter().filter(|one| one.client_port != 0) {
        logged.entry(one.client_port).or_default().push(one.line);
    }
    let count: usize = logged.values().map(Vec::len).sum();
    assert!(count > 6_000, "the traffic is not what it was: {count}");
    let mine = format!("server.port = {}", redis.port);
    let commands = format!("{mine} and type = \"exchange\" and has(db.query.text)");
    stand.wait_records(&commands, count + 1)?;
    let mut recorded: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    let mut records = stand.records(&commands)?;
    records.sort_by_key(|record| record["record"]["exchange"].as_u64());
    for record in &records {
        assert_eq!(record["record"]["anomalies"].as_array().map_or(0, Vec::len), 0, "{record}");
        assert!(!field(record, "custody.outcome").is_null(), "{record}");
        let name = field(record, "db.operation.name").as_str().context("name")?;
        if !NOT_LOGGED.contains(&name.to_uppercase().as_str()) {
            let port = field(record, "client.port").as_u64().context("port")?;
            recorded.entry(port).or_default().push(line(record)?);
        }
    }
    for (port, lines) in &logged {
        assert_eq!(recorded.get(port), Some(lines), "client port {port}");
    }
    assert_eq!(recorded.len(), logged.len(), "a connection that the server does not know");
    replies(&records, &stand.records(&format!("{mine} and has(db.redis.message)"))?);
    assert_eq!(stand.records(&format!("type = \"gap\" and {mine}"))?.len(), 0);
    let unknown = format!("{mine} and network.protocol.name = \"unknown\" and custody.bytes.up > 0");
    assert_eq!(stand.records(&unknown)?.len(), 0);
    Ok(())
}

fn traffic(redis: &Redis) -> Result<()> {
    for words in
        [&["SET", "cli:1", "one two"][..], &["GET", "cli:1"], &["-3", "HGETALL", "none"], &["INCR", "cli:n"]]
    {
        output(redis.program("redis-cli").args(words))?;
    }
    // Debian's Python, which has Debian's redis-py; another one may come first in PATH.
    let port = redis.port.to_string();
    let heard = output(Command::new("/usr/bin/python3").args(["-c", PYTHON, &port]))?;
    assert_eq!(heard.trim(), "extra", "the client was told of the message");
    for (pipelined, count) in [("1", "1000"), ("16", "2000")] {
        let load =
            ["-c", "10", "-q", "-t", "set,get", "-d", "64", "-r", "1000", "-n", count, "-P", pipelined];
        output(redis.program("redis-benchmark").args(load))?;
    }
    Ok(())
}

/// The line of a record with its values where they stood.
fn line(record: &Value) -> Result<String> {
    let text = field(record, "db.query.text").as_str().context("text")?;
    let (mut number, mut script) = (0, field(record, "db.redis.script").as_str());
    let words = text.split(' ').map(|word| {
        if word != "?" {
            return Ok(word.trim_matches('"').to_owned());
        }
        // The text of a script stands in a field of its own.
        if let (true, Some(script)) = (number == 0, script.take()) {
            return Ok(script.to_owned());
        }
        number += 1;
        let name = format!("db.query.parameter.{number}");
        Ok(field(record, &name).as_str().with_context(|| format!("{name} of {record}"))?.to_owned())
    });
    Ok(words.collect::<Result<Vec<String>>>()?.join(" "))
}

/// What the clients were told.
fn replies(records: &[Value], messages: &[Value]) {
    let of =
        |text: &str| records.iter().find(|record| field(record, "db.query.text") == text).expect("the line");
    assert_eq!(field(of("GET cli:1"), "db.redis.reply"), "one two");
    assert_eq!(field(of("GET py:7"), "db.redis.reply"), "value-7");
    assert_eq!(field(of("HGETALL py:h"), "db.redis.reply.city"), "Graz");
    assert_eq!(field(of("LRANGE py:l 0 -1"), "db.redis.reply")[1], "b c");
    assert_eq!(field(of("INCRBY py:t 1"), "db.redis.reply"), 2);
    assert_eq!(field(of("EXEC"), "db.operation.batch.size"), 2);
    assert_eq!(field(of("LPUSH py:1 ?"), "error.type"), "WRONGTYPE");
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert_eq!(field(&messages[0], "db.redis.reply"), "extra");
}
