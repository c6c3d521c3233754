//! Sockets without a handshake (unix, UDP) as procfs lists them: no hook tells when they are made and when they
//! are gone. A list that cannot be read is missing, and says nothing of the sockets that it would hold.

use std::collections::{HashMap, HashSet};
use std::path::Path;

/// Bytes of one list at most; a longer one is not read, so nothing is concluded from it.
const LIST_BYTES_MAX: u64 = 64 << 20;
/// Each list with the column of the inode.
const LISTS: [(&str, usize); 3] = [("unix", 6), ("udp", 9), ("udp6", 9)];

/// Inodes of the living sockets, by inode of their network namespace. Namespaces in which no process is are not
/// among them.
pub fn living(proc: &Path) -> HashMap<u32, HashSet<u64>> {
    let mut namespaces = HashMap::new();
    let Ok(entries) = std::fs::read_dir(proc) else { return namespaces };
    for entry in entries.flatten() {
        let is_process = entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok());
        let Some(netns) = namespace(&entry.path()).filter(|_| is_process) else { continue };
        if !namespaces.contains_key(&netns)
            && let Some(inodes) = inodes(&entry.path())
        {
            namespaces.insert(netns, inodes);
        }
    }
    namespaces
}

fn namespace(process: &Path) -> Option<u32> {
    let link = std::fs::read_link(process.join("ns/net")).ok()?;
    link.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}

fn inodes(process: &Path) -> Option<HashSet<u64>> {
    let mut inodes = HashSet::new();
    for (name, column) in LISTS {
        let text = match list(&process.join("net").join(name)) {
            Ok(text) => text,
            // A kernel without IPv6 has no such sockets.
            Err(error) if name == "udp6" && error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(_) => return None,
        };
        let lines = text.lines().skip(1);
        inodes.extend(lines.filter_map(|line| line.split_whitespace().nth(column)?.parse::<u64>().ok()));
    }
    inodes.remove(&0);
    Some(inodes)
}

fn list(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(LIST_BYTES_MAX).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == LIST_BYTES_MAX {
        return Err(std::io::ErrorKind::FileTooLarge.into());
    }
    // Abstract names hold any bytes; the columns before them do not.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_each_namespace_are_read_once_and_a_missing_list_says_nothing() {
        let root = tempfile::tempdir().unwrap();
        let process = |pid: &str, netns: u32, unix: Option<&str>| {
            let folder = root.path().join(pid);
            std::fs::create_dir_all(folder.join("ns")).unwrap();
            std::fs::create_dir_all(folder.join("net")).unwrap();
            std::os::unix::fs::symlink(format!("net:[{netns}]"), folder.join("ns/net")).unwrap();
            let udp = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
                       45: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 7001 2 0000000000000000 0\n";
            std::fs::write(folder.join("net/udp"), udp).unwrap();
            if let Some(unix) = unix {
                std::fs::write(folder.join("net/unix"), unix).unwrap();
            }
        };
        let unix = "Num       RefCount Protocol Flags    Type St Inode Path\n\
                    0000000042dec3b6: 00000003 00000000 00000000 0001 03   565\n\
                    0000000042dec3b7: 00000003 00000000 00000000 0001 02     0 /run/waits\n\
                    0000000042dec3b8: 00000003 00000000 00010000 0001 01   566 /run/a name with spaces\n";
        process("1", 41, Some(unix));
        process("2", 41, Some(unix));
        process("3", 42, None);
        process("self", 43, Some(unix));
        let living = living(root.path());
        assert_eq!(living, HashMap::from([(41, HashSet::from([565, 566, 7001]))]));
    }

    #[test]
    fn an_own_socket_is_among_the_living() {
        use std::os::unix::fs::MetadataExt;
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let file = std::fs::File::from(std::os::fd::OwnedFd::from(one));
        let inode = file.metadata().unwrap().ino();
        let netns = u32::try_from(std::fs::metadata("/proc/self/ns/net").unwrap().ino()).unwrap();
        assert!(living(Path::new("/proc"))[&netns].contains(&inode));
    }
}
