//! Masks the arguments of a program: `mysql -pX`, `curl -u user:X`, `--token X`, `PGPASSWORD=X sh -c '…'`.
//!
//! Most is decided by the options' names; what an option of one letter means depends on the program, and those
//! that take secrets stand in the table here.

use super::mark::Mark;
use super::policy::{Policy, secret_mark};
use super::recognise::Place;
use super::span::Span;
use super::{json, pairs, sql};

/// Command lines inside arguments (`sh -c '…'`) that are looked through.
const DEPTH_MAX: usize = 3;

/// What an option's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// A secret.
    Secret,
    /// The same, but only in the same word: `-pX`.
    SecretJoined,
    /// `user:password`.
    UserColon,
    /// `user%password`.
    UserPercent,
    /// `Name: value`.
    Header,
    /// `name=value; …`.
    Cookies,
    /// A form or JSON.
    Data,
    /// SQL.
    Statement,
}

const MYSQL: &[&str] = &[
    "mysql",
    "mysqldump",
    "mysqladmin",
    "mysqlimport",
    "mysqlshow",
    "mysqlcheck",
    "mysqlbinlog",
    "mysqlsh",
    "mysqlslap",
    "mariadb",
    "mariadb-dump",
    "mariadb-admin",
    "mariadb-import",
    "mycli",
];
const HTTP: &[&str] = &["curl", "wget", "http", "https", "xh", "wrk", "ab", "hey"];
const MONGO: &[&str] = &["mongo", "mongosh", "mongodump", "mongorestore", "mongoexport", "mongoimport"];
const LDAP: &[&str] = &["ldapsearch", "ldapmodify", "ldapadd", "ldapdelete", "ldapwhoami", "ldappasswd"];

/// Programs that read an argument as a command line.
const SHELLS: &[&str] = &["sh", "bash", "dash", "ash", "zsh", "ksh", "fish", "su", "ssh"];

/// Options whose names do not say it: programs, options, meaning.
const OPTIONS: &[(&[&str], &[&str], Meaning)] = &[
    (MYSQL, &["-p"], Meaning::SecretJoined),
    (MYSQL, &["-e", "--execute"], Meaning::Statement),
    (&["psql"], &["-c", "--command"], Meaning::Statement),
    (&["sshpass", "useradd", "usermod"], &["-p"], Meaning::Secret),
    (&["redis-cli", "valkey-cli"], &["-a"], Meaning::Secret),
    (HTTP, &["-u", "-U", "-E", "-a", "-A", "--user", "--proxy-user", "--cert"], Meaning::UserColon),
    (HTTP, &["-H", "--header", "--proxy-header"], Meaning::Header),
    (HTTP, &["-b", "--cookie"], Meaning::Cookies),
    (HTTP, &["-d", "-F", "--form", "--json", "--url-query", "--post-data", "--body-data"], Meaning::Data),
    (HTTP, &["--data", "--data-raw", "--data-binary", "--data-ascii", "--data-urlencode"], Meaning::Data),
    (HTTP, &["--oauth2-bearer"], Meaning::Secret),
    (MONGO, &["-p"], Meaning::Secret),
    (LDAP, &["-w", "-s", "-a"], Meaning::Secret),
    (&["docker login", "podman login", "helm login"], &["-p"], Meaning::Secret),
    (&["openssl"], &["-k", "-K", "-pass", "-passin", "-passout"], Meaning::Secret),
    (&["zip", "unzip", "sqlcmd", "bcp", "isql"], &["-P"], Meaning::Secret),
    (&["7z", "7za", "7zz", "rar", "unrar"], &["-p"], Meaning::SecretJoined),
    (&["smbclient", "rpcclient", "net"], &["-U"], Meaning::UserPercent),
];

/// The parts of each argument that are to be masked.
pub(crate) fn find(policy: &Policy, arguments: &[String]) -> Vec<Vec<Span>> {
    let words: Vec<Word<'_>> =
        arguments.iter().enumerate().map(|(argument, text)| Word { argument, start: 0, text }).collect();
    let mut spans = vec![Vec::new(); arguments.len()];
    walk(policy, &words, 0, &mut spans);
    for (argument, spans) in arguments.iter().zip(&mut spans) {
        policy.find(argument.as_bytes(), Place::TEXT, spans);
    }
    spans
}

/// A word of a command line: an argument, or a part of one.
#[derive(Clone, Copy)]
struct Word<'a> {
    argument: usize,
    /// Where in the argument it begins.
    start: usize,
    text: &'a str,
}

impl Word<'_> {
    /// Masks this word from `from` on.
    fn mask(self, from: usize, mark: Mark, spans: &mut [Vec<Span>]) {
        spans[self.argument].push(Span::new(self.start + from, self.start + self.text.len(), mark));
    }
}

