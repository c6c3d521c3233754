//! What is in force on this host, as CONFIG entries tell it: hashes and names, never a value of the configuration. Must not
//! decide whether a configuration is taken.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use custody_decoders::item::Field;
use custody_decoders::mask::Masker;
use custody_record::names;
use ring::digest::{self, SHA256};

use crate::config::Config;
use crate::probes;

/// Most of a refused file that is hashed, bytes: what is longer is no configuration, and the hash of its beginning says so
/// as well.
const REFUSED_BYTES_MAX: u64 = 16 << 20;

/// What became of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The agent starts with it.
    Loaded,
    /// All of it is in force now.
    Reloaded,
    /// What changed in it for the probes, the spool or the ways to the sink waits for the next start.
    ReloadedInPart,
    /// The last good one stays.
    Refused,
}

impl Outcome {
    /// What becomes of `new` where `old` was in force: limits, masks and level are taken over while the agent runs.
    pub fn of_reload(old: &Config, new: &Config) -> Self {
        let mut taken = Config { limits: new.limits.clone(), masking: new.masking.clone(), ..old.clone() };
        taken.capture.level = new.capture.level;
        if taken == *new { Outcome::Reloaded } else { Outcome::ReloadedInPart }
    }

    /// Its word, as recorded.
    pub const fn as_str(self) -> &'static str {
        match self {
            Outcome::Loaded => "loaded",
            Outcome::Reloaded => "reloaded",
            Outcome::ReloadedInPart => "reloaded_in_part",
            Outcome::Refused => "refused",
        }
    }
}

/// What stays the same while the agent runs.
#[derive(Clone, Debug)]
pub struct InForce {
    kernel: String,
    program: [u8; 32],
    kernel_programs: String,
}

impl InForce {
    /// Of the running agent, with what [`probes::Probes::programs`] says.
    pub fn of(kernel_programs: &[(String, u64)]) -> Result<Self> {
        let named = kernel_programs.iter().map(|(name, tag)| format!("{name}:{tag:016x}"));
        Ok(InForce {
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            // The program that runs, also where its file was replaced or removed since.
            program: hash_of_file(Path::new("/proc/self/exe"), u64::MAX)?,
            kernel_programs: named.collect::<Vec<_>>().join(" "),
        })
    }

    /// The fields of one CONFIG entry: all that is in force, and what became of the configuration. `refused` is the file
    /// that was not taken.
    pub fn facts(&self, config: &Config, outcome: Outcome, refused: Option<&Path>) -> Result<Vec<Field>> {
        let masks = Masker::new(config.masking.clone())?.rules_hash();
        let mut facts = vec![
            Field::structure(names::AGENT_CONFIG_STATE, outcome.as_str()),
            Field::structure(names::AGENT_CONFIG_HASH, hex::encode(config.hash())),
            Field::structure(names::AGENT_CONFIG_VERSION, u64::from(config.config_version)),
            Field::structure(names::AGENT_MASK_HASH, hex::encode(masks)),
            Field::structure(names::LEVEL, config.capture.level.as_str()),
            Field::structure(names::AGENT_VERSION, env!("CARGO_PKG_VERSION")),
            Field::structure(names::AGENT_PROGRAM_HASH, hex::encode(self.program)),
            Field::structure(names::AGENT_KERNEL, self.kernel.clone()),
            Field::structure(names::AGENT_KERNEL_PROGRAMS, self.kernel_programs.clone()),
        ];
        let object = probes::object_hash();
        facts.extend(object.map(|hash| Field::structure(names::AGENT_OBJECT_HASH, hex::encode(hash))));
        // A file that is not there has no hash.
        let refused = refused.and_then(|path| hash_of_file(path, REFUSED_BYTES_MAX).ok());
        facts.extend(refused.map(|hash| Field::structure(names::AGENT_CONFIG_REFUSED, hex::encode(hash))));
        Ok(facts)
    }
}

/// SHA-256 of a file, or of so many bytes of its beginning.
fn hash_of_file(path: &Path, bytes_max: u64) -> Result<[u8; 32]> {
    use std::io::Read;
    let read = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(read)?.take(bytes_max);
    let (mut context, mut buffer) = (digest::Context::new(&SHA256), vec![0; 64 << 10]);
    loop {
        match file.read(&mut buffer).with_context(read)? {
            0 => break,
            length => context.update(&buffer[..length]),
        }
    }
    context.finish().as_ref().try_into().context("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn told(config: &Config, outcome: Outcome, refused: Option<&Path>) -> BTreeMap<String, String> {
        let in_force = InForce::of(&[("sys_enter".to_owned(), 0xab)]).unwrap();
        let facts = in_force.facts(config, outcome, refused).unwrap();
        facts.into_iter().map(|fact| (fact.name.to_string(), format!("{:?}", fact.value))).collect()
    }

    /// The names of what differs.
    fn changed<'a>(
        one: &'a BTreeMap<String, String>,
        other: &'a BTreeMap<String, String>,
    ) -> BTreeSet<&'a str> {
        let names = one.keys().chain(other.keys()).map(String::as_str);
        names.filter(|name| one.get(*name) != other.get(*name)).collect()
    }

    #[test]
    fn a_change_of_the_configuration_that_left_its_entry_as_it_was_would_be_unseen() {
        let before = told(&Config::default(), Outcome::Loaded, None);
        let mut config = Config::default();
        config.spool.bytes_max += 1;
        let after = told(&config, Outcome::Loaded, None);
        assert_eq!(changed(&before, &after), [names::AGENT_CONFIG_HASH].into());
        let text = "config_version = 1\n[masking]\nliterals = \"all\"\n";
        let masks = Config::parse(Path::new("agent.toml"), text).map(|config| config.masking);
        config = Config { masking: masks.unwrap_or_else(|error| panic!("{error}")), ..Config::default() };
        let after = told(&config, Outcome::Loaded, None);
        assert_eq!(changed(&before, &after), [names::AGENT_CONFIG_HASH, names::AGENT_MASK_HASH].into());
    }

    #[test]
    fn a_file_that_was_refused_is_told_by_its_hash_beside_what_stays_in_force() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.toml");
        std::fs::write(&path, "password = \"hunter2\"").unwrap();
        let before = told(&Config::default(), Outcome::Loaded, None);
        let refused = told(&Config::default(), Outcome::Refused, Some(&path));
        let differs = changed(&before, &refused);
        assert_eq!(differs, [names::AGENT_CONFIG_STATE, names::AGENT_CONFIG_REFUSED].into());
        assert!(!format!("{refused:?}").contains("hunter2"));
        std::fs::remove_file(&path).unwrap();
        let gone = told(&Config::default(), Outcome::Refused, Some(&path));
        assert_eq!(changed(&before, &gone), [names::AGENT_CONFIG_STATE].into());
    }

    #[test]
    fn a_reload_that_takes_over_a_part_says_so() {
        let old = Config::default();
        assert_eq!(Outcome::of_reload(&old, &old), Outcome::Reloaded);
        let mut limits = old.clone();
        limits.limits.rows_max += 1;
        assert_eq!(Outcome::of_reload(&old, &limits), Outcome::Reloaded);
        let mut capture = limits.clone();
        capture.capture.data_ring_bytes *= 2;
        assert_eq!(Outcome::of_reload(&old, &capture), Outcome::ReloadedInPart);
    }
}
