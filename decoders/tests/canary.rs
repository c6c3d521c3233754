//! Canary secrets through the whole way from captured chunks to stored bytes: in every form in which programs
//! send them, cut into pieces of every size, none may stand in what is stored.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use base64::Engine;
use custody_decoders::event::{
    Binding, Chunk, Endpoint, Event, Flow, Layer, Process, Role, Socket, SocketId, Transport,
};
use custody_decoders::mask::link;
use custody_decoders::pcap::{Capture, CaptureOptions};
use custody_decoders::pipeline::{Pipeline, PipelineOptions};

const PASSWORD: &str = "k4n4ryPassw0rd";
const BEARER: &str = "k4n4ryBearerToken0123456789";
const COOKIE: &str = "k4n4ryCookieValue99";
const CARD: &str = "4000056655665556";
const MAIL: &str = "k4n4ry.person@example.org";
const LITERAL: &str = "k4n4ryLiteral77";
const BOUND: &str = "k4n4ryBoundValue55";
const ARGUMENT: &str = "k4n4ryArgument33";

const ALL: [&str; 8] = [PASSWORD, BEARER, COOKIE, CARD, MAIL, LITERAL, BOUND, ARGUMENT];

/// The ways in which a secret may survive although it does not stand there as it is.
fn disguises(secret: &str) -> Vec<Vec<u8>> {
    let standard = base64::engine::general_purpose::STANDARD;
    let percent: String = secret.bytes().map(|byte| format!("%{byte:02X}")).collect();
    // Of base64 only whole groups are the same whatever follows.
    let whole_groups = &secret[..secret.len() / 3 * 3];
    let wide = secret.bytes().flat_map(|byte| [byte, 0]).collect();
    let mut all = vec![
        secret.into(),
        hex::encode(secret).into(),
        percent.into(),
        standard.encode(whole_groups).into(),
        wide,
    ];
    // Half a secret is one too: its halves, as a split would leave them.
    let (first, second) = secret.split_at(secret.len() / 2);
    if secret != CARD && secret != MAIL {
        all.extend([first.into(), second.into()]);
    }
    all
}

/// What one end says, then the other.
type Turns = Vec<(Flow, Vec<u8>)>;
/// A conversation that carries these bytes.
type Carries = fn(&[u8]) -> Turns;

fn process(arguments: &[&str]) -> Process {
    Process {
        pid: 7,
        start_ns: 1,
        executable: "/usr/bin/canary".into(),
        arguments: arguments.iter().map(|argument| argument.as_bytes().to_vec()).collect(),
        ..Process::default()
    }
}

fn socket(port: u16) -> Socket {
    let endpoint = |port| Some(Endpoint { address: IpAddr::V4(Ipv4Addr::LOCALHOST), port });
    Socket {
        id: SocketId(1),
        time_ns: 1,
        transport: Transport::Tcp,
        role: Role::Server,
        local: endpoint(port),
        remote: endpoint(40_000),
        peer: None,
        netns: 1,
        whole: false,
        existing: false,
        positions: [Some(0); 2],
        process: Arc::new(process(&["server", &format!("--password={ARGUMENT}")])),
    }
}

/// Feeds a conversation in pieces of `size` bytes and gives what would be stored of it.
fn stored(port: u16, turns: &Turns, size: usize, layer: Layer, pause_ns: u64) -> Vec<u8> {
    let mut pipeline = Pipeline::new(PipelineOptions::default());
    let mut bytes = Vec::new();
    let mut keep = |masked| {
        let mut frame = Vec::new();
        link::encode(&masked, &mut frame).expect("the record fits into a frame");
        let (body, _) = link::WorkerReader::at_the_socket()
            .decode(&frame)
            .expect("the frame is whole")
            .expect("the frame is whole");
        bytes.extend_from_slice(&body.get().bytes);
    };
    pipeline.feed(Event::Open(socket(port)), &mut keep);
    if layer == Layer::Plaintext {
        pipeline.feed(
            Event::Bound { socket: SocketId(1), binding: Binding::Fd, existing: false, time_ns: 1 },
            &mut keep,
        );
    }
    let mut positions = [0u64; 2];
    let mut time_ns = 1_000_000;
    for (flow, turn) in turns {
        for piece in turn.chunks(size) {
            let position = &mut positions[usize::from(*flow == Flow::Egress)];
            let (socket, flow) = (SocketId(1), *flow);
            let chunk = Chunk { socket, flow, layer, position: *position, time_ns, bytes: piece };
            pipeline.feed(Event::Chunk(chunk), &mut keep);
            *position += piece.len() as u64;
            time_ns += 1000;
        }
        time_ns += pause_ns;
        pipeline.feed(Event::Tick(time_ns), &mut keep);
    }
    pipeline.feed(Event::Close(SocketId(1), [None, None], time_ns), &mut keep);
    pipeline.finish(&mut keep);
    bytes
}

/// Bytes of one piece, and the pause after each turn: a long one has the exchanges told in parts.
const PIECES: [(usize, u64); 11] = [
    (1, 1_000_000),
    (2, 1_000_000),
    (3, 1_000_000),
    (5, 1_000_000),
    (7, 1_000_000),
    (16, 1_000_000),
    (61, 1_000_000),
    (1024, 1_000_000),
    (usize::MAX, 1_000_000),
    (7, 2_000_000_000),
    (usize::MAX, 2_000_000_000),
];

