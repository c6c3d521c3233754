//! Which traffic is wanted: include and exclude rules by cgroup, executable, port, network and endpoint. A
//! verdict is kept in the socket's entry, so a socket that is no target costs one look-up.
//!
//! Must not: look at names or pids, which any program can choose.

use crate::kernel::{current, load, offset, read, setting};
use crate::maps::{
    RULE_CGROUP, RULE_CIDR, RULE_COUNTERS, RULE_ENDPOINT, RULE_EXECUTABLE, RULE_PORT, RULES_EPOCH,
};
use crate::rings::add;
use aya_ebpf::helpers::generated::bpf_get_current_cgroup_id;
use aya_ebpf::maps::lpm_trie::Key;
use custody_abi::{Endpoint, Executable, Socket, rule};

setting!(/// Whether there are include rules: then what none of them names is left out.
    INCLUDE_ONLY: u32 = 0, include_only);

setting!(/// Whether any of them names ports, networks or endpoints.
    INCLUDE_ADDRESSES: u32 = 0, include_addresses);

setting!(/// Port of the agent's own exchange, which must come through though the agent is left out; 0 none.
    CANARY_PORT: u32 = 0, canary_port);

/// Set in the verdict of the agent's own exchange: no rule leaves it out.
const CANARY: u32 = 1 << 29;
/// Nothing left out, and no include rule matched yet.
const UNDECIDED: u32 = 0;
/// An include rule matched.
const INCLUDED: u32 = rule::INCLUDE;
/// Set in a verdict that leaves out; the rest is the index of the rule.
const EXCLUDED: u32 = 1 << 30;

/// The rule, if any, that leaves out what the current process moves on this socket.
#[inline(always)]
pub(crate) fn excluded(socket: *mut Socket) -> Option<u32> {
    // SAFETY: a map's value, alive while the program runs.
    let socket = unsafe { &mut *socket };
    if socket.address_verdict & CANARY != 0 {
        return None;
    }
    let mm: u64 = load(current(), offset::TASK_MM());
    let epoch = epoch();
    if socket.rules_epoch != epoch || socket.mm != mm {
        socket.task_verdict = task_verdict(mm);
        socket.mm = mm;
        socket.rules_epoch = epoch;
    }
    let verdict = socket.address_verdict | socket.task_verdict;
    if verdict & EXCLUDED != 0 {
        let by =
            if socket.address_verdict & EXCLUDED != 0 { socket.address_verdict } else { socket.task_verdict };
        return Some(by & (rule::COUNT - 1));
    }
    (include_only() != 0 && verdict & INCLUDED == 0).then_some(rule::NOT_INCLUDED)
}

/// Whether what the current process does inside TLS libraries may be wanted. A library's call has no addresses: where
/// those include, the connection that is found later says more, and userspace leaves out what finds none.
#[inline(always)]
pub(crate) fn is_wanted() -> bool {
    let verdict = task_verdict(load(current(), offset::TASK_MM()));
    verdict & EXCLUDED == 0 && (include_only() == 0 || include_addresses() != 0 || verdict & INCLUDED != 0)
}

/// Whether the addresses alone leave a socket out, or nothing includes it: for those that nobody used.
#[inline(always)]
pub(crate) fn unwanted(socket: &Socket) -> bool {
    let verdict = socket.address_verdict | socket.task_verdict;
    verdict & EXCLUDED != 0 || (include_only() != 0 && verdict & (INCLUDED | CANARY) == 0)
}

/// Counts what a rule left out.
#[inline(always)]
pub(crate) fn skipped(rule: u32, bytes: u64) {
    let Some(counters) = RULE_COUNTERS.get_ptr_mut(rule) else { return };
    // SAFETY: only addresses of members of a map's value are taken.
    unsafe {
        add(&raw mut (*counters).events, 1);
        add(&raw mut (*counters).bytes, bytes);
    }
}

#[inline(always)]
fn epoch() -> u64 {
    RULES_EPOCH.get(0).copied().unwrap_or(0)
}

/// What a map's value says, as part of a verdict.
#[inline(always)]
fn told(value: Option<u32>) -> u32 {
    match value {
        None => UNDECIDED,
        Some(value) if value & rule::INCLUDE != 0 => INCLUDED,
        Some(value) => EXCLUDED | value,
    }
}

/// An exclusion wins over any inclusion, and the first exclusion names the rule.
#[inline(always)]
fn join(first: u32, second: u32) -> u32 {
    if first & EXCLUDED != 0 {
        first
    } else if second & EXCLUDED != 0 {
        second
    } else {
        first | second
    }
}

#[inline(always)]
fn task_verdict(mm: u64) -> u32 {
    // SAFETY: takes nothing, never fails.
    let cgroup = unsafe { bpf_get_current_cgroup_id() };
    // SAFETY: the value is copied at once.
    let verdict = told(unsafe { RULE_CGROUP.get(&cgroup) }.copied());
    let Ok(executable) = executable(mm) else { return verdict };
    // SAFETY: the value is copied at once.
    join(verdict, told(unsafe { RULE_EXECUTABLE.get(&executable) }.copied()))
}

#[inline(always)]
fn executable(mm: u64) -> Result<Executable, ()> {
    if mm == 0 {
        return Err(());
    }
    let file: u64 = read(mm + offset::MM_EXE_FILE() as u64)?;
    let inode: u64 = read(file + offset::FILE_INODE() as u64)?;
    let superblock: u64 = read(inode + offset::INODE_SUPER() as u64)?;
    let device: u32 = read(superblock + offset::SUPER_DEVICE() as u64)?;
    Ok(Executable { device: u64::from(device), inode: read(inode + offset::INODE_NUMBER() as u64)? })
}

/// What the addresses of a socket say; asked once, at first sight.
#[inline(always)]
pub(crate) fn address_verdict(local: &Endpoint, remote: &Endpoint) -> u32 {
    let canary = canary_port();
    if canary != 0 && (u32::from(local.port) == canary || u32::from(remote.port) == canary) {
        return CANARY;
    }
    join(endpoint_verdict(remote), endpoint_verdict(local))
}

#[inline(always)]
fn endpoint_verdict(endpoint: &Endpoint) -> u32 {
    // SAFETY: the values are copied at once.
    let (exact, port) =
        unsafe { (RULE_ENDPOINT.get(endpoint).copied(), RULE_PORT.get(&u32::from(endpoint.port)).copied()) };
    let verdict = join(told(exact), told(port));
    join(verdict, told(RULE_CIDR.get(&Key::new(128, mapped(endpoint))).copied()))
}

/// IPv4 addresses lie in `::ffff:0:0/96`, so that one tree serves both.
#[inline(always)]
fn mapped(endpoint: &Endpoint) -> [u8; 16] {
    let a = endpoint.address;
    if endpoint.family == crate::sockets::AF_INET {
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a[0], a[1], a[2], a[3]]
    } else {
        a
    }
}
