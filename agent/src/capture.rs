//! Owns the probes: loads them, gives them the rules of the configuration and our own, attaches TLS libraries
//! as programs turn up, and reads the kernel side's counters. One thread. Reads no event.

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use custody_abi::{RuleCounters, SourceCounters};
use custody_ledger::{Counters, EntryType};

use crate::chain::Input;
use crate::config::{self, Selectors};
use crate::coverage::Coverage;
use crate::events;
use crate::link::{GoneSocket, ToWorker, UnreadTls};
use crate::probes::tls::{self, Libraries};
use crate::probes::{Match, ProbeOptions, Probes, Rule};
use crate::shared::{Amount, ProbeState, Shared, lock};
use crate::workers::Downlink;

const TICK: Duration = Duration::from_millis(20);
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// Ends of unix and UDP sockets are told with this delay at most.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// Programs of ours on this host, beside the agent's own: what they move is never recorded.
const OUR_PROGRAMS: [&str; 2] = ["custody-sink", "custody"];
/// Where packages put them; those beside the agent's own program are ours as well.
const PROGRAM_FOLDERS: [&str; 2] = ["/usr/bin", "/usr/local/bin"];

/// What the probes' owner has to know.
#[derive(Debug)]
pub enum Seen {
    /// A program started.
    Program(u32),
    /// A process speaks TLS.
    Tls(u32),
    /// TLS that was not read.
    Unread(Vec<UnreadTls>),
    /// These are the addresses of our sink now.
    Sink(Vec<IpAddr>, u16),
    /// The agent ends.
    Stop,
}

/// The kernel side with what is known of it.
pub struct Capture {
    probes: Probes,
    libraries: Libraries<aya::Ebpf>,
    coverage: Coverage,
    shared: Arc<Shared>,
    sink: Vec<(IpAddr, u16)>,
}

/// What the rules of a configuration mean on this host.
pub fn rules(capture: &config::Capture) -> Result<Vec<Rule>> {
    let mut rules = Vec::new();
    for (include, selectors) in [(false, &capture.exclude), (true, &capture.include)] {
        let matches = matches(selectors)?;
        rules.extend(matches.into_iter().map(|matches| Rule { include, matches }));
    }
    Ok(rules)
}

fn matches(selectors: &Selectors) -> Result<Vec<Match>> {
    let mut matches = Vec::new();
    for path in &selectors.executables {
        matches.push(
            executable(path)
                .with_context(|| format!("the rule for the program {} cannot be applied", path.display()))?,
        );
    }
    for path in &selectors.cgroups {
        let folder = Path::new("/sys/fs/cgroup").join(path.strip_prefix("/").unwrap_or(path));
        let metadata = std::fs::metadata(&folder).with_context(|| {
            format!("the rule for the control group {} cannot be applied", path.display())
        })?;
        matches.push(Match::Cgroup(metadata.ino()));
    }
    matches.extend(selectors.ports.iter().map(|&port| Match::Port(port)));
    let networks = selectors.networks.iter();
    matches.extend(networks.map(|n| Match::Network { address: n.address, prefix: n.prefix }));
    Ok(matches)
}

fn executable(path: &Path) -> std::io::Result<Match> {
    let metadata = std::fs::metadata(path)?;
    Ok(Match::Executable { device: metadata.dev(), inode: metadata.ino() })
}

fn our_programs(own: &Path) -> Vec<Match> {
    let beside = own.parent().map(Path::to_owned);
    let folders: Vec<PathBuf> = beside.into_iter().chain(PROGRAM_FOLDERS.map(PathBuf::from)).collect();
    let others = folders.iter().flat_map(|folder| OUR_PROGRAMS.map(|name| folder.join(name)));
    // One that is not there moves nothing.
    std::iter::once(own.to_owned()).chain(others).filter_map(|path| executable(&path).ok()).collect()
}

