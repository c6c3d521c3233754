//! `multipart/form-data` (RFC 7578, RFC 2046, 5.1) as it comes: fields with their content, files by name, type and
//! size. Holds a part's head and the beginning of a delimiter, and of contents no more than the limit of a body.

use std::borrow::Cow;

use custody_record::{Value, names};
use memchr::memmem;

use super::form::{self, FIELDS_MAX, NAME_BYTES_MAX};
use crate::anomaly;
use crate::item::{Class, Field, text};
use crate::work;

/// Longest head of a part.
const HEAD_BYTES_MAX: usize = 8 << 10;

pub(super) struct Multipart {
    /// `CRLF -- boundary`.
    delimiter: Vec<u8>,
    /// Not read yet.
    held: Vec<u8>,
    /// Of it, bytes that were searched already.
    searched: usize,
    state: State,
    fields: Vec<Field>,
    count: u64,
    kept_bytes: usize,
}

enum State {
    /// Before the first delimiter.
    Preamble,
    /// Behind a delimiter: its line goes on.
    Delimiter,
    Head,
    Content(Part),
    /// The last delimiter came.
    Over,
    /// What came is no form.
    Broken,
}

struct Part {
    name: String,
    file: Option<String>,
    media_type: String,
    size: u64,
    kept: Vec<u8>,
}

impl Multipart {
    pub(super) fn new(boundary: &[u8]) -> Self {
        Multipart {
            delimiter: [b"\r\n--", boundary].concat(),
            // The first delimiter has no line before it.
            held: b"\r\n".to_vec(),
            searched: 0,
            state: State::Preamble,
            fields: Vec::new(),
            count: 0,
            kept_bytes: 0,
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8], bytes_max: usize) {
        if matches!(self.state, State::Over | State::Broken) {
            return;
        }
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(step) = self.step(&held[at..], bytes_max) {
            at += step;
            self.searched = 0;
        }
        held.drain(..at);
        self.held = held;
        if matches!(self.state, State::Over | State::Broken) {
            self.held = Vec::new();
        }
    }

    /// Reads on; how much, or `None` when more is needed.
    fn step(&mut self, bytes: &[u8], bytes_max: usize) -> Option<usize> {
        let searched = std::mem::replace(&mut self.searched, bytes.len());
        work::looked_at(bytes.len() - searched);
        match &mut self.state {
            State::Preamble | State::Content(_) => {
                let from = searched.saturating_sub(self.delimiter.len());
                let found = memmem::find(&bytes[from..], &self.delimiter).map(|at| from + at);
                let content = found.unwrap_or((bytes.len() + 1).saturating_sub(self.delimiter.len()));
                let step = found.map_or(content, |at| at + self.delimiter.len());
                self.content(&bytes[..content], bytes_max);
                if found.is_some() {
                    self.end_part(0);
                    self.state = State::Delimiter;
                }
                (step > 0).then_some(step)
            }
            State::Delimiter => {
                if bytes.starts_with(b"--") {
                    self.state = State::Over;
                    return None;
                }
                let end = memchr::memchr(b'\n', bytes);
                match end {
                    Some(end) => {
                        self.state = State::Head;
                        // The line's end stays: an empty head is an empty line behind it.
                        Some(if bytes[..end].ends_with(b"\r") { end - 1 } else { end })
                    }
                    None => self.want(bytes),
                }
            }
            State::Head => {
                let from = searched.saturating_sub(3);
                match memmem::find(&bytes[from..], b"\r\n\r\n").map(|at| from + at) {
                    Some(end) => {
                        self.state = State::Content(Part::of(&bytes[..end]));
                        // Content may be empty: its delimiter begins with the line's end.
                        Some(end + 4)
                    }
                    None => self.want(bytes),
                }
            }
            State::Over | State::Broken => None,
        }
    }

    fn want(&mut self, bytes: &[u8]) -> Option<usize> {
        if bytes.len() > HEAD_BYTES_MAX {
            self.state = State::Broken;
        }
        None
    }

    fn content(&mut self, bytes: &[u8], bytes_max: usize) {
        let State::Content(part) = &mut self.state else { return };
        part.size += bytes.len() as u64;
        if part.file.is_none() {
            let kept = bytes.len().min(bytes_max.saturating_sub(self.kept_bytes));
            part.kept.extend_from_slice(&bytes[..kept]);
            self.kept_bytes += kept;
        }
    }

    /// A part is over; `cut` bytes of it are missing at least.
    fn end_part(&mut self, cut: u64) {
        let State::Content(part) = std::mem::replace(&mut self.state, State::Delimiter) else { return };
        self.count += 1;
        if self.count > FIELDS_MAX || part.name.len() > NAME_BYTES_MAX {
            return;
        }
        let Part { name, file, media_type, size, kept } = part;
        match file {
            None => {
                let cut = cut.max(size - kept.len() as u64);
                let prefix = names::HTTP_REQUEST_FORM;
                form::add(prefix, &name, &media_type, Value::Bytes(kept), cut, &mut self.fields);
            }
            Some(file) => {
                let path = |prefix: &str| Cow::<'static, str>::Owned([prefix, &name].concat());
                let told = [
                    Field::new(path(names::HTTP_REQUEST_FILE), file, Class::Text),
                    Field::new(path(names::HTTP_REQUEST_FILE_TYPE), media_type, Class::Text),
                    Field::structure(path(names::HTTP_REQUEST_FILE_SIZE), size),
                ];
                // Of several files in one field all are told: masking joins what has one name.
                self.fields.extend(told);
            }
        }
    }

