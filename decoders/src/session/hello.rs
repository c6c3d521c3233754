//! What the two hellos of a TLS connection say in the clear: the name that was asked for, versions, protocols, early
//! data. Walks records and handshake messages (RFC 8446 4 and 5.1, RFC 5246 6.2.1 and 7.4.1) as bytes come.
//!
//! Must not hold more than one message of each side, nor look at anything behind it.

use custody_record::names;
use nom::bytes::complete::take;
use nom::multi::length_data;
use nom::number::complete::{be_u8, be_u16, be_u24};
use nom::{IResult, Parser};

use crate::item::{Class, Field, text};

/// Longest hello that is read: key shares of post-quantum groups need some 2 KiB.
const MESSAGE_BYTES_MAX: usize = 16 << 10;
/// Longest name of a server (RFC 1035 2.3.4), and of a protocol (RFC 7301 3.1).
const NAME_BYTES_MAX: usize = 255;
/// Protocols that are told of those offered.
const PROTOCOLS_MAX: usize = 16;
const RECORD_HEADER_BYTES: usize = 5;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;

/// Extensions (RFC 8446 4.2).
mod extension {
    pub(super) const SERVER_NAME: u16 = 0;
    pub(super) const PROTOCOLS: u16 = 16;
    pub(super) const EARLY_DATA: u16 = 42;
    pub(super) const VERSIONS: u16 = 43;
}

/// One side's handshake bytes until its hello is whole.
#[derive(Default)]
struct Half {
    header: Vec<u8>,
    /// Bytes of the current record that are still to come.
    left: usize,
    message: Vec<u8>,
    done: bool,
}

/// What was said by either side.
#[derive(Default)]
pub(super) struct Hellos {
    halves: [Half; 2],
    client: Option<Hello>,
    server: Option<Hello>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Hello {
    server_name: Option<String>,
    /// The newest that this hello offers or chooses.
    version: u16,
    protocols: Vec<String>,
    early_data: bool,
}

impl Hellos {
    /// The next bytes of one direction.
    pub(super) fn push(&mut self, direction: usize, bytes: &[u8]) {
        let half = &mut self.halves[direction];
        if half.done {
            return;
        }
        half.push(bytes);
        if half.done
            && let Some((kind, hello)) = read(&std::mem::take(&mut half.message))
        {
            let slot = if kind == CLIENT_HELLO { &mut self.client } else { &mut self.server };
            slot.get_or_insert(hello);
        }
    }

    /// Bytes of this direction are missing.
    pub(super) fn give_up(&mut self, direction: usize) {
        self.halves[direction] = Half { done: true, ..Half::default() };
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.halves.iter().map(|half| half.message.capacity() + half.header.capacity()).sum()
    }

    /// The connection began before our eyes.
    pub(super) fn is_begun(&self) -> bool {
        self.client.is_some() || self.server.is_some()
    }

    /// A client asked and no server took it up: nothing can have been said inside.
    pub(super) fn is_refused(&self) -> bool {
        self.client.is_some() && self.server.is_none()
    }

    /// As facts of the session.
    pub(super) fn fields(&self, fields: &mut Vec<Field>) {
        if let Some(hello) = &self.client {
            if let Some(name) = &hello.server_name {
                fields.push(Field::new(names::TLS_SERVER_NAME, name.as_str(), Class::Identifier));
            }
            if !hello.protocols.is_empty() {
                let offered = hello.protocols.join(",");
                fields.push(Field::new(names::TLS_OFFERED_PROTOCOLS, offered, Class::Identifier));
            }
            if hello.early_data {
                fields.push(Field::structure(names::TLS_EARLY_DATA, "offered"));
            }
        }
        // Without the server's word it is what the client can do at best.
        let (spoken, name) = match (&self.server, &self.client) {
            (Some(server), _) => (server, names::TLS_VERSION),
            (None, Some(client)) => (client, names::TLS_OFFERED_VERSION),
            (None, None) => return,
        };
        if let Some(version) = version_name(spoken.version) {
            fields.push(Field::structure(name, version));
        }
        if let Some(protocol) = self.server.as_ref().and_then(|hello| hello.protocols.first()) {
            fields.push(Field::new(names::TLS_NEXT_PROTOCOL, protocol.as_str(), Class::Identifier));
        }
    }
}

impl Half {
    fn push(&mut self, mut bytes: &[u8]) {
        while !self.done && !bytes.is_empty() {
            if self.left == 0 {
                let wanted = RECORD_HEADER_BYTES - self.header.len();
                let (head, rest) = bytes.split_at(wanted.min(bytes.len()));
                self.header.extend_from_slice(head);
                bytes = rest;
                let [kind, 3, _, high, low] = self.header[..] else {
                    self.done = self.header.len() == RECORD_HEADER_BYTES;
                    continue;
                };
                self.header.clear();
                self.left = usize::from(u16::from_be_bytes([high, low]));
                // An empty record of a handshake is forbidden, and would be a way to never end.
                self.done = kind != HANDSHAKE || self.left == 0;
                continue;
            }
            let (piece, rest) = bytes.split_at(self.left.min(bytes.len()));
            self.left -= piece.len();
            bytes = rest;
            let room = MESSAGE_BYTES_MAX - self.message.len();
            self.message.extend_from_slice(&piece[..piece.len().min(room)]);
            self.done = self.is_whole() || self.message.len() == MESSAGE_BYTES_MAX;
        }
    }

