//! A file system of a test's own that can be filled to the last block. Needs root.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::process::output;

/// Mounted on a folder; unmounted when dropped, so bind it after the folder and before what runs on it.
#[derive(Debug)]
pub struct SmallDisk {
    folder: PathBuf,
    /// The file that it lies in, where that is not memory.
    image: Option<PathBuf>,
}

/// What it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// In memory.
    Tmpfs,
    /// In a file beside its folder.
    Ext4,
}

impl SmallDisk {
    /// Mounts one of so many MiB on a folder.
    pub fn mount(kind: Kind, folder: &Path, megabytes: u32) -> Result<SmallDisk> {
        let mut disk = SmallDisk { folder: folder.to_owned(), image: None };
        if kind == Kind::Tmpfs {
            let size = format!("size={megabytes}m");
            output(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder))?;
            return Ok(disk);
        }
        let image = disk.image.insert(folder.with_extension("ext4"));
        File::create(&image)?.set_len(u64::from(megabytes) << 20)?;
        output(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image))?;
        output(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(folder))?;
        Ok(disk)
    }

    /// Somebody else writes until there is nothing left; what to remove to make room again.
    pub fn fill(&self) -> Result<PathBuf> {
        let path = self.folder.join("of-others");
        let mut file = File::options().create(true).append(true).open(&path)?;
        while file.write_all(&[1; 4096]).is_ok() {}
        Ok(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // On the way out of a failed test something may still be open there; the kernel lets go when it has ended.
        drop(output(Command::new("umount").arg("--lazy").arg(&self.folder)));
        drop(self.image.take().map(std::fs::remove_file));
    }
}
