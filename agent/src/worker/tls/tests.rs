//! The binder against every order in which a library's calls can be told.

use super::*;

const ALICE: abi::TaskKey = abi::TaskKey { start_ns: 10, pid: 100, tid: 100 };

/// A binder for sockets named by numbers, with events written short.
struct Bench {
    binder: Binder<u32>,
    out: Vec<Output<u32>>,
    now: u64,
}

impl Bench {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        Self { binder: Binder::new(limits), out: Vec::new(), now: 1 }
    }

    fn header(&mut self, flags: u16) -> abi::Header {
        self.now += 1;
        abi::Header { time_ns: self.now, flags, ..Default::default() }
    }

    fn write(&mut self, tls: u64, call: u64, position: u64, bytes: &[u8]) {
        let header = self.header(abi::flag::TENTATIVE);
        let direction = abi::direction::EGRESS;
        let data = abi::Data { header, task: ALICE, tls, position, call, direction, ..Default::default() };
        self.binder.on_data(&data, None, Bytes::copy_from_slice(bytes), &mut self.out);
    }

    fn read(&mut self, tls: u64, socket: Option<u32>, position: u64, bytes: &[u8]) {
        let (header, provenance) = (self.header(0), abi::provenance::NESTED);
        let data = abi::Data { header, task: ALICE, tls, position, provenance, ..Default::default() };
        self.binder.on_data(&data, socket, Bytes::copy_from_slice(bytes), &mut self.out);
    }

    fn gap(&mut self, tls: u64, call: u64, position: u64, length: u64, cause: u8) {
        let header = self.header(abi::flag::TENTATIVE);
        let direction = abi::direction::EGRESS;
        let gap = abi::Gap {
            header,
            task: ALICE,
            tls,
            position,
            call,
            length,
            cause,
            direction,
            ..Default::default()
        };
        self.binder.on_gap(&gap, &mut self.out);
    }

    fn bind(&mut self, tls: u64, socket: u32) {
        let (header, provenance) = (self.header(0), abi::provenance::NESTED);
        let bind = abi::TlsBind { header, task: ALICE, tls, provenance, ..Default::default() };
        self.binder.on_bind(&bind, socket, &mut self.out);
    }

    fn settle(&mut self, tls: u64, call: u64, position: u64, accepted: u64) {
        let header = self.header(0);
        let settle = abi::TlsSettle { header, task: ALICE, tls, call, position, accepted };
        self.binder.on_settle(&settle, &mut self.out);
    }

    fn close(&mut self, tls: u64, ends: [u64; 2]) {
        let header = self.header(0);
        let [ingress_position, egress_position] = ends;
        let close = abi::TlsClose { header, task: ALICE, tls, ingress_position, egress_position };
        self.binder.on_close(&close, &mut self.out);
    }

    fn tick(&mut self, after_ns: u64) {
        self.now += after_ns;
        self.binder.tick(self.now, &mut self.out);
    }

    /// What was told since the last look, one line each.
    fn told(&mut self) -> Vec<String> {
        let name = |owner: Owner<u32>| match owner {
            Owner::Socket(socket) => format!("s{socket}"),
            Owner::Unbound(tls) => format!("tls{}", tls.0),
        };
        let way = |flow: Flow| if flow == Flow::Egress { ">" } else { "<" };
        std::mem::take(&mut self.out)
            .into_iter()
            .map(|output| match output {
                Output::Bound { owner, binding, existing, .. } => {
                    format!("{} {binding:?}{}", name(owner), if existing { " existing" } else { "" })
                }
                Output::Chunk { owner, flow, position, extent, bytes, .. } => {
                    let sure = if extent == Extent::Unknown { "?" } else { "" };
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    format!("{}{}{position} {text}{sure}", name(owner), way(flow))
                }
                Output::Hole { owner, flow, position, length, cause, .. } => {
                    format!("{}{}{position} {length} {cause:?}", name(owner), way(flow))
                }
                Output::Ended { tls, .. } => format!("tls{} ended", tls.0),
            })
            .collect()
    }
}

#[test]
fn a_write_is_told_when_it_is_settled_and_bound() {
    let mut bench = Bench::new();
    bench.write(1, 7, 0, b"GET /");
    assert!(bench.told().is_empty());
    bench.bind(1, 4);
    assert_eq!(bench.told(), ["s4 Nested"]);
    bench.settle(1, 7, 0, 5);
    assert_eq!(bench.told(), ["s4>0 GET /"]);
    bench.read(1, Some(4), 0, b"200");
    assert_eq!(bench.told(), ["s4<0 200"]);
    assert_eq!(bench.binder.held_bytes(), 0);
}

#[test]
fn a_call_of_several_pieces_confirms_as_many_bytes_as_were_taken() {
    let mut bench = Bench::new();
    bench.bind(1, 4);
    bench.write(1, 7, 0, b"abcd");
    bench.write(1, 7, 4, b"efgh");
    bench.settle(1, 7, 0, 6);
    // Partial write: the program presents the rest again.
    bench.write(1, 8, 6, b"gh");
    bench.settle(1, 8, 6, 2);
    assert_eq!(bench.told(), ["s4 Nested", "s4>0 abcd", "s4>4 ef", "s4>6 gh"]);
    assert_eq!(bench.binder.counters().retries, 0);
}

