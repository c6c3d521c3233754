//! One coding each: gzip (RFC 1952), deflate (RFC 1950, and RFC 1951 as some servers send it), br (RFC 7932), zstd
//! (RFC 8878, its window as RFC 9659 bounds it). A step takes some bytes and makes some; none is buffered whole.

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use flate2::{Crc, Decompress, FlushDecompress, Status};
use zstd::stream::raw::{DParameter, Decoder as ZstdDecoder, Operation};

use super::Stop;

/// Longest gzip header that is read, its names and comments included.
const GZIP_HEADER_MAX: usize = 4 << 10;
/// Windows of zstd up to 8 MiB (RFC 9659).
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// br tells what it made when it wants more: in small pieces, so that little is missing before a break.
const BROTLI_PIECE_BYTES: usize = 256;
/// What the state of a decoder takes, about; zstd's is larger.
const STATE_BYTES: u64 = 48 << 10;
const ZSTD_STATE_BYTES: u64 = 160 << 10;
/// The largest window of all.
const WINDOW_BYTES_MAX: u64 = 16 << 20;

type Brotli = BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>;

/// What a step did: bytes taken, bytes made, and whether it can go on.
pub(super) struct Step {
    pub(super) used: usize,
    pub(super) made: usize,
    pub(super) result: Result<(), Stop>,
}

impl Step {
    fn of(used: usize, made: usize) -> Step {
        Step { used, made, result: Ok(()) }
    }
    fn stopped(used: usize, made: usize, stop: Stop) -> Step {
        Step { used, made, result: Err(stop) }
    }
}

pub(super) enum Layer {
    Gzip(Gzip),
    Deflate(Deflate),
    Brotli { state: Box<Brotli>, ended: bool },
    Zstd { decoder: ZstdDecoder<'static>, ended: bool },
}

impl Layer {
    pub(super) fn named(name: &str) -> Option<Layer> {
        Some(match name {
            "gzip" | "x-gzip" => Layer::Gzip(Gzip::Header(Vec::new())),
            "deflate" => Layer::Deflate(Deflate::Unsure(None)),
            "br" => Layer::Brotli { state: new_brotli(), ended: false },
            "zstd" => {
                let mut decoder = ZstdDecoder::new().ok()?;
                decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX)).ok()?;
                Layer::Zstd { decoder, ended: false }
            }
            _ => return None,
        })
    }

    /// Takes of `coded`, makes into `made`. Told again with the rest until nothing is taken and nothing made.
    pub(super) fn step(&mut self, coded: &[u8], made: &mut [u8]) -> Step {
        match self {
            Layer::Gzip(gzip) => gzip.step(coded, made),
            Layer::Deflate(deflate) => deflate.step(coded, made),
            Layer::Brotli { state, ended } => brotli(state, ended, coded, made),
            Layer::Zstd { decoder, ended } => match decoder.run_on_buffers(coded, made) {
                Ok(status) => {
                    // A frame may follow a frame.
                    *ended = status.remaining == 0 || (*ended && status.bytes_read == 0);
                    Step::of(status.bytes_read, status.bytes_written)
                }
                Err(_) if *ended => Step::stopped(0, 0, Stop::Trailing),
                Err(_) => Step::stopped(0, 0, Stop::Broken),
            },
        }
    }

    /// The coded content is complete so far.
    pub(super) fn may_end(&self) -> bool {
        match self {
            Layer::Gzip(gzip) => matches!(gzip, Gzip::Header(header) if header.is_empty()),
            Layer::Deflate(deflate) => matches!(deflate, Deflate::Ended),
            Layer::Brotli { ended, .. } | Layer::Zstd { ended, .. } => *ended,
        }
    }

    /// Memory held after so many bytes were made: windows fill as they are used.
    pub(super) fn held_bytes(&self, made: u64) -> usize {
        let held = match self {
            Layer::Gzip(_) | Layer::Deflate(_) => STATE_BYTES,
            Layer::Brotli { .. } => STATE_BYTES + made.min(WINDOW_BYTES_MAX),
            Layer::Zstd { .. } => ZSTD_STATE_BYTES + made.min(WINDOW_BYTES_MAX),
        };
        held as usize
    }
}

fn new_brotli() -> Box<Brotli> {
    let allocate = StandardAlloc::default;
    // Strict: without the large windows that RFC 7932 does not know.
    Box::new(BrotliState::new_strict(allocate(), allocate(), allocate()))
}

fn brotli(state: &mut Brotli, ended: &mut bool, coded: &[u8], made: &mut [u8]) -> Step {
    if *ended {
        return if coded.is_empty() { Step::of(0, 0) } else { Step::stopped(0, 0, Stop::Trailing) };
    }
    let piece = &coded[..coded.len().min(BROTLI_PIECE_BYTES)];
    let (mut left, mut used) = (piece.len(), 0);
    let (mut room, mut length) = (made.len(), 0);
    let told =
        BrotliDecompressStream(&mut left, &mut used, piece, &mut room, &mut length, made, &mut 0, state);
    match told {
        BrotliResult::ResultSuccess => *ended = true,
        BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
        BrotliResult::ResultFailure => return Step::stopped(used, length, Stop::Broken),
    }
    Step::of(used, length)
}

