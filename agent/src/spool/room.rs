//! Room on the disk. Two files of the spool's folder hold blocks and no bytes: `reserve`, which becomes the next segment
//! file when the disk is full, so that nobody else can take that room; and `slack`, which is given up so that a small file
//! (cursor, witness, epoch) can be replaced. Both are held again as soon as there is room.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;

/// What `slack` holds, bytes.
const SLACK_BYTES: u64 = 256 << 10;
/// A reserve below this is of no use, bytes: one batch must fit.
const RESERVE_BYTES_LEAST: u64 = 1 << 20;

/// Whether an error says that the disk is full.
pub(super) fn is_full(error: &anyhow::Error) -> bool {
    let full = |kind| matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|error| full(error.kind())))
}

/// What is held, and what the disk has beside it.
#[derive(Debug)]
pub(super) struct Room {
    folder: PathBuf,
    reserve: Held,
    slack: Held,
    /// What others may still write to this disk, bytes. Blocks that the file system keeps for root are left to root.
    pub(super) free_bytes: u64,
}

impl Room {
    /// Holds what there is room for, up to `reserve_bytes`.
    pub(super) fn hold(folder: &Path, reserve_bytes: u64) -> Self {
        let held = |name: &str, wanted| Held { path: folder.join(name), wanted, bytes: 0 };
        let mut room = Room {
            folder: folder.to_owned(),
            reserve: held("reserve", reserve_bytes),
            slack: held("slack", SLACK_BYTES),
            free_bytes: u64::MAX,
        };
        room.slack.hold(SLACK_BYTES);
        let mut bytes = reserve_bytes;
        while bytes > 0 && !room.reserve.hold(bytes) && bytes > RESERVE_BYTES_LEAST {
            bytes /= 2;
        }
        room.measure();
        room
    }

    /// Gives up everything that an earlier start held: what the spool does first needs it more.
    pub(super) fn give_up(folder: &Path) -> io::Result<()> {
        for name in ["reserve", "slack"] {
            match std::fs::remove_file(folder.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Holds again what was used up. Whether the whole reserve is held.
    pub(super) fn restore(&mut self) -> bool {
        self.slack.hold(SLACK_BYTES);
        let whole = self.reserve.wanted;
        self.reserve.bytes == whole || self.reserve.hold(whole)
    }

    /// Looks at what the disk has left. A file system that does not say is taken for one with room.
    pub(super) fn measure(&mut self) {
        let facts = rustix::fs::statvfs(&self.folder);
        self.free_bytes = facts.map_or(u64::MAX, |facts| facts.f_bavail.saturating_mul(facts.f_frsize));
    }

    /// What the reserve holds, bytes.
    pub(super) fn reserve_bytes(&self) -> u64 {
        self.reserve.bytes
    }

    /// The reserve becomes this file: its name must be made durable before anything in it leaves. Returns the bytes that
    /// surely fit.
    pub(super) fn take_reserve(&mut self, path: &Path) -> io::Result<(File, u64)> {
        if self.reserve.bytes == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = OpenOptions::new().write(true).open(&self.reserve.path)?;
        std::fs::rename(&self.reserve.path, path)?;
        Ok((file, std::mem::take(&mut self.reserve.bytes)))
    }

    /// Makes room for a small file. Whether there was something to give.
    pub(super) fn give_slack(&mut self) -> bool {
        let held = std::mem::take(&mut self.slack.bytes) > 0;
        held && std::fs::remove_file(&self.slack.path).is_ok()
    }
}

/// A file of blocks without bytes.
#[derive(Debug)]
struct Held {
    path: PathBuf,
    wanted: u64,
    /// What it holds now.
    bytes: u64,
}

impl Held {
    /// Tries to hold this much; leaves nothing behind where it cannot. Of a file system that knows no such thing nothing is
    /// wanted any more.
    fn hold(&mut self, bytes: u64) -> bool {
        if self.bytes >= bytes {
            return true;
        }
        let held = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.path)
            .and_then(|file| {
                // What an earlier start held is held on, without a moment in which it is anybody's.
                rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, bytes).map_err(io::Error::from)
            });
        if held.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::Unsupported) {
            self.wanted = 0;
        }
        self.bytes = if held.is_ok() { bytes } else { 0 };
        if held.is_err() {
            // What cannot be removed holds nothing, and is tried again.
            let _ = std::fs::remove_file(&self.path);
        }
        held.is_ok()
    }
}
