//! What each stage makes of a capture, a line each. Places, lengths and codes only: never what was said.

use custody_decoders::event::{Event, Flow, Role};
use custody_decoders::pcap::Seen;
use custody_record::{Record, names};

fn way(flow: Flow) -> &'static str {
    if flow == Flow::Ingress { "up" } else { "down" }
}

/// A packet's segment: what TCP makes of it.
pub(super) fn segment(seen: &Seen) -> String {
    let Seen { packet, connection, from, to, length, told, .. } = *seen;
    let letters = [(0u8, 'F'), (1, 'S'), (2, 'R'), (3, 'P'), (4, 'A'), (5, 'U')];
    let flags: String =
        letters.iter().filter(|(bit, _)| seen.flags.0 >> bit & 1 == 1).map(|(_, letter)| *letter).collect();
    let position = seen.position.map_or("?".to_owned(), |position| position.to_string());
    format!(
        "connection {connection}: packet {packet} {}:{} > {}:{} {flags} at {position}, {length} bytes: {told}",
        from.address, from.port, to.address, to.port
    )
}

/// What goes into the pipeline. `sessions`: how many begun so far.
pub(super) fn event(event: &Event<'_>, sessions: &mut u64) -> Option<String> {
    Some(match event {
        Event::Open(socket) => {
            let end = |end: Option<custody_decoders::event::Endpoint>| {
                end.map_or("-".to_owned(), |end| format!("{}:{}", end.address, end.port))
            };
            let how = if socket.role == Role::Unknown { "by ports, a guess" } else { "seen" };
            let begun = if socket.existing { ", joined in its middle" } else { "" };
            let (id, client, server) = (socket.id.0, end(socket.remote), end(socket.local));
            *sessions += 1;
            format!(
                "connection {id}: stream opens as session {sessions}, client {client}, server {server} ({how}){begun}"
            )
        }
        Event::Chunk(chunk) => format!(
            "connection {}: stream {} at {}, {} bytes",
            chunk.socket.0,
            way(chunk.flow),
            chunk.position,
            chunk.bytes.len()
        ),
        Event::Hole(hole) => format!(
            "connection {}: stream {} at {}, {} bytes missing: {:?}",
            hole.socket.0,
            way(hole.flow),
            hole.position,
            hole.length,
            hole.cause
        ),
        Event::Reset(id, flow) => {
            let by = if *flow == Flow::Ingress { "client" } else { "server" };
            format!("connection {}: stream reset by the {by}", id.0)
        }
        Event::Close(id, ..) => format!("connection {}: stream closes", id.0),
        Event::Odd(id, code) => format!("connection {}: stream {code}", id.0),
        _ => return None,
    })
}

/// What comes out of it.
pub(super) fn record(record: &Record) -> String {
    let session = record.session.map_or("-".to_owned(), |number| number.to_string());
    let exchange = record.exchange.map(|number| format!(" exchange {number}")).unwrap_or_default();
    let text = |name: &str| record.fields.get(name).and_then(|value| value.as_text()).map(str::to_owned);
    let protocol = text(names::PROTOCOL_NAME).unwrap_or_default();
    let outcome = text(names::OUTCOME).map(|outcome| format!(" {outcome}")).unwrap_or_default();
    let masked = match record.masked.len() {
        0 => String::new(),
        count => format!(", {count} fields masked"),
    };
    let odd = record.anomalies.iter().map(|code| format!(" !{code}")).collect::<String>();
    let (kind, fields) = (record.kind.as_str(), record.fields.len());
    format!("session {session}: record {kind}{exchange} {protocol}{outcome}, {fields} fields{masked}{odd}")
}
