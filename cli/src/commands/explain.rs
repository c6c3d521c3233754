//! `custody explain CODE`: words for the codes that stand in records.

use anyhow::anyhow;
use custody_decoders::anomaly;
use custody_record::filter;
use custody_record::text::escape;

use crate::args::ExplainArgs;
use crate::outcome::{Exit, Failure, Outcome};
use crate::output::Lines;

/// Levels below the whole, as `custody.level` has them: code, what it means, what to do.
const LEVELS: &[(&str, &str, &str)] = &[
    (
        "summary",
        "Of each exchange its operation, outcome, times and bytes were recorded, without values, headers, parameters and bodies; custody.level.bytes says how much that left out.",
        "If the host's configuration (capture.level) does not say so, its spool was filling: look for entries of the type `level`, and at the way to the sink.",
    ),
    (
        "counts",
        "Sessions were recorded with their bytes; of exchanges only how many there were (custody.level.exchanges in session.close).",
        "If the host's configuration (capture.level) does not say so, its spool was nearly full: look for entries of the type `level`, and at the way to the sink.",
    ),
];

/// Causes of gaps, as `custody.gap.cause` has them: code, what it means, what to do.
const CAUSES: &[(&str, &str, &str)] = &[
    (
        "ring_full",
        "The kernel saw these bytes, and the ring to the agent was full: programs talked faster than the agent reads.",
        "Give the agent more CPU weight or larger rings, or lower the capture level of the loudest program.",
    ),
    (
        "page_fault",
        "The memory that held the bytes could not be read at that moment (it was paged out or gone).",
        "Nothing, if rare. If it repeats for one program, it uses memory that it has not touched yet.",
    ),
    (
        "no_payload",
        "The kernel moved the bytes past the process (sendfile, splice): their number is known, they are not.",
        "Nothing: this is how the program sends files. Switch sendfile off in its configuration if the content matters.",
    ),
    (
        "table_full",
        "A table of the kernel side had no room for another connection.",
        "Raise the number of connections in the agent's configuration.",
    ),
    (
        "unseen",
        "Between two captured pieces there is a hole whose reason is not known. In a capture file: the other end acknowledged bytes, or the connection went on behind them, and the file does not hold them.",
        "Of a capture file: tcpdump says at its end how many packets the kernel dropped; a larger buffer (-B) helps. Else look at the agent's counters at that time; if nothing was lost there, report it.",
    ),
    (
        "limit",
        "More than the limit of this capture level; the number of bytes is exact. In a capture file: the packets were cut off (tcpdump's -s).",
        "Raise the level or the limit for this program if its content matters; capture whole packets.",
    ),
    (
        "ciphertext",
        "Encrypted bytes. Their plaintext is read inside the program's TLS library, or nowhere.",
        "Nothing: what was not read of it stands in a gap of the cause tls_not_read.",
    ),
    (
        "tls_not_read",
        "The connection is TLS, and no plaintext of these bytes was read: the program speaks TLS by a library that is not supported, or its library was found only after it had begun. The number is that of the wire, handshake included.",
        "`custody-agent status` lists such programs with their libraries; docs/limitations.md says which can be read.",
    ),
    (
        "spool_full",
        "The agent had no room for these records: the sink had not taken what waits, and the spool reached its limit or its disk was full. Before that it had recorded less and less of each exchange (entries of the type `level`).",
        "Bring the sink back; give spool.bytes_max and the disk of the agent's state directory more room. `custody-agent status` says how full they are.",
    ),
    ("rule", "A rule of the configuration leaves this out.", "Look at the rules in the host's CONFIG entry."),
];

pub(crate) fn run(arguments: &ExplainArgs) -> Outcome {
    let mut lines = Lines::new();
    match arguments.code.as_str() {
        "fields" => {
            for (name, says) in filter::fields() {
                lines.put(&format!("{name:34} {}", says.trim()))?;
            }
        }
        "codes" => {
            CAUSES.iter().try_for_each(|(code, _, _)| lines.put(&format!("{code:32} cause of a gap")))?;
            LEVELS
                .iter()
                .try_for_each(|(code, _, _)| lines.put(&format!("{code:32} level of what is recorded")))?;
            anomaly::ALL.iter().try_for_each(|odd| lines.put(&format!("{:32} {}", odd.code, odd.title)))?;
        }
        code => {
            let cause = CAUSES.iter().find(|(own, _, _)| *own == code);
            let cause = cause.map(|(code, means, advice)| (*code, "cause of a gap", *means, *advice));
            let level = LEVELS.iter().find(|(own, _, _)| *own == code);
            let level =
                level.map(|(code, means, advice)| (*code, "level of what is recorded", *means, *advice));
            let odd = || anomaly::find(code).map(|odd| (odd.code, odd.title, odd.meaning, odd.advice));
            let Some((code, title, means, advice)) = cause.or(level).or_else(odd) else {
                return Err(Failure::negative(anyhow!(
                    "there is no code `{}`; `custody explain codes` lists them all",
                    escape(code)
                )));
            };
            lines.put(&format!("{code}: {title}\n\n{means}\n\nWhat to do: {advice}"))?;
        }
    }
    lines.flush()?;
    Ok(Exit::Ok)
}
