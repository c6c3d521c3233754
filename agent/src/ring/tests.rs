//! The ring's reader against a plain file laid out like a ring, filled with what the kernel would never write.

use super::*;
use std::os::unix::fs::FileExt;

const SIZE: usize = 8192;

/// A file of the ring's layout, but for the second mapping of the data, which is a copy.
fn ring(producer: u64, consumer: u64, data: &[(u64, u32)]) -> Ring {
    let page = rustix::param::page_size();
    let file = tempfile::tempfile().unwrap();
    file.set_len((2 * page + 2 * SIZE) as u64).unwrap();
    file.write_at(&consumer.to_ne_bytes(), 0).unwrap();
    file.write_at(&producer.to_ne_bytes(), page as u64).unwrap();
    for (at, header) in data {
        file.write_at(&header.to_ne_bytes(), 2 * page as u64 + at).unwrap();
    }
    Ring::new(file.into(), SIZE).unwrap()
}

#[test]
fn gives_events_and_skips_discarded_ones() {
    let mut ring = ring(48, 0, &[(0, 5), (16, 8 | DISCARDED), (32, 1)]);
    let mut lengths = vec![];
    assert_eq!(ring.drain(u64::MAX, |event| lengths.push(event.len())).unwrap(), 2);
    assert_eq!(lengths, [5, 1]);
    assert_eq!(ring.consumer_position(), 48);
}

#[test]
fn stops_at_an_event_that_is_being_written() {
    let mut ring = ring(32, 0, &[(0, 8), (16, 8 | BUSY)]);
    assert_eq!(ring.drain(u64::MAX, |_| ()).unwrap(), 1);
    assert_eq!(ring.consumer_position(), 16);
}

#[test]
fn stops_at_the_position_given() {
    let mut ring = ring(32, 0, &[(0, 8), (16, 8)]);
    assert_eq!(ring.drain(16, |_| ()).unwrap(), 1);
    assert_eq!(ring.consumer_position(), 16);
}

#[test]
fn refuses_a_length_beyond_the_producer() {
    let mut ring = ring(16, 0, &[(0, 4000)]);
    assert!(matches!(ring.drain(u64::MAX, |_| ()), Err(RingError::Damaged { length: 4000, .. })));
}

#[test]
fn refuses_positions_further_apart_than_the_ring() {
    let mut ring = ring(u64::MAX, 0, &[(0, 0x3fff_ffff)]);
    assert!(matches!(ring.drain(u64::MAX, |_| ()), Err(RingError::Damaged { .. })));
}

#[test]
fn refuses_a_size_that_is_no_power_of_two() {
    let file = tempfile::tempfile().unwrap();
    assert!(matches!(Ring::new(file.into(), 5000), Err(RingError::Size(5000))));
}