#[test]
fn an_identical_retry_is_told_once() {
    let mut bench = Bench::new();
    bench.bind(1, 4);
    for call in 7..10 {
        bench.write(1, call, 0, b"again");
        bench.settle(1, call, 0, if call == 9 { 5 } else { 0 });
    }
    assert_eq!(bench.told(), ["s4 Nested", "s4>0 again"]);
    let counters = bench.binder.counters();
    assert_eq!((counters.retries, counters.retries_differ, counters.bound_bytes), (2, 0, 5));
}

#[test]
fn a_retry_with_other_bytes_is_counted_and_the_last_try_is_told() {
    let mut bench = Bench::new();
    bench.bind(1, 4);
    bench.write(1, 7, 0, b"first");
    bench.settle(1, 7, 0, 0);
    bench.write(1, 8, 0, b"fi");
    bench.write(1, 8, 2, b"ght!");
    bench.settle(1, 8, 0, 6);
    assert_eq!(bench.told(), ["s4 Nested", "s4>0 fi", "s4>2 ght!"]);
    assert_eq!(bench.binder.counters().retries_differ, 1);
}

#[test]
fn a_write_that_is_pending_at_the_end_is_of_unknown_extent() {
    for end in ["close", "socket", "exit"] {
        let mut bench = Bench::new();
        bench.bind(1, 4);
        bench.write(1, 7, 0, b"hang");
        match end {
            "close" => bench.close(1, [0, 0]),
            "socket" => bench.binder.socket_closed(4, 99, &mut bench.out),
            _ => bench.binder.exited(ALICE, 99, &mut bench.out),
        }
        assert_eq!(bench.told(), ["s4 Nested", "s4>0 hang?"], "{end}");
        assert_eq!(bench.binder.counters().extent_unknown_bytes, 4);
        assert_eq!(bench.binder.held_bytes(), 0);
    }
}

#[test]
fn a_lost_settle_is_told_by_the_next_call_or_the_end() {
    let mut bench = Bench::new();
    bench.bind(1, 4);
    bench.write(1, 7, 0, b"one");
    bench.write(1, 8, 3, b"two");
    assert_eq!(bench.told(), ["s4 Nested", "s4>0 one"]);
    bench.close(1, [0, 6]);
    assert_eq!(bench.told(), ["s4>3 two"]);
    assert_eq!(bench.binder.counters().extent_unknown_bytes, 0);
}

#[test]
fn lost_data_is_a_hole_of_known_size() {
    let mut bench = Bench::new();
    bench.bind(1, 4);
    bench.settle(1, 7, 0, 10);
    bench.read(1, None, 100, b"x");
    bench.close(1, [150, 30]);
    assert_eq!(
        bench.told(),
        ["s4 Nested", "s4>0 10 Unseen", "s4<0 100 Unseen", "s4<100 x", "s4>10 20 Unseen", "s4<101 49 Unseen"]
    );
    assert_eq!(bench.binder.counters().unseen_bytes, 179);
}

#[test]
fn the_data_of_a_failed_try_is_not_taken_for_a_later_call_whose_data_was_lost() {
    let mut bench = Bench::new();
    bench.bind(1, 4);
    bench.write(1, 7, 0, b"first");
    bench.settle(1, 7, 0, 0);
    bench.settle(1, 8, 0, 3);
    assert_eq!(bench.told(), ["s4 Nested", "s4>0 3 Unseen"]);
}

#[test]
fn an_unreadable_page_is_a_hole_within_the_call() {
    let mut bench = Bench::new();
    bench.bind(1, 4);
    bench.gap(1, 7, 0, 4, abi::cause::PAGE_FAULT);
    bench.write(1, 7, 4, b"tail");
    bench.settle(1, 7, 0, 8);
    assert_eq!(bench.told(), ["s4 Nested", "s4>0 4 PageFault", "s4>4 tail"]);
}

#[test]
fn without_a_socket_plaintext_is_unbound_after_the_wait_until_one_is_known() {
    let mut bench = Bench::new();
    bench.write(1, 7, 0, b"ping");
    bench.settle(1, 7, 0, 4);
    bench.read(1, None, 0, b"pong");
    bench.tick(4_999_999_000);
    assert!(bench.told().is_empty());
    bench.tick(2_000);
    assert_eq!(bench.told(), ["tls1 Unknown", "tls1>0 ping", "tls1<0 pong"]);
    bench.read(1, None, 4, b"more");
    bench.bind(1, 4);
    bench.read(1, Some(4), 8, b"late");
    bench.close(1, [12, 4]);
    assert_eq!(bench.told(), ["tls1<4 more", "tls1 ended", "s4 Nested", "s4<0 late"]);
    let counters = bench.binder.counters();
    assert_eq!((counters.unbound_objects, counters.unbound_bytes, counters.bound_bytes), (1, 12, 4));
    assert_eq!(counters.late_bindings, 1);
}

