//! `custody`: what people type. Reads from a sink or from a copy of its store, and never writes to either.
#![forbid(unsafe_code)]

mod args;
mod client;
mod commands;
mod folder;
mod json;
mod log_folder;
mod outcome;
mod output;
mod profile;
mod progress;
mod render;
mod select;

use std::process::ExitCode;

use clap::Parser;

use args::{Command, Custody};
use outcome::Outcome;

fn main() -> ExitCode {
    let arguments = Custody::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("custody: cannot start: {error}");
            return ExitCode::from(2);
        }
    };
    outcome::report(runtime.block_on(run(arguments.command)))
}

async fn run(command: Command) -> Outcome {
    match command {
        Command::Login(arguments) => commands::login::run(&arguments).await,
        Command::Hosts(arguments) => commands::hosts::run(&arguments).await,
        Command::Tail(arguments) => commands::tail::run(&arguments).await,
        Command::Search(arguments) => commands::search::run(&arguments).await,
        Command::Timeline(arguments) => commands::timeline::run(&arguments).await,
        Command::Stats(arguments) => commands::stats::run(&arguments).await,
        Command::Sessions(arguments) => commands::sessions::run(&arguments).await,
        Command::Show(arguments) => commands::show::run(&arguments).await,
        Command::Decode(arguments) => commands::decode::run(&arguments),
        Command::Verify(arguments) if arguments.follow.follow => commands::follow::run(&arguments).await,
        Command::Export(arguments) => commands::export::run(&arguments).await,
        Command::Verify(arguments) => commands::verify::run(&arguments),
        Command::WitnessKey(arguments) => commands::follow::cosign::make(&arguments),
        Command::Explain(arguments) => commands::explain::run(&arguments),
    }
}
