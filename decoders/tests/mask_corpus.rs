//! The masker over texts that nobody here wrote: statements without anything sensitive come out as they went
//! in, and the recognisers are measured against another project's cases.

use std::path::PathBuf;

use custody_decoders::item::{Class, Dialect, Field};
use custody_decoders::mask::{Draft, Masker};
use custody_record::{Kind, Record, Times, Value};

/// The folder of the corpus, or `None` after saying what is skipped.
fn corpus(file: &str) -> Option<String> {
    let folder = std::env::var_os("CUSTODY_CORPUS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus"), PathBuf::from);
    let path = folder.join("text").join(file);
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "{}: {error}; set CUSTODY_CORPUS", path.display());
            eprintln!("SKIPPED: {} cannot be read ({error}); set CUSTODY_CORPUS", path.display());
            None
        }
    }
}

fn mask(text: &str, class: Class) -> Record {
    let fields = vec![Field::new("field", text, class)];
    let times = Times::default();
    let draft = Draft {
        kind: Kind::Exchange,
        session: None,
        exchange: None,
        times,
        fields,
        rows: None,
        anomalies: vec![],
    };
    Masker::default().mask(draft).into_inner()
}

fn text_of(record: &Record) -> &str {
    match &record.fields["field"] {
        Value::Text(text) => text,
        other => panic!("not a text: {other:?}"),
    }
}

/// Cells of these files have tabs and newlines escaped.
fn unescaped(cell: &str) -> String {
    cell.replace("\\n", "\n").replace("\\t", "\t")
}

#[test]
fn statements_without_secrets_come_out_as_they_went_in() {
    let sql = Class::Statement(Dialect::Postgres);
    for (file, column) in [("sql_pgaudit.tsv", 7), ("sql_sqlfluff.tsv", 4), ("sql_pg_normalize.tsv", 0)] {
        let Some(text) = corpus(file) else { return };
        let (mut same, mut changed) = (0, 0);
        for line in text.lines().skip(1) {
            let Some(cell) = line.split('\t').nth(column) else { continue };
            let statement = unescaped(cell);
            let record = mask(&statement, sql.clone());
            assert!(record.anomalies.is_empty(), "{:?}: {statement}", record.anomalies);
            if record.masked.is_empty() {
                assert_eq!(text_of(&record), statement);
                same += 1;
            } else {
                changed += 1;
                println!("{file}: {:?}", record.kinds);
                assert_outside_of_masks(text_of(&record), &statement);
            }
        }
        println!("{file}: {same} statements byte for byte, {changed} with something masked");
        assert!(same > changed, "{file}");
    }
}

/// What stands between the masks stands in the statement too, in that order.
fn assert_outside_of_masks(masked: &str, statement: &str) {
    let mut rest = statement;
    for (index, piece) in masked.split('‹').enumerate() {
        let kept = if index == 0 { piece } else { piece.split_once('›').map_or(piece, |(_, kept)| kept) };
        let at = rest.find(kept).unwrap_or_else(|| panic!("{kept:?} does not stand in {statement:?}"));
        rest = &rest[at + kept.len()..];
    }
}

#[test]
fn recognisers_against_the_cases_of_another_project() {
    let Some(text) = corpus("pii_presidio.tsv") else { return };
    for (recogniser, kind) in [("email", "email"), ("credit_card", "card")] {
        let (mut expected_all, mut found_all, mut both) = (0, 0, 0);
        for line in text.lines().skip(1).filter(|line| line.starts_with(&format!("{recogniser}\t"))) {
            let cells: Vec<&str> = line.split('\t').collect();
            let expected: u64 = cells[2].parse().expect("a count");
            let found = mask(cells[1], Class::Text).kinds.get(kind).copied().unwrap_or(0);
            if found != expected {
                println!("{recogniser}: expected {expected}, found {found}");
            }
            expected_all += expected;
            found_all += found;
            both += expected.min(found);
        }
        println!("{kind}: {expected_all} expected, {found_all} found, {both} in both");
        assert!(both * 10 >= expected_all * 9, "{kind}: recall below nine tenths");
        assert!(both * 10 >= found_all * 9, "{kind}: precision below nine tenths");
    }
    // Texts of other kinds must not be taken for these.
    let mut others = 0;
    for line in text.lines().skip(1) {
        let cells: Vec<&str> = line.split('\t').collect();
        if matches!(
            cells[0],
            "email" | "credit_card" | "url" | "spacy" | "stanza" | "transformers" | "pattern"
        ) {
            continue;
        }
        let kinds = mask(cells[1], Class::Text).kinds;
        if !kinds.is_empty() {
            println!("{}: {kinds:?}", cells[0]);
            others += 1;
        }
    }
    println!("{others} texts of other kinds had something masked");
}
