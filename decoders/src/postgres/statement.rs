//! What a statement tells without its values: first words and main table for the summary, and the columns
//! that its parameters meet, so that masking can go by column name.
//!
//! One linear pass of a lexer that knows PostgreSQL's quoting; no grammar. What it does not understand it
//! leaves out. Nothing of a literal ever gets into a summary.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::lexer::{Token, tokens};
use super::parameters::parameters;
use super::words::{COMMANDS, FILLERS, OBJECTS, known};
use crate::work;

/// Tokens of one statement that are looked at.
const TOKENS_MAX: usize = 16_384;
/// Statements of one message that are named in its summary.
const SUMMARIES_MAX: usize = 4;

/// Statements of one connection that are remembered; a newer one takes the place of the oldest.
const RECENT_MAX: usize = 32;
/// Bytes of what is remembered of one.
const RECENT_BYTES_MAX: usize = 1 << 10;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// Such as `SELECT accounts`; empty when the first word is no command of PostgreSQL.
    pub(super) summary: String,
    /// Column that parameter N meets, at N - 1; empty where unknown.
    parameters: Vec<String>,
    /// A COPY may be among its commands.
    pub(super) copies: bool,
}

impl Facts {
    /// Reads a statement.
    pub(super) fn of(text: &str) -> Self {
        work::looked_at(text.len());
        let tokens: Vec<Token<'_>> = tokens(text).take(TOKENS_MAX).collect();
        let summaries: Vec<String> = tokens
            .split(|token| *token == Token::Mark(b';'))
            .filter(|statement| !statement.is_empty())
            .take(SUMMARIES_MAX)
            .map_while(summary)
            .collect();
        let copies = tokens.iter().any(|token| known(*token, &["COPY"]).is_some());
        Facts { summary: summaries.join("; "), parameters: parameters(&tokens), copies }
    }
    /// The column that parameter `number` (from 1) meets; empty when unknown.
    pub(super) fn parameter(&self, number: usize) -> &str {
        number.checked_sub(1).and_then(|index| self.parameters.get(index)).map_or("", String::as_str)
    }
    /// Bytes that are held.
    pub(super) fn bytes(&self) -> usize {
        self.summary.len()
            + self.parameters.iter().map(|name| name.len() + size_of::<String>()).sum::<usize>()
    }
}

/// Facts of the statements that came last on a connection: programs repeat themselves. By the hash of their text
/// under a key that nobody knows, so that no text is kept.
#[derive(Debug, Default)]
pub(super) struct Recent {
    hasher: RandomState,
    facts: VecDeque<(u64, Arc<Facts>)>,
}

impl Recent {
    /// Reads a statement, or knows it.
    pub(super) fn facts_of(&mut self, text: &str) -> Arc<Facts> {
        let hash = self.hasher.hash_one(text);
        if let Some((_, known)) = self.facts.iter().find(|(known, _)| *known == hash) {
            return known.clone();
        }
        let facts = Arc::new(Facts::of(text));
        if facts.bytes() <= RECENT_BYTES_MAX {
            self.facts.truncate(RECENT_MAX - 1);
            self.facts.push_front((hash, facts.clone()));
        }
        facts
    }

    /// Bytes that are held.
    pub(super) fn held_bytes(&self) -> usize {
        self.facts.iter().map(|(_, facts)| size_of::<Facts>() + facts.bytes()).sum()
    }
}

/// Command and main object of one statement; `None` when the first word is no command.
fn summary(tokens: &[Token<'_>]) -> Option<String> {
    let (first, rest) = tokens
        .iter()
        .position(|token| *token != Token::Mark(b'('))
        .map(|at| (tokens[at], &tokens[at + 1..]))?;
    let command = known(first, COMMANDS)?;
    let object = match command {
        "SELECT" => after_from(rest),
        "DELETE" | "INSERT" | "UPDATE" | "MERGE" | "COPY" | "TRUNCATE" | "LOCK" | "TABLE" => {
            name_after(rest, &["TABLE"])
        }
        "CREATE" | "ALTER" | "DROP" => return Some(format!("{command}{}", object_and_name(rest))),
        "WITH" => return Some(main_command(rest).unwrap_or_else(|| command.to_owned())),
        "EXPLAIN" => {
            let inner = main_command(rest);
            return Some(inner.map_or_else(|| command.to_owned(), |inner| format!("{command} {inner}")));
        }
        _ => None,
    };
    Some(object.map_or_else(|| command.to_owned(), |object| format!("{command} {object}")))
}

/// The first data command outside of parentheses.
fn main_command(tokens: &[Token<'_>]) -> Option<String> {
    const MAIN: &[&str] = &["SELECT", "INSERT", "UPDATE", "DELETE", "MERGE"];
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Mark(b'(') => depth += 1,
            Token::Mark(b')') => depth = depth.saturating_sub(1),
            _ if depth == 0 && known(*token, MAIN).is_some() => return summary(&tokens[at..]),
            _ => {}
        }
    }
    None
}

