//! Whoever follows as a witness: signs the checkpoint that the sink offers, once it has been checked against all that was
//! seen, and hands it in. What was signed is durable before a signature leaves, and nothing is ever signed that does not go
//! on from it. Key and memory belong together: without its memory a key signs nothing.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use custody_ledger::LogKey;
use custody_ledger::tlog::checkpoint::{CertifiedLogKey, cosign};
use custody_ledger::tlog::note::KeyKind;
use custody_ledger::tlog::{Checkpoint, Note, NoteKey};
use custody_ledger::wire::CANDIDATE_PATH;

use super::*;
use crate::args::WitnessKeyArgs;

/// `custody witness-key`: makes a key with an empty memory, and says what others know it by.
pub(crate) fn make(arguments: &WitnessKeyArgs) -> Outcome {
    let (key, pkcs8) = LogKey::generate().map_err(Failure::usage)?;
    let public = NoteKey::new(&arguments.name, KeyKind::CosignatureV1, key.public());
    let public = public.context("a name has no spaces and no plus, such as audit.example/w1");
    let public = public.map_err(Failure::usage)?;
    let memory = memory_file(&arguments.file);
    let write = || -> anyhow::Result<()> {
        // The key last: one without a memory signs nothing.
        create(&memory, &serde_json::to_vec(&Memory::default())?)?;
        let text = format!("{public}\n{}\n", STANDARD.encode(&*pkcs8));
        create(&arguments.file, text.as_bytes()).inspect_err(|_| drop(std::fs::remove_file(&memory)))
    };
    write().map_err(Failure::usage)?;
    let mut lines = Lines::new();
    lines.put(&public.to_string())?;
    lines.flush()?;
    eprintln!(
        "the key is in {}, what it signed will be in {}: keep both together, and restore neither from a copy\n\
         give the line above to the owner of the sink ([witnesses] of its configuration), and to who makes policies\n\
         then, on this machine and nowhere else: custody verify --follow --cosign {0}",
        arguments.file.display(),
        memory.display()
    );
    Ok(Exit::Ok)
}

fn create(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        File::open(folder_of(path))?.sync_all()
    };
    write().with_context(|| format!("cannot make {}; a file that is there is not replaced", path.display()))
}

fn memory_file(key: &Path) -> PathBuf {
    let mut name = key.as_os_str().to_owned();
    name.push(".signed");
    name.into()
}

/// What a key has signed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Memory {
    /// The newest checkpoint that it cosigned, as it was checked; of one log for ever.
    signed: Option<Witness>,
    /// That checkpoint with the cosignature.
    note: String,
}

/// A witness of one log.
pub(super) struct Cosigner {
    public: NoteKey,
    key: LogKey,
    path: PathBuf,
    memory: Memory,
    /// The sink has said that what was signed is witnessed: it need not be handed in again.
    pub(super) is_witnessed: bool,
    /// Two processes with one key could sign two logs.
    _only_one: File,
}

/// What becomes of an offer.
#[derive(Debug)]
pub(super) enum Offer {
    /// To be handed in: a checkpoint with the cosignature, and its leaves.
    Signed(String, u64),
    /// Not now.
    Nothing,
    /// It does not hold with what was seen or signed before.
    Alarm(Alarm),
}

