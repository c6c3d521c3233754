//! Conversations as text (`.cap`), so that a person can read and write them: cases of the harness, and a form of
//! capture that `custody decode` takes. Parses and nothing else; what a file asks to be repeated is bounded.
//!
//! A file holds cases, each begun by `case NAME`; before the first one stand what holds for all. Lines:
//!
//! ```text
//! # a remark
//! case NAME               a conversation begins
//! middle                  its beginning was not seen
//! limit frame_bytes 4096  a limit of its own (frame_bytes, body_bytes, rows, pending, names)
//! secret WORD             must not survive masking
//! > 120 "GET / HTTP/1.1\r\n"   bytes up, at microsecond 120; escapes \r \n \t \0 \\ \" \xNN
//! < 180 0a0b0c            bytes down, hexadecimal
//! > 200 repeat 3 "ab"     the same bytes several times
//! < 210 gap 100           bytes that are missing
//! > 220 end               the direction ends in order
//! ```

use crate::protocol::{Direction, Limits};

/// Bytes that all steps of a file may have, repetitions included.
const STEPS_BYTES_MAX: usize = 64 << 20;

/// One conversation.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its name: file and case.
    pub name: String,
    /// Its beginning was not seen.
    pub middle: bool,
    /// Limits of the connection.
    pub limits: Limits,
    /// What must not survive masking.
    pub secrets: Vec<String>,
    /// What happened, in the order in which it was seen.
    pub steps: Vec<Step>,
}

/// One thing that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which way.
    pub direction: Direction,
    /// When, boottime ns.
    pub time_ns: u64,
    /// What.
    pub what: What,
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Bytes.
    Bytes(Vec<u8>),
    /// So many bytes are missing.
    Gap(u64),
    /// The direction ended in order.
    End,
}

impl Case {
    /// Bytes of both directions.
    pub fn len(&self) -> usize {
        self.steps.iter().map(|step| if let What::Bytes(bytes) = &step.what { bytes.len() } else { 0 }).sum()
    }

    /// Nothing was said.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Reads a file of cases. `Err` names the line.
pub fn parse(file: &str, text: &str) -> Result<Vec<Case>, String> {
    let mut common = new_case(file.to_owned());
    let mut cases: Vec<Case> = Vec::new();
    let mut left = STEPS_BYTES_MAX;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix("case ") {
            cases.push(Case { name: format!("{file}: {name}"), ..common.clone() });
            continue;
        }
        if cases.is_empty() && line.starts_with(['>', '<']) {
            cases.push(common.clone());
        }
        read_line(cases.last_mut().unwrap_or(&mut common), line, &mut left)
            .map_err(|why| format!("{file}, line {}: {why}", number + 1))?;
    }
    if cases.is_empty() { Err(format!("{file}: no case")) } else { Ok(cases) }
}

fn new_case(name: String) -> Case {
    Case { name, middle: false, limits: Limits::default(), secrets: Vec::new(), steps: Vec::new() }
}

fn read_line(case: &mut Case, line: &str, left: &mut usize) -> Result<(), String> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    match word {
        "middle" => case.middle = true,
        "secret" => case.secrets.push(rest.to_owned()),
        "limit" => {
            let (name, value) = rest.split_once(' ').ok_or("a limit has a name and a number")?;
            let value = number(value)? as usize;
            *match name {
                "frame_bytes" => &mut case.limits.frame_bytes_max,
                "body_bytes" => &mut case.limits.body_bytes_max,
                "rows" => &mut case.limits.rows_max,
                "pending" => &mut case.limits.pending_max,
                "names" => &mut case.limits.names_max,
                other => return Err(format!("no limit is called {other}")),
            } = value;
        }
        ">" | "<" => {
            let direction = if word == ">" { Direction::Up } else { Direction::Down };
            let (micros, what) = rest.split_once(' ').ok_or("time and bytes are missing")?;
            let time_ns = number(micros)?.saturating_add(1).saturating_mul(1000);
            case.steps.push(Step { direction, time_ns, what: read_what(what, left)? });
        }
        other => return Err(format!("{other:?} begins no line")),
    }
    Ok(())
}

