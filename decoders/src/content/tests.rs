//! Each coding whole, in pieces, torn, broken, followed by bytes, nested and as a bomb.

use std::io::Write as _;

use super::*;

/// 64 KiB, as a body of ordinary size has.
const ROOM: usize = 64 << 10;

fn text() -> Vec<u8> {
    let lines = (0..600u64).map(|line| format!("{line}: {}\n", line * line * 7919 % 65_537));
    lines.collect::<String>().into_bytes()
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder =
        flate2::GzBuilder::new().filename("a").comment("b").extra("c").write(Vec::new(), Default::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn zlib(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), Default::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn raw_deflate(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), Default::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn zstd(content: &[u8]) -> Vec<u8> {
    zstd::encode_all(content, 3).unwrap()
}

/// br by the decoder's other half is not in the graph: as Node.js coded it.
const BR_TEXT: &str =
    "1bff04f88dd462cd19ee04b6b55465b90d317ac1f67ceab0f4d54206d60bb5e813778009f1d504b4f11e17";
/// 4 MiB of the letter a.
const BR_BOMB: &str = "9bffff3ff825c2e2b14020f7fe07";

fn br() -> (Vec<u8>, Vec<u8>) {
    (hex::decode(BR_TEXT).unwrap(), "{\"name\":\"ann\",\"token\":\"canary\"} ".repeat(40).into_bytes())
}

/// What comes out in pieces of so many bytes, and how it ended.
fn decoded(codings: &str, coded: &[u8], piece: usize, room: usize) -> (Vec<u8>, Result<(), Stop>) {
    let mut decoding = Decoding::of(codings).expect("known codings");
    let mut out = Vec::new();
    for piece in coded.chunks(piece) {
        let left = room - out.len();
        if let Err(stop) = decoding.push(piece, left, &mut out) {
            return (out, Err(stop));
        }
    }
    let end = decoding.finish();
    (out, end)
}

fn samples() -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let (br_coded, br_content) = br();
    vec![
        ("gzip", gzip(&text()), text()),
        (
            "x-gzip",
            [gzip(&text()), gzip(b"second member")].concat(),
            [text(), b"second member".into()].concat(),
        ),
        ("deflate", zlib(&text()), text()),
        ("deflate", raw_deflate(&text()), text()),
        ("zstd", zstd(&text()), text()),
        ("zstd", [zstd(&text()), zstd(b"second frame")].concat(), [text(), b"second frame".into()].concat()),
        ("br", br_coded.clone(), br_content.clone()),
        ("br, gzip", gzip(&br_coded), br_content),
        ("gzip,zstd , deflate", zlib(&zstd(&gzip(&text()))), text()),
        ("identity", text(), text()),
    ]
}

#[test]
fn every_coding_is_decoded_in_pieces_of_any_size() {
    for (codings, coded, content) in samples() {
        for piece in [1, 2, 7, 1000, usize::MAX] {
            let (out, end) = decoded(codings, &coded, piece, ROOM);
            assert_eq!((end, out == content), (Ok(()), true), "{codings} in pieces of {piece}");
        }
    }
}

#[test]
fn a_torn_body_leaves_what_came_before() {
    for (codings, coded, content) in samples() {
        if codings == "identity" || coded.len() < 100 && codings != "br" {
            continue;
        }
        let (out, end) = decoded(codings, &coded[..coded.len() - 5], 64, ROOM);
        assert_eq!(end, Err(Stop::Truncated), "{codings}");
        assert!(content.starts_with(&out), "{codings}");
        // br and zstd make nothing of a block that is not whole.
        let block = codings.contains("br") || (codings == "zstd" && content == text());
        assert!(!out.is_empty() || block, "{codings}: nothing came out");
    }
}

#[test]
fn a_broken_body_leaves_what_came_before_the_break() {
    for (codings, mut coded) in [("gzip", gzip(&text())), ("deflate", zlib(&text()))] {
        let middle = coded.len() / 2;
        coded[middle..middle + 40].fill(0xff);
        let (out, end) = decoded(codings, &coded, 64, ROOM);
        assert_eq!(end, Err(Stop::Broken), "{codings}");
        let same = out.iter().zip(&text()).take_while(|(one, other)| one == other).count();
        assert!(same >= text().len() / 4, "{codings}: {same} of {}", text().len());
    }
    for codings in ["gzip", "zstd", "br"] {
        let (out, end) = decoded(codings, b"\xfe no coding at all, but a text", 7, ROOM);
        assert_eq!((out.len(), end), (0, Err(Stop::Broken)), "{codings}");
    }
    let mut wrong_sum = gzip(b"checked");
    let sum = wrong_sum.len() - 8;
    wrong_sum[sum] ^= 1;
    assert_eq!(decoded("gzip", &wrong_sum, 100, ROOM), (b"checked".to_vec(), Err(Stop::Broken)));
}

#[test]
fn bytes_behind_the_end_are_told_and_not_read() {
    for (codings, coded, content) in [
        ("deflate", zlib(b"abc"), b"abc".to_vec()),
        ("zstd", zstd(b"abc"), b"abc".to_vec()),
        ("br", br().0, br().1),
    ] {
        let followed = [coded, b"GET /hidden HTTP/1.1".to_vec()].concat();
        assert_eq!(decoded(codings, &followed, 1000, ROOM), (content, Err(Stop::Trailing)), "{codings}");
    }
}

#[test]
fn a_bomb_makes_no_more_than_there_is_room_for() {
    let zeros = vec![0; 16 << 20];
    let nested = gzip(&gzip(&zeros));
    for (codings, coded) in [
        ("gzip", gzip(&zeros)),
        ("deflate", raw_deflate(&zeros)),
        ("zstd", zstd(&zeros)),
        ("br", hex::decode(BR_BOMB).unwrap()),
        ("gzip, gzip", nested),
    ] {
        let (out, end) = decoded(codings, &coded, usize::MAX, ROOM);
        assert!(out.len() <= ROOM, "{codings}: {} bytes", out.len());
        assert_eq!(end, Err(Stop::Bomb), "{codings}");
    }
    // The inner coding makes much, and the outer one hardly anything of it.
    let empty_members = gzip(b"").repeat(100_000);
    let (out, end) = decoded("gzip, gzip", &gzip(&empty_members), usize::MAX, ROOM);
    assert_eq!((out.len(), end), (0, Err(Stop::Bomb)));
}

#[test]
fn a_long_body_is_no_bomb() {
    let (out, end) = decoded("gzip", &gzip(&text().repeat(20)), 1000, ROOM);
    assert_eq!((out.len(), end), (ROOM, Err(Stop::Full)));
}

#[test]
fn a_window_larger_than_the_specification_allows_is_refused() {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    encoder.window_log(27).unwrap();
    encoder.long_distance_matching(true).unwrap();
    encoder.write_all(&text()).unwrap();
    let (out, end) = decoded("zstd", &encoder.finish().unwrap(), 1000, ROOM);
    assert_eq!((out.len(), end), (0, Err(Stop::Broken)));
}

#[test]
fn what_nobody_knows_is_not_guessed() {
    for codings in ["compress", "gzip, aes128gcm", "gzip, gzip, gzip, gzip"] {
        assert!(Decoding::of(codings).is_none(), "{codings}");
    }
    assert!(Decoding::of("identity,").is_some_and(|decoding| decoding.is_identity()));
}
