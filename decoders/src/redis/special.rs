//! Commands whose arguments follow no simple pattern: credentials in all the places where Redis and Sentinel take
//! them, streams, settings. And what a command does to the connection.

use custody_record::names;

use super::command::{Act, Arguments, Plan, Replies};
use super::table::{Command, Holds};
use crate::item::{Class, Field, text};

/// Settings whose value is a credential.
const SECRET_SETTINGS: &[&str] = &[
    "requirepass",
    "masterauth",
    "tls-key-file-pass",
    "tls-client-key-file-pass",
    "auth-pass",
    "sentinel-pass",
    "primaryauth",
];

/// Rules of an ACL user that are a word of their own.
const RULES: &[&str] = &[
    "on",
    "off",
    "nopass",
    "reset",
    "resetpass",
    "resetkeys",
    "resetchannels",
    "allkeys",
    "allchannels",
    "allcommands",
    "nocommands",
    "clearselectors",
    "sanitize-payload",
    "skip-sanitize-payload",
];

/// The value of a setting.
pub(super) fn class_of_setting(name: String) -> Class {
    if SECRET_SETTINGS.iter().any(|known| name.eq_ignore_ascii_case(known))
        || name.to_ascii_lowercase().ends_with("pass")
    {
        Class::Secret("password")
    } else {
        Class::Value { name }
    }
}

/// What each argument behind the name is, for commands that need more than a pattern; none for others.
pub(super) fn roles(command: &Command, arguments: &Arguments<'_>) -> Vec<u8> {
    let count = arguments.kept().saturating_sub(1);
    let all = |role| vec![role; count];
    match command.arguments {
        "!auth" if count == 2 => b"sx".to_vec(),
        "!auth" => all(b'x'),
        "!hello" => hello(arguments, count),
        "!acl" if arguments.is(1, "SETUSER") => {
            (1..=count).map(|index| if index <= 2 { b's' } else { rule(arguments.get(index)) }).collect()
        }
        "!acl" => all(b's'),
        "!config" if arguments.is(1, "SET") => settings(2, count),
        "!config" => all(b's'),
        "!migrate" => migrate(arguments, count),
        "!sentinel" if arguments.is(1, "SET") || arguments.is(1, "CONFIG") && arguments.is(2, "SET") => {
            settings(3, count)
        }
        "!sentinel" => all(b's'),
        "!xadd" => add_to_stream(arguments, count),
        "!streams" => read_streams(arguments, count),
        _ => Vec::new(),
    }
}

/// Names and values in turns, from this argument on.
fn settings(first: usize, count: usize) -> Vec<u8> {
    (1..=count).map(|index| if index > first && (index - first) % 2 == 1 { b'c' } else { b's' }).collect()
}

fn rule(rule: &[u8]) -> u8 {
    let known = RULES.iter().any(|known| rule.eq_ignore_ascii_case(known.as_bytes()));
    if known || matches!(rule.first(), Some(b'+' | b'-' | b'~' | b'%' | b'&' | b'@' | b'(' | b')')) {
        b's'
    } else {
        // `>` and `<` add and remove a password, `#` and `!` its hash. What is no rule may be one that was mistyped.
        b'x'
    }
}

fn hello(arguments: &Arguments<'_>, count: usize) -> Vec<u8> {
    let mut roles = vec![b's'; count];
    let mut index = 1;
    while index <= count {
        if arguments.is(index, "AUTH") {
            // The name stands first; what follows it may be the password even where the command is not whole.
            if let Some(role) = roles.get_mut(index + 1) {
                *role = b'x';
            }
            index += 3;
        } else {
            index += if arguments.is(index, "SETNAME") { 2 } else { 1 };
        }
    }
    roles
}

fn migrate(arguments: &Arguments<'_>, count: usize) -> Vec<u8> {
    let mut roles = vec![b's'; count];
    if let Some(key) = roles.get_mut(2) {
        *key = b'k';
    }
    let mut index = 6;
    while index <= count {
        // `roles` does not count the name, so what follows `index` stands there at `index`.
        if arguments.is(index, "KEYS") {
            roles[index..].fill(b'k');
            break;
        }
        let secret = if arguments.is(index, "AUTH") {
            index
        } else if arguments.is(index, "AUTH2") {
            index + 1
        } else {
            index += 1;
            continue;
        };
        if let Some(role) = roles.get_mut(secret) {
            *role = b'x';
        }
        index = secret + 2;
    }
    roles
}

