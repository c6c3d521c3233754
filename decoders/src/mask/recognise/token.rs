//! Credentials that look like nothing else: JSON Web Tokens, private keys, `Authorization` schemes, and the
//! tokens of vendors that gave theirs a prefix.

use super::super::coded;
use super::super::mark::Mark;
use super::super::span::Span;

/// How far each family has looked, so that overlapping anchors do not make it look twice.
#[derive(Debug, Default)]
pub(super) struct Progress {
    jwt: usize,
    private_key: usize,
    vendor: usize,
}

/// Longest part of a token's header that is decoded to tell what it is.
const JWT_HEADER_BYTES_MAX: usize = 1024;

/// JSON Web Tokens (RFC 7519): signed ones have three parts, encrypted ones five. One that is cut counts from
/// its second part on.
pub(super) fn jwt(text: &[u8], start: usize, progress: &mut Progress, spans: &mut Vec<Span>) {
    let inside = start > 0 && is_base64_url(text[start - 1]);
    if start < progress.jwt || inside || !text[start..].starts_with(b"eyJ") {
        return;
    }
    let header = run(text, start, is_base64_url);
    progress.jwt = header;
    let part = &text[start..header.min(start + JWT_HEADER_BYTES_MAX)];
    let Some(decoded) = coded::base64(part) else { return };
    let has = |name: &[u8]| memchr::memmem::find(&decoded, name).is_some();
    if text.get(header) != Some(&b'.') || !(has(b"\"alg\"") || has(b"\"typ\"") || has(b"\"enc\"")) {
        return;
    }
    let mut end = header;
    for _ in 1..5 {
        if text.get(end) != Some(&b'.') {
            break;
        }
        end = run(text, end + 1, is_base64_url);
    }
    progress.jwt = end;
    if end > header + 1 {
        spans.push(Span::new(start, end, Mark::redact("jwt")));
    }
}

/// Longest label of a key's first line.
const KEY_LABEL_BYTES_MAX: usize = 80;

/// Private keys in their text forms (RFC 7468, OpenSSH, PGP, SSH2): from the first line to the last, or to
/// the end of the text when that is missing.
pub(super) fn private_key(text: &[u8], anchor: usize, progress: &mut Progress, spans: &mut Vec<Span>) {
    if anchor < progress.private_key {
        return;
    }
    let dashes = text[..anchor].iter().rev().take(5).take_while(|&&byte| byte == b'-').count();
    let label = &text[anchor + 1..text.len().min(anchor + 1 + KEY_LABEL_BYTES_MAX)];
    let Some(label_end) = memchr::memmem::find(label, b"--") else { return };
    if memchr::memmem::find(&label[..label_end], b"PRIVATE KEY").is_none() {
        return;
    }
    let body = anchor + 1 + label_end;
    let mut end = text.len();
    for last in memchr::memmem::find_iter(&text[body..], b"END") {
        let at = body + last;
        if text[..at].trim_ascii_end().ends_with(b"--") {
            let close = memchr::memmem::find(&text[at..], b"--").map_or(text.len(), |found| at + found);
            end = run(text, close, |byte| byte == b'-');
            break;
        }
    }
    progress.private_key = end;
    spans.push(Span::new(anchor - dashes, end, Mark::redact("private_key")));
}

/// `Bearer TOKEN` (RFC 6750) and `Basic USER-PASS` (RFC 7617), wherever they stand.
pub(super) fn scheme(text: &[u8], start: usize, end: usize, spans: &mut Vec<Span>) {
    let inside = start > 0 && text[start - 1].is_ascii_alphanumeric();
    let spaces = text[end..].iter().take(4).take_while(|&&byte| byte == b' ' || byte == b'\t').count();
    if inside || spaces == 0 {
        return;
    }
    let first = end + spaces;
    let last = run(text, first, |byte| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte));
    let token = &text[first..last];
    let credentials = if text[start..end].eq_ignore_ascii_case(b"basic") {
        token.len() >= 4 && coded::base64(token).is_some_and(|pair| pair.contains(&b':'))
    } else {
        // No word of a sentence, such as `bearer authentication`.
        let odd = token.iter().any(|byte| !byte.is_ascii_alphabetic());
        token.len() >= 8 && odd && !token.ends_with(b".") || token.len() >= 20
    };
    if credentials {
        spans.push(Span::new(first, last, Mark::redact("credentials")));
    }
}

