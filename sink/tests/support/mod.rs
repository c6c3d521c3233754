//! A real `custody-sink` in a folder of its own, and a host that talks to it over real sockets.

pub(crate) mod person;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use custody_ledger::segment::{Reader, Record, RecordKind};
use custody_ledger::statement::Signed;
use custody_ledger::tlog::{Awaited, BatchLeaf, Checkpoint, CheckpointReference};
use custody_ledger::wire::{
    self, AppendResponse, ChainRegistration, EnrolRequest, EnrolResponse, ErrorResponse, HeadResponse,
    JoinToken, Refusal,
};
use custody_ledger::{
    BootId, Chain, Draft, Echo, EntryType, HostId, HostKey, Resume, SignedBatch, SignedReceipt, Statement,
};
use custody_tests::process::HeldPort;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) type Trouble = Box<dyn std::error::Error + Send + Sync>;

/// How often is asked whether bodies have expired.
const EXPIRY_LOOKS: usize = 1_200;

/// The program under test.
pub(crate) struct Sink {
    pub(crate) folder: tempfile::TempDir,
    port: HeldPort,
    child: Option<Child>,
}

impl Sink {
    pub(crate) fn start() -> Self {
        Self::start_with("")
    }

    /// With more settings, which begin with a section.
    pub(crate) fn start_with(settings: &str) -> Self {
        let mut sink = Self::prepare(settings);
        sink.spawn();
        sink
    }

    /// Configured, not started.
    pub(crate) fn prepare(settings: &str) -> Self {
        let quick = "group_commit_ms = 5\ncheckpoint_ms = 5\ndisk_reserve_bytes = 0";
        Self::configured(&format!("[store]\n{quick}\n{settings}"))
    }

