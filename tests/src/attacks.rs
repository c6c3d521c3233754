//! The table of attacks that must be refused (`docs/attacks.md`): which there are, what stops each, and what the user
//! reads. Tests take their row from here, so that the page says what is tested.

/// One row of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attack {
    /// The test.
    pub name: &'static str,
    /// What the attacker has.
    pub has: &'static str,
    /// What he does.
    pub does: &'static str,
    /// The check that stops it.
    pub seen_by: &'static str,
    /// Words that are part of what the user reads.
    pub reads: &'static str,
}

const PAGE: &str = include_str!("../../docs/attacks.md");

/// All that are shown to pass without their check.
pub fn all() -> Vec<Attack> {
    let cells = |line: &'static str| -> Option<[&'static str; 5]> {
        let cells: Vec<_> = line.strip_prefix("| `")?.strip_suffix(" |")?.split(" | ").collect();
        cells.try_into().ok()
    };
    let attack = |[name, has, does, seen_by, reads]: [&'static str; 5]| Attack {
        name: name.trim_end_matches('`'),
        has,
        does,
        seen_by,
        reads,
    };
    PAGE.lines().filter_map(cells).map(attack).collect()
}

/// The row of this test.
///
/// # Panics
///
/// When there is none: an attack that is tested stands on the page.
pub fn named(name: &str) -> Attack {
    let found = all().into_iter().find(|attack| attack.name == name);
    found.unwrap_or_else(|| panic!("docs/attacks.md has no attack {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sources in which the tests stand.
    const SOURCES: &[&str] = &[
        include_str!("../../ledger/src/verify/attacks.rs"),
        include_str!("../../ledger/src/tlog/attacks.rs"),
        include_str!("../../ledger/src/tlog/attacks/witnessed.rs"),
        include_str!("../../ledger/src/bundle/attacks/expired.rs"),
        include_str!("../../cli/src/commands/verify/attacks.rs"),
        include_str!("../../sink/tests/host.rs"),
    ];

    #[test]
    fn each_row_of_the_page_is_a_test_and_there_are_forty_of_them() {
        let all = all();
        assert!(all.len() >= 40, "{}", all.len());
        let names: std::collections::BTreeSet<_> = all.iter().map(|attack| attack.name).collect();
        assert_eq!(names.len(), all.len(), "a name stands there twice");
        let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
        for (name, _) in rows {
            let test = format!("fn {name}()");
            assert!(SOURCES.iter().any(|source| source.contains(&test)), "{name} is no test");
        }
        for attack in all {
            assert!(["disk", "sink", "host", "both", "bundle"].contains(&attack.has), "{attack:?}");
        }
    }
}
