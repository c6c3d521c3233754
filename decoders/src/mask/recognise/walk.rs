//! One walk over a text that tries the forms of all recognisers: from each group of digits, alone and joined to
//! those after it. How many recognisers there are does not change how often a byte is looked at.

use super::shape::{CHARACTERS_MAX, Form, GROUP_BITS, GROUP_CHARACTERS_MAX, GROUPS_MAX, Kinds, Recogniser};
use super::{Place, iban, phone, table, wallet};

/// No kind that is found by its form has fewer digits: a text with fewer need not be looked at.
pub(super) const DIGITS_MIN: usize = 4;
/// Longest letters before the first digits that may belong to them: `AA 12 34 56 C`.
const LEAD_BYTES_MAX: usize = 3;
/// How far before a value, and after it, its name may stand.
const NAME_BEFORE_BYTES: usize = 64;
const NAME_AFTER_BYTES: usize = 24;
/// Most names of one text that are remembered; in one with more, every value counts as named.
const NAMES_MAX: usize = 1 << 16;

/// The forms of the kinds that are looked for.
#[derive(Debug)]
pub(super) struct Walk {
    /// By characters: forms of one group, and of several.
    single: Vec<Vec<Form>>,
    joined: Vec<Vec<Form>>,
    /// By the length of a form's first group, the lengths of its second, one bit each: most groups of a text need not
    /// be joined to the next.
    second: [u32; CHARACTERS_MAX + 1],
    /// The kinds that are looked for.
    wanted: Kinds,
    /// Those that need no name.
    anywhere: Kinds,
}

impl Walk {
    pub(super) fn new(wanted: Kinds, anywhere: Kinds) -> Self {
        let lists = || vec![Vec::new(); CHARACTERS_MAX + 1];
        let mut walk =
            Walk { single: lists(), joined: lists(), second: [0; CHARACTERS_MAX + 1], wanted, anywhere };
        for (kind, recogniser) in table::TABLE.iter().enumerate().filter(|(kind, _)| wanted.has(*kind)) {
            let recogniser: &'static Recogniser = recogniser;
            for form in recogniser.shapes.iter().map(|shape| Form::new(kind, shape)) {
                let (first, second) = form.first_groups();
                walk.second[first] |= u32::from(form.is_joined()) << second;
                let lists = if form.is_joined() { &mut walk.joined } else { &mut walk.single };
                lists[form.characters()].push(form);
            }
        }
        walk
    }

    /// Calls `found` with beginning, end and kind of each value.
    pub(super) fn find(&self, text: &[u8], place: Place<'_>, mut found: impl FnMut(usize, usize, usize)) {
        let mut look = Look { walk: self, text, place, names: None };
        let mut at = 0;
        while let Some(skip) = text[at..].iter().position(u8::is_ascii_digit) {
            let digit = at + skip;
            let back = text[at..digit].iter().rev().take_while(|byte| byte.is_ascii_alphanumeric()).count();
            let end = group_end(text, digit);
            match look.value(at, digit - back, end) {
                Some((first, last, kind)) => {
                    found(first, last, kind);
                    at = last;
                }
                None => at = end,
            }
        }
    }
}

/// The walk over one text.
struct Look<'a> {
    walk: &'a Walk,
    text: &'a [u8],
    place: Place<'a>,
    /// Once somebody asked.
    names: Option<Names>,
}

/// The names of kinds over a text and in it.
struct Names {
    over: Kinds,
    /// Where each ends, and its kind; `None` when there are too many.
    inside: Option<Vec<(usize, usize)>>,
}

