//! The packaged file and this reader say the same; what cannot be meant is refused.

use super::*;

fn packaged() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/sink.toml")).unwrap()
}

#[test]
fn the_packaged_file_says_the_defaults() {
    let packaged: Config = toml::from_str(&packaged()).unwrap();
    assert_eq!(packaged, Config::default());
    assert_eq!(packaged.check(), Ok(()));
}

/// Without a key, the file still gives its default; so the text itself has to be looked at.
#[test]
fn every_key_stands_in_the_packaged_file() {
    let text = packaged();
    let keys = [
        "config_version",
        "listen",
        "server_names",
        "# url",
        "state_directory",
        "certificate_days",
        "log",
        "group_commit_ms",
        "group_bytes_max",
        "segment_bytes_max",
        "checkpoint_ms",
        "disk_reserve_bytes",
        "hosts_max",
        "tokens_max",
        "connections_max",
        "appends_max",
        "queue_jobs_max",
        "subscriber_batches_max",
        "readers_max",
        "host_batches_per_second",
        "host_bytes_per_day",
        "host_bytes_stored",
        "bodies",
        "keys",
        "quorum",
    ];
    for key in keys {
        assert!(text.lines().any(|line| line.starts_with(&format!("{key} = "))), "{key} is missing");
    }
    // A list that forgets a key would pass: the error for an unknown one names all that there are.
    let error = toml::from_str::<Config>("no_such_key = 1").unwrap_err().to_string();
    let error = error + &toml::from_str::<Config>("[store]\nno_such_key = 1").unwrap_err().to_string();
    let error = error + &toml::from_str::<Config>("[limits]\nno_such_key = 1").unwrap_err().to_string();
    let error = error + &toml::from_str::<Config>("[quota]\nno_such_key = 1").unwrap_err().to_string();
    let error = error + &toml::from_str::<Config>("[retention]\nno_such_key = 1").unwrap_err().to_string();
    let error = error + &toml::from_str::<Config>("[witnesses]\nno_such_key = 1").unwrap_err().to_string();
    let known =
        error.split('`').skip(1).step_by(2).filter(|name| {
            !["no_such_key", "store", "limits", "quota", "retention", "witnesses"].contains(name)
        });
    for name in known {
        assert!(keys.contains(&name) || name == "url", "{name} is missing from the list");
    }
}
