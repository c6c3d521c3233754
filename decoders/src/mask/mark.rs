//! How a mask looks in a record, and how payload is kept from looking like one.
//!
//! A mask reads `‹kind·action›`, or `‹kind·action·id›` when a configured rule made it (its id) or when
//! something was dropped (how many bytes). The brackets belong to masks alone: in payload they are escaped.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

const OPEN: char = '‹';
const CLOSE: char = '›';
const OPEN_ESCAPED: &str = "\\u2039";
const CLOSE_ESCAPED: &str = "\\u203a";

/// What is done to a sensitive value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Nothing of it stays.
    #[default]
    Redact,
    /// Its last characters stay, this many; never more than a quarter of it.
    KeepLast(u8),
}

/// What was found, and what is to be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// `email`, `card`, `password` …
    pub(crate) kind: Cow<'static, str>,
    /// What is done.
    pub(crate) action: Action,
    /// The configured rule's id; `None` when it is built in.
    pub(crate) rule: Option<Arc<str>>,
}

impl Mark {
    /// A mark of the product's own, that nobody configures.
    pub(crate) const fn redact(kind: &'static str) -> Self {
        Mark { kind: Cow::Borrowed(kind), action: Action::Redact, rule: None }
    }

    /// The action's name in `masked`.
    pub(crate) fn action_name(&self) -> &'static str {
        match self.action {
            Action::Redact => "redact",
            Action::KeepLast(_) => "keep_last",
        }
    }

    /// Appends the mask that stands for `original`.
    pub(crate) fn write(&self, original: &str, out: &mut String) {
        out.push(OPEN);
        out.push_str(&self.kind);
        out.push('·');
        out.push_str(self.action_name());
        if let Some(rule) = &self.rule {
            out.push('·');
            out.push_str(rule);
        }
        out.push(CLOSE);
        if let Action::KeepLast(count) = self.action {
            push_escaped(last(original, usize::from(count)), out);
        }
    }
}

/// The mask of something that was left out whole.
pub(crate) fn dropped(kind: &str, bytes: usize) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write!(out, "{OPEN}{kind}·drop·{bytes}{CLOSE}");
    out
}

/// The last `count` characters, but never more than a quarter: of a short value the end is too much.
fn last(original: &str, count: usize) -> &str {
    let characters = original.chars().count();
    let keep = count.min(characters / 4);
    original.char_indices().nth(characters - keep).map_or("", |(at, _)| &original[at..])
}

/// Whether a bracket of masks may stand in it: both begin with this byte, and little else does.
pub(crate) fn may_forge(text: &str) -> bool {
    memchr::memchr(0xE2, text.as_bytes()).is_some()
}

/// Appends payload with the brackets of masks escaped, so that nobody can forge one.
pub(crate) fn push_escaped(text: &str, out: &mut String) {
    if !may_forge(text) {
        out.push_str(text);
        return;
    }
    let mut rest = text;
    while let Some(at) = rest.find([OPEN, CLOSE]) {
        out.push_str(&rest[..at]);
        out.push_str(if rest[at..].starts_with(OPEN) { OPEN_ESCAPED } else { CLOSE_ESCAPED });
        rest = &rest[at + OPEN.len_utf8()..];
    }
    out.push_str(rest);
}

/// Payload with the brackets of masks escaped.
pub(crate) fn escaped(text: String) -> String {
    if !may_forge(&text) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 16);
    push_escaped(&text, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_says_kind_action_and_rule() {
        let mut out = String::new();
        Mark::redact("email").write("a@b.org", &mut out);
        Mark { kind: "card".into(), action: Action::KeepLast(4), rule: Some("pay".into()) }
            .write("4111111111111111", &mut out);
        assert_eq!(out, "‹email·redact›‹card·keep_last·pay›1111");
    }

    #[test]
    fn the_end_of_a_short_value_is_not_kept() {
        assert_eq!(last("1234", 4), "4");
        assert_eq!(last("123", 4), "");
        assert_eq!(last("", 4), "");
        assert_eq!(last("ääääääää", 4), "ää");
    }

    #[test]
    fn brackets_in_payload_cannot_forge_a_mask() {
        assert_eq!(escaped("a‹card·redact›b".into()), "a\\u2039card·redact\\u203ab");
        assert_eq!(escaped("“quoted” …".into()), "“quoted” …");
    }
}
