//! How large the product is: files, lines, functions, binaries, dependencies. Counts what git knows of.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use custody_tests::process::output;
use std::process::Command;

use crate::setup;

/// Package and program, as built for release.
const PROGRAMS: [(&str, &str); 3] =
    [("custody-agent", "custody-agent"), ("custody-sink", "custody-sink"), ("custody", "custody")];
/// Longer functions than this are named.
const FUNCTION_LINES_MAX: usize = 70;

/// Prints the sizes.
pub(super) fn run(root: &Path) -> Result<()> {
    let listed = output(Command::new("git").current_dir(root).args(["ls-files", "*.rs"]))?;
    let (mut files, mut lines, mut functions, mut longest) = (0, 0, 0, Vec::new());
    for name in listed.lines() {
        let text = std::fs::read_to_string(root.join(name)).with_context(|| format!("reading {name}"))?;
        files += 1;
        lines += text.lines().count();
        let lengths = function_lengths(&text);
        functions += lengths.len();
        longest.extend(lengths.into_iter().map(|(line, length)| (length, format!("{name}:{line}"))));
    }
    println!("{files} files of Rust, {lines} lines, {functions} functions");
    longest.sort_unstable_by(|one, other| other.cmp(one));
    let long: Vec<_> = longest.iter().filter(|(length, _)| *length > FUNCTION_LINES_MAX).collect();
    println!("{} functions of more than {FUNCTION_LINES_MAX} lines", long.len());
    for (length, place) in long {
        println!("  {length:4} {place}");
    }
    for (package, program) in PROGRAMS {
        let bytes = std::fs::metadata(root.join("target/release").join(program))?.len();
        let tree = output(
            setup::cargo()
                .current_dir(root)
                .args(["tree", "-p", package, "-e", "normal", "--prefix", "none", "--locked"]),
        )?;
        let crates: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(" (").next()).collect();
        println!("{program:14} {bytes:>11} bytes with line tables, {} crates", crates.len());
    }
    Ok(())
}

/// First line and length of each function, as rustfmt lays them out: to the brace in the column of its `fn`.
fn function_lengths(text: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let begins = |line: &str| {
        let code = line.trim_start();
        let words = code.split_whitespace().take_while(|word| *word != "fn");
        let before = ["pub", "pub(crate)", "pub(super)", "const", "async", "unsafe", "extern", "\"C\""];
        code.contains("fn ") && words.clone().count() < 6 && words.clone().all(|word| before.contains(&word))
    };
    let starts = lines.iter().enumerate().filter(|(_, line)| begins(line));
    starts
        .filter_map(|(start, line)| {
            let end = format!("{}}}", &line[..line.len() - line.trim_start().len()]);
            let length = lines[start..].iter().position(|line| *line == end)?;
            Some((start + 1, length + 1))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn functions_are_measured_to_their_own_brace() {
        let text =
            "fn one() {\n    if x {\n    }\n}\nimpl X {\n    pub(crate) async fn two(\n    ) {\n    }\n}\n";
        assert_eq!(super::function_lengths(text), [(1, 4), (6, 3)]);
    }
}