fn read_what(text: &str, left: &mut usize) -> Result<What, String> {
    if text == "end" {
        return Ok(What::End);
    }
    if let Some(length) = text.strip_prefix("gap ") {
        return Ok(What::Gap(number(length)?));
    }
    if let Some(repeated) = text.strip_prefix("repeat ") {
        let (times, bytes) = repeated.split_once(' ').ok_or("repeat has a number and bytes")?;
        let (times, bytes) = (number(times)?, read_bytes(bytes)?);
        let times = usize::try_from(times).unwrap_or(usize::MAX);
        take(left, bytes.len().saturating_mul(times))?;
        return Ok(What::Bytes(bytes.repeat(times)));
    }
    let bytes = read_bytes(text)?;
    take(left, bytes.len())?;
    Ok(What::Bytes(bytes))
}

fn take(left: &mut usize, bytes: usize) -> Result<(), String> {
    *left =
        left.checked_sub(bytes).ok_or_else(|| format!("more than {STEPS_BYTES_MAX} bytes in one file"))?;
    Ok(())
}

fn read_bytes(text: &str) -> Result<Vec<u8>, String> {
    match text.strip_prefix('"').map(|inner| inner.strip_suffix('"').ok_or("a quote is open")) {
        Some(inner) => unescape(inner?),
        None => hex::decode(text).map_err(|error| error.to_string()),
    }
}

fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes().iter();
    while let Some(&byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next() {
            Some(b'r') => b'\r',
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'0') => 0,
            Some(b'\\') => b'\\',
            Some(b'"') => b'"',
            Some(b'x') => {
                let digits = rest.as_slice().get(..2).ok_or("\\x has two digits")?;
                rest = rest.as_slice()[2..].iter();
                hex::decode(digits).map_err(|error| error.to_string())?[0]
            }
            _ => return Err("an unknown escape".to_owned()),
        });
    }
    Ok(bytes)
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|error| format!("{text:?}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_cases_is_read() {
        let text = "# remark\nlimit rows 3\n\ncase one\nsecret canary\n> 1 \"a\\x00\\\"\\r\\n\"\n< 2 0a0B\ncase two\nmiddle\n> 0 repeat 2 \"ab\"\n< 1 gap 7\n> 2 end\n";
        let cases = parse("file", text).expect("cases");
        assert_eq!(cases.len(), 2);
        assert_eq!((cases[0].name.as_str(), cases[0].limits.rows_max), ("file: one", 3));
        assert_eq!(cases[0].steps[0].what, What::Bytes(b"a\0\"\r\n".to_vec()));
        assert_eq!(cases[0].steps[1].what, What::Bytes(vec![10, 11]));
        assert_eq!(cases[0].steps[1].time_ns, 3000);
        assert!(cases[1].middle && cases[1].secrets.is_empty());
        let whats: Vec<_> = cases[1].steps.iter().map(|step| step.what.clone()).collect();
        assert_eq!(whats, [What::Bytes(b"abab".to_vec()), What::Gap(7), What::End]);
    }

    #[test]
    fn a_repetition_without_measure_is_refused() {
        let end = format!("> {} end", u64::MAX);
        assert!(parse("file", &end).is_ok(), "a time without measure is the last one");
        for bad in ["> 1 repeat 18446744073709551615 \"ab\"", "> 1 repeat 67108865 \"a\""] {
            assert!(parse("file", bad).is_err_and(|why| why.contains("bytes in one file")), "{bad}");
        }
        let many = "> 1 repeat 1048577 \"a\"\n".repeat(64);
        assert!(parse("file", &many).is_err());
    }

    #[test]
    fn what_cannot_be_read_names_its_line() {
        for bad in ["> 1 zz", "> 1 \"open", "> x 00", "case a\nlimit rows", "what", "> 1 \"\\q\"", ""] {
            assert!(parse("file", bad).is_err(), "{bad}");
        }
        assert!(parse("file", "case a\n> 1 zz").is_err_and(|why| why.contains("line 2")));
    }
}
