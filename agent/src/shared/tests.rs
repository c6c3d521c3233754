//! What the figures keep when a worker ends.

use super::*;

#[test]
fn what_a_worker_left_out_stays_counted_when_it_ends() {
    let mut worker = WorkerState { pid: 7, ..WorkerState::default() };
    worker.figures.tls_left_out_bytes = 100;
    worker.ended();
    assert_eq!((worker.pid, worker.left_out_bytes()), (0, 100));
    worker.figures.tls_left_out_bytes = 20;
    assert_eq!(worker.left_out_bytes(), 120);
    worker.ended();
    assert_eq!(worker.left_out_bytes(), 120);
}