#[test]
fn an_object_that_closes_before_its_binding_is_told_unbound() {
    let mut bench = Bench::new();
    bench.write(1, 7, 0, b"ping");
    bench.settle(1, 7, 0, 4);
    bench.close(1, [0, 4]);
    assert_eq!(bench.told(), ["tls1 Unknown", "tls1>0 ping", "tls1 ended"]);
}

#[test]
fn two_sockets_for_one_object_bind_neither() {
    let mut bench = Bench::new();
    bench.bind(1, 4);
    bench.read(1, None, 0, b"a");
    bench.bind(1, 5);
    bench.read(1, None, 1, b"b");
    bench.bind(1, 5);
    bench.read(1, Some(4), 2, b"c");
    assert_eq!(bench.told(), ["s4 Nested", "s4<0 a", "tls1 Unknown", "tls1<0 b", "tls1<1 c"]);
    assert_eq!(bench.binder.counters().disagreements, 1);
}

#[test]
fn objects_that_follow_each_other_on_a_socket_continue_its_positions() {
    let mut bench = Bench::new();
    bench.bind(1, 4);
    bench.read(1, None, 0, b"one");
    bench.close(1, [3, 0]);
    bench.bind(2, 4);
    bench.read(2, None, 0, b"two");
    assert_eq!(bench.told(), ["s4 Nested", "s4<0 one", "s4 Nested", "s4<3 two"]);
    assert_eq!(bench.binder.counters().shared_sockets, 0);
    bench.bind(3, 4);
    bench.read(3, None, 0, b"three");
    assert_eq!(bench.binder.counters().shared_sockets, 1);
}

#[test]
fn interleaved_objects_keep_to_their_sockets() {
    let mut bench = Bench::new();
    bench.write(1, 7, 0, b"a");
    bench.bind(1, 4);
    bench.settle(1, 7, 0, 1);
    bench.write(2, 8, 0, b"b");
    bench.bind(2, 5);
    bench.settle(2, 8, 0, 1);
    bench.read(1, None, 0, b"A");
    bench.read(2, None, 0, b"B");
    assert_eq!(bench.told(), ["s4 Nested", "s4>0 a", "s5 Nested", "s5>0 b", "s4<0 A", "s5<0 B"]);
}

#[test]
fn a_huge_call_is_cut_at_the_limit_and_its_size_is_kept() {
    let mut bench = Bench::with(Limits { object_held_bytes_max: 1_000, ..Limits::default() });
    bench.bind(1, 4);
    for piece in 0..100 {
        bench.write(1, 7, piece * 100, &[b'x'; 100]);
    }
    assert!(bench.binder.held_bytes() < 1_200);
    bench.settle(1, 7, 0, 10_000);
    let told = bench.told();
    let Some(last) = told.last() else { panic!("nothing told") };
    assert!(last.ends_with("Limit"), "{last}");
    let counters = bench.binder.counters();
    assert_eq!(counters.bound_bytes + counters.over_held_bytes, 10_000);
    assert_eq!(bench.binder.held_bytes(), 0);
}

#[test]
fn plaintext_that_waits_for_a_socket_loses_nothing_at_the_limit() {
    let mut bench = Bench::with(Limits { object_held_bytes_max: 1_000, ..Limits::default() });
    for piece in 0..50 {
        bench.read(1, None, piece * 100, &[b'x'; 100]);
    }
    assert_eq!(bench.binder.counters().unbound_bytes, 5_000);
}

#[test]
fn tables_are_bounded() {
    let limits = Limits { objects_max: 10, sockets_max: 4, ..Limits::default() };
    let mut bench = Bench::with(limits);
    for tls in 1..100 {
        bench.read(tls, None, 0, b"x");
    }
    assert_eq!(bench.binder.counters().over_objects_bytes, 89);
    bench.binder.exited(ALICE, 1, &mut bench.out);
    for tls in 100..200 {
        bench.bind(tls, tls as u32);
        bench.close(tls, [0, 0]);
    }
    assert!(bench.binder.sockets.len() <= 4);
    assert!(bench.binder.counters().over_sockets > 90);
    assert!(bench.binder.objects.is_empty() && bench.binder.processes.is_empty());
}

#[test]
fn what_existed_before_the_probes_says_so() {
    let mut bench = Bench::new();
    let header = bench.header(abi::flag::EXISTING);
    let data = abi::Data { header, task: ALICE, tls: 1, ..Default::default() };
    bench.binder.on_data(&data, Some(4), Bytes::from_static(b"mid"), &mut bench.out);
    assert_eq!(bench.told(), ["s4 Unknown existing", "s4<0 mid"]);
}

#[test]
fn positions_of_hostile_size_do_no_harm() {
    let mut bench = Bench::new();
    bench.bind(1, 4);
    bench.write(1, 7, u64::MAX, b"end");
    bench.settle(1, 7, u64::MAX, u64::MAX);
    bench.read(1, None, u64::MAX - 1, b"abc");
    bench.close(1, [u64::MAX, u64::MAX]);
    assert_eq!(bench.binder.held_bytes(), 0);
}
