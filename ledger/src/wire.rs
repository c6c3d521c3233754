//! Messages between host and sink: HTTPS on one port, bodies in MessagePack with field names
//! ([`crate::codec`]), errors as [`Refusal`].
//!
//! | request | body | answer |
//! |---|---|---|
//! | `POST /v1/enroll` | [`EnrolRequest`] | [`EnrolResponse`] |
//! | `POST /v1/hosts/{id}/batches` | frames, see [`put_frame`] | [`AppendResponse`] |
//! | `GET /v1/hosts/{id}/head` | | [`HeadResponse`] |
//! | `POST /v1/hosts/{id}/certificate` | [`RenewRequest`] | [`RenewResponse`] |
//! | `GET /v1/hosts/{id}/committed?…` ([`CommittedQuery`]) | | [`CommittedResponse`] |
//! | `POST /v1/log/cosignatures` | a signed note | [`CosignatureResponse`] |

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::codec::{self, Fields, put_prefixed};
use crate::ids::{Hash, HostId, Position, PublicKey, Seq, Signature};
use crate::line::HandOver;
use crate::receipt::SignedReceipt;
use crate::tlog::checkpoint::CertifiedLogKey;

/// Content type of every body.
pub const CONTENT_TYPE: &str = "application/vnd.custody.msgpack";
/// Content type of appended frames.
pub const FRAMES_CONTENT_TYPE: &str = "application/vnd.custody.frames";
/// Longest body of one append, bytes.
pub const APPEND_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most batches in one append.
pub const APPEND_BATCHES_MAX: usize = 1024;
/// Longest body of one enrolment, bytes.
pub const ENROL_BYTES_MAX: usize = 64 * 1024;

/// Where hosts and people enrol.
pub const ENROL_PATH: &str = "/v1/enroll";

/// Where a host appends.
pub fn batches_path(host: HostId) -> String {
    format!("/v1/hosts/{host}/batches")
}

/// Where a host asks for its head.
pub fn head_path(host: HostId) -> String {
    format!("/v1/hosts/{host}/head")
}

/// Where a host gets another certificate.
pub fn certificate_path(host: HostId) -> String {
    format!("/v1/hosts/{host}/certificate")
}

/// Most batches that one answer proves to be committed.
pub const COMMITTED_BATCHES_MAX: usize = 256;
/// Longest time that a sink lets a host wait for the next checkpoint, ms.
pub const COMMITTED_WAIT_MS_MAX: u64 = 30_000;

/// Where a host asks what is committed. The answer comes when the batch is, or after the wait.
pub fn committed_path(host: HostId, query: &CommittedQuery) -> String {
    let CommittedQuery { epoch, number, size, wait_ms, witnessed_epoch, witnessed_number } = query;
    let mut path =
        format!("/v1/hosts/{host}/committed?epoch={epoch}&number={number}&size={size}&wait_ms={wait_ms}");
    if let (Some(epoch), Some(number)) = (witnessed_epoch, witnessed_number) {
        path += &format!("&witnessed_epoch={epoch}&witnessed_number={number}");
    }
    path
}

/// From where on a host asks what is committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedQuery {
    /// Counter of the epoch of the oldest batch that it waits for.
    pub epoch: u64,
    /// Number of that batch.
    pub number: u64,
    /// Leaves of the newest checkpoint that it has checked, 0 for none.
    #[serde(default)]
    pub size: u64,
    /// How long it waits, ms; at most [`COMMITTED_WAIT_MS_MAX`].
    #[serde(default)]
    pub wait_ms: u64,
    /// Of a host that wants witnesses: counter of the epoch of the oldest batch that is not witnessed yet.
    #[serde(default)]
    pub witnessed_epoch: Option<u64>,
    /// Number of that batch; it counts only beside its epoch.
    #[serde(default)]
    pub witnessed_number: Option<u64>,
}

/// One string that enrols: where the sink is, how to know it, and the right to join once or a few times.
///
/// As text: `custody-join-1.` and the base64url of 32 bytes of CA hash, 32 bytes of secret and the URL.
/// The joiner connects to `url`, and takes as root the certificate of the server's chain whose SHA-256 is `ca`.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct JoinToken {
    /// `https://host:port`.
    pub url: String,
    /// SHA-256 of the DER of the sink's CA certificate.
    #[zeroize(skip)]
    pub ca: Hash,
    /// What entitles.
    pub secret: [u8; 32],
}

