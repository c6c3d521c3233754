//! `custody-agent mask-test`: what masking would leave of a text, with the configuration in force. Reads the file
//! that it is given, in pieces; prints what would be stored and counts, never what was masked.

use std::collections::BTreeMap;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::Path;

use anyhow::{Context, Result};
use custody_decoders::item::{Class, Dialect, Field};
use custody_decoders::mask::{Draft, MaskRules, Masker};
use custody_record::{Kind, Times, Value};
use serde::Serialize;

use crate::config::{self, Config, ConfigError};

/// Most bytes that are masked at once: a record holds little more. Longer texts are cut at ends of lines.
const PIECE_BYTES_MAX: usize = 3 << 20;
/// The one field of the records that are made here.
const FIELD: &str = "text";

/// As what a text is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Anything that somebody wrote.
    Text,
    /// JSON, also one text a line.
    Json,
    /// XML.
    Xml,
    /// A query string or form.
    Form,
    /// A statement.
    Sql,
    /// Each line the arguments of a program, as `ps` shows them.
    Arguments,
    /// Each line a value of this header.
    Header(String),
    /// Each line a value of this column.
    Column(String),
    /// Each line the value under this key of a key-value store.
    Key(String),
}

impl std::str::FromStr for Reading {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, name) = text.split_once(':').unwrap_or((text, ""));
        let named = |make: fn(String) -> Reading| match name {
            "" => Err(format!("`{kind}` needs a name, such as {kind}:email")),
            name => Ok(make(name.to_owned())),
        };
        match (kind, name) {
            ("text", "") => Ok(Reading::Text),
            ("json", "") => Ok(Reading::Json),
            ("xml", "") => Ok(Reading::Xml),
            ("form", "") => Ok(Reading::Form),
            ("sql", "") => Ok(Reading::Sql),
            ("arguments", "") => Ok(Reading::Arguments),
            ("header", _) => named(|name| Reading::Header(name.to_ascii_lowercase())),
            ("column", _) => named(Reading::Column),
            ("key", _) => named(Reading::Key),
            _ => {
                Err("it is one of text, json, xml, form, sql, arguments, header:NAME, column:NAME, key:NAME"
                    .into())
            }
        }
    }
}

impl Reading {
    /// What the file's name or first bytes tell.
    fn guess(file: &Path, head: &[u8]) -> Self {
        let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or("");
        match (extension, head.trim_ascii_start()) {
            ("json" | "ndjson" | "jsonl", _) => Reading::Json,
            ("sql", _) => Reading::Sql,
            ("xml", _) => Reading::Xml,
            ("", [b'{', ..]) => Reading::Json,
            ("", [b'<', b'?', b'x', b'm', b'l', ..]) => Reading::Xml,
            _ => Reading::Text,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Reading::Text => "text",
            Reading::Json => "json",
            Reading::Xml => "xml",
            Reading::Form => "form",
            Reading::Sql => "sql",
            Reading::Arguments => "arguments",
            Reading::Header(_) => "header",
            Reading::Column(_) => "column",
            Reading::Key(_) => "key",
        }
    }

    fn by_line(&self) -> bool {
        matches!(self, Reading::Arguments | Reading::Header(_) | Reading::Column(_) | Reading::Key(_))
    }

    fn class(&self) -> Class {
        let body =
            |media_type: &str| Class::Body { media_type: media_type.to_owned(), coding: String::new() };
        match self {
            Reading::Text => Class::Text,
            Reading::Json => body("application/json"),
            Reading::Xml => body("application/xml"),
            Reading::Form => Class::Query,
            Reading::Sql => Class::Statement(Dialect::Postgres),
            Reading::Arguments => Class::Arguments,
            Reading::Header(name) => Class::Header { name: name.clone() },
            Reading::Column(name) => Class::Value { name: name.clone() },
            Reading::Key(name) => Class::Keyed { key: name.clone(), field: String::new() },
        }
    }
}

