//! `custody decode FILE`: a capture file through the same pipeline as live traffic, without a sink.
//!
//! Reads, filters and prints. What packets mean is `custody_decoders::pcap`'s business, what bytes say the
//! decoders'; nothing is printed that did not pass their masking.

mod input;
mod report;
mod trace;

use std::collections::VecDeque;
use std::io::IsTerminal;

use custody_decoders::case;
use custody_decoders::event::Event;
use custody_decoders::mask::Masked;
use custody_decoders::pcap::{Capture, CaptureOptions, Damage, Listener, Seen, text};
use custody_decoders::pipeline::{Pipeline, PipelineOptions};
use custody_record::{Assembler, Facts, Filter, Record, Status, View, names};

use crate::args::{DecodeArgs, Format, Selection};
use crate::outcome::{Exit, Failure, Outcome};
use crate::output::{Lines, Style, now};
use crate::render;
use crate::select::{self, Window};
use input::Input;
use report::Report;

/// Bytes of the file that are taken at once.
const PIECE_BYTES: usize = 256 << 10;
/// First bytes by which the kind of file is told.
const HEAD_BYTES: usize = 64 << 10;
/// Of these, what says that it is a capture of packets.
const MAGIC_BYTES: usize = 4;
/// Longest `.cap` file: it is read whole.
const TEXT_BYTES_MAX: usize = 16 << 20;

pub(crate) fn run(arguments: &DecodeArgs) -> Outcome {
    let window = Window::of(&arguments.traffic, now())?;
    let selection = Selection { traffic: arguments.traffic.clone(), ..Selection::default() };
    let filter = select::filter(&selection, arguments.shown.all)?;
    let filter = if filter.is_empty() { None } else { Some(filter.parse().map_err(Failure::usage)?) };
    let mut input = Input::open(&arguments.file).map_err(Failure::usage)?;
    let mut decode = Decode::new(arguments, Chosen { window, filter }, input.name());
    let mut head = vec![0; HEAD_BYTES];
    // Of a live capture the header comes alone; of a text the first lines tell.
    let mut read = input.read(&mut head, MAGIC_BYTES).map_err(Failure::usage)?;
    if Capture::is_capture(&head[..read]) != Some(true) {
        read += input.read(&mut head[read..], HEAD_BYTES).map_err(Failure::usage)?;
    }
    head.truncate(read);
    let damage = if Capture::is_capture(&head) == Some(true) {
        decode.capture(&head, &mut input)?
    } else if text::is_text(&head) {
        decode.text(head, &mut input)?
    } else {
        return Err(Failure::usage(input.is_no_capture()));
    };
    decode.finish(damage)
}

/// The way from events to lines.
struct Decode {
    pipeline: Pipeline,
    printer: Printer,
    trace: bool,
    /// Sessions begun, which the pipeline numbers in this order.
    sessions: u64,
}

/// Which records are shown.
struct Chosen {
    window: Window,
    filter: Option<Filter>,
}

impl Chosen {
    fn has(&self, view: &View) -> bool {
        self.window.has(view.wall) && self.filter.as_ref().is_none_or(|filter| filter.matches(view))
    }
}

struct Printer {
    assembler: Assembler,
    chosen: Chosen,
    style: Style,
    json: bool,
    trace: bool,
    name: String,
    /// What makes ids of sessions differ between captures: the time of the first record.
    nonce: Option<[u8; 16]>,
    records: u64,
    shown: u64,
    last: Option<usize>,
    kept: VecDeque<View>,
    lines: Lines,
    report: Report,
    failure: Option<Failure>,
}

impl Decode {
    fn new(arguments: &DecodeArgs, chosen: Chosen, name: &str) -> Self {
        Decode {
            pipeline: Pipeline::new(PipelineOptions::default()),
            trace: arguments.trace,
            sessions: 0,
            printer: Printer {
                assembler: Assembler::default(),
                chosen,
                // What is open is open until the capture ends, not until now.
                style: Style { now: 0, ..Style::of(&arguments.shown.output) },
                json: arguments.shown.output.format == Format::Json,
                trace: arguments.trace,
                name: name.to_owned(),
                nonce: None,
                records: 0,
                shown: 0,
                last: arguments.shown.lines,
                kept: VecDeque::new(),
                lines: Lines::new(),
                report: Report::default(),
                failure: None,
            },
        }
    }

