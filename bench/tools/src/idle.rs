//! Many connections that do nothing, so that what one costs can be seen from outside.
//!
//! ```text
//!  open  ─► connections with HTTP/2 begun      call ─► one call on each      close ─► all closed      (each answered `done`)
//! ```

use std::io::BufRead;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::SendRequest;
use mesh_bench_kit::message;
use mesh_bench_kit::net::Outcome;
use tokio::sync::{Semaphore, mpsc};

use crate::client::{Call, Target};

/// Connections that are opened, or calls that are made, at one time.
const AT_ONCE: usize = 32;
/// Connections from one loopback address.
const PER_SOURCE: usize = 900;

#[derive(clap::Args)]
pub struct Options {
    /// Whom to connect to.
    #[arg(long)]
    target: SocketAddr,
    /// How many connections.
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Folder of certificates, for mutual TLS.
    #[arg(long)]
    certificates: Option<PathBuf>,
}

/// Does what standard input says, until it ends.
pub async fn run(options: Options) -> Outcome<()> {
    let target = Target::new(options.target, options.certificates.as_deref(), false)?;
    let (said, mut commands) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if said.send(line).is_err() {
                return;
            }
        }
    });
    let mut held: Vec<SendRequest<Bytes>> = Vec::new();
    while let Some(command) = commands.recv().await {
        match command.as_str() {
            "open" => held = open(&target, options.connections).await?,
            "call" => call_each(&held).await?,
            "close" => held.clear(),
            other => return Err(format!("{other:?} is not open, call or close")),
        }
        println!("done {command}");
    }
    Ok(())
}

async fn open(target: &Target, connections: usize) -> Outcome<Vec<SendRequest<Bytes>>> {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut opening = Vec::new();
    for number in 0..connections {
        let permit = room
            .clone()
            .acquire_owned()
            .await
            .map_err(|error| error.to_string())?;
        let target = target.clone();
        let last = u8::try_from(number / PER_SOURCE + 2).map_err(|error| error.to_string())?;
        let source = IpAddr::from(Ipv4Addr::new(127, 0, 0, last));
        opening.push(tokio::task::spawn_local(async move {
            let sender = target.connect(Some(source)).await;
            drop(permit);
            sender
        }));
    }
    let mut held = Vec::new();
    for opened in opening {
        held.push(opened.await.map_err(|error| error.to_string())??);
    }
    Ok(held)
}

async fn call_each(held: &[SendRequest<Bytes>]) -> Outcome<()> {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let call = Call::new(message::ECHO, message::frame(&message::order()));
    let mut calling = Vec::new();
    for sender in held {
        let permit = room
            .clone()
            .acquire_owned()
            .await
            .map_err(|error| error.to_string())?;
        let (sender, call) = (sender.clone(), call.clone());
        calling.push(tokio::task::spawn_local(async move {
            let outcome = call.make(&sender).await;
            drop(permit);
            outcome
        }));
    }
    for called in calling {
        called.await.map_err(|error| error.to_string())??;
    }
    Ok(())
}
