//! Figures: how a bench keeps, shows and compares them. One table, one file, for all benches.
//!
//! The file: `{bench, machine, kernel, cores, commit, unix_time, rows}`; `rows` maps a row to its figures or to
//! `{"refused": why}`; a figure is `{median, least, most, unit, better}`, `better` being `lower`, `higher` or `none`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use custody_tests::process::output;
use serde_json::{Map, Value, json};

use super::Common;

/// A figure that is so much worse than before is marked.
const WORSE: f64 = 1.10;

/// Which direction is better.
#[derive(Clone, Copy)]
pub(super) enum Better {
    Lower,
    Higher,
    /// Neither: it describes the load.
    None,
}

/// One column of the table.
#[derive(Clone, Copy)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    pub(super) better: Better,
}

/// The figures of one bench.
pub(super) struct Results {
    bench: &'static str,
    columns: Vec<Column>,
    rows: Vec<(String, Row)>,
}

enum Row {
    /// Samples by column.
    Samples(Vec<Vec<f64>>),
    Refused(String),
}

impl Results {
    /// For a bench of that name.
    pub(super) fn new(bench: &'static str, columns: &[Column]) -> Self {
        Results { bench, columns: columns.to_vec(), rows: Vec::new() }
    }

    /// One round of a row: a sample for each column; NaN where there is none.
    pub(super) fn sample(&mut self, row: &str, samples: &[f64]) {
        let columns = self.columns.len();
        match self.row(row, || Row::Samples(vec![Vec::new(); columns])) {
            Row::Samples(all) => all.iter_mut().zip(samples).for_each(|(all, sample)| all.push(*sample)),
            Row::Refused(_) => {}
        }
    }

    /// Nothing is told of a row but why.
    pub(super) fn refuse(&mut self, row: &str, why: String) {
        let refused = Row::Refused(why);
        match self.rows.iter_mut().find(|(name, _)| name == row) {
            Some((_, known)) => *known = refused,
            None => self.rows.push((row.to_owned(), refused)),
        }
    }

    /// A column that is the ratio of another one to that of a row in the same round: of `over` to `under`.
    pub(super) fn ratio(&mut self, column: usize, of: usize, base: &str, rows: impl Fn(&str) -> bool) {
        let find = |(name, row): &(String, Row)| match row {
            Row::Samples(all) if name == base => Some(all[of].clone()),
            _ => None,
        };
        let Some(base) = self.rows.iter().find_map(find) else { return };
        for (_, row) in self.rows.iter_mut().filter(|(name, _)| rows(name)) {
            if let Row::Samples(all) = row {
                all[column] = all[of].iter().zip(&base).map(|(sample, base)| sample / base).collect();
            }
        }
    }

    /// Whether there is nothing to tell.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn row(&mut self, name: &str, new: impl FnOnce() -> Row) -> &mut Row {
        let index = self.rows.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            self.rows.push((name.to_owned(), new()));
            self.rows.len() - 1
        });
        &mut self.rows[index].1
    }

    /// Shows, compares with the run before or the file that was asked for, and keeps them.
    pub(super) fn tell(&self, root: &Path, options: &Common) -> Result<()> {
        let name = format!("target/bench/{}.json", self.bench);
        let file = root.join(&name);
        let before = match &options.compare {
            Some(path) => Some(std::fs::read_to_string(path).with_context(|| path.display().to_string())?),
            None => std::fs::read_to_string(&file).ok(),
        };
        let found: Option<Value> = before.map(|text| serde_json::from_str(&text)).transpose()?;
        let before = found.as_ref().filter(|found| is_ours(found));
        let now = self.json(root)?;
        print!("{}", self.table(before));
        match (before, found.is_some()) {
            (Some(before), _) => println!("compared with {} of {}", before["commit"], before["machine"]),
            (None, true) => println!("not compared: the figures of before are of an older form"),
            (None, false) => {}
        }
        std::fs::create_dir_all(root.join("target/bench"))?;
        std::fs::write(&file, serde_json::to_string_pretty(&now)?)?;
        println!("written to {name}");
        Ok(())
    }

    /// The table; `×1.05` behind a figure is its ratio to the one before.
    fn table(&self, before: Option<&Value>) -> String {
        let mut lines = vec![self.columns.iter().map(|c| format!("{} [{}]", c.name, c.unit)).collect()];
        let mut names = vec![self.bench];
        for (name, row) in &self.rows {
            names.push(name);
            lines.push(match row {
                Row::Refused(why) => vec![why.clone()],
                Row::Samples(all) => self
                    .columns
                    .iter()
                    .zip(all)
                    .map(|(column, samples)| cell(column, samples, before.map(|b| &b["rows"][name])))
                    .collect(),
            });
        }
        let width = |column: usize| {
            let of = |line: &Vec<String>| {
                line.get(column).filter(|_| line.len() > 1).map_or(0, |c| c.chars().count())
            };
            lines.iter().map(of).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let first = names.iter().map(|name| name.len()).max().unwrap_or(0);
        let mut text = String::new();
        for (name, line) in names.iter().zip(&lines) {
            let cells = line.iter().zip(&widths).map(|(cell, width)| format!("  {cell:>width$}"));
            text += &format!("{name:first$}{}\n", cells.collect::<String>());
        }
        text
    }

    fn json(&self, root: &Path) -> Result<Value> {
        let mut rows = Map::new();
        for (name, row) in &self.rows {
            let told = match row {
                Row::Refused(why) => json!({"refused": why}),
                Row::Samples(all) => {
                    let figures = self.columns.iter().zip(all).filter_map(|(column, samples)| {
                        let (median, least, most) = median(samples)?;
                        let better = match column.better {
                            Better::Lower => "lower",
                            Better::Higher => "higher",
                            Better::None => "none",
                        };
                        let figure = json!({"median": median, "least": least, "most": most,
                                            "unit": column.unit, "better": better});
                        Some((column.name.to_owned(), figure))
                    });
                    Value::Object(figures.collect())
                }
            };
            rows.insert(name.clone(), told);
        }
        let name = rustix::system::uname();
        let text = |value: &std::ffi::CStr| value.to_string_lossy().into_owned();
        let mut git = Command::new("git");
        let commit = output(git.current_dir(root).args(["describe", "--always", "--dirty"]))?;
        Ok(json!({
            "bench": self.bench,
            "machine": text(name.nodename()),
            "kernel": text(name.release()),
            "cores": std::thread::available_parallelism()?.get(),
            "commit": commit.trim(),
            "unix_time": SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
            "rows": rows,
        }))
    }
}

