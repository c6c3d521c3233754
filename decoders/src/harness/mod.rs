//! One harness for all decoders: conversations as text with goldens beside them, what every decoder must hold
//! whatever its bytes mean, and a bounded fuzz run. Compiled for tests and under the feature `harness` only.
//!
//! A protocol runs all of it with one line in its `mod.rs`: `crate::harness::tests!(Name, "folder");`. Its
//! cases lie in `fixtures/*.cap` of its folder ([`crate::case`] tells the form); `cargo xtask golden --bless` rewrites
//! the goldens, and a person reads the difference.

mod compare;
pub mod fuzz;
mod property;
mod random;
pub mod render;
pub mod replay;

#[cfg(test)]
mod broken;

use std::path::PathBuf;

pub use property::{PROPERTIES, Property};

use crate::case::{self, Case};
use crate::protocol::Protocol;

/// A protocol and its folder of cases.
pub struct Suite {
    protocol: &'static dyn Protocol,
    folder: &'static str,
    fixtures: PathBuf,
}

impl Suite {
    /// Of a protocol whose folder is `src/FOLDER`.
    pub fn new(protocol: &'static dyn Protocol, folder: &'static str) -> Self {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        Suite { protocol, folder, fixtures: root.join("src").join(folder).join("fixtures") }
    }

    /// Files of cases, with their cases.
    ///
    /// # Panics
    /// When there is none, or one cannot be read.
    pub fn files(&self) -> Vec<(PathBuf, Vec<Case>)> {
        let mut files: Vec<PathBuf> = std::fs::read_dir(&self.fixtures)
            .unwrap_or_else(|error| panic!("{}: {error}", self.fixtures.display()))
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "cap"))
            .collect();
        files.sort();
        assert!(!files.is_empty(), "{}: no cases", self.fixtures.display());
        let read = |path: PathBuf| {
            let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{error}"));
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            let cases = case::parse(&name, &text).unwrap_or_else(|why| panic!("{why}"));
            (path, cases)
        };
        files.into_iter().map(read).collect()
    }

    /// Inputs for a fuzzer, made of the cases.
    pub fn seeds(&self) -> Vec<Vec<u8>> {
        self.files().iter().flat_map(|(_, cases)| cases.iter().map(fuzz::seed)).collect()
    }

    /// What is told of each case stands in the golden beside it.
    ///
    /// # Panics
    /// When it does not, unless `CUSTODY_BLESS` is set: then it is written there.
    pub fn goldens(&self) {
        let mut wrong = Vec::new();
        for (path, cases) in self.files() {
            let told = |case| render::outcome(case, &replay::replay(self.protocol, case, usize::MAX));
            let found: String = cases.iter().map(|case| told(case) + "\n").collect();
            let golden = path.with_extension("golden");
            if std::env::var_os("CUSTODY_BLESS").is_some() {
                std::fs::write(&golden, &found).unwrap_or_else(|error| panic!("{error}"));
            } else if std::fs::read_to_string(&golden).unwrap_or_default() != found {
                wrong.push(format!("{} differs; now it is:\n{found}", golden.display()));
            }
        }
        assert!(wrong.is_empty(), "{}\n`cargo xtask golden --bless` writes it", wrong.join("\n"));
    }

    /// Each case holds a property.
    ///
    /// # Panics
    /// When one does not.
    pub fn holds(&self, name: &str) {
        let (_, check) = PROPERTIES
            .iter()
            .find(|(known, _)| *known == name)
            .unwrap_or_else(|| panic!("no property is called {name}"));
        let mut wrong = Vec::new();
        for case in self.files().iter().flat_map(|(_, cases)| cases) {
            if let Err(why) = check(self.protocol, case) {
                wrong.push(format!("{}: {why}", case.name));
            }
        }
        assert!(wrong.is_empty(), "{name}:\n{}", wrong.join("\n"));
    }

    /// Seeds and changed seeds: 3,000, or as many as `CUSTODY_FUZZ_COUNT` says. With `CUSTODY_FUZZ_SEEDS` set,
    /// the seeds are written into that folder, for a fuzzer to begin with.
    ///
    /// # Panics
    /// When one input breaks the decoder.
    pub fn fuzz(&self) {
        let seeds = self.seeds();
        if let Some(folder) = std::env::var_os("CUSTODY_FUZZ_SEEDS") {
            let folder = PathBuf::from(folder).join(self.folder);
            std::fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("{error}"));
            for (number, seed) in seeds.iter().enumerate() {
                let path = folder.join(format!("case-{number:03}"));
                std::fs::write(path, seed).unwrap_or_else(|error| panic!("{error}"));
            }
        }
        let count = std::env::var("CUSTODY_FUZZ_COUNT").ok().and_then(|count| count.parse().ok());
        if let Err(why) = fuzz::run(self.protocol, &seeds, count.unwrap_or(3000)) {
            panic!("{}: {why}", self.protocol.name());
        }
    }
}

/// All tests of the harness for one protocol: its value and the name of its folder.
#[cfg(test)]
macro_rules! tests {
    ($protocol:expr, $folder:literal) => {
        #[cfg(test)]
        mod harness {
            use super::*;

            fn suite() -> $crate::harness::Suite {
                $crate::harness::Suite::new(&$protocol, $folder)
            }

            #[test]
            fn golden_cases() {
                suite().goldens();
            }

            $crate::harness::property_tests! {
                any_chunking_tells_the_same: "any chunking tells the same",
                any_interleaving_tells_the_same: "any interleaving of the directions tells the same",
                duplicates_tell_the_same: "chunks that come twice or out of order tell the same",
                nothing_is_mixed_across_a_gap: "nothing is mixed across a gap",
                a_part_tells_no_more_than_the_whole: "what is cut off anywhere tells no more than the whole",
                memory_stays_bounded: "memory stays bounded",
                work_is_linear: "work grows with the bytes and not with their square",
                no_secret_survives_masking: "no secret survives masking",
            }

            #[test]
            fn fuzz_seeds_and_their_mutations() {
                suite().fuzz();
            }
        }
    };
}

#[cfg(test)]
macro_rules! property_tests {
    ($($test:ident: $property:literal,)+) => {
        $(#[test]
        fn $test() {
            suite().holds($property);
        })+
    };
}

#[cfg(test)]
pub(crate) use {property_tests, tests};