/// Nothing of the secrets stands there, and what is no secret does.
fn check(port: u16, turns: &Turns, visible: &[&str]) {
    for layer in [Layer::Wire, Layer::Plaintext] {
        for (size, pause_ns) in PIECES {
            let bytes = stored(port, turns, size, layer, pause_ns);
            let has = |what: &[u8]| memchr::memmem::find(&bytes, what).is_some();
            for secret in ALL {
                for disguise in disguises(secret) {
                    let shown = String::from_utf8_lossy(&disguise).into_owned();
                    assert!(!has(&disguise), "{secret} as {shown} in pieces of {size} of {layer:?}");
                }
            }
            for text in visible {
                assert!(has(text.as_bytes()), "{text} is missing in pieces of {size} of {layer:?}");
            }
        }
    }
}

/// A gzip file whose content stands there uncompressed (RFC 1951 section 3.2.4), checksum left out.
fn gzip(content: &str) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("short");
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1];
    file.extend(length.to_le_bytes());
    file.extend((!length).to_le_bytes());
    file.extend(content.as_bytes());
    file.extend([0; 8]);
    file
}

/// br whose content stands there uncompressed (RFC 7932 section 9.2).
fn br(content: &str) -> Vec<u8> {
    let header = (content.len() as u32 - 1) << 4 | 1 << 20;
    [&header.to_le_bytes()[..3], content.as_bytes(), &[3]].concat()
}

/// Content codings with what they make of a text, compressed or not.
fn coded(content: &str) -> Vec<(&'static str, Vec<u8>)> {
    let deflated = |zlib| {
        let mut out = vec![0; content.len() + 100];
        let mut deflate = flate2::Compress::new(flate2::Compression::default(), zlib);
        deflate.compress(content.as_bytes(), &mut out, flate2::FlushCompress::Finish).expect("deflate");
        out.truncate(deflate.total_out() as usize);
        out
    };
    let whole = [
        deflated(true),
        deflated(false),
        br(content),
        zstd::encode_all(content.as_bytes(), 3).expect("zstd"),
    ];
    let mut all: Vec<_> = ["deflate", "deflate", "br", "zstd"].into_iter().zip(whole.clone()).collect();
    // Its checksum is wrong: what was decoded before that stands in the record.
    all.push(("gzip", gzip(content)));
    all.push(("br, gzip", gzip(&String::from_utf8_lossy(&br(content)))));
    all.extend(
        ["deflate", "deflate", "br", "zstd"]
            .into_iter()
            .zip(whole.map(|torn| torn[..torn.len() - 3].to_vec())),
    );
    all.push(("compress", content.into()));
    all
}

/// In chunks of five bytes.
fn in_chunks(head: &str, body: &[u8]) -> Vec<u8> {
    let mut message = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for chunk in body.chunks(5) {
        message.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
        message.extend([chunk, b"\r\n"].concat());
    }
    message.extend(b"0\r\n\r\n");
    message
}

