//! The growing tree: its right edge, which is all that the next leaf needs, and a whole one in memory for those who
//! verify.

use super::proof::Nodes;
use super::tile::{self, TILE_WIDTH, Tile, TileKind};
use crate::ids::Hash;
use crate::tree;

/// Levels of tiles that a tree of 64-bit size has.
const LEVELS_MAX: usize = 8;

/// The right edge of a tree: of each level of tiles the last one, unless it is full.
#[derive(Clone, Debug, Default)]
pub struct Edge {
    size: u64,
    levels: Vec<Vec<Hash>>,
    bundle: Vec<u8>,
    /// Full tiles since they were last taken.
    full: Vec<(Tile, Vec<u8>)>,
    /// Size when tiles were last taken.
    taken: u64,
}

/// An edge that cannot be read back.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError<E> {
    /// A tile cannot be read.
    #[error(transparent)]
    Read(E),
    /// A tile is not what its name says.
    #[error("{path} does not hold what its name says")]
    Malformed {
        /// Which.
        path: String,
    },
}

impl Edge {
    /// Reads the edge of a tree of `size` leaves back from its tiles. Compare [`Edge::root`] with the checkpoint.
    pub fn load<E>(
        size: u64,
        mut read: impl FnMut(Tile) -> Result<Vec<u8>, E>,
    ) -> Result<Self, EdgeError<E>> {
        let mut edge = Edge { size, taken: size, ..Edge::default() };
        let mut last = |kind, count: u64| {
            let index = count / u64::from(TILE_WIDTH);
            let width = (count % u64::from(TILE_WIDTH)) as u16; // Below 256.
            let tile = (width > 0).then_some(Tile { kind, index, width });
            tile.map(|tile| read(tile).map(|bytes| (tile, bytes))).transpose().map_err(EdgeError::Read)
        };
        let malformed = |tile: Tile| EdgeError::Malformed { path: tile.path() };
        if let Some((tile, bytes)) = last(TileKind::Entries, size)? {
            tile::entries(&bytes, tile.width).ok_or_else(|| malformed(tile))?;
            edge.bundle = bytes;
        }
        for level in 0..LEVELS_MAX {
            let count = size >> (8 * level);
            if count == 0 {
                break;
            }
            let hashes = match last(TileKind::Hashes(level as u8), count)? {
                Some((tile, bytes)) => tile::hashes(&bytes, tile.width).ok_or_else(|| malformed(tile))?,
                None => Vec::new(),
            };
            edge.levels.push(hashes);
        }
        Ok(edge)
    }

    /// Leaves in the tree.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Root of the tree.
    pub fn root(&self) -> Hash {
        // Each level holds whole subtrees of one size; together they are the binary digits of the size.
        let mut root: Option<Hash> = None;
        for hashes in &self.levels {
            let mut rest = hashes.as_slice();
            let mut pieces = Vec::new();
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(1 << rest.len().ilog2());
                pieces.push(tree::root(piece));
                rest = after;
            }
            for piece in pieces.iter().rev() {
                root = Some(root.map_or(*piece, |right| tree::node(piece, &right)));
            }
        }
        root.unwrap_or_else(|| tree::root(&[]))
    }

    /// Appends a leaf. `None`, and nothing changes, when it is too long for a bundle.
    pub fn push(&mut self, leaf: &[u8]) -> Option<()> {
        tile::put_entry(&mut self.bundle, leaf)?;
        self.size += 1;
        if self.size.is_multiple_of(u64::from(TILE_WIDTH)) {
            let bundle = std::mem::take(&mut self.bundle);
            self.full.push((self.last_tile(TileKind::Entries, 0), bundle));
        }
        let mut hash = tree::leaf(leaf);
        for level in 0.. {
            if level == self.levels.len() {
                self.levels.push(Vec::new());
            }
            let hashes = &mut self.levels[level];
            hashes.push(hash);
            if hashes.len() < usize::from(TILE_WIDTH) {
                break;
            }
            let hashes = std::mem::take(hashes);
            hash = tree::root(&hashes);
            let tile = self.last_tile(TileKind::Hashes(level as u8), level); // At most 7.
            self.full.push((tile, tile::hashes_bytes(&hashes)));
        }
        Some(())
    }

    /// The full tile that ends at the present size.
    fn last_tile(&self, kind: TileKind, level: usize) -> Tile {
        let index = (self.size >> (8 * (level + 1))) - 1;
        Tile { kind, index, width: TILE_WIDTH }
    }

    /// What has to be published for the present size: tiles that became full since the last time, and the partial
    /// ones that changed.
    pub fn take_tiles(&mut self) -> Vec<(Tile, Vec<u8>)> {
        let mut tiles = std::mem::take(&mut self.full);
        let (before, now) = (std::mem::replace(&mut self.taken, self.size), self.size);
        let partial = |kind, level: usize| {
            let tile = Tile::in_tree(kind, now >> (8 * (level + 1)), now)?;
            (now >> (8 * level) != before >> (8 * level)).then_some(tile)
        };
        if let Some(tile) = partial(TileKind::Entries, 0) {
            tiles.push((tile, self.bundle.clone()));
        }
        for (level, hashes) in self.levels.iter().enumerate() {
            if let Some(tile) = partial(TileKind::Hashes(level as u8), level) {
                tiles.push((tile, tile::hashes_bytes(hashes)));
            }
        }
        tiles
    }
}

/// A whole tree in memory, about 64 bytes a leaf: for those who verify, and ask for roots of the past.
#[derive(Clone, Debug, Default)]
pub struct MemoryTree {
    /// Of each level its whole nodes.
    levels: Vec<Vec<Hash>>,
}

/// A tree that is smaller than what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the tree has no such node")]
pub struct NoSuchNode;

impl MemoryTree {
    /// Appends the hash of a leaf ([`tree::leaf`]).
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        for level in 0.. {
            if level == self.levels.len() {
                self.levels.push(Vec::new());
            }
            let nodes = &mut self.levels[level];
            nodes.push(hash);
            match nodes.as_slice() {
                [.., left, right] if nodes.len().is_multiple_of(2) => hash = tree::node(left, right),
                _ => break,
            }
        }
    }

    /// Leaves in the tree.
    pub fn size(&self) -> u64 {
        self.levels.first().map_or(0, |leaves| leaves.len() as u64)
    }

    /// Root over the first `size` leaves; `None` when there are fewer.
    pub fn root(&self, size: u64) -> Option<Hash> {
        (size <= self.size()).then(|| super::proof::root(self, size).ok())?
    }

    /// The hashes of a tile of this tree.
    pub fn tile(&self, level: u8, index: u64, width: u16) -> Option<&[Hash]> {
        let first = usize::try_from(index).ok()?.checked_mul(usize::from(TILE_WIDTH))?;
        self.levels.get(usize::from(level) * 8)?.get(first..first.checked_add(usize::from(width))?)
    }
}

impl Nodes for MemoryTree {
    type Error = NoSuchNode;
    fn node(&self, level: u8, index: u64) -> Result<Hash, NoSuchNode> {
        let nodes = self.levels.get(usize::from(level)).ok_or(NoSuchNode)?;
        usize::try_from(index).ok().and_then(|index| nodes.get(index)).copied().ok_or(NoSuchNode)
    }
}
