//! Names of user ids, as `/etc/passwd` has them. Network directories are not asked: a lookup may block, and
//! may make traffic that would be recorded in turn.

use std::collections::BTreeMap;
use std::path::Path;

/// Longest file that is read.
const PASSWD_BYTES_MAX: u64 = 4 << 20;

/// Names by user id.
pub type Users = BTreeMap<u32, String>;

/// Reads the table below `root` (`/` on a live host). A file that is missing or too long gives no names.
pub fn read(root: &Path) -> Users {
    let path = root.join("etc/passwd");
    match std::fs::metadata(&path) {
        Ok(metadata) if metadata.len() <= PASSWD_BYTES_MAX => {}
        _ => return Users::new(),
    }
    std::fs::read_to_string(path).map(|text| parse(&text)).unwrap_or_default()
}

/// The first name of an id wins, as in getpwuid(3).
fn parse(text: &str) -> Users {
    let mut users = Users::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        let (Some(name), _, Some(uid)) = (fields.next(), fields.next(), fields.next()) else { continue };
        if let Ok(uid) = uid.parse() {
            users.entry(uid).or_insert_with(|| name.to_owned());
        }
    }
    users
}

/// Id and first group of a named account.
pub fn account(root: &Path, name: &str) -> Option<(u32, u32)> {
    let text = std::fs::read_to_string(root.join("etc/passwd")).ok()?;
    text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.len() >= 4 && fields[0] == name).then_some(())?;
        Some((fields[2].parse().ok()?, fields[3].parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_an_id_wins_and_odd_lines_are_skipped() {
        let users = parse("root:x:0:0::/root:/bin/sh\ntoor:x:0:0\n+nis\n\nalice:x:1000:1000::/:/x\n:x:y\n");
        assert_eq!(users.get(&0).map(String::as_str), Some("root"));
        assert_eq!(users.get(&1000).map(String::as_str), Some("alice"));
        assert_eq!(users.len(), 2);
    }
}
