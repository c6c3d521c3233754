//! `cargo xtask new-decoder NAME`: a folder for a protocol that compiles, is registered, and runs the harness.
//! Writes files and nothing else; refuses to touch a protocol that is there.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use clap::Args;

/// Which protocol.
#[derive(Args)]
pub(crate) struct Options {
    /// Its name: lower-case letters, digits and underscores, such as `redis`.
    name: String,
}

/// Where each template goes, seen from the repository; `__name__` stands for the name.
const TEMPLATES: &[(&str, &str)] = &[
    ("decoders/src/__name__/mod.rs", include_str!("../templates/decoder/mod.rs")),
    ("decoders/src/__name__/frame.rs", include_str!("../templates/decoder/frame.rs")),
    ("decoders/src/__name__/parse.rs", include_str!("../templates/decoder/parse.rs")),
    ("decoders/src/__name__/state.rs", include_str!("../templates/decoder/state.rs")),
    ("decoders/src/__name__/connection.rs", include_str!("../templates/decoder/connection.rs")),
    ("decoders/src/__name__/fuzz.rs", include_str!("../templates/decoder/fuzz.rs")),
    ("decoders/src/__name__/README.md", include_str!("../templates/decoder/README.md")),
    ("decoders/src/__name__/fixtures/first.cap", include_str!("../templates/decoder/first.cap")),
    ("fuzz/targets/__name__.rs", include_str!("../templates/decoder/fuzz_target.rs")),
];

/// Makes the folder and registers the protocol.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    create(root, &options.name)?;
    println!("decoders/src/{0}: made and registered. Next, in this order:", options.name);
    println!("  cargo xtask golden --bless         writes what is told of its first cases");
    println!("  cargo test -p custody-decoders {}::", options.name);
    println!("  decoders/src/{}/README.md          says what to put in the template's place", options.name);
    Ok(())
}

fn create(root: &Path, name: &str) -> Result<()> {
    let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    ensure!(
        plain && begins,
        "{name:?} is no name: lower-case letters, digits and underscores, a letter first"
    );
    ensure!(!root.join("decoders/src").join(name).exists(), "decoders/src/{name} is there already");
    ensure!(
        !root.join(format!("decoders/src/{name}.rs")).exists(),
        "decoders/src/{name}.rs is there already"
    );
    // All that may fail is asked before anything is written.
    let library = Edited::of(root, "decoders/src/lib.rs", |text| with_module(text, name))?;
    let registry = Edited::of(root, "decoders/src/registry.rs", |text| with_protocol(text, name))?;
    let fuzz = Edited::of(root, "fuzz/Cargo.toml", |text| Ok(with_target(text, name)))?;
    for (path, template) in TEMPLATES {
        let path = root.join(filled(path, name));
        let folder = path.parent().context("a template lies in a folder")?;
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        std::fs::write(&path, filled(template, name)).with_context(|| path.display().to_string())?;
    }
    [library, registry, fuzz].into_iter().try_for_each(Edited::write)
}

/// A file that gets a line more.
struct Edited {
    path: std::path::PathBuf,
    text: String,
}

impl Edited {
    fn of(root: &Path, path: &str, edit: impl FnOnce(&str) -> Result<String>) -> Result<Self> {
        let path = root.join(path);
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let text = edit(&text).with_context(|| path.display().to_string())?;
        Ok(Edited { path, text })
    }

    fn write(self) -> Result<()> {
        std::fs::write(&self.path, self.text).with_context(|| self.path.display().to_string())
    }
}

fn filled(template: &str, name: &str) -> String {
    let eight: String = name.chars().chain("--------".chars()).take(8).collect();
    template.replace("__name8__", &eight).replace("__name__", name).replace("__Name__", &type_name(name))
}

/// `my_protocol` as `MyProtocol`.
fn type_name(name: &str) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters
            .next()
            .map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
    };
    name.split('_').map(capital).collect()
}

