//! `custody export`: a session or a range as a bundle, from the sink or from a copy of its store, and the policy that it
//! is checked with. What was got is checked before it gets its name.

use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use custody_ledger::bundle::{self, BUNDLE_BYTES_MAX, Report, VerifyError, WriteError};
use custody_ledger::tlog::checkpoint::CertifiedLogKey;
use custody_ledger::tlog::{Policy, Witnesses};
use custody_ledger::{PublicKey, Seq};
use custody_record::text::count;
use custody_record::view::SessionPage;
use custody_record::{Id, SessionId, SessionPrefix};

use super::{path, sink};
use crate::args::{ExportArgs, Traffic};
use crate::client::Client;
use crate::folder::Folder;
use crate::log_folder::{self, LogFolder};
use crate::outcome::{Exit, Failure, Outcome};
use crate::output::now;
use crate::progress::{Progress, Told};
use crate::select::Window;

mod from_folder;

/// What to export.
enum Wanted {
    Session(SessionPrefix),
    Entries { host: String, epoch: u64, first: Seq, last: Seq },
    Time { host: String, window: Window },
}

impl Wanted {
    /// Whether the bundle is of it. Which batches came in a while is the sink's to say.
    fn is(&self, report: &Report) -> bool {
        match self {
            Wanted::Session(prefix) => session_of(report).is_some_and(|id| prefix.matches(&id)),
            Wanted::Entries { epoch, first, last, .. } => {
                (report.first.order(), report.last.order()) == ((*epoch, *first), (*epoch, *last))
            }
            Wanted::Time { .. } => true,
        }
    }
}

/// The id of the session that a bundle was made for.
pub(crate) fn session_of(report: &Report) -> Option<SessionId> {
    let epoch = report.first.epoch;
    let seq = report.session?.seq.0;
    Some(SessionId::of(report.host.as_bytes(), epoch.counter, epoch.nonce.as_bytes(), seq))
}

pub(crate) async fn run(arguments: &ExportArgs) -> Outcome {
    let wanted = wanted(arguments)?;
    let (policy, output) = (arguments.policy_out.as_deref(), arguments.output.as_deref());
    for file in policy.iter().chain(&output) {
        if file.exists() {
            return Err(Failure::usage(anyhow!("{} is there already: choose another name", file.display())));
        }
    }
    match &arguments.from {
        None => {
            let (client, profile) = sink()?;
            let key =
                profile.sink_key.parse().context("the profile is damaged: run `custody login TOKEN` again");
            let keys = keys_of(&client, key.map_err(Failure::usage)?).await?;
            put_policy(policy, &keys)?;
            let (Some(wanted), Some(output)) = (wanted, output) else { return Ok(Exit::Ok) };
            let path = path_of(&client, &wanted, arguments.whole).await?;
            let draft = Draft::create(output)?;
            download(&client, &path, &draft).await?;
            finish(draft, &keys, &wanted)
        }
        Some(directory) => {
            let expected = super::verify::expected_key(arguments.sink_key.as_deref())?;
            let folder = Folder::open(directory).map_err(Failure::usage)?;
            let log = LogFolder::find(directory).map_err(Failure::usage)?;
            let store = from_folder::Store::open(&folder, &log, expected)?;
            put_policy(policy, &store.policy)?;
            let (Some(wanted), Some(output)) = (wanted, output) else { return Ok(Exit::Ok) };
            let draft = Draft::create(output)?;
            store.write(&wanted, arguments.whole, BufWriter::new(&draft.file))?;
            finish(draft, &store.policy, &wanted)
        }
    }
}

fn wanted(arguments: &ExportArgs) -> Result<Option<Wanted>, Failure> {
    if let Some(host) = &arguments.host {
        let (since, until) = (arguments.since.clone(), arguments.until.clone());
        let window = Window::of(&Traffic { since, until, ..Traffic::default() }, now())?;
        return Ok(Some(Wanted::Time { host: host.clone(), window }));
    }
    arguments.what.as_deref().map(parse).transpose().map_err(Failure::usage)
}