/// The table after the first FROM outside of parentheses.
fn after_from(tokens: &[Token<'_>]) -> Option<String> {
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Mark(b'(') => depth += 1,
            Token::Mark(b')') => depth = depth.checked_sub(1)?,
            Token::Word(word) if depth == 0 && word.eq_ignore_ascii_case("FROM") => {
                return name_after(&tokens[at + 1..], &[]);
            }
            _ => {}
        }
    }
    None
}

/// Words of the object's kind, then its name.
fn object_and_name(tokens: &[Token<'_>]) -> String {
    let mut found = String::new();
    for (at, token) in tokens.iter().enumerate() {
        if let Some(object) = known(*token, OBJECTS) {
            found.push(' ');
            found.push_str(object);
        } else if known(*token, FILLERS).is_none() {
            if let Some(name) = (!found.is_empty()).then(|| name_after(&tokens[at..], &[])).flatten() {
                found.push(' ');
                found.push_str(&name);
            }
            break;
        }
    }
    found
}

/// A possibly qualified name, after fillers and the words of `skipped`.
fn name_after(tokens: &[Token<'_>], skipped: &[&str]) -> Option<String> {
    let start = tokens
        .iter()
        .position(|token| known(*token, FILLERS).is_none() && known(*token, skipped).is_none())?;
    let mut name = tokens[start].name()?.to_owned();
    for pair in tokens[start + 1..].chunks_exact(2).take(3) {
        match (pair[0], pair[1].name()) {
            (Token::Mark(b'.'), Some(part)) => {
                name.push('.');
                name.push_str(part);
            }
            _ => break,
        }
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, summary: &str, parameters: &[&str]) {
        let facts = Facts::of(text);
        assert_eq!(facts.summary, summary, "{text}");
        assert_eq!(facts.parameters, parameters, "{text}");
    }

    #[test]
    fn commands_with_their_main_table() {
        check("select * from public.accounts a where a.id = $1", "SELECT public.accounts", &["id"]);
        check("SELECT abalance FROM pgbench_accounts WHERE aid = 42;", "SELECT pgbench_accounts", &[]);
        check("insert into t (a, b) values ($1, lower($2)), ($3, 7)", "INSERT t", &["a", "b", "a"]);
        check("UPDATE ONLY \"My Table\" SET email = $2 WHERE id = $1", "UPDATE My Table", &["id", "email"]);
        check("delete from test where id=$1 returning id", "DELETE test", &["id"]);
        check("with x as (select 1) delete from y where z in ($1, $2)", "DELETE y", &["z", "z"]);
        check("explain (analyze) select 1 from t", "EXPLAIN SELECT t", &[]);
        check("create unique index concurrently if not exists i on t(c)", "CREATE INDEX i", &[]);
        check("create or replace function f() returns int as $$ select 'x' $$", "CREATE FUNCTION f", &[]);
        check("alter user bob password 'canary'", "ALTER USER bob", &[]);
        check("copy (select 1) to stdout", "COPY", &[]);
        check("copy t from stdin", "COPY t", &[]);
        check("begin; insert into t values (1); commit", "BEGIN; INSERT t; COMMIT", &[]);
        check("select extract(year from d) from t", "SELECT t", &[]);
        check("select 1", "SELECT", &[]);
    }

    #[test]
    fn a_first_word_that_is_no_command_never_shows() {
        check("canary-password", "", &[]);
        check("'canary'", "", &[]);
        check("", "", &[]);
    }

    #[test]
    fn parameters_meet_their_columns() {
        check("select 1 from t where lower(email) like $1", "SELECT t", &["email"]);
        check("select 1 from t where $1 = t.card", "SELECT t", &["card"]);
        check("select 1 from t where d between $1 and $2", "SELECT t", &["d", "d"]);
        check("select 1 from t where id = any($1)", "SELECT t", &["id"]);
        check("select 1 from t where a not in ($1)", "SELECT t", &["a"]);
        check(
            "update t set password = crypt($1, gen_salt('bf')) where id = $2",
            "UPDATE t",
            &["password", "id"],
        );
        check("select $1::text", "SELECT", &[]);
        check("select 1 from t where a = $1 and b = $2 limit $3", "SELECT t", &["a", "b"]);
    }

    #[test]
    fn a_hostile_parameter_number_reserves_nothing() {
        let facts = Facts::of("select 1 from t where a = $4294967295 and b = $99999999999999999999");
        assert_eq!(facts.parameters.len(), 0);
    }
}