/// What was done to a file, without anything of it.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// As what it was read.
    pub read_as: &'static str,
    /// Its length.
    pub bytes: u64,
    /// Values that would be masked.
    pub masked: u64,
    /// The same by kind.
    pub kinds: BTreeMap<String, u64>,
    /// Which masking this was: the hash that stands in the record.
    pub masker: String,
}

/// Masks a file (`-`: standard input). What would be stored goes to `out` when there is one.
pub fn run(
    config: &Path,
    file: &Path,
    reading: Option<Reading>,
    out: Option<&mut dyn Write>,
) -> Result<Summary> {
    let masker = Masker::new(rules(config)?)?;
    let mut input: Box<dyn BufRead> = if file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        let opened = std::fs::File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
        Box::new(io::BufReader::new(opened))
    };
    mask(&masker, &mut input, file, reading, out)
}

/// The rules in force. Where nothing is installed those are the defaults.
fn rules(path: &Path) -> Result<MaskRules> {
    match Config::load(path) {
        Err(ConfigError::Read { source, .. })
            if source.kind() == io::ErrorKind::NotFound && path == Path::new(config::DEFAULT_PATH) =>
        {
            eprintln!("custody-agent: there is no {}: the defaults are used", path.display());
            Ok(MaskRules::default())
        }
        loaded => Ok(loaded?.masking),
    }
}

fn mask(
    masker: &Masker,
    input: &mut dyn BufRead,
    file: &Path,
    reading: Option<Reading>,
    mut out: Option<&mut dyn Write>,
) -> Result<Summary> {
    let reading = match reading {
        Some(reading) => reading,
        None => Reading::guess(file, input.fill_buf()?),
    };
    let mut summary = Summary {
        read_as: reading.name(),
        bytes: 0,
        masked: 0,
        kinds: BTreeMap::new(),
        masker: hex::encode(masker.rules_hash()),
    };
    let mut piece = Vec::new();
    while next(input, &mut piece, reading.by_line())? {
        summary.bytes += piece.len() as u64;
        let ends_line = reading.by_line() && piece.pop_if(|byte| *byte == b'\n').is_some();
        let masked = one(masker, &reading, std::mem::take(&mut piece), &mut summary.kinds);
        if let Some(out) = &mut out {
            out.write_all(masked.as_bytes())?;
            out.write_all(if ends_line { b"\n" } else { b"" })?;
        }
    }
    summary.masked = summary.kinds.values().sum();
    Ok(summary)
}

/// The next piece: a line, or whole lines up to the bound. `false` at the end.
fn next(input: &mut dyn BufRead, piece: &mut Vec<u8>, one_line: bool) -> io::Result<bool> {
    piece.clear();
    loop {
        let room = (PIECE_BYTES_MAX - piece.len()) as u64;
        let read = io::Read::take(&mut *input, room).read_until(b'\n', piece)?;
        if read == 0 || one_line || piece.len() == PIECE_BYTES_MAX {
            return Ok(!piece.is_empty());
        }
        // Room is left for a line of the usual length; a longer one is cut.
        if piece.len() > PIECE_BYTES_MAX / 2 {
            return Ok(true);
        }
    }
}

/// What would be stored of one value; counts what was masked in it.
fn one(masker: &Masker, reading: &Reading, bytes: Vec<u8>, kinds: &mut BTreeMap<String, u64>) -> String {
    let value = match (reading, String::from_utf8(bytes)) {
        (Reading::Arguments, Ok(line)) => {
            Value::List(line.split_whitespace().map(|word| Some(Value::from(word.to_owned()))).collect())
        }
        (_, Ok(text)) => Value::Text(text),
        (_, Err(error)) => Value::Bytes(error.into_bytes()),
    };
    let draft = Draft {
        kind: Kind::Exchange,
        session: None,
        exchange: None,
        times: Times::default(),
        fields: vec![Field::new(FIELD, value, reading.class())],
        rows: None,
        anomalies: Vec::new(),
    };
    let record = masker.mask(draft).into_inner();
    for (kind, count) in &record.kinds {
        *kinds.entry(kind.to_string()).or_default() += count;
    }
    shown(record.fields.get(FIELD))
}

