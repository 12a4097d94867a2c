//! xds-lite, the control service: one thin shell around the library.

use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use xds_lite::app;
use xds_lite::options::Options;

fn main() -> ExitCode {
    let options = Options::parse();
    let filter =
        std::env::var("MESH_XDS_LOG_FILTER").unwrap_or_else(|_| "info,zookeeper_client=error".to_owned());
    mesh_link::log::init(options.log, &filter);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(run(&options)),
        Err(error) => Err(format!("cannot start threads: {error}")),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            complain(&why);
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Result<(), String> {
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone())?;
    let app = app::start(options, stop).await?;
    app.serve(|addresses| {
        announce(&format!(
            "ready grpc={} metrics={}",
            addresses.grpc, addresses.metrics
        ));
    })
    .await;
    tracing::info!("stopped");
    Ok(())
}

fn stop_on_signal(stop: CancellationToken) -> Result<(), String> {
    let listen = |kind| signal(kind).map_err(|error| format!("cannot listen to signals: {error}"));
    let (mut term, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("told to stop");
        stop.cancel();
    });
    Ok(())
}

/// The one line that those who started us wait for.
#[allow(clippy::print_stdout)]
fn announce(line: &str) {
    println!("{line}");
}

#[allow(clippy::print_stderr)]
fn complain(why: &str) {
    eprintln!("xds-lite: {why}");
}