const JOIN_PREFIX: &str = "custody-join-1.";
const JOIN_URL_BYTES_MAX: usize = 512;

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&self.ca.0[..], &self.secret, self.url.as_bytes()].concat();
        write!(f, "{JOIN_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}
impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({}, ca {})", self.url, self.ca)
    }
}

/// Text that is no join token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no join token: it must begin with {JOIN_PREFIX} and be copied whole")]
pub struct ParseJoinTokenError;

impl FromStr for JoinToken {
    type Err = ParseJoinTokenError;
    fn from_str(text: &str) -> Result<Self, ParseJoinTokenError> {
        let encoded = text.trim().strip_prefix(JOIN_PREFIX).ok_or(ParseJoinTokenError)?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| ParseJoinTokenError)?;
        let mut fields = Fields::new(&bytes);
        let ca = Hash(fields.array().ok_or(ParseJoinTokenError)?);
        let secret = fields.array().ok_or(ParseJoinTokenError)?;
        let url = std::str::from_utf8(fields.rest()).map_err(|_| ParseJoinTokenError)?;
        if !url.starts_with("https://") || url.len() > JOIN_URL_BYTES_MAX {
            return Err(ParseJoinTokenError);
        }
        Ok(JoinToken { url: url.to_owned(), ca, secret })
    }
}

/// Asks for an identity.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EnrolRequest {
    /// The token's secret.
    #[serde(with = "serde_bytes")]
    pub secret: Vec<u8>,
    /// PKCS#10 request, DER. The sink takes its key only; names come from the token.
    #[serde(with = "serde_bytes")]
    pub certificate_request: Vec<u8>,
    /// What the host calls itself; shown to people, never trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A host's chain key and the proof that it has it ([`crate::HostKey::prove_enrolment`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<ChainRegistration>,
}

/// The key by which a host certifies its epochs.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ChainRegistration {
    /// Public half of the host key.
    pub key: PublicKey,
    /// Signature over the certificate request.
    pub proof: Signature,
}

/// The identity.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EnrolResponse {
    /// `custody:host:<id>` or `custody:person:<role>:<name>`, with `;key=value` for each label of a reader's scope, as in
    /// the certificate's SAN URI.
    pub identity: String,
    /// The host's id, for hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostId>,
    /// Client certificate, PEM.
    pub certificate: String,
    /// The sink's CA certificate, PEM.
    pub ca: String,
    /// The key that signs receipts.
    pub sink: PublicKey,
}

/// Asks for another certificate, over the one that the connection shows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RenewRequest {
    /// PKCS#10 request, DER. The sink takes its key only.
    #[serde(with = "serde_bytes")]
    pub certificate_request: Vec<u8>,
    /// The host's line of keys, which may go on from what the sink has seen of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub line: Vec<HandOver>,
    /// By the newest key of that line ([`crate::HostKey::prove_renewal`]).
    pub proof: Signature,
}

/// The certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RenewResponse {
    /// Client certificate, PEM.
    pub certificate: String,
}

/// Appends one frame to the body of an append: a length (u32, big-endian) and the frame.
pub fn put_frame(body: &mut Vec<u8>, frame: &[u8]) {
    put_prefixed(body, frame);
}

/// The frames of an append's body; `None` stands for a body that ends inside a frame, and ends the iteration.
pub fn frames(body: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    let mut fields = Fields::new(body);
    let mut broken = false;
    std::iter::from_fn(move || {
        if broken || fields.rest().is_empty() {
            return None;
        }
        let frame = fields.prefixed();
        broken = frame.is_none();
        Some(frame)
    })
}

/// What became of an append. Batches before a refused one are accepted; those after it are not looked at.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AppendResponse {
    /// One for each accepted batch, in order.
    pub receipts: Vec<SignedReceipt>,
    /// Why the next one was not accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
}

/// Where the sink stands in the host's chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadResponse {
    /// Whose.
    pub host: HostId,
    /// The newest batch; `None` before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<Position>,
    /// Seq that the next entry of that epoch has.
    pub next_seq: Seq,
}

/// What is committed of a host's batches: the third level of promise after an answer and a `stored` receipt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedResponse {
    /// The log's key.
    pub log: CertifiedLogKey,
    /// The newest checkpoint, a signed note ([`crate::tlog::checkpoint`]).
    pub checkpoint: String,
    /// That it goes on from the tree of the size that was asked with; empty when that is not smaller.
    pub consistency: Vec<Hash>,
    /// The host's batches in that tree, from the one that was asked for on, in order.
    pub batches: Vec<CommittedBatch>,
    /// For who asked what is witnessed, and something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witnessed: Option<WitnessedResponse>,
}

