//! The parts that messages repeat: strings, counted lists, values, columns, reports. Each is checked once when it
//! is read, and then borrowed.

use nom::bytes::complete::{take, take_until};
use nom::number::complete::{be_i16, be_i32, be_u8, be_u16, be_u32};
use nom::{IResult, Parser};

/// What a parser gives.
pub(super) type Parsed<'a, T> = IResult<&'a [u8], T, nom::error::Error<&'a [u8]>>;

/// A counted list of big-endian integers of `N` bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Numbers<'a, const N: usize>(pub(super) &'a [u8]);

impl<'a, const N: usize> Numbers<'a, N> {
    /// The numbers in order.
    pub(super) fn iter(self) -> impl Iterator<Item = u32> + 'a {
        self.0.chunks_exact(N).map(|bytes| bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
    }
}

/// Values, each with its length; NULL has length -1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Cells<'a> {
    pub(super) count: u16,
    pub(super) bytes: &'a [u8],
}

impl<'a> Cells<'a> {
    /// The values in order; fewer than announced when the message was cut.
    pub(super) fn iter(self) -> impl Iterator<Item = Option<&'a [u8]>> + 'a {
        let mut left = self.bytes;
        (0..self.count).map_while(move |_| {
            let (after, value) = cell(left).ok()?;
            left = after;
            Some(value)
        })
    }
}

/// Descriptions of columns, walked on demand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Columns<'a> {
    pub(super) count: u16,
    pub(super) bytes: &'a [u8],
}

/// One column of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Column<'a> {
    pub(super) name: &'a [u8],
    pub(super) type_oid: u32,
    pub(super) binary: bool,
}

impl<'a> Columns<'a> {
    /// The columns in order.
    pub(super) fn iter(self) -> impl Iterator<Item = Column<'a>> {
        let mut left = self.bytes;
        (0..self.count).map_while(move |_| {
            let (after, found) = column(left).ok()?;
            left = after;
            Some(found)
        })
    }
}

/// Fields of an error or a notice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Report<'a>(pub(super) &'a [u8]);

impl<'a> Report<'a> {
    /// The fields in order: code and text.
    pub(super) fn iter(self) -> impl Iterator<Item = (u8, &'a [u8])> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let (after, found) = (be_u8, text).parse(left).ok().filter(|(_, (code, _))| *code != 0)?;
            left = after;
            Some(found)
        })
    }
    /// The field of this code; empty when there is none.
    pub(super) fn field(self, code: u8) -> &'a [u8] {
        self.iter().find(|(found, _)| *found == code).map_or(&[], |(_, text)| text)
    }
}

/// Parameters of a start-up packet: names with their values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Startup<'a> {
    pub(super) minor: u16,
    pub(super) parameters: &'a [u8],
}

impl<'a> Startup<'a> {
    /// The parameters in order.
    pub(super) fn iter(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let mut left = self.parameters;
        std::iter::from_fn(move || {
            let (after, found) = (text, text).parse(left).ok().filter(|(_, (name, _))| !name.is_empty())?;
            left = after;
            Some(found)
        })
    }
}

/// Strings one after the other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Names<'a>(pub(super) &'a [u8]);

impl<'a> Names<'a> {
    /// The strings in order.
    pub(super) fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let (after, found) = text(left).ok()?;
            left = after;
            Some(found)
        })
    }
}

/// A string ended by a zero byte, without it.
pub(super) fn text(input: &[u8]) -> Parsed<'_, &[u8]> {
    let (after, found) = take_until(&b"\0"[..]).parse(input)?;
    Ok((&after[1..], found))
}

pub(super) fn numbers<const N: usize>(input: &[u8]) -> Parsed<'_, Numbers<'_, N>> {
    let (left, count) = be_u16(input)?;
    take(usize::from(count) * N).map(Numbers).parse(left)
}

pub(super) fn cell(input: &[u8]) -> Parsed<'_, Option<&[u8]>> {
    let (left, length) = be_i32(input)?;
    match usize::try_from(length) {
        Ok(length) => take(length).map(Some).parse(left),
        Err(_) if length == -1 => Ok((left, None)),
        Err(_) => Err(nom::Err::Error(nom::error::Error::new(input, nom::error::ErrorKind::Verify))),
    }
}

pub(super) fn cells(input: &[u8]) -> Parsed<'_, Cells<'_>> {
    let (start, count) = be_u16(input)?;
    let mut left = start;
    for _ in 0..count {
        (left, _) = cell(left)?;
    }
    Ok((left, Cells { count, bytes: &start[..start.len() - left.len()] }))
}

pub(super) fn column(input: &[u8]) -> Parsed<'_, Column<'_>> {
    let (left, (name, _table, _attribute, type_oid, _size, _modifier, format)) =
        (text, be_u32, be_i16, be_u32, be_i16, be_i32, be_u16).parse(input)?;
    Ok((left, Column { name, type_oid, binary: format == 1 }))
}

pub(super) fn columns(input: &[u8]) -> Parsed<'_, Columns<'_>> {
    let (start, count) = be_u16(input)?;
    let mut left = start;
    for _ in 0..count {
        (left, _) = column(left)?;
    }
    Ok((left, Columns { count, bytes: &start[..start.len() - left.len()] }))
}
