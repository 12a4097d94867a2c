//! sidecar, which stands next to a service, or by `sidecar edge` in front of one: a thin shell around the library.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mesh_link::log::Format;
use mesh_sidecar::data_plane::Bound;
use mesh_sidecar::quick_edge::QuickEdge;
use mesh_sidecar::run::{self, Listening, Signals};
use mesh_sidecar::{Config, Shared};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Calls allocate and free in small pieces on one thread, and ten thousand connections come and go; `docs/performance.md` has
/// what was measured against the system's allocator.
#[global_allocator]
static ALLOCATOR: mesh_allocator::MiMalloc = mesh_allocator::MiMalloc;

/// What could not be read or understood; other failures are 1.
const EXIT_CONFIGURATION: u8 = 2;

/// Stands next to a service and speaks for it: inbound, outbound and edge of the mesh.
#[derive(Parser)]
#[command(version, subcommand_negates_reqs = true)]
struct Options {
    #[command(subcommand)]
    mode: Option<Mode>,
    /// The configuration, YAML. Variables such as MESH_SIDECAR_INBOUND__LISTEN override it.
    #[arg(long, value_name = "FILE", env = "MESH_SIDECAR_CONFIG", required = true)]
    config: Option<PathBuf>,
    /// Judge the configuration and the files it refers to, and start nothing.
    #[arg(long)]
    check: bool,
    /// How log lines look on standard error: text or json.
    #[arg(long, default_value = "text", env = "MESH_SIDECAR_LOG", global = true)]
    log: Format,
    /// Which log lines: info, or finer, such as info,mesh_sidecar::xds=debug.
    #[arg(
        long,
        default_value = "info",
        env = "MESH_SIDECAR_LOG_FILTER",
        hide = true,
        global = true
    )]
    log_filter: String,
}

/// Other ways to run than beside a service, by a configuration file.
#[derive(Subcommand)]
enum Mode {
    /// JSON in front of any gRPC server that has reflection, with no file at all.
    Edge(QuickEdge),
}

fn main() -> ExitCode {
    mesh_allocator::give_back_soon();
    let options = Options::parse();
    if let Some(Mode::Edge(edge)) = &options.mode {
        let config = match edge.config() {
            Ok(config) => config,
            Err(faults) => return fail(&faults.to_string(), EXIT_CONFIGURATION),
        };
        mesh_link::log::init(options.log, &options.log_filter);
        mesh_sidecar::quick_edge::tell_waiting(edge);
        return serve(config, |listening, shared| edge.greeting(listening, shared));
    }
    let path = options.config.unwrap_or_default();
    let environment = std::env::vars_os().filter_map(|(name, value)| {
        // A variable that is no text cannot be one of ours.
        Some((name.into_string().ok()?, value.into_string().ok()?))
    });
    let config = match Config::read(&path, environment) {
        Ok(config) => config,
        Err(faults) => return fail(&faults.to_string(), EXIT_CONFIGURATION),
    };
    if options.check {
        return match run::check(&config) {
            Ok(()) => {
                tell(&format!("{} is good\n", path.display()));
                ExitCode::SUCCESS
            }
            Err(faults) => fail(&faults.to_string(), EXIT_CONFIGURATION),
        };
    }
    mesh_link::log::init(options.log, &options.log_filter);
    serve(config, |listening, _| format!("{listening}\n"))
}

/// Runs to the end. `greeting` is printed once it serves.
fn serve(config: Config, greeting: impl FnOnce(&Listening, &Shared) -> String) -> ExitCode {
    // Ports first, and outside of the runtime: each data thread takes its own into a runtime of its own.
    let bound = match Bound::bind(&config) {
        Ok(bound) => bound,
        Err(why) => return fail(&why, 1),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => {
            let ended = runtime.block_on(live(config, bound, greeting));
            // Threads that still serve a cut connection are not waited for.
            runtime.shutdown_background();
            ended
        }
        Err(error) => Err(format!("cannot start the control thread: {error}")),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => fail(&why, 1),
    }
}

async fn live(
    config: Config,
    bound: Bound,
    greeting: impl FnOnce(&Listening, &Shared) -> String,
) -> Result<(), String> {
    let signals = Signals {
        stop: CancellationToken::new(),
        hurry: CancellationToken::new(),
    };
    listen_for_signals(&signals)?;
    run::run(config, bound, signals, |listening, shared| {
        tell(&greeting(listening, shared));
    })
    .await
}

/// The first signal drains, the second does not wait.
fn listen_for_signals(signals: &Signals) -> Result<(), String> {
    let fail = |error: std::io::Error| format!("cannot listen for signals: {error}");
    let mut terminate = signal(SignalKind::terminate()).map_err(fail)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(fail)?;
    let (stop, hurry) = (signals.stop.clone(), signals.hurry.clone());
    tokio::spawn(async move {
        for token in [stop, hurry] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            token.cancel();
        }
    });
    Ok(())
}

/// For the program that started this one. If nobody reads it, that is not our trouble.
fn tell(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn fail(why: &str, code: u8) -> ExitCode {
    let mut out = std::io::stderr().lock();
    for line in why.lines() {
        let _ = writeln!(out, "sidecar: {line}");
    }
    ExitCode::from(code)
}
