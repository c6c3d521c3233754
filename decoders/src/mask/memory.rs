//! Answers that were found before: a statement, a name or a header's value that comes again has the same answer, for the
//! rules stand as long as the policy that holds this does. Bounded. Whoever keeps an answer sees to it that its text is
//! no secret.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Answers that are kept; a newer one takes the place of one whose text has the same hash.
const SLOTS: usize = 256;
/// Longest text whose answer is kept, bytes.
const TEXT_BYTES_MAX: usize = 2 << 10;

/// A text with the name under which it came (empty when that does not matter), and its answer.
type Slot<V> = Option<(Box<str>, Box<str>, V)>;

/// Answers by name and text.
pub(crate) struct Memory<V> {
    hasher: RandomState,
    slots: Mutex<Box<[Slot<V>]>>,
}

impl<V: Clone> Memory<V> {
    pub(crate) fn new() -> Self {
        Memory { hasher: RandomState::new(), slots: Mutex::new((0..SLOTS).map(|_| None).collect()) }
    }

    /// The answer that was kept for this text under this name.
    pub(crate) fn recall(&self, name: &str, text: &str) -> Option<V> {
        if name.len() + text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let slots = self.slots();
        let (known_name, known_text, answer) = slots[self.place(name, text)].as_ref()?;
        (**known_text == *text && **known_name == *name).then(|| answer.clone())
    }

    /// Keeps the answer.
    pub(crate) fn keep(&self, name: &str, text: &str, answer: V) {
        if name.len() + text.len() <= TEXT_BYTES_MAX {
            self.slots()[self.place(name, text)] = Some((name.into(), text.into(), answer));
        }
    }

    fn place(&self, name: &str, text: &str) -> usize {
        (self.hasher.hash_one((name, text)) % SLOTS as u64) as usize
    }

    /// Whoever panicked with the lock left whole slots behind.
    fn slots(&self) -> MutexGuard<'_, Box<[Slot<V>]>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