impl Look<'_> {
    /// The value that begins with the group from `start` to `end`, or a little before it, but not before `floor`.
    fn value(&mut self, floor: usize, start: usize, end: usize) -> Option<(usize, usize, usize)> {
        let (text, wanted) = (self.text, self.walk.wanted);
        let before = start.checked_sub(1).filter(|at| *at >= floor).map(|at| text[at]);
        if wanted.has(table::PHONE)
            && matches!(before, Some(b'+' | b'('))
            && let Some((first, last)) = phone::find(text, start)
        {
            return Some((first, last, table::PHONE));
        }
        if wanted.has(table::IBAN)
            && let Some(last) = iban::end(text, start)
        {
            return Some((start, last, table::IBAN));
        }
        if wanted.has(table::WALLET)
            && wallet::CHARACTERS.contains(&(end - start))
            && wallet::is_address(&text[start..end])
        {
            return Some((start, end, table::WALLET));
        }
        let lead = matches!(before, Some(b' ' | b'-')).then(|| lead(text, floor, start - 1)).flatten();
        let lead = lead.filter(|lead| self.may_join(start - 1 - lead, start));
        let led = lead.and_then(|lead| Some((lead, self.formed(lead, start - 1)?)));
        let (first, (last, kind)) = match led {
            Some(led) => led,
            None => (start, self.formed(start, end)?),
        };
        Some((first, last, kind))
    }

    /// Whether a form has a first group of this length and a second of the one that begins at `next`.
    fn may_join(&self, first: usize, next: usize) -> bool {
        let second = self.walk.second.get(first).copied().unwrap_or(0);
        second != 0 && second >> (group_end(self.text, next) - next).min(31) & 1 == 1
    }

    /// Where the longest value ends that begins with the group from `start` to `end`, and its kind.
    fn formed(&mut self, start: usize, mut end: usize) -> Option<(usize, usize)> {
        let text = self.text;
        let joins = |at: usize| text.get(at).is_some_and(|byte| b" -./+".contains(byte));
        let alone = self.walk.single.get(end - start).is_none_or(Vec::is_empty);
        if alone && !(joins(end) && self.may_join(end - start, end + 1)) {
            return None;
        }
        let mut characters = [0; CHARACTERS_MAX];
        let (mut count, mut letters, mut groups) = (0, 0u32, 0u64);
        let mut separators = [0; GROUPS_MAX];
        let mut best = None;
        let mut group = start;
        for index in 0..GROUPS_MAX {
            let length = end - group;
            if count + length > CHARACTERS_MAX {
                break;
            }
            for &byte in &text[group..end] {
                letters |= u32::from(byte.is_ascii_alphabetic()) << count;
                characters[count] = byte.to_ascii_uppercase();
                count += 1;
            }
            groups |= (length as u64) << (GROUP_BITS * index);
            let lists = if index == 0 { &self.walk.single } else { &self.walk.joined };
            let separator = index.checked_sub(1).map(|last| separators[last]);
            let fit = lists[count].iter().filter(|form| form.fits(letters, groups, &separators[..index]));
            if let Some(kind) = self.decided(fit, &characters[..count], (start, end), separator) {
                best = Some((end, kind));
            }
            if length > GROUP_CHARACTERS_MAX || !joins(end) || index == 0 && !self.may_join(length, end + 1) {
                break;
            }
            separators[index] = text[end];
            group = end + 1;
            end = group_end(text, group);
            if end == group {
                break;
            }
        }
        best
    }

    /// Which kind it is, of the forms that fit: one that is named first, then one that needs no name.
    fn decided<'f>(
        &mut self,
        fit: impl Iterator<Item = &'f Form>,
        characters: &[u8],
        (start, end): (usize, usize),
        separator: Option<u8>,
    ) -> Option<usize> {
        let mut near = None;
        let (mut sure, mut all) = (Kinds::NONE, Kinds::NONE);
        for form in fit {
            let weak = form.shape.named && !self.walk.anywhere.has(form.kind);
            // Of a name it is seen sooner that there is none than of a number that it is none.
            if weak && !near.get_or_insert_with(|| self.names_near(start, end)).has(form.kind) {
                continue;
            }
            if (form.shape.valid)(characters)
                && stands_alone(self.text, start, end, separator, form.shape.joined)
            {
                let kind = Kinds::of(form.kind);
                all = all.or(kind);
                sure = if weak { sure } else { sure.or(kind) };
            }
        }
        if all.is_empty() || all.is_one() {
            return all.first();
        }
        let near = near.unwrap_or_else(|| self.names_near(start, end));
        all.and(near).first().or(sure.first())
    }

    /// The kinds whose name stands near, in the text or over it.
    fn names_near(&mut self, start: usize, end: usize) -> Kinds {
        let names = self.names.get_or_insert_with(|| {
            let mut inside = Vec::new();
            table::each_named(self.text, |end, kind| {
                if inside.len() <= NAMES_MAX {
                    inside.push((end, kind));
                }
            });
            Names { over: self.place.kinds(), inside: (inside.len() <= NAMES_MAX).then_some(inside) }
        });
        let Some(inside) = &names.inside else { return Kinds::ALL };
        if inside.is_empty() {
            return names.over;
        }
        let first = inside.partition_point(|(at, _)| *at + NAME_BEFORE_BYTES < start);
        let near = inside[first..].iter().take_while(|(at, _)| *at <= end + NAME_AFTER_BYTES);
        let outside = near.filter(|(at, _)| *at <= start || *at > end);
        outside.fold(names.over, |kinds, (_, kind)| kinds.or(Kinds::of(*kind)))
    }
}

/// Where the letters and digits end that begin at `start`.
fn group_end(text: &[u8], start: usize) -> usize {
    start + text[start..].iter().take_while(|byte| byte.is_ascii_alphanumeric()).count()
}

/// Where the short word begins that ends at `end`, when it is one of letters.
fn lead(text: &[u8], floor: usize, end: usize) -> Option<usize> {
    let letters = text[floor..end].iter().rev().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let begins = end - letters == 0 || !text[end - letters - 1].is_ascii_alphanumeric();
    ((1..=LEAD_BYTES_MAX).contains(&letters) && begins).then_some(end - letters)
}

/// Not a part of a decimal fraction or a hash, nor of a longer row of groups with the same separator.
fn stands_alone(text: &[u8], start: usize, end: usize, own: Option<u8>, joined: bool) -> bool {
    let before = |back: usize| start.checked_sub(back).map_or(b' ', |at| text[at]);
    let after = |on: usize| text.get(end + on).copied().unwrap_or(b' ');
    let [left, right] = [(before(1), before(2)), (after(0), after(1))];
    let goes_on = |(separator, next): (u8, u8)| match separator {
        b'.' => next.is_ascii_digit(),
        _ if joined => false,
        b'-' => next.is_ascii_alphanumeric(),
        separator => own == Some(separator) && next.is_ascii_digit(),
    };
    !left.0.is_ascii_alphanumeric() && !right.0.is_ascii_alphanumeric() && !goes_on(left) && !goes_on(right)
}