/// A session, or host/epoch/first-last. Names of hosts may hold a minus, sequences do not.
fn parse(text: &str) -> anyhow::Result<Wanted> {
    let (citation, last) =
        match text.rsplit_once('/').and_then(|(before, seqs)| Some((before, seqs.split_once('-')?))) {
            Some((before, (first, last))) => (format!("{before}/{first}"), Some(last)),
            None => (text.to_owned(), None),
        };
    match citation.parse()? {
        Id::Session(prefix) => Ok(Wanted::Session(prefix)),
        Id::Exchange(prefix, _) => {
            bail!("a bundle is of a whole session: custody export {} -o FILE", prefix.as_str())
        }
        Id::Entry(citation) => {
            let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
            let last = match last {
                None => citation.seq,
                Some(last) => {
                    last.parse().ok().filter(|_| digits(last)).context("a range is host/epoch/first-last")?
                }
            };
            if last < citation.seq {
                bail!("the range ends before it begins");
            }
            Ok(Wanted::Entries {
                host: citation.host,
                epoch: citation.epoch,
                first: Seq(citation.seq),
                last: Seq(last),
            })
        }
    }
}

/// The keys of a sink whose own key is known since the login.
async fn keys_of(client: &Client, sink: PublicKey) -> Result<Policy, Failure> {
    let text = client.text("/v1/log/key").await?;
    let log = log_folder::certified(&text).and_then(|key: CertifiedLogKey| Ok(key.verify(&sink)?));
    let log = log.context("the key of the sink's log is not certified by the key that you got at login");
    Ok(Policy { sink, log: log.map_err(Failure::negative)?, witnesses: Witnesses::default() })
}

/// What to ask the sink for. Which entry a session begins with is the sink's to say; that it is the right one shows in
/// the bundle.
async fn path_of(client: &Client, wanted: &Wanted, whole: bool) -> Result<String, Failure> {
    let mut query = vec![("whole", whole.then(|| "true".to_owned()))];
    match wanted {
        Wanted::Session(prefix) => {
            // No exchange has this number: the session is wanted, and none of its entries.
            let none = [("exchange", Some(u64::MAX.to_string()))];
            let page: SessionPage =
                client.get(&path(&format!("/v1/sessions/{}", prefix.as_str()), &none)).await?;
            let session = page.session;
            query.extend([
                ("host", Some(session.host)),
                ("epoch", Some(session.epoch.to_string())),
                ("session", Some(session.seq.to_string())),
            ]);
        }
        Wanted::Entries { host, epoch, first, last } => query.extend([
            ("host", Some(host.clone())),
            ("epoch", Some(epoch.to_string())),
            ("first", Some(first.to_string())),
            ("last", Some(last.to_string())),
        ]),
        Wanted::Time { host, window } => query.extend([
            ("host", Some(host.clone())),
            ("since", window.since.map(|time| time.to_string())),
            ("until", window.until.map(|time| time.to_string())),
        ]),
    }
    Ok(path("/v1/export", &query))
}

async fn download(client: &Client, path: &str, draft: &Draft) -> Result<(), Failure> {
    let mut pieces = client.pieces(path).await?;
    let mut out = BufWriter::new(&draft.file);
    let (mut bytes, mut progress) = (0, Progress::new("receiving", None));
    while let Some(piece) = pieces.next().await? {
        bytes += piece.len() as u64;
        if bytes > BUNDLE_BYTES_MAX {
            return Err(write_failed(WriteError::TooLarge { what: "bytes", limit: BUNDLE_BYTES_MAX }));
        }
        out.write_all(&piece).map_err(|error| write_failed(error.into()))?;
        progress.at(bytes);
    }
    out.flush().map_err(|error| write_failed(error.into()))
}

fn write_failed(error: WriteError) -> Failure {
    match error {
        WriteError::Unstated(_) | WriteError::Frame(_) => Failure::negative(error),
        WriteError::Io(_) | WriteError::TooLarge { .. } => Failure::usage(error),
    }
}

