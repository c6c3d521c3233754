//! One event of the kernel → events of the decoders → records on the link. Joins the tables, the TLS binder
//! and the pipeline; keeps no payload itself.

use bytes::Bytes;
use custody_abi::{self as abi, flag, layer};
use custody_decoders::anomaly;
use custody_decoders::event::{Binding, Chunk, Event, Flow, Hole, Layer, SocketId};
use custody_decoders::level::Level;
use custody_decoders::mask::Masker;
use custody_decoders::pipeline::{LATCH_BYTES, LATCH_WAIT_NS, Pipeline, PipelineOptions, Unread};
use custody_decoders::protocol::Limits;

use super::codes::{cause, flow};
use super::parse::{Parsed, parse};
use super::table::{Known, Table, unbound_id};
use super::tls::{self, Binder, Output, Owner};
use crate::clock;
use crate::config;
use crate::link::{self, Figures, FromWorker};

// The kernel side copies one end of a connection within this host alone, once it may count on these waits.
const _: () = assert!(
    LATCH_WAIT_NS == abi::ACCEPTING_END_WAIT_NS && LATCH_BYTES as u64 == abi::ACCEPTING_END_WAIT_BYTES
);

/// From parsed events to framed records.
pub struct Stage {
    /// Who is who.
    pub table: Table,
    binder: Binder<SocketId>,
    pipeline: Pipeline,
    outputs: Vec<Output<SocketId>>,
    canary: link::Canary,
    canary_seen: bool,
    trace: (u16, u32),
    leaves_out_unbound: bool,
    /// Frames for the agent.
    pub out: Vec<u8>,
    /// Sums.
    pub figures: Figures,
}

impl Stage {
    /// With these bounds and masks.
    pub fn new(limits: &config::Limits, masker: Masker, sessions_before: u64, canary: link::Canary) -> Self {
        let limits = Limits {
            frame_bytes_max: limits.frame_bytes_max,
            body_bytes_max: limits.body_bytes_max,
            rows_max: limits.rows_max,
            pending_max: limits.pending_max,
            ..Limits::default()
        };
        let options = PipelineOptions { limits, masker, sessions_before, ..PipelineOptions::default() };
        Stage {
            table: Table::default(),
            binder: Binder::new(tls::Limits::default()),
            pipeline: Pipeline::new(options),
            outputs: Vec::new(),
            canary,
            canary_seen: false,
            trace: (0, 0),
            leaves_out_unbound: false,
            out: Vec::new(),
            figures: Figures::default(),
        }
    }

    /// Which connections are told stage by stage: port and pid, 0 for none.
    pub fn set_trace(&mut self, port: u16, pid: u32) {
        self.trace = (port, pid);
    }

    /// Whether plaintext whose connection is not known is counted alone. Where rules go by addresses, its connection may
    /// be one that they leave out: the kernel side tells nothing of those.
    pub fn set_leaves_out_unbound(&mut self, leaves_out: bool) {
        self.leaves_out_unbound = leaves_out;
    }

    /// How much is told from now on.
    pub fn set_level(&mut self, level: Level) {
        self.pipeline.set_level(level);
    }

    /// One record of a ring, in the order of [`super::ingest`].
    pub fn event(&mut self, bytes: &[u8]) {
        self.figures.events += 1;
        match parse(bytes) {
            Some(event) => self.parsed(event),
            None => self.figures.malformed += 1,
        }
        self.bound();
    }

    /// Everything of before `now_ns` has been told; `lost` events never will be.
    pub fn tick(&mut self, lost: u64, now_ns: u64) {
        if lost > 0 {
            self.figures.events_lost = self.figures.events_lost.saturating_add(lost);
            self.feed(Event::Lost(lost, now_ns));
        }
        self.binder.tick(now_ns, &mut self.outputs);
        self.bound();
        self.feed(Event::Tick(now_ns));
    }

    /// For which programs TLS was not read, to the agent.
    pub fn tell_unread(&mut self) {
        let unread = self.pipeline.take_unread();
        let told = |unread: Unread| link::UnreadTls {
            pid: unread.process.pid,
            executable: unread.process.executable.clone(),
            connections: unread.connections,
            bytes: unread.bytes,
        };
        if !unread.is_empty() {
            self.tell(&FromWorker::TlsUnread(unread.into_iter().map(told).collect()));
        }
    }

    /// No more events: sessions end.
    pub fn finish(&mut self) {
        let (out, figures) = (&mut self.out, &mut self.figures);
        self.pipeline.finish(&mut |record| count(link::put_record(out, &record), figures));
        self.tell_unread();
    }

    /// Sums and what is held now.
    pub fn figures(&self) -> Figures {
        Figures {
            sessions: self.pipeline.sessions_open() as u64,
            held_bytes: self.pipeline.held_bytes() as u64,
            level: self.pipeline.level(),
            records_left_out: self.pipeline.told().left_out,
            tls_unbound_bytes: self.binder.counters().unbound_bytes,
            ..self.figures.clone()
        }
    }

