//! One command or one reply as it comes, piece by piece: a flat list of values in their order, kept up to a limit and
//! counted beyond it. Its memory is used again for the next.

use crate::anomaly;
use crate::protocol::Limits;

/// Aggregates within aggregates that are followed.
const DEPTH_MAX: usize = 64;
/// Memory that is kept for the next value.
const BYTES_KEPT: usize = 16 << 10;
const NODES_KEPT: usize = 256;

/// A value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    /// Its type byte; `_` for nothing in all its forms.
    pub(super) kind: u8,
    /// Aggregates around it, attributes included.
    pub(super) depth: u8,
    /// It stands in an attribute, or is one.
    pub(super) attribute: bool,
    start: u32,
    length: u32,
    /// Bytes of it that are not kept.
    pub(super) cut: u64,
    /// Elements that an aggregate has, as far as they came.
    pub(super) elements: u64,
}

impl Node {
    /// What stands where no value is kept.
    pub(super) const fn nothing() -> Node {
        Node { kind: b'_', depth: 0, attribute: false, start: 0, length: 0, cut: 0, elements: 0 }
    }
}

#[derive(Clone, Debug)]
struct Open {
    /// `None` until a `.` ends it.
    left: Option<u64>,
    /// Where it stands in the list, if it is kept.
    node: Option<usize>,
    attribute: bool,
}

/// The value that comes.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    bytes: Vec<u8>,
    open: Vec<Open>,
    nodes_max: usize,
    bytes_max: usize,
    /// Values that are not kept.
    pub(super) nodes_cut: u64,
    /// Whether the string that comes in parts is kept, and so where.
    string: Option<Option<usize>>,
    begun: bool,
}

/// The value is whole, or it is nested deeper than anything is.
pub(super) type Fed = Result<bool, &'static str>;

impl Tree {
    pub(super) fn new(limits: &Limits) -> Self {
        Tree { nodes_max: limits.rows_max + 1, bytes_max: limits.body_bytes_max, ..Tree::default() }
    }

    pub(super) fn clear(&mut self) {
        self.nodes.clear();
        self.bytes.clear();
        self.nodes.shrink_to(NODES_KEPT);
        self.bytes.shrink_to(BYTES_KEPT);
        self.open.clear();
        (self.nodes_cut, self.string, self.begun) = (0, None, false);
    }

    /// Nothing of it has come yet.
    pub(super) fn is_empty(&self) -> bool {
        !self.begun
    }

    /// Elements that are still to come at least; 0 before it begins.
    pub(super) fn due(&self) -> u64 {
        if self.is_empty() {
            return 0;
        }
        let mut due = 0u64;
        for open in &self.open {
            match open.left {
                Some(left) => due = due.saturating_add(left),
                None => return 1,
            }
        }
        due.max(1)
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.capacity()
            + self.nodes.capacity() * size_of::<Node>()
            + self.open.capacity() * size_of::<Open>()
    }

    /// All values that are kept; the first one is the value itself, unless attributes stand before it.
    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub(super) fn bytes(&self, node: &Node) -> &[u8] {
        let start = node.start as usize;
        self.bytes.get(start..start + node.length as usize).unwrap_or_default()
    }

    /// A value that is whole.
    pub(super) fn leaf(&mut self, kind: u8, bytes: &[u8]) -> Fed {
        let node = self.push(kind);
        self.keep(node, bytes);
        Ok(self.completed())
    }

    /// An aggregate of so many elements begins.
    pub(super) fn open(&mut self, kind: u8, count: Option<u64>) -> Fed {
        if self.open.len() >= DEPTH_MAX {
            return Err(anomaly::REDIS_TOO_DEEP);
        }
        let attribute = kind == b'|';
        let node = self.push(kind);
        if let Some(node) = node {
            self.nodes[node].elements = count.unwrap_or(0);
            self.nodes[node].attribute |= attribute;
        }
        if count == Some(0) {
            return Ok(!attribute && self.completed());
        }
        self.open.push(Open { left: count, node, attribute });
        Ok(false)
    }

    /// A `.` ends the innermost aggregate.
    pub(super) fn close(&mut self) -> Fed {
        match self.open.pop() {
            Some(Open { left: None, .. }) if self.string.is_none() => Ok(self.completed()),
            _ => Err(anomaly::REDIS_BAD_VALUE),
        }
    }

    /// A string begins whose bytes come in parts.
    pub(super) fn open_string(&mut self, kind: u8) -> Fed {
        if self.string.is_some() {
            return Err(anomaly::REDIS_BAD_VALUE);
        }
        self.string = Some(self.push(kind));
        Ok(false)
    }

    /// A part of it.
    pub(super) fn part(&mut self, bytes: &[u8]) -> Fed {
        let Some(node) = self.string else { return Err(anomaly::REDIS_BAD_VALUE) };
        self.keep(node, bytes);
        Ok(false)
    }

    /// A part of it is missing; what follows is not kept.
    pub(super) fn lose(&mut self, lost: u64) {
        if let Some(Some(node)) = self.string {
            let node = &mut self.nodes[node];
            node.cut = node.cut.saturating_add(lost);
        }
    }

    /// Its last part came.
    pub(super) fn close_string(&mut self) -> Fed {
        if self.string.take().is_none() {
            return Err(anomaly::REDIS_BAD_VALUE);
        }
        Ok(self.completed())
    }

    /// A string comes in parts.
    pub(super) fn in_string(&self) -> bool {
        self.string.is_some()
    }

    fn push(&mut self, kind: u8) -> Option<usize> {
        self.begun = true;
        if self.nodes.len() >= self.nodes_max {
            self.nodes_cut += 1;
            return None;
        }
        let attribute = self.open.iter().any(|open| open.attribute);
        self.nodes.push(Node {
            kind,
            depth: self.open.len() as u8,
            attribute,
            start: self.bytes.len() as u32,
            length: 0,
            cut: 0,
            elements: 0,
        });
        Some(self.nodes.len() - 1)
    }

    fn keep(&mut self, node: Option<usize>, bytes: &[u8]) {
        let Some(node) = node.and_then(|node| self.nodes.get_mut(node)) else { return };
        let room = if node.cut > 0 { 0 } else { self.bytes_max.saturating_sub(self.bytes.len()) };
        let kept = bytes.len().min(room);
        self.bytes.extend_from_slice(&bytes[..kept]);
        node.length += kept as u32;
        node.cut = node.cut.saturating_add((bytes.len() - kept) as u64);
    }

    /// A value ended, and with it perhaps the aggregates around it. Whether all of it is here.
    fn completed(&mut self) -> bool {
        while let Some(open) = self.open.last_mut() {
            match &mut open.left {
                Some(left) => {
                    *left -= 1;
                    if *left > 0 {
                        return false;
                    }
                }
                None => {
                    if let Some(node) = open.node {
                        self.nodes[node].elements += 1;
                    }
                    return false;
                }
            }
            // What an attribute is about still follows.
            if self.open.pop().is_some_and(|open| open.attribute) {
                return false;
            }
        }
        true
    }
}
