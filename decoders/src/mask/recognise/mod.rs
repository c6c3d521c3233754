//! Finds sensitive values in a text by their looks: one file per family, each with its validator.
//!
//! Linear in the text: one pass over anchors (words without which no recogniser can hit), then small bounded
//! looks around each. What a coding hides (percent, backslashes, base64, hex) is decoded and looked at too.

mod address;
mod assignment;
mod card;
mod check;
mod email;
mod iban;
mod national;
mod passport;
mod phone;
pub(crate) mod shape;
pub(crate) mod table;
#[cfg(test)]
mod tests;
mod token;
mod url;
mod walk;
mod wallet;

use aho_corasick::automaton::Automaton;
use aho_corasick::dfa::DFA;
use aho_corasick::{Anchored, BuildError, MatchKind};

use self::shape::Kinds;
use self::walk::Walk;
use super::coded::{self, Survey};
use super::mark::{Action, Mark};
use super::rules::{Recognisers, Setting};
use super::secret;
use super::span::Span;
use super::view;

/// Codings inside codings that are looked through.
const DEPTH_MAX: usize = 2;

/// What an anchor is a sign of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Anchor {
    Jwt,
    PrivateKey,
    Scheme,
    Url,
    Telegram,
    Vendor(usize),
    SecretName,
}

/// Where a text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place<'a> {
    /// Between the tokens of a statement, where `name = other` compares two columns. Elsewhere `name=value` tells
    /// secrets as well.
    statement: bool,
    /// The name of the field; empty when it has none.
    name: &'a str,
    /// Kinds that were named elsewhere.
    named: Kinds,
}

impl<'a> Place<'a> {
    /// Anything that somebody wrote.
    pub(crate) const TEXT: Place<'static> = Place { statement: false, name: "", named: Kinds::NONE };
    /// Between the tokens of a statement.
    pub(crate) const STATEMENT: Place<'static> = Place { statement: true, ..Place::TEXT };

    /// The value of a field of this name.
    pub(crate) fn of(name: &'a str) -> Self {
        Place { name, ..Place::TEXT }
    }

    /// A value of which it was said elsewhere what it may be.
    pub(crate) fn named(named: Kinds) -> Self {
        Place { named, ..Place::TEXT }
    }

    /// The kinds that were named over the text.
    fn kinds(self) -> Kinds {
        self.named.or(table::kinds_named(self.name))
    }
}

/// All recognisers with their settings.
#[derive(Debug)]
pub(crate) struct Finder {
    /// What is done with each kind, by its index; `None` when it is off.
    marks: Vec<Option<Mark>>,
    walk: Walk,
    automaton: DFA,
    anchors: Vec<Anchor>,
}

impl Finder {
    pub(crate) fn new(settings: &Recognisers) -> Result<Self, BuildError> {
        let mut words = vec!["eyJ", "- BEGIN", "-BEGIN", "bearer", "basic", "://", ":AA"];
        let mut anchors = vec![
            Anchor::Jwt,
            Anchor::PrivateKey,
            Anchor::PrivateKey,
            Anchor::Scheme,
            Anchor::Scheme,
            Anchor::Url,
            Anchor::Telegram,
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
        let (mut wanted, mut anywhere) = (Kinds::NONE, Kinds::NONE);
        let marks = settings.by_kind().enumerate().map(|(kind, setting)| {
            let mark = mark(table::TABLE[kind].kind, setting)?;
            wanted = wanted.or(Kinds::of(kind));
            if setting == Setting::Anywhere {
                anywhere = anywhere.or(Kinds::of(kind));
            }
            Some(mark)
        });
        let marks = marks.collect();
        Ok(Finder { marks, walk: Walk::new(wanted, anywhere), automaton, anchors })
    }

    /// Adds what is found in `text` to `spans`.
    pub(crate) fn find(&self, text: &[u8], place: Place<'_>, spans: &mut Vec<Span>) {
        self.find_at_depth(text, place, 0, spans);
    }

    fn find_at_depth(&self, text: &[u8], place: Place<'_>, depth: usize, spans: &mut Vec<Span>) {
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
        if survey.has_equals() && view::has_quoted_printable(text) {
            self.find_in_view(&view::quoted_printable(text), place, depth, spans);
        }
        if survey.has_ampersand() && view::has_references(text) {
            self.find_in_view(&view::references(text), place, depth, spans);
        }
        if survey.has_nul() {
            self.find_in_view(&view::without_nul(text), place, depth, spans);
        }
        if survey.has_runs() {
            coded::encoded_runs(text, |start, end, decoded| {
                let mut inside = Vec::new();
                self.find_at_depth(decoded, Place { statement: false, ..place }, depth + 1, &mut inside);
                // A part of a coded run cannot be masked alone.
                if let Some(first) = inside.first() {
                    spans.push(Span::new(start, end, Mark { action: Action::Redact, ..first.mark.clone() }));
                }
            });
        }
    }

    fn find_in_view(&self, view: &view::View, place: Place<'_>, depth: usize, spans: &mut Vec<Span>) {
        let mut inside = Vec::new();
        self.find_at_depth(&view.bytes, place, depth + 1, &mut inside);
        spans.extend(inside.into_iter().map(|span| {
            let (start, end) = view.origin(span.start, span.end);
            Span { start, end, ..span }
        }));
    }

    /// What stands there uncoded.
    fn find_plain(&self, text: &[u8], place: Place<'_>, survey: Survey, spans: &mut Vec<Span>) {
        let mut names = false;
        let mut progress = token::Progress::default();
        let mut ats = Vec::new();
        self.anchors(text, |anchor, start, end| match anchor {
            Anchor::Jwt => token::jwt(text, start, &mut progress, spans),
            Anchor::PrivateKey => token::private_key(text, start, &mut progress, spans),
            Anchor::Scheme => token::scheme(text, start, end, spans),
            Anchor::Telegram => token::telegram(text, start, spans),
            Anchor::Vendor(index) => token::vendor(text, index, start, &mut progress, spans),
            Anchor::Url => ats.extend(url::password(text, start, spans)),
            Anchor::SecretName => names = true,
        });
        if names && !place.statement {
            assignment::find(text, spans);
        }
        let mark = |kind: usize| self.marks[kind].as_ref();
        if let Some(mark) = mark(table::EMAIL).filter(|_| survey.has_at()) {
            ats.sort_unstable();
            email::find(text, &ats, !place.statement, mark, spans);
        }
        if survey.digits >= walk::DIGITS_MIN {
            self.walk.find(text, place, |start, end, kind| {
                spans.extend(mark(kind).map(|mark| Span::new(start, end, mark.clone())));
            });
        }
        if mark(table::IP).is_some() || mark(table::MAC).is_some() {
            address::find(text, |start, end, is_card| {
                let mark = mark(if is_card { table::MAC } else { table::IP });
                spans.extend(mark.map(|mark| Span::new(start, end, mark.clone())));
            });
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
        Setting::Redact | Setting::Anywhere => Action::Redact,
        Setting::KeepLast(count) => Action::KeepLast(count),
    };
    Some(Mark { action, ..Mark::redact(kind) })
}
