//! What is wrong with a filter, and where: one sentence, the line, a caret.

use std::fmt;

use crate::text;

/// Columns of the filter that are shown around the mistake.
const WINDOW: usize = 72;

/// A filter that was not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError {
    message: String,
    before: String,
    after: String,
}

impl FilterError {
    pub(super) fn new(source: &str, position: usize, message: impl Into<String>) -> Self {
        let position =
            (0..=position.min(source.len())).rev().find(|at| source.is_char_boundary(*at)).unwrap_or(0);
        let (before, after) = source.split_at(position);
        let skipped = before.chars().count().saturating_sub(WINDOW);
        let before: String = before.chars().skip(skipped).collect();
        let after: String = after.chars().take(WINDOW).collect();
        FilterError {
            message: message.into(),
            before: text::escape(&before).into_owned(),
            after: text::escape(&after).into_owned(),
        }
    }

    /// The sentence alone.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let indent = text::width(&self.before);
        write!(f, "{}\n  {}{}\n  {:indent$}^", self.message, self.before, self.after, "")
    }
}

impl std::error::Error for FilterError {}
