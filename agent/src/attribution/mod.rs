//! Who a process is: readers of `/proc` and of the user table. They take a root path, so that they are
//! tested on recorded trees, and must not cache: what they return was true when they read it.

pub mod cgroup;
pub mod process;
pub mod sockets;
pub mod users;