impl Capture {
    /// Loads everything and attaches the probes of sockets and processes: from now on the rings fill. Our own programs and connections to our sink are left out from the first
    /// moment; of the agent, its canary alone is seen.
    pub fn load(
        config: &config::Capture,
        own_program: &Path,
        sink: Vec<(IpAddr, u16)>,
        canary_port: u16,
        shared: Arc<Shared>,
    ) -> Result<Self> {
        let ours = our_programs(own_program).into_iter();
        let sinks = sink.iter().map(|&(address, port)| Match::Endpoint { address, port });
        let ours = ours.chain(sinks).map(|matches| Rule { include: false, matches });
        let options = ProbeOptions {
            data_ring_bytes: config.data_ring_bytes,
            control_ring_bytes: config.control_ring_bytes,
            call_bytes_max: u64::from(config.call_bytes_max),
            rules: ours.chain(rules(config)?).collect(),
            canary_port,
            ..ProbeOptions::default()
        };
        let mut probes = Probes::load(&options)?;
        tls::load(probes.ebpf())?;
        let libraries = Libraries::new(Path::new("/"));
        Ok(Capture { probes, libraries, coverage: Coverage::default(), shared, sink })
    }

    /// The rings.
    pub fn probes(&self) -> &Probes {
        &self.probes
    }

    /// Attaches the TLS libraries that are there, then works until it is told to stop. That takes seconds on a host with
    /// many programs, in which a worker has to read the rings already.
    pub fn run(mut self, seen: &Receiver<Seen>, downlink: &Downlink, recorder: &SyncSender<Input>) {
        self.libraries.attach_known(self.probes.ebpf(), Instant::now());
        self.tell_probes();
        self.shared.status().libraries_probed = true;
        let mut next_count = Instant::now();
        let mut next_sweep = Instant::now() + SWEEP_EVERY;
        loop {
            let result = match seen.recv_timeout(TICK) {
                Ok(Seen::Stop) | Err(RecvTimeoutError::Disconnected) => {
                    // The last counters stand in the last batch.
                    self.count();
                    self.tell_coverage(recorder, true);
                    return;
                }
                Ok(seen) => self.take(seen),
                Err(RecvTimeoutError::Timeout) => Ok(()),
            };
            if let Err(error) = result {
                events::probe_missing("rule", &format!("{error:#}"));
            }
            let now = Instant::now();
            self.libraries.tick(self.probes.ebpf(), now);
            if now >= next_count {
                next_count = now + COUNT_EVERY;
                self.probes.pass_log();
                self.count();
                self.tell_probes();
                self.tell_coverage(recorder, false);
            }
            if now >= next_sweep {
                next_sweep = now + SWEEP_EVERY;
                self.sweep(downlink);
            }
        }
    }

    /// Sockets without a handshake end unseen: they are looked for in procfs, and the worker is told.
    fn sweep(&mut self, downlink: &Downlink) {
        let gone = match self.probes.sweep() {
            Ok(gone) => gone,
            Err(error) => return events::probe_missing("sockets", &error.to_string()),
        };
        let named = gone.iter().map(|gone| GoneSocket {
            sock: gone.socket.sock,
            generation: gone.socket.generation,
            ends: gone.ends,
        });
        if !gone.is_empty() {
            // A worker that is not there knows no socket.
            downlink.send(&ToWorker::Gone(named.collect()));
        }
    }

    fn take(&mut self, seen: Seen) -> Result<()> {
        match seen {
            Seen::Program(pid) => {
                self.libraries.on_exec(self.probes.ebpf(), pid, Instant::now());
                Ok(())
            }
            Seen::Tls(pid) => {
                self.libraries.on_tls_seen(self.probes.ebpf(), pid, Instant::now());
                Ok(())
            }
            Seen::Unread(list) => {
                for unread in list {
                    let library = self.libraries.speaks_with(unread.pid);
                    self.coverage.add(&unread, library);
                }
                Ok(())
            }
            Seen::Stop => Ok(()),
            Seen::Sink(addresses, port) => self.exclude_sink(&addresses, port),
        }
    }

    /// Leaves out both ends of connections to the sink. Before the first connection is made.
    pub fn exclude_sink(&mut self, addresses: &[IpAddr], port: u16) -> Result<()> {
        for &address in addresses {
            if !self.sink.contains(&(address, port)) {
                self.probes.exclude_endpoint(address, port)?;
                self.sink.push((address, port));
            }
        }
        Ok(())
    }

    /// What is not read, for the sink.
    fn tell_coverage(&mut self, recorder: &SyncSender<Input>, ends: bool) {
        for facts in self.coverage.due(Instant::now(), ends) {
            let input = Input::Fact(EntryType::Coverage, facts);
            // A disk that hangs must not keep probes from being attached.
            let told = if ends { recorder.send(input).is_ok() } else { recorder.try_send(input).is_ok() };
            if !told {
                self.coverage.tell_again();
            }
        }
    }

