//! `custody verify --follow`: the log of a sink that runs, watched from outside. Each checkpoint must go on from the one
//! that is kept; for an auditor each leaf must be the one that the tree holds, and each checkpoint that a host echoes must
//! be one of this log. With `--cosign` it is a witness of the log ([`cosign`]). Believes no answer of the sink unchecked,
//! and keeps what it saw in a file of its own.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow};
use custody_ledger::tlog::tile::{self, TILE_WIDTH, TileError, TileKind};
use custody_ledger::tlog::witness::Seen;
use custody_ledger::tlog::{
    Alarm, BatchLeaf, Checkpoint, CheckpointReference, Nodes, Tile, TileNodes, Witness, proof,
    verify_consistency, verify_inclusion,
};
use custody_ledger::verify::LogDifference;
use custody_ledger::wire::{COSIGNATURES_PATH, CommittedResponse, CosignatureResponse};
use custody_ledger::{BatchHeader, PublicKey, codec, tree};
use custody_record::text::escape;
use serde::{Deserialize, Serialize};

use super::verify::log::difference_words;
use crate::args::VerifyArgs;
use crate::client::Client;
use crate::log_folder;
use crate::outcome::{Exit, Failure, Outcome};
use crate::output::{Lines, now};
use crate::profile;
use crate::select::duration;

pub(crate) mod cosign;
mod kept;
mod tell;
#[cfg(test)]
mod tests;

use cosign::{Cosigner, Offer};
use kept::{Kept, folder_of, load, replace, save};
use tell::{Teller, Told};

/// Bundles of leaves that are compared in one look; then what was seen is kept, and the next look goes on.
const BUNDLES_MAX: u64 = 64;
/// Tiles that are held at once.
const TILES_MAX: usize = 1024;
/// How often is looked without `--every`: a witness more often, for hosts may wait for it.
const EVERY: Duration = Duration::from_secs(10);
const EVERY_AS_WITNESS: Duration = Duration::from_secs(1);
/// Not more often than this.
const EVERY_MIN: Duration = Duration::from_millis(100);
/// Sentences about contradictions that one look tells; further ones are counted.
const SENTENCES_MAX: usize = 100;

/// What a look comes to.
enum Look {
    Holds(Box<Kept>, Told),
    Alarm(Exit, String),
}

pub(crate) async fn run(arguments: &VerifyArgs) -> Outcome {
    let asked = &arguments.follow;
    let every =
        asked.every.as_deref().map(duration).transpose().context("--every").map_err(Failure::usage)?;
    let usual = if asked.cosign.is_some() { EVERY_AS_WITNESS } else { EVERY };
    let every = every.and_then(|every| Duration::try_from(every).ok()).unwrap_or(usual);
    let (client, profile) = super::sink()?;
    let cosigner = asked.cosign.as_deref().map(Cosigner::open).transpose().map_err(Failure::usage)?;
    if cosigner.is_some() && !profile.is_auditor() {
        return Err(Failure::usage(anyhow!(
            "a witness compares what leaves hold, which is for auditors: ask for a token of that role"
        )));
    }
    let sink = profile.sink_key.parse().context("the profile is damaged").map_err(Failure::usage)?;
    let path = match &asked.state {
        Some(path) => path.clone(),
        None => profile::follow_file(&profile.sink_key).map_err(Failure::usage)?,
    };
    let get = async |path: &str| client.file(path).await.map(|file| file.map(Vec::from));
    let mut follower = Follower {
        sink,
        kept: load(&path).map_err(Failure::usage)?,
        path,
        cosigner,
        client: &client,
        files: Files { get, read: HashMap::new() },
        teller: Teller::new(arguments, &profile),
        lines: Lines::new(),
    };
    let witness = follower.cosigner.as_ref().map(Cosigner::name);
    follower.teller.begin(&follower.path, follower.kept.as_ref(), witness);
    let mut unreachable = String::new();
    loop {
        let behind = match follower.round(profile.is_auditor()).await {
            Ok(Round::Alarm(exit)) => return Ok(exit),
            Ok(Round::Holds { behind }) => {
                unreachable.clear();
                behind
            }
            Err(Failure::Because(Exit::Unreachable, error)) if !asked.once => {
                let words = format!("{error:#}");
                if words != unreachable {
                    eprintln!("custody: {}; it is asked again", escape(&words));
                    unreachable = words;
                }
                false
            }
            Err(failure) => return Err(failure),
        };
        if asked.once && !behind {
            let contradicted = follower.kept.is_some_and(|kept| kept.contradictions > 0);
            return Ok(if contradicted { Exit::Forked } else { Exit::Ok });
        }
        if !behind {
            tokio::time::sleep(every.max(EVERY_MIN)).await;
        }
    }
}