fn http(head: &str, body: &[u8]) -> Vec<u8> {
    let mut message = format!("{head}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
    message.extend(body);
    message
}

fn http_turns() -> Turns {
    let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let percent: String = PASSWORD.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let json = format!(
        "{{\"user\":\"visible-user\",\"password\":\"{PASSWORD}\",\"card\":{CARD},\"blob\":\"{}\",\"mail\":\"{}\"}}",
        base64(&format!("write to {MAIL} now")),
        MAIL.replace('@', "\\u0040"),
    );
    let form =
        format!("visible=yes&pass%77ord={percent}&card=4000+0566+5566+5556&e={}", MAIL.replace('@', "%40"));
    let head = |start: &str| {
        format!(
            "{start}\r\nHost: visible-host\r\nAuthorization: Bearer {BEARER}\r\nCookie: sid={COOKIE}; b={COOKIE}\r\n\
             X-Api-Key: {BEARER}\r\nReferer: http://h/?token={BEARER}&v=1\r\nProxy-Authorization: Basic {}\r\n",
            base64(&format!("user:{PASSWORD}"))
        )
    };
    let chunked = format!(
        "POST /visible-chunked HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n1b\r\n{{\"a\":1,\"client_secret\":\"k4n4\r\n{:x}\r\n{}\"}}\r\n0\r\n\r\n",
        PASSWORD.len() - 4 + 2,
        &PASSWORD[4..],
    );
    let ok = |headers: &str, body: &[u8]| http(&format!("HTTP/1.1 200 OK\r\n{headers}"), body);
    let json_type = "Content-Type: application/json\r\n";
    let multipart = format!(
        "--B\r\nContent-Disposition: form-data; name=\"password\"\r\n\r\n{PASSWORD}\r\n\
         --B\r\nContent-Disposition: form-data; name=\"f\"; filename=\"k\"\r\n\r\n{PASSWORD}\r\n--B--\r\n"
    );
    let post = |path: &str, headers: &str, body: &[u8]| {
        http(&(head(&format!("POST {path} HTTP/1.1")) + headers), body)
    };
    let mut coded_turns = Vec::new();
    for (coding, body) in coded(&json) {
        let headers = format!("{json_type}Content-Encoding: {coding}\r\n");
        coded_turns.push((Flow::Ingress, post("/visible-coded", &headers, &body)));
        coded_turns.push((Flow::Egress, in_chunks(&format!("HTTP/1.1 200 OK\r\n{headers}"), &body)));
    }
    for (coding, body) in coded(&multipart) {
        let headers =
            format!("Content-Type: multipart/form-data; boundary=B\r\nContent-Encoding: {coding}\r\n");
        coded_turns.push((Flow::Ingress, post("/visible-coded-form", &headers, &body)));
        let event = format!("data: {json}\n\ndata: visible-event password={PASSWORD}\n\ndata: {json}");
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n";
        coded_turns.push((Flow::Egress, in_chunks(head, event.as_bytes())));
    }
    let plain_turns = vec![
        (Flow::Ingress, post("/visible-json", json_type, json.as_bytes())),
        (Flow::Egress, ok(&format!("Set-Cookie: sid={COOKIE}; Path=/\r\n{json_type}"), json.as_bytes())),
        (
            Flow::Ingress,
            post("/visible-form", "Content-Type: application/x-www-form-urlencoded\r\n", form.as_bytes()),
        ),
        (
            Flow::Egress,
            ok("Content-Type: text/plain\r\n", format!("password={PASSWORD} {CARD}\n").as_bytes()),
        ),
        (
            Flow::Ingress,
            post("/visible-gzip", &format!("{json_type}Content-Encoding: gzip\r\n"), &gzip(&json)),
        ),
        (Flow::Egress, ok(&format!("{json_type}Content-Encoding: gzip\r\n"), &gzip(&json))),
        (
            Flow::Ingress,
            post(
                "/visible-multipart",
                "Content-Type: multipart/form-data; boundary=B\r\n",
                multipart.as_bytes(),
            ),
        ),
        (Flow::Egress, ok("Content-Type: application/octet-stream\r\n", format!("\0{PASSWORD}").as_bytes())),
        (Flow::Ingress, chunked.into_bytes()),
        (
            Flow::Egress,
            ok("Content-Type: application/xml\r\n", format!("<password>{PASSWORD}</password>").as_bytes()),
        ),
        (
            Flow::Ingress,
            format!(
                "GET /{}?access_token={BEARER}&q=visible HTTP/1.1\r\nHost: h\r\n\r\n",
                MAIL.replace('@', "%40")
            )
            .into_bytes(),
        ),
        (Flow::Egress, ok("", b"visible-answer")),
    ];
    [plain_turns, coded_turns].concat()
}

#[test]
fn http_stores_no_canary() {
    check(
        8080,
        &http_turns(),
        &[
            "/visible-json",
            "/visible-form",
            "/visible-gzip",
            "/visible-multipart",
            "/visible-chunked",
            "visible-user",
            "visible-host",
            "/visible-coded",
            "/visible-coded-form",
            "http.request.form.visible",
            "visible-event",
            "visible-answer",
            "q=visible",
            "‹coded·drop·",
            "‹card·redact›",
            "‹email·redact›",
        ],
    );
}

fn message(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let length = u32::try_from(body.len() + 4).expect("short");
    [&[kind], &length.to_be_bytes()[..], &body].concat()
}

fn zero(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

fn query(text: &str) -> Vec<u8> {
    message(b'Q', &[&zero(text)])
}

fn cells(values: &[&[u8]]) -> Vec<u8> {
    let mut out = u16::try_from(values.len()).expect("few").to_be_bytes().to_vec();
    for value in values {
        out.extend(u32::try_from(value.len()).expect("short").to_be_bytes());
        out.extend(*value);
    }
    out
}

fn row_description(columns: &[&str], of_type: u32) -> Vec<u8> {
    let mut body = u16::try_from(columns.len()).expect("few").to_be_bytes().to_vec();
    for column in columns {
        body.extend(zero(column));
        body.extend([0; 6]);
        body.extend(of_type.to_be_bytes());
        body.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]);
    }
    message(b'T', &[&body])
}

fn complete(tag: &str) -> Vec<u8> {
    [message(b'C', &[&zero(tag)]), message(b'Z', &[b"I"])].concat()
}

fn error(status: &str, text: &str, detail: &str, place: &str) -> Vec<u8> {
    let fields = format!("SERROR\0VERROR\0C{status}\0M{text}\0D{detail}\0W{place}\0\0");
    [message(b'E', &[fields.as_bytes()]), message(b'Z', &[b"I"])].concat()
}

/// A list of texts in the binary format.
fn array(values: &[&str]) -> Vec<u8> {
    let count = u32::try_from(values.len()).expect("few").to_be_bytes();
    let mut out = [&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 25][..], &count, &[0, 0, 0, 1]].concat();
    out.extend(&cells(&values.iter().map(|value| value.as_bytes()).collect::<Vec<_>>())[2..]);
    out
}

/// Parse, Bind with one value in this format, Execute, Sync.
fn extended(statement: &str, of_type: u32, binary: bool, value: &[u8]) -> Vec<u8> {
    let format: &[u8] = if binary { &[0, 1, 0, 1] } else { &[0, 0] };
    [
        message(b'P', &[b"\0", &zero(statement), &[0, 1], &of_type.to_be_bytes()]),
        message(b'B', &[b"\0\0", format, &cells(&[value]), &[0, 0]]),
        message(b'E', &[b"\0", &[0; 4]]),
        message(b'S', &[]),
    ]
    .concat()
}