    /// With these sections and no others.
    pub(crate) fn configured(settings: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let port = HeldPort::take().unwrap();
        let config = format!(
            "listen = \"127.0.0.1:{}\"\nstate_directory = \"{}\"\nlog = \"warn\"\n{settings}\n",
            port.number(),
            folder.path().join("state").display()
        );
        std::fs::write(folder.path().join("sink.toml"), config).unwrap();
        Sink { folder, port, child: None }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// The checkpoint that the folder of the log shows now.
    pub(crate) fn checkpoint(&self) -> CheckpointReference {
        let log = self.state().join("log");
        let key = std::fs::read_to_string(log.join("key.pub")).unwrap();
        let note = std::fs::read_to_string(log.join("checkpoint")).unwrap();
        let key = key.lines().next().unwrap().parse().unwrap();
        Checkpoint::open_text(&note, &key).unwrap().reference()
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_custody-sink"));
        command.arg("--config").arg(self.folder.path().join("sink.toml"));
        command
    }

    /// Starts it and waits until it answers on its port.
    pub(crate) fn spawn(&mut self) {
        let mut command = self.command();
        command.args(["run", "--allow-root"]).stderr(Stdio::inherit());
        self.spawn_as(command);
    }

    /// Starts it by another command, and waits as well.
    pub(crate) fn spawn_as(&mut self, command: Command) {
        self.try_spawn_as(command).unwrap();
    }

    /// Starts it where it may end at once.
    pub(crate) fn try_spawn_as(&mut self, mut command: Command) -> Result<(), String> {
        self.child = Some(command.spawn().unwrap());
        for _ in 0..600 {
            if std::net::TcpStream::connect(("127.0.0.1", self.port())).is_ok() {
                return Ok(());
            }
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                return Err(format!("the sink ended at once: {status}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err("the sink does not answer".to_owned())
    }

    /// Whether it has not ended by itself.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// Asks it to stop, where it may have ended already, or cannot in order.
    pub(crate) fn end(&mut self) {
        let Some(child) = &mut self.child else { return };
        if child.try_wait().unwrap().is_none() {
            let pid = rustix::process::Pid::from_child(child);
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
            for _ in 0..500 {
                if child.try_wait().unwrap().is_some() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        self.kill();
    }

    /// Every record of a stopped sink's segments.
    pub(crate) fn records(&self) -> Vec<Record> {
        let segments = std::fs::read_dir(self.state().join("segments")).unwrap();
        let mut files: Vec<_> = segments.map(|item| item.unwrap().path()).collect();
        files.sort();
        let records = files.iter().flat_map(|path| Reader::open(std::fs::File::open(path).unwrap()).unwrap());
        records.map(Result::unwrap).collect()
    }

    /// What a stopped sink stated.
    pub(crate) fn statements(&self) -> Vec<Statement> {
        let records = self.records().into_iter().filter(|record| record.kind == RecordKind::Statement);
        records.map(|record| Signed::open::<Statement>(&record.payload).unwrap().0).collect()
    }

    /// Of the running program.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// One of its metrics; `None` where nobody answers.
    pub(crate) async fn metric(&self, name: &str) -> Option<u64> {
        let (_, text) = self.request(None, Method::GET, "/metrics", Vec::new()).await.ok()?;
        let text = String::from_utf8(text).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("custody_sink_{name} ")));
        Some(line.unwrap().parse().unwrap())
    }

    /// From its next start on it keeps bodies so long; it was configured with an age.
    pub(crate) fn set_age(&self, age: &str) {
        let file = self.folder.path().join("sink.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let (before, after) = text.split_once("bodies = \"").unwrap();
        let (_, rest) = after.split_once('"').unwrap();
        std::fs::write(file, format!("{before}bodies = \"{age}\"{rest}")).unwrap();
    }

    /// Waits until so many bodies have expired; an error where it ends before, or they stay.
    pub(crate) async fn expired(&mut self, bodies: u64) -> Result<(), String> {
        for _ in 0..EXPIRY_LOOKS {
            if self.metric("bodies_expired").await.is_some_and(|gone| gone >= bodies) {
                return Ok(());
            }
            if !self.is_alive() {
                return Err("the sink has ended".to_owned());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err("bodies do not expire".to_owned())
    }

    /// Asks it to stop in order, and waits.
    pub(crate) fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = child.wait().unwrap();
        assert!(status.success(), "{status}");
    }

    /// Waits until it ends by itself; its exit code and what it said on a captured standard error.
    pub(crate) fn ended(&mut self) -> (Option<i32>, String) {
        let output = self.child.take().unwrap().wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }

    /// Runs it where it is expected to end by itself.
    pub(crate) fn run_to_end(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().unwrap()
    }

    pub(crate) fn token(&self, arguments: &[&str]) -> JoinToken {
        let output = self.command().arg("enroll").args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().parse().unwrap()
    }

    fn roots(&self) -> RootCertStore {
        let pem = std::fs::read(self.state().join("ca.pem")).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
        roots
    }

    pub(crate) async fn request(
        &self,
        client: Option<&Credentials>,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<(u16, Vec<u8>), Trouble> {
        let response = self.open(client, method, path, body).await?;
        let status = response.status().as_u16();
        Ok((status, response.into_body().collect().await?.to_bytes().to_vec()))
    }

    /// A request whose answer is still to be read.
    pub(crate) async fn open(
        &self,
        client: Option<&Credentials>,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Response<Incoming>, Trouble> {
        Ok(self.connect(client).await?.send_request(request(method, path, body)?).await?)
    }

    /// A connection for requests one after the other.
    pub(crate) async fn connect(
        &self,
        client: Option<&Credentials>,
    ) -> Result<SendRequest<Full<Bytes>>, Trouble> {
        let stream = self.stream(client).await?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    /// A connection for bytes.
    pub(crate) async fn stream(&self, client: Option<&Credentials>) -> Result<TlsStream<TcpStream>, Trouble> {
        let builder = ClientConfig::builder().with_root_certificates(self.roots());
        let tls = match client {
            None => builder.with_no_client_auth(),
            Some(client) => {
                builder.with_client_auth_cert(vec![client.certificate.clone()], client.key.clone_key())?
            }
        };
        let stream = TcpStream::connect(("127.0.0.1", self.port())).await?;
        let name = ServerName::try_from("localhost")?;
        Ok(TlsConnector::from(Arc::new(tls)).connect(name, stream).await?)
    }

    pub(crate) async fn enrol_with(&self, token: &JoinToken) -> Result<Host, Refusal> {
        self.try_enrol_with(token).await.unwrap()
    }

    /// The outer error: nobody answered, or not in our words.
    pub(crate) async fn try_enrol_with(&self, token: &JoinToken) -> Result<Result<Host, Refusal>, Trouble> {
        let pair = KeyPair::generate().unwrap();
        let csr = CertificateParams::default().serialize_request(&pair).unwrap().der().to_vec();
        let (key, _) = HostKey::generate().unwrap();
        let chain = Some(ChainRegistration { key: key.public(), proof: key.prove_enrolment(&csr) });
        let request = EnrolRequest {
            secret: token.secret.to_vec(),
            certificate_request: csr,
            name: Some("web-1\u{1b}[2J".to_owned()),
            chain,
        };
        let body = wire::encode(&request).unwrap();
        let (status, body) = self.request(None, Method::POST, wire::ENROL_PATH, body).await?;
        if status != 200 {
            return Ok(Err(wire::decode::<ErrorResponse>(&body)?.refusal));
        }
        let answer: EnrolResponse = wire::decode(&body)?;
        let certificate = CertificateDer::from_pem_slice(answer.certificate.as_bytes()).unwrap();
        let tls_key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pair.serialize_der()));
        Ok(Ok(Host {
            id: answer.host.unwrap_or(HostId::from_bytes([0; 16])),
            identity: answer.identity,
            sink: answer.sink,
            key,
            credentials: Credentials { certificate, key: tls_key },
        }))
    }

    /// A certificate that this sink's authority signs for whatever name: what an older or a newer sink may have given, or
    /// somebody who has its key.
    pub(crate) fn forge(&self, uri: &str) -> Credentials {
        let [ca, key] = ["ca.pem", "ca.key"].map(|name| std::fs::read(self.state().join(name)).unwrap());
        let ca = CertificateDer::from_pem_slice(&ca).unwrap();
        let issuer = KeyPair::from_pem(std::str::from_utf8(&key).unwrap()).unwrap();
        let issuer = rcgen::Issuer::from_ca_cert_der(&ca, issuer).unwrap();
        let pair = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![rcgen::SanType::URI(uri.try_into().unwrap())];
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&pair, &issuer).unwrap().der().clone();
        Credentials { certificate, key: PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pair.serialize_der())) }
    }

    pub(crate) async fn enrol(&self) -> Host {
        self.enrol_with(&self.token(&["--host"])).await.unwrap()
    }

    pub(crate) async fn append(&self, host: &Host, batches: &[&SignedBatch]) -> AppendResponse {
        self.try_append(host, host.id, batches).await.unwrap()
    }

    pub(crate) async fn try_append(
        &self,
        host: &Host,
        to: HostId,
        batches: &[&SignedBatch],
    ) -> Result<AppendResponse, Trouble> {
        let mut body = Vec::new();
        batches.iter().for_each(|batch| wire::put_frame(&mut body, &batch.frame));
        let path = wire::batches_path(to);
        let (_, answer) = self.request(Some(&host.credentials), Method::POST, &path, body).await?;
        Ok(wire::decode(&answer)?)
    }

    /// Appends, and gives what the host then waits for.
    pub(crate) async fn store(&self, host: &Host, batches: &[&SignedBatch]) -> Vec<Awaited> {
        let answer = self.append(host, batches).await;
        assert_eq!(answer.refusal, None);
        let awaited = |(batch, receipt): (&&SignedBatch, &SignedReceipt)| {
            let received = receipt.verify(&host.sink).unwrap().received_ns;
            let leaf = BatchLeaf::of_frame(&batch.frame, received).unwrap().hash();
            Awaited { batch: batch.position, leaf }
        };
        batches.iter().zip(&answer.receipts).map(awaited).collect()
    }

    /// Exit code of `custody verify` over its store, and what it said.
    pub(crate) fn verify(&self) -> (Option<i32>, String) {
        let mut command = Command::new(custody_tests::stand::built("custody"));
        command.args(["verify", "--from"]).arg(self.state());
        let output = command.env("CUSTODY_HOME", self.folder.path().join("nobody")).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }

    pub(crate) async fn head(&self, host: &Host) -> HeadResponse {
        let path = wire::head_path(host.id);
        let (_, answer) =
            self.request(Some(&host.credentials), Method::GET, &path, Vec::new()).await.unwrap();
        wire::decode(&answer).unwrap()
    }
}

/// A request to a sink.
pub(crate) fn request(method: Method, path: &str, body: Vec<u8>) -> Result<Request<Full<Bytes>>, Trouble> {
    Ok(Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .body(Full::new(Bytes::from(body)))?)
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) struct Credentials {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key: PrivateKeyDer<'static>,
}

/// An enrolled host.
pub(crate) struct Host {
    pub(crate) id: HostId,
    pub(crate) identity: String,
    pub(crate) sink: custody_ledger::PublicKey,
    pub(crate) key: HostKey,
    pub(crate) credentials: Credentials,
}

impl Host {
    pub(crate) fn epoch(&self, counter: u64, resume: Option<Resume>) -> Chain {
        Chain::start(&self.key, self.id, BootId([1; 16]), counter, resume).unwrap()
    }
}

/// The next batch of a chain, with one entry.
pub(crate) fn batch(chain: &mut Chain, body: &str) -> SignedBatch {
    batch_of(chain, body.as_bytes())
}

pub(crate) fn batch_of(chain: &mut Chain, body: &[u8]) -> SignedBatch {
    let draft = Draft {
        entry_type: EntryType::Exchange,
        first_ns: 1,
        last_ns: 2,
        wall_ns: 3,
        session: None,
        body,
        sealed: None,
    };
    chain.append(&draft).unwrap();
    chain.close_batch(BTreeMap::new(), Echo::default()).unwrap()
}