fn shown(value: Option<&Value>) -> String {
    match value {
        Some(Value::Text(text)) => text.clone(),
        Some(Value::List(items)) => {
            items.iter().map(|item| shown(item.as_ref())).collect::<Vec<_>>().join(" ")
        }
        _ => String::new(),
    }
}

/// The summary for people.
pub fn text(summary: &Summary) -> String {
    let mut kinds: Vec<_> = summary.kinds.iter().collect();
    kinds.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    let list = if kinds.is_empty() { String::new() } else { format!(": {}", kinds.join(", ")) };
    format!("{} bytes read as {}, {} values masked{list}", summary.bytes, summary.read_as, summary.masked)
}

/// Standard output; on a terminal masks stand out, and what would steer the terminal does not.
#[derive(Debug)]
pub struct Paper {
    out: io::Stdout,
    colours: bool,
    terminal: bool,
}

impl Paper {
    /// As the environment wants it (`NO_COLOR`).
    pub fn new() -> Self {
        let out = io::stdout();
        let terminal = out.is_terminal();
        Paper { out, colours: terminal && std::env::var_os("NO_COLOR").is_none(), terminal }
    }
}

impl Default for Paper {
    fn default() -> Self {
        Paper::new()
    }
}

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.terminal {
            return self.out.write(bytes);
        }
        let mut line = String::new();
        for letter in String::from_utf8_lossy(bytes).chars() {
            match letter {
                '‹' if self.colours => line.push_str("\x1b[7m‹"),
                '›' if self.colours => line.push_str("›\x1b[0m"),
                '\n' | '\t' => line.push(letter),
                letter if letter.is_control() => line.extend(letter.escape_default()),
                letter => line.push(letter),
            }
        }
        self.out.write_all(line.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(text: &str, reading: &str) -> (String, Summary) {
        let reading = (!reading.is_empty()).then(|| reading.parse().unwrap());
        let mut out = Vec::new();
        let mut input = io::BufReader::new(text.as_bytes());
        let summary = mask(&Masker::default(), &mut input, Path::new("-"), reading, Some(&mut out)).unwrap();
        (String::from_utf8(out).unwrap(), summary)
    }

    #[test]
    fn each_reading_masks_what_it_knows() {
        for (reading, text, expected) in [
            ("", "mail ann@example.org\n", "mail ‹email·redact›\n"),
            ("", "{\"pin\": 1234}\n", "{\"pin\": \"‹secret·redact›\"}\n"),
            ("xml", "<a><pin>1</pin></a>", "<a><pin>‹secret·redact›</pin></a>"),
            ("form", "a=1&token=x", "a=1&token=‹token·redact›"),
            ("sql", "ALTER ROLE r PASSWORD 'x'", "ALTER ROLE r PASSWORD '‹password·redact›'"),
            ("arguments", "mysql -px1\ntrue\n", "mysql -p‹password·redact›\ntrue\n"),
            ("header:Cookie", "a=b\n", "a=‹cookie·redact›\n"),
            ("column:ssn", "536221234\n7\n", "‹us_ssn·redact›\n7\n"),
            ("key:user:7:password", "x", "‹password·redact›"),
        ] {
            assert_eq!(masked(text, reading).0, expected, "{reading}: {text}");
        }
    }

    #[test]
    fn a_long_text_is_masked_in_pieces_that_end_at_lines() {
        let line = "some words, and then ann@example.org\n";
        let count = 3 * PIECE_BYTES_MAX / line.len();
        let (out, summary) = masked(&line.repeat(count), "text");
        assert_eq!(summary.kinds.get("email"), Some(&(count as u64)));
        assert_eq!(out.lines().count(), count);
        assert!(out.lines().all(|line| line == "some words, and then ‹email·redact›"));
    }

    #[test]
    fn a_reading_that_is_none_is_refused_with_the_list() {
        for text in ["", "yaml", "text:x"] {
            let error = text.parse::<Reading>().unwrap_err();
            assert!(error.contains("column:NAME"), "{error}");
        }
        assert!("header".parse::<Reading>().unwrap_err().contains("header:email"));
    }
}
