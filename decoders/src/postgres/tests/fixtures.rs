//! Conversations recorded between real programs and a real server, with what is told of each in a golden
//! beside it. `CUSTODY_BLESS=1` rewrites the goldens; a person reads the diff.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::*;

/// A line of a capture: bytes of one direction, or its end.
struct Line {
    direction: Direction,
    time_ns: u64,
    bytes: Option<Vec<u8>>,
}

fn read(path: &Path) -> Vec<Line> {
    let text = std::fs::read_to_string(path).expect("readable");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let [mark, micros, hex] = words[..] else { panic!("{}: {line}", path.display()) };
            Line {
                direction: if mark == ">" { Direction::Up } else { Direction::Down },
                time_ns: micros.parse::<u64>().expect("a number") * 1000,
                bytes: (hex != "end").then(|| hex::decode(hex).expect("hexadecimal")),
            }
        })
        .collect()
}

/// What is told of a capture when its bytes come in pieces of `piece` bytes.
fn told_of(lines: &[Line], piece: usize) -> Told {
    let mut decoder = Postgres.open(&Limits::default(), false);
    let mut told = Told::default();
    let mut held = [Vec::new(), Vec::new()];
    let mut body_left = [0u64; 2];
    for line in lines {
        let side = line.direction as usize;
        let Some(bytes) = &line.bytes else {
            decoder.on_end(line.direction, &mut told);
            continue;
        };
        for piece in bytes.chunks(piece) {
            held[side].extend_from_slice(piece);
            let used = consume(&mut *decoder, &mut told, line, &held[side], &mut body_left[side]);
            held[side].drain(..used);
        }
    }
    assert!(held.iter().all(Vec::is_empty), "all bytes of both directions are frames");
    told
}

fn consume(
    decoder: &mut dyn Decoder,
    told: &mut Told,
    line: &Line,
    bytes: &[u8],
    body_left: &mut u64,
) -> usize {
    let (direction, time_ns) = (line.direction, line.time_ns);
    let mut used = 0;
    while used < bytes.len() {
        let rest = &bytes[used..];
        if *body_left > 0 {
            let length = rest.len().min(*body_left as usize);
            *body_left -= length as u64;
            decoder.on_body(Body { direction, time_ns, bytes: &rest[..length], last: *body_left == 0 }, told);
            used += length;
            continue;
        }
        let length = match decoder.framing(direction, rest) {
            Framing::Frame(length) if length <= rest.len() => length,
            Framing::Streamed { head, body } if head <= rest.len() => {
                *body_left = body;
                head
            }
            Framing::Unframed => panic!("no frame at {rest:?}"),
            _ => break,
        };
        decoder.on_frame(Frame { direction, position: 0, time_ns, bytes: &rest[..length] }, 0, told);
        used += length;
    }
    used
}

fn render(told: &Told) -> String {
    let mut text = String::new();
    let mut line = |line: std::fmt::Arguments<'_>| writeln!(text, "{line}").expect("memory");
    line(format_args!("session"));
    for (name, value) in &told.session {
        line(format_args!("  {name} = {value:?}"));
    }
    for code in &told.anomalies {
        line(format_args!("  ! {code}"));
    }
    for (id, exchange) in &told.exchanges {
        line(format_args!("exchange {id}: {:?}", exchange.outcome));
        for code in &exchange.anomalies {
            line(format_args!("  ! {code}"));
        }
        for (name, (value, class)) in &exchange.fields {
            line(format_args!("  {name} = {value:?} ({class:?})"));
        }
        for rows in &exchange.rows {
            line(format_args!("  columns {:?}", rows.columns));
            for row in &rows.rows {
                line(format_args!("  row {row:?}"));
            }
        }
    }
    text
}

fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/postgres/fixtures");
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder of fixtures")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "cap"))
        .collect();
    found.sort();
    assert!(found.len() >= 16, "fixtures are missing");
    found
}

#[test]
fn recorded_conversations_tell_what_their_goldens_say() {
    let bless = std::env::var_os("CUSTODY_BLESS").is_some();
    for path in fixtures() {
        let found = render(&told_of(&read(&path), usize::MAX));
        let golden = path.with_extension("golden");
        if bless {
            std::fs::write(&golden, &found).expect("writable");
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        assert!(found == expected, "{} differs; it tells:\n{found}", golden.display());
    }
}

#[test]
fn any_chunking_tells_the_same() {
    for path in fixtures() {
        let lines = read(&path);
        let whole = render(&told_of(&lines, usize::MAX));
        for piece in [1, 2, 7, 64] {
            assert!(render(&told_of(&lines, piece)) == whole, "{} in pieces of {piece}", path.display());
        }
    }
}

#[test]
fn no_credential_or_key_of_a_recorded_login_is_told() {
    for path in fixtures() {
        let told = render(&told_of(&read(&path), usize::MAX));
        for secret in ["canary-secret", "wrong-canary", "n,,n=", "c=biws", "md5"] {
            let shown = told.replace("\"md5\"", "").replace("md5user", "");
            assert!(!shown.contains(secret), "{}: {secret}", path.display());
        }
    }
}