/// A vendor's token: its prefix, and what follows.
pub(super) struct Vendor {
    pub(super) prefix: &'static str,
    kind: &'static str,
    /// Least characters after the prefix.
    rest_min: usize,
    /// Most characters after the prefix: when more follow, it is something else.
    rest_max: usize,
    is_rest: fn(u8) -> bool,
}

const fn vendor_of(
    prefix: &'static str,
    rest_min: usize,
    rest_max: usize,
    is_rest: fn(u8) -> bool,
) -> Vendor {
    Vendor { prefix, kind: "api_token", rest_min, rest_max, is_rest }
}

const fn aws(prefix: &'static str) -> Vendor {
    let is_rest = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    Vendor { prefix, kind: "aws_key", rest_min: 16, rest_max: 16, is_rest }
}

/// No longest token: it ends with its characters.
const ANY: usize = usize::MAX;

/// Formats as their vendors document them.
pub(super) const VENDORS: &[Vendor] = &[
    aws("AKIA"),
    aws("ASIA"),
    vendor_of("ghp_", 36, ANY, is_word),              // GitHub, personal
    vendor_of("gho_", 36, ANY, is_word),              // GitHub, OAuth
    vendor_of("ghu_", 36, ANY, is_word),              // GitHub, user to server
    vendor_of("ghs_", 36, ANY, is_word),              // GitHub, server to server
    vendor_of("ghr_", 36, ANY, is_word),              // GitHub, refresh
    vendor_of("github_pat_", 22, ANY, is_word),       // GitHub, fine-grained
    vendor_of("glpat-", 20, ANY, is_base64_url),      // GitLab
    vendor_of("gldt-", 20, ANY, is_base64_url),       // GitLab, deploy
    vendor_of("glrt-", 20, ANY, is_base64_url),       // GitLab, runner
    vendor_of("glcbt-", 20, ANY, is_base64_url),      // GitLab, build
    vendor_of("glptt-", 40, ANY, is_base64_url),      // GitLab, trigger
    vendor_of("xoxb-", 10, ANY, is_base64_url),       // Slack, bot
    vendor_of("xoxp-", 10, ANY, is_base64_url),       // Slack, user
    vendor_of("xoxa-", 10, ANY, is_base64_url),       // Slack, workspace
    vendor_of("xoxr-", 10, ANY, is_base64_url),       // Slack, refresh
    vendor_of("xoxs-", 10, ANY, is_base64_url),       // Slack, session
    vendor_of("xapp-", 10, ANY, is_base64_url),       // Slack, application
    vendor_of("sk_live_", 16, ANY, is_word),          // Stripe, secret
    vendor_of("sk_test_", 16, ANY, is_word),          // Stripe, secret of tests
    vendor_of("rk_live_", 16, ANY, is_word),          // Stripe, restricted
    vendor_of("rk_test_", 16, ANY, is_word),          // Stripe, restricted of tests
    vendor_of("whsec_", 16, ANY, is_base64),          // Stripe, webhooks
    vendor_of("AIza", 35, 35, is_base64_url),         // Google, API key
    vendor_of("ya29.", 20, ANY, is_base64_url),       // Google, OAuth
    vendor_of("GOCSPX-", 24, ANY, is_base64_url),     // Google, OAuth client
    vendor_of("npm_", 36, 36, is_word),               // npm
    vendor_of("pypi-", 50, ANY, is_base64_url),       // PyPI
    vendor_of("hvs.", 24, ANY, is_base64_url),        // Vault
    vendor_of("hvb.", 24, ANY, is_base64_url),        // Vault, batch
    vendor_of("hvr.", 24, ANY, is_base64_url),        // Vault, recovery
    vendor_of("dop_v1_", 64, 64, is_word),            // DigitalOcean
    vendor_of("doo_v1_", 64, 64, is_word),            // DigitalOcean, OAuth
    vendor_of("dor_v1_", 64, 64, is_word),            // DigitalOcean, refresh
    vendor_of("shpat_", 32, 32, is_word),             // Shopify, administration
    vendor_of("shpca_", 32, 32, is_word),             // Shopify, custom application
    vendor_of("shppa_", 32, 32, is_word),             // Shopify, private application
    vendor_of("shpss_", 32, 32, is_word),             // Shopify, shared secret
    vendor_of("dapi", 32, 34, is_base64_url),         // Databricks
    vendor_of("HRKU-", 36, ANY, is_base64_url),       // Heroku
    vendor_of("glsa_", 32, ANY, is_word),             // Grafana
    vendor_of("dckr_pat_", 20, ANY, is_base64_url),   // Docker Hub
    vendor_of("rubygems_", 48, 48, is_word),          // RubyGems
    vendor_of("lin_api_", 40, ANY, is_word),          // Linear
    vendor_of("PMAK-", 59, 59, is_base64_url),        // Postman
    vendor_of("NRAK-", 27, 27, is_word),              // New Relic
    vendor_of("pul-", 40, 40, is_word),               // Pulumi
    vendor_of("sq0atp-", 22, 22, is_base64_url),      // Square, access
    vendor_of("sq0csp-", 43, 43, is_base64_url),      // Square, secret
    vendor_of("key-", 32, 32, is_hex),                // Mailgun
    vendor_of("SK", 32, 32, is_hex),                  // Twilio
    vendor_of("xai-", 80, 80, is_word),               // xAI
    vendor_of("gsk_", 52, 52, is_word),               // Groq
    vendor_of("sk-ant-", 24, ANY, is_base64_url),     // Anthropic
    vendor_of("sk-proj-", 24, ANY, is_base64_url),    // OpenAI
    vendor_of("sk-svcacct-", 24, ANY, is_base64_url), // OpenAI, service account
    vendor_of("sk-", 48, 48, is_word),                // OpenAI, older
    vendor_of("hf_", 34, ANY, is_word),               // Hugging Face
    vendor_of("SG.", 60, 80, is_dotted),              // SendGrid
    vendor_of("AGE-SECRET-KEY-1", 58, 58, is_word),   // age
    vendor_of("custody-join-1.", 40, ANY, is_base64_url), // our own join tokens
];