fn executed(tag: &str) -> Vec<u8> {
    [message(b'1', &[]), message(b'2', &[]), complete(tag)].concat()
}

fn postgres_turns() -> Turns {
    const TEXT: u32 = 25;
    const BYTEA: u32 = 17;
    const TEXT_ARRAY: u32 = 1009;
    let startup = b"user\0visible-user\0database\0visible-db\0\0";
    let length = u32::try_from(startup.len() + 8).expect("short").to_be_bytes();
    let statements = format!(
        "UPDATE users SET password = '{LITERAL}', visible = 'visible-literal' WHERE card = {CARD} -- {MAIL}"
    );
    let role = format!("ALTER ROLE visible_role PASSWORD '{LITERAL}'");
    let insert = format!(
        "INSERT INTO visible_t (id, api_key) VALUES (1, E'\\x6b{}'), (2, $q${LITERAL}$q$)",
        &LITERAL[1..]
    );
    let hashed = format!("SELECT 1 FROM visible_c WHERE pw = crypt('{LITERAL}', pw)");
    let bearer =
        format!("SELECT 'Authorization: Bearer {BEARER}', 'postgres://u:{PASSWORD}@visible-server/d'");
    let copied = format!("visible-row\t{LITERAL}\t{MAIL}\nvisible-next\t{LITERAL}\t{CARD}\n");
    let (copied_first, copied_second) = copied.as_bytes().split_at(18);
    let row = cells(&[b"visible-cell", PASSWORD.as_bytes(), MAIL.as_bytes(), CARD.as_bytes()]);
    let hex_mail = format!("\\x{}", hex::encode(format!("mail {MAIL} end")));
    vec![
        (Flow::Ingress, [&length[..], &[0, 3, 0, 0], startup].concat()),
        (Flow::Egress, message(b'R', &[&[0, 0, 0, 3]])),
        (Flow::Ingress, message(b'p', &[&zero(PASSWORD)])),
        (Flow::Egress, [message(b'R', &[&[0; 4]]), message(b'Z', &[b"I"])].concat()),
        (Flow::Ingress, query(&statements)),
        (Flow::Egress, complete("UPDATE 1")),
        (Flow::Ingress, query(&role)),
        (Flow::Egress, complete("ALTER ROLE")),
        (Flow::Ingress, query(&insert)),
        (
            Flow::Egress,
            error(
                "23502",
                "null value in column \"visible_column\"",
                &format!("Failing row contains (1, {LITERAL}, null)."),
                "",
            ),
        ),
        (Flow::Ingress, query(&hashed)),
        (
            Flow::Egress,
            error(
                "23505",
                "duplicate key value violates unique constraint \"visible_key\"",
                &format!("Key (password)=({PASSWORD}) already exists."),
                "",
            ),
        ),
        (Flow::Ingress, query(&bearer)),
        (
            Flow::Egress,
            [
                row_description(&["visible_name", "password", "mail", "n"], TEXT),
                message(b'D', &[&row]),
                complete("SELECT 1"),
            ]
            .concat(),
        ),
        (
            Flow::Ingress,
            extended("UPDATE users SET secret_key = $1 WHERE visible_text", TEXT, false, BOUND.as_bytes()),
        ),
        (Flow::Egress, executed("UPDATE 1")),
        (
            Flow::Ingress,
            extended("UPDATE users SET token = $1 WHERE visible_binary", TEXT, true, BOUND.as_bytes()),
        ),
        (Flow::Egress, executed("UPDATE 1")),
        (Flow::Ingress, extended("SELECT visible_bytes($1)", BYTEA, true, format!("\0{BOUND}").as_bytes())),
        (Flow::Egress, executed("SELECT 1")),
        (Flow::Ingress, extended("SELECT visible_hex($1)", BYTEA, false, hex_mail.as_bytes())),
        (Flow::Egress, executed("SELECT 1")),
        (Flow::Ingress, extended("SELECT visible_array($1)", TEXT_ARRAY, true, &array(&[MAIL, CARD]))),
        (Flow::Egress, executed("SELECT 1")),
        (
            Flow::Ingress,
            extended("UPDATE users SET password = $1 WHERE visible_list", TEXT_ARRAY, true, &array(&[BOUND])),
        ),
        (Flow::Egress, executed("UPDATE 1")),
        (Flow::Ingress, message(b'F', &[&[0, 0, 6, 62, 0, 1, 0, 0], &cells(&[BOUND.as_bytes()]), &[0, 0]])),
        (
            Flow::Egress,
            [message(b'V', &[&[0, 0, 0, 14], &LITERAL.as_bytes()[..14]]), message(b'Z', &[b"I"])].concat(),
        ),
        (Flow::Ingress, query("DO $$ BEGIN RAISE NOTICE 'visible-notice'; END $$")),
        (
            Flow::Egress,
            [
                message(
                    b'N',
                    &[&zero("SNOTICE"), &zero("C00000"), &zero(&format!("Mwrite to {MAIL}")), b"\0"],
                ),
                message(
                    b'N',
                    &[
                        &zero("SWARNING"),
                        &zero("C23502"),
                        &zero("Mvisible-warning"),
                        &zero(&format!("DFailing row contains (1, {LITERAL}).")),
                        &zero(&format!("qUPDATE users SET password = '{LITERAL}' WHERE visible_internal")),
                        &zero(&format!("Wunnamed portal with parameters: $1 = '{BOUND}'")),
                        b"\0",
                    ],
                ),
                message(b'A', &[&[0, 0, 0, 7], &zero("visible_channel"), &zero(&format!("{MAIL} {CARD}"))]),
                complete("DO"),
            ]
            .concat(),
        ),
        (Flow::Ingress, query("COPY visible_binary_copy FROM STDIN (FORMAT binary)")),
        (Flow::Egress, message(b'G', &[&[1, 0, 1, 0, 1]])),
        (
            Flow::Ingress,
            [
                message(b'd', &[b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0", &cells(&[PASSWORD.as_bytes()])]),
                message(b'c', &[]),
            ]
            .concat(),
        ),
        (Flow::Egress, complete("COPY 1")),
        (Flow::Ingress, query("COPY visible_csv (name, password) TO STDOUT (FORMAT csv)")),
        (
            Flow::Egress,
            [
                message(b'H', &[&[0, 0, 2, 0, 0, 0, 0]]),
                message(b'd', &[format!("visible,{LITERAL}\n").as_bytes()]),
                message(b'd', &[format!("\"two\n{LITERAL}\",{PASSWORD}\n").as_bytes()]),
                message(b'c', &[]),
                complete("COPY 2"),
            ]
            .concat(),
        ),
        // The data come a while after the statement: another record holds them.
        (Flow::Ingress, query("COPY visible_slow (name, password) FROM STDIN")),
        (Flow::Egress, message(b'G', &[&[0, 0, 2, 0, 0, 0, 0]])),
        (Flow::Ingress, message(b'd', &[format!("visible-slow\t{LITERAL}\n").as_bytes()])),
        (Flow::Ingress, message(b'd', &[format!("visible-slower\t{PASSWORD}\n").as_bytes()])),
        (Flow::Ingress, message(b'c', &[])),
        (Flow::Egress, complete("COPY 2")),
        (Flow::Ingress, query("COPY visible_copy (name, password, other) FROM STDIN")),
        (Flow::Egress, message(b'G', &[&[0, 0, 3, 0, 0, 0, 0, 0, 0]])),
        (
            Flow::Ingress,
            [message(b'd', &[copied_first]), message(b'd', &[copied_second]), message(b'c', &[])].concat(),
        ),
        (
            Flow::Egress,
            error(
                "22P02",
                "invalid input syntax",
                "visible-detail",
                &format!("COPY visible_copy, line 2: \"{LITERAL}\t{PASSWORD}\""),
            ),
        ),
    ]
}

#[test]
fn postgresql_stores_no_canary() {
    check(
        5432,
        &postgres_turns(),
        &[
            "visible-user",
            "visible-db",
            "visible-literal",
            "visible_role",
            "visible_t",
            "visible_column",
            "visible_c",
            "visible_key",
            "visible-server",
            "visible-cell",
            "visible_text",
            "visible_binary",
            "visible_bytes",
            "visible_hex",
            "visible_array",
            "visible_list",
            "visible-notice",
            "visible-warning",
            "visible_internal",
            "visible_channel",
            "visible_binary_copy",
            "visible_csv",
            "visible-slow",
            "visible-slower",
            "visible-row",
            "visible-next",
            "visible-detail",
            "‹card·redact›",
            "‹email·redact›",
        ],
    );
}

/// A command of Redis.
fn command(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n{word}\r\n", word.len()).into_bytes());
    }
    bytes
}

fn redis_turns() -> Turns {
    let [add, remove] = ['>', '<'].map(|sign| format!("{sign}{PASSWORD}"));
    let bulk = |value: &str| format!("${}\r\n{value}\r\n", value.len());
    let json = format!("{{\"visible\":1,\"password\":\"{LITERAL}\"}}");
    let asked: [(&[&str], String); 19] = [
        (&["AUTH", PASSWORD], "-WRONGPASS visible-refusal\r\n".to_owned()),
        (&["HELLO", "3", "AUTH", "visible-user", PASSWORD, "SETNAME", "visible-name"], "%0\r\n".to_owned()),
        (
            &["ACL", "SETUSER", "visible-eve", "on", &add, &remove, PASSWORD],
            format!("-ERR Error in ACL SETUSER modifier '{PASSWORD}': Syntax error\r\n"),
        ),
        (&["CONFIG", "SET", "masterauth", PASSWORD, "requirepass", PASSWORD], "+OK\r\n".to_owned()),
        (&["CONFIG", "GET", "*pass*"], format!("*2\r\n{}{}", bulk("requirepass"), bulk(PASSWORD))),
        (
            &["MIGRATE", "visible-host", "1", "k", "0", "5", "AUTH2", "visible-user", PASSWORD],
            "+NOKEY\r\n".to_owned(),
        ),
        (&["SENTINEL", "SET", "visible-primary", "auth-pass", PASSWORD], "+OK\r\n".to_owned()),
        (&["SET", "visible:7:password", LITERAL], "+OK\r\n".to_owned()),
        (&["GET", "visible:7:password"], bulk(LITERAL)),
        (&["HSET", "visible:7", "visible-field", "visible-value", "token", BEARER], ":2\r\n".to_owned()),
        (&["HGETALL", "visible:7"], format!("*2\r\n{}{}", bulk("token"), bulk(BEARER))),
        (&["HMGET", "visible:7", "token"], format!("*1\r\n{}", bulk(BEARER))),
        (&["XADD", "visible:s", "*", "secret", BOUND], "+1-1\r\n".to_owned()),
        (
            &["XRANGE", "visible:s", "-", "+"],
            format!("*1\r\n*2\r\n+1-1\r\n*2\r\n{}{}", bulk("secret"), bulk(BOUND)),
        ),
        (&["SET", "visible:mail", MAIL], "+OK\r\n".to_owned()),
        (&["LPUSH", "visible:cards", CARD, &json], ":2\r\n".to_owned()),
        (&["EVAL", "return ARGV[1]", "1", "visible:password", LITERAL], bulk(LITERAL)),
        (
            &["visible.unknown", "a:password", LITERAL],
            format!("-ERR unknown command 'x', with args beginning with: '{LITERAL}'\r\n"),
        ),
        (&["MULTI"], "+OK\r\n".to_owned()),
    ];
    let mut turns: Turns = Vec::new();
    for (words, reply) in asked {
        turns.push((Flow::Ingress, command(words)));
        turns.push((Flow::Egress, reply.into_bytes()));
    }
    // Queued, as messages, inline, over the limit of what is kept, and as a line of MONITOR.
    let long = format!("{}{BOUND}", "visible-long ".repeat(10_000));
    let last = [
        (command(&["GET", "visible:secret"]), "+QUEUED\r\n".to_owned()),
        (command(&["EXEC"]), format!("*1\r\n{}", bulk(LITERAL))),
        (command(&["SET", "visible:long:secret", &long]), "+OK\r\n".to_owned()),
        (command(&["GET", "visible:long:secret"]), bulk(&long)),
        (format!("AUTH \"{PASSWORD}\"\r\n").into_bytes(), "+OK\r\n".to_owned()),
        (
            command(&["SUBSCRIBE", "visible:token"]),
            format!(">3\r\n{}{}:1\r\n", bulk("subscribe"), bulk("visible:token")),
        ),
        (Vec::new(), format!(">3\r\n{}{}{}", bulk("message"), bulk("visible:token"), bulk(BEARER))),
        (
            command(&["MONITOR"]),
            format!("+OK\r\n+1.5 [0 127.0.0.1:1] \"set\" \"visible:password\" \"{LITERAL}\"\r\n"),
        ),
        (
            format!("AUTH \"{PASSWORD}\r\n").into_bytes(),
            "-ERR Protocol error: unbalanced quotes\r\n".to_owned(),
        ),
    ];
    for (up, down) in last {
        turns.push((Flow::Ingress, up));
        turns.push((Flow::Egress, down.into_bytes()));
    }
    turns
}

#[test]
fn redis_stores_no_canary() {
    check(
        6379,
        &redis_turns(),
        &[
            "visible-refusal",
            "visible-user",
            "visible-name",
            "visible-eve",
            "visible-host",
            "visible-primary",
            "visible:7:password",
            "visible-field",
            "visible-value",
            "visible:s",
            "visible:mail",
            "visible:cards",
            "visible.unknown",
            "visible:secret",
            "visible:long:secret",
            "visible:token",
        ],
    );
}

#[test]
fn programs_that_start_store_no_canary() {
    let bearer = format!("Authorization: Bearer {BEARER}");
    let joined = format!("-p{ARGUMENT}");
    let url = format!("postgres://visible-user:{PASSWORD}@visible-host/db");
    let shell =
        format!("PGPASSWORD={PASSWORD} psql -h visible-host -c \"ALTER ROLE r PASSWORD '{LITERAL}'\"");
    let card = format!("--note={CARD}");
    let mut bytes = Vec::new();
    let mut keep =
        |masked: custody_decoders::mask::Masked<_>| link::encode(&masked, &mut bytes).expect("it fits");
    let mut pipeline = Pipeline::new(PipelineOptions::default());
    for arguments in [
        &["mysql", "-uvisible-user", &joined][..],
        &[
            "curl",
            "-H",
            &bearer,
            "-u",
            &format!("visible-user:{PASSWORD}"),
            "--cookie",
            &format!("a={COOKIE}"),
        ],
        &["psql", &url],
        &["sh", "-c", &shell],
        &["visible-program", "--token", ARGUMENT, &card, MAIL],
    ] {
        pipeline.feed(Event::Exec(Arc::new(process(arguments)), 5), &mut keep);
        pipeline.feed(Event::Exit(Arc::new(process(arguments)), 0, 6), &mut keep);
    }
    pipeline.finish(&mut keep);
    let has = |what: &[u8]| memchr::memmem::find(&bytes, what).is_some();
    for secret in ALL {
        for disguise in disguises(secret) {
            assert!(!has(&disguise), "{secret} as {}", String::from_utf8_lossy(&disguise));
        }
    }
    for text in [
        "visible-user",
        "visible-host",
        "visible-program",
        "‹card·redact›",
        "‹email·redact›",
        "‹password·redact›",
    ] {
        assert!(has(text.as_bytes()), "{text} is missing");
    }
}

/// A text with secrets in it that no name gives away, in each form in which programs send it.
fn forms() -> Vec<(&'static str, Vec<u8>)> {
    let text = format!("write to {MAIL} about {CARD} today");
    let base64 = base64::engine::general_purpose::STANDARD.encode(&text);
    let percent: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let form = format!("a=1&note={}", text.replace(' ', "+").replace('@', "%40"));
    let json = format!("{{\"note\":\"{}\"}}", text.replace('@', "\\u0040"));
    vec![
        ("plain", text.clone().into()),
        ("base64", base64.clone().into()),
        ("base64 in JSON", format!("{{\"blob\":\"{base64}\"}}").into()),
        ("percent-encoded", percent.into()),
        ("a form", form.into()),
        ("JSON with escapes", json.into()),
        ("gzip", compressed(&text)),
    ]
}

fn compressed(text: &str) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(text.as_bytes()).expect("to memory");
    gzip.finish().expect("to memory")
}