/// Among the public modules, where the alphabet puts it.
fn with_module(text: &str, name: &str) -> Result<String> {
    let line = format!("pub mod {name};");
    let mut lines: Vec<&str> = text.lines().collect();
    let modules = lines.iter().position(|line| line.starts_with("pub mod ")).context("no public modules")?;
    let before = lines[modules..].iter().position(|known| {
        let module = known.strip_prefix("pub mod ").or_else(|| known.strip_prefix("mod "));
        module.is_some_and(|module| module > line.trim_start_matches("pub mod "))
    });
    let mut at = before.map_or(lines.len(), |before| modules + before);
    // What stands above a module belongs to it.
    while at > 0 && lines[at - 1].starts_with("#[") {
        at -= 1;
    }
    lines.insert(at, &line);
    Ok(lines.join("\n") + "\n")
}

/// As the last one that is asked.
fn with_protocol(text: &str, name: &str) -> Result<String> {
    let start = text.find("PROTOCOLS: &[&dyn Protocol] =").context("no list of protocols")?;
    let end = start + text[start..].find("];").context("the list of protocols has no end")?;
    let (list, after) = text.split_at(end);
    let list = list.trim_end().trim_end_matches(',');
    Ok(format!("{list}, &crate::{name}::{}{after}", type_name(name)))
}

fn with_target(text: &str, name: &str) -> String {
    format!(
        "{}\n\n[[bin]]\nname = \"{name}\"\npath = \"targets/{name}.rs\"\ntest = false\ndoc = false\nbench = false\n",
        text.trim_end()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn names_that_are_none_are_refused() {
        for name in ["", "Redis", "2redis", "my-protocol", "../x", "é"] {
            assert!(create(Path::new("/nowhere"), name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_module_stands_where_the_alphabet_puts_it() {
        let text = "pub mod anomaly;\n#[cfg(test)]\npub mod harness;\nmod session;\npub mod streams;\n";
        let modules = |name| with_module(text, name).expect("modules");
        assert!(
            modules("grpc").starts_with("pub mod anomaly;\npub mod grpc;\n#[cfg(test)]\npub mod harness;")
        );
        assert!(modules("zmq").ends_with("pub mod streams;\npub mod zmq;\n"));
        assert_eq!(type_name("my_sql"), "MySql");
    }

    /// The template itself, in a copy of the crates that it needs: it compiles, its goldens are written, and it
    /// holds every property of the harness.
    #[test]
    fn a_new_decoder_compiles_and_holds_the_harness() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
        let copy = tempfile::tempdir().expect("a folder");
        for path in ["decoders", "record", "fuzz", "Cargo.lock", "rustfmt.toml"] {
            copy_all(&root.join(path), &copy.path().join(path));
        }
        let manifest = std::fs::read_to_string(root.join("Cargo.toml")).expect("manifest");
        let members = manifest.lines().map(|line| match line.starts_with("members = ") {
            true => "members = [\"record\", \"decoders\"]",
            false => line,
        });
        let manifest = members.collect::<Vec<_>>().join("\n");
        std::fs::write(copy.path().join("Cargo.toml"), manifest).expect("manifest");
        create(copy.path(), "sample_protocol").expect("made");
        assert!(create(copy.path(), "sample_protocol").is_err(), "twice");
        let cargo = |bless: bool| {
            let tests = if bless { "sample_protocol::harness::golden_cases" } else { "sample_protocol::" };
            let mut command = Command::new(env!("CARGO"));
            command.args(["test", "--offline", "--quiet", "-p", "custody-decoders", "--lib", tests]);
            command.current_dir(copy.path()).env("CARGO_TARGET_DIR", root.join("target"));
            if bless {
                command.env("CUSTODY_BLESS", "1");
            }
            command.output().expect("cargo runs")
        };
        for bless in [true, false] {
            let output = cargo(bless);
            let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{said}");
            assert!(bless || said.contains("11 passed"), "{said}");
            assert!(!said.contains("warning"), "{said}");
        }
        let golden = copy.path().join("decoders/src/sample_protocol/fixtures/first.golden");
        let golden = std::fs::read_to_string(golden).expect("the golden");
        assert!(golden.contains("answer_lost") && golden.contains("sample_protocol.answer"), "{golden}");
    }

    fn copy_all(from: &Path, to: &Path) {
        if from.is_file() {
            std::fs::copy(from, to).expect("copied");
            return;
        }
        std::fs::create_dir_all(to).expect("a folder");
        for entry in std::fs::read_dir(from).expect("a folder") {
            let entry = entry.expect("an entry");
            if entry.file_name() != "target" {
                copy_all(&entry.path(), &to.join(entry.file_name()));
            }
        }
    }
}