/// Whoever follows, between looks.
struct Follower<'c, G> {
    sink: PublicKey,
    path: PathBuf,
    kept: Option<Kept>,
    cosigner: Option<Cosigner>,
    client: &'c Client,
    files: Files<G>,
    teller: Teller<'c>,
    lines: Lines,
}

/// What a round comes to.
enum Round {
    Holds {
        /// There is more to compare at once.
        behind: bool,
    },
    Alarm(Exit),
}

impl<G: AsyncFn(&str) -> Result<Option<Vec<u8>>, Failure>> Follower<'_, G> {
    /// Looks, keeps what was seen, tells it, and cosigns what was offered before the look.
    async fn round(&mut self, auditor: bool) -> Result<Round, Failure> {
        let offered = match &self.cosigner {
            Some(_) => Some(cosign::offered(&self.files).await?),
            None => None,
        };
        let (next, told) = match look(self.kept.as_ref(), &self.sink, auditor, &mut self.files).await? {
            Look::Holds(next, told) => (next, told),
            Look::Alarm(exit, words) => {
                self.teller.alarm(&words, &mut self.lines)?;
                return Ok(Round::Alarm(exit));
            }
        };
        if self.kept.as_ref() != Some(&*next) {
            save(&self.path, &next).map_err(Failure::usage)?;
            self.teller.tell(&told, &mut self.lines)?;
        }
        let next = &*self.kept.insert(*next);
        if let (Some(cosigner), Some(offered)) = (&mut self.cosigner, offered) {
            match cosigner.consider(&offered, next, &self.sink, &mut self.files).await? {
                Offer::Nothing => {}
                Offer::Signed(note, size) => {
                    if let Some(witnessed) = hand_in(self.client, note).await? {
                        cosigner.is_witnessed = witnessed >= size;
                        self.teller.cosigned(size, witnessed, &mut self.lines)?;
                    }
                }
                Offer::Alarm(alarm) => {
                    self.teller.alarm(&alarm.to_string(), &mut self.lines)?;
                    return Ok(Round::Alarm(exit_of(&alarm)));
                }
            }
        }
        Ok(Round::Holds { behind: auditor && next.compared < next.witness.checkpoint().size })
    }
}

