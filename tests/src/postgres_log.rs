//! What PostgreSQL itself wrote down of the statements that it ran (`log_statement = all`, csvlog): the other
//! side of every comparison. It must not know how Custody writes anything.

use anyhow::{Context, Result, ensure};

/// A statement as the server logged it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// Process that ran it: one a connection.
    pub backend: u64,
    /// Name of the database user.
    pub user: String,
    /// Its text.
    pub text: String,
    /// Bound values in the server's spelling, `None` for NULL; no list where the server did not get so far.
    pub parameters: Option<Vec<Option<String>>>,
    /// SQLSTATE when it failed.
    pub status: Option<String>,
}

/// Columns of the server's csvlog, as its documentation numbers them.
const USER: usize = 1;
const BACKEND: usize = 3;
const SEVERITY: usize = 11;
const STATUS: usize = 12;
const MESSAGE: usize = 13;
const DETAIL: usize = 14;
const QUERY: usize = 19;

/// Reads a csvlog. A statement that fails is logged twice when it was begun: those are one.
pub fn statements(log: &str) -> Result<Vec<Logged>> {
    let mut found: Vec<Logged> = Vec::new();
    for row in rows(log) {
        ensure!(row.len() > QUERY, "a row of {} columns: {row:?}", row.len());
        let backend = row[BACKEND].parse().with_context(|| row[BACKEND].clone())?;
        let logged = |text: &str, parameters, status| Logged {
            backend,
            user: row[USER].clone(),
            text: text.to_owned(),
            parameters,
            status,
        };
        match row[SEVERITY].as_str() {
            "LOG" => {
                if let Some(text) = row[MESSAGE].strip_prefix("statement: ") {
                    found.push(logged(text, Some(Vec::new()), None));
                } else if let Some(execute) = row[MESSAGE].strip_prefix("execute ") {
                    let (_, text) = execute.split_once(": ").context("a statement's name")?;
                    found.push(logged(text, Some(parameters(&row[DETAIL])?), None));
                }
            }
            "ERROR" if !row[QUERY].is_empty() => {
                let begun = found.iter_mut().rev().find(|one| one.backend == backend);
                match begun.filter(|one| one.text == row[QUERY] && one.status.is_none()) {
                    Some(begun) => begun.status = Some(row[STATUS].clone()),
                    None => found.push(logged(&row[QUERY], None, Some(row[STATUS].clone()))),
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

/// Reads `parameters: $1 = 'it''s', $2 = NULL`.
fn parameters(detail: &str) -> Result<Vec<Option<String>>> {
    let mut values = Vec::new();
    let mut rest = detail.strip_prefix("parameters: ").unwrap_or_default();
    while !rest.is_empty() {
        rest = rest.split_once(" = ").with_context(|| detail.to_owned())?.1;
        if let Some(after) = rest.strip_prefix("NULL") {
            values.push(None);
            rest = after;
            continue;
        }
        let mut value = String::new();
        rest = rest.strip_prefix('\'').with_context(|| detail.to_owned())?;
        loop {
            let (piece, after) = rest.split_once('\'').with_context(|| detail.to_owned())?;
            value.push_str(piece);
            match after.strip_prefix('\'') {
                Some(more) => {
                    value.push('\'');
                    rest = more;
                }
                None => {
                    rest = after;
                    break;
                }
            }
        }
        values.push(Some(value));
    }
    Ok(values)
}

/// Rows of a CSV text (RFC 4180).
fn rows(text: &str) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let (mut row, mut cell, mut quoted) = (Vec::new(), String::new(), false);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                cell.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut cell)),
            '\n' if !quoted => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            other => cell.push(other),
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_line_ends_and_nothing_at_all_in_values() -> Result<()> {
        let row = |severity: &str, status: &str, message: &str, detail: &str, query: &str| {
            let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
            let mut cells = vec![String::new(); 26];
            cells[USER] = quoted("postgres");
            cells[BACKEND] = "7".into();
            for (at, text) in
                [(SEVERITY, severity), (STATUS, status), (MESSAGE, message), (DETAIL, detail), (QUERY, query)]
            {
                cells[at] = quoted(text);
            }
            cells.join(",") + "\n"
        };
        let detail = "parameters: $1 = 'it''s, \"so\"\nand', $2 = NULL, $3 = ''";
        let log = row("LOG", "00000", "execute <unnamed>: SELECT $1: x", detail, "")
            + &row("ERROR", "22012", "division by zero", "", "SELECT $1: x")
            + &row("ERROR", "42601", "syntax error", "", "SELEC")
            + &row("LOG", "00000", "checkpoint starting", "", "");
        let found = statements(&log)?;
        assert_eq!(found.len(), 2, "{found:?}");
        let values = [Some("it's, \"so\"\nand".to_owned()), None, Some(String::new())];
        assert_eq!(found[0].parameters.as_deref(), Some(&values[..]));
        assert_eq!((found[0].text.as_str(), found[0].status.as_deref()), ("SELECT $1: x", Some("22012")));
        assert_eq!((found[1].text.as_str(), &found[1].parameters), ("SELEC", &None));
        Ok(())
    }
}