    /// What is attached, for `status`.
    fn tell_probes(&self) {
        let attached = |name: String| ProbeState { name, state: "attached".to_owned() };
        let mut probes = vec![attached(format!("sockets by {:?}", self.probes.backend()))];
        for library in self.libraries.libraries() {
            let functions = library.functions.len();
            probes.push(attached(format!("TLS {} ({functions} functions)", library.path.display())));
        }
        let counters = self.libraries.counters();
        if let Some(error) = &counters.last_error {
            let failures = counters.attach_errors + counters.read_errors + counters.over_limit;
            let state = format!("{failures} failures, the last: {error}");
            probes.push(ProbeState { name: "TLS".to_owned(), state });
        }
        let mut status = self.shared.status();
        status.probes = probes;
        status.tls_uncovered = counters.uncovered_handshakes;
        status.tls_unread = self.coverage.programs();
    }

    fn count(&mut self) {
        let kernel = match self.probes.counters() {
            Ok(kernel) => kernel,
            Err(error) => return events::probe_missing("counters", &error.to_string()),
        };
        let skipped = kernel.rules.iter().fold(kernel.not_included, |mut sum, rule| {
            sum.events += rule.events;
            sum.bytes += rule.bytes;
            sum
        });
        let sources = [
            ("wire", kernel.wire),
            ("plaintext", kernel.plaintext),
            ("process", kernel.process),
            ("control", kernel.control),
        ];
        let unbound = RuleCounters { bytes: self.shared.status().worker.left_out_bytes(), events: 0 };
        let mut counters = lock(&self.shared.counters);
        for (name, source) in sources {
            if source.produced_bytes > 0 {
                counters.insert(format!("{name}.bytes"), bytes_of(&source));
            }
            counters.insert(format!("{name}.events"), events_of(&source));
        }
        let skipped = [
            ("rules.bytes", skipped),
            ("ciphertext.bytes", kernel.ciphertext),
            ("other_end.bytes", kernel.other_end),
            ("unbound.bytes", unbound),
        ];
        for (name, RuleCounters { bytes, .. }) in skipped {
            let skip = Counters { produced: bytes, skipped: bytes, ..Counters::default() };
            counters.insert(name.to_owned(), skip);
        }
        drop(counters);
        let sum =
            |pick: fn(&SourceCounters) -> u64| sources.iter().map(|(_, source)| pick(source)).sum::<u64>();
        let mut status = self.shared.status();
        let records = status.worker.figures.records;
        status.counters.produced = Amount {
            events: sum(|source| source.produced_events),
            bytes: sum(|source| source.produced_bytes),
        };
        status.counters.delivered = Amount {
            events: sum(|source| source.submitted_events),
            bytes: sum(|source| source.submitted_bytes),
        };
        status.counters.lost =
            Amount { events: sum(|source| source.lost_events), bytes: sum(|source| source.lost_bytes) };
        status.counters.skipped = Amount {
            events: skipped.iter().map(|(_, rule)| rule.events).sum(),
            bytes: skipped.iter().map(|(_, rule)| rule.bytes).sum(),
        };
        status.counters.records = records;
    }
}

/// In bytes, what the kernel side produced is in the ring, lost or cut.
fn bytes_of(source: &SourceCounters) -> Counters {
    Counters {
        produced: source.produced_bytes,
        delivered: source.submitted_bytes,
        lost_ring: source.lost_bytes,
        cut: source.cut_bytes,
        ..Counters::default()
    }
}

fn events_of(source: &SourceCounters) -> Counters {
    Counters {
        produced: source.produced_events,
        delivered: source.submitted_events,
        lost_ring: source.lost_events,
        ..Counters::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_for_a_program_that_is_not_there_names_it() {
        let mut capture = config::Capture::default();
        capture.exclude.executables.push("/no/such/program".into());
        assert!(format!("{:#}", rules(&capture).unwrap_err()).contains("/no/such/program"));
    }

    #[test]
    fn includes_and_excludes_keep_their_sides() {
        let mut capture = config::Capture::default();
        capture.exclude.ports.push(22);
        capture.include.ports.push(80);
        let rules = rules(&capture).unwrap();
        let exclude = Rule { include: false, matches: Match::Port(22) };
        assert_eq!(rules, [exclude, Rule { include: true, matches: Match::Port(80) }]);
    }
}