    /// The body is over: its fields, and whether it was broken.
    pub(super) fn into_fields(mut self, fields: &mut Vec<Field>) -> Option<&'static str> {
        if let State::Content(_) = self.state {
            // The beginning of a delimiter is no content.
            let rest = std::mem::take(&mut self.held);
            let mut lengths = (1..=rest.len().min(self.delimiter.len())).rev();
            let begun = lengths.find(|length| rest.ends_with(&self.delimiter[..*length])).unwrap_or(0);
            self.content(&rest[..rest.len() - begun], usize::MAX);
            self.end_part(1);
        }
        let odd = (!matches!(self.state, State::Over)).then_some(anomaly::HTTP1_BAD_MULTIPART);
        fields.append(&mut self.fields);
        if self.count > 0 {
            fields.push(Field::structure(names::HTTP_REQUEST_FORM_COUNT, self.count));
        }
        odd
    }

    /// Memory held.
    pub(super) fn held_bytes(&self) -> usize {
        let part = if let State::Content(part) = &self.state { part.kept.capacity() } else { 0 };
        let fields = self.fields.iter().map(|field| 128 + field.name.len()).sum::<usize>();
        self.held.capacity() + part + fields + self.kept_bytes
    }
}

impl Part {
    /// Of the lines of a part's head.
    fn of(head: &[u8]) -> Part {
        let mut part =
            Part { name: String::new(), file: None, media_type: String::new(), size: 0, kept: Vec::new() };
        for line in head.split(|byte| *byte == b'\n') {
            let Some(colon) = memchr::memchr(b':', line) else { continue };
            let (name, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
            if name.eq_ignore_ascii_case(b"content-disposition") {
                part.name = form::parameter(value, "name").map_or_else(String::new, |name| text(&name));
                let file = form::parameter(value, "filename").or_else(|| form::parameter(value, "filename*"));
                part.file = file.map(|file| text(&file));
            } else if name.eq_ignore_ascii_case(b"content-type") {
                let media_type = value.split(|byte| *byte == b';').next().unwrap_or_default();
                part.media_type = text(&media_type[..media_type.len().min(100)]).to_ascii_lowercase();
            }
        }
        part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: &[u8] = b"preamble\r\n--b1\r\nContent-Disposition: form-data; name=\"user\"\r\n\r\nann\r\n--b1 \r\n\
        Content-Disposition: form-data; name=\"pic\"; filename=\"C:\\me.png\"\r\nContent-Type: image/PNG\r\n\r\n\
        \x89PNG\r\n--b2\r\n--b\r\n--b1\r\nContent-Disposition: form-data; name=\"empty\"\r\n\r\n\r\n--b1--\r\nepilogue";

    fn told(form: &[u8], piece: usize) -> (Vec<String>, Option<&'static str>) {
        let mut multipart = Multipart::new(b"b1");
        form.chunks(piece).for_each(|piece| multipart.push(piece, 1 << 16));
        let mut fields = Vec::new();
        let odd = multipart.into_fields(&mut fields);
        let shown = |field: &Field| match &field.value {
            Value::Bytes(bytes) => format!("{}={} cut {}", field.name, bytes.escape_ascii(), field.cut),
            value => format!("{}={value:?}", field.name),
        };
        (fields.iter().map(shown).collect(), odd)
    }

    #[test]
    fn fields_and_files_are_told_in_pieces_of_any_size() {
        let whole = [
            "http.request.form.user=ann cut 0",
            "http.request.file.pic=Text(\"C:\\\\me.png\")",
            "http.request.file_type.pic=Text(\"image/png\")",
            "http.request.file_size.pic=Unsigned(15)",
            "http.request.form.empty= cut 0",
            "http.request.form_fields=Unsigned(3)",
        ];
        for piece in [1, 2, 3, 7, 50, 1000] {
            assert_eq!(told(FORM, piece), (whole.map(str::to_owned).to_vec(), None), "in pieces of {piece}");
        }
    }

    #[test]
    fn a_form_without_its_end_tells_what_came_and_that_it_is_broken() {
        let end = memmem::find(FORM, b"nn\r\n--b1").unwrap() + 2;
        let (fields, odd) = told(&FORM[..end], 5);
        assert_eq!(fields, ["http.request.form.user=ann cut 1", "http.request.form_fields=Unsigned(1)"]);
        assert_eq!(odd, Some(anomaly::HTTP1_BAD_MULTIPART));
        assert_eq!(told(b"no form", 3), (Vec::new(), Some(anomaly::HTTP1_BAD_MULTIPART)));
    }

    #[test]
    fn a_head_without_end_is_not_held() {
        let mut multipart = Multipart::new(b"b1");
        multipart.push(b"--b1\r\n", 1 << 16);
        (0..100_000).for_each(|_| multipart.push(b"X: y\r\n", 1 << 16));
        assert!(multipart.held_bytes() < 4 * HEAD_BYTES_MAX);
    }
}
