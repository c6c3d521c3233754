//! Who is who: kernel keys → the names that decoders use, and processes with what is known of them. Bounded;
//! what finds no room is counted by the caller. Knows no payload but arguments of programs, which only masking
//! may look at.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use custody_abi as abi;
use custody_decoders::event::{Endpoint, Process, Role, Socket, SocketId, Transport};

use crate::attribution::process::{split_arguments, tty_name};
use crate::attribution::users::Users;
use crate::link::Canary;
use crate::probes::path_of_names;

/// Sockets at one time.
const SOCKETS_MAX: usize = 131_072;
/// Processes at one time.
const PROCESSES_MAX: usize = 262_144;
/// procfs tells starts in hundredths of a second on every Linux; the kernel side in ns.
const START_UNIT_NS: u64 = 10_000_000;
/// Names of TLS objects without a socket lie above those of sockets.
const UNBOUND: u64 = 1 << 63;

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// One socket.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Its name for decoders.
    pub id: SocketId,
    /// Ports of both ends.
    pub ports: [u16; 2],
    /// Who caused its first sight.
    pub pid: u32,
    /// It belongs to the agent's own exchange: not recorded.
    pub canary: bool,
}

/// The tables.
#[derive(Debug, Default)]
pub struct Table {
    sockets: HashMap<abi::SocketKey, Known>,
    processes: HashMap<(u32, u64), Arc<Process>>,
    users: Users,
    /// Sockets and processes that found no room.
    pub refused: u64,
}

impl Table {
    /// Names of user ids from now on.
    pub fn set_users(&mut self, users: Users) {
        self.users = users;
    }

    /// A process that was there before.
    pub fn add_process(&mut self, process: Process) {
        self.insert(process.pid, process.start_ns, Arc::new(process));
    }

    fn insert(&mut self, pid: u32, start_ns: u64, process: Arc<Process>) {
        if self.processes.len() >= PROCESSES_MAX {
            self.refused += 1;
            return;
        }
        self.processes.insert((pid, start_ns / START_UNIT_NS), process);
    }

    /// Who this is; with pid and start alone when nothing else is known.
    pub fn process(&self, task: abi::TaskKey) -> Arc<Process> {
        let known = self.processes.get(&(task.pid, task.start_ns / START_UNIT_NS));
        known.map_or_else(
            || Arc::new(Process { pid: task.pid, start_ns: task.start_ns, ..Process::default() }),
            Arc::clone,
        )
    }

    /// A program started.
    pub fn exec(&mut self, event: &abi::Exec, strings: &[u8]) -> Arc<Process> {
        let mut rest = strings;
        let mut next = |length: u32| {
            let (head, tail) = rest.split_at(rest.len().min(length as usize));
            rest = tail;
            head
        };
        let path = |names: &[u8]| String::from_utf8_lossy(&path_of_names(names)).into_owned();
        let executable = path(next(event.exe_len));
        let working_directory = path(next(event.cwd_len));
        let cgroup = path(next(event.cgroup_len));
        let arguments = split_arguments(next(event.argv_len));
        let set = |id: u32| (id != u32::MAX).then_some(id);
        let name = |uid: u32| self.users.get(&uid).cloned().unwrap_or_default();
        let login_uid = set(event.login_uid);
        let process = Arc::new(Process {
            pid: event.task.pid,
            start_ns: event.task.start_ns,
            parent_pid: event.parent.pid,
            executable,
            arguments,
            working_directory,
            user_id: event.uid,
            user_name: name(event.uid),
            login_uid,
            login_name: login_uid.map(name).unwrap_or_default(),
            audit_session: set(event.audit_session),
            tty: tty_name(event.tty),
            cgroup,
            arguments_cut: event.argv_total.saturating_sub(u64::from(event.argv_len)),
        });
        self.insert(event.task.pid, event.task.start_ns, Arc::clone(&process));
        process
    }

    /// A process was made: it is what its parent is, until it executes something.
    pub fn fork(&mut self, event: &abi::Fork) {
        let parent = self.process(event.parent);
        let child = Process {
            pid: event.child.pid,
            start_ns: event.child.start_ns,
            parent_pid: event.parent.pid,
            ..(*parent).clone()
        };
        self.insert(event.child.pid, event.child.start_ns, Arc::new(child));
    }

    /// A process ended.
    pub fn exit(&mut self, task: abi::TaskKey) -> Arc<Process> {
        let process = self.process(task);
        self.processes.remove(&(task.pid, task.start_ns / START_UNIT_NS));
        process
    }

    /// First sight of a socket; `None` when there is no room.
    pub fn open(&mut self, event: &abi::SocketOpen, canary: Canary) -> Option<(Known, Socket)> {
        if self.sockets.len() >= SOCKETS_MAX {
            self.refused += 1;
            return None;
        }
        let ports = [event.local.port, event.remote.port];
        let (local, remote) = (endpoint(&event.local), endpoint(&event.remote));
        let loopback = |end: Option<Endpoint>| end.is_some_and(|end| end.address.is_loopback());
        let of_agent = event.task.pid == canary.pid && loopback(local) && loopback(remote);
        let known = Known {
            id: SocketId(event.socket.generation),
            ports,
            pid: event.task.pid,
            canary: canary.port != 0 && ports.contains(&canary.port) && of_agent,
        };
        self.sockets.insert(event.socket, known);
        let socket = Socket {
            id: known.id,
            time_ns: event.header.time_ns,
            transport: transport(event.transport),
            role: role(event.role),
            local,
            remote,
            peer: (event.peer.generation != 0).then_some(SocketId(event.peer.generation)),
            netns: event.netns,
            whole: false,
            existing: event.header.flags & abi::flag::EXISTING != 0,
            positions: [event.ingress_position, event.egress_position].map(abi::known_position),
            process: self.process(event.task),
        };
        Some((known, socket))
    }

