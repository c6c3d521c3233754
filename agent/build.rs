//! Embeds the kernel object that `cargo xtask build-ebpf` made, so that a host which only runs the agent
//! needs no compiler. Without one the build still succeeds, and the agent says at run time what to do.

use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-env-changed=CUSTODY_EBPF_OBJECT");
    println!("cargo::rustc-check-cfg=cfg(custody_ebpf_object)");
    let object = std::env::var_os("CUSTODY_EBPF_OBJECT").map(PathBuf::from).unwrap_or_else(|| {
        PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default())
            .join("../target/bpf/custody.o")
    });
    println!("cargo::rerun-if-changed={}", object.display());
    match object.canonicalize() {
        Ok(path) => {
            println!("cargo::rustc-cfg=custody_ebpf_object");
            println!("cargo::rustc-env=CUSTODY_EBPF_OBJECT_PATH={}", path.display());
        }
        Err(error) => println!(
            "cargo::warning=no kernel object at {} ({error}): this agent will observe nothing; \
             run `cargo xtask build-ebpf` and build again",
            object.display()
        ),
    }
}
