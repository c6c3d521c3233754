//! What a configuration may say, and that the packaged one says it.

use super::*;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("agent.toml"), text)
}

#[test]
fn the_packaged_file_holds_every_key_with_its_default() {
    let text = include_str!("../../../packaging/agent.toml");
    let config = parse(text).unwrap();
    assert_eq!(config, Config::default());
    let defaults = toml::Value::try_from(Config::default()).unwrap();
    let packaged: toml::Value = toml::from_str(text).unwrap();
    assert_eq!(packaged, defaults, "a key is missing in the packaged file, or is not the default");
}

#[test]
fn an_unknown_key_is_refused_by_name() {
    let error = parse("config_version = 1\n[capture]\nspeling = 1\n").unwrap_err().to_string();
    assert!(error.contains("speling") && error.contains("line 3"), "{error}");
}

#[test]
fn another_version_is_refused() {
    assert!(matches!(parse("config_version = 2\n"), Err(ConfigError::Version { found: 2, .. })));
}

#[test]
fn a_ring_that_is_no_power_of_two_is_refused() {
    let error = parse("config_version = 1\n[capture]\ndata_ring_bytes = 1000000\n").unwrap_err();
    assert!(error.to_string().contains("capture.data_ring_bytes is 1000000"), "{error}");
}

#[test]
fn a_network_with_too_many_bits_is_refused() {
    let text = "config_version = 1\n[capture.exclude]\nnetworks = [\"10.0.0.0/33\"]\n";
    assert!(parse(text).unwrap_err().to_string().contains("10.0.0.0/33"));
}

#[test]
fn a_level_that_is_not_built_was_taken_and_meant_nothing() {
    let text = |level| format!("config_version = 1\n[capture]\nlevel = \"{level}\"\n");
    for level in ["off", "counts", "summary", "statement"] {
        assert_eq!(parse(&text(level)).unwrap().capture.level.as_str(), level);
    }
    let error = parse(&text("full")).unwrap_err().to_string();
    assert!(error.contains("`full`") && error.contains("`statement`"), "{error}");
}

#[test]
fn a_spool_that_waits_for_witnesses_without_a_policy_that_names_some_is_refused() {
    let wants = |policy: &str| {
        let text = format!("config_version = 1\n[spool]\nfree_at = \"witnessed\"\npolicy = \"{policy}\"\n");
        parse(&text).and_then(|config| config.spool.policy()).map_err(|error| error.to_string())
    };
    assert!(wants("").unwrap_err().contains("spool.policy"));
    assert!(wants("/does/not/exist").unwrap_err().contains("cannot read"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.txt");
    let log = "custody-log/730a5edc28c2f8da+f44802cc+Abx8vLVjY3X6HYJDTUZnJNkjd/U7mAaV3UnSbQzhIgWl";
    let witness = "w witness.example/w1+5fedea5f+BKzcyElNRY9Ep6qsHWqE7GJNruiENtsq4m5numRaEGIo";
    for (quorum, words) in [("none", "quorum none"), ("w", ""), ("nobody", "line 4")] {
        let sink = "b533d8ad9fcfbdde0b481c1b334ddc3c53412fd614564e7e5afd020368d382c3";
        let text = format!("sink {sink}\nlog {log}\nwitness {witness}\nquorum {quorum}\n");
        std::fs::write(&path, text).unwrap();
        match wants(path.to_str().unwrap()) {
            Ok(policy) => assert!(words.is_empty() && policy.unwrap().witnesses.demand_any(), "{quorum}"),
            Err(error) => assert!(!words.is_empty() && error.contains(words), "{quorum}: {error}"),
        }
    }
    assert_eq!(parse("config_version = 1\n").unwrap().spool.policy().unwrap(), None);
}