/// Members of gzip, one after the other.
pub(super) enum Gzip {
    /// In a member's header: what came of it.
    Header(Vec<u8>),
    Data(Box<(Decompress, Crc)>),
    /// Behind the data: checksum and length as they should be, and what came of them.
    Trailer {
        expected: [u8; 8],
        came: usize,
    },
}

impl Gzip {
    fn step(&mut self, coded: &[u8], made: &mut [u8]) -> Step {
        match self {
            Gzip::Header(header) => {
                if coded.is_empty() {
                    return Step::of(0, 0);
                }
                let before = header.len();
                header.extend_from_slice(&coded[..coded.len().min(GZIP_HEADER_MAX - before)]);
                match gzip_header(header) {
                    Some(Some(length)) => {
                        *self = Gzip::Data(Box::new((Decompress::new(false), Crc::new())));
                        Step::of(length - before, 0)
                    }
                    None if header.len() < GZIP_HEADER_MAX => Step::of(header.len() - before, 0),
                    _ => Step::stopped(0, 0, Stop::Broken),
                }
            }
            Gzip::Data(data) => {
                let (inflate, crc) = &mut **data;
                let (step, ended) = inflated(inflate, coded, made);
                crc.update(&made[..step.made]);
                if ended {
                    let [sum, length] = [crc.sum(), crc.amount()].map(u32::to_le_bytes);
                    let mut expected = [0; 8];
                    expected[..4].copy_from_slice(&sum);
                    expected[4..].copy_from_slice(&length);
                    *self = Gzip::Trailer { expected, came: 0 };
                }
                step
            }
            Gzip::Trailer { expected, came } => {
                let taken = &coded[..coded.len().min(expected.len() - *came)];
                if !expected[*came..].starts_with(taken) {
                    return Step::stopped(0, 0, Stop::Broken);
                }
                *came += taken.len();
                if *came == expected.len() {
                    *self = Gzip::Header(Vec::new());
                }
                Step::of(taken.len(), 0)
            }
        }
    }
}

/// Length of the member's header that begins here (RFC 1952, 2.3): `None` when more is needed, `Some(None)` when it
/// is none.
fn gzip_header(bytes: &[u8]) -> Option<Option<usize>> {
    const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
    if bytes.iter().zip(MAGIC).any(|(byte, magic)| *byte != magic) {
        return Some(None);
    }
    let flags = *bytes.get(3)?;
    let mut at = 10;
    if flags & 0xe0 != 0 {
        return Some(None);
    }
    if flags & 4 != 0 {
        let length = bytes.get(at..at + 2)?;
        at += 2 + usize::from(u16::from_le_bytes([length[0], length[1]]));
    }
    for _ in 0..(flags & 8 != 0) as u8 + (flags & 16 != 0) as u8 {
        at += memchr::memchr(0, bytes.get(at..)?)? + 1;
    }
    if flags & 2 != 0 {
        at += 2;
    }
    (bytes.len() >= at).then_some(Some(at))
}

/// `deflate` is zlib; some servers send its inside alone, and clients take that.
pub(super) enum Deflate {
    /// The first two bytes tell which; one of them may have come.
    Unsure(Option<u8>),
    Data(Box<Decompress>),
    Ended,
}

impl Deflate {
    fn step(&mut self, coded: &[u8], made: &mut [u8]) -> Step {
        match self {
            Deflate::Unsure(first) => match (*first, coded) {
                (_, []) => Step::of(0, 0),
                (None, [first, _, ..]) if is_zlib(*first, coded[1]) => self.begin(true, &[], coded, made),
                (None, [_, _, ..]) => self.begin(false, &[], coded, made),
                (None, [only]) => {
                    *self = Deflate::Unsure(Some(*only));
                    Step::of(1, 0)
                }
                (Some(first), [second, ..]) => self.begin(is_zlib(first, *second), &[first], coded, made),
            },
            Deflate::Data(inflate) => {
                let (step, ended) = inflated(inflate, coded, made);
                if ended {
                    *self = Deflate::Ended;
                }
                step
            }
            Deflate::Ended if coded.is_empty() => Step::of(0, 0),
            Deflate::Ended => Step::stopped(0, 0, Stop::Trailing),
        }
    }

    /// `early` is the byte that came before it was known which: too little to make anything.
    fn begin(&mut self, zlib: bool, early: &[u8], coded: &[u8], made: &mut [u8]) -> Step {
        let mut inflate = Box::new(Decompress::new(zlib));
        inflated(&mut inflate, early, made);
        *self = Deflate::Data(inflate);
        self.step(coded, made)
    }
}

/// The first two bytes of zlib (RFC 1950, 2.2).
fn is_zlib(first: u8, second: u8) -> bool {
    first & 0x0f == 8 && first >> 4 <= 7 && (u16::from(first) * 256 + u16::from(second)).is_multiple_of(31)
}

/// One step of inflating, and whether the data ended with it.
fn inflated(inflate: &mut Decompress, coded: &[u8], made: &mut [u8]) -> (Step, bool) {
    let before = (inflate.total_in(), inflate.total_out());
    let status = inflate.decompress(coded, made, FlushDecompress::None);
    let used = (inflate.total_in() - before.0) as usize;
    let length = (inflate.total_out() - before.1) as usize;
    match status {
        Ok(status) => (Step::of(used, length), status == Status::StreamEnd),
        Err(_) => (Step::stopped(used, length, Stop::Broken), false),
    }
}
