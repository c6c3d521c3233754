//! Which names say that their value is a secret: one table for columns, headers, parameters, JSON keys,
//! options and variables. No configuration takes a name off it.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

/// Where these letters stand anywhere in a name (without separators), its value is a secret.
const STEMS: &[&str] = &[
    "password",
    "passwd",
    "passwort",
    "passphrase",
    "passcode",
    "secret",
    "credential",
    "apikey",
    "accesskey",
    "accountkey",
    "privatekey",
    "signingkey",
    "encryptionkey",
    "accesstoken",
    "refreshtoken",
    "authtoken",
    "sessiontoken",
    "idtoken",
    "bearertoken",
    "csrftoken",
    "xsrftoken",
    "authorization",
    "sessionid",
    "sessid",
];

/// Where this is a whole word of a name, its value is a secret.
const WORDS: &[&str] = &[
    "pass",
    "pwd",
    "pw",
    "token",
    "jwt",
    "otp",
    "totp",
    "pin",
    "cvv",
    "cvv2",
    "cvc",
    "sid",
    "cookie",
    "auth",
    "psk",
    "passkey",
    "cred",
    "creds",
    "sig",
    "signature",
];

/// Where a name ends so (without separators), its value is a secret.
const ENDS: &[&str] = &["pwd", "token", "pass", "cookie"];

/// Where a name's last word is one of these, it tells about a secret and is none.
const HARMLESS_LAST: &[&str] = &[
    "type",
    "count",
    "length",
    "limit",
    "expires",
    "expiry",
    "expiration",
    "ttl",
    "enabled",
    "required",
    "at",
    "in",
    "method",
    "mode",
    "policy",
];

/// Where these letters end a name that ends like a secret, it is none.
const HARMLESS_ENDS: &[&str] = &["bypass", "compass"];

/// Longest part of a name that is looked at; of a longer one, its end.
const NAME_BYTES_MAX: usize = 96;

/// What the value of this name is, when that is a secret: the kind that stands in its mask.
pub(crate) fn kind_of_name(name: &[u8]) -> Option<&'static str> {
    let name = &name[name.len().saturating_sub(NAME_BYTES_MAX)..];
    // Letters and digits in lower case; `starts` says where words begin among them.
    let mut compact = [0u8; NAME_BYTES_MAX];
    let mut starts = [0usize; NAME_BYTES_MAX];
    let (mut length, mut words) = (0, 0);
    let mut before = b' ';
    for &byte in name {
        if byte.is_ascii_alphanumeric() {
            let camel = byte.is_ascii_uppercase() && before.is_ascii_lowercase();
            if !before.is_ascii_alphanumeric() || camel {
                starts[words] = length;
                words += 1;
            }
            compact[length] = byte.to_ascii_lowercase();
            length += 1;
        }
        before = byte;
    }
    let compact = &compact[..length];
    let word = |index: usize| {
        let end = if index + 1 < words { starts[index + 1] } else { length };
        &compact[starts[index]..end]
    };
    let last = words.checked_sub(1).map(word)?;
    if words > 1 && HARMLESS_LAST.iter().any(|harmless| last == harmless.as_bytes()) {
        return None;
    }
    let secret = STEM_FINDER.is_match(compact)
        || (0..words).any(|index| WORDS.iter().any(|known| word(index) == known.as_bytes()))
        || (ENDS.iter().any(|end| compact.ends_with(end.as_bytes()))
            && !HARMLESS_ENDS.iter().any(|end| compact.ends_with(end.as_bytes())));
    secret.then(|| kind_of_compact(compact))
}

/// All stems at once: names are asked for more often than anything else.
static STEM_FINDER: LazyLock<AhoCorasick> = LazyLock::new(|| {
    AhoCorasick::new(STEMS).expect("a short list of words is an automaton, and tests say so")
});

fn kind_of_compact(compact: &[u8]) -> &'static str {
    let has = |stem: &str| memchr::memmem::find(compact, stem.as_bytes()).is_some();
    if has("cookie") || has("sessionid") || has("sessid") {
        "cookie"
    } else if has("pass") || has("pwd") {
        "password"
    } else if has("token") || has("jwt") {
        "token"
    } else if has("authorization") {
        "credentials"
    } else {
        "secret"
    }
}

/// Words of which each secret name holds at least one: without any of them a text names no secret.
pub(crate) const NAME_HINTS: &[&str] = &[
    "pass", "pwd", "pw", "secret", "cred", "key", "token", "auth", "session", "sessid", "jwt", "otp", "pin",
    "cv", "sid", "cookie", "psk", "sig",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_known_in_any_spelling() {
        for name in [
            "password",
            "PASSWORD",
            "user_password",
            "userPassword",
            "password_hash",
            "Password1",
            "db.passwd",
            "PGPASSWORD",
            "pwd",
            "dbpwd",
            "api_key",
            "x-api-key",
            "apiKey",
            "AWS_SECRET_ACCESS_KEY",
            "token",
            "access_token",
            "X-Amz-Security-Token",
            "authtoken",
            "sessionid",
            "PHPSESSID",
            "connect.sid",
            "cvv",
            "card_cvc",
            "otp",
            "client_secret",
            "Set-Cookie",
            "X-Amz-Signature",
            "authorization",
            "dbpass",
            "--password",
            "user[password]",
        ] {
            assert!(kind_of_name(name.as_bytes()).is_some(), "{name}");
        }
    }

    #[test]
    fn names_that_only_sound_so_are_left() {
        for name in [
            "",
            "_",
            "user",
            "max_tokens",
            "token_type",
            "password_length",
            "expires_in",
            "compass",
            "bypass",
            "passenger",
            "keyboard",
            "key",
            "author",
            "spinner",
            "considerate",
            "authored_by",
            "sidebar",
        ] {
            assert_eq!(kind_of_name(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn each_table_entry_holds_a_hint() {
        for name in STEMS.iter().chain(WORDS).chain(ENDS) {
            assert!(NAME_HINTS.iter().any(|hint| name.contains(hint)), "{name}");
        }
    }
}