/// The token of `VENDORS[index]` whose prefix stands at `start`.
pub(super) fn vendor(
    text: &[u8],
    index: usize,
    start: usize,
    progress: &mut Progress,
    spans: &mut Vec<Span>,
) {
    let Vendor { prefix, kind, rest_min, rest_max, is_rest } = &VENDORS[index];
    let inside = start > 0 && text[start - 1].is_ascii_alphanumeric();
    if start < progress.vendor || inside || !text[start..].starts_with(prefix.as_bytes()) {
        return;
    }
    let rest = start + prefix.len();
    let length =
        text[rest..].iter().take(rest_max.saturating_add(1)).take_while(|&&byte| is_rest(byte)).count();
    let follows = text.get(rest + length).is_some_and(u8::is_ascii_alphanumeric);
    if (*rest_min..=*rest_max).contains(&length) && !follows {
        progress.vendor = rest + length;
        spans.push(Span::new(start, rest + length, Mark::redact(kind)));
    }
}

/// Telegram's bot tokens: the bot's number, a colon, 35 characters that begin with `AA`. The colon stands at `colon`.
pub(super) fn telegram(text: &[u8], colon: usize, spans: &mut Vec<Span>) {
    const SECRET_BYTES: usize = 35;
    let digits = text[..colon].iter().rev().take(11).take_while(|byte| byte.is_ascii_digit()).count();
    let secret =
        text[colon + 1..].iter().take(SECRET_BYTES + 1).take_while(|&&byte| is_base64_url(byte)).count();
    if (8..=10).contains(&digits) && secret == SECRET_BYTES {
        spans.push(Span::new(colon - digits, colon + 1 + secret, Mark::redact("api_token")));
    }
}

fn run(text: &[u8], start: usize, holds: impl Fn(u8) -> bool) -> usize {
    text[start..].iter().position(|&byte| !holds(byte)).map_or(text.len(), |length| start + length)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn is_base64_url(byte: u8) -> bool {
    is_word(byte) || byte == b'-'
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'a'..=b'f')
}

fn is_dotted(byte: u8) -> bool {
    is_base64_url(byte) || byte == b'.'
}
