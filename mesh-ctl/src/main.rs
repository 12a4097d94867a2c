//! `mesh-ctl`: how people apply, ask, explain and check.
//!
//! ```text
//!  command line ──cli──► commands/<one file each> ──client──► xds-lite
//!                              │                      │
//!                           output                 failure ──► `error: …`, `hint: …`, exit code
//! ```
//!
//! Every command ends in `Ok` or in a [`failure::Failure`], which knows its exit code and what to try next. What the server
//! says is never trusted to be safe for a terminal: see [`output::safe`].

mod cli;
mod client;
mod commands;
mod dial;
mod failure;
mod output;
mod rollout;
mod schemas;
mod sources;
mod words;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // `--help` and `--version` are "errors" that succeed.
            let code = if error.use_stderr() {
                failure::Exit::Usage as u8
            } else {
                0
            };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failure::Failure::usage(format!("cannot start: {error}")))
        .and_then(|runtime| runtime.block_on(commands::run(cli)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            ExitCode::from(failure.exit as u8)
        }
    }
}
