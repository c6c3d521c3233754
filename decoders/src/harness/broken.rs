//! The properties can fail: a small protocol of lines, sound at first, then broken in one way at a time.

use super::{PROPERTIES, fuzz};
use crate::case::{self, Case};
use crate::item::{Class, Field};
use crate::protocol::*;

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// What came so far is taken for a frame.
    ForgetsChunks,
    /// An answer before its request is dropped.
    Impatient,
    /// A gap is overlooked.
    PairsAcrossGaps,
    /// At the end, what waits is told as answered.
    MakesUpAnswers,
    /// All is kept.
    Hoards,
    /// A frame is looked at from its beginning each time.
    Quadratic,
    /// A password is told as a fact.
    Leaks,
    /// Some bytes were not foreseen.
    Panics,
}

struct Lines(Fault);

struct LineDecoder {
    fault: Fault,
    asked: u64,
    answered: u64,
    sure: bool,
    hoard: Vec<u8>,
    searched: [usize; 2],
}

impl Protocol for Lines {
    fn name(&self) -> &'static str {
        "lines"
    }
    fn ports(&self) -> &'static [u16] {
        &[]
    }
    fn probe(&self, _heads: Heads<'_>) -> Probe {
        Probe::No
    }
    fn open(&self, _limits: &Limits, _middle: bool) -> Box<dyn Decoder> {
        let hoard = Vec::new();
        Box::new(LineDecoder { fault: self.0, asked: 0, answered: 0, sure: true, hoard, searched: [0; 2] })
    }
}

impl Decoder for LineDecoder {
    fn expects(&self, direction: Direction) -> bool {
        direction == Direction::Up || self.answered < self.asked || self.fault == Fault::Impatient
    }
    fn framing(&mut self, direction: Direction, bytes: &[u8]) -> Framing {
        let searched = &mut self.searched[direction as usize];
        let from = if self.fault == Fault::Quadratic { 0 } else { (*searched).min(bytes.len()) };
        let end = memchr::memchr(b'\n', &bytes[from..]).map(|at| from + at + 1);
        crate::work::looked_at(end.unwrap_or(bytes.len()) - from);
        *searched = if end.is_some() { 0 } else { bytes.len() };
        match end {
            Some(end) => Framing::Frame(end),
            None if self.fault == Fault::ForgetsChunks => Framing::Frame(bytes.len()),
            None => Framing::NeedMore(bytes.len() + 1),
        }
    }
    fn on_frame(&mut self, frame: Frame<'_>, cut: u64, out: &mut dyn Out) {
        let line = String::from_utf8_lossy(frame.bytes).trim_end().to_owned();
        self.searched[frame.direction as usize] = 0;
        if self.fault == Fault::Hoards {
            self.hoard.extend_from_slice(frame.bytes);
        }
        assert!(self.fault != Fault::Panics || !line.contains('\u{fffd}'), "not foreseen");
        let class = if self.fault == Fault::Leaks { Class::Structure } else { Class::Secret("line") };
        match frame.direction {
            Direction::Up => {
                self.asked += 1;
                let field = Field::new("lines.asked", line, class).cut_by(cut);
                out.request(self.asked, frame.time_ns, vec![field]);
            }
            Direction::Down if self.answered < self.asked && self.sure => {
                self.answered += 1;
                let field = Field::new("lines.answered", line, Class::Text).cut_by(cut);
                out.response(self.answered, frame.time_ns, Outcome::Ok, vec![field]);
            }
            Direction::Down => out.anomaly(None, crate::anomaly::RESPONSE_WITHOUT_REQUEST),
        }
    }
    fn on_body(&mut self, _body: Body<'_>, _out: &mut dyn Out) {}
    fn on_gap(&mut self, direction: Direction, _lost: u64, _out: &mut dyn Out) {
        self.searched[direction as usize] = 0;
        self.sure &= self.fault == Fault::PairsAcrossGaps;
    }
    fn resync(&mut self, direction: Direction, bytes: &[u8]) -> Option<usize> {
        self.searched[direction as usize] = 0;
        memchr::memchr(b'\n', bytes).map(|end| end + 1)
    }
    fn on_end(&mut self, _direction: Direction, out: &mut dyn Out) {
        while self.fault == Fault::MakesUpAnswers && self.answered < self.asked {
            self.answered += 1;
            out.response(self.answered, 1, Outcome::Ok, vec![Field::structure("lines.answered", "")]);
        }
    }
    fn held_bytes(&self) -> usize {
        self.hoard.len()
    }
}

fn conversation() -> Case {
    let text = "case lines\nsecret canary\n> 1 \"ask one canary\\n\"\n< 2 \"answer one\\n\"\n> 3 \"ask two\\nask three\\n\"\n< 4 \"answer two\\nanswer three\\n\"\n> 5 \"ask four\\n\"\n< 6 \"answer four\\n\"\n";
    case::parse("broken", text).expect("a case").remove(0)
}

/// What is wrong about this property with a decoder of this fault.
fn broken(fault: Fault, property: &str) -> Result<(), String> {
    let (_, check) = PROPERTIES.iter().find(|(name, _)| *name == property).expect("a property");
    check(&Lines(fault), &conversation())
}

#[test]
fn a_sound_decoder_holds_every_property() {
    for (property, _) in PROPERTIES {
        assert_eq!(broken(Fault::None, property), Ok(()), "{property}");
    }
    fuzz::run(&Lines(Fault::None), &[fuzz::seed(&conversation())], 500).expect("sound");
}

#[test]
fn each_property_fails_on_a_decoder_that_breaks_it() {
    for (fault, property) in [
        (Fault::ForgetsChunks, "any chunking tells the same"),
        (Fault::ForgetsChunks, "chunks that come twice or out of order tell the same"),
        (Fault::Impatient, "any interleaving of the directions tells the same"),
        (Fault::PairsAcrossGaps, "nothing is mixed across a gap"),
        (Fault::MakesUpAnswers, "what is cut off anywhere tells no more than the whole"),
        (Fault::Hoards, "memory stays bounded"),
        (Fault::Quadratic, "work grows with the bytes and not with their square"),
        (Fault::Leaks, "no secret survives masking"),
    ] {
        assert!(broken(fault, property).is_err(), "{fault:?} must break {property:?}");
    }
}

#[test]
fn the_bounded_fuzz_run_finds_a_planted_panic() {
    let found = fuzz::run(&Lines(Fault::Panics), &[fuzz::seed(&conversation())], 3000);
    assert!(found.is_err_and(|why| why.contains("panicked")), "the fuzz run cannot fail");
}
