//! The spool on a file system that others fill to the last block: a small one of the test's own.

use std::collections::BTreeMap;
use std::path::Path;

use custody_agent::config;
use custody_agent::spool::Spool;
use custody_ledger::{BootId, Chain, Draft, Echo, EntryType, HostId, HostKey, Position, SignedBatch};
use custody_tests::random::Random;
use custody_tests::small_disk::{Kind, SmallDisk};

const LIMITS: config::Spool = config::Spool {
    bytes_max: 64 << 20,
    reserve_bytes: 2 << 20,
    segment_bytes: 1 << 20,
    free_at: config::FreeAt::Committed,
    policy: std::path::PathBuf::new(),
};
/// More than any batch of these tests needs.
const BATCH_BYTES: u64 = 40_000;

/// Runs a test on each kind of file system.
fn on_small_disks(test: impl Fn(&Path, &SmallDisk)) {
    for kind in [Kind::Tmpfs, Kind::Ext4] {
        let folder = tempfile::tempdir().unwrap();
        let disk = SmallDisk::mount(kind, folder.path(), 12).unwrap();
        println!("on {kind:?}");
        test(folder.path(), &disk);
    }
}

struct Host {
    chain: Chain,
    random: Random,
    written: Vec<Position>,
}

impl Host {
    fn new(epoch: u64) -> Self {
        let (key, _) = HostKey::generate().unwrap();
        let chain = Chain::start(&key, HostId::from_bytes([7; 16]), BootId([1; 16]), epoch, None).unwrap();
        Host { chain, random: Random::of(epoch), written: Vec::new() }
    }

    /// A batch that does not become smaller when it is packed.
    fn batch(&mut self) -> SignedBatch {
        let body: Vec<u8> = (0..32_000).map(|_| self.random.below(256) as u8).collect();
        let draft = Draft {
            entry_type: EntryType::Heartbeat,
            first_ns: 1,
            last_ns: 1,
            wall_ns: 1,
            session: None,
            body: &body,
            sealed: None,
        };
        self.chain.append(&draft).unwrap();
        self.chain.close_batch(BTreeMap::new(), Echo::default()).unwrap()
    }

    fn write(&mut self, spool: &mut Spool, count: usize) {
        for _ in 0..count {
            let batch = self.batch();
            spool.append(&batch).unwrap();
            spool.sync().unwrap();
            self.written.push(batch.position);
        }
    }
}

fn positions(spool: &Spool) -> Vec<Position> {
    let unsent = spool.unsent(usize::MAX, usize::MAX).unwrap();
    unsent.into_iter().map(|(position, _)| position).collect()
}

#[test]
fn a_disk_that_others_filled_and_heartbeats_that_found_no_room_on_it() {
    on_small_disks(control_records_go_to_the_reserve);
}

fn control_records_go_to_the_reserve(folder: &Path, disk: &SmallDisk) {
    let (mut spool, _) = Spool::open(folder, &LIMITS).unwrap();
    let mut host = Host::new(1);
    host.write(&mut spool, 3);
    let others = disk.fill().unwrap();
    assert!(spool.has_room(BATCH_BYTES, false), "nobody has looked at the disk yet");
    host.write(&mut spool, 3);
    assert!(spool.disk().0 && spool.disk().1 > 1 << 20, "{:?}", spool.disk());
    assert!(!spool.has_room(1, false) && spool.has_room(1, true));
    // What was reserved is nobody else's, however often they try; and what could not be written whole is taken back.
    for _ in 0..10 {
        disk.fill().unwrap();
        host.write(&mut spool, 2);
        spool.look_at_disk();
        assert!(spool.disk().0, "there is no room");
    }
    assert_eq!(positions(&spool), host.written);
    // A small file is replaced, though there is no block for it: what is committed is freed.
    assert_eq!(spool.free(&host.written[1]).unwrap(), 2);
    std::fs::remove_file(others).unwrap();
    spool.look_at_disk();
    assert_eq!(spool.disk(), (false, LIMITS.reserve_bytes));
    assert!(spool.has_room(BATCH_BYTES, false));
    host.write(&mut spool, 60);
    assert_eq!(positions(&spool), host.written[2..]);
    drop(spool);
    let (spool, recovery) = Spool::open(folder, &LIMITS).unwrap();
    assert_eq!(positions(&spool), host.written[2..]);
    assert_eq!((recovery.torn_bytes, recovery.last), (0, host.written.last().copied()));
}

#[test]
fn an_agent_that_could_not_start_again_on_a_full_disk() {
    on_small_disks(start_again);
}

fn start_again(folder: &Path, disk: &SmallDisk) {
    let (mut spool, _) = Spool::open(folder, &LIMITS).unwrap();
    let mut host = Host::new(1);
    host.write(&mut spool, 3);
    disk.fill().unwrap();
    drop(spool);
    // Before the reserve was begun, and after: with each start there is less of it, for others take what a start gives up.
    for epoch in 2..5 {
        let (mut spool, _) = Spool::open(folder, &LIMITS).unwrap();
        assert_eq!(positions(&spool), host.written);
        host.chain = Host::new(epoch).chain;
        host.write(&mut spool, 2);
        drop(spool);
        disk.fill().unwrap();
    }
}

#[test]
fn a_disk_with_little_room_that_was_taken_for_an_empty_spool() {
    on_small_disks(little_room);
}

fn little_room(folder: &Path, disk: &SmallDisk) {
    let (mut spool, _) = Spool::open(folder, &LIMITS).unwrap();
    spool.look_at_disk();
    let limit = spool.fill().limit;
    assert!(limit > 4 << 20 && limit < 10 << 20, "the reserve is held, and {limit} bytes are left");
    disk.fill().unwrap();
    spool.look_at_disk();
    assert_eq!((spool.fill().limit, spool.disk()), (0, (false, LIMITS.reserve_bytes)));
    assert!(!spool.has_room(1, false) && spool.has_room(1, true));
}
