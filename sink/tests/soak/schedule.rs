//! What is done to whom and when, from a seed: one thing after the other, some of which last.

use std::time::{Duration, Instant};

use anyhow::Result;
use custody_tests::random::Random;

use crate::line::Mode;
use crate::world::World;

/// From one thing to the next that is done to the same host, ms, in the mean; never more than a share of the whole.
const PAUSE_MS: usize = 40_000;
const PAUSE_SHARE: u32 = 25;
/// Of a hundred times that the sink is killed, it comes back at once in all but these.
const AWAY_OF_100: usize = 4;
/// Then it is away for so long at most, as a share of the whole, and never longer than this.
const AWAY_SHARE: u32 = 10;
const AWAY_MAX: Duration = Duration::from_secs(180);
/// A line is cut or stalled for so long at most, s; an agent waits five for an answer.
const LINE_SECONDS: usize = 20;
/// A clone lives for so long at most, s.
const CLONE_SECONDS: usize = 12;

/// One host of so many is cloned and restored; of the others the record must stay without a finding.
const GOES_BACK: usize = 4;

/// What can be done, some of it more often.
const DEEDS: [&str; 19] = [
    "sink killed",
    "sink killed",
    "sink stopped",
    "host killed",
    "host killed",
    "host killed",
    "host killed",
    "host stopped",
    "line cut",
    "line cut",
    "line stalled",
    "line stalled",
    "line narrow",
    "snapshot taken",
    "snapshot taken",
    "snapshot restored",
    "snapshot restored",
    "host cloned",
    "host cloned",
];

/// Goes on for so long.
pub(crate) struct Schedule {
    random: Random,
    whole: Duration,
    next: Instant,
    /// Lines that are not open, until then.
    lines: Vec<(usize, Instant)>,
}

impl Schedule {
    pub(crate) fn new(seed: u64, whole: Duration) -> Self {
        Schedule { random: Random::of(seed), whole, next: Instant::now(), lines: Vec::new() }
    }

    /// Does what is due.
    pub(crate) fn turn(&mut self, world: &mut World) -> Result<()> {
        let now = Instant::now();
        self.lines.retain(|(number, until)| {
            let is_over = now >= *until;
            if is_over {
                world.hosts[*number].line.set(Mode::Open);
            }
            !is_over
        });
        if now < self.next {
            return Ok(());
        }
        let most = usize::try_from((self.whole / PAUSE_SHARE).as_millis())?;
        let pause = (PAUSE_MS / world.hosts.len()).min(most);
        self.next = now + Duration::from_millis((pause / 2 + self.random.below(pause)) as u64);
        // All numbers are drawn, whatever comes of them: what follows hangs on the seed alone.
        let mut deed = *self.random.one(&DEEDS);
        if self.random.below(100) < AWAY_OF_100 && deed == "sink killed" {
            deed = "sink away";
        }
        let number = self.random.below(world.hosts.len());
        let length = self.random.below(1_000);
        self.act(world, deed, number, length)
    }

    fn act(&mut self, world: &mut World, deed: &str, number: usize, length: usize) -> Result<()> {
        let now = Instant::now();
        let share = |seconds: usize| Duration::from_millis((seconds * length) as u64);
        let host = &world.hosts[number];
        // Until it has a name, a host is left alone; while a clone lives, its host is not copied.
        let is_free = host.id.is_some() && host.clone.is_none();
        let goes_back = is_free && number.is_multiple_of(GOES_BACK);
        match deed {
            "sink killed" if world.sink_away_until.is_none() => world.kill_sink(now),
            "sink stopped" if world.sink_away_until.is_none() => {
                world.sink.end();
                world.kill_sink(now);
            }
            "sink away" if world.sink_away_until.is_none() => {
                let most = (self.whole / AWAY_SHARE).min(AWAY_MAX);
                world.kill_sink(now + most.mul_f64(length as f64 / 1_000.0));
            }
            "host killed" if is_free => world.kill_host(number),
            "host stopped" if is_free => world.stop_host(number)?,
            "line cut" | "line stalled"
                if is_free && self.lines.iter().all(|(other, _)| *other != number) =>
            {
                host.line.set(if deed == "line cut" { Mode::Cut } else { Mode::Stalled });
                self.lines.push((number, now + share(LINE_SECONDS)));
            }
            "snapshot taken" if goes_back => world.snapshot(number)?,
            "snapshot restored" if goes_back && host.snapshot.is_some() => world.restore(number)?,
            "host cloned" if goes_back => {
                world.clone_host(number, now + Duration::from_secs(3) + share(CLONE_SECONDS))?;
            }
            _ => return Ok(()),
        }
        world.count(deed);
        Ok(())
    }

    /// From now on nothing is done any more.
    pub(crate) fn end(self, world: &World) {
        world.hosts.iter().for_each(|host| host.line.set(Mode::Open));
    }
}
