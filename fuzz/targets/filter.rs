//! Any text as a filter: it is refused or understood, and what is understood means the same when it is said again.
#![no_main]

use std::sync::LazyLock;

use custody_record::{Filter, View};
use libfuzzer_sys::fuzz_target;

static VIEWS: LazyLock<Vec<View>> = LazyLock::new(|| {
    let views = include_str!("../seeds/views.json");
    serde_json::from_str(views).expect("the views are as the sink sends them")
});

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(filter) = text.parse::<Filter>() else { return };
    let again: Filter = filter.to_string().parse().expect("a filter's text is a filter");
    // One level more may be one too deep.
    let not = format!("not ({text})").parse::<Filter>().ok();
    for view in VIEWS.iter() {
        let matches = filter.matches(view);
        assert_eq!(matches, again.matches(view), "the same text, another answer");
        assert!(not.as_ref().is_none_or(|not| not.matches(view) != matches), "neither it nor its opposite");
        assert!(!matches || filter.admits_host(view), "an entry matches of a host that is not admitted");
    }
});
