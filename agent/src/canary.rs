//! The agent's own exchange over loopback: when it comes out of the rings, capture works from end to end. It is
//! known by its port and never recorded.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

const TIMEOUT: Duration = Duration::from_secs(2);
const WORDS: &[u8] = b"custody canary";

/// Where the exchange takes place.
pub struct Canary {
    listener: TcpListener,
    port: u16,
}

impl Canary {
    /// Listens on a free port of loopback.
    pub fn listen() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("the canary cannot listen")?;
        let port = listener.local_addr()?.port();
        Ok(Canary { listener, port })
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Says a few words to itself.
    pub fn sing(&self) -> Result<()> {
        let sing = || -> std::io::Result<()> {
            let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
            let (mut server, _) = self.listener.accept()?;
            server.set_read_timeout(Some(TIMEOUT))?;
            client.write_all(WORDS)?;
            let mut heard = [0; WORDS.len()];
            server.read_exact(&mut heard)
        };
        sing().context("the canary's exchange over loopback failed")
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_hears_itself() {
        let canary = super::Canary::listen().unwrap();
        assert_ne!(canary.port(), 0);
        canary.sing().unwrap();
        canary.sing().unwrap();
    }
}
