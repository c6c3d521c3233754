//! Each decoder's README lists the messages of its specification, and each row names the fixture and the test that
//! show it. A row that promises what nothing shows is a breach, and so is a fixture that no row names.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};

/// Where decoders lie.
const DECODERS: &str = "decoders/src";
/// The section that is looked at.
const HEADING: &str = "## Messages";
/// How the header row of its tables ends.
const COLUMNS: [&str; 2] = ["Fixture", "Test"];

/// Looks at the README of each registered decoder.
pub(super) fn check(root: &Path, breaches: &mut Vec<String>) -> Result<()> {
    let registry = std::fs::read_to_string(root.join(DECODERS).join("registry.rs"))?;
    let folders = decoders(&registry);
    let shared = shared_tests(root, &folders)?;
    for folder in folders {
        let path = root.join(DECODERS).join(&folder);
        let readme = format!("{DECODERS}/{folder}/README.md");
        let text = std::fs::read_to_string(root.join(&readme)).with_context(|| readme.clone())?;
        let mut tests = tests_of(&path)?;
        tests.extend(shared.iter().cloned());
        let known = Known { fixtures: fixtures_of(&path.join("fixtures"))?, tests };
        let (broken, unnamed) = known.breaches(&text);
        breaches.extend(broken.into_iter().map(|(line, what)| format!("{readme}:{line}: {what}")));
        let unnamed = unnamed.into_iter();
        breaches.extend(unnamed.map(|fixture| format!("{readme}: no row names the fixture `{fixture}`")));
    }
    Ok(())
}

/// Tests of what decoders share: those of `decoders/tests`, and of every folder that is no decoder's.
fn shared_tests(root: &Path, decoders: &[String]) -> Result<BTreeSet<String>> {
    let mut tests = tests_of(&root.join("decoders/tests"))?;
    for entry in std::fs::read_dir(root.join(DECODERS))? {
        let path = entry?.path();
        let is_decoder = decoders.iter().any(|decoder| path.ends_with(decoder));
        if path.is_dir() && !is_decoder {
            tests.extend(tests_of(&path)?);
        }
    }
    Ok(tests)
}

/// Folders of the protocols in the registry.
fn decoders(registry: &str) -> Vec<String> {
    let list = registry.split_once("PROTOCOLS: &[&dyn Protocol] =").map_or("", |(_, rest)| rest);
    let list = list.split_once("];").map_or("", |(list, _)| list);
    let folder = |path: &str| Some(path.split_once("::")?.0.to_owned());
    list.split("&crate::").skip(1).filter_map(folder).collect()
}

/// What a row may name.
struct Known {
    /// Cases with a golden beside them.
    fixtures: BTreeSet<String>,
    tests: BTreeSet<String>,
}

impl Known {
    /// Line and trouble of each breach of a README; and the fixtures that no row names.
    fn breaches(&self, readme: &str) -> (Vec<(usize, String)>, Vec<String>) {
        let lines = readme.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
        let mut section = lines.skip_while(|(_, line)| *line != HEADING);
        let Some((heading, _)) = section.next() else {
            let missing = format!("no section `{HEADING}` with the messages of the specification");
            return (vec![(1, missing)], Vec::new());
        };
        let mut breaches = Vec::new();
        let mut named = BTreeSet::new();
        let (mut rows, mut header_is_due, mut promises) = (0, true, false);
        for (line, text) in section.take_while(|(_, line)| !line.starts_with("## ")) {
            if !text.starts_with('|') {
                header_is_due = true;
                continue;
            }
            let cells = cells(text);
            if std::mem::take(&mut header_is_due) {
                promises = cells.ends_with(&COLUMNS.map(String::from));
                if !promises {
                    let wanted = COLUMNS.join(" and ");
                    breaches.push((line, format!("a table whose last columns are not {wanted}")));
                }
                continue;
            }
            let is_rule = cells.iter().all(|cell| cell.bytes().all(|byte| matches!(byte, b'-' | b':')));
            if is_rule || !promises {
                continue;
            }
            rows += 1;
            let [.., fixtures, tests] = cells.as_slice() else {
                breaches.push((line, "a row without fixture and test".to_owned()));
                continue;
            };
            let fixtures = names(fixtures);
            let stems =
                fixtures.iter().map(|name| name.trim_start_matches("fixtures/").trim_end_matches(".cap"));
            self.row("fixture", stems.clone(), &self.fixtures, line, &mut breaches);
            self.row("test", names(tests).into_iter(), &self.tests, line, &mut breaches);
            named.extend(stems.map(str::to_owned));
        }
        if rows == 0 {
            breaches.push((heading, "a section without a row".to_owned()));
        }
        (breaches, self.fixtures.difference(&named).cloned().collect())
    }

    fn row<'a>(
        &self,
        what: &str,
        named: impl Iterator<Item = &'a str>,
        known: &BTreeSet<String>,
        line: usize,
        breaches: &mut Vec<(usize, String)>,
    ) {
        let mut any = false;
        for name in named {
            any = true;
            if !known.contains(name) {
                breaches.push((line, format!("there is no {what} `{name}`")));
            }
        }
        if !any {
            breaches.push((line, format!("a row that names no {what}")));
        }
    }
}

