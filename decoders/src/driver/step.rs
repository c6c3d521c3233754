//! One step of a direction: a frame, a piece of a body, or bytes left out. Enforces the frame limit and finds the
//! next frame after a gap; keeps no bytes itself.

use super::{Driver, Mode, PATIENCE_OVER, after};
use crate::anomaly;
use crate::protocol::{Body, Direction, Frame, Framing};

/// Bytes that are kept for the next look while no frame is sure to begin.
const RESYNC_BYTES: usize = 4096;
/// While no frame is found, bytes are looked at again when an eighth more has come: byte by byte would cost the
/// square.
const RESYNC_GROWTH: usize = 8;

impl Driver {
    /// One step: a frame, a piece of a body, or bytes left out. 0 when more is needed.
    pub(super) fn step(&mut self, direction: Direction, bytes: &[u8]) -> usize {
        let lane = &mut self.lanes[direction as usize];
        match lane.mode {
            Mode::Frames => self.step_frame(direction, bytes),
            Mode::Body { left } => {
                let step = (bytes.len() as u64).min(left);
                let rest = if left == u64::MAX { left } else { left - step };
                lane.mode = after(rest, |left| Mode::Body { left });
                self.tell_body(direction, &bytes[..step as usize], rest == 0);
                step as usize
            }
            Mode::Skip { left, cut } => {
                let step = (bytes.len() as u64).min(left);
                lane.mode = after(left - step, |left| Mode::Skip { left, cut });
                *(if cut { &mut lane.account.cut } else { &mut lane.account.unparsed }) += step;
                step as usize
            }
            Mode::Resync => self.step_resync(direction, bytes),
        }
    }

    fn step_frame(&mut self, direction: Direction, bytes: &[u8]) -> usize {
        let frame_max = self.limits.frame_bytes_max;
        if !self.decoder.expects(direction) && bytes.len() < frame_max {
            let lane = &mut self.lanes[direction as usize];
            let since = *lane.early_since_ns.get_or_insert(lane.time_ns.max(1));
            if since != PATIENCE_OVER && !lane.is_last {
                lane.wanted = 0;
                return 0;
            }
        }
        match self.decoder.framing(direction, bytes) {
            Framing::NeedMore(_) if bytes.len() >= frame_max => {
                self.context.note(anomaly::FRAME_TOO_LONG);
                self.leave_out(direction, 1)
            }
            Framing::NeedMore(wanted) => self.want(direction, wanted.clamp(bytes.len() + 1, frame_max)),
            Framing::Foreign(length) if length > 0 => {
                self.context.note(anomaly::UNPARSED);
                self.lanes[direction as usize].mode = Mode::Skip { left: length as u64, cut: false };
                self.step(direction, bytes)
            }
            Framing::Frame(0)
            | Framing::Streamed { head: 0, .. }
            | Framing::Foreign(_)
            | Framing::Unframed => {
                self.context.note(anomaly::UNPARSED);
                self.leave_out(direction, 1)
            }
            Framing::Frame(length) if length > frame_max => {
                if bytes.len() < frame_max {
                    return self.want(direction, frame_max);
                }
                let cut = (length - frame_max) as u64;
                self.lanes[direction as usize].mode = Mode::Skip { left: cut, cut: true };
                self.tell_frame(direction, &bytes[..frame_max], cut)
            }
            Framing::Frame(length) if length > bytes.len() => self.want(direction, length),
            Framing::Frame(length) => self.tell_frame(direction, &bytes[..length], 0),
            Framing::Streamed { head, .. } if head > bytes.len() => {
                self.want(direction, head.clamp(bytes.len() + 1, frame_max))
            }
            Framing::Streamed { head, body } => {
                self.lanes[direction as usize].mode = after(body, |left| Mode::Body { left });
                let used = self.tell_frame(direction, &bytes[..head], 0);
                if body == 0 && self.context.switch.is_none() {
                    self.tell_body(direction, &[], true);
                }
                used
            }
        }
    }

    fn step_resync(&mut self, direction: Direction, bytes: &[u8]) -> usize {
        let lane = &mut self.lanes[direction as usize];
        let skipped = match self.decoder.resync(direction, bytes) {
            Some(0) => {
                lane.mode = Mode::Frames;
                return self.step_frame(direction, bytes);
            }
            Some(offset) => {
                lane.mode = Mode::Frames;
                offset.min(bytes.len())
            }
            None => {
                // All of it is looked at again, so only when there is a good part more.
                lane.wanted = bytes.len() + bytes.len() / RESYNC_GROWTH + 1;
                bytes.len().saturating_sub(RESYNC_BYTES / 2) / RESYNC_BYTES * RESYNC_BYTES
            }
        };
        if skipped > 0 {
            lane.wanted = 0;
        }
        lane.account.unparsed += skipped as u64;
        skipped
    }

    /// A hole or the end follows what is held, which is no whole frame: the decoder may tell it all the same.
    pub(super) fn give_up_held(&mut self, direction: Direction) {
        let lane = &mut self.lanes[direction as usize];
        let held = std::mem::take(&mut lane.held);
        let length = held.len() as u64;
        let mut told = false;
        if lane.mode == Mode::Frames && length > 0 {
            let (first_ns, time_ns) = lane.times_of(held.len());
            let torn = Frame { direction, position: lane.position, time_ns, bytes: &held };
            self.context.enter(direction, first_ns, time_ns);
            self.context.unclaimed[direction as usize] += length;
            self.guarded(|driver| told = driver.decoder.on_torn(torn, &mut driver.context));
            if !told {
                self.context.unclaimed[direction as usize] -= length;
            }
        }
        let lane = &mut self.lanes[direction as usize];
        *(if told { &mut lane.account.framed } else { &mut lane.account.unparsed }) += length;
        lane.position = lane.position.saturating_add(length);
        lane.times.clear();
        lane.wanted = 0;
    }

    fn leave_out(&mut self, direction: Direction, bytes: usize) -> usize {
        let lane = &mut self.lanes[direction as usize];
        lane.mode = Mode::Resync;
        lane.account.unparsed += bytes as u64;
        bytes
    }

    fn want(&mut self, direction: Direction, bytes: usize) -> usize {
        self.lanes[direction as usize].wanted = bytes;
        0
    }

    fn tell_frame(&mut self, direction: Direction, bytes: &[u8], cut: u64) -> usize {
        let expected = self.decoder.expects(direction);
        let lane = &mut self.lanes[direction as usize];
        lane.wanted = 0;
        if expected {
            lane.early_since_ns = None;
        }
        let (first_ns, time_ns) = lane.times_of(bytes.len());
        let frame = Frame { direction, position: lane.position, time_ns, bytes };
        self.context.enter(direction, first_ns, time_ns);
        self.context.unclaimed[direction as usize] += bytes.len() as u64;
        self.decoder.on_frame(frame, cut, &mut self.context);
        self.lanes[direction as usize].account.framed += bytes.len() as u64;
        bytes.len()
    }

    fn tell_body(&mut self, direction: Direction, bytes: &[u8], last: bool) {
        let lane = &mut self.lanes[direction as usize];
        let (_, time_ns) = lane.times_of(bytes.len());
        self.context.enter(direction, time_ns, time_ns);
        self.context.unclaimed[direction as usize] += bytes.len() as u64;
        self.decoder.on_body(Body { direction, time_ns, bytes, last }, &mut self.context);
        self.lanes[direction as usize].account.framed += bytes.len() as u64;
    }
}
