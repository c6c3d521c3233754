//! Benches that are programs of a package and print their figures: `  NAME  12.3 MB/s (11.0 to 13.1)   456 WHAT/s`.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Result, bail, ensure};

use super::Common;
use super::results::{Better, Column, Results};
use crate::setup;

/// Runs the bench of that name and keeps what it prints.
pub(super) fn run(root: &Path, options: &Common, package: &str, name: &'static str) -> Result<()> {
    let source =
        root.join(package.trim_start_matches("custody-")).join("benches").join(name).with_extension("rs");
    if !source.exists() {
        bail!("there is no bench {name} in {package} yet: {} is missing", source.display());
    }
    let mut cargo = setup::cargo();
    cargo.args(["bench", "--quiet", "-p", package, "--bench", name]);
    let output = cargo.current_dir(root).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "the bench {name} ended with {}", output.status);
    let columns = [
        Column { name: "speed", unit: "MB/s", better: Better::Higher },
        Column { name: "rate", unit: "1/s", better: Better::Higher },
    ];
    let mut results = Results::new(name, &columns);
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().filter_map(line);
    for (row, speeds, rate) in lines {
        speeds.into_iter().for_each(|speed| results.sample(&row, &[speed, rate]));
    }
    ensure!(!results.is_empty(), "the bench {name} printed no figures:\n{text}");
    results.tell(root, options)
}

/// Name, median, least and most, and the rate where there is one.
fn line(text: &str) -> Option<(String, [f64; 3], f64)> {
    let (left, right) = text.split_once(" MB/s (")?;
    let (name, median) = left.trim().rsplit_once(' ')?;
    let (range, rest) = right.split_once(')')?;
    let (least, most) = range.split_once(" to ")?;
    let rate = rest.split_whitespace().next().and_then(|rate| rate.parse().ok()).unwrap_or(f64::NAN);
    Some((name.trim().to_owned(), [median.parse().ok()?, least.parse().ok()?, most.parse().ok()?], rate))
}

#[cfg(test)]
mod tests {
    #[test]
    fn figures_are_read_as_they_are_printed() {
        let text = "  http, 16 KiB      12.5 MB/s (11.0 to 13.1)      456 exchanges/s";
        assert_eq!(super::line(text), Some(("http, 16 KiB".to_owned(), [12.5, 11.0, 13.1], 456.0)));
        assert!(super::line("  sql, 160 B  1.0 MB/s (1.0 to 2.0)").is_some_and(|(.., rate)| rate.is_nan()));
        assert_eq!(super::line("masked per second of CPU time"), None);
    }
}