/// The form as a body each way, and as a value in a target and in a header field.
fn http_form(form: &[u8]) -> Turns {
    let escaped: String = form.iter().map(|byte| format!("%{byte:02x}")).collect();
    let head =
        |start: &str, media_type: &str| format!("{start}\r\nHost: h\r\nContent-Type: {media_type}\r\n");
    let mut turns = Turns::new();
    for media_type in
        ["text/plain", "application/json", "application/x-www-form-urlencoded", "application/octet-stream"]
    {
        let target = format!("POST /visible?note={escaped} HTTP/1.1");
        turns.push((Flow::Ingress, in_chunks(&head(&target, media_type), form)));
        turns.push((Flow::Egress, http(&head("HTTP/1.1 200 OK", media_type), form)));
    }
    turns
}

/// The form as a literal, as a parameter of both formats, in a row, in COPY, and in an error's detail.
fn postgres_form(form: &[u8]) -> Turns {
    const TEXT: u32 = 25;
    const BYTEA: u32 = 17;
    // Compressed data in hex are what nobody looks into (docs/limitations.md): of them the binary forms are shown.
    let text = String::from_utf8(form.to_vec()).unwrap_or_else(|_| "compressed".to_owned());
    let hex = String::from_utf8(form.to_vec())
        .map_or("\\x00".to_owned(), |text| format!("\\x{}", hex::encode(text)));
    let startup = b"user\0visible-user\0\0";
    let length = u32::try_from(startup.len() + 8).expect("short").to_be_bytes();
    let row = |kind: u32, cell: &[u8]| {
        [row_description(&["visible_note"], kind), message(b'D', &[&cells(&[cell])]), complete("SELECT 1")]
            .concat()
    };
    vec![
        (Flow::Ingress, [&length[..], &[0, 3, 0, 0], startup].concat()),
        (Flow::Egress, [message(b'R', &[&[0; 4]]), message(b'Z', &[b"I"])].concat()),
        (Flow::Ingress, query(&format!("SELECT visible('{text}')"))),
        (Flow::Egress, row(TEXT, text.as_bytes())),
        (Flow::Ingress, extended("SELECT visible_text($1)", TEXT, false, text.as_bytes())),
        (Flow::Egress, executed("SELECT 1")),
        (Flow::Ingress, extended("SELECT visible_binary($1)", TEXT, true, text.as_bytes())),
        (Flow::Egress, executed("SELECT 1")),
        (Flow::Ingress, extended("SELECT visible_bytes($1)", BYTEA, true, form)),
        (Flow::Egress, executed("SELECT 1")),
        (Flow::Ingress, query("SELECT visible_bytes")),
        (Flow::Egress, row(BYTEA, hex.as_bytes())),
        (Flow::Ingress, query("COPY visible_copy (note) FROM STDIN")),
        (Flow::Egress, message(b'G', &[&[0, 0, 1, 0, 0]])),
        (Flow::Ingress, [message(b'd', &[text.as_bytes(), b"\n"]), message(b'c', &[])].concat()),
        (Flow::Egress, error("22P02", "visible error", &format!("invalid value: \"{text}\""), &text)),
    ]
}

