//! Answers that were found before: a statement, a name or a header's value that comes again has the same answer, for the
//! rules stand as long as the policy that holds this does. Bounded. Whoever keeps an answer sees to it that its text is
//! no secret.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Answers that are kept; a newer one takes the place of one whose text has the same hash.
const SLOTS: usize = 256;
/// Longest text whose answer is kept, bytes.
const TEXT_BYTES_MAX: usize = 2 << 10;

/// A text with the name under which it came (empty when that does not matter), and its answer.
type Slot<V> = Option<(Box<str>, Box<str>, V)>;

/// Answers by name and text.
pub(crate) struct Memory<V> {
    slots: Mutex<Box<[Slot<V>]>>,
}

impl<V: Clone> Memory<V> {
    pub(crate) fn new() -> Self {
        Memory { slots: Mutex::new((0..SLOTS).map(|_| None).collect()) }
    }

    /// The answer that was kept for this text under this name.
    pub(crate) fn recall(&self, name: &str, text: &str) -> Option<V> {
        if name.len() + text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let slots = self.slots();
        let (known_name, known_text, answer) = slots[place(name, text)].as_ref()?;
        (is_same(known_text, text) && is_same(known_name, name)).then(|| answer.clone())
    }

    /// Keeps the answer.
    pub(crate) fn keep(&self, name: &str, text: &str, answer: V) {
        if name.len() + text.len() <= TEXT_BYTES_MAX {
            self.slots()[place(name, text)] = Some((name.into(), text.into(), answer));
        }
    }

    /// Whoever panicked with the lock left whole slots behind.
    fn slots(&self) -> MutexGuard<'_, Box<[Slot<V>]>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Most names here are empty, and what an empty box points to is no memory: to compare nothing there costs a processor
/// with masked loads as much as to compare a page.
fn is_same(known: &str, text: &str) -> bool {
    (known.is_empty() && text.is_empty()) || known == text
}

/// The slot of a text under a name. Whoever makes two texts meet there gains no more than by texts that never come again,
/// so a cheap hash will do: it is asked for each header and key.
fn place(name: &str, text: &str) -> usize {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| (hash.rotate_left(23) ^ word).wrapping_mul(ODD);
    let mut hash = mix(name.len() as u64, text.len() as u64);
    for part in [name.as_bytes(), text.as_bytes()] {
        let (words, rest) = part.as_chunks::<8>();
        hash = words.iter().fold(hash, |hash, word| mix(hash, u64::from_le_bytes(*word)));
        hash = rest.iter().fold(hash, |hash, byte| mix(hash, u64::from(*byte)));
    }
    (hash >> 32) as usize % SLOTS
}

impl<V> std::fmt::Debug for Memory<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Memory")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_text_has_the_answer_and_long_ones_are_not_kept() {
        let memory = Memory::new();
        for number in 0..1000 {
            memory.keep("name", &format!("text {number}"), number);
            assert_eq!(memory.recall("name", &format!("text {number}")), Some(number));
        }
        assert_eq!(memory.recall("name", "text"), None);
        let recalled = |number: &i32| memory.recall("name", &format!("text {number}"));
        let kept = (0..1000).filter(|number| recalled(number).is_some()).count();
        assert!((1..=SLOTS).contains(&kept), "{kept}");
        let long = "x".repeat(TEXT_BYTES_MAX + 1);
        memory.keep("", &long, 1);
        assert_eq!(memory.recall("", &long), None);
    }

    #[test]
    fn a_text_under_another_name_is_another() {
        let memory = Memory::new();
        memory.keep("ab", "c", 1);
        assert_eq!(["a", "abc", ""].map(|name| memory.recall(name, "c")), [None; 3]);
        assert_eq!((memory.recall("a", "bc"), memory.recall("ab", "c")), (None, Some(1)));
    }
}
