//! `custody-sink`, the program. Everything is in the library, where tests reach it.

fn main() -> std::process::ExitCode {
    custody_sink::commands::main()
}
