//! `custody-agent`: see [`custody_agent::command`].

fn main() -> std::process::ExitCode {
    custody_agent::command::main()
}
