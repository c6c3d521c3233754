//! What an identifier looks like: places of digits and letters, in groups. One walk over a text (`walk`) tries
//! the forms of all recognisers at once, so that its cost does not grow with their number.

/// One kind of value, and how it is told from anything else. The one home of all that is known about it.
#[derive(Debug)]
pub(crate) struct Recogniser {
    /// Its key in `[masking.recognisers]`, and what stands in its mask.
    pub(crate) kind: &'static str,
    /// What it finds, for people.
    pub(crate) what: &'static str,
    /// How it tells, for people.
    pub(crate) told: &'static str,
    /// Names beside which a value that could be something else is taken for this: lower case, no separators.
    pub(crate) words: &'static [&'static str],
    /// Its forms; none where it has a file of its own.
    pub(crate) shapes: &'static [Shape],
}

/// One form of a kind.
#[derive(Debug)]
pub(crate) struct Shape {
    /// `d` a digit, `A` a letter, `X` either; `_` a space or hyphen, `~` these or a dot, all of them the same;
    /// anything else is that separator.
    pub(crate) form: &'static str,
    /// Whether characters of this form (upper case, no separators) are of this kind.
    pub(crate) valid: fn(&[u8]) -> bool,
    /// It counts only beside its name: numbers of other things often pass.
    pub(crate) named: bool,
    /// It counts where a separator joins it to more digits too.
    pub(crate) joined: bool,
}

/// A form that is told by itself.
pub(crate) const fn sure(form: &'static str, valid: fn(&[u8]) -> bool) -> Shape {
    Shape { form, valid, named: false, joined: false }
}

/// A form that is told beside its name alone.
pub(crate) const fn named(form: &'static str, valid: fn(&[u8]) -> bool) -> Shape {
    Shape { form, valid, named: true, joined: false }
}

/// Most characters of a form, without separators.
pub(super) const CHARACTERS_MAX: usize = 20;
/// Bits that hold the length of a group.
pub(super) const GROUP_BITS: usize = 5;
/// Most groups of a form.
pub(super) const GROUPS_MAX: usize = 7;
/// Most characters of a group that is joined to others.
pub(super) const GROUP_CHARACTERS_MAX: usize = 10;

/// A form as the walk compares it.
#[derive(Clone, Debug)]
pub(super) struct Form {
    pub(super) shape: &'static Shape,
    /// Index of its kind.
    pub(super) kind: usize,
    /// Length of each group, five bits each, the first lowest.
    pub(super) groups: u64,
    /// Places that must hold a letter or a digit …
    care: u32,
    /// … and those of them that must hold a letter.
    letters: u32,
    separators: Vec<u8>,
}

impl Form {
    pub(super) fn new(kind: usize, shape: &'static Shape) -> Self {
        let mut form = Form { shape, kind, groups: 0, care: 0, letters: 0, separators: Vec::new() };
        let (mut place, mut length) = (0, 0);
        for &byte in shape.form.as_bytes() {
            match byte {
                b'd' | b'A' | b'X' => {
                    form.care |= u32::from(byte != b'X') << place;
                    form.letters |= u32::from(byte == b'A') << place;
                    (place, length) = (place + 1, length + 1);
                }
                separator => {
                    form.groups |= length << (GROUP_BITS * form.separators.len());
                    form.separators.push(separator);
                    length = 0;
                }
            }
        }
        form.groups |= length << (GROUP_BITS * form.separators.len());
        form
    }

    /// Characters without separators.
    pub(super) fn characters(&self) -> usize {
        (0..GROUPS_MAX).map(|group| (self.groups >> (GROUP_BITS * group) & 31) as usize).sum()
    }

    /// The lengths of its first two groups.
    pub(super) fn first_groups(&self) -> (usize, usize) {
        ((self.groups & 31) as usize, (self.groups >> GROUP_BITS & 31) as usize)
    }

    pub(super) fn is_joined(&self) -> bool {
        !self.separators.is_empty()
    }

    /// Whether letters, groups and separators are those of this form.
    pub(super) fn fits(&self, letters: u32, groups: u64, separators: &[u8]) -> bool {
        let same = |allowed: &[u8]| {
            separators.first().is_some_and(|first| allowed.contains(first))
                && separators.windows(2).all(|pair| pair[0] == pair[1])
        };
        self.groups == groups
            && letters & self.care == self.letters
            && match self.separators.first() {
                None => true,
                Some(b'_') => same(b" -"),
                Some(b'~') => same(b" -."),
                Some(_) => self.separators == separators,
            }
    }
}

/// A set of kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kinds(pub(super) u64);

impl Kinds {
    pub(crate) const NONE: Kinds = Kinds(0);
    pub(super) const ALL: Kinds = Kinds(u64::MAX);

    pub(super) fn of(kind: usize) -> Self {
        Kinds(1 << kind)
    }
    pub(super) fn has(self, kind: usize) -> bool {
        self.0 >> kind & 1 == 1
    }
    pub(super) fn and(self, other: Kinds) -> Self {
        Kinds(self.0 & other.0)
    }
    pub(super) fn or(self, other: Kinds) -> Self {
        Kinds(self.0 | other.0)
    }
    /// The first of them.
    pub(super) fn first(self) -> Option<usize> {
        (self.0 != 0).then(|| self.0.trailing_zeros() as usize)
    }
    pub(super) fn is_one(self) -> bool {
        self.0.is_power_of_two()
    }
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }
}
