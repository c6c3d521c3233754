//! People who type `custody`, and the verifier in another language.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::Sink;

/// `custody`, built beside the sink when it is not there yet.
pub(crate) fn program() -> PathBuf {
    let built = Command::new(env!("CARGO")).args(["build", "--quiet", "-p", "custody"]).status().unwrap();
    assert!(built.success());
    let debug = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/debug/custody");
    let beside = Path::new(env!("CARGO_BIN_EXE_custody-sink")).with_file_name("custody");
    if beside.is_file() { beside } else { debug }
}

/// A person with a folder of their own.
pub(crate) struct Person {
    pub(crate) program: PathBuf,
    pub(crate) home: PathBuf,
}

impl Person {
    pub(crate) fn log_in(sink: &Sink, name: &str) -> Self {
        let person = Person { program: program(), home: sink.folder.path().join(name) };
        let token = sink.token(&["--role", "auditor", "--name", name]).to_string();
        let output = person.custody(&["login", &token]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        person
    }

    /// A command, to be run or changed.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.env("CUSTODY_HOME", &self.home).env("NO_COLOR", "1").args(arguments);
        command
    }

    pub(crate) fn custody(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What it says when it ends with this code.
    #[track_caller]
    pub(crate) fn says(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.custody(arguments);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        said
    }
}

/// The verifier in another language says so too.
#[track_caller]
pub(crate) fn second_verifier(says: &str, bundle: &str, policy: &str) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/second_verifier/verify_bundle.py");
    let output = Command::new("python3").arg(script).args([bundle, policy]).output().unwrap();
    let said = text(&output.stdout);
    assert!(said.starts_with(says), "{said}{}", text(&output.stderr));
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Paths in the sink's own folder, to be given to programs.
pub(crate) fn in_folder(sink: &Sink) -> impl Fn(&str) -> String + use<> {
    let folder = sink.folder.path().to_owned();
    move |name| folder.join(name).to_str().unwrap().to_owned()
}