fn put_policy(file: Option<&Path>, policy: &Policy) -> Result<(), Failure> {
    let Some(file) = file else { return Ok(()) };
    let write = || {
        OpenOptions::new().write(true).create_new(true).open(file)?.write_all(policy.to_string().as_bytes())
    };
    write().with_context(|| format!("cannot write {}", file.display())).map_err(Failure::usage)?;
    println!(
        "wrote the policy {}: the public keys of this sink and of its log\ngive it on by another way than the bundle: who \
         made both could have made up both",
        file.display()
    );
    Ok(())
}

/// A bundle before it has its name. Removed unless it gets it.
struct Draft {
    file: File,
    draft: PathBuf,
    name: PathBuf,
}

impl Draft {
    fn create(name: &Path) -> Result<Self, Failure> {
        let mut draft = name.as_os_str().to_owned();
        draft.push(format!(".{}.part", std::process::id()));
        let draft = PathBuf::from(draft);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&draft);
        let file =
            file.with_context(|| format!("cannot write {}", name.display())).map_err(Failure::usage)?;
        Ok(Draft { file, draft, name: name.to_owned() })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Another process may clean up; nothing depends on it.
        let _ = fs::remove_file(&self.draft);
    }
}

/// Checks it as whoever gets it will, and that it is of what was asked for, and gives it its name.
fn finish(draft: Draft, policy: &Policy, wanted: &Wanted) -> Outcome {
    let failed = |error: std::io::Error| {
        Failure::usage(anyhow::Error::new(error).context(format!("cannot write {}", draft.name.display())))
    };
    draft.file.sync_all().map_err(failed)?;
    let bytes = draft.file.metadata().map_err(failed)?.len();
    let source = BufReader::new(File::open(&draft.draft).map_err(failed)?);
    let told = Told::new(source, Progress::new("checking", Some(bytes)));
    let report = match bundle::verify(told, policy, &mut |_| {}) {
        Ok(report) => report,
        Err(VerifyError::Io(error)) => return Err(failed(error)),
        Err(VerifyError::Rejected(rejected)) => {
            let error = anyhow!("what is stored does not hold, and no bundle was written: {rejected}");
            return Err(Failure::negative(error));
        }
    };
    if !wanted.is(&report) {
        return Err(Failure::negative(anyhow!(
            "the sink gave a bundle of something else than was asked for"
        )));
    }
    // A link, because a rename would replace what came there meanwhile.
    fs::hard_link(&draft.draft, &draft.name).map_err(failed)?;
    println!("wrote {} ({} bytes): {}", draft.name.display(), count(bytes), words(&report));
    println!("check it anywhere, offline: custody verify {} --policy POLICY", draft.name.display());
    Ok(Exit::Ok)
}

fn words(report: &Report) -> String {
    let entries =
        |number: u64| format!("{} {}", count(number), if number == 1 { "entry" } else { "entries" });
    let redacted = match report.redacted {
        0 => String::new(),
        number => format!(", and {} in between without their content", count(number)),
    };
    let expired = match report.expired {
        0 => String::new(),
        number => format!(", and {} whose content has expired by policy", count(number)),
    };
    let missing = if report.is_whole() { "" } else { "; something is missing, `custody verify` says what" };
    let host = custody_record::text::escape(&report.name_claimed);
    match report.session {
        Some(session) => {
            let open = if session.closed { "" } else { ", whose end is not here yet" };
            format!("{} of a session of {host}{open}{redacted}{expired}{missing}", entries(session.entries))
        }
        None => format!("{} of {host}{redacted}{expired}{missing}", entries(report.verified)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_an_entry_and_a_range_are_told_apart() {
        assert!(matches!(parse("b81x"), Ok(Wanted::Session(_))));
        let range = |text| match parse(text) {
            Ok(Wanted::Entries { host, epoch, first, last }) => Some((host, epoch, first.0, last.0)),
            _ => None,
        };
        assert_eq!(range("db-7/3/18"), Some(("db-7".to_owned(), 3, 18, 18)));
        assert_eq!(range("db-7/3/18-20"), Some(("db-7".to_owned(), 3, 18, 20)));
        for wrong in [
            "b81x.3",
            "db-7/3/20-18",
            "db-7/3/18-",
            "db-7/3/18-+20",
            "db-7/3/-20",
            "db-7/3/1-2-3",
            "",
            "a/b-c",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
