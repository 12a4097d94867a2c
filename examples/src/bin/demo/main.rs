//! `demo`: brings a whole mesh up on this machine as real processes, walks through what it does, and leaves it running
//! until Ctrl-C.
//!
//! ```text
//! binaries ─► stage ─► mesh ─► tour ─► addresses, until Ctrl-C
//!  (build)   (folder,  (set-up)  (steps, each asserts what it claims)
//!            processes)
//! ```

mod binaries;
mod client;
mod mesh;
mod show;
mod stage;
mod tour;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use client::Token;
use mesh::Mesh;
use stage::Stage;
use tokio::net::TcpStream;

const TOKEN_OPTIONS: &str = "--key keys/jwt-key.pem --aud market --expires-in 12h";
const ZOOKEEPER_LIMIT: Duration = Duration::from_secs(3);
/// What a shell says of a program that Ctrl-C ended.
const EXIT_INTERRUPTED: u8 = 130;

/// Brings a whole mesh up on this machine, and walks through what it does.
#[derive(Parser)]
#[command(name = "demo")]
struct Arguments {
    /// End after the tour: with 0 if every step held.
    #[arg(long)]
    once: bool,
    /// Keep documents and instances in this ZooKeeper, zk://HOST:PORT/PATH, instead of in a folder.
    #[arg(long, value_name = "URL", value_parser = zookeeper)]
    registry: Option<String>,
    /// Do not build the programs of the mesh; they are beside this one.
    #[arg(long)]
    no_build: bool,
    /// Work in this folder, new or empty, and leave it behind.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

fn zookeeper(text: &str) -> Result<String, String> {
    match text.strip_prefix("zk://").and_then(|rest| rest.split_once('/')) {
        Some((servers, path)) if !servers.is_empty() && !path.is_empty() => Ok(text.to_owned()),
        _ => Err("write zk://HOST:PORT/PATH, such as zk://127.0.0.1:2181/mesh".into()),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let stop = mesh_examples::stop_signal();
    tokio::pin!(stop);
    let opened = tokio::select! {
        biased;
        () = &mut stop => return ExitCode::from(EXIT_INTERRUPTED),
        opened = prepare(&arguments) => opened,
    };
    let mut stage = match opened {
        Ok(stage) => stage,
        Err(why) => {
            show::failure(why);
            return ExitCode::FAILURE;
        }
    };
    let outcome = tokio::select! {
        biased;
        () = &mut stop => None,
        outcome = play(&mut stage, &arguments) => Some(outcome),
    };
    if let Some(Err(_)) = &outcome {
        tell_last_words(&mut stage);
    }
    let code = match outcome {
        None => {
            show::line("");
            show::heading("Interrupted before the end of the tour");
            ExitCode::from(EXIT_INTERRUPTED)
        }
        Some(Err(why)) => {
            show::failure(why);
            ExitCode::FAILURE
        }
        Some(Ok(())) if arguments.once => ExitCode::SUCCESS,
        Some(Ok(())) => {
            stop.await;
            ExitCode::SUCCESS
        }
    };
    show::line("\nstopping every process");
    if stage.is_kept() {
        show::line(format_args!("{} stays", stage.folder().display()));
    }
    stage.close(mesh::XDS).await;
    code
}

/// Everything before the first process.
async fn prepare(arguments: &Arguments) -> Result<Stage, String> {
    if let Some(registry) = &arguments.registry {
        reach_zookeeper(registry).await?;
    }
    let programs = binaries::folder()?;
    if !arguments.no_build {
        show::heading("Building the programs of the mesh");
        binaries::build(&programs).await?;
    }
    binaries::find_all(&programs)?;
    Stage::open(arguments.keep.as_deref(), programs)
}

/// xds-lite would wait for its ZooKeeper; we would rather say that it is not there.
async fn reach_zookeeper(registry: &str) -> Result<(), String> {
    let servers = registry
        .trim_start_matches("zk://")
        .split('/')
        .next()
        .unwrap_or_default();
    let servers = servers.rsplit('@').next().unwrap_or_default();
    let mut failures = Vec::new();
    for server in servers.split(',') {
        match tokio::time::timeout(ZOOKEEPER_LIMIT, TcpStream::connect(server)).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => failures.push(format!("{server}: {error}")),
            Err(_) => failures.push(format!("{server}: no answer after {ZOOKEEPER_LIMIT:?}")),
        }
    }
    Err(format!(
        "ZooKeeper cannot be reached ({}); start it first, or leave --registry out",
        failures.join("; ")
    ))
}

/// Set-up, tour and what to try next.
async fn play(stage: &mut Stage, arguments: &Arguments) -> Result<(), String> {
    show::heading("Setting the mesh up");
    show::note(format_args!("work folder {}", stage.folder().display()));
    let mut mesh = Mesh::raise(stage, arguments.registry.clone()).await?;
    let token = mesh.token("TOKEN", TOKEN_OPTIONS).await?;
    tour::walk(&mut mesh, &token)
        .await
        .map_err(|failed| format!("step {} failed ({}): {}", failed.number, failed.title, failed.why))?;
    let casualties = mesh.stage.casualties();
    if !casualties.is_empty() {
        return Err(format!(
            "processes ended by themselves: {}",
            casualties.join(", ")
        ));
    }
    show::success(format_args!("all {} steps held", tour::STEPS));
    if !arguments.once {
        tell_addresses(&mesh, &token)?;
    }
    Ok(())
}

fn tell_addresses(mesh: &Mesh<'_>, token: &Token) -> Result<(), String> {
    show::heading("The mesh is yours until Ctrl-C");
    show::note(format_args!("edge      http://{}", mesh.edge));
    show::note(format_args!("xds-lite  {}", mesh.xds));
    for (name, ready) in &mesh.sidecars {
        let ports: Vec<String> = ready
            .iter()
            .map(|(port, address)| format!("{port} {address}"))
            .collect();
        show::note(format_args!("sidecar   {name}: {}", ports.join(", ")));
    }
    show::heading("Paste this into another terminal");
    let folder = mesh.stage.folder();
    let programs = mesh.stage.program("");
    show::line(format_args!(
        "export PATH={}:$PATH",
        programs.display().to_string().trim_end_matches('/')
    ));
    show::line(format_args!(
        "export MESH_SERVER={} MESH_CREDENTIALS={}/ca",
        mesh.xds,
        folder.display()
    ));
    show::line(format_args!("cd {}", folder.display()));
    mesh.stage.write("token", &token.value)?;
    show::line("TOKEN=$(cat token)");
    show::heading("Then, for example");
    let edge = mesh.edge;
    show::line(format_args!(
        "curl -i -H \"authorization: Bearer $TOKEN\" http://{edge}/v1/quotes/ACME"
    ));
    show::line(format_args!(
        "curl -N -H \"authorization: Bearer $TOKEN\" http://{edge}/v1/quotes/ACME:stream"
    ));
    show::line(format_args!("curl http://{edge}/portfolio/portfolios/retirement"));
    show::line("mesh-ctl status");
    show::line("mesh-ctl instances");
    show::line("mesh-ctl get access-policy quotes-readers -o yaml");
    show::line("mesh-ctl apply -f access-with-orders.yaml --wait");
    Ok(())
}

fn tell_last_words(stage: &mut Stage) {
    for casualty in stage.casualties() {
        show::note(format_args!("ended by itself: {casualty}"));
    }
    for (name, lines) in stage.last_words() {
        show::heading(&format!("last lines of {name}"));
        lines.iter().for_each(show::saw);
    }
}
