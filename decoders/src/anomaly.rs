//! What may be odd about traffic: one table of stable codes, which `custody explain CODE` prints. Hostile
//! input is no error; it is one of these.

/// One code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anomaly {
    /// Stable code, as it stands in records.
    pub code: &'static str,
    /// In a few words.
    pub title: &'static str,
    /// What was seen.
    pub meaning: &'static str,
    /// What to do about it.
    pub advice: &'static str,
}

/// Looks a code up.
pub fn find(code: &str) -> Option<&'static Anomaly> {
    ALL.iter().find(|anomaly| anomaly.code == code)
}

macro_rules! anomalies {
    ($($constant:ident = $code:literal, $title:literal, $meaning:literal, $advice:literal;)+) => {
        $(#[doc = concat!($title, ".")] pub const $constant: &str = $code;)+
        /// Every code.
        pub const ALL: &[Anomaly] = &[$(Anomaly {
            code: $code, title: $title, meaning: $meaning, advice: $advice,
        }),+];
    };
}

anomalies! {
    ORDER_UNKNOWN = "order_unknown", "Two chunks claim the same place",
        "Two different byte sequences were seen for the same range of one direction, for instance from two threads that wrote to one socket at once. The first stands in the record; the other is counted, and was not decoded.",
        "Read the exchange beside it with care. If it repeats for one program, its threads share a socket without a lock.";
    POSITION_IMPOSSIBLE = "position_impossible", "Bytes at a place where no stream can be",
        "The kernel side told of bytes, of a hole or of an end more than a tebibyte away from where the connection was. It was refused: its bytes are counted as unparsed, and no gap was made of it.",
        "Report it with the version of the agent and of the kernel: it is a mistake of the probes, not of the observed programs.";
    TCP_OVERLAP = "tcp_overlap", "A repeated segment says something else",
        "In a capture, two segments hold different bytes for the same place of one direction. What had been handed on stands; where both still waited behind a hole neither is taken, and the place is a gap.",
        "Compare with the server's own log: which of the two it took depends on its system. Nothing ordinary does this; evading a monitor does.";
    ENDS_GUESSED = "ends_guessed", "Who asks was not seen",
        "The capture holds no SYN of this connection. Who is the client was taken from the first bytes where a protocol is known by them, else from the ports.",
        "Expected where the capture began later than the connection.";
    DECODER_PANICKED = "decoder_panicked", "A decoder failed",
        "The decoder of this connection stopped at bytes that it did not foresee. The rest of the connection is counted, not decoded.",
        "Report it with the version of the agent; the capture of the connection helps.";
    FRAME_TOO_LONG = "frame_too_long", "A frame without an end",
        "A frame had no end within the limit of buffered bytes. It was counted as unparsed.",
        "Look at who sent it: it is either another protocol or an attempt to exhaust a parser.";
    UNPARSED = "unparsed", "Bytes that are no frame",
        "Bytes stood where a frame of the protocol should begin. They were counted, and decoding went on at the next sure frame.",
        "Compare the lost and unparsed bytes of the session. After a gap it is expected; without one the peer broke the protocol.";
    PENDING_LIMIT = "pending_limit", "Too many requests without an answer",
        "More requests waited for an answer than are remembered. The oldest was told open; its answer stands alone.",
        "Raise the limit of pending exchanges if the program truly pipelines that deep.";
    RESPONSE_WITHOUT_REQUEST = "response_without_request", "An answer whose request was not seen",
        "The request was before the agent looked, or was lost, or the server spoke unasked.",
        "Look for a gap before it in the same session.";
    ANSWER_LOST = "answer_lost", "The answer is not known",
        "Bytes of the answering direction are missing, so no later answer can be told to belong to this request.",
        "Look for the gap in the same session; its cause says why.";
    MASK_FAILED = "mask_failed", "Masking of a field failed",
        "The value could not be masked, so it was left out whole.",
        "Report it with the version of the agent and the field's name.";
    MASK_LIST_CUT = "mask_list_cut", "More fields were masked than are listed",
        "The list of masked fields of one record is bounded. All of them were masked, and the counts by kind are exact.",
        "Nothing is to be done.";
    MASK_RECORD_CUT = "mask_record_cut", "The record was too long",
        "Values or rows beyond the bound of one record were left out after masking.",
        "Ask for fewer rows or columns at once if the whole answer is to stand in the record.";
    PAIRING_UNCERTAIN = "pairing_uncertain", "The answer may belong to another request",
        "Requests of this connection are missing, so an answer may be the one to a request that was not seen.",
        "Look for the gap before it in the same session.";
    ROLE_REVERSED = "role_reversed", "The accepting end asks",
        "The end that accepted the connection sends the requests and the connecting end answers. Up and down follow the protocol.",
        "Usual for reverse tunnels; look at the process that connected.";
    TLS_UNANNOUNCED = "tls_unannounced", "Plaintext of a connection that never switched to TLS",
        "A TLS library's plaintext was bound to a connection whose wire did not announce TLS.",
        "Look at custody.binding: the binding may be wrong, or the handshake was lost.";
    TLS_EARLY_DATA = "tls_early_data", "Data before the handshake was done (0-RTT)",
        "The client sent data, or the server took some, before the handshake was done (TLS 1.3 early data, RFC 8446 2.3). Whoever recorded these bytes on the network can send them again; and what the server did not take, the client sent twice.",
        "See to it that the server takes only what may be repeated (GET, not POST), or switch early data off.";
    MEMORY_SHED = "memory_shed", "Buffered bytes were given up",
        "All connections together held more than the limit, and this one was growing. What it had buffered was counted and dropped.",
        "Raise the memory limit of the worker, or look at why this peer leaves frames unfinished.";
    CONTENT_BOMB = "content_bomb", "A coded body that grows out of all proportion",
        "Few coded bytes (gzip, deflate, br or zstd) made more than 200 times as many, up to the limit of what is kept. Decoding stopped there; the coded bytes are counted whole.",
        "Look at the sender: a body of that kind is made to exhaust who decodes it.";
    CONTENT_BROKEN = "content_broken", "A content coding that is broken",
        "The bytes are not of the coding that was announced (gzip, deflate, br or zstd), or its checksum is wrong. What was decoded before the break stands in the record. A laxer program may have read on, or taken the body as it came.",
        "Look for a gap before it; without one, compare with what the receiver made of it: bodies are mislabelled to pass a filter.";
    CONTENT_TRAILING = "content_trailing", "Bytes behind the end of a coded body",
        "The coding (deflate, br or zstd) ended before the body did. What follows is counted and was not decoded; a laxer program may have read it.",
        "Look at the sender: bytes may be hidden there.";
    CONTENT_TRUNCATED = "content_truncated", "A coded body without its end",
        "The body ended before its coding (gzip, deflate, br or zstd) did. What was decoded until then stands in the record.",
        "Usual when the message itself ended early; else look at the sender.";
    CONTENT_PARTS_CUT = "content_parts_cut", "More events than are kept",
        "A stream of events (`text/event-stream`, JSON lines) brought more than the limit of a body within one second, or one event longer than that. Whole events were left out; their bytes are counted.",
        "Raise `limits.body_bytes_max` if each event matters.";
    HTTP1_BAD_HOST = "http1_bad_host", "No Host, or several",
        "An HTTP/1.1 request had no Host or more than one (RFC 9112, 3.2). A strict server answers 400; a lax one takes the first, the last, or the authority of the target.",
        "Compare the Host in the record with what the server served: proxies and caches are misled so.";
    HTTP1_BAD_METHOD = "http1_bad_method", "A method that is no token",
        "The method held bytes that none may hold (RFC 9110, 9.1). A strict server answers 400; a lax one may cut the method short.",
        "Treat as hostile: it is used to pass a filter by method.";
    HTTP1_BAD_MULTIPART = "http1_bad_multipart", "A form in parts that is broken",
        "The delimiter that the Content-Type announced did not come, the last one was missing, or a part's head had no end (RFC 7578). What was read of it stands in the record.",
        "Usual when the message itself ended early; else look at the sender.";
    HTTP1_BAD_VERSION = "http1_bad_version", "A version that is none of HTTP/1",
        "The request line's version was in lower case, or neither 1.0 nor 1.1 (RFC 9112, 2.3). It was read as the nearest one; a strict server refuses it.",
        "Treat as hostile unless the client is known to be odd.";
    HTTP1_BLANK_BEFORE_REQUEST = "http1_blank_before_request", "Empty lines before a request",
        "Empty lines came before the request line. They were left out, as servers should (RFC 9112, 2.2); some do not.",
        "Old clients send one after a body; more of them, or any elsewhere, are odd.";
    HTTP1_CHUNK_SIZE_ODD = "http1_chunk_size_odd", "A chunk size written oddly",
        "A chunk's size had more than 16 digits or spaces beside it (RFC 9112, 7.1). It was read as the number that it is; a parser that counts digits or stops at a space reads another.",
        "Treat as hostile: no known program writes sizes so.";
    HTTP1_CHUNK_SIZE_OVERFLOW = "http1_chunk_size_overflow", "A chunk size beyond all numbers",
        "A chunk's size does not fit into 60 bits. A parser that lets it wrap around reads a small chunk (RFC 9112, 7.1). The message was broken off there.",
        "Treat as hostile.";
    HTTP1_NUL = "http1_nul", "A NUL in a line",
        "A line of the head held a NUL byte (RFC 9110, 5.5). A strict server answers 400; a lax one may end the line there.",
        "Treat as hostile.";
    HTTP1_REPEATED_LENGTH = "http1_repeated_length", "One Content-Length several times",
        "The same Content-Length stood there more than once (RFC 9112, 6.3). It was taken as one; a strict server answers 400.",
        "Look at the client: it, or a proxy on the way, writes the field twice.";
    HTTP1_REQUEST_LINE_SPACE = "http1_request_line_space", "Spaces where none belong in a request line",
        "The target held spaces, or more than one stood beside it, or some behind the version (RFC 9112, 3). All between method and version was taken for the target; another parser ends it at the first space.",
        "Old clients do not encode spaces; attacks split requests so.";
    HTTP1_SIMPLE_REQUEST = "http1_simple_request", "A request of HTTP/0.9",
        "The request line had no version. Servers that know HTTP/0.9 answer with a body alone, up to the end of the connection; others answer 400.",
        "Scanners and attacks use it: a cache may take such an answer for another's.";
    HTTP1_SPACE_BEFORE_COLON = "http1_space_before_colon", "A space between a header's name and its colon",
        "A space stood before the colon (RFC 9112, 5.1). The name was read without it; a strict server answers 400, and a lax one may take the name with the space for another header.",
        "Treat as hostile: it is the classic way to hide a length or a transfer coding.";
    HTTP1_BARE_LF = "http1_bare_lf", "A line that ends with LF alone",
        "A header line ended without CR. Parsers differ here, which request smuggling uses (RFC 9112, 2.2).",
        "Compare with what the server's own log says of this request.";
    HTTP1_BARE_CR = "http1_bare_cr", "A CR inside a header line",
        "A carriage return stood alone in a line (RFC 9112, 2.2).",
        "Treat the request as hostile unless the client is known to be odd.";
    HTTP1_OBS_FOLD = "http1_obs_fold", "A folded header",
        "A header's value went on in the next line (RFC 9112, 5.2). It was joined by a space.",
        "Expected from very old clients only.";
    HTTP1_BAD_HEADER = "http1_bad_header", "A header line that is none",
        "A line had no colon, or an empty or impossible name (RFC 9112, 5.1). It was left out; another parser may take it for a part of the line before.",
        "Compare with what the server's own log says of this request.";
    HTTP1_CONFLICTING_LENGTH = "http1_conflicting_length", "Content-Length and Transfer-Encoding disagree",
        "Both were sent, or several different lengths. The classic shape of request smuggling (RFC 9112, 6.3). Transfer-Encoding was followed, else the first length.",
        "Find the sender. Requests that follow on this connection may be another's.";
    HTTP1_BAD_LENGTH = "http1_bad_length", "A Content-Length that is no number",
        "The value was empty, signed, too large or not digits (RFC 9110, 8.6). The message was taken to end with the connection.",
        "Treat as hostile.";
    HTTP1_BAD_STATUS = "http1_bad_status", "A status line that is none",
        "The version was not HTTP/1, or the status was not three digits and a space (RFC 9112, 4). It was read up to the first byte that is no digit; other programs may read it otherwise.",
        "Treat as hostile: such answers are made to pass a filter.";
    HTTP1_BLANK_BEFORE_STATUS = "http1_blank_before_status", "Empty lines before an answer",
        "Empty lines are allowed before requests only (RFC 9112, 2.2). They were left out.",
        "Look at the server: something writes between its answers.";
    HTTP1_BAD_TRANSFER_CODING = "http1_bad_transfer_coding", "An odd Transfer-Encoding",
        "`chunked` was missing, not last, repeated or disguised, or sent with HTTP/1.0 (RFC 9112, 6.1).",
        "Treat as hostile: it is used to hide a request from one of two parsers.";
    HTTP1_BAD_CHUNK = "http1_bad_chunk", "A chunk that is none",
        "A chunk's size was no hexadecimal number, or its data did not end with CRLF (RFC 9112, 7.1). A lax parser goes on where it believes the next chunk to begin.",
        "The rest of that direction is counted until a sure message begins.";
    HTTP1_CHUNK_EXTENSION = "http1_chunk_extension", "A chunk extension",
        "A chunk's size line carried an extension (RFC 9112, 7.1.1). Hardly any program sends them; smuggling does.",
        "Look at the sender.";
    HTTP1_HEAD_TOO_LONG = "http1_head_too_long", "A head longer than is held",
        "The head of the message was longer than the limit of a frame. Header fields behind the limit were not kept, but where the body ends was read from all of them.",
        "Look at the sender: a head of that length hides something or exhausts a parser.";
    HTTP1_TOO_MANY_HEADERS = "http1_too_many_headers", "More headers than are kept",
        "The message had more header fields than the limit. Those over it were not kept.",
        "Look at the sender.";
    HTTP1_TRUNCATED = "http1_truncated", "A message that ended early",
        "The connection ended before the announced length was reached.",
        "Usual when a client gives up; compare with the server's log.";
    STATEMENT_UNKNOWN = "statement_unknown", "A prepared statement of before",
        "A statement or portal was used whose preparation was not seen. Its text is not guessed.",
        "Expected for connections that are older than the agent; else look for a gap before it.";
    POSTGRES_COPY_LOST = "postgres_copy_lost", "COPY data are missing",
        "Bytes of the client are missing within a COPY. Its counts are of what was seen, and data behind the hole are not kept.",
        "Look for the gap in the same session; its cause says why.";
    POSTGRES_CUT = "postgres_cut", "A message longer than is held",
        "Only the beginning of the message was decoded; its exact size stands in the record.",
        "Raise `limits.frame_bytes_max` if whole statements of that length matter.";
    POSTGRES_LEFTOVER = "postgres_leftover", "Bytes left over in a message",
        "The message's fields ended before its length did. The rest was not read, and never as the next message.",
        "Treat as hostile: no known client or server does this.";
    POSTGRES_NAMES_LIMIT = "postgres_names_limit", "Too many named statements or portals",
        "More names were in use than are remembered, so a later use may be unknown.",
        "Look at the client: it prepares statements and never closes them.";
    POSTGRES_PENDING_LIMIT = "postgres_pending_limit", "Too many messages in flight",
        "More messages waited for their answers than are remembered, so pairing started anew.",
        "Raise `limits.pending_max` if the program truly pipelines that deep.";
    POSTGRES_REQUEST_UNSEEN = "postgres_request_unseen", "An answer whose request was not seen",
        "Rows or an error came without a statement that they answer.",
        "Expected where the agent started in the middle; else look for a gap before it.";
    POSTGRES_RESULTS_LIMIT = "postgres_results_limit", "More results than are listed",
        "One query gave more results than are kept; the rest was counted.",
        "Nothing is to be done.";
    POSTGRES_SHORT = "postgres_short", "A message that is too short",
        "The message ended before its fields did. What was read of it is not told.",
        "Treat as hostile, unless bytes are missing beside it.";
    POSTGRES_UNEXPECTED = "postgres_unexpected", "A message that does not fit here",
        "The server sent what the state of the conversation does not allow.",
        "Look for a gap before it; without one, the ends of the connection may have been taken for each other.";
    POSTGRES_UNKNOWN_CODE = "postgres_unknown_code", "A code that the protocol does not have",
        "A message carried an authentication kind or a format that is not in the specification.",
        "Look at the versions of client and server.";
    POSTGRES_UNPAIRED = "postgres_unpaired", "Pairing was given up",
        "After missing or unexpected messages no answer can be told to belong to this request.",
        "Look for the gap before it in the same session.";
    REDIS_BAD_LENGTH = "redis_bad_length", "A length that cannot be",
        "The length of a bulk or an aggregate was no number, below zero, or more than the server takes: 512 MiB, 2^31 - 1 elements, 64 KiB of an inline command. Nothing was taken for its content.",
        "Treat as hostile; with a raised `proto-max-bulk-len` larger values are real.";
    REDIS_BAD_VALUE = "redis_bad_value", "A value that is none",
        "A line did not end with CRLF, a number or flag was none, or parts of a streamed value stood where none may.",
        "Treat as hostile, unless bytes are missing beside it.";
    REDIS_BULK_END = "redis_bulk_end", "A bulk that goes on behind its length",
        "The two bytes behind a bulk were not CRLF. Its length is law: what follows was read as the next value, as servers do.",
        "Treat as hostile: it hides a command from a parser that looks for the end of lines.";
    REDIS_TOO_DEEP = "redis_too_deep", "Aggregates within aggregates, too many",
        "A reply was nested deeper than 64 levels. No command replies so.",
        "Treat as hostile: it is made to exhaust a parser.";
    REDIS_TRANSACTION = "redis_transaction", "A transaction that does not fit its replies",
        "The reply to EXEC has another number of elements than commands were queued, or more than are kept.",
        "Look for a gap before it in the same session; what a transaction of that size replied is not kept whole.";
    REDIS_TRUNCATED = "redis_truncated", "A command or reply that ended early",
        "The connection ended before the announced number of arguments, elements or bytes was reached. What came of it is not told.",
        "Usual when one end gives up; compare with the server's log.";
    REDIS_UNKNOWN_TYPE = "redis_unknown_type", "A byte that begins no value",
        "No type of RESP2 or RESP3 begins with this byte. It was counted as unparsed, and reading went on at the next sure value.",
        "Compare with the server's version: a newer protocol may have it. Else treat as hostile.";
    REDIS_UNMATCHED = "redis_unmatched", "Many replies without a command",
        "More replies than are told one by one came without a command that they answer. They are counted in the session's bytes alone.",
        "Look for a gap before it in the same session.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_found() {
        for anomaly in ALL {
            assert_eq!(find(anomaly.code), Some(anomaly), "{}", anomaly.code);
        }
    }
}