impl Cosigner {
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let only_one = File::open(path).with_context(|| format!("cannot read {shown}"))?;
        match only_one.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("another process cosigns with {shown}: two could sign two logs")
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {shown}"));
            }
        }
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
        let (public, pkcs8) = text.trim_end().split_once('\n').context("no key of a witness")?;
        let public: NoteKey = public.parse().with_context(|| format!("{shown} is damaged"))?;
        let pkcs8 = STANDARD.decode(pkcs8).with_context(|| format!("{shown} is damaged"))?;
        let key = LogKey::from_pkcs8(&pkcs8).with_context(|| format!("{shown} is damaged"))?;
        let whole = key.public() == public.key() && public.kind() == KeyKind::CosignatureV1;
        ensure!(whole, "{shown} is damaged: its two lines are not of one key");
        let path = memory_file(path);
        let lost = || {
            format!(
                "what the key has signed ({}) is missing or damaged: a witness without its memory could sign a second \
                 past; make a new key with `custody witness-key`",
                path.display()
            )
        };
        let memory: Memory =
            serde_json::from_slice(&std::fs::read(&path).with_context(lost)?).with_context(lost)?;
        ensure!(memory.signed.as_ref().is_none_or(Witness::is_whole), lost());
        Ok(Cosigner { public, key, path, memory, is_witnessed: false, _only_one: only_one })
    }

    pub(super) fn name(&self) -> &str {
        self.public.name()
    }

    /// Looks at what was offered before the look that ended with `kept`: signs it when it is the beginning of what was
    /// seen, all of its leaves were compared, no host contradicts it, and it goes on from all that this key ever signed.
    pub(super) async fn consider<G: AsyncFn(&str) -> Result<Option<Vec<u8>>, Failure>>(
        &mut self,
        offered: &str,
        kept: &Kept,
        sink: &PublicKey,
        files: &mut Files<G>,
    ) -> Result<Offer, Failure> {
        let key = log_folder::certified(&files.text("/v1/log/key").await?).map_err(Failure::unreachable)?;
        let opened = key.verify(sink).and_then(|log| {
            let note: Note = offered.parse()?;
            Ok((Checkpoint::open(&note, &log)?, note))
        });
        let (checkpoint, note) = match opened {
            Ok(opened) => opened,
            Err(error) => return Ok(Offer::Alarm(error.into())),
        };
        let seen = kept.witness.checkpoint();
        if kept.contradictions > 0 || kept.compared < checkpoint.size || seen.size < checkpoint.size {
            return Ok(Offer::Nothing);
        }
        let (size, shown) = (checkpoint.size, seen.size);
        let path =
            files.prove(shown, |nodes| proof::consistency(nodes, size, shown)).await?.unwrap_or_default();
        let same_log = seen.origin == checkpoint.origin;
        if !same_log || !verify_consistency(size, &checkpoint.root, shown, &seen.root, &path) {
            return Ok(Offer::Alarm(Alarm::Forked { held: size, shown }));
        }
        self.sign(note, &checkpoint, key, sink, files).await
    }

    async fn sign<G: AsyncFn(&str) -> Result<Option<Vec<u8>>, Failure>>(
        &mut self,
        mut note: Note,
        checkpoint: &Checkpoint,
        log: CertifiedLogKey,
        sink: &PublicKey,
        files: &mut Files<G>,
    ) -> Result<Offer, Failure> {
        let size = checkpoint.size;
        let before = self.memory.signed.as_ref();
        if before.is_some_and(|before| *before.checkpoint() == checkpoint.reference()) {
            let again = if self.is_witnessed {
                Offer::Nothing
            } else {
                Offer::Signed(self.memory.note.clone(), size)
            };
            return Ok(again);
        }
        let held = before.map_or(0, |before| before.checkpoint().size);
        let consistency = match held < size {
            true => files.prove(size, |nodes| proof::consistency(nodes, held, size)).await?,
            false => None,
        };
        let answer = CommittedResponse {
            log,
            checkpoint: note.to_string(),
            consistency: consistency.unwrap_or_default(),
            batches: Vec::new(),
            witnessed: None,
        };
        let signed = match Witness::see(before, sink, &answer, &[]) {
            Ok(seen) => Some(seen.witness),
            Err(alarm) => return Ok(Offer::Alarm(alarm)),
        };
        let at_s = u64::try_from(now() / 1_000_000_000).unwrap_or(0);
        cosign(&mut note, self.public.name(), &self.key, at_s);
        let memory = Memory { signed, note: note.to_string() };
        let bytes = serde_json::to_vec(&memory).map_err(Failure::usage)?;
        replace(&self.path, &bytes).map_err(Failure::usage)?;
        (self.memory, self.is_witnessed) = (memory, false);
        Ok(Offer::Signed(self.memory.note.clone(), size))
    }
}

/// The checkpoint that the sink offers.
pub(super) async fn offered<G: AsyncFn(&str) -> Result<Option<Vec<u8>>, Failure>>(
    files: &Files<G>,
) -> Result<String, Failure> {
    let offered = (files.get)(CANDIDATE_PATH).await?;
    let offered =
        offered.context("this sink collects no cosignatures: its owner names witnesses in [witnesses]");
    let offered = offered.map_err(Failure::usage)?;
    String::from_utf8(offered).map_err(|_| Failure::unreachable(anyhow!("what the sink offers is no text")))
}

#[cfg(test)]
mod tests;