/// Gives a cosignature to the sink; how many records are witnessed then. `None`: meanwhile it offers another one.
async fn hand_in(client: &Client, note: String) -> Result<Option<u64>, Failure> {
    match client.post::<CosignatureResponse>(COSIGNATURES_PATH, note.into_bytes()).await {
        Ok(CosignatureResponse { witnessed }) => Ok(Some(witnessed)),
        Err(Failure::Because(Exit::Negative, _)) => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn exit_of(alarm: &Alarm) -> Exit {
    if matches!(alarm, Alarm::Checkpoint(_)) { Exit::Negative } else { Exit::Forked }
}

/// Looks once.
async fn look<G: AsyncFn(&str) -> Result<Option<Vec<u8>>, Failure>>(
    kept: Option<&Kept>,
    sink: &PublicKey,
    auditor: bool,
    files: &mut Files<G>,
) -> Result<Look, Failure> {
    let key = log_folder::certified(&files.text("/v1/log/key").await?).map_err(Failure::unreachable)?;
    let note = files.text("/v1/log/checkpoint").await?;
    let held = kept.map_or(0, |kept| kept.witness.checkpoint().size);
    // Whatever is wrong with key or note is found below; here it only says what to ask for.
    let shown = key.verify(sink).and_then(|log| Checkpoint::open_text(&note, &log)).map(|shown| shown.size);
    let consistency = match shown {
        Ok(size) if held < size => files.prove(size, |nodes| proof::consistency(nodes, held, size)).await?,
        _ => None,
    };
    let consistency = consistency.unwrap_or_default();
    let answer =
        CommittedResponse { log: key, checkpoint: note, consistency, batches: Vec::new(), witnessed: None };
    let witness = match Witness::see(kept.map(|kept| &kept.witness), sink, &answer, &[]) {
        Ok(Seen { witness, .. }) => witness,
        Err(alarm) => return Ok(Look::Alarm(exit_of(&alarm), alarm.to_string())),
    };
    let (compared, contradictions) = kept.map_or((0, 0), |kept| (kept.compared, kept.contradictions));
    let mut next = Kept { witness, compared, contradictions };
    let size = next.witness.checkpoint().size;
    let mut told = Told { at: now(), size, before: held, ..Told::default() };
    let mut judged = BTreeSet::new();
    for _ in 0..BUNDLES_MAX {
        if !auditor || next.compared >= size {
            break;
        }
        if let Err(words) = compare(&mut next, &mut told, &mut judged, files).await? {
            return Ok(Look::Alarm(Exit::Negative, words));
        }
    }
    told.compared = next.compared;
    Ok(Look::Holds(Box::new(next), told))
}

/// Compares the next bundle of leaves with the tree, and judges what hosts echo in it. The error says what is altered.
async fn compare<G: AsyncFn(&str) -> Result<Option<Vec<u8>>, Failure>>(
    kept: &mut Kept,
    told: &mut Told,
    judged: &mut BTreeSet<CheckpointReference>,
    files: &mut Files<G>,
) -> Result<Result<(), String>, Failure> {
    let checkpoint = kept.witness.checkpoint().clone();
    let (size, width) = (checkpoint.size, u64::from(TILE_WIDTH));
    let Some(bundle) = Tile::in_tree(TileKind::Entries, kept.compared / width, size) else {
        return Ok(Ok(()));
    };
    let first = bundle.index * width;
    let bytes = files.tile(bundle).await?;
    let Some(leaves) = tile::entries(&bytes, bundle.width) else {
        return Ok(Err(format!("log/{} is no bundle of {} leaves", bundle.path(), bundle.width)));
    };
    // The path of one leaf is made of the hashes of all that stand in its tile: when it holds, all of them do.
    let proved = files.prove(size, |nodes| {
        let hashes: Result<Vec<_>, _> =
            (first..first + u64::from(bundle.width)).map(|at| nodes.node(0, at)).collect();
        Ok(Some((hashes?, proof::inclusion(nodes, first, size)?.unwrap_or_default())))
    });
    let Some((hashes, path)) = proved.await? else { return Ok(Ok(())) };
    let holds =
        hashes.first().is_some_and(|leaf| verify_inclusion(leaf, first, size, &checkpoint.root, &path));
    if !holds || !leaves.iter().zip(&hashes).all(|(leaf, hash)| tree::leaf(leaf) == *hash) {
        return Ok(Err(format!(
            "ALTERED: what the sink shows of records {first} to {} is not what its checkpoint over {size} records stands for",
            first + u64::from(bundle.width)
        )));
    }
    for (at, leaf) in (first..).zip(&leaves).skip_while(|(at, _)| *at < kept.compared) {
        let Some(echo) = echo_of(leaf) else { continue };
        if !judged.insert(echo.1.clone()) {
            continue;
        }
        match judge(&echo.1, &checkpoint, files).await? {
            None => told.echoes += 1,
            Some(difference) => {
                kept.contradictions += 1;
                if told.contradictions.len() < SENTENCES_MAX {
                    let who = format!("the checkpoint of host {} in record {at}", echo.0);
                    told.contradictions.push(difference_words(difference, &echo.1, &who, size));
                }
            }
        }
    }
    kept.compared = first + u64::from(bundle.width);
    Ok(Ok(()))
}

/// Whose batch a leaf is, and the checkpoint that it echoes.
fn echo_of(leaf: &[u8]) -> Option<(custody_ledger::HostId, CheckpointReference)> {
    let leaf = BatchLeaf::decode(leaf)?;
    let header: BatchHeader = codec::decode("batch header", leaf.header).ok()?;
    Some((leaf.host, header.checkpoint?))
}

/// How a checkpoint that a host holds differs from the log that is shown.
async fn judge<G: AsyncFn(&str) -> Result<Option<Vec<u8>>, Failure>>(
    echo: &CheckpointReference,
    shown: &CheckpointReference,
    files: &mut Files<G>,
) -> Result<Option<LogDifference>, Failure> {
    if echo.origin != shown.origin {
        return Ok(Some(LogDifference::OtherOrigin));
    }
    let proved = files.prove(shown.size, |nodes| proof::consistency(nodes, echo.size, shown.size)).await?;
    let Some(path) = proved else { return Ok(Some(LogDifference::Smaller)) };
    let holds = verify_consistency(echo.size, &echo.root, shown.size, &shown.root, &path);
    Ok((!holds).then_some(LogDifference::OtherRoot))
}

/// The log's files as the sink shows them.
struct Files<G> {
    get: G,
    read: HashMap<Tile, Vec<u8>>,
}

impl<G: AsyncFn(&str) -> Result<Option<Vec<u8>>, Failure>> Files<G> {
    async fn text(&self, path: &str) -> Result<String, Failure> {
        let bytes = (self.get)(path).await?;
        let bytes = bytes.ok_or_else(|| Failure::unreachable(anyhow!("the sink shows no {path}")))?;
        String::from_utf8(bytes).map_err(|_| Failure::unreachable(anyhow!("{path} of the sink is no text")))
    }

    /// A tile. A partial one that is gone since stands at the beginning of the full one.
    async fn tile(&self, tile: Tile) -> Result<Vec<u8>, Failure> {
        for wanted in [tile, Tile { width: TILE_WIDTH, ..tile }] {
            let Some(bytes) = (self.get)(&format!("/v1/log/{}", wanted.path())).await? else { continue };
            let length = match tile.kind {
                TileKind::Hashes(_) => usize::from(tile.width) * 32,
                TileKind::Entries if wanted == tile => bytes.len(),
                TileKind::Entries => tile::entries(&bytes, TILE_WIDTH)
                    .map_or(0, |all| all.iter().take(tile.width.into()).map(|leaf| leaf.len() + 2).sum()),
            };
            return Ok(bytes.get(..length).map(<[u8]>::to_vec).unwrap_or(bytes));
        }
        Err(Failure::unreachable(anyhow!("the sink does not show log/{}, so nothing is proved", tile.path())))
    }

    /// Work on the nodes of a tree, whose tiles are asked for as they are needed. Nothing of them is believed: what they
    /// prove is checked by the caller.
    async fn prove<T>(
        &mut self,
        size: u64,
        work: impl Fn(&dyn Nodes<Error = TileError<Tile>>) -> Result<Option<T>, TileError<Tile>>,
    ) -> Result<Option<T>, Failure> {
        loop {
            let nodes = TileNodes::new(size, |tile| self.read.get(&tile).cloned().ok_or(tile));
            let tile = match work(&nodes) {
                Ok(done) => return Ok(done),
                Err(TileError::Read(tile)) => tile,
                Err(TileError::Malformed { path, .. }) => {
                    return Err(Failure::unreachable(anyhow!("the sink shows a damaged log/{path}")));
                }
                Err(TileError::Outside { .. }) => return Ok(None),
            };
            drop(nodes);
            if self.read.len() >= TILES_MAX {
                self.read.clear();
            }
            let bytes = self.tile(tile).await?;
            self.read.insert(tile, bytes);
        }
    }
}
