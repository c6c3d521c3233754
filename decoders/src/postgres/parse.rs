//! Bodies of messages into borrowed values (PostgreSQL documentation, "Message Formats"). No state.
//!
//! Length is law: each parser must use up its body exactly. Bytes left over are [`Malformed::Leftover`] and
//! never looked at again. Counts are checked against the bytes that remain before anything is reserved.

use nom::Parser;
use nom::combinator::rest;
use nom::number::complete::{be_i16, be_i32, be_u8, be_u16, be_u32};

pub(super) use super::pieces::{Cells, Columns, Names, Numbers, Report, Startup};
use super::pieces::{Parsed, cell, cells, columns, numbers, text};

/// Why a body could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    /// It ends before its own counts and lengths do.
    Short,
    /// Bytes follow what the message can hold.
    Leftover,
    /// A code that the protocol does not have.
    Unknown,
}

/// A message of the client.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum FromClient<'a> {
    Query {
        text: &'a [u8],
    },
    Parse {
        statement: &'a [u8],
        text: &'a [u8],
        types: Numbers<'a, 4>,
    },
    Bind(Bind<'a>),
    Describe {
        target: Target,
        name: &'a [u8],
    },
    Close {
        target: Target,
        name: &'a [u8],
    },
    Execute {
        portal: &'a [u8],
    },
    Function {
        oid: u32,
        arguments: Cells<'a>,
    },
    /// A password, a SASL message or a token: which one, only the server's question tells.
    Credential,
    CopyDone,
    CopyFail {
        reason: &'a [u8],
    },
    Flush,
    Sync,
    Terminate,
}

/// Values for a statement's parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bind<'a> {
    pub(super) portal: &'a [u8],
    pub(super) statement: &'a [u8],
    pub(super) formats: Numbers<'a, 2>,
    pub(super) values: Cells<'a>,
    pub(super) result_formats: Numbers<'a, 2>,
}

/// What Describe and Close are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Statement,
    Portal,
}