    fn is_whole(&self) -> bool {
        let [_, high, middle, low, ..] = self.message[..] else { return false };
        self.message.len() - 4 >= u32::from_be_bytes([0, high, middle, low]) as usize
    }
}

fn read(message: &[u8]) -> Option<(u8, Hello)> {
    let (rest, kind) = be_u8::<_, nom::error::Error<&[u8]>>(message).ok()?;
    let (_, body) = length_data(be_u24::<_, nom::error::Error<&[u8]>>).parse(rest).ok()?;
    let hello = match kind {
        CLIENT_HELLO => client_hello(body),
        SERVER_HELLO => server_hello(body),
        _ => return None,
    };
    hello.ok().map(|(_, hello)| (kind, hello))
}

fn client_hello(body: &[u8]) -> IResult<&[u8], Hello> {
    let (rest, version) = be_u16(body)?;
    let (rest, _random) = take(32usize)(rest)?;
    let (rest, _session) = length_data(be_u8).parse(rest)?;
    let (rest, _ciphers) = length_data(be_u16).parse(rest)?;
    let (rest, _compressions) = length_data(be_u8).parse(rest)?;
    extensions(rest, Hello { version, ..Hello::default() }, true)
}

fn server_hello(body: &[u8]) -> IResult<&[u8], Hello> {
    let (rest, version) = be_u16(body)?;
    let (rest, _random) = take(32usize)(rest)?;
    let (rest, _session) = length_data(be_u8).parse(rest)?;
    let (rest, _cipher_and_compression) = take(3usize)(rest)?;
    extensions(rest, Hello { version, ..Hello::default() }, false)
}

/// Reads those that are whole: a damaged one ends the list, what was read before it stands.
fn extensions(input: &[u8], mut hello: Hello, of_client: bool) -> IResult<&[u8], Hello> {
    if input.is_empty() {
        return Ok((input, hello));
    }
    let (after, mut rest) = length_data(be_u16).parse(input)?;
    while let Ok((next, (kind, data))) = extension(rest) {
        rest = next;
        match kind {
            extension::SERVER_NAME if of_client => hello.server_name = server_name(data),
            extension::PROTOCOLS => hello.protocols = protocols(data),
            extension::EARLY_DATA => hello.early_data = true,
            extension::VERSIONS => hello.version = newest(data, of_client).unwrap_or(hello.version),
            _ => {}
        }
    }
    Ok((after, hello))
}

fn extension(input: &[u8]) -> IResult<&[u8], (u16, &[u8])> {
    (be_u16, length_data(be_u16)).parse(input)
}

/// RFC 6066 3: the list's first name of type host_name.
fn server_name(data: &[u8]) -> Option<String> {
    let (_, list) = length_data(be_u16::<_, nom::error::Error<&[u8]>>).parse(data).ok()?;
    let (list, kind) = be_u8::<_, nom::error::Error<&[u8]>>(list).ok()?;
    let (_, name) = length_data(be_u16::<_, nom::error::Error<&[u8]>>).parse(list).ok()?;
    (kind == 0 && !name.is_empty()).then(|| text(&name[..name.len().min(NAME_BYTES_MAX)]))
}

/// RFC 7301 3.1.
fn protocols(data: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    let Ok((_, mut list)) = length_data(be_u16::<_, nom::error::Error<&[u8]>>).parse(data) else {
        return names;
    };
    while names.len() < PROTOCOLS_MAX
        && let Ok((rest, name)) = length_data(be_u8::<_, nom::error::Error<&[u8]>>).parse(list)
    {
        list = rest;
        // Values that only keep servers tolerant (RFC 8701 2).
        if !matches!(name, [high, low] if high == low && high & 0x0f == 0x0a) {
            names.push(text(name));
        }
    }
    names
}

/// RFC 8446 4.2.1: a list of the client, one of the server. Values that nobody knows are left out (RFC 8701).
fn newest(data: &[u8], of_client: bool) -> Option<u16> {
    let list = if of_client { data.get(1..)? } else { data };
    let versions = list.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    versions.filter(|version| version_name(*version).is_some()).max()
}

fn version_name(version: u16) -> Option<&'static str> {
    match version {
        0x0301 => Some("1.0"),
        0x0302 => Some("1.1"),
        0x0303 => Some("1.2"),
        0x0304 => Some("1.3"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(bytes: &[u8], width: usize) -> Vec<u8> {
        let length = (bytes.len() as u32).to_be_bytes();
        [&length[4 - width..], bytes].concat()
    }

    fn extension_of(kind: u16, data: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &counted(data, 2)].concat()
    }

    fn hello(kind: u8, middle: &[u8], extensions: &[Vec<u8>]) -> Vec<u8> {
        let body = [&[3, 3][..], &[7; 32], middle, &counted(&extensions.concat(), 2)].concat();
        [&[kind][..], &counted(&body, 3)].concat()
    }

    fn client(name: &str) -> Vec<u8> {
        let names = counted(&[&[0][..], &counted(name.as_bytes(), 2)].concat(), 2);
        let protocols =
            counted(&[counted(&[0x3a, 0x3a], 1), counted(b"h2", 1), counted(b"http/1.1", 1)].concat(), 2);
        let versions = counted(&[0x7a, 0x7a, 3, 4, 3, 3], 1);
        let extensions = [
            extension_of(0x2a2a, b""),
            extension_of(extension::SERVER_NAME, &names),
            extension_of(extension::PROTOCOLS, &protocols),
            extension_of(extension::VERSIONS, &versions),
            extension_of(extension::EARLY_DATA, b""),
        ];
        hello(CLIENT_HELLO, &[0, 0, 2, 0x13, 1, 1, 0], &extensions)
    }

    /// As records of at most so many bytes.
    fn records(message: &[u8], bytes: usize) -> Vec<u8> {
        message.chunks(bytes).flat_map(|part| [&[HANDSHAKE, 3, 1][..], &counted(part, 2)].concat()).collect()
    }

    fn told(hellos: &Hellos) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        hellos.fields(&mut fields);
        let shown =
            |field: Field| (field.name.into_owned(), field.value.as_text().unwrap_or_default().to_owned());
        fields.into_iter().map(shown).collect()
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn both_hellos_are_read_in_whatever_pieces_they_come() {
        let server = hello(
            SERVER_HELLO,
            &[0, 0x13, 1, 0],
            &[
                extension_of(extension::VERSIONS, &[3, 4]),
                extension_of(extension::PROTOCOLS, &counted(&counted(b"h2", 1), 2)),
            ],
        );
        for (record, chunk) in [(usize::MAX, usize::MAX), (40, 1), (1, 7), (3, 2)] {
            let mut hellos = Hellos::default();
            for piece in records(&client("shop.example"), record.min(4000)).chunks(chunk.min(9000)) {
                hellos.push(0, piece);
            }
            assert!(hellos.is_refused());
            for piece in records(&server, record.min(4000)).chunks(chunk.min(9000)) {
                hellos.push(1, piece);
            }
            assert!(!hellos.is_refused());
            assert_eq!(
                told(&hellos),
                [
                    pair(names::TLS_SERVER_NAME, "shop.example"),
                    pair(names::TLS_OFFERED_PROTOCOLS, "h2,http/1.1"),
                    pair(names::TLS_EARLY_DATA, "offered"),
                    pair(names::TLS_VERSION, "1.3"),
                    pair(names::TLS_NEXT_PROTOCOL, "h2"),
                ]
            );
        }
    }

    #[test]
    fn a_client_that_nobody_answers_tells_what_it_offers() {
        let mut hellos = Hellos::default();
        hellos.push(1, &records(&client("a.example"), 4000));
        assert!(told(&hellos).contains(&pair(names::TLS_OFFERED_VERSION, "1.3")));
    }

    #[test]
    fn an_endless_or_damaged_hello_is_given_up_in_bounded_memory() {
        let mut hellos = Hellos::default();
        let endless =
            [&[HANDSHAKE, 3, 1, 0x40, 0][..], &[CLIENT_HELLO, 0xff, 0xff, 0xff], &[0; 16 << 10]].concat();
        for _ in 0..10 {
            hellos.push(0, &endless);
        }
        assert!(hellos.held_bytes() <= MESSAGE_BYTES_MAX + 64);
        let whole = records(&client("a.example"), 4000);
        for cut in 0..whole.len() {
            let mut hellos = Hellos::default();
            hellos.push(0, &whole[..cut]);
            hellos.give_up(0);
            assert!(!hellos.is_begun(), "half a hello was taken for one");
            let mut damaged = whole.clone();
            damaged[cut] ^= 0x80;
            Hellos::default().push(0, &damaged);
        }
    }

    #[test]
    fn empty_records_do_not_hold_a_reader_for_ever() {
        let mut hellos = Hellos::default();
        hellos.push(0, &[HANDSHAKE, 3, 1, 0, 0]);
        assert!(hellos.halves[0].done);
    }
}