/// The cells of a row of a Markdown table; `\|` is no border.
fn cells(row: &str) -> Vec<String> {
    let inner = row.trim_start_matches('|').trim_end_matches('|').replace("\\|", "\u{0}");
    inner.split('|').map(|cell| cell.trim().replace('\u{0}', "|")).collect()
}

/// The names of a cell: what stands in backticks, or the words of a cell without any.
fn names(cell: &str) -> Vec<&str> {
    if cell.contains('`') {
        return cell.split('`').skip(1).step_by(2).filter(|name| !name.is_empty()).collect();
    }
    cell.split([',', ' ']).filter(|word| word.bytes().any(|byte| byte.is_ascii_alphanumeric())).collect()
}

/// Names of the cases that have a golden.
fn fixtures_of(folder: &Path) -> Result<BTreeSet<String>> {
    let mut stems = BTreeSet::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let is_case = path.extension().is_some_and(|extension| extension == "cap");
        if is_case && path.with_extension("golden").exists() {
            stems.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    Ok(stems)
}

/// Names of the test functions of all sources below a folder.
fn tests_of(folder: &Path) -> Result<BTreeSet<String>> {
    let mut tests = BTreeSet::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            tests.extend(tests_of(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            tests.extend(test_functions(&std::fs::read_to_string(&path)?));
        }
    }
    Ok(tests)
}

/// Functions under `#[test]`; other attributes and comments may stand between.
fn test_functions(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_test = false;
    for line in source.lines().map(str::trim) {
        let code = line.trim_start_matches("#[test]").trim_start();
        is_test |= line.starts_with("#[test]");
        if let Some(rest) = code.strip_prefix("fn ").filter(|_| is_test) {
            found.extend(rest.split_once('(').map(|(name, _)| name.to_owned()));
        }
        is_test &= code.is_empty() || code.starts_with("#[") || code.starts_with("//");
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looked_at(section: &str) -> (Vec<(usize, String)>, Vec<String>) {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let known = Known { fixtures: set(&["copy", "login"]), tests: set(&["copies", "logs_in"]) };
        known.breaches(&format!("# X\n## Messages\n{section}\n## Next\n| a |\n"))
    }

    fn breaches(section: &str) -> Vec<(usize, String)> {
        looked_at(section).0
    }

    const HEADER: &str = "| Message | Read as | Fixture | Test |\n|---|:-:|---|---|\n";

    #[test]
    fn rows_that_name_what_is_there_hold() {
        let rows = "| `a\\|b` | x | `copy` | `copies` |\n| c | y | `login.cap`, `copy` | `logs_in` |";
        assert_eq!(breaches(&format!("{HEADER}{rows}")), []);
    }

    #[test]
    fn a_row_without_fixture_or_test_is_named_by_its_line() {
        let rows = "| a | x | | `copies` |\n| b | x | `copy` | – |\n| c | x | `login` | `logs_in` |";
        let found = breaches(&format!("{HEADER}{rows}"));
        assert_eq!(found.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [5, 6]);
        assert!(found[0].1.contains("fixture") && found[1].1.contains("test"), "{found:?}");
    }

    #[test]
    fn names_that_nothing_has_are_breaches() {
        let rows =
            "| a | x | `copy` | `renamed` |\n| b | x | `gone` | `copies` |\n| c | x | `login` | `copies` |";
        let found: Vec<String> =
            breaches(&format!("{HEADER}{rows}")).into_iter().map(|(_, what)| what).collect();
        assert_eq!(found, ["there is no test `renamed`", "there is no fixture `gone`"]);
    }

    #[test]
    fn a_table_without_the_columns_is_a_breach_and_its_rows_promise_nothing() {
        let (found, unnamed) = looked_at("| Message | Read as |\n|---|---|\n| `copy` | `copies` |");
        assert!(found[0].1.contains("last columns") && found.len() == 2, "{found:?}");
        assert_eq!(unnamed, ["copy", "login"]);
    }

    #[test]
    fn a_fixture_that_no_row_names_is_told() {
        let found = looked_at(&format!("{HEADER}| a | x | `copy` | `copies` |"));
        assert_eq!(found, (vec![], vec!["login".to_owned()]));
    }

    #[test]
    fn a_missing_section_and_an_empty_one_are_breaches() {
        let known = Known { fixtures: BTreeSet::new(), tests: BTreeSet::new() };
        assert_eq!(known.breaches("# X\n## Message\n").0.len(), 1);
        assert_eq!(
            known.breaches("## Messages\ntext\n## Next\n| a |\n").0,
            [(1, "a section without a row".to_owned())]
        );
    }

    #[test]
    fn test_functions_are_those_under_the_attribute() {
        let source = "#[test]\n#[ignore]\nfn one() {}\nfn helper() {}\n#[test] fn two() {}\n#[cfg(test)]\nfn no() {}\n";
        assert_eq!(test_functions(source), ["one", "two"]);
    }

    #[test]
    fn decoders_are_those_of_the_registry() {
        let text =
            "pub static PROTOCOLS: &[&dyn Protocol] = &[\n &crate::http1::Http1,\n &crate::redis::Redis];";
        assert_eq!(decoders(text), ["http1", "redis"]);
    }
}
