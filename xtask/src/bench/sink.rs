//! `cargo xtask bench sink`: runs the sink's bench, once for each round, and keeps what it prints.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Common;
use super::results::{Better, Column, Results};
use crate::{setup, test};

const COLUMNS: [Column; 11] = [
    Column { name: "entries", unit: "1/s", better: Better::Higher },
    Column { name: "leaves", unit: "1/s", better: Better::Higher },
    Column { name: "speed", unit: "MB/s", better: Better::Higher },
    Column { name: "CPU", unit: "us/entry", better: Better::Lower },
    Column { name: "stored p50", unit: "ms", better: Better::Lower },
    Column { name: "stored p99", unit: "ms", better: Better::Lower },
    Column { name: "stored max", unit: "ms", better: Better::Lower },
    Column { name: "committed p50", unit: "ms", better: Better::Lower },
    Column { name: "committed p99", unit: "ms", better: Better::Lower },
    Column { name: "committed max", unit: "ms", better: Better::Lower },
    Column { name: "memory", unit: "MiB", better: Better::Lower },
];

/// All loads in each round.
pub(super) fn run(root: &Path, options: &Common) -> Result<()> {
    test::build_release()?;
    let mut results = Results::new("sink", &COLUMNS);
    for round in 1..=options.rounds {
        eprintln!("round {round} of {}", options.rounds);
        let mut cargo = setup::cargo();
        cargo.args(["bench", "--quiet", "-p", "custody-sink", "--bench", "sink"]).current_dir(root);
        cargo.env("CUSTODY_PROGRAM", root.join("target/release/custody"));
        for (row, samples) in rows(&mut cargo)? {
            results.sample(&row, &samples);
        }
    }
    results.tell(root, options)
}

fn rows(bench: &mut Command) -> Result<Vec<(String, Vec<f64>)>> {
    let output = bench.stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "the bench of the sink ended with {}", output.status);
    let rows: Vec<_> = String::from_utf8(output.stdout)?.lines().map(row).collect::<Result<_>>()?;
    ensure!(!rows.is_empty(), "the bench of the sink printed no figures");
    Ok(rows)
}

/// `{"row": NAME, "figures": {COLUMN: NUMBER}}`; a figure that is not there has no sample.
fn row(line: &str) -> Result<(String, Vec<f64>)> {
    let told: Value = serde_json::from_str(line).with_context(|| format!("no figures: {line}"))?;
    let name = told["row"].as_str().with_context(|| format!("no name of a row: {line}"))?;
    let figure = |column: &Column| told["figures"][column.name].as_f64().unwrap_or(f64::NAN);
    Ok((name.to_owned(), COLUMNS.iter().map(figure).collect()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn figures_are_read_by_their_columns() {
        let (name, samples) =
            super::row(r#"{"row": "a, b", "figures": {"leaves": 2, "entries": 1.5}}"#).unwrap();
        assert_eq!((name.as_str(), &samples[..2]), ("a, b", &[1.5, 2.0][..]));
        assert!(samples[2].is_nan());
        assert!(super::row("Finished").is_err());
    }
}
