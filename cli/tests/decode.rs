//! `custody decode` as people run it: files of each kind, what is said on which stream, and how it ends.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use custody_record::{Status, View, names};

const CANARY: &str = "canary-8d1f";

/// A conversation: who sends (0: the client), position, acknowledged, bytes. A capture of raw IP, a millisecond apart.
fn capture(segments: &[(usize, u32, u32, &[u8])]) -> Vec<u8> {
    let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 101, 0, 0, 0];
    let syn: [(usize, u32, u32, &[u8]); 2] = [(0, u32::MAX, 0, b""), (1, u32::MAX, 0, b"")];
    for (index, (who, at, acknowledged, bytes)) in syn.iter().chain(segments).enumerate() {
        let flags = match index {
            0 => 2,
            1 => 0x12,
            _ => 0x10,
        };
        let mut packet = vec![0x45, 0];
        packet.extend((40 + bytes.len() as u16).to_be_bytes());
        packet.extend([0, 0, 0, 0, 64, 6, 0, 0]);
        let ends = [([10, 0, 0, 1], 40_000u16), ([10, 0, 0, 2], 80)];
        let (from, to) = (ends[*who], ends[1 - who]);
        packet.extend(from.0);
        packet.extend(to.0);
        packet.extend(from.1.to_be_bytes());
        packet.extend(to.1.to_be_bytes());
        packet.extend(at.wrapping_add(1000).to_be_bytes());
        packet.extend(acknowledged.wrapping_add(1000).to_be_bytes());
        packet.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        packet.extend_from_slice(bytes);
        for number in [1_700_000_000, index as u32 * 1000, packet.len() as u32, packet.len() as u32] {
            file.extend(number.to_le_bytes());
        }
        file.extend(packet);
    }
    file
}

const REQUEST: &[u8] =
    b"GET /prices?token=canary-8d1f HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer canary-8d1f\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const REFUSAL: &[u8] = b"HTTP/1.1 503 Not Now\r\nContent-Length: 0\r\n\r\n";

/// Two exchanges, the second one refused.
fn exchanges() -> Vec<u8> {
    let (up, down) = (REQUEST.len() as u32, ANSWER.len() as u32);
    capture(&[(0, 0, 0, REQUEST), (1, 0, up, ANSWER), (0, up, down, REQUEST), (1, down, 2 * up, REFUSAL)])
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Place(tempfile::tempdir().expect("a folder"))
    }

    fn file(&self, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join("file");
        std::fs::write(&path, bytes).expect("written");
        path
    }
}

fn decode(file: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_custody"));
    command.arg("decode").arg(file).args(arguments).output().expect("custody runs")
}

fn decode_bytes(bytes: &[u8], arguments: &[&str]) -> Output {
    decode(&Place::new().file(bytes), arguments)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

fn views(output: &Output) -> Vec<View> {
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("a view")).collect()
}

fn paths(output: &Output) -> Vec<String> {
    let path = |view: &View| view.text(names::URL_PATH).map(|path| path.into_owned());
    views(output).iter().filter_map(path).collect()
}

