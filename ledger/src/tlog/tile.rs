//! Tiles of a log: their names and contents (c2sp.org/tlog-tiles), and a tree's nodes out of them.

use std::cell::RefCell;
use std::collections::HashMap;

use super::proof::Nodes;
use crate::ids::Hash;
use crate::tree;

/// Hashes of a full tile, entries of a full bundle.
pub const TILE_WIDTH: u16 = 256;
/// Levels of a tree that one tile holds.
const TILE_HEIGHT: u8 = 8;
/// Most tiles that [`TileNodes`] keeps; then it begins anew.
const CACHED_MAX: usize = 1024;

/// What a tile holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TileKind {
    /// Hashes of this level of tiles; level 0 holds those of leaves.
    Hashes(u8),
    /// The leaves themselves: a bundle.
    Entries,
}

/// The name of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    /// What it holds.
    pub kind: TileKind,
    /// Its place in its level.
    pub index: u64,
    /// How many it holds, from 1 to [`TILE_WIDTH`].
    pub width: u16,
}

impl Tile {
    /// The tile of this kind and index in a tree of `size` leaves; `None` when there is none.
    pub fn in_tree(kind: TileKind, index: u64, size: u64) -> Option<Self> {
        let level = match kind {
            TileKind::Hashes(level) => level,
            TileKind::Entries => 0,
        };
        let count = size.checked_shr(u32::from(level) * u32::from(TILE_HEIGHT)).unwrap_or(0);
        let rest = count.checked_sub(index.checked_mul(u64::from(TILE_WIDTH))?)?;
        let width = rest.min(u64::from(TILE_WIDTH)) as u16; // At most 256.
        (width > 0).then_some(Tile { kind, index, width })
    }

    /// All tiles of a tree of `size` leaves, level by level.
    pub fn all_in_tree(size: u64) -> impl Iterator<Item = Tile> {
        let kinds = std::iter::once(TileKind::Entries).chain((0..8).map(TileKind::Hashes));
        kinds.flat_map(move |kind| (0..).map_while(move |index| Tile::in_tree(kind, index, size)))
    }

    /// Whether it is full: then it never changes.
    pub fn is_full(&self) -> bool {
        self.width == TILE_WIDTH
    }

    /// Its path below the log's prefix, such as `tile/0/x001/234.p/8`.
    pub fn path(&self) -> String {
        let partial = if self.is_full() { String::new() } else { format!(".p/{}", self.width) };
        format!("{}{partial}", self.full_path())
    }

    /// The folder of its partial forms below the log's prefix; they may go once it is full.
    pub fn partials_path(&self) -> String {
        format!("{}.p", self.full_path())
    }

    fn full_path(&self) -> String {
        let level = match self.kind {
            TileKind::Hashes(level) => level.to_string(),
            TileKind::Entries => "entries".to_owned(),
        };
        let mut number = format!("{:03}", self.index % 1000);
        let mut rest = self.index / 1000;
        while rest > 0 {
            number = format!("x{:03}/{number}", rest % 1000);
            rest /= 1000;
        }
        format!("tile/{level}/{number}")
    }

    /// Reads a path; only the one spelling that [`Tile::path`] gives.
    pub fn parse(path: &str) -> Option<Self> {
        let (level, rest) = path.strip_prefix("tile/")?.split_once('/')?;
        let kind = match level {
            "entries" => TileKind::Entries,
            level => TileKind::Hashes(level.parse().ok().filter(|level| *level < 64)?),
        };
        let (number, width) = match rest.split_once(".p/") {
            Some((number, width)) => {
                (number, width.parse().ok().filter(|width| (1..TILE_WIDTH).contains(width))?)
            }
            None => (rest, TILE_WIDTH),
        };
        let index = number.split('/').try_fold(0_u64, |index, part| {
            let digits = part.strip_prefix('x').unwrap_or(part);
            index.checked_mul(1000)?.checked_add(digits.parse().ok()?)
        })?;
        let tile = Tile { kind, index, width };
        (tile.path() == path).then_some(tile)
    }
}