/// A message of the server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum FromServer<'a> {
    Authentication { kind: u32, data: &'a [u8] },
    BackendKey { pid: u32, secret: &'a [u8] },
    ParameterStatus { name: &'a [u8], value: &'a [u8] },
    NegotiateVersion { minor: u32, options: Names<'a> },
    ParseComplete,
    BindComplete,
    CloseComplete,
    NoData,
    PortalSuspended,
    ParameterTypes(Numbers<'a, 4>),
    Columns(Columns<'a>),
    Row(Cells<'a>),
    Complete { tag: &'a [u8] },
    Empty,
    Error(Report<'a>),
    Notice(Report<'a>),
    Notification { pid: u32, channel: &'a [u8], payload: &'a [u8] },
    FunctionResult(Option<&'a [u8]>),
    CopyIn { binary: bool },
    CopyOut { binary: bool, columns: usize },
    CopyBoth { binary: bool },
    CopyDone,
    Ready { status: u8 },
}

/// Reads a start-up packet, from its length word on.
pub(super) fn startup(packet: &[u8]) -> Result<Startup<'_>, Malformed> {
    let (left, (_, _, minor)) = (be_u32, be_u16, be_u16).parse(packet).map_err(short)?;
    let found = Startup { minor, parameters: left };
    let read: usize = found.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    match left.get(read..) {
        Some([0]) => Ok(found),
        Some([0, ..]) => Err(Malformed::Leftover),
        _ => Err(Malformed::Short),
    }
}

/// Reads the pid that a `CancelRequest` names, and pid and key as the `BackendKeyData` has them.
pub(super) fn cancel(packet: &[u8]) -> Result<(u32, &[u8]), Malformed> {
    let (secret, _) = (be_u32, be_u32).parse(packet).map_err(short)?;
    let (_, pid) = be_u32(secret).map_err(short)?;
    Ok((pid, secret))
}

/// Reads user and database of a start-up packet of protocol 2, from its length word on.
pub(super) fn old_startup(packet: &[u8]) -> Option<(&[u8], &[u8])> {
    let (database, user) = packet.get(8..8 + 64 + 32)?.split_at(64);
    let ended = |field: &'_ [u8]| field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    Some((&user[..ended(user)], &database[..ended(database)]))
}

/// Reads a client's message. `cut` says that its end is missing: then what is there is taken for statements
/// and values, and everything else is refused.
pub(super) fn from_client(kind: u8, body: &[u8], cut: bool) -> Result<FromClient<'_>, Malformed> {
    use FromClient::*;
    if cut {
        return cut_from_client(kind, body);
    }
    match kind {
        b'Q' => whole(text.map(|text| Query { text }), body),
        b'P' => whole(
            (text, text, numbers).map(|(statement, text, types)| Parse { statement, text, types }),
            body,
        ),
        b'B' => whole((text, text, numbers, cells, numbers).map(bind), body),
        b'D' => {
            let (target, name) = whole((be_u8, text), body)?;
            Ok(Describe { target: self::target(target)?, name })
        }
        b'C' => {
            let (target, name) = whole((be_u8, text), body)?;
            Ok(Close { target: self::target(target)?, name })
        }
        b'E' => whole((text, be_i32).map(|(portal, _)| Execute { portal }), body),
        b'F' => whole(
            (be_u32, numbers::<2>, cells, be_i16).map(|(oid, _, arguments, _)| Function { oid, arguments }),
            body,
        ),
        b'p' => Ok(Credential),
        b'c' => empty(body).map(|()| CopyDone),
        b'f' => whole(text.map(|reason| CopyFail { reason }), body),
        b'H' => empty(body).map(|()| Flush),
        b'S' => empty(body).map(|()| Sync),
        b'X' => empty(body).map(|()| Terminate),
        _ => Err(Malformed::Unknown),
    }
}

fn cut_from_client(kind: u8, body: &[u8]) -> Result<FromClient<'_>, Malformed> {
    let unended = |input| -> Parsed<'_, &[u8]> { text(input).or_else(|_| rest(input)) };
    let none = Numbers::default();
    let (_, found) = match kind {
        b'Q' => unended.map(|text| FromClient::Query { text }).parse(body),
        b'P' => (text, unended)
            .map(|(statement, text)| FromClient::Parse { statement, text, types: none })
            .parse(body),
        b'B' => (text, text, numbers, be_u16, rest)
            .map(|(portal, statement, formats, count, bytes)| {
                bind((portal, statement, formats, Cells { count, bytes }, Numbers::default()))
            })
            .parse(body),
        _ => return Err(Malformed::Short),
    }
    .map_err(short)?;
    Ok(found)
}

fn bind<'a>(
    (portal, statement, formats, values, result_formats): (
        &'a [u8],
        &'a [u8],
        Numbers<'a, 2>,
        Cells<'a>,
        Numbers<'a, 2>,
    ),
) -> FromClient<'a> {
    FromClient::Bind(Bind { portal, statement, formats, values, result_formats })
}

/// Reads a server's message. `cut` says that its end is missing: of a row the values that are there are
/// taken, everything else is refused.
pub(super) fn from_server(kind: u8, body: &[u8], cut: bool) -> Result<FromServer<'_>, Malformed> {
    use FromServer::*;
    if cut {
        return match kind {
            b'D' => (be_u16, rest)
                .map(|(count, bytes)| Row(Cells { count, bytes }))
                .parse(body)
                .map(|(_, row)| row)
                .map_err(short),
            _ => Err(Malformed::Short),
        };
    }
    match kind {
        b'R' => whole((be_u32, rest).map(|(kind, data)| Authentication { kind, data }), body),
        b'K' => whole((be_u32, rest).map(|(pid, _)| BackendKey { pid, secret: body }), body),
        b'S' => whole((text, text).map(|(name, value)| ParameterStatus { name, value }), body),
        b'v' => negotiate(body),
        b'1' => empty(body).map(|()| ParseComplete),
        b'2' => empty(body).map(|()| BindComplete),
        b'3' => empty(body).map(|()| CloseComplete),
        b'n' => empty(body).map(|()| NoData),
        b's' => empty(body).map(|()| PortalSuspended),
        b't' => whole(numbers.map(ParameterTypes), body),
        b'T' => whole(columns.map(Columns), body),
        b'D' => whole(cells.map(Row), body),
        b'C' => whole(text.map(|tag| Complete { tag }), body),
        b'I' => empty(body).map(|()| Empty),
        b'E' => report(body).map(Error),
        b'N' => report(body).map(Notice),
        b'A' => whole(
            (be_u32, text, text).map(|(pid, channel, payload)| Notification { pid, channel, payload }),
            body,
        ),
        b'V' => whole(cell.map(FunctionResult), body),
        b'G' => copy(body).map(|(binary, _)| CopyIn { binary }),
        b'H' => copy(body).map(|(binary, columns)| CopyOut { binary, columns }),
        b'W' => copy(body).map(|(binary, _)| CopyBoth { binary }),
        b'c' => empty(body).map(|()| CopyDone),
        b'Z' => whole(be_u8.map(|status| Ready { status }), body),
        _ => Err(Malformed::Unknown),
    }
}

fn negotiate(body: &[u8]) -> Result<FromServer<'_>, Malformed> {
    let (options, (minor, count)) = (be_u32, be_u32).parse(body).map_err(short)?;
    let mut left = options;
    // Each name takes a byte at least, so a hostile count ends with the body.
    for _ in 0..count {
        (left, _) = text(left).map_err(short)?;
    }
    // Since 3.2 the version stands there whole, as the start-up packet has it.
    empty(left).map(|()| FromServer::NegotiateVersion { minor: minor & 0xffff, options: Names(options) })
}

fn report(body: &[u8]) -> Result<Report<'_>, Malformed> {
    let found = Report(body);
    let read: usize = found.iter().map(|(_, text)| text.len() + 2).sum();
    match body.get(read..) {
        Some([0]) => Ok(found),
        Some([0, _, ..]) => Err(Malformed::Leftover),
        _ => Err(Malformed::Short),
    }
}

/// Overall format, and one format per column, which says the same: binary or not, and how many columns.
fn copy(body: &[u8]) -> Result<(bool, usize), Malformed> {
    whole((be_u8, numbers::<2>).map(|(format, columns)| (format == 1, columns.iter().count())), body)
}

fn target(code: u8) -> Result<Target, Malformed> {
    match code {
        b'S' => Ok(Target::Statement),
        b'P' => Ok(Target::Portal),
        _ => Err(Malformed::Unknown),
    }
}

/// The parser's result when it used up the body.
fn whole<'a, T>(
    mut parser: impl Parser<&'a [u8], Output = T, Error = nom::error::Error<&'a [u8]>>,
    body: &'a [u8],
) -> Result<T, Malformed> {
    let (left, found) = parser.parse(body).map_err(short)?;
    empty(left).map(|()| found)
}

fn empty(left: &[u8]) -> Result<(), Malformed> {
    if left.is_empty() { Ok(()) } else { Err(Malformed::Leftover) }
}

fn short(_: nom::Err<nom::error::Error<&[u8]>>) -> Malformed {
    Malformed::Short
}
