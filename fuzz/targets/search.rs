//! Any text as what people search for, and any text as a statement that is counted.
#![no_main]

use std::sync::LazyLock;

use custody_record::View;
use custody_record::search::{By, Cursor, Query, sql};
use libfuzzer_sys::fuzz_target;

static VIEWS: LazyLock<Vec<View>> = LazyLock::new(|| {
    let views = include_str!("../seeds/views.json");
    serde_json::from_str(views).expect("the views are as the sink sends them")
});

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (words, statement) = text.split_once('\0').unwrap_or((text, text));
    if let Ok(query) = words.parse::<Query>() {
        for view in VIEWS.iter() {
            assert!(
                !query.matches(view) || query.need().is_met(view),
                "found without the words that it needs"
            );
        }
    }
    drop((words.parse::<By>(), words.parse::<Cursor>()));
    let shape = sql(statement);
    assert!(shape.len() <= statement.len().saturating_add(8), "a shape is longer than its statement");
    let quoted = statement.replace('\'', "''");
    assert_eq!(sql(&format!("a = '{quoted}'")), "a = ?", "a literal survives");
});