    /// A message to the agent.
    pub fn tell(&mut self, message: &FromWorker) {
        // Messages are small and plain: the only way to fail is a record, and that is counted where it happens.
        if link::put_up(&mut self.out, message).is_err() {
            self.figures.records_failed += 1;
        }
    }

    fn feed(&mut self, event: Event<'_>) {
        let (out, figures) = (&mut self.out, &mut self.figures);
        self.pipeline.feed(event, &mut |record| count(link::put_record(out, &record), figures));
    }

    fn parsed(&mut self, event: Parsed<'_>) {
        match event {
            Parsed::Data(data, bytes) => self.data(&data, bytes),
            Parsed::Gap(gap) => self.gap(&gap),
            Parsed::SocketOpen(open) => self.open(&open),
            Parsed::SocketClose(close) => self.close(&close),
            Parsed::Exec(exec, strings) => {
                let process = self.table.exec(&exec, strings);
                self.tell(&FromWorker::Started { pid: exec.task.pid });
                self.feed(Event::Exec(process, exec.header.time_ns));
            }
            Parsed::Fork(fork) => self.table.fork(&fork),
            Parsed::Exit(exit) => {
                self.binder.exited(exit.task, exit.header.time_ns, &mut self.outputs);
                self.bound();
                let process = self.table.exit(exit.task);
                self.feed(Event::Exit(process, exit.status, exit.header.time_ns));
            }
            Parsed::TlsBind(bind) => {
                let Some(known) = self.table.socket(bind.socket) else { return };
                self.trace(known, || {
                    format!("tls object {} bound, provenance {}", bind.tls, bind.provenance)
                });
                if bind.header.flags & flag::EARLY != 0 {
                    self.feed(Event::Odd(known.id, anomaly::TLS_EARLY_DATA));
                }
                self.binder.on_bind(&bind, known.id, &mut self.outputs);
            }
            Parsed::TlsSettle(settle) => self.binder.on_settle(&settle, &mut self.outputs),
            Parsed::TlsClose(close) => self.binder.on_close(&close, &mut self.outputs),
        }
    }

    fn open(&mut self, event: &abi::SocketOpen) {
        let Some((known, socket)) = self.table.open(event, self.canary) else { return };
        if known.canary {
            return;
        }
        self.trace(known, || {
            format!(
                "open, transport {:?}, role {:?}, existing {}",
                socket.transport, socket.role, socket.existing
            )
        });
        self.feed(Event::Open(socket));
    }

    /// A socket whose end no hook tells is gone, and all that it moved has been read.
    pub fn gone(&mut self, gone: link::GoneSocket) {
        let socket = abi::SocketKey { sock: gone.sock, generation: gone.generation };
        let header = abi::Header { time_ns: clock::boottime_ns(), ..abi::Header::default() };
        let [ingress_position, egress_position] = gone.ends;
        self.close(&abi::SocketClose { header, socket, ingress_position, egress_position });
        self.bound();
    }

    fn close(&mut self, event: &abi::SocketClose) {
        let Some(known) = self.table.close(event.socket) else { return };
        if known.canary {
            return;
        }
        self.binder.socket_closed(known.id, event.header.time_ns, &mut self.outputs);
        self.bound();
        let ends = [event.ingress_position, event.egress_position].map(abi::known_position);
        self.trace(known, || format!("close, ends {ends:?}"));
        for (bit, flow) in [(flag::RESET_RECEIVED, Flow::Ingress), (flag::RESET_SENT, Flow::Egress)] {
            if event.header.flags & bit != 0 {
                self.feed(Event::Reset(known.id, flow));
            }
        }
        self.feed(Event::Close(known.id, ends, event.header.time_ns));
    }

    fn data(&mut self, data: &abi::Data, bytes: &[u8]) {
        self.figures.bytes += bytes.len() as u64;
        if data.layer == layer::PLAINTEXT {
            let socket = self.table.socket(data.socket).filter(|known| !known.canary).map(|known| known.id);
            self.binder.on_data(data, socket, Bytes::copy_from_slice(bytes), &mut self.outputs);
            return;
        }
        // An urgent byte is read beside the stream: where it stood there is told as a gap once reading passes it.
        if data.header.flags & (flag::UNATTRIBUTED | flag::OUT_OF_BAND) != 0 {
            self.figures.bytes_unused += bytes.len() as u64;
            return;
        }
        let Some(known) = self.known(data.socket, data.task, data.header.time_ns) else {
            self.figures.bytes_unused += bytes.len() as u64;
            return;
        };
        if known.canary {
            if !std::mem::replace(&mut self.canary_seen, true) {
                self.tell(&FromWorker::CanarySeen);
            }
            return;
        }
        let flow = flow(data.direction);
        if flow == Flow::Egress && is_hello(bytes) {
            // Who sends one has its TLS library mapped by now.
            self.tell(&FromWorker::TlsSeen { pid: data.task.pid });
        }
        self.trace(known, || format!("wire {flow:?} at {} {} bytes", data.position, bytes.len()));
        self.feed(Event::Chunk(Chunk {
            socket: known.id,
            flow,
            layer: Layer::Wire,
            position: data.position,
            time_ns: data.header.time_ns,
            bytes,
        }));
    }

