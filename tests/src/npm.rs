//! Packages of npm that no distribution has, kept in `tests/.cache`, so that each is fetched once.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::process::output;

/// Where this version of a package lies. `None` where there is no npm: then the caller shows nothing, which is an
/// error in CI.
pub fn package(name: &str, version: &str) -> Result<Option<PathBuf>> {
    if Command::new("npm").arg("--version").output().is_err() {
        let why = format!("npm is not installed: nothing brings {name}");
        if std::env::var_os("CI").is_some_and(|value| value == "true") {
            bail!("{why}");
        }
        println!("skipped: {why}");
        return Ok(None);
    }
    let short = name.rsplit('/').next().unwrap_or(name);
    let cache = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!(".cache/{short}-{version}"));
    let package = cache.join("node_modules").join(name);
    if !package.join("package.json").exists() {
        std::fs::create_dir_all(&cache)?;
        let mut install = Command::new("npm");
        install.args(["install", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]);
        output(install.arg(&cache).arg(format!("{name}@{version}")))?;
    }
    Ok(Some(package))
}