    /// A capture of packets. What could not be read of it, if anything.
    fn capture(&mut self, head: &[u8], input: &mut Input) -> Result<Option<String>, Failure> {
        let mut capture = Capture::new(CaptureOptions::default());
        let mut damage = capture.push(head, self).err().map(|damage| damage.to_string());
        let mut piece = vec![0; PIECE_BYTES];
        let least = if input.is_live() { 1 } else { PIECE_BYTES };
        while damage.is_none() {
            self.printer.settle(input.is_live())?;
            match input.read(&mut piece, least) {
                Ok(0) => break,
                Ok(read) => {
                    damage = capture.push(&piece[..read], self).err().map(|damage| damage.to_string());
                }
                Err(error) => {
                    let at = capture.counts().file_bytes;
                    damage =
                        Some(format!("what stands behind byte {at} of the capture is missing: {error:#}"));
                }
            }
            input.show_progress();
        }
        input.end_progress();
        let end = capture.finish(self).err();
        // An error of reading explains a record that is cut off, not the other way round.
        let damage = damage.or(end.map(|damage: Damage| damage.to_string()));
        self.printer.report.packets = Some(capture.counts());
        Ok(damage)
    }

    /// Our own text.
    fn text(&mut self, head: Vec<u8>, input: &mut Input) -> Result<Option<String>, Failure> {
        let whole = input.rest(head, TEXT_BYTES_MAX).map_err(Failure::usage)?;
        let text = String::from_utf8(whole)
            .map_err(|_| Failure::usage(anyhow::anyhow!("{}: a .cap file is UTF-8 text", input.name())))?;
        let cases = case::parse(input.name(), &text)
            .map_err(|why| Failure::usage(anyhow::anyhow!("no .cap file: {why}")))?;
        self.printer.report.cases = cases.len() as u64;
        text::tell(&cases, self);
        Ok(None)
    }

    fn finish(mut self, damage: Option<String>) -> Outcome {
        let Decode { pipeline, printer, .. } = &mut self;
        pipeline.finish(&mut |record| printer.record(record));
        for view in std::mem::take(&mut printer.kept) {
            printer.print(&view);
        }
        printer.settle(true)?;
        eprint!("{}", printer.report.text());
        if let Some(damage) = &damage {
            eprintln!("custody: {damage}; what stands before it is shown");
        }
        Ok(match (damage.is_some() || printer.report.is_incomplete(), printer.shown) {
            (true, _) => Exit::Incomplete,
            (false, 0) => Exit::Negative,
            (false, _) => Exit::Ok,
        })
    }
}

impl Listener for Decode {
    fn event(&mut self, event: Event<'_>) {
        if self.trace
            && let Some(line) = trace::event(&event, &mut self.sessions)
        {
            eprintln!("{line}");
        }
        let printer = &mut self.printer;
        self.pipeline.feed(event, &mut |record| printer.record(record));
    }

    fn segment(&mut self, seen: &Seen) {
        if self.trace {
            eprintln!("{}", trace::segment(seen));
        }
    }
}

impl Printer {
    fn record(&mut self, record: Masked<Record>) {
        let mut record = record.into_inner();
        // Which end of a connection was read says where the agent stood; a capture stands at neither.
        record.fields.remove(names::SIDE);
        if self.trace {
            eprintln!("{}", trace::record(&record));
        }
        self.report.count(&record);
        if self.failure.is_some() {
            return;
        }
        self.records += 1;
        let view = self.view(record);
        if !self.chosen.has(&view) {
            return;
        }
        match self.last {
            None => self.print(&view),
            Some(last) => {
                self.kept.push_back(view);
                while self.kept.len() > last {
                    self.kept.pop_front();
                }
            }
        }
    }

    /// The same shape as an entry of a sink has. There is no host and no sink: the file's name stands for the
    /// one where lines of several files may meet, and nothing is called stored.
    fn view(&mut self, record: Record) -> View {
        let nonce = *self.nonce.get_or_insert_with(|| u128::from(record.times.first_ns).to_be_bytes());
        let wall = i64::try_from(record.times.last_ns).unwrap_or(i64::MAX);
        self.style.now = self.style.now.max(wall);
        let facts = Facts {
            host: &[0; 16],
            host_id: "capture",
            host_name: if self.json { &self.name } else { "capture" },
            labels: &Default::default(),
            epoch: 0,
            nonce: &nonce,
            seq: self.records,
            entry_type: record.kind.as_str(),
            session: record.session,
            received: wall,
            wall,
            status: Status::Unstored,
            body: None,
            expired: false,
        };
        self.assembler.view_of(&facts, Some(record))
    }

    fn print(&mut self, view: &View) {
        self.shown += 1;
        let printed = if self.json {
            self.lines.view(view)
        } else {
            let lines = render::line::render(view, &self.style);
            lines.iter().try_for_each(|line| self.lines.put(line))
        };
        if let Err(failure) = printed {
            self.failure.get_or_insert(failure);
        }
    }

    /// What went wrong with the output since it was asked last; shows all so far where somebody may be watching.
    fn settle(&mut self, flush: bool) -> Result<(), Failure> {
        if flush || std::io::stdout().is_terminal() {
            self.lines.flush()?;
        }
        self.failure.take().map_or(Ok(()), Err)
    }
}
