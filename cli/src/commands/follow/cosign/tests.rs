//! What a witness signs, and what it never does.

use std::os::unix::fs::PermissionsExt;

use custody_ledger::tlog::CheckpointReference;
use custody_ledger::tlog::checkpoint::log_key;

use super::super::tests::Log;
use super::*;

/// A witness with a folder of its own.
struct Stand {
    folder: tempfile::TempDir,
    log: Log,
}

impl Stand {
    fn new() -> Self {
        let stand = Stand { folder: tempfile::tempdir().unwrap(), log: Log::new() };
        assert_eq!(make(&stand.arguments()).unwrap(), Exit::Ok);
        stand
    }

    fn arguments(&self) -> WitnessKeyArgs {
        WitnessKeyArgs { file: self.key(), name: "audit.example/w1".to_owned() }
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("audit.key")
    }

    fn open(&self) -> Cosigner {
        Cosigner::open(&self.key()).unwrap()
    }

    async fn consider(&self, cosigner: &mut Cosigner, offered: &str, kept: &Kept) -> Offer {
        let get = async |path: &str| Ok(self.log.files.borrow().get(path).cloned());
        let mut files = Files { get, read: HashMap::new() };
        cosigner.consider(offered, kept, &self.log.expected, &mut files).await.unwrap()
    }

    fn offered(&self) -> String {
        self.log.checkpoint().sign(&self.log.key).to_string()
    }

    /// How many leaves the key remembers to have signed.
    fn remembered(&self) -> u64 {
        let memory: Memory =
            serde_json::from_slice(&std::fs::read(memory_file(&self.key())).unwrap()).unwrap();
        memory.signed.map_or(0, |signed| signed.checkpoint().size)
    }
}

