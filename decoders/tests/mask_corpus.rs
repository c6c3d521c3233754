//! The masker over texts that nobody here wrote: statements without anything sensitive come out as they went
//! in, and the recognisers are measured against another project's cases.

use std::path::PathBuf;

use custody_decoders::item::{Class, Dialect, Field};
use custody_decoders::mask::rules::{Literals, Recognisers, Setting};
use custody_decoders::mask::{Draft, MaskRules, Masker};
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
    mask_by(&Masker::default(), text, class)
}

fn mask_by(masker: &Masker, text: &str, class: Class) -> Record {
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
    masker.mask(draft).into_inner()
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

/// Where strings stand in a statement, told another way than the masker does: comments are taken off, then quotes
/// are counted. Statements whose strings have other quotes (`$$`, `E''`, names with `'`) are not read here.
fn strings(statement: &str) -> Option<Vec<String>> {
    let simple = !["$", "\\", "\"", "/*", "--", "#", "`"].iter().any(|other| statement.contains(other));
    simple.then(|| statement.replace("''", "").split('\'').skip(1).step_by(2).map(str::to_owned).collect())
}

#[test]
fn no_string_of_any_statement_is_left_unread() {
    let rules = MaskRules { literals: Literals::All, ..MaskRules::default() };
    let masker = Masker::new(rules).expect("one setting is valid");
    for (file, column, kind) in
        [("sql_pgaudit.tsv", 7, 3), ("sql_sqlfluff.tsv", 4, 0), ("sql_pg_normalize.tsv", 0, 0)]
    {
        let Some(text) = corpus(file) else { return };
        let mut read = std::collections::BTreeMap::<String, [usize; 2]>::new();
        for line in text.lines().skip(1) {
            let cells: Vec<&str> = line.split('\t').collect();
            let Some(cell) = cells.get(column) else { continue };
            let statement = unescaped(cell);
            let record = mask_by(&masker, &statement, Class::Statement(Dialect::Postgres));
            let out = text_of(&record);
            let class = if kind == column { "all" } else { cells[kind] };
            let count = read.entry(class.to_owned()).or_default();
            count[0] += 1;
            let Some(strings) = strings(&statement) else { continue };
            count[1] += strings.len();
            for string in strings.iter().filter(|string| string.len() > 2) {
                let quoted = format!("'{string}'");
                assert!(!out.contains(&quoted), "{quoted} is left in {out}");
            }
        }
        for (class, [statements, strings]) in read {
            println!("{file} {class}: {statements} statements, {strings} strings, all masked");
        }
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

/// Recognisers of the other project, and the kind that finds the same here. What stands not here is not looked
/// for: names of people and places, numbers of vehicles and companies, dates, postcodes, links. Behind them the least recall and precision, percent: less
/// than 100 where a case wants what is not looked for (`3998:7654:3211`, digits that run on from a word, a check digit that
/// is wrong), or where nothing tells a value from what it should not be (a passport's number has no check digit).
const SAME: &[(&str, &str, u64, u64)] = &[
    ("email", "email", 100, 100),
    ("credit_card", "card", 100, 100),
    ("crypto", "wallet", 100, 100),
    ("phone", "phone", 95, 100),
    ("ph_mobile_number", "phone", 100, 87),
    ("tr_phone_number", "phone", 100, 82),
    ("ip", "ip", 94, 100),
    ("mac", "mac", 100, 100),
    ("us_ssn", "us_ssn", 100, 100),
    ("us_itin", "us_itin", 100, 100),
    ("aba_routing", "us_aba", 100, 100),
    ("us_npi", "us_npi", 100, 75),
    ("us_mbi", "us_mbi", 100, 100),
    ("ca_sin", "ca_sin", 100, 100),
    ("uk_nhs", "uk_nhs", 100, 100),
    ("uk_nino", "uk_nino", 100, 100),
    ("uk_driving_licence", "uk_driving_licence", 100, 100),
    ("es_nif", "es_nif", 100, 100),
    ("es_nie", "es_nie", 100, 100),
    ("it_fiscal_code", "it_fiscal_code", 100, 100),
    ("it_vat_code", "it_vat", 50, 100),
    ("de_tax_id", "de_tax_id", 100, 100),
    ("de_social_security", "de_social_security", 100, 100),
    ("de_health_insurance", "de_health_insurance", 100, 100),
    ("pl_pesel", "pl_pesel", 100, 100),
    ("fi_personal_identity_code", "fi_hetu", 100, 100),
    ("se_personnummer", "se_personnummer", 87, 100),
    ("tr_national_id", "tr_national_id", 100, 100),
    ("in_aadhaar", "in_aadhaar", 80, 100),
    ("in_pan", "in_pan", 100, 100),
    ("in_gstin", "in_gstin", 100, 100),
    ("in_voter", "in_voter", 100, 100),
    ("sg_fin", "sg_nric", 66, 100),
    ("kr_rrn", "kr_rrn", 100, 100),
    ("kr_frn", "kr_rrn", 100, 85),
    ("th_tnin", "th_national_id", 100, 100),
    ("za_id_number", "za_id", 100, 100),
    ("au_tfn", "au_tfn", 100, 100),
    ("au_abn", "au_abn", 100, 100),
    ("au_acn", "au_acn", 100, 100),
    ("au_medicare", "au_medicare", 100, 100),
    ("us_passport", "passport", 100, 100),
    ("uk_passport", "passport", 100, 83),
    ("es_passport", "passport", 100, 85),
    ("it_passport", "passport", 100, 100),
    ("kr_passport", "passport", 100, 71),
    ("in_passport", "passport", 100, 100),
];

/// A masker that looks for this kind alone, with or without its name nearby.
fn alone(kind: &str) -> Masker {
    let mut rules = MaskRules { recognisers: Recognisers::all(Setting::Off), ..MaskRules::default() };
    assert!(rules.recognisers.set(kind, Setting::Anywhere), "{kind} is no recogniser");
    Masker::new(rules).expect("one setting is valid")
}

/// What was expected, what was found, and what of it agrees.
#[derive(Clone, Copy, Default)]
struct Score {
    expected: u64,
    found: u64,
    both: u64,
}

impl Score {
    fn add(&mut self, expected: u64, found: u64) {
        self.expected += expected;
        self.found += found;
        self.both += expected.min(found);
    }
    fn add_all(&mut self, other: Score) {
        self.expected += other.expected;
        self.found += other.found;
        self.both += other.both;
    }
    fn recall(self) -> f64 {
        if self.expected == 0 { 100.0 } else { self.both as f64 * 100.0 / self.expected as f64 }
    }
    fn precision(self) -> f64 {
        if self.found == 0 { 100.0 } else { self.both as f64 * 100.0 / self.found as f64 }
    }
}

#[test]
fn recognisers_against_the_cases_of_another_project() {
    let Some(text) = corpus("pii_presidio.tsv") else { return };
    let (mut all, mut all_default) = (Score::default(), Score::default());
    println!(
        "{:26} {:18} rows expected found  recall precision | default: found recall precision",
        "theirs", "kind"
    );
    let mut below = Vec::new();
    for (theirs, kind, recall_min, precision_min) in SAME {
        let masker = alone(kind);
        let (mut score, mut default) = (Score::default(), Score::default());
        let mut rows = 0;
        for line in text.lines().skip(1).filter(|line| line.starts_with(&format!("{theirs}\t"))) {
            let cells: Vec<&str> = line.split('\t').collect();
            // A row without a count, or whose text was lost, says nothing.
            let Ok(expected) = cells[2].parse::<u64>() else { continue };
            let value = unescaped(cells[1]);
            let count =
                |masker: &Masker| mask_by(masker, &value, Class::Text).kinds.get(*kind).copied().unwrap_or(0);
            let found = count(&masker);
            if found != expected {
                println!("    {theirs}: expected {expected}, found {found}: {value}");
            }
            rows += 1;
            score.add(expected, found);
            default.add(expected, count(&Masker::default()));
        }
        println!(
            "{theirs:26} {kind:18} {rows:4} {:8} {:5} {:6.1}% {:8.1}% | {:14} {:5.1}% {:8.1}%",
            score.expected,
            score.found,
            score.recall(),
            score.precision(),
            default.found,
            default.recall(),
            default.precision(),
        );
        if score.recall() < *recall_min as f64 || score.precision() < *precision_min as f64 {
            below.push(*theirs);
        }
        all.add_all(score);
        all_default.add_all(default);
    }
    println!("all: recall {:.1}%, precision {:.1}%", all.recall(), all.precision());
    println!(
        "all by default: recall {:.1}%, precision {:.1}%",
        all_default.recall(),
        all_default.precision()
    );
    assert!(below.is_empty(), "less than before: {below:?}");
    assert!(all.recall() >= 95.0 && all.precision() >= 95.0);
    assert!(all_default.recall() >= 45.0 && all_default.precision() >= 95.0);
}
