//! What `bench/run` drives: a backend, a load generator, many idle connections, certificates and descriptors.

mod backend;
mod client;
mod descriptors;
mod idle;
mod load;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mesh_bench_kit::net::{self, Outcome};
use tokio::runtime::LocalOptions;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Answers every call at once; one thread. Prints `ready` and its address.
    Backend {
        /// Where to listen.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
    },
    /// Calls, and prints what it saw as one JSON object.
    Load(load::Options),
    /// Holds many connections; reads `open`, `call`, `close` from standard input.
    Idle(idle::Options),
    /// Writes a certificate authority and both sides' certificates into a folder.
    Certificates {
        /// The folder.
        dir: PathBuf,
    },
    /// Writes the compiled descriptors of the bench's service; with many routes, prints a path of one.
    Descriptors {
        /// Folders of .proto files.
        #[arg(long)]
        include: Vec<PathBuf>,
        /// As many HTTP routes, generated but for the service's own.
        #[arg(long)]
        routes: Option<usize>,
        /// The file to write.
        out: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bench-tools: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Outcome<()> {
    match command {
        Command::Backend { listen } => block_on(backend::run(listen)),
        Command::Load(options) => block_on(load::run(options)),
        Command::Idle(options) => block_on(idle::run(options)),
        Command::Certificates { dir } => net::write_certificates(&dir),
        Command::Descriptors { include, routes, out } => descriptors::write(&include, routes, &out),
    }
}

fn block_on(future: impl Future<Output = Outcome<()>>) -> Outcome<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .map_err(|error| error.to_string())?
        .block_on(future)
}
