//! Which processes still hold something of a folder: what a demo or a test that ended must not leave.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::Result;

/// Processes whose program, working directory, arguments or open files lie below `folder`, as `pid name`.
pub fn processes(folder: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let process = entry?.path();
        let Some(pid) = process.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()) else {
            continue;
        };
        if pid != std::process::id() && holds(&process, folder) {
            let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
            found.push(format!("{pid} {}", name.trim()));
        }
    }
    Ok(found)
}

fn holds(process: &Path, folder: &Path) -> bool {
    let below = |link: &Path| fs::read_link(link).is_ok_and(|target| target.starts_with(folder));
    if below(&process.join("exe")) || below(&process.join("cwd")) {
        return true;
    }
    let arguments = fs::read(process.join("cmdline")).unwrap_or_default();
    if arguments.split(|byte| *byte == 0).any(|argument| argument.starts_with(folder.as_os_str().as_bytes()))
    {
        return true;
    }
    // A process may end while it is looked at: then it holds nothing.
    let Ok(files) = fs::read_dir(process.join("fd")) else { return false };
    files.flatten().any(|file| below(&file.path()))
}
