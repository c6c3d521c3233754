//! The load: requests with a number of their own, and what became of each, as the client saw it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};

/// Between two requests of one client.
const PAUSE: Duration = Duration::from_millis(15);

/// A request that was answered, with wall clock times in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    pub(crate) number: u64,
    pub(crate) sent: i64,
    pub(crate) answered: i64,
}

/// Clients that ask a server until they are told to end.
#[derive(Debug, Default)]
pub(crate) struct Load {
    end: AtomicBool,
    next: AtomicU64,
    answered: Mutex<Vec<Answered>>,
}

impl Load {
    /// Asks, one request a connection, until [`Load::end`].
    pub(crate) fn ask(&self, port: u16) -> Result<()> {
        while !self.end.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let sent = now();
            request(port, &format!("/echo?n={number}"))?;
            let answered = Answered { number, sent, answered: now() };
            self.answered.lock().expect("no client panics").push(answered);
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Ends all clients.
    pub(crate) fn end(&self) {
        self.end.store(true, Ordering::Relaxed);
    }

    /// What was answered so far.
    pub(crate) fn answered(&self) -> Vec<Answered> {
        self.answered.lock().expect("no client panics").clone()
    }
}

/// Wall clock.
pub(crate) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as i64)
}

/// One request on a connection of its own; its answer must be whole.
pub(crate) fn request(port: u16, target: &str) -> Result<()> {
    let mut connection = TcpStream::connect(("127.0.0.1", port))?;
    write!(connection, "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("{\"ok\":true}\n"), "{answer}");
    Ok(())
}