/// What is witnessed of a host's batches: the fourth level of promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessedResponse {
    /// The newest checkpoint that witnesses cosigned, with their lines.
    pub checkpoint: String,
    /// That the checkpoint beside it goes on from this one.
    pub consistency: Vec<Hash>,
    /// The host's batches in this one's tree, from the one that was asked for on, in order.
    pub batches: Vec<CommittedBatch>,
}

/// Longest note that a witness hands in, bytes.
pub const COSIGNED_BYTES_MAX: usize = 8 * 1024;

/// Where the sink shows which checkpoint it wants cosigned, a signed note.
pub const CANDIDATE_PATH: &str = "/v1/log/checkpoint.candidate";
/// Where the newest checkpoint that enough witnesses cosigned is shown, a signed note.
pub const WITNESSED_PATH: &str = "/v1/log/checkpoint.witnessed";
/// Where a witness hands that note in again, with its line below it.
pub const COSIGNATURES_PATH: &str = "/v1/log/cosignatures";

/// What became of a cosignature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CosignatureResponse {
    /// Leaves of the newest checkpoint that enough witnesses cosigned; 0 for none.
    pub witnessed: u64,
}

/// A `committed` receipt: with the checkpoint beside it a proof that the batch is in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedBatch {
    /// Which.
    pub batch: Position,
    /// Its leaf's index.
    pub index: u64,
    /// From its leaf's sibling up.
    pub proof: Vec<Hash>,
}

/// Why something was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{detail}")]
pub struct Refusal {
    /// For programs.
    pub code: RefusalCode,
    /// For people: one sentence, no payload.
    pub detail: String,
    /// For [`RefusalCode::OutOfOrder`]: where the sink stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<HeadResponse>,
    /// For [`RefusalCode::OverQuota`]: coming back earlier is of no use, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// Causes of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// No client certificate, or one that stands for somebody else.
    Forbidden,
    /// The join token is unknown, used up or expired.
    Token,
    /// The bytes are no message of the protocol.
    Malformed,
    /// Signature, key hand-over or certificate do not hold.
    Signature,
    /// Hashes, tree or links inside the batch do not hold.
    Content,
    /// Not the next batch; go on from [`Refusal::head`].
    OutOfOrder,
    /// A newer epoch has begun.
    EpochClosed,
    /// The sink holds another batch of this number: it keeps and reports both.
    Equivocation,
    /// Over a limit.
    TooLarge,
    /// The sink is busy; try again later.
    Busy,
    /// The host is over its quota; nothing is wrong with the batch, keep it and come back.
    OverQuota,
    /// The sink cannot store now; try again later.
    Unavailable,
    /// There is no such thing at this sink.
    NotFound,
    /// A code that is newer than this reader.
    #[serde(other)]
    Unknown,
}

impl RefusalCode {
    /// Whether the same request can never be accepted: the host moves the batch aside and opens a new epoch.
    pub const fn is_permanent(self) -> bool {
        matches!(
            self,
            RefusalCode::Malformed
                | RefusalCode::Signature
                | RefusalCode::Content
                | RefusalCode::EpochClosed
                | RefusalCode::Equivocation
                | RefusalCode::TooLarge
        )
    }

    /// The HTTP status that carries it.
    pub const fn http_status(self) -> u16 {
        match self {
            RefusalCode::Forbidden | RefusalCode::Token => 403,
            RefusalCode::Malformed | RefusalCode::Signature | RefusalCode::Content => 422,
            RefusalCode::OutOfOrder | RefusalCode::EpochClosed | RefusalCode::Equivocation => 409,
            RefusalCode::TooLarge => 413,
            RefusalCode::Busy | RefusalCode::OverQuota => 429,
            RefusalCode::Unavailable => 503,
            RefusalCode::NotFound => 404,
            RefusalCode::Unknown => 500,
        }
    }
}

/// The answer to any request that was refused whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorResponse {
    /// Why.
    pub refusal: Refusal,
}

/// Writes any message of this module.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, codec::CodecError> {
    codec::encode("message", message)
}

/// Reads any message of this module.
pub fn decode<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, codec::CodecError> {
    codec::decode("message", body)
}
