//! The verifier of bundles that was written in another language from docs/bundle.md: it says of each vector what the
//! first one says.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Result, bail, ensure};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What it makes of a folder of vectors. `None` where its library is missing: then the test shows nothing, which is an
/// error in CI.
fn vectors(folder: &Path) -> Result<Option<Output>> {
    let library = Command::new("python3").args(["-c", "import cryptography"]).output();
    if !library.is_ok_and(|output| output.status.success()) {
        let why = "python3-cryptography is not installed: nothing checks a signature";
        if std::env::var_os("CI").is_some_and(|value| value == "true") {
            bail!("{why}");
        }
        println!("skipped: {why}");
        return Ok(None);
    }
    let script = root().join("tests/second_verifier/verify_bundle.py");
    Ok(Some(Command::new("python3").arg(script).arg("--vectors").arg(folder).output()?))
}

#[test]
fn the_second_verifier_says_of_each_vector_what_the_first_one_says() -> Result<()> {
    let Some(output) = vectors(&root().join("ledger/tests/vectors/bundle"))? else { return Ok(()) };
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// It is able to disagree.
#[test]
fn the_second_verifier_finds_a_vector_that_is_not_what_the_index_says() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for vector in std::fs::read_dir(root().join("ledger/tests/vectors/bundle"))? {
        let vector = vector?;
        std::fs::copy(vector.path(), folder.path().join(vector.file_name()))?;
    }
    // The changed body under the honest one's name.
    std::fs::copy(folder.path().join("body_changed.bundle"), folder.path().join("session.bundle"))?;
    let Some(output) = vectors(folder.path())? else { return Ok(()) };
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.code() == Some(1) && said.contains("session.bundle: wanted verified"), "{said}");
    ensure!(said.contains("found rejected chain.body"), "{said}");
    Ok(())
}
