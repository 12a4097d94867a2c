//! What the two example services share: the generated code of `market.v1`, and how they stop. They know nothing of the
//! mesh.

use std::error::Error;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;

/// Messages and services of `market.v1`.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic
)]
pub mod market {
    tonic::include_proto!("market.v1");
}

/// The descriptors of `market.v1` and all it imports, with annotations and comments, as a serialized
/// `FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/quotes.binpb"));

/// Ends a program: what went wrong is told in one line on stderr.
#[must_use]
pub fn exit(program: &str, result: Result<(), Box<dyn Error>>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{program}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Waits for SIGTERM or SIGINT. They are caught from the call on, even before anybody waits.
///
/// # Panics
/// Outside of a runtime.
pub fn stop_signal() -> impl Future<Output = ()> + Send + 'static {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
    let wait = async |signal: std::io::Result<tokio::signal::unix::Signal>| match signal {
        Ok(mut signal) => drop(signal.recv().await),
        // Without the signal there is nothing to wait for; the process still ends by SIGKILL.
        Err(_) => std::future::pending().await,
    };
    async move {
        let [terminate, interrupt] = signals;
        tokio::select! {
            () = wait(terminate) => {}
            () = wait(interrupt) => {}
        }
    }
}

/// Tells whoever started us, with one line on stdout, where we listen.
///
/// # Errors
/// Nobody reads stdout.
pub fn announce(address: SocketAddr) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "ready {address}")?;
    out.flush()
}