fn walk(policy: &Policy, words: &[Word<'_>], depth: usize, spans: &mut [Vec<Span>]) {
    let mut program = String::new();
    // The option before this word, which has its value in this word.
    let mut pending: Option<(Meaning, Mark)> = None;
    for &word in words {
        let option = word.text.starts_with('-') && (word.text.len() == 2 || word.text.starts_with("--"));
        if let Some((meaning, mark)) = pending.take().filter(|_| !option) {
            value(policy, word, 0, meaning, mark, spans);
            continue;
        }
        if word.text.starts_with('-') {
            pending = read_option(policy, &program, word, spans);
            continue;
        }
        let assigned =
            word.text.split_once('=').and_then(|(name, _)| Some((name, secret_mark(name.as_bytes())?)));
        let spaced = word.text.contains(char::is_whitespace);
        if let Some((name, mark)) = assigned.filter(|(name, _)| is_variable(name)) {
            // For a shell the value ends at a space, for anybody else at the end of the argument.
            if !(spaced && SHELLS.contains(&program.as_str())) {
                word.mask(name.len() + 1, mark, spans);
                continue;
            }
        }
        if spaced && depth < DEPTH_MAX {
            walk(policy, &split(word), depth + 1, spans);
            continue;
        }
        let name = word.text.rsplit('/').next().unwrap_or(word.text);
        if program.is_empty() || is_listed(name) {
            program = name.to_owned();
        } else if name == "login" {
            program.push_str(" login");
        }
        // `set aws_secret_access_key X`; a name without `_` is more likely a word.
        if word.text.contains('_') && !word.text.contains('=') {
            pending = secret_mark(word.text.as_bytes()).map(|mark| (Meaning::Secret, mark));
        }
    }
}

/// Whether this can be the name of a variable or setting.
fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

fn is_listed(name: &str) -> bool {
    OPTIONS.iter().any(|(programs, _, _)| programs.contains(&name))
        || SHELLS.contains(&name)
        || matches!(name, "docker" | "podman" | "helm")
}

/// An option: masks the value that it holds, or says what the next word is.
fn read_option(
    policy: &Policy,
    program: &str,
    word: Word<'_>,
    spans: &mut [Vec<Span>],
) -> Option<(Meaning, Mark)> {
    let (name, joined) = match word.text.split_once('=') {
        Some((name, _)) => (name, Some(name.len() + 1)),
        None => (word.text, None),
    };
    let mut listed = OPTIONS.iter().filter(|(programs, _, _)| programs.contains(&program));
    // One letter with its value in the same word.
    let short = name.get(..2).filter(|_| !name.starts_with("--"));
    let found = listed.find_map(|(_, options, meaning)| {
        if options.contains(&name) {
            return Some((*meaning, joined));
        }
        let short = short.filter(|short| options.contains(short))?;
        Some((*meaning, Some(short.len())))
    });
    let (meaning, joined) = match found {
        Some(found) => found,
        None => (Meaning::Secret, joined),
    };
    let mark = match (found, secret_mark(name.as_bytes())) {
        (_, Some(mark)) => mark,
        (Some(_), None) => Mark::redact("password"),
        (None, None) => return None,
    };
    match joined {
        Some(from) => value(policy, word, from, meaning, mark, spans),
        None if meaning == Meaning::SecretJoined => {}
        None => return Some((meaning, mark)),
    }
    None
}

/// The value of an option: this word from `from` on.
fn value(
    policy: &Policy,
    word: Word<'_>,
    from: usize,
    meaning: Meaning,
    mark: Mark,
    spans: &mut [Vec<Span>],
) {
    let text = &word.text[from..];
    let after = |separator: char| text.find(separator).map(|at| from + at + 1);
    let mut found = Vec::new();
    match meaning {
        Meaning::Secret | Meaning::SecretJoined => return word.mask(from, mark, spans),
        Meaning::UserColon | Meaning::UserPercent => {
            let separator = if meaning == Meaning::UserColon { ':' } else { '%' };
            if let Some(password) = after(separator) {
                word.mask(password, mark, spans);
            }
            return;
        }
        Meaning::Header => {
            let Some(colon) = text.find(':') else { return };
            let first = colon + 1 + text[colon + 1..].len() - text[colon + 1..].trim_start().len();
            pairs::header(policy, &text[..colon].to_ascii_lowercase(), &text[first..], &mut found);
            for span in &mut found {
                span.start += first;
                span.end += first;
            }
        }
        Meaning::Cookies => pairs::header(policy, "cookie", text, &mut found),
        Meaning::Data if text.trim_start().starts_with(['{', '[']) => {
            json::find(policy, text, Place::TEXT, &mut found);
        }
        Meaning::Data => pairs::query(policy, text, &mut found),
        Meaning::Statement => drop(sql::find(policy, text, &mut found)),
    }
    let moved = found.into_iter().map(|span| Span {
        start: word.start + from + span.start,
        end: word.start + from + span.end,
        ..span
    });
    spans[word.argument].extend(moved);
}

/// The words of a command line, quotes taken off as far as they enclose whole words.
fn split(word: Word<'_>) -> Vec<Word<'_>> {
    let bytes = word.text.as_bytes();
    let mut words = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at].is_ascii_whitespace() || matches!(bytes[at], b';' | b'|' | b'(' | b')') {
            at += 1;
            continue;
        }
        let quote = Some(bytes[at]).filter(|byte| matches!(byte, b'"' | b'\''));
        let start = at + usize::from(quote.is_some());
        let end = match quote {
            Some(quote) => bytes[start..].iter().position(|&byte| byte == quote),
            None => word_end(&bytes[start..]),
        };
        let end = end.map_or(bytes.len(), |length| start + length);
        words.push(Word { argument: word.argument, start: word.start + start, text: &word.text[start..end] });
        at = end + 1;
    }
    words
}

/// Where a word ends: at a space outside of quotes.
fn word_end(bytes: &[u8]) -> Option<usize> {
    let mut quote = None;
    bytes.iter().position(|&byte| {
        match (quote, byte) {
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), byte) if open == byte => quote = None,
            (None, byte) => return byte.is_ascii_whitespace() || matches!(byte, b';' | b'|' | b')'),
            _ => {}
        }
        false
    })
}
