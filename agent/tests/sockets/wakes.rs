//! How often the kernel side wakes the reader of a ring: each wake-up costs the observed program more than the copy.

use crate::calls::unix;
use crate::observe::{Observer, only_this_program};
use custody_agent::probes::ProbeOptions;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

#[test]
fn a_reader_that_is_behind_is_woken_once_per_eighth_of_the_ring_and_not_by_each_event() {
    const RING_BYTES: u32 = 8 << 20;
    let observer = Observer::with(ProbeOptions { data_ring_bytes: RING_BYTES, ..only_this_program() });
    let ring = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    let data = epoll::EventData::new_u64(0);
    epoll::add(&ring, observer.probes.rings().data.fd, data, epoll::EventFlags::IN | epoll::EventFlags::ET)
        .unwrap();
    let (a, b) = unix();
    let mut wakes = 0;
    // Nobody drains: three quarters of the ring fill up, in events of a KiB each.
    for _ in 0..3000 {
        rustix::io::write(&a, &[7; 900]).unwrap();
        rustix::io::read(&b, &mut [0; 900][..]).unwrap();
        let mut events = Vec::<epoll::Event>::with_capacity(1);
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        epoll::wait(&ring, spare_capacity(&mut events), Some(&at_once)).unwrap();
        wakes += events.len();
    }
    assert!(observer.counters().wire.submitted_bytes >= 2 * 3000 * 900);
    assert!((2..=8).contains(&wakes), "woken {wakes} times");
}
