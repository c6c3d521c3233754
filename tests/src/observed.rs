//! What most tests begin with: a stand whose agent runs, and then a server that it observes.

use std::path::{Path, PathBuf};

use anyhow::Result;
use tempfile::TempDir;

use crate::redis::Redis;
use crate::servers::{Nginx, Postgres, certificate};
use crate::stand::{self, Stand};

/// The folders of a stand and of a server. Bind it before both, so that it is removed after they have ended.
#[derive(Debug)]
pub struct Folders {
    /// Of the server.
    pub server: TempDir,
    /// Of the stand.
    pub stand: TempDir,
}

/// A stand whose agent runs, and what a test needs that starts its TLS servers itself.
#[derive(Debug)]
pub struct Place {
    /// The stand.
    pub stand: Stand,
    /// Certificate for `localhost`.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// For the servers' files.
    pub folders: Folders,
}

impl Place {
    /// Sets it up.
    pub fn new() -> Result<Place> {
        let (folders, stand) = started()?;
        let (certificate, key) = certificate(folders.server.path())?;
        Ok(Place { stand, certificate, key, folders })
    }

    /// Where servers may write.
    pub fn folder(&self) -> &Path {
        self.folders.server.path()
    }
}

/// nginx with these pages (path without slash, content).
pub fn nginx(pages: &[(&str, &str)]) -> Result<(Folders, Stand, Nginx)> {
    let (folders, stand) = started()?;
    let nginx = Nginx::start(folders.server.path(), pages)?;
    Ok((folders, stand, nginx))
}

/// PostgreSQL.
pub fn postgres() -> Result<(Folders, Stand, Postgres)> {
    let (folders, stand) = started()?;
    let postgres = Postgres::start(folders.server.path())?;
    Ok((folders, stand, postgres))
}

/// Redis.
pub fn redis() -> Result<(Folders, Stand, Redis)> {
    let (folders, stand) = started()?;
    let redis = Redis::start(folders.server.path())?;
    Ok((folders, stand, redis))
}

fn started() -> Result<(Folders, Stand)> {
    let folders = Folders { server: stand::folder()?, stand: stand::folder()? };
    let mut stand = Stand::new(folders.stand.path(), "")?;
    stand.start_agent()?;
    Ok((folders, stand))
}
