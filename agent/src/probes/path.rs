//! Paths as the kernel side tells them: names from the last to the first, each ended by NUL.

/// The path that these names are, absolute.
pub fn path_of_names(names: &[u8]) -> Vec<u8> {
    let names = names.strip_suffix(b"\0").unwrap_or(names);
    if names.is_empty() {
        return b"/".to_vec();
    }
    let mut path = Vec::with_capacity(names.len() + 1);
    for name in names.rsplit(|byte| *byte == 0) {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::path_of_names;

    #[test]
    fn turns_the_names_around() {
        assert_eq!(path_of_names(b"sh\0bin\0usr\0"), b"/usr/bin/sh");
        assert_eq!(path_of_names(b""), b"/");
        assert_eq!(path_of_names(b"cut off"), b"/cut off");
    }
}
