//! The fuzz body of what strangers and readers send: queries of readers, and the certificate request of an enrolment.
//! Bodies of hosts are the ledger's, and are tried there.

use std::sync::LazyLock;

use axum::extract::Query;

use crate::authority::Authority;
use crate::identity::{Identity, Role};
use crate::query::parameters::{Parameters, Wanted};
use crate::query::search;

/// An authority of this run alone.
static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("custody-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the authority");
    let opened = Authority::open(&folder, 1).expect("a new authority").0;
    std::fs::remove_dir_all(&folder).expect("the folder goes away");
    opened
});

/// Must not panic, and must sign nothing for a request whose own signature does not hold.
///
/// # Panics
/// When one of these is broken.
pub fn body(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    if kind & 1 == 0 {
        let subject = Identity::Person { role: Role::Reader, name: "fuzz".to_owned() }.into();
        if let Ok(certificate) = AUTHORITY.issue(&subject, rest) {
            assert!(
                certificate.starts_with("-----BEGIN CERTIFICATE-----"),
                "what was issued is no certificate"
            );
        }
        return;
    }
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let Ok(uri) = format!("/v1/tail?{text}").parse::<axum::http::Uri>() else { return };
    drop(Wanted::of(Query::<Parameters>::try_from_uri(&uri)));
    drop(search::Asked::of(Query::<search::Parameters>::try_from_uri(&uri)));
}

#[cfg(test)]
mod tests {
    use super::body;

    #[test]
    fn each_end_of_a_query_is_refused_or_understood() {
        let query = b"\x01where=db.system%20=%20'x'&since=1&until=2&n=3&follow=true";
        (1..=query.len()).for_each(|end| body(&query[..end]));
        let query = b"\x01q=%22a%20b%22%20ab*&where=host%20=%20x&n=3&cursor=12.7";
        (1..=query.len()).for_each(|end| body(&query[..end]));
    }
}
