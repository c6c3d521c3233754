//! `custody-sink retention`: what a policy would let go now, read from the segments. Removes nothing, and asks no running
//! sink.

use std::fmt::Write as _;
use std::fs;

use custody_ledger::segment::{file_name, file_number};

use super::{due_ns, is_due};
use crate::age::Age;
use crate::config::Config;
use crate::store::Survey;

/// What would go by this policy, in lines.
pub fn preview(config: &Config, age: Age, now_ns: u64) -> Result<String, String> {
    let folder = config.state_directory.join("segments");
    let items = fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut numbers: Vec<u64> =
        items.flatten().filter_map(|item| item.file_name().to_str().and_then(file_number)).collect();
    numbers.sort_unstable();
    let newest = numbers.pop();
    let mut text = match age.0 {
        None => "policy: bodies are kept for ever\n".to_owned(),
        Some(_) => format!("policy: bodies are kept {age} since the sink received them\n"),
    };
    let (mut bodies, mut bytes) = (0_u64, 0_u64);
    for number in numbers {
        let survey = Survey::of(&folder.join(file_name(number))).map_err(|error| error.to_string())?;
        if survey.bodies.count == 0 {
            continue;
        }
        let due = is_due(&survey, age, now_ns);
        let when = match due_ns(&survey, age) {
            None => "stay".to_owned(),
            Some(_) if due => "go now".to_owned(),
            Some(due_ns) => format!("go in {}", length(due_ns - now_ns)),
        };
        let (count, size) = (survey.bodies.count, survey.bodies.bytes);
        let old = length(now_ns.saturating_sub(survey.newest_ns));
        // Writing to a string does not fail.
        let _ =
            writeln!(text, "segment {number}: {count} bodies, {size} bytes, the newest {old} old: {when}");
        if due {
            (bodies, bytes) = (bodies + count, bytes + size);
        }
    }
    if let Some(newest) = newest {
        let _ = writeln!(text, "segment {newest} is the newest: nothing of it goes before it is sealed");
    }
    let _ = writeln!(text, "{bodies} bodies of {bytes} bytes would go now; headers and log stay");
    Ok(text)
}

/// `93d 4h`, `4h 10m`, `50s`.
fn length(ns: u64) -> String {
    let seconds = ns / 1_000_000_000;
    match seconds {
        86_400.. => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3_600),
        3_600.. => format!("{}h {}m", seconds / 3_600, seconds % 3_600 / 60),
        60.. => format!("{}m {}s", seconds / 60, seconds % 60),
        _ => format!("{seconds}s"),
    }
}