    /// What is known of a socket.
    pub fn socket(&self, key: abi::SocketKey) -> Option<Known> {
        self.sockets.get(&key).copied()
    }

    /// A socket is gone.
    pub fn close(&mut self, key: abi::SocketKey) -> Option<Known> {
        self.sockets.remove(&key)
    }

    /// A TLS object that no socket is known for, as a session of its own without addresses.
    pub fn unbound(&self, tls: u64, task: abi::TaskKey, existing: bool, time_ns: u64) -> Socket {
        Socket {
            id: unbound_id(tls),
            time_ns,
            transport: Transport::Tcp,
            role: Role::Unknown,
            local: None,
            remote: None,
            peer: None,
            netns: 0,
            whole: false,
            existing,
            positions: [Some(0); 2],
            process: self.process(task),
        }
    }
}

/// Name of a TLS object without a socket.
pub fn unbound_id(tls: u64) -> SocketId {
    SocketId(tls | UNBOUND)
}

fn transport(code: u8) -> Transport {
    match code {
        abi::transport::UDP => Transport::Udp,
        abi::transport::UNIX_STREAM => Transport::Unix,
        abi::transport::UNIX_DATAGRAM => Transport::UnixDatagram,
        _ => Transport::Tcp,
    }
}

fn role(code: u8) -> Role {
    match code {
        abi::role::CLIENT => Role::Client,
        abi::role::SERVER => Role::Server,
        _ => Role::Unknown,
    }
}

fn endpoint(endpoint: &abi::Endpoint) -> Option<Endpoint> {
    let [a, b, c, d, ..] = endpoint.address;
    let address = match endpoint.family {
        AF_INET => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
        // Both ends of one connection must say the same, whichever family their sockets have.
        AF_INET6 => Ipv6Addr::from(endpoint.address).to_canonical(),
        _ => return None,
    };
    Some(Endpoint { address, port: endpoint.port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(pid: u32, start_ns: u64) -> abi::TaskKey {
        abi::TaskKey { start_ns, pid, tid: pid }
    }

    fn exec(task: abi::TaskKey, strings: [&str; 4]) -> (abi::Exec, Vec<u8>) {
        let [exe, cwd, cgroup, argv] = strings;
        let lengths = strings.map(|text| u32::try_from(text.len()).unwrap());
        let event = abi::Exec {
            task,
            uid: 1000,
            login_uid: 1000,
            audit_session: u32::MAX,
            exe_len: lengths[0],
            cwd_len: lengths[1],
            cgroup_len: lengths[2],
            argv_len: lengths[3],
            argv_total: 100,
            ..abi::Exec::default()
        };
        (event, [exe, cwd, cgroup, argv].concat().into_bytes())
    }

    #[test]
    fn a_child_is_what_its_parent_is_until_it_executes() {
        let mut table = Table::default();
        table.set_users(Users::from([(1000, "alice".to_owned())]));
        let (event, strings) = exec(task(1, 5), ["sh\0bin\0", "home\0", "a.service\0", "sh\0-c\0x\0"]);
        let shell = table.exec(&event, &strings);
        assert_eq!((shell.working_directory.as_str(), shell.cgroup.as_str()), ("/home", "/a.service"));
        assert_eq!(shell.arguments, [b"sh".to_vec(), b"-c".to_vec(), b"x".to_vec()]);
        assert_eq!((shell.user_name.as_str(), shell.login_name.as_str()), ("alice", "alice"));
        assert_eq!(shell.arguments_cut, 100 - 8);
        table.fork(&abi::Fork { parent: task(1, 5), child: task(2, 9_000_000_000), ..Default::default() });
        let child = table.process(task(2, 9_000_000_001));
        assert_eq!((child.executable.as_str(), child.parent_pid, child.pid), ("/bin/sh", 1, 2));
        table.exit(task(2, 9_000_000_000));
        assert_eq!(table.process(task(2, 9_000_000_000)).executable, "");
    }

    #[test]
    fn a_pid_that_is_used_again_is_another_process() {
        let mut table = Table::default();
        table.add_process(Process {
            pid: 7,
            start_ns: 50_000_000,
            executable: "/old".into(),
            ..Default::default()
        });
        assert_eq!(table.process(task(7, 57_123_456)).executable, "/old");
        assert_eq!(table.process(task(7, 67_123_456)).executable, "");
    }

    #[test]
    fn lengths_beyond_the_strings_give_what_is_there() {
        let mut table = Table::default();
        let (mut event, strings) = exec(task(1, 5), ["x\0bin\0", "", "", "x"]);
        event.cwd_len = u32::MAX;
        let process = table.exec(&event, &strings);
        assert_eq!(process.working_directory, "/x");
        assert!(process.arguments.is_empty());
    }

    #[test]
    fn mapped_addresses_are_those_of_the_other_end() {
        let mut mapped = abi::Endpoint { port: 80, family: AF_INET6, ..Default::default() };
        mapped.address[10..].copy_from_slice(&[255, 255, 127, 0, 0, 1]);
        assert_eq!(endpoint(&mapped).unwrap().address, IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
}
