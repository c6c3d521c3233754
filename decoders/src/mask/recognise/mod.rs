//! Finds sensitive values in a text by their looks: one file per family, each with its validator.
//!
//! Linear in the text: one pass over anchors (words without which no recogniser can hit), then small bounded
//! looks around each. What a coding hides (percent, backslashes, base64, hex) is decoded and looked at too.

mod assignment;
mod email;
mod number;
mod token;
mod url;

use aho_corasick::automaton::Automaton;
use aho_corasick::dfa::DFA;
use aho_corasick::{Anchored, BuildError, MatchKind};

use super::mark::{Action, Mark};
use super::rules::{Recognisers, Setting};
use super::secret;
use super::span::Span;
use super::view::{self, Survey};

/// Codings inside codings that are looked through.
const DEPTH_MAX: usize = 2;

/// What an anchor is a sign of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Anchor {
    Jwt,
    PrivateKey,
    Scheme,
    Url,
    Vendor(usize),
    SecretName,
}

/// Which recognisers run where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Anything that somebody wrote: `name=value` tells secrets as well.
    Text,
    /// Between the tokens of a statement, where `name = other` compares two columns.
    Statement,
}

/// All recognisers with their settings.
#[derive(Debug)]
pub(crate) struct Recogniser {
    email: Option<Mark>,
    card: Option<Mark>,
    iban: Option<Mark>,
    automaton: DFA,
    anchors: Vec<Anchor>,
}

impl Recogniser {
    pub(crate) fn new(settings: &Recognisers) -> Result<Self, BuildError> {
        let mut words = vec!["eyJ", "- BEGIN", "-BEGIN", "bearer", "basic", "://"];
        let mut anchors = vec![
            Anchor::Jwt,
            Anchor::PrivateKey,
            Anchor::PrivateKey,
            Anchor::Scheme,
            Anchor::Scheme,
            Anchor::Url,
        ];
        for (index, vendor) in token::VENDORS.iter().enumerate() {
            words.push(vendor.prefix);
            anchors.push(Anchor::Vendor(index));
        }
        for hint in secret::NAME_HINTS {
            words.push(hint);
            anchors.push(Anchor::SecretName);
        }
        let automaton =
            DFA::builder().ascii_case_insensitive(true).match_kind(MatchKind::Standard).build(&words)?;
        Ok(Recogniser {
            email: mark("email", settings.email),
            card: mark("card", settings.card),
            iban: mark("iban", settings.iban),
            automaton,
            anchors,
        })
    }

    /// Adds what is found in `text` to `spans`.
    pub(crate) fn find(&self, text: &[u8], place: Place, spans: &mut Vec<Span>) {
        self.find_at_depth(text, place, 0, spans);
    }

    fn find_at_depth(&self, text: &[u8], place: Place, depth: usize, spans: &mut Vec<Span>) {
        let survey = Survey::of(text);
        self.find_plain(text, place, survey, spans);
        if depth == DEPTH_MAX {
            return;
        }
        if survey.has_percent() && view::has_percent(text) {
            self.find_in_view(&view::percent(text, false), place, depth, spans);
        }
        if survey.has_backslash() {
            self.find_in_view(&view::backslash(text), place, depth, spans);
        }
        if survey.has_runs() {
            view::encoded_runs(text, |start, end, decoded| {
                let mut inside = Vec::new();
                self.find_at_depth(decoded, Place::Text, DEPTH_MAX, &mut inside);
                // A part of a coded run cannot be masked alone.
                if let Some(first) = inside.first() {
                    spans.push(Span::new(start, end, Mark { action: Action::Redact, ..first.mark.clone() }));
                }
            });
        }
    }

    fn find_in_view(&self, view: &view::View, place: Place, depth: usize, spans: &mut Vec<Span>) {
        let mut inside = Vec::new();
        self.find_at_depth(&view.bytes, place, depth + 1, &mut inside);
        spans.extend(inside.into_iter().map(|span| {
            let (start, end) = view.origin(span.start, span.end);
            Span { start, end, ..span }
        }));
    }

    /// What stands there uncoded.
    fn find_plain(&self, text: &[u8], place: Place, survey: Survey, spans: &mut Vec<Span>) {
        let mut names = false;
        let mut progress = token::Progress::default();
        let mut ats = Vec::new();
        self.anchors(text, |anchor, start, end| match anchor {
            Anchor::Jwt => token::jwt(text, start, &mut progress, spans),
            Anchor::PrivateKey => token::private_key(text, start, &mut progress, spans),
            Anchor::Scheme => token::scheme(text, start, end, spans),
            Anchor::Vendor(index) => token::vendor(text, index, start, &mut progress, spans),
            Anchor::Url => ats.extend(url::password(text, start, spans)),
            Anchor::SecretName => names = true,
        });
        if names && place == Place::Text {
            assignment::find(text, spans);
        }
        if let Some(mark) = self.email.as_ref().filter(|_| survey.has_at()) {
            ats.sort_unstable();
            email::find(text, &ats, place == Place::Text, mark, spans);
        }
        if survey.digits >= number::DIGITS_MIN {
            number::find(text, self.card.as_ref(), self.iban.as_ref(), spans);
        }
    }

    /// Each anchor in the text with its place, those that overlap included. The walk is written out, for it runs
    /// over every byte of every value: the automaton's own iterator costs three times as much.
    fn anchors(&self, text: &[u8], mut found: impl FnMut(Anchor, usize, usize)) {
        let automaton = &self.automaton;
        // An unanchored search of an automaton that was built for it always has a start.
        let Ok(mut state) = automaton.start_state(Anchored::No) else { return };
        for (at, &byte) in text.iter().enumerate() {
            state = automaton.next_state(Anchored::No, state, byte);
            if automaton.is_special(state) && automaton.is_match(state) {
                for index in 0..automaton.match_len(state) {
                    let pattern = automaton.match_pattern(state, index);
                    let end = at + 1;
                    found(self.anchors[pattern.as_usize()], end - automaton.pattern_len(pattern), end);
                }
            }
        }
    }
}

fn mark(kind: &'static str, setting: Setting) -> Option<Mark> {
    let action = match setting {
        Setting::Off => return None,
        Setting::Redact => Action::Redact,
        Setting::KeepLast(count) => Action::KeepLast(count),
    };
    Some(Mark { action, ..Mark::redact(kind) })
}
