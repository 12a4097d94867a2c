//! Figures of a running mesh: how soon a change is in force, what a sidecar costs that has nothing to do, how soon it is
//! ready. Prints; judges nothing. Build the programs in the same profile first:
//!
//! ```text
//! cargo build --release --workspace --bins && target/release/measure
//! ```

#![allow(clippy::print_stdout, reason = "it is for people")]

use std::time::{Duration, Instant};

use mesh_tests::documents::policy;
use mesh_tests::{Kazoo, Mesh, ZooKeeper, eventually};
use tokio_stream::StreamExt;

use mesh_link::{Credentials, tls};
use mesh_proto::Kind;
use mesh_proto::name::{SpiffeId, TrustDomain};
use mesh_proto::v1::document::Resource;
use mesh_proto::v1::documents_client::DocumentsClient;
use mesh_proto::v1::status_client::StatusClient;
use mesh_proto::v1::{ApplyRequest, Document, GetStatusRequest, GetStatusResponse, apply_request};
use tonic::Streaming;
use tonic::transport::Channel;

/// Changes of each kind.
const CHANGES: usize = 200;
const IDLE: Duration = Duration::from_secs(10);
const STARTS: usize = 10;

fn main() {
    let zookeeper = ZooKeeper::start();
    let mesh = Mesh::on_zookeeper(&zookeeper.address(), 1, &[]);
    mesh.apply(&policy("measured", "[]"));
    let mut quotes = mesh.quotes("a");
    let channel = operator(&mesh);

    let applied = mesh_tests::call::block_on(applies(channel.clone()));
    tell("apply (gRPC) to applied in the sidecar", applied);

    let mut kazoo = Kazoo::connect(&zookeeper);
    let written = mesh_tests::call::block_on(async {
        let mut statuses = watch(channel).await;
        let mut times = Vec::new();
        for number in 0..CHANGES {
            let (text, version) = revised(number + CHANGES);
            let begin = Instant::now();
            kazoo.set("/mesh/documents/AccessPolicy/measured", &text);
            until_applied(&mut statuses, &version).await;
            times.push(begin.elapsed());
        }
        times
    });
    tell("ZooKeeper write (kazoo) to applied in the sidecar", written);

    let process = quotes.sidecar.process();
    let before = process.usage().1;
    std::thread::sleep(IDLE);
    let (resident, after) = process.usage();
    println!(
        "idle sidecar: {:.1} MiB resident, {:.2} % of one core over {IDLE:?}",
        mebibytes(resident),
        (after - before) / IDLE.as_secs_f64() * 100.0
    );
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let plan = mesh
            .sidecar("web.portfolio", "p")
            .outbound()
            .depends(&["market.quotes"]);
        let begin = Instant::now();
        let mut sidecar = plan.launch();
        // The harness looks every 50 ms; a figure wants more.
        while !sidecar
            .process()
            .lines()
            .iter()
            .any(|line| line.starts_with("ready"))
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        starts.push(begin.elapsed());
        eventually("the call is judged", || sidecar.quote().err());
    }
    tell("start of a sidecar to ready (with a join token)", starts);
}

fn operator(mesh: &Mesh) -> Channel {
    let ca = mesh.folder.join("ca");
    let own = Credentials::from_files(
        &ca.join("operator.pem"),
        &ca.join("operator-key.pem"),
        &ca.join("ca.pem"),
    );
    let pem = std::fs::read_to_string(ca.join("ca.pem"));
    let authorities = pem
        .map_err(|e| e.to_string())
        .and_then(|pem| mesh_link::credentials::read_authorities(&pem));
    let (Ok(own), Ok(authorities), Ok(domain)) = (own, authorities, TrustDomain::parse("mesh.local")) else {
        unreachable!("ca init has made them");
    };
    let _guard = mesh_tests::call::runtime().enter();
    let config = tls::client_config(Some(&own), &authorities, SpiffeId::control(&domain));
    match config.and_then(|config| mesh_link::grpc::channel(&mesh.replicas[0].grpc, config)) {
        Ok(channel) => channel,
        Err(why) => unreachable!("{why}"),
    }
}

/// A policy that differs with its number, and its version.
fn revised(number: usize) -> (String, String) {
    let text = policy("measured", &format!("[{{callers: [service: web.c{number}]}}]"));
    let loaded = mesh_proto::document::parse(&text, "measured").unwrap_or_default();
    let version = loaded
        .first()
        .map(|loaded| loaded.resource.version())
        .unwrap_or_default();
    (text, version)
}

async fn watch(channel: Channel) -> Streaming<GetStatusResponse> {
    let request = GetStatusRequest {
        type_url: Kind::AccessPolicy.type_url().into(),
        resource_name: "market.quotes/measured".into(),
    };
    match StatusClient::new(channel).watch_status(request).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => unreachable!("{status}"),
    }
}

async fn until_applied(statuses: &mut Streaming<GetStatusResponse>, version: &str) {
    while let Some(Ok(status)) = statuses.next().await {
        let mut resources = status.sidecars.iter().flat_map(|sidecar| &sidecar.resources);
        if resources.any(|resource| resource.version_applied == version) {
            return;
        }
    }
}

async fn applies(channel: Channel) -> Vec<Duration> {
    let mut statuses = watch(channel.clone()).await;
    let mut documents = DocumentsClient::new(channel);
    let mut times = Vec::new();
    for number in 0..CHANGES {
        let (text, version) = revised(number);
        let resource: Option<Resource> = mesh_proto::document::parse(&text, "measured")
            .unwrap_or_default()
            .pop()
            .map(|loaded| loaded.resource);
        let item = apply_request::Item {
            document: Some(Document { resource }),
            if_revision: String::new(),
        };
        let begin = Instant::now();
        let applied = documents
            .apply(ApplyRequest {
                items: vec![item],
                dry_run: false,
            })
            .await;
        if let Err(status) = applied {
            unreachable!("{status}");
        }
        until_applied(&mut statuses, &version).await;
        times.push(begin.elapsed());
    }
    times
}

fn tell(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
    println!(
        "{what}: p50 {:.1?}, p99 {:.1?}, most {:.1?} of {}",
        at(50),
        at(99),
        at(100),
        times.len()
    );
}

#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
