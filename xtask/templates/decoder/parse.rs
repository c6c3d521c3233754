//! Bodies as borrowed values. Hostile bytes are data: what cannot be read is `None`, and never a panic.

use nom::Parser;
use nom::bytes::complete::{tag, take_till1};
use nom::combinator::rest;
use nom::sequence::separated_pair;

/// The body of a login: `USER SP PASSWORD`.
pub(super) fn login(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let user = take_till1::<_, _, ()>(|byte| byte == b' ');
    separated_pair(user, tag(&b" "[..]), rest).parse(body).ok().map(|(_, parts)| parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_has_a_user_and_a_password() {
        assert_eq!(login(b"alice two words"), Some((&b"alice"[..], &b"two words"[..])));
        assert_eq!(login(b"alice"), None);
        assert_eq!(login(b" x"), None);
    }
}