/// The hashes of a tile's bytes; `None` when they are not `width` hashes.
pub fn hashes(bytes: &[u8], width: u16) -> Option<Vec<Hash>> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    (rest.is_empty() && hashes.len() == usize::from(width))
        .then(|| hashes.iter().copied().map(Hash).collect())
}

/// The bytes of a tile of hashes.
pub fn hashes_bytes(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// Appends one leaf to a bundle: its length (u16, big-endian) and the leaf. `None` when it is too long for one.
pub fn put_entry(bundle: &mut Vec<u8>, leaf: &[u8]) -> Option<()> {
    let length = u16::try_from(leaf.len()).ok()?;
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(leaf);
    Some(())
}

/// The leaves of a bundle; `None` when its bytes are not `width` of them.
pub fn entries(mut bundle: &[u8], width: u16) -> Option<Vec<&[u8]>> {
    let mut leaves = Vec::with_capacity(usize::from(width));
    while let Some((length, rest)) = bundle.split_first_chunk::<2>() {
        let (leaf, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        leaves.push(leaf);
        bundle = rest;
    }
    (bundle.is_empty() && leaves.len() == usize::from(width)).then_some(leaves)
}

/// A node that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TileError<E> {
    /// Its tile cannot be read.
    #[error(transparent)]
    Read(E),
    /// Its tile has not as many hashes as its name says.
    #[error("{path} does not hold {width} hashes")]
    Malformed {
        /// Which.
        path: String,
        /// How many it should.
        width: u16,
    },
    /// There is no such node in the tree.
    #[error("the tree of {size} leaves has no node {index} of level {level}")]
    Outside {
        /// The tree.
        size: u64,
        /// Level of the node.
        level: u8,
        /// Its index.
        index: u64,
    },
}

/// The nodes of a tree out of its tiles. Reads each tile once; does not check that the tiles are those of a root, for
/// whoever gets a proof checks that.
pub struct TileNodes<R> {
    size: u64,
    read: R,
    cached: RefCell<HashMap<(u8, u64), Vec<Hash>>>,
}

impl<E, R: Fn(Tile) -> Result<Vec<u8>, E>> TileNodes<R> {
    /// Of the tree of `size` leaves, with tiles as `read` gives them.
    pub fn new(size: u64, read: R) -> Self {
        TileNodes { size, read, cached: RefCell::default() }
    }

    fn read_tile(&self, tile: Tile) -> Result<Vec<Hash>, TileError<E>> {
        let bytes = (self.read)(tile).map_err(TileError::Read)?;
        hashes(&bytes, tile.width)
            .ok_or_else(|| TileError::Malformed { path: tile.path(), width: tile.width })
    }
}

impl<E, R: Fn(Tile) -> Result<Vec<u8>, E>> Nodes for TileNodes<R> {
    type Error = TileError<E>;

    fn node(&self, level: u8, index: u64) -> Result<Hash, Self::Error> {
        let outside = || TileError::Outside { size: self.size, level, index };
        let (tile_level, height) = (level / TILE_HEIGHT, level % TILE_HEIGHT);
        let first = index.checked_mul(1 << height).ok_or_else(outside)?;
        let (tile_index, offset) = (first / u64::from(TILE_WIDTH), (first % u64::from(TILE_WIDTH)) as usize);
        let wanted = offset..offset + (1 << height);
        let key = (tile_level, tile_index);
        if let Some(hashes) = self.cached.borrow().get(&key) {
            return hashes.get(wanted).map(tree::root).ok_or_else(outside);
        }
        let tile = Tile::in_tree(TileKind::Hashes(tile_level), tile_index, self.size).ok_or_else(outside)?;
        let hashes = self.read_tile(tile)?;
        let node = hashes.get(wanted).map(tree::root).ok_or_else(outside);
        let mut cached = self.cached.borrow_mut();
        if cached.len() >= CACHED_MAX {
            cached.clear();
        }
        cached.insert(key, hashes);
        node
    }
}
