//! The level ladder: the fuller the spool, the less of each exchange is recorded, so that a sink that is away for long
//! costs detail before it costs records. A pure function; who asks it records each step. Nobody who is observed waits.

use custody_decoders::level::Level;
use serde::Serialize;

/// One step of the ladder.
struct Rung {
    /// What is recorded here at most.
    level: Level,
    /// It is stepped down to when this much of the spool is used, percent …
    down_at: u64,
    /// … and left upwards when less than this is.
    up_below: u64,
}

/// From the top down. Each is left only below the mark of the step before it, so that one batch more or less does not make
/// a step.
const RUNGS: [Rung; 2] = [
    Rung { level: Level::Summary, down_at: 70, up_below: 50 },
    Rung { level: Level::Counts, down_at: 85, up_below: 70 },
];

/// How full the spool is, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// On disk.
    pub bytes: u64,
    /// What ordinary records may fill.
    pub limit: u64,
}

impl Fill {
    fn percent(self) -> u64 {
        if self.bytes >= self.limit {
            return 100;
        }
        u64::try_from(u128::from(self.bytes) * 100 / u128::from(self.limit)).unwrap_or(100)
    }
}

/// How much is recorded, and why.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LevelState {
    /// As the configuration says.
    pub configured: Level,
    /// What the spool has room for.
    pub allowed: Level,
    /// The lesser of both.
    pub in_force: Level,
    /// Steps down and up since this start.
    pub steps: u64,
    /// When the last one was, wall clock ns; 0 for never.
    pub stepped_wall_ns: u64,
}

impl LevelState {
    /// The configuration was read.
    pub fn configure(&mut self, level: Level) {
        self.configured = level;
        self.in_force = self.configured.min(self.allowed);
    }

    /// The spool has room for this level. The one before and the one now, if that changes what is recorded.
    pub fn allow(&mut self, level: Level, wall_ns: u64) -> Option<(Level, Level)> {
        self.allowed = level;
        let before = std::mem::replace(&mut self.in_force, self.configured.min(level));
        if before == self.in_force {
            return None;
        }
        self.steps += 1;
        self.stepped_wall_ns = wall_ns;
        Some((before, self.in_force))
    }
}

/// The level to which the spool allows to step from `level`, one step at a time; `None` to stay.
pub fn step(level: Level, fill: Fill) -> Option<Level> {
    let used = fill.percent();
    let below = RUNGS.iter().find(|rung| rung.level < level);
    if let Some(rung) = below.filter(|rung| used >= rung.down_at) {
        return Some(rung.level);
    }
    let index = RUNGS.iter().position(|rung| rung.level == level)?;
    let above = index.checked_sub(1).map_or(Level::Statement, |above| RUNGS[above].level);
    (used < RUNGS[index].up_below).then_some(above)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the ladder stands after the spool was this full, percent, one time after the other.
    fn walk(fills: &[u64]) -> Vec<Level> {
        let mut level = Level::Statement;
        let mut stand = |used: u64| {
            while let Some(next) = step(level, Fill { bytes: used, limit: 100 }) {
                level = next;
            }
            level
        };
        fills.iter().map(|used| stand(*used)).collect()
    }

    #[test]
    fn a_step_that_came_too_early_or_too_late() {
        use Level::{Counts, Statement, Summary};
        assert_eq!(walk(&[0, 69, 70, 84, 85, 100]), [Statement, Statement, Summary, Summary, Counts, Counts]);
        assert_eq!(walk(&[100, 70, 69, 50, 49, 0]), [Counts, Counts, Summary, Summary, Statement, Statement]);
    }

    #[test]
    fn a_spool_that_breathes_around_a_mark_and_fills_the_record_with_steps() {
        use Level::{Counts, Summary};
        assert_eq!(walk(&[70, 69, 71, 69, 51]), [Summary; 5]);
        assert_eq!(walk(&[85, 84, 86, 71, 84]), [Counts; 5]);
    }

    #[test]
    fn steps_that_were_jumped_over() {
        let fill = |bytes| Fill { bytes, limit: 100 };
        assert_eq!(step(Level::Statement, fill(100)), Some(Level::Summary));
        assert_eq!(step(Level::Summary, fill(100)), Some(Level::Counts));
        assert_eq!(step(Level::Counts, fill(0)), Some(Level::Summary));
        assert_eq!(step(Level::Summary, fill(0)), Some(Level::Statement));
    }

    #[test]
    fn a_disk_without_any_room_is_full_and_no_division_by_nothing() {
        for (bytes, limit) in [(0, 0), (5, 0), (u64::MAX, u64::MAX), (u64::MAX, 1)] {
            assert_eq!(Fill { bytes, limit }.percent(), 100);
        }
        assert_eq!(Fill { bytes: u64::MAX / 2, limit: u64::MAX }.percent(), 49);
    }

    #[test]
    fn a_ladder_that_goes_on_below_counts() {
        assert_eq!(step(Level::Counts, Fill { bytes: 100, limit: 100 }), None);
    }
}
