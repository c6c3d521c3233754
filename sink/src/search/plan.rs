//! From words to entries, newest first. A plan only says which entries may match; each is read and checked.

use custody_record::search::{Cursor, Need};

use super::SearchError;
use super::index::{OVER, Snapshot};

/// Words that one beginning may stand for.
const EXPANSIONS_MAX: usize = 512;
/// Steps between lists that one search may make.
const STEPS_MAX: u64 = 5_000_000;

/// What one search asks of the index.
pub(crate) struct Plan<'s> {
    snapshot: &'s Snapshot,
    root: Node,
    /// Entries with more words than are indexed.
    over: List,
    steps: u64,
    /// A beginning stands for too many words: entries are read for it instead.
    pub(crate) too_many_words: bool,
}

enum Node {
    /// Every entry.
    Every,
    List(List),
    All(Vec<Node>),
    Any(Vec<Node>),
}

/// A word's list, and the piece of it that was looked at last.
struct List {
    word: String,
    piece: Vec<u64>,
    ended: bool,
}

impl<'s> Plan<'s> {
    pub(crate) fn new(snapshot: &'s Snapshot, needs: &[Need]) -> Result<Self, SearchError> {
        let mut plan =
            Plan { snapshot, root: Node::Every, over: List::of(OVER), steps: 0, too_many_words: false };
        plan.root = Node::All(needs.iter().map(|need| plan.node(need)).collect::<Result<_, _>>()?);
        Ok(plan)
    }

    fn node(&mut self, need: &Need) -> Result<Node, SearchError> {
        Ok(match need {
            Need::Word(word) => Node::List(List::of(word)),
            Need::Prefix(prefix) => match self.snapshot.words_with(prefix, EXPANSIONS_MAX)? {
                Some(words) => Node::Any(words.iter().map(|word| Node::List(List::of(word))).collect()),
                None => {
                    self.too_many_words = true;
                    Node::Every
                }
            },
            Need::All(needs) => {
                Node::All(needs.iter().map(|need| self.node(need)).collect::<Result<_, _>>()?)
            }
            Need::Any(needs) => {
                Node::Any(needs.iter().map(|need| self.node(need)).collect::<Result<_, _>>()?)
            }
        })
    }

    /// The newest entry up to this place that may match, and whether the index knows its words.
    pub(crate) fn seek(&mut self, at: Cursor) -> Result<Option<(Cursor, bool)>, SearchError> {
        let known = self.root.seek(self.snapshot, at.0, &mut self.steps)?;
        let over = self.over.seek(self.snapshot, at.0, &mut self.steps)?;
        Ok(known.max(over).map(|place| (Cursor(place), over != Some(place))))
    }
}

impl Node {
    fn seek(&mut self, snapshot: &Snapshot, at: u64, steps: &mut u64) -> Result<Option<u64>, SearchError> {
        match self {
            Node::Every => Ok(Some(at)),
            Node::List(list) => list.seek(snapshot, at, steps),
            Node::Any(nodes) => {
                let mut newest = None;
                for node in nodes {
                    newest = newest.max(node.seek(snapshot, at, steps)?);
                }
                Ok(newest)
            }
            Node::All(nodes) => {
                let mut at = at;
                loop {
                    let mut agreed = at;
                    for node in nodes.iter_mut() {
                        let Some(place) = node.seek(snapshot, agreed, steps)? else { return Ok(None) };
                        agreed = place;
                    }
                    if agreed == at {
                        return Ok(Some(at));
                    }
                    at = agreed;
                }
            }
        }
    }
}

impl List {
    fn of(word: &str) -> Self {
        List { word: word.to_owned(), piece: Vec::new(), ended: false }
    }

    fn seek(&mut self, snapshot: &Snapshot, at: u64, steps: &mut u64) -> Result<Option<u64>, SearchError> {
        *steps += 1;
        if *steps > STEPS_MAX {
            return Err(SearchError::TooManySteps);
        }
        if self.ended {
            return Ok(None);
        }
        // Places only go down, so what lies above `at` in this piece is not asked for again.
        if self.piece.first().is_none_or(|first| *first > at) {
            match snapshot.piece(&self.word, at)? {
                Some(piece) => self.piece = piece,
                None => {
                    self.ended = true;
                    return Ok(None);
                }
            }
        }
        let above = self.piece.partition_point(|place| *place <= at);
        self.piece.truncate(above);
        Ok(self.piece.last().copied())
    }
}