fn add_to_stream(arguments: &Arguments<'_>, count: usize) -> Vec<u8> {
    let mut id = 2;
    loop {
        if arguments.is(id, "NOMKSTREAM") {
            id += 1;
        } else if arguments.is(id, "MAXLEN") || arguments.is(id, "MINID") {
            id += 2 + usize::from(matches!(arguments.get(id + 1), b"~" | b"="));
        } else if arguments.is(id, "LIMIT") {
            id += 2;
        } else {
            break;
        }
    }
    let role = |index: usize| match index {
        1 => b'k',
        index if index <= id => b's',
        index if (index - id) % 2 == 1 => b'f',
        _ => b'v',
    };
    (1..=count).map(role).collect()
}

fn read_streams(arguments: &Arguments<'_>, count: usize) -> Vec<u8> {
    let first = (1..=count).find(|index| arguments.is(*index, "STREAMS")).unwrap_or(count) + 1;
    let keys = (count + 1).saturating_sub(first) / 2;
    (1..=count).map(|index| if (first..first + keys).contains(&index) { b'k' } else { b's' }).collect()
}

/// What the reply holds, where that depends on the arguments.
pub(super) fn adjust(command: &Command, arguments: &Arguments<'_>, plan: &mut Plan) {
    let any = |words: &[&str]| words.iter().any(|word| arguments.is(1, word));
    let holds = match command.name {
        "ACL" if !any(&["GETUSER", "GENPASS", "LIST", "LOG"]) => Holds::Text,
        "CONFIG" if !any(&["GET"]) => Holds::Text,
        "HRANDFIELD" if !(1..arguments.kept()).any(|index| arguments.is(index, "WITHVALUES")) => Holds::Value,
        "SENTINEL" if any(&["MASTER", "MASTERS", "CONFIG", "REPLICAS", "SLAVES", "SENTINELS"]) => {
            Holds::Secret
        }
        _ => return,
    };
    plan.holds = Some(holds);
}

/// What the command does to the connection.
pub(super) fn act(command: &Command, arguments: &Arguments<'_>) -> Act {
    let identifier = |name, index| Field::new(name, text(arguments.get(index)), Class::Identifier);
    match command.name {
        "MULTI" => Act::Multi,
        "EXEC" => Act::Exec,
        "DISCARD" => Act::Discard,
        "RESET" => Act::Reset,
        "MONITOR" => Act::Monitor,
        "PSYNC" | "SYNC" => Act::Replicate,
        "REPLCONF" if arguments.is(1, "ACK") => Act::Acknowledge,
        "SUBSCRIBE" | "PSUBSCRIBE" | "SSUBSCRIBE" | "UNSUBSCRIBE" | "PUNSUBSCRIBE" | "SUNSUBSCRIBE" => {
            Act::Subscribe(arguments.count() as u64 - 1)
        }
        "CLIENT" if arguments.is(1, "REPLY") && arguments.count() == 3 => match () {
            () if arguments.is(2, "OFF") => Act::Replies(Replies::Off),
            () if arguments.is(2, "SKIP") => Act::Replies(Replies::Skip),
            () if arguments.is(2, "ON") => Act::Replies(Replies::On),
            () => Act::Plain,
        },
        "CLIENT" if arguments.is(1, "SETNAME") => Act::Facts(vec![identifier(names::DB_APPLICATION, 2)]),
        "SELECT" => Act::Facts(vec![identifier(names::DB_NAMESPACE, 1)]),
        "AUTH" if arguments.count() == 3 => Act::Facts(vec![identifier(names::DB_USER, 1)]),
        "HELLO" => Act::Facts(hello_facts(arguments)),
        _ => Act::Plain,
    }
}

fn hello_facts(arguments: &Arguments<'_>) -> Vec<Field> {
    let identifier = |name, index| Field::new(name, text(arguments.get(index)), Class::Identifier);
    let mut facts = Vec::new();
    if matches!(arguments.get(1), b"2" | b"3") {
        facts.push(identifier(names::PROTOCOL_VERSION, 1));
    }
    let mut index = 2;
    while index < arguments.kept() {
        if arguments.is(index, "AUTH") {
            facts.push(identifier(names::DB_USER, index + 1));
            index += 3;
        } else if arguments.is(index, "SETNAME") {
            facts.push(identifier(names::DB_APPLICATION, index + 1));
            index += 2;
        } else {
            index += 1;
        }
    }
    facts
}