/// The form as a value, as a field's, as a reply, as a message, and in an error.
fn redis_form(form: &[u8]) -> Turns {
    let bulk = |value: &[u8]| [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat();
    let words = |words: &[&[u8]]| {
        let count = format!("*{}\r\n", words.len()).into_bytes();
        words.iter().fold(count, |command, word| [command, bulk(word)].concat())
    };
    let one_line: Vec<u8> = form.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
    vec![
        (Flow::Ingress, words(&[b"SET", b"visible:note", form])),
        (Flow::Egress, b"+OK\r\n".to_vec()),
        (Flow::Ingress, words(&[b"GET", b"visible:note"])),
        (Flow::Egress, bulk(form)),
        (Flow::Ingress, words(&[b"HSET", b"visible:h", b"visible", form])),
        (Flow::Egress, [&b"-ERR visible "[..], &one_line, b"\r\n"].concat()),
        (Flow::Ingress, words(&[b"LRANGE", b"visible:l", b"0", b"-1"])),
        (Flow::Egress, [&b"*2\r\n"[..], &bulk(form), &bulk(b"visible-other")].concat()),
        (Flow::Ingress, words(&[b"PUBLISH", b"visible:c", form])),
        (Flow::Egress, b":1\r\n".to_vec()),
    ]
}

/// The conversation as a capture file: segments of at most `size` bytes, each second one twice.
fn capture_file(port: u16, turns: &Turns, size: usize) -> Vec<u8> {
    let mut file =
        [&0xa1b2_c3d4u32.to_le_bytes()[..], &[2, 0, 4, 0], &[0; 8], &[0xff, 0xff, 0, 0, 101, 0, 0, 0]]
            .concat();
    let mut next = [1000u32, 2000];
    let mut time_us = 0u32;
    let mut packet = |from_server: bool, flags: u8, next: [u32; 2], payload: &[u8]| {
        let ports = if from_server { [port, 40_000] } else { [40_000, port] };
        let [own, peer] = if from_server { [next[1], next[0]] } else { next };
        let total = u16::try_from(40 + payload.len()).expect("a segment");
        let address = |last| [10, 0, 0, last];
        let (source, target) = if from_server { (address(2), address(1)) } else { (address(1), address(2)) };
        let ip =
            [&[0x45, 0][..], &total.to_be_bytes(), &[0, 0, 0, 0, 64, 6, 0, 0], &source, &target].concat();
        let tcp = [
            &ports[0].to_be_bytes()[..],
            &ports[1].to_be_bytes(),
            &own.to_be_bytes(),
            &peer.to_be_bytes(),
            &[0x50, flags],
            &[0xff, 0xff, 0, 0, 0, 0],
        ]
        .concat();
        let bytes = u32::from(total).to_le_bytes();
        time_us += 100;
        let (seconds, rest) = (time_us / 1_000_000, time_us % 1_000_000);
        file.extend(
            [&seconds.to_le_bytes()[..], &rest.to_le_bytes(), &bytes, &bytes, &ip, &tcp, payload].concat(),
        );
    };
    packet(false, 2, [999, 0], &[]);
    packet(true, 18, [1000, 1999], &[]);
    for (turn, (flow, bytes)) in turns.iter().enumerate() {
        let from_server = *flow == Flow::Egress;
        for segment in bytes.chunks(size.min(1400)) {
            packet(from_server, 24, next, segment);
            if turn % 2 == 1 {
                packet(from_server, 24, next, segment);
            }
            next[usize::from(from_server)] += u32::try_from(segment.len()).expect("a segment");
        }
    }
    packet(false, 17, next, &[]);
    packet(true, 17, next, &[]);
    file
}

/// What would be told of this capture file.
fn told_offline(file: &[u8]) -> Vec<u8> {
    let mut pipeline = Pipeline::new(PipelineOptions::default());
    let mut bytes = Vec::new();
    let mut keep = |masked| link::encode(&masked, &mut bytes).expect("the record fits into a frame");
    let mut capture = Capture::new(CaptureOptions::default());
    capture.push(file, &mut |event: Event<'_>| pipeline.feed(event, &mut keep)).expect("a capture file");
    capture.finish(&mut |event: Event<'_>| pipeline.feed(event, &mut keep)).expect("a whole file");
    pipeline.finish(&mut keep);
    bytes
}

#[test]
fn no_form_of_a_secret_is_stored_live_or_offline_in_any_protocol() {
    let protocols: [(u16, Carries, &str); 3] = [
        (8080, http_form, "visible"),
        (5432, postgres_form, "visible_copy"),
        (6379, redis_form, "visible-other"),
    ];
    for (port, turns, visible) in protocols {
        for (form, bytes) in forms() {
            let turns = turns(&bytes);
            for size in [1, 7, 61, 1400] {
                let live =
                    [Layer::Wire, Layer::Plaintext].map(|layer| stored(port, &turns, size, layer, 1_000_000));
                let offline = told_offline(&capture_file(port, &turns, size));
                for told in live.iter().chain([&offline]) {
                    let has = |what: &[u8]| memchr::memmem::find(told, what).is_some();
                    assert!(has(visible.as_bytes()), "port {port}, {form}: {visible} is missing");
                    for secret in [MAIL, CARD] {
                        for disguise in disguises(secret) {
                            let shown = String::from_utf8_lossy(&disguise).into_owned();
                            assert!(
                                !has(&disguise),
                                "port {port}, {form}, pieces of {size}: {secret} as {shown}"
                            );
                        }
                    }
                    for whole in [bytes.clone(), hex::encode(&bytes).into()] {
                        assert!(!has(&whole), "port {port}, {form}: the form stands there whole");
                    }
                }
            }
        }
    }
}

#[test]
fn what_a_tunnel_carries_stores_no_canary() {
    let tunnel = |inside: Turns| -> Turns {
        let wish = format!(
            "CONNECT visible-host:1 HTTP/1.1\r\nHost: h\r\nProxy-Authorization: Bearer {BEARER}\r\n\r\n"
        );
        let opened =
            vec![(Flow::Ingress, wish.into_bytes()), (Flow::Egress, b"HTTP/1.1 200 OK\r\n\r\n".to_vec())];
        [opened, inside].concat()
    };
    check(3128, &tunnel(http_turns()), &["visible-host", "/visible-json", "visible-answer"]);
    check(3128, &tunnel(postgres_turns()), &["visible-host", "visible-user", "visible_csv"]);
    check(3128, &tunnel(redis_turns()), &["visible-host", "visible:7:password"]);
}
