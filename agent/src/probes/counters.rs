//! The kernel side's sums, over all CPUs.

use super::{ProbeError, rules::Rules};
use aya::Ebpf;
use aya::maps::PerCpuArray;
use custody_abi::{RuleCounters, SourceCounters, source};

/// Cumulative since loading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Payload on sockets.
    pub wire: SourceCounters,
    /// Payload inside TLS.
    pub plaintext: SourceCounters,
    /// exec, fork, exit.
    pub process: SourceCounters,
    /// Other control events.
    pub control: SourceCounters,
    /// What no include rule named, where there are include rules.
    pub not_included: RuleCounters,
    /// Ciphertext whose plaintext is told.
    pub ciphertext: RuleCounters,
    /// What connecting ends moved whose accepting ends, on this host too, are told.
    pub other_end: RuleCounters,
    /// What each rule left out, in the order in which the rules were given.
    pub rules: Vec<RuleCounters>,
}

pub(super) fn read(ebpf: &Ebpf, rules: &Rules) -> Result<Counters, ProbeError> {
    let failed = |map: &'static str| move |source| ProbeError::Map { map: map.to_owned(), source };
    let map = ebpf.map("COUNTERS").ok_or_else(|| ProbeError::Object("no map COUNTERS".to_owned()))?;
    let map: PerCpuArray<_, [u64; 8]> = PerCpuArray::try_from(map).map_err(failed("COUNTERS"))?;
    let of = |index| -> Result<SourceCounters, ProbeError> {
        let values = map.get(&index, 0).map_err(failed("COUNTERS"))?;
        let sum = sum(values.iter());
        Ok(SourceCounters {
            produced_events: sum[0],
            produced_bytes: sum[1],
            submitted_events: sum[2],
            submitted_bytes: sum[3],
            lost_events: sum[4],
            lost_bytes: sum[5],
            cut_events: sum[6],
            cut_bytes: sum[7],
        })
    };
    let skipped =
        ebpf.map("RULE_COUNTERS").ok_or_else(|| ProbeError::Object("no map RULE_COUNTERS".to_owned()))?;
    let skipped: PerCpuArray<_, [u64; 2]> =
        PerCpuArray::try_from(skipped).map_err(failed("RULE_COUNTERS"))?;
    let rule = |index| -> Result<RuleCounters, ProbeError> {
        let [events, bytes] = sum(skipped.get(&index, 0).map_err(failed("RULE_COUNTERS"))?.iter());
        Ok(RuleCounters { events, bytes })
    };
    Ok(Counters {
        wire: of(source::WIRE)?,
        plaintext: of(source::PLAINTEXT)?,
        process: of(source::PROCESS)?,
        control: of(source::CONTROL)?,
        not_included: rule(custody_abi::rule::NOT_INCLUDED)?,
        ciphertext: rule(custody_abi::rule::CIPHERTEXT)?,
        other_end: rule(custody_abi::rule::OTHER_END)?,
        rules: (0..rules.count())
            .map(|index| rule(custody_abi::rule::FIRST + index))
            .collect::<Result<_, _>>()?,
    })
}

fn sum<'a, const N: usize>(cpus: impl Iterator<Item = &'a [u64; N]>) -> [u64; N] {
    cpus.fold([0; N], |mut sum, cpu| {
        sum.iter_mut().zip(cpu).for_each(|(sum, value)| *sum += value);
        sum
    })
}