/// Whether these are figures as this file says: an older bench wrote others.
fn is_ours(figures: &Value) -> bool {
    figures["commit"].is_string() && figures["machine"].is_string() && figures["rows"].is_object()
}

fn cell(column: &Column, samples: &[f64], before: Option<&Value>) -> String {
    let Some((median, least, most)) = median(samples) else { return "–".to_owned() };
    let before = before.and_then(|row| row[column.name]["median"].as_f64());
    let ratio = before.map_or_else(String::new, |before| {
        let ratio = median / before;
        let worse = match column.better {
            Better::Lower => ratio > WORSE,
            Better::Higher => ratio < 1.0 / WORSE,
            Better::None => false,
        };
        format!(" ×{ratio:.2}{}", if worse { '!' } else { ' ' })
    });
    format!("{} ({}–{}){ratio}", short(median), short(least), short(most))
}

/// Three figures that say something.
fn short(value: f64) -> String {
    let digits = match value.abs() {
        value if value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.digits$}")
}

/// Median, least and most of what is a number.
fn median(samples: &[f64]) -> Option<(f64, f64, f64)> {
    let mut values: Vec<f64> = samples.iter().copied().filter(|sample| sample.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    Some((*values.get(values.len() / 2)?, *values.first()?, *values.last()?))
}

/// Counts that must agree before anything is told of their speed.
pub(super) fn agree(counts: &BTreeMap<&str, u64>, wanted: u64) -> Result<(), String> {
    let wrong: Vec<String> = counts
        .iter()
        .filter(|(_, count)| **count != wanted)
        .map(|(who, count)| format!("{who} tells {count}"))
        .collect();
    if wrong.is_empty() { Ok(()) } else { Err(format!("{wanted} were made, {}", wrong.join(", "))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(seconds: f64) -> Results {
        let columns = [
            Column { name: "cpu", unit: "s", better: Better::Lower },
            Column { name: "ratio", unit: "", better: Better::None },
        ];
        let mut results = Results::new("x", &columns);
        for round in 0..3 {
            results.sample("ours", &[seconds + f64::from(round), f64::NAN]);
            results.sample("theirs", &[2.0 * (seconds + f64::from(round)), f64::NAN]);
        }
        results.ratio(1, 0, "ours", |row| row == "theirs");
        results
    }

    #[test]
    fn what_became_worse_is_marked_and_what_became_better_is_not() {
        let before =
            json!({"rows": {"ours": {"cpu": {"median": 2.0}}, "theirs": {"cpu": {"median": 100.0}}}});
        let table = results(3.0).table(Some(&before));
        assert!(table.contains("4.00 (3.00–5.00) ×2.00!"), "{table}");
        assert!(table.contains("8.00 (6.00–10.0) ×0.08 "), "{table}");
        assert!(table.contains("2.00 (2.00–2.00)"), "the ratio to ours:\n{table}");
    }

    #[test]
    fn figures_of_an_older_form_are_no_run_before() {
        assert!(
            !is_ours(&json!({"redis": {"ours": {"cpu_us": 1.5}}})),
            "it was 'compared with null of null'"
        );
        assert!(is_ours(&json!({"commit": "abc", "machine": "m", "rows": {}})));
    }

    #[test]
    fn a_refused_row_tells_no_figure() {
        let mut results = results(1.0);
        results.refuse("ours", "3 of 4 exchanges".to_owned());
        results.sample("ours", &[1.0, 1.0]);
        let table = results.table(None);
        assert!(table.contains("ours    3 of 4 exchanges\n"), "{table}");
    }

    #[test]
    fn counts_that_differ_are_told() {
        assert_eq!(agree(&BTreeMap::from([("ours", 3)]), 4), Err("4 were made, ours tells 3".to_owned()));
        assert_eq!(agree(&BTreeMap::from([("ours", 4)]), 4), Ok(()));
    }
}
