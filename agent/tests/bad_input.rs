//! What bad input gets: one clear sentence, the right exit code, nothing half-written.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::process::{Command, Output};

const PROGRAM: &str = env!("CARGO_BIN_EXE_custody-agent");

fn agent(folder: &Path, text: &str, arguments: &[&str]) -> Output {
    let config = folder.join("agent.toml");
    let base = format!(
        "config_version = 1\nstate_directory = \"{0}/state\"\nruntime_directory = \"{0}/run\"\n",
        folder.display()
    );
    std::fs::write(&config, format!("{base}{text}")).unwrap();
    Command::new(PROGRAM).args(arguments).arg("--config").arg(config).output().unwrap()
}

fn said(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    for verb in ["check-config", "run"] {
        let (code, text) = said(&agent(folder.path(), "colour = \"red\"\n", &[verb]));
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains("colour") && text.contains("line 4"), "{text}");
    }
}

#[test]
fn a_log_filter_that_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (code, text) = said(&agent(folder.path(), "log = \"custody_agent=loud\"\n", &["run"]));
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("loud"), "{text}");
}

#[test]
fn a_missing_file_is_a_matter_of_configuration() {
    let output = Command::new(PROGRAM).args(["check-config", "--config", "/no/such/file"]).output().unwrap();
    let (code, text) = said(&output);
    assert_eq!(code, Some(2));
    assert!(text.contains("/no/such/file"), "{text}");
}

#[test]
fn a_host_that_is_not_enrolled_is_told_how() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("state")).unwrap();
    let (code, text) = said(&agent(folder.path(), "", &["run"]));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("custody-sink enroll --host"), "{text}");
}

#[test]
fn half_a_token_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (code, text) = said(&agent(folder.path(), "", &["enroll", "custody-join-1.AAAA"]));
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("copied whole"), "{text}");
    assert!(!folder.path().join("state").exists());
}

#[test]
fn status_without_an_agent_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (code, text) = said(&agent(folder.path(), "", &["status"]));
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("is custody-agent running"), "{text}");
}

/// Mask-test shows what would be stored and counts; of what was masked nothing may come out, and its exit code says
/// whether there was anything.
#[test]
fn mask_test_shows_the_text_without_what_is_masked_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.log");
    std::fs::write(&file, "user ann@example.org paid with 4111 1111 1111 1111\n").unwrap();
    let name = file.to_str().unwrap();
    let text = agent(folder.path(), "", &["mask-test", name]);
    assert_eq!(String::from_utf8_lossy(&text.stdout), "user ‹email·redact› paid with ‹card·redact›\n");
    assert_eq!(said(&text), (Some(0), "51 bytes read as text, 2 values masked: card 1, email 1\n".into()));
    let json =
        agent(folder.path(), "[masking.recognisers]\nemail = \"off\"\n", &["mask-test", name, "-o", "json"]);
    let summary: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(summary["kinds"], serde_json::json!({"card": 1}));
    assert!(!String::from_utf8_lossy(&json.stdout).contains("ann@"));
    std::fs::write(&file, "nothing here\n").unwrap();
    assert_eq!(agent(folder.path(), "", &["mask-test", name]).status.code(), Some(1));
    let (code, text) = said(&agent(folder.path(), "", &["mask-test", name, "--as", "yaml"]));
    assert_eq!(code, Some(2));
    assert!(text.contains("column:NAME"), "{text}");
    let (code, text) =
        said(&agent(folder.path(), "[masking.recognisers]\nnhs = \"off\"\n", &["mask-test", name]));
    assert_eq!(code, Some(2));
    assert!(text.contains("unknown recogniser `nhs`") && text.contains("uk_nhs"), "{text}");
}
