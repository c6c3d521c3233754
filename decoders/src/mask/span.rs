//! Which parts of a text are masked, and the text with them masked.

use super::mark::{Mark, may_forge, push_escaped};

/// A part of a text that is to be masked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) mark: Mark,
    /// The mask stands in double quotes: it replaces a bare JSON value.
    pub(crate) quoted: bool,
}

impl Span {
    pub(crate) fn new(start: usize, end: usize, mark: Mark) -> Self {
        Span { start, end, mark, quoted: false }
    }
}

/// Bytes before a cut that are not kept: longer than any beginning of a secret that no recogniser can tell
/// yet (an address has 64 + 1 + 253 bytes). Secrets that may be longer are masked up to the end of the text.
const CUT_TAIL_BYTES: usize = 320;

/// Orders the spans and joins those that overlap: what any of them covers is masked, by the widest's mark.
pub(crate) fn settle(spans: &mut Vec<Span>) {
    spans.retain(|span| span.start < span.end);
    spans.sort_by_key(|span| (span.start, std::cmp::Reverse(span.end)));
    spans.dedup_by(|next, span| {
        if next.start >= span.end {
            return false;
        }
        if next.end - next.start > span.end - span.start {
            span.mark = next.mark.clone();
        }
        span.end = span.end.max(next.end);
        span.quoted &= next.quoted;
        true
    });
}

/// Whether [`apply`] would give another text than this one.
pub(crate) fn changes(text: &str, spans: &[Span], cut: bool) -> bool {
    cut || !spans.is_empty() || may_forge(text)
}

/// The text with the spans masked, and each mark told to `found`. When `cut`, the end of the text is missing:
/// its tail is left out, because a secret may begin there.
pub(crate) fn apply(text: &str, mut spans: Vec<Span>, cut: bool, mut found: impl FnMut(&Mark)) -> String {
    settle(&mut spans);
    let end = if cut { floor(text, text.len().saturating_sub(CUT_TAIL_BYTES)) } else { text.len() };
    let mut out = String::with_capacity(text.len().min(end + 64));
    let mut at = 0;
    for span in &spans {
        let start = floor(text, span.start);
        if start >= end {
            break;
        }
        // Two spans may meet inside one character: the first took it whole.
        push_escaped(&text[at..start.max(at)], &mut out);
        let until = ceil(text, span.end).max(at);
        let quote = if span.quoted { "\"" } else { "" };
        out.push_str(quote);
        span.mark.write(&text[start.max(at)..until], &mut out);
        out.push_str(quote);
        found(&span.mark);
        at = until;
    }
    if at < end {
        push_escaped(&text[at..end], &mut out);
    }
    if cut {
        out.push_str(&super::mark::dropped("cut", text.len() - end.max(at).min(text.len())));
    }
    out
}

fn floor(text: &str, mut at: usize) -> usize {
    at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn ceil(text: &str, mut at: usize) -> usize {
    at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: usize, end: usize, kind: &'static str) -> Span {
        Span::new(start, end, Mark::redact(kind))
    }

    #[test]
    fn overlapping_spans_become_one_with_the_widest_mark() {
        let mut spans = vec![span(4, 8, "b"), span(0, 5, "a"), span(9, 9, "none"), span(10, 12, "c")];
        settle(&mut spans);
        assert_eq!(spans, [span(0, 8, "a"), span(10, 12, "c")]);
    }

    #[test]
    fn text_outside_of_spans_is_kept_byte_for_byte() {
        let mut kinds = Vec::new();
        let out =
            apply("aä SECRET b›", vec![span(4, 10, "x")], false, |mark| kinds.push(mark.kind.to_string()));
        assert_eq!(out, "aä ‹x·redact› b\\u203a");
        assert_eq!(kinds, ["x"]);
        assert_eq!(
            apply("äöü", vec![span(1, 3, "x"), span(3, 4, "y")], false, |_| ()),
            "‹x·redact›‹y·redact›ü"
        );
    }

    #[test]
    fn the_tail_before_a_cut_is_left_out_but_for_masks() {
        let text = format!("{}{}", "a".repeat(1000), "4111 1111 11");
        let out = apply(&text, Vec::new(), true, |_| ());
        assert_eq!(out, format!("{}‹cut·drop·320›", "a".repeat(692)));
        let out = apply(&text, vec![span(600, 1012, "x")], true, |_| ());
        assert_eq!(out, format!("{}‹x·redact›‹cut·drop·0›", "a".repeat(600)));
        assert_eq!(apply("short", Vec::new(), true, |_| ()), "‹cut·drop·5›");
    }
}
