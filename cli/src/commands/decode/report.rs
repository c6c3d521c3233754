//! What a capture held, in a few lines for standard error: what was read, what is missing, what was not decoded.

use custody_decoders::pcap::Counts;
use custody_record::text::count;
use custody_record::{Kind, Record, names};

/// Counts of a run.
#[derive(Default)]
pub(super) struct Report {
    pub(super) packets: Option<Counts>,
    pub(super) cases: u64,
    sessions: u64,
    exchanges: u64,
    gaps: u64,
    lost_bytes: u64,
    cut_bytes: u64,
    unparsed_bytes: u64,
    unknown_sessions: u64,
    unknown_bytes: u64,
    tls_sessions: u64,
}

impl Report {
    pub(super) fn count(&mut self, record: &Record) {
        let number =
            |name: &str| record.fields.get(name).and_then(|value| value.as_unsigned()).unwrap_or_default();
        let text = |name: &str| record.fields.get(name).and_then(|value| value.as_text());
        match record.kind {
            Kind::Exchange | Kind::ExchangeOpen => self.exchanges += 1,
            Kind::Gap => self.gaps += 1,
            Kind::SessionClose => {
                self.sessions += 1;
                self.lost_bytes += number(names::BYTES_LOST);
                self.cut_bytes += number(names::BYTES_CUT);
                let bytes = number(names::BYTES_UP) + number(names::BYTES_DOWN);
                let encrypted = text(names::TLS).is_some();
                self.tls_sessions += u64::from(encrypted);
                let unknown = text(names::PROTOCOL_NAME) == Some("unknown");
                if !unknown {
                    self.unparsed_bytes += number(names::BYTES_UNPARSED);
                } else if bytes > 0 && !encrypted {
                    self.unknown_sessions += 1;
                    self.unknown_bytes += bytes;
                }
            }
            _ => {}
        }
    }

    /// Something that was said is not in the record.
    pub(super) fn is_incomplete(&self) -> bool {
        let packets = self.packets.unwrap_or_default();
        self.gaps > 0 || self.lost_bytes + packets.lost_bytes + packets.cut_bytes > 0
    }

    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        let mut line = |title: &str, parts: &[(u64, &str)]| {
            let parts: Vec<String> = parts
                .iter()
                .filter(|(number, _)| *number > 0)
                .map(|(number, what)| format!("{} {what}", count(*number)))
                .collect();
            if !parts.is_empty() {
                out.push_str(&format!("{title}: {}\n", parts.join(", ")));
            }
        };
        let packets = self.packets.unwrap_or_default();
        line(
            "read",
            &[
                (packets.packets, "packets"),
                (self.cases, "cases"),
                (self.sessions, "connections"),
                (packets.guessed, "of them without their beginning"),
                (self.exchanges, "exchanges"),
            ],
        );
        line(
            "missing",
            &[
                (packets.lost_holes, "gaps in what was sent"),
                (packets.lost_bytes.max(self.lost_bytes), "bytes lost in them"),
                (packets.cut_holes, "packets cut off by the capture"),
                (packets.cut_bytes, "bytes cut off them"),
                (packets.fragments_incomplete, "datagrams without all their fragments"),
                (packets.bounds_hit, "times more was out of order than is held"),
            ],
        );
        line(
            "not decoded",
            &[
                (self.unknown_sessions, "connections of unknown protocol"),
                (self.unknown_bytes, "bytes in them"),
                (self.tls_sessions, "connections with TLS"),
                (self.unparsed_bytes, "bytes unparsed"),
                (packets.datagrams, "UDP datagrams"),
                (packets.datagram_bytes, "bytes in them"),
                (packets.other_transport, "packets of other transports"),
                (packets.not_ip, "packets that are no IP"),
                (packets.unknown_link, "packets of a link type that is not read"),
                (packets.too_deep, "packets within more tunnels or tags than are followed"),
            ],
        );
        line(
            "odd",
            &[
                (packets.disputed_bytes, "bytes sent twice and differing"),
                (packets.fragments_overlapping, "fragments overlapping"),
                (packets.malformed, "malformed packets"),
                (packets.short, "packets cut off in their headers"),
                (packets.implausible_segments, "segments that fit no connection"),
                (packets.implausible_bytes, "bytes in them"),
                (packets.before_beginning_bytes, "bytes from before the first that was seen"),
                (packets.after_end_bytes, "bytes after the end of their connection"),
                (packets.clock_steps, "times the clock went back"),
                (packets.forgotten, "connections closed to make room"),
            ],
        );
        out
    }
}