fn alarm(offer: Offer) -> Alarm {
    match offer {
        Offer::Alarm(alarm) => alarm,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_was_checked_is_signed_and_what_was_signed_is_remembered() {
    let mut stand = Stand::new();
    let mut cosigner = stand.open();
    let mut kept = None;
    for growth in [1, 300, 7] {
        kept = Some(stand.log.grow(growth).holds(kept.as_ref()).await.0);
        let (offered, kept) = (stand.offered(), kept.as_ref().unwrap());
        let Offer::Signed(note, size) = stand.consider(&mut cosigner, &offered, kept).await else {
            panic!("it does not sign")
        };
        let parsed: Note = note.parse().unwrap();
        assert!(cosigner.public.verify(&parsed).unwrap().at_s.is_some());
        assert!(Checkpoint::open(&parsed, &log_key(stand.log.key.public())).is_ok());
        assert_eq!((size, stand.remembered()), (stand.log.edge.size(), stand.log.edge.size()));
        // Until the sink says that it is witnessed, the same one is handed in again, also by a later process.
        drop(cosigner);
        cosigner = stand.open();
        match stand.consider(&mut cosigner, &offered, kept).await {
            Offer::Signed(again, _) => assert_eq!(again, note),
            other => panic!("{other:?}"),
        }
        cosigner.is_witnessed = true;
        assert!(matches!(stand.consider(&mut cosigner, &offered, kept).await, Offer::Nothing));
    }
}

#[tokio::test]
async fn what_was_not_checked_is_not_signed() {
    let mut stand = Stand::new();
    let mut cosigner = stand.open();
    let (kept, _) = stand.log.grow(10).holds(None).await;
    // A checkpoint that is newer than the last look.
    stand.log.grow(1);
    assert!(matches!(stand.consider(&mut cosigner, &stand.offered(), &kept).await, Offer::Nothing));
    let (kept, _) = stand.log.holds(Some(&kept)).await;
    for kept in [Kept { compared: 10, ..kept.clone() }, Kept { contradictions: 1, ..kept.clone() }] {
        assert!(matches!(stand.consider(&mut cosigner, &stand.offered(), &kept).await, Offer::Nothing));
    }
    // What a host echoes of another log ends it for ever.
    let echo = CheckpointReference { size: 99, ..stand.log.checkpoint().reference() };
    stand.log.batch(Some(echo));
    let (contradicted, _) = stand.log.publish().holds(Some(&kept)).await;
    assert!(matches!(stand.consider(&mut cosigner, &stand.offered(), &contradicted).await, Offer::Nothing));
    assert_eq!(stand.remembered(), 0);
}

#[tokio::test]
async fn a_checkpoint_of_another_tree_than_the_one_that_is_shown_is_not_signed() {
    let mut stand = Stand::new();
    let mut cosigner = stand.open();
    let (kept, _) = stand.log.grow(10).holds(None).await;
    let honest = stand.log.checkpoint();
    for size in [10, 7] {
        let other = Checkpoint { root: custody_ledger::Hash([9; 32]), size, ..honest.clone() };
        let offered = other.sign(&stand.log.key).to_string();
        let said = alarm(stand.consider(&mut cosigner, &offered, &kept).await);
        assert_eq!(said, Alarm::Forked { held: size, shown: 10 });
    }
    let stranger = LogKey::generate().unwrap().0;
    let offered = honest.sign(&stranger).to_string();
    assert!(matches!(alarm(stand.consider(&mut cosigner, &offered, &kept).await), Alarm::Checkpoint(_)));
    assert_eq!(stand.remembered(), 0);
}

/// What was seen is forgotten, as when its file is removed; what the key signed is not.
#[tokio::test]
async fn nothing_is_signed_that_does_not_go_on_from_what_the_key_signed() {
    let mut stand = Stand::new();
    let mut cosigner = stand.open();
    let (kept, _) = stand.log.grow(300).holds(None).await;
    let offered = stand.offered();
    assert!(matches!(stand.consider(&mut cosigner, &offered, &kept).await, Offer::Signed(_, 300)));
    // The sink begins again with other records.
    stand.log = std::mem::replace(&mut stand.log, Log::new()).emptied();
    let (kept, _) = stand.log.grow(200).holds(None).await;
    let said = alarm(stand.consider(&mut cosigner, &stand.offered(), &kept).await);
    assert_eq!(said, Alarm::RolledBack { held: 300, shown: 200 });
    let (kept, _) = stand.log.grow(200).holds(None).await;
    let said = alarm(stand.consider(&mut cosigner, &stand.offered(), &kept).await);
    assert_eq!(said, Alarm::Forked { held: 300, shown: 400 });
    // Another log that the same sink certifies.
    stand.log.key = LogKey::generate().unwrap().0;
    let (kept, _) = stand.log.publish().holds(None).await;
    let said = alarm(stand.consider(&mut cosigner, &stand.offered(), &kept).await);
    assert_eq!((said, stand.remembered()), (Alarm::OtherLog, 300));
}

#[test]
fn a_key_is_private_is_not_replaced_and_signs_nothing_without_its_memory() {
    let stand = Stand::new();
    let memory = memory_file(&stand.key());
    for file in [&stand.key(), &memory] {
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let before = std::fs::read(stand.key()).unwrap();
    assert!(matches!(make(&stand.arguments()), Err(Failure::Because(Exit::Usage, _))));
    assert_eq!(std::fs::read(stand.key()).unwrap(), before);
    for name in ["", "two words", "a+b"] {
        let arguments = WitnessKeyArgs { file: stand.folder.path().join("other"), name: name.to_owned() };
        assert!(make(&arguments).is_err() && !arguments.file.exists(), "{name}");
    }
    let first = stand.open();
    let second = Cosigner::open(&stand.key()).err().unwrap().to_string();
    assert!(second.contains("another process"), "{second}");
    drop(first);
    for damaged in [Some(&b"{"[..]), None] {
        match damaged {
            Some(bytes) => std::fs::write(&memory, bytes).unwrap(),
            None => std::fs::remove_file(&memory).unwrap(),
        }
        let said = Cosigner::open(&stand.key()).err().unwrap().to_string();
        assert!(said.contains("make a new key"), "{said}");
    }
}