#[test]
fn an_exchange_is_a_line_of_the_shape_that_tail_has() {
    let output = decode_bytes(&exchanges(), &["-o", "json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let views = views(&output);
    let kinds: Vec<&str> = views.iter().map(|view| view.entry_type.as_str()).collect();
    assert_eq!(kinds, ["exchange", "exchange", "session.close"]);
    let first = &views[0];
    assert_eq!((first.number(names::HTTP_STATUS), first.exchange), (Some(200), Some(1)));
    assert_eq!(first.status, Status::Unstored, "no sink has it");
    assert_eq!(first.wall, 1_700_000_000_003_000_000, "the capture's own time");
    assert_eq!(first.field(names::SIDE), None, "a capture stands at neither end");
    assert!(first.session_id.is_some() && first.session_id == views[1].session_id);
    assert!(text(&output.stderr).contains("read: 6 packets, 1 connections, 2 exchanges"), "{output:?}");
}

#[test]
fn secrets_are_in_no_output() {
    for arguments in [&["-o", "json", "--all", "--trace"][..], &["--trace"], &["-o", "wide"]] {
        let output = decode_bytes(&exchanges(), arguments);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(said.contains("/prices") && !said.contains(CANARY), "{said}");
    }
}

/// More than a compressor puts into one block.
fn many_exchanges() -> Vec<u8> {
    let (up, down) = (REQUEST.len() as u32, ANSWER.len() as u32);
    let turns: Vec<_> = (0..2000)
        .flat_map(|turn| [(0, turn * up, turn * down, REQUEST), (1, turn * down, (turn + 1) * up, ANSWER)])
        .collect();
    capture(&turns)
}

#[test]
fn a_compressed_file_is_told_by_its_content() {
    let plain = many_exchanges();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).expect("packed");
    let gzip = gzip.finish().expect("packed");
    let zstd = zstd::encode_all(plain.as_slice(), 1).expect("packed");
    let expected = decode_bytes(&plain, &["-o", "json"]).stdout;
    for packed in [&gzip, &zstd] {
        let output = decode_bytes(packed, &["-o", "json"]);
        assert_eq!((output.status.code(), output.stdout == expected), (Some(0), true));
        let output = decode_bytes(&packed[..packed.len() * 3 / 4], &["-o", "json"]);
        assert_eq!(output.status.code(), Some(4), "{:?}", text(&output.stderr));
        assert!((500..2000).contains(&paths(&output).len()), "{} exchanges", paths(&output).len());
        assert!(text(&output.stderr).contains("of the capture is missing: cannot unpack file"));
        let output = decode_bytes(&packed[..packed.len() / 100], &["-o", "json"]);
        assert!(output.status.code().is_some_and(|code| code == 2 || code == 4), "{output:?}");
    }
}

#[test]
fn standard_input_is_a_file_too() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_custody"))
        .args(["decode", "-", "-o", "json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("custody runs");
    let mut input = child.stdin.take().expect("a pipe");
    for piece in exchanges().chunks(11) {
        input.write_all(piece).expect("taken");
    }
    drop(input);
    let output = child.wait_with_output().expect("custody ends");
    assert_eq!((output.status.code(), paths(&output).len()), (Some(0), 2), "{output:?}");
}

#[test]
fn our_own_text_is_read() {
    let case = "# a remark\ncase one\n> 0 \"GET /a HTTP/1.1\\r\\n\\r\\n\"\n< 9 \"HTTP/1.1 204 No\\r\\n\\r\\n\"\ncase two\n\
                > 0 \"GET /b HTTP/1.1\\r\\n\\r\\n\"\n< 9 \"HTTP/1.1 204 No\\r\\n\\r\\n\"\n";
    let output = decode_bytes(case.as_bytes(), &["-o", "json"]);
    assert_eq!((output.status.code(), paths(&output)), (Some(0), vec!["/a".to_owned(), "/b".to_owned()]));
    let output = decode_bytes(b"case one\n> 0 what\n", &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("line 2"), "{output:?}");
}

#[test]
fn flags_choose_what_is_shown() {
    let file = exchanges();
    let errors = decode_bytes(&file, &["-o", "json", "--errors"]);
    assert_eq!(
        views(&errors).iter().filter_map(|view| view.number(names::HTTP_STATUS)).collect::<Vec<_>>(),
        [503]
    );
    let chosen = decode_bytes(&file, &["-o", "json", "--where", "http.response.status_code = 200"]);
    assert_eq!((paths(&chosen).len(), chosen.status.code()), (1, Some(0)));
    let last = decode_bytes(&file, &["-o", "json", "-n", "1"]);
    assert_eq!(views(&last)[0].entry_type, "session.close");
    let none = decode_bytes(&file, &["-o", "json", "--protocol", "postgresql"]);
    assert_eq!((none.stdout.len(), none.status.code()), (0, Some(1)));
    let wrong = decode_bytes(&file, &["--where", "status ="]);
    assert_eq!((wrong.stdout.len(), wrong.status.code()), (0, Some(2)));
}

#[test]
fn a_window_of_time_is_that_of_the_packets() {
    // Packets are a millisecond apart; the answers are the fourth and the sixth of them.
    let at = |ms: u32| format!("2023-11-14T22:13:20.{ms:03}Z");
    let statuses = |arguments: &[&str]| {
        let output = decode_bytes(&exchanges(), &[&["-o", "json", "--protocol", "http"], arguments].concat());
        let numbers =
            views(&output).iter().filter_map(|view| view.number(names::HTTP_STATUS)).collect::<Vec<_>>();
        (numbers, output.status.code())
    };
    assert_eq!(statuses(&["--since", &at(3)]), (vec![200, 503], Some(0)), "its own time is in it");
    assert_eq!(statuses(&["--since", &at(4)]), (vec![503], Some(0)));
    assert_eq!(statuses(&["--until", &at(5)]), (vec![200], Some(0)), "its end is not");
    assert_eq!(statuses(&["--since", &at(4), "--until", &at(5)]), (vec![], Some(1)));
    assert_eq!(statuses(&["--since", "10m"]), (vec![], Some(1)), "ago is before now, as for tail");
    for flag in ["--since", "--until"] {
        let wrong = decode_bytes(&exchanges(), &[flag, "yesterday"]);
        assert_eq!((wrong.stdout.len(), wrong.status.code()), (0, Some(2)));
        assert!(text(&wrong.stderr).contains(flag), "{wrong:?}");
    }
}

#[test]
fn the_flags_of_the_examples_are_those_that_it_takes() {
    let help = decode(Path::new("--help"), &[]);
    let help = text(&help.stdout);
    let examples: Vec<Vec<String>> = help
        .lines()
        .filter_map(|line| line.split_once("custody decode capture.pcap "))
        .map(|(_, flags)| flags.split("     ").next().unwrap_or_default().replace('\'', ""))
        .map(|flags| {
            flags
                .replace("duration > 100ms", "duration>100ms")
                .split_whitespace()
                .map(str::to_owned)
                .collect()
        })
        .collect();
    assert_eq!(examples.len(), 3, "{help}");
    let place = Place::new();
    let file = place.file(&exchanges());
    for example in examples {
        let output = decode(&file, &example.iter().map(String::as_str).collect::<Vec<_>>());
        assert_ne!(output.status.code(), Some(2), "{example:?}: {output:?}");
    }
}

#[test]
fn what_is_missing_is_told_and_gives_its_own_code() {
    let (up, down) = (REQUEST.len() as u32, ANSWER.len() as u32);
    let file = capture(&[
        (0, 0, 0, REQUEST),
        (1, 0, up, ANSWER),
        (1, down + 100, up, ANSWER),
        (0, up, 2 * down + 100, b""),
    ]);
    let output = decode_bytes(&file, &["-o", "json"]);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let gaps: Vec<_> = views(&output).iter().filter(|view| view.entry_type == "gap").cloned().collect();
    assert_eq!(gaps.iter().map(|gap| gap.number(names::BYTES_LOST)).collect::<Vec<_>>(), [Some(100)]);
    assert!(text(&output.stderr).contains("missing: 1 gaps in what was sent, 100 bytes lost"), "{output:?}");
}

#[test]
fn a_file_that_is_cut_off_shows_what_came_before() {
    let file = exchanges();
    let output = decode_bytes(&file[..file.len() - 3], &["-o", "json"]);
    assert_eq!((output.status.code(), paths(&output).len()), (Some(4), 2), "{output:?}");
    let place =
        format!("the file ends at byte {}, within a packet: 3 bytes of it are missing", file.len() - 3);
    assert!(text(&output.stderr).contains(&place), "{output:?}");
}

#[test]
fn what_is_no_capture_is_one_sentence() {
    for bytes in [&b""[..], b"#!/bin/sh\necho", &[0; 5000], &[0x1f, 0x8b, 8, 0, 0]] {
        let output = decode_bytes(bytes, &[]);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{output:?}");
        assert_eq!(text(&output.stderr).lines().count(), 1, "{output:?}");
    }
    let place = Place::new();
    for wrong in [place.0.path().to_owned(), place.0.path().join("absent")] {
        let output = decode(&wrong, &[]);
        assert_eq!((output.status.code(), text(&output.stderr).lines().count()), (Some(2), 1), "{output:?}");
    }
}

#[test]
fn a_file_that_is_no_capture_and_longer_than_its_head_is_refused_without_a_panic() {
    let output = decode_bytes(&b"neither one nor the other\n".repeat(4000), &[]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(text(&output.stderr).contains("is no capture file"), "{output:?}");
}

#[test]
fn who_reads_our_output_may_go_away() {
    let command = format!(
        "{} decode {} -o json | head -c 10 > /dev/null; echo ${{PIPESTATUS[0]}}",
        env!("CARGO_BIN_EXE_custody"),
        Place::new().0.keep().join("file").display()
    );
    let path = PathBuf::from(command.split(' ').nth(2).expect("the file"));
    std::fs::write(&path, many_exchanges()).expect("written");
    let output = Command::new("bash").args(["-c", &command]).output().expect("bash runs");
    std::fs::remove_dir_all(path.parent().expect("a folder")).expect("removed");
    assert_eq!(text(&output.stdout).trim(), "0", "{output:?}");
}

#[test]
fn what_is_captured_now_is_shown_before_the_capture_ends() {
    use std::io::{BufRead as _, BufReader};
    let mut child = Command::new(env!("CARGO_BIN_EXE_custody"))
        .args(["decode", "-", "-o", "json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("custody runs");
    let mut input = child.stdin.take().expect("a pipe");
    let output = child.stdout.take().expect("a pipe");
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || tell.send(BufReader::new(output).lines().next()));
    input.write_all(&exchanges()).expect("taken");
    input.flush().expect("taken");
    // The pipe stays open: were lines kept back, none would come.
    let line = told.recv_timeout(std::time::Duration::from_secs(60));
    drop(input);
    let ended = child.wait().expect("ends");
    let line = line.expect("a line while the pipe is open").expect("a line").expect("read");
    let first: View = serde_json::from_str(&line).expect("a view");
    assert_eq!(first.number(names::HTTP_STATUS), Some(200));
    assert!(ended.success(), "{ended}");
}
