//! Canary secrets through the whole way from captured chunks to stored bytes: in every form in which programs
//! send them, cut into pieces of every size, none may stand in what is stored.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use base64::Engine;
use custody_decoders::event::{
    Binding, Chunk, Endpoint, Event, Flow, Layer, Process, Role, Socket, SocketId, Transport,
};
use custody_decoders::mask::link;
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
