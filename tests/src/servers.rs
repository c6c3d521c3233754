//! Real servers, each with its own folder, ports and logs, so that the record can be compared with what the
//! server itself wrote.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::postgres_log::{self, Logged};
use crate::process::{Running, free_port, output};

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Makes a self-signed certificate for `localhost`; returns certificate and key.
pub fn certificate(folder: &Path) -> Result<(PathBuf, PathBuf)> {
    let (certificate, key) = (folder.join("server.crt"), folder.join("server.key"));
    output(
        Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "2",
            ])
            .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate),
    )?;
    Ok((certificate, key))
}

/// nginx with a plain and a TLS port and an access log in JSON.
#[derive(Debug)]
pub struct Nginx {
    /// Plain HTTP.
    pub http_port: u16,
    /// HTTP over TLS.
    pub https_port: u16,
    /// Certificate that clients are to trust.
    pub certificate: PathBuf,
    folder: PathBuf,
    /// Ends with this value.
    running: Running,
}

impl Nginx {
    /// Starts it in `folder`, with `pages` (path without slash, content) as files.
    pub fn start(folder: &Path, pages: &[(&str, &str)]) -> Result<Nginx> {
        let root = folder.join("pages");
        std::fs::create_dir_all(&root)?;
        for (name, content) in pages {
            std::fs::write(root.join(name), content)?;
        }
        let (certificate, key) = certificate(folder)?;
        let (http_port, https_port) = (free_port()?, free_port()?);
        let configuration = format!(
            r#"daemon off; worker_processes 1; user root; pid {f}/nginx.pid; error_log {f}/error.log warn;
events {{ worker_connections 512; }}
http {{
  log_format json escape=json '{{"method":"$request_method","uri":"$request_uri","status":$status,"bytes":$body_bytes_sent,"length":$request_length,"tls":"$ssl_protocol","agent":"$http_user_agent","request":"$http_x_request"}}';
  access_log {f}/access.log json;
  client_body_temp_path {f}/body; proxy_temp_path {f}/proxy; fastcgi_temp_path {f}/fastcgi;
  uwsgi_temp_path {f}/uwsgi; scgi_temp_path {f}/scgi;
  keepalive_requests 1000000; sendfile off;
  server {{
    listen 127.0.0.1:{http_port}; listen 127.0.0.1:{https_port} ssl;
    ssl_certificate {c}; ssl_certificate_key {k};
    root {r}; default_type application/json;
    location /kernel/ {{ alias {r}/; sendfile on; default_type text/plain; }}
    location /echo {{ return 200 '{{"ok":true}}\n'; }}
    location /upload {{ proxy_pass http://127.0.0.1:{http_port}/echo; }}
    location /cookie {{ add_header Set-Cookie "copy=$cookie_session"; return 204; }}
    location /missing {{ return 404 'nothing here\n'; }}
    location /broken {{ return 503; }}
  }}
}}
"#,
            f = folder.display(),
            r = root.display(),
            c = certificate.display(),
            k = key.display(),
        );
        let file = folder.join("nginx.conf");
        std::fs::write(&file, configuration)?;
        let file = file.to_str().context("folder is not UTF-8")?;
        let command = ["nginx", "-e", "stderr", "-c", file];
        let mut running = Running::start("nginx", &command, None, &folder.join("nginx.log"), Signal::TERM)?;
        running.wait_ready(PATIENCE, || std::net::TcpStream::connect(("127.0.0.1", https_port)).is_ok())?;
        Ok(Nginx { http_port, https_port, certificate, folder: folder.to_owned(), running })
    }

    /// Address of a path without its slash, plain.
    pub fn http(&self, path: &str) -> String {
        format!("http://localhost:{}/{path}", self.http_port)
    }

    /// The same over TLS.
    pub fn https(&self, path: &str) -> String {
        format!("https://localhost:{}/{path}", self.https_port)
    }

    /// The access log, a JSON object a request.
    pub fn access_log(&self) -> Result<Vec<serde_json::Value>> {
        let text = std::fs::read_to_string(self.folder.join("access.log"))?;
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// Process id of the first process; the others are its children.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Ends it.
    pub fn stop(self) -> Result<()> {
        self.running.stop(PATIENCE).map(drop)
    }
}

/// A PostgreSQL cluster of its own, with TLS, password login and a statement log in CSV.
#[derive(Debug)]
pub struct Postgres {
    /// TCP port.
    pub port: u16,
    folder: PathBuf,
    binaries: PathBuf,
    /// Ends with this value.
    running: Running,
}

/// Password of the user `postgres` in every cluster that [`Postgres::start`] makes.
pub const PASSWORD: &str = "correct-horse-battery";

impl Postgres {
    /// Makes a cluster in `folder` and starts it as the system user `postgres`.
    pub fn start(folder: &Path) -> Result<Postgres> {
        Postgres::start_of(folder, &binaries()?)
    }

    /// The same with the server's programs in `programs`; clients stay those of the system.
    pub fn start_of(folder: &Path, programs: &Path) -> Result<Postgres> {
        let binaries = binaries()?;
        output(Command::new("chown").arg("postgres:postgres").arg(folder))?;
        let password = folder.join("password");
        std::fs::write(&password, PASSWORD)?;
        output(Command::new("chown").arg("postgres:postgres").arg(&password))?;
        let data = folder.join("data");
        output(
            Command::new("setpriv")
                .args(["--reuid", "postgres", "--regid", "postgres", "--init-groups", "--"])
                .arg(programs.join("initdb"))
                .args(["--username=postgres", "--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync"])
                .args(["--encoding=UTF8", "--locale=C"])
                .arg(format!("--pwfile={}", password.display()))
                .arg(format!("--pgdata={}", data.display())),
        )?;
        let (certificate, key) = certificate(folder)?;
        output(Command::new("chown").arg("postgres:postgres").args([&certificate, &key]))?;
        let port = free_port()?;
        let server = programs.join("postgres");
        let settings = [
            format!("port={port}"),
            "listen_addresses=127.0.0.1".into(),
            format!("unix_socket_directories={}", folder.display()),
            "ssl=on".into(),
            format!("ssl_cert_file={}", certificate.display()),
            format!("ssl_key_file={}", key.display()),
            "fsync=off".into(),
            "log_destination=csvlog".into(),
            "logging_collector=on".into(),
            format!("log_directory={}", folder.display()),
            "log_filename=statements.log".into(),
            "log_statement=all".into(),
            "log_duration=off".into(),
            "log_parameter_max_length_on_error=-1".into(),
            "timezone=UTC".into(),
            "max_connections=100".into(),
        ];
        let data = data.display().to_string();
        let server = server.display().to_string();
        let mut command = vec![server.as_str(), "-D", &data];
        for setting in &settings {
            command.extend(["-c", setting]);
        }
        let log = folder.join("postgres.log");
        let mut running = Running::start("postgres", &command, Some("postgres"), &log, Signal::INT)?;
        let ready = binaries.join("pg_isready");
        running.wait_ready(PATIENCE, || {
            let mut probe = Command::new(&ready);
            probe.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]);
            probe.status().is_ok_and(|status| status.success())
        })?;
        Ok(Postgres { port, folder: folder.to_owned(), binaries, running })
    }

    /// A psql command on this cluster over TCP, plain or TLS, that reads no personal files.
    pub fn psql(&self, tls: bool) -> Command {
        let mut command = Command::new(self.binaries.join("psql"));
        self.address(&mut command, tls);
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=0"]);
        command
    }

    /// Another of PostgreSQL's programs (`pgbench`), set to this cluster.
    pub fn program(&self, name: &str, tls: bool) -> Command {
        let mut command = Command::new(self.binaries.join(name));
        self.address(&mut command, tls);
        command
    }

    /// Sets a client of libpq to this cluster, over TCP, plain or TLS.
    pub fn address<'c>(&self, command: &'c mut Command, tls: bool) -> &'c mut Command {
        command
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", "postgres")
            .env("PGPASSWORD", PASSWORD)
            .env("PGDATABASE", "postgres")
            .env("PGSSLMODE", if tls { "require" } else { "disable" })
            .env("PGGSSENCMODE", "disable")
    }

    /// Where it keeps its data and log; clients may put their scripts there.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The server's own CSV log.
    pub fn csv_log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.folder.join("statements.csv"))?)
    }

    /// What one backend logged of its statements, in order; each connection has a backend of its own.
    pub fn statements(&self, backend: u64) -> Result<Vec<Logged>> {
        let mut logged = postgres_log::statements(&self.csv_log()?)?;
        logged.retain(|one| one.backend == backend);
        Ok(logged)
    }

    /// Process id of the first process; the others are its children.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Ends it.
    pub fn stop(self) -> Result<()> {
        self.running.stop(PATIENCE).map(drop)
    }
}

/// Where the newest installed PostgreSQL keeps its programs; Debian puts them outside `PATH`.
fn binaries() -> Result<PathBuf> {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .context("PostgreSQL is not installed: apt-get install postgresql")?
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|path| path.join("initdb").exists())
        .collect();
    versions.sort();
    versions.pop().context("PostgreSQL's server programs are not installed: apt-get install postgresql")
}