    fn gap(&mut self, gap: &abi::Gap) {
        if gap.layer == layer::PLAINTEXT {
            self.binder.on_gap(gap, &mut self.outputs);
            return;
        }
        if gap.cause == abi::cause::MAP_FULL {
            return self.feed(Event::NoRoom(gap.length, gap.header.time_ns));
        }
        let known = self.known(gap.socket, gap.task, gap.header.time_ns);
        let Some(known) = known.filter(|known| !known.canary) else { return };
        let flow = flow(gap.direction);
        self.trace(known, || {
            format!("gap {flow:?} at {} {} bytes, cause {}", gap.position, gap.length, gap.cause)
        });
        self.feed(Event::Hole(Hole {
            socket: known.id,
            flow,
            layer: Layer::Wire,
            position: gap.position,
            length: gap.length,
            cause: cause(gap.cause),
            time_ns: gap.header.time_ns,
        }));
    }

    /// The socket; one whose first sight was lost, or told to a worker before this one, is opened without its
    /// addresses and positions, which are not guessed.
    fn known(&mut self, key: abi::SocketKey, task: abi::TaskKey, time_ns: u64) -> Option<Known> {
        if key.generation == 0 {
            return None;
        }
        if let Some(known) = self.table.socket(key) {
            return Some(known);
        }
        let header = abi::Header { flags: flag::EXISTING, time_ns, ..abi::Header::default() };
        let open = abi::SocketOpen {
            header,
            socket: key,
            task,
            transport: abi::transport::TCP,
            ingress_position: abi::POSITION_UNKNOWN,
            egress_position: abi::POSITION_UNKNOWN,
            ..abi::SocketOpen::default()
        };
        let (known, socket) = self.table.open(&open, link::Canary::default())?;
        self.feed(Event::Open(socket));
        Some(known)
    }

    /// What the binder said goes on to the pipeline.
    fn bound(&mut self) {
        if self.outputs.is_empty() {
            return;
        }
        for output in std::mem::take(&mut self.outputs) {
            self.output(output);
        }
    }

    fn output(&mut self, output: Output<SocketId>) {
        if self.leaves_out_unbound && output.is_unbound() {
            self.figures.tls_left_out_bytes = self.figures.tls_left_out_bytes.saturating_add(output.length());
            return;
        }
        match output {
            Output::Bound { owner, binding, task, existing, time_ns } => {
                if let Owner::Unbound(tls) = owner {
                    let socket = self.table.unbound(tls.0, task, existing, time_ns);
                    self.feed(Event::Open(socket));
                    let (socket, binding) = (unbound_id(tls.0), Binding::Unknown);
                    self.feed(Event::Bound { socket, binding, existing, time_ns });
                    return;
                }
                self.feed(Event::Bound { socket: name(owner), binding, existing, time_ns });
            }
            Output::Chunk { owner, flow, position, time_ns, bytes, .. } => {
                let (socket, layer) = (name(owner), Layer::Plaintext);
                self.feed(Event::Chunk(Chunk { socket, flow, layer, position, time_ns, bytes: &bytes }));
            }
            Output::Hole { owner, flow, position, length, cause, time_ns } => {
                let (socket, layer) = (name(owner), Layer::Plaintext);
                self.feed(Event::Hole(Hole { socket, flow, layer, position, length, cause, time_ns }));
            }
            Output::Ended { tls, time_ns } => self.feed(Event::Close(unbound_id(tls.0), [None; 2], time_ns)),
        }
    }

    fn trace(&mut self, known: Known, line: impl FnOnce() -> String) {
        let (port, pid) = self.trace;
        let wanted = (port != 0 && known.ports.contains(&port)) || (pid != 0 && known.pid == pid);
        if wanted {
            let [local, remote] = known.ports;
            let line = format!("socket {} pid {} ports {local}/{remote}: {}", known.id.0, known.pid, line());
            self.tell(&FromWorker::Trace(line));
        }
    }
}

/// A TLS record with a ClientHello or a ServerHello, each the first of its side (RFC 8446 4 and 5.1).
fn is_hello(bytes: &[u8]) -> bool {
    matches!(bytes, [22, 3, 0..=4, _, _, 1 | 2, ..])
}

fn count(framed: Result<(), link::LinkError>, figures: &mut Figures) {
    match framed {
        Ok(()) => figures.records += 1,
        Err(_) => figures.records_failed += 1,
    }
}

fn name(owner: Owner<SocketId>) -> SocketId {
    match owner {
        Owner::Socket(socket) => socket,
        Owner::Unbound(tls) => unbound_id(tls.0),
    }
}

#[cfg(test)]
mod tests;
