//! The field names of `custody/1`, frozen. Taken from OpenTelemetry's semantic conventions where those have
//! the thing; later renames there are mapped in exporters only.

macro_rules! names {
    ($($(#[doc = $doc:literal])+ $constant:ident = $name:literal;)+) => {
        $($(#[doc = $doc])+ pub const $constant: &str = $name;)+
        /// Every name with what it says.
        pub const ALL: &[(&str, &str)] = &[$(($name, concat!($($doc),+))),+];
    };
}

names! {
    /// Process id in the host's pid namespace.
    PROCESS_PID = "process.pid";
    /// Start of the process, boottime ns; pid and start together name it for ever.
    PROCESS_START = "process.start_ns";
    /// Path of the executable.
    PROCESS_EXECUTABLE = "process.executable.path";
    /// Arguments, masked.
    PROCESS_ARGS = "process.command_args";
    /// Working directory.
    PROCESS_CWD = "process.working_directory";
    /// Pid of the parent.
    PROCESS_PARENT_PID = "process.parent_pid";
    /// Exit status as wait(2) tells it.
    PROCESS_EXIT_STATUS = "process.exit.status";
    /// Real user id.
    USER_ID = "user.id";
    /// Name of that user at that time.
    USER_NAME = "user.name";
    /// Control group.
    CGROUP = "process.linux.cgroup";
    /// Systemd unit, read off the control group.
    SERVICE_NAME = "service.name";
    /// Container, read off the control group.
    CONTAINER_ID = "container.id";
    /// Login uid of the audit subsystem.
    LOGIN_UID = "custody.login.uid";
    /// Name of the login uid.
    LOGIN_USER = "custody.login.user";
    /// Audit session.
    LOGIN_AUDIT_SESSION = "custody.login.audit_session";
    /// Controlling terminal.
    LOGIN_TTY = "custody.login.tty";
    /// Address of the end that connected.
    CLIENT_ADDRESS = "client.address";
    /// Its port.
    CLIENT_PORT = "client.port";
    /// Address of the end that accepted.
    SERVER_ADDRESS = "server.address";
    /// Its port.
    SERVER_PORT = "server.port";
    /// `tcp`, `udp` or `unix`.
    NETWORK_TRANSPORT = "network.transport";
    /// The decoder that read it, or `unknown`.
    PROTOCOL_NAME = "network.protocol.name";
    /// What the first bytes of an unknown protocol look like, in one word: `tls`, `ssh`, `binary`, …
    PROTOCOL_LOOKS_LIKE = "custody.protocol.looks_like";
    /// What the connection left its protocol for, in that protocol's word: `websocket`, `h2c`; `tunnel` behind a
    /// `CONNECT`.
    PROTOCOL_UPGRADED = "custody.protocol.upgraded";
    /// The connection was there before the agent: its beginning is not known.
    SESSION_EXISTING = "custody.session.existing";
    /// Version of that protocol.
    PROTOCOL_VERSION = "network.protocol.version";
    /// `postgresql`, …
    DB_SYSTEM = "db.system.name";
    /// Database that was connected to.
    DB_NAMESPACE = "db.namespace";
    /// User that the database knows.
    DB_USER = "db.user";
    /// Statement, its literals masked.
    DB_QUERY_TEXT = "db.query.text";
    /// First words of the statement.
    DB_QUERY_SUMMARY = "db.query.summary";
    /// Bound parameter N follows, from 1.
    DB_QUERY_PARAMETER = "db.query.parameter.";
    /// Numbers, from 1, of the bound parameters that are NULL: those have no value of their own.
    DB_NULL_PARAMETERS = "db.query.null_parameters";
    /// Name of the prepared statement.
    DB_STATEMENT_NAME = "db.postgresql.statement";
    /// Name of the portal.
    DB_PORTAL_NAME = "db.postgresql.portal";
    /// SQLSTATE or the like.
    DB_RESPONSE_STATUS = "db.response.status_code";
    /// Rows that the server says it returned or changed.
    DB_RETURNED_ROWS = "db.response.returned_rows";
    /// Command tag of the answer.
    DB_COMMAND_TAG = "db.postgresql.command_tag";
    /// Columns of the answer.
    DB_COLUMNS = "db.response.columns";
    /// Rows of the answer, masked, up to the limit.
    DB_ROWS = "db.response.rows";
    /// Message of an error.
    ERROR_MESSAGE = "error.message";
    /// Class of an error.
    ERROR_TYPE = "error.type";
    /// Name of the client program as it told.
    DB_APPLICATION = "db.client.application";
    /// Rows of the answer that came and are not kept, over the limit.
    DB_ROWS_CUT = "db.response.rows_cut";
    /// Message of the protocol that asked: `Query`, `Execute`, `StartupMessage`, …
    DB_MESSAGE = "db.postgresql.message";
    /// Results of one request in their order, each by its command tag.
    DB_RESULTS = "db.postgresql.results";
    /// State of the transaction afterwards: `idle`, `in_transaction`, `failed_transaction`.
    DB_TRANSACTION_STATUS = "db.postgresql.transaction_status";
    /// The request was never run: an earlier one of its batch failed.
    DB_SKIPPED = "db.postgresql.skipped";
    /// Process id of the server's backend.
    DB_BACKEND_PID = "db.postgresql.backend_pid";
    /// Version that the server tells.
    DB_SERVER_VERSION = "db.postgresql.server_version";
    /// How the client proved who it is: `trust`, `cleartext`, `md5`, `SCRAM-SHA-256`, `gss`, `sspi`, …
    DB_AUTHENTICATION = "db.postgresql.authentication";
    /// What the client proved it with: a credential, never kept.
    DB_CREDENTIAL = "db.postgresql.credential";
    /// Answer to the client's wish for encryption: `ssl_accepted`, `ssl_refused`, `gss_accepted`, `gss_refused`.
    DB_ENCRYPTION = "db.postgresql.encryption";
    /// Replication mode of the connection: `physical` or `logical`.
    DB_REPLICATION = "db.postgresql.replication";
    /// Messages of replication inside of a COPY, by their NAME: `xlog_data`, `keepalive`, `standby_status`, …
    DB_REPLICATION_MESSAGES = "db.postgresql.replication.messages.";
    /// Options of the start-up that the server does not know.
    DB_OPTIONS_REFUSED = "db.postgresql.options_refused";
    /// Start-up parameter NAME follows.
    DB_STARTUP_PARAMETER = "db.postgresql.startup.";
    /// Direction of a COPY: `in`, `out`, `both`.
    DB_COPY_DIRECTION = "db.postgresql.copy.direction";
    /// Messages of data in a COPY; one row each in text and CSV formats.
    DB_COPY_MESSAGES = "db.postgresql.copy.messages";
    /// Bytes of data in a COPY.
    DB_COPY_BYTES = "db.postgresql.copy.bytes";
    /// Data of a COPY, masked, up to the limit.
    DB_COPY_DATA = "db.postgresql.copy.data";
    /// Why the client gave a COPY up.
    DB_COPY_FAILURE = "db.postgresql.copy.failure";
    /// Why a statement was cancelled, where the server says it: `user_request`, `statement_timeout`,
    /// `authentication_timeout`, or `copy_fail` when the client gave its COPY up.
    DB_CANCEL_CAUSE = "db.postgresql.cancel_cause";
    /// Session whose statement a cancel request is to end, by its number in the same epoch; absent when it was not seen.
    DB_CANCELS_SESSION = "db.postgresql.cancels_session";
    /// Session that carried the cancel request for this one, by its number in the same epoch.
    DB_CANCELLED_BY_SESSION = "db.postgresql.cancelled_by_session";
    /// Severity of an error or notice.
    DB_SEVERITY = "db.postgresql.severity";
    /// Field NAME of an error follows.
    DB_ERROR_FIELD = "db.postgresql.error.";
    /// Notice N of the answer follows, from 1, with its field's name.
    DB_NOTICE = "db.postgresql.notice.";
    /// Notices of the answer.
    DB_NOTICES = "db.postgresql.notices";
    /// Process id of the server's process that sent a notification.
    DB_NOTIFICATION_PID = "db.postgresql.notification.backend_pid";
    /// Channel of a notification.
    DB_NOTIFICATION_CHANNEL = "db.postgresql.notification.channel";
    /// Payload of a notification.
    DB_NOTIFICATION_PAYLOAD = "db.postgresql.notification.payload";
    /// Object id of a function that was called.
    DB_FUNCTION = "db.postgresql.function";
    /// What the function returned.
    DB_FUNCTION_RESULT = "db.postgresql.function_result";
    /// Name of the command or operation, as the client wrote it.
    DB_OPERATION = "db.operation.name";
    /// Commands that one transaction ran.
    DB_BATCH_SIZE = "db.operation.batch.size";
    /// Function or script that was called, by its name or hash.
    DB_STORED_PROCEDURE = "db.stored_procedure.name";
    /// Type of a reply: `string`, `error`, `integer`, `bulk`, `array`, `null`, `map`, …
    REDIS_REPLY_TYPE = "db.redis.reply_type";
    /// What a reply holds.
    REDIS_REPLY = "db.redis.reply";
    /// Value of the field NAME, or of the key number N, of a reply follows.
    REDIS_REPLY_VALUE = "db.redis.reply.";
    /// What the server says beside a reply.
    REDIS_ATTRIBUTES = "db.redis.attributes";
    /// Text of a script.
    REDIS_SCRIPT = "db.redis.script";
    /// Arguments of a command that are not kept, over the limit.
    REDIS_ARGUMENTS_CUT = "db.redis.arguments_cut";
    /// What was no command with its reply: `message`, `push`, `monitor`, `replication`, `snapshot`, `malformed`, …
    REDIS_MESSAGE = "db.redis.message";
    /// Channel of a message.
    REDIS_CHANNEL = "db.redis.channel";
    /// Pattern that a channel met.
    REDIS_PATTERN = "db.redis.pattern";
    /// Why the server does not reply: `off`, `skip`, `replication`.
    REDIS_NO_REPLY = "db.redis.no_reply";
    /// The command ran as part of a transaction.
    REDIS_QUEUED = "db.redis.queued";
    /// Bytes of a snapshot.
    REDIS_SNAPSHOT_BYTES = "db.redis.snapshot_bytes";
    /// Method.
    HTTP_METHOD = "http.request.method";
    /// Status.
    HTTP_STATUS = "http.response.status_code";
    /// Request header NAME follows.
    HTTP_REQUEST_HEADER = "http.request.header.";
    /// Response header NAME follows.
    HTTP_RESPONSE_HEADER = "http.response.header.";
    /// Bytes of the request's body, decoded from its transfer coding.
    HTTP_REQUEST_SIZE = "http.request.body.size";
    /// Bytes of the answer's body, decoded from its transfer coding.
    HTTP_RESPONSE_SIZE = "http.response.body.size";
    /// Content codings of the request's body that were taken off: `gzip`, `br, gzip`, …
    HTTP_REQUEST_CODING = "http.request.body.coding";
    /// Content codings of the answer's body that were taken off.
    HTTP_RESPONSE_CODING = "http.response.body.coding";
    /// Bytes that the request's body had without its codings, as far as they were decoded.
    HTTP_REQUEST_DECODED_SIZE = "http.request.body.decoded_size";
    /// Bytes that the answer's body had without its codings, as far as they were decoded.
    HTTP_RESPONSE_DECODED_SIZE = "http.response.body.decoded_size";
    /// Form field NAME of the request follows, decoded and masked.
    HTTP_REQUEST_FORM = "http.request.form.";
    /// Fields and files of the form, those over the limit too.
    HTTP_REQUEST_FORM_COUNT = "http.request.form_fields";
    /// Name of the file that was sent in form field NAME; its content is never kept.
    HTTP_REQUEST_FILE = "http.request.file.";
    /// Media type of the file in form field NAME, as the client says.
    HTTP_REQUEST_FILE_TYPE = "http.request.file_type.";
    /// Bytes of the file in form field NAME.
    HTTP_REQUEST_FILE_SIZE = "http.request.file_size.";
    /// Interim answers before the final one, by their status.
    HTTP_INTERIM = "http.response.interim";
    /// Body of the request, masked, up to the limit.
    HTTP_REQUEST_BODY = "http.request.body.content";
    /// Body of the answer, masked, up to the limit.
    HTTP_RESPONSE_BODY = "http.response.body.content";
    /// Scheme and authority of a target in absolute form.
    URL_ORIGIN = "url.origin";
    /// Path; of CONNECT the authority.
    URL_PATH = "url.path";
    /// Query, its values masked.
    URL_QUERY = "url.query";
    /// Trace that the request belongs to.
    TRACE_ID = "trace_id";
    /// Span that sent the request.
    SPAN_ID = "span_id";
    /// Which end of a connection on this host was read.
    SIDE = "custody.side";
    /// How plaintext was bound to its socket: `fd`, `bio`, `nested`, `unknown`.
    BINDING = "custody.binding";
    /// `ok`, `error`, `reset`, `no_response`, `cancelled`, `denied`, `held`.
    OUTCOME = "custody.outcome";
    /// Which end broke the connection off by a reset: `client` or `server`.
    RESET_BY = "custody.reset.by";
    /// From the first byte of the request to the last of the answer.
    DURATION = "custody.duration_ns";
    /// Bytes from client to server.
    BYTES_UP = "custody.bytes.up";
    /// Bytes from server to client.
    BYTES_DOWN = "custody.bytes.down";
    /// Bytes that were wanted and are gone.
    BYTES_LOST = "custody.bytes.lost";
    /// Bytes over a limit.
    BYTES_CUT = "custody.bytes.cut";
    /// Bytes left out by policy.
    BYTES_SKIPPED = "custody.bytes.skipped";
    /// Bytes that the decoder could not make sense of.
    BYTES_UNPARSED = "custody.bytes.unparsed";
    /// Bytes behind the place where the connection left its protocol for one that nobody decodes.
    BYTES_OPAQUE = "custody.bytes.opaque";
    /// How much was told, where that is less than `statement`: `summary`, `counts`; in entries of the type `level` and
    /// `config`, the level from then on.
    LEVEL = "custody.level";
    /// The level until then.
    LEVEL_BEFORE = "custody.level.before";
    /// Why the level changed: `spool_fills` or `spool_drains`.
    LEVEL_CAUSE = "custody.level.cause";
    /// Exchanges of the session that ended while the level left their records out.
    LEVEL_EXCHANGES = "custody.level.exchanges";
    /// Bytes that the level left out: of values in an exchange, of whole exchanges at the end of a session.
    LEVEL_BYTES = "custody.level.bytes";
    /// Why something is missing.
    GAP_CAUSE = "custody.gap.cause";
    /// Events that are missing.
    GAP_EVENTS = "custody.gap.events";
    /// `tls` when the session's plaintext came from a TLS library.
    TLS = "custody.tls";
    /// Version of TLS that the server chose: `1.2`, `1.3`, …
    TLS_VERSION = "tls.protocol.version";
    /// The newest version that the client offers, where no server's choice was seen.
    TLS_OFFERED_VERSION = "custody.tls.offered.version";
    /// Name of the server that the client asked for, as it stands in the clear (with encrypted client hello: that of
    /// the provider).
    TLS_SERVER_NAME = "tls.client.server_name";
    /// Protocols that the client offers to speak inside (ALPN), by comma.
    TLS_OFFERED_PROTOCOLS = "custody.tls.offered.protocols";
    /// The one that the server chose, where it says so in the clear (up to TLS 1.2).
    TLS_NEXT_PROTOCOL = "tls.next_protocol";
    /// `offered` when the client sends data before the handshake is done (0-RTT, RFC 8446 2.3).
    TLS_EARLY_DATA = "custody.tls.early_data";
    /// What a program speaks TLS with, as far as it can be told from outside.
    TLS_LIBRARY = "custody.tls.library";
    /// Connections of a program whose TLS was not read.
    TLS_UNREAD_CONNECTIONS = "custody.tls.unread.connections";
    /// The other end's process, when it is on this host: pid.
    PEER_PID = "custody.peer.pid";
    /// The other end's executable.
    PEER_EXECUTABLE = "custody.peer.executable.path";
    /// Version of the agent.
    AGENT_VERSION = "custody.agent.version";
    /// Release of the kernel that it runs on.
    AGENT_KERNEL = "custody.agent.kernel";
    /// SHA-256 of the configuration in force.
    AGENT_CONFIG_HASH = "custody.agent.config";
    /// SHA-256 of the masking rules in force.
    AGENT_MASK_HASH = "custody.agent.masks";
    /// SHA-256 of the kernel object that was loaded.
    AGENT_OBJECT_HASH = "custody.agent.object";
    /// What became of the configuration: `loaded`, `reloaded`, `reloaded_in_part` (the rest waits for the next start), or
    /// `refused` (the last good one stays).
    AGENT_CONFIG_STATE = "custody.agent.config.state";
    /// The version that the configuration in force names.
    AGENT_CONFIG_VERSION = "custody.agent.config.version";
    /// SHA-256 of the file that was refused, byte for byte.
    AGENT_CONFIG_REFUSED = "custody.agent.config.refused";
    /// SHA-256 of the agent's own program, as it runs.
    AGENT_PROGRAM_HASH = "custody.agent.program";
    /// The programs that run in the kernel, each as `name:tag`; the kernel makes the tag of a program's instructions.
    AGENT_KERNEL_PROGRAMS = "custody.agent.kernel.programs";
    /// The key that certifies the host's epochs from this start on.
    AGENT_HOST_KEY = "custody.agent.host_key";
    /// How many keys came before it, from the enrolled one on.
    AGENT_HOST_KEY_ROTATIONS = "custody.agent.host_key.rotations";
    /// SHA-256 of the certificate that the host shows to its sink from now on.
    AGENT_CERTIFICATE = "custody.agent.certificate";
    /// What does not hold of the sink's log, as this host sees it.
    AGENT_LOG_ALARM = "custody.agent.log.alarm";
    /// Bytes of the spool on disk.
    AGENT_SPOOL_BYTES = "custody.agent.spool.bytes";
    /// Bytes that the spool could have then: what it may, or what the disk has, whichever is less.
    AGENT_SPOOL_LIMIT = "custody.agent.spool.limit";
    /// How often the worker was replaced since the agent's start.
    AGENT_WORKER_RESTARTS = "custody.agent.worker.restarts";
}
