//! `status`: who is connected to which replica, what each has applied, and the last refusal with its reason.

use std::time::SystemTime;

use mesh_proto::Kind;
use mesh_proto::v1::{GetStatusRequest, GetStatusResponse, Nack, ResourceStatus, SidecarStatus};
use serde_json::{Value, json};

use crate::cli::{Format, Global};
use crate::client::{Client, bounded};
use crate::failure::{Exit, Failure};
use crate::output::{self, bad, cell, good, note, safe, warn};
use crate::words::{self, count};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also list every resource of every sidecar.
    #[arg(long, short)]
    verbose: bool,
}

/// The whole picture: what each replica tells, and those that tell nothing.
struct Picture {
    replicas: Vec<GetStatusResponse>,
    /// Replica and why.
    silent: Vec<(String, String)>,
}

pub(crate) async fn run(global: &Global, args: Args) -> Result<(), Failure> {
    let picture = ask_all(&Client::open(global)?).await?;
    match global.output {
        Format::Table => print(&picture, args.verbose)?,
        format => output::print_value(format, &value(&picture))?,
    }
    if picture.silent.is_empty() {
        return Ok(());
    }
    let lines = picture
        .silent
        .iter()
        .map(|(id, why)| format!("replica {id}: {why}"));
    Err(Failure::new(
        Exit::Unreachable,
        format!("{} cannot be asked", count(picture.silent.len(), "replica")),
    )
    .lines(lines)
    .hint("its sidecars are missing above; each replica knows its own only"))
}

async fn ask_all(client: &Client) -> Result<Picture, Failure> {
    let (_, first) = client.state(&GetStatusRequest::default()).await?;
    let mut picture = Picture {
        replicas: Vec::new(),
        silent: Vec::new(),
    };
    for replica in first
        .replicas
        .iter()
        .filter(|replica| replica.id != first.replica)
    {
        let answer = match client.replica(&replica.address) {
            Ok(server) => bounded(server.status().get_status(GetStatusRequest::default()))
                .await
                .map_err(|status| mesh_link::grpc::explain(&server.address, &status)),
            Err(why) => Err(why),
        };
        match answer {
            Ok(answer) => picture.replicas.push(answer),
            Err(why) => picture.silent.push((replica.id.clone(), why)),
        }
    }
    picture.replicas.insert(0, first);
    Ok(picture)
}

/// Where one resource of one sidecar stands.
fn state(resource: &ResourceStatus) -> &'static str {
    if resource.nack.is_some() {
        "refused"
    } else if resource.version_sent.is_empty() {
        "absent"
    } else if resource.version_sent == resource.version_applied {
        "applied"
    } else {
        "behind"
    }
}

fn tally(sidecar: &SidecarStatus, wanted: &str) -> usize {
    sidecar
        .resources
        .iter()
        .filter(|resource| state(resource) == wanted)
        .count()
}

fn print(picture: &Picture, verbose: bool) -> Result<(), Failure> {
    let now = SystemTime::now();
    let mut table = output::table(&[
        "SIDECAR",
        "REPLICA",
        "CONNECTED",
        "VERSION",
        "APPLIED",
        "BEHIND",
        "REFUSED",
        "LAST REFUSAL",
    ]);
    for (replica, sidecar) in sidecars(picture) {
        let (behind, refused) = (tally(sidecar, "behind"), tally(sidecar, "refused"));
        table.add_row([
            cell(&sidecar.node),
            cell(replica),
            cell(words::ago(sidecar.connected_since, now)),
            cell(&sidecar.version),
            good(tally(sidecar, "applied").to_string()),
            if behind > 0 {
                warn(behind.to_string())
            } else {
                cell("0")
            },
            if refused > 0 {
                bad(refused.to_string())
            } else {
                cell("0")
            },
            cell(
                sidecar
                    .last_nack
                    .as_ref()
                    .map(|nack| refusal(nack, now))
                    .unwrap_or_default(),
            ),
        ]);
    }
    if table.is_empty() {
        note("no sidecar is connected");
    } else {
        output::print_table(&table)?;
    }
    if verbose {
        print_resources(picture, now)?;
    }
    print_registries(picture, now)
}

fn print_resources(picture: &Picture, now: SystemTime) -> Result<(), Failure> {
    let mut table = output::table(&[
        "SIDECAR", "KIND", "RESOURCE", "STATE", "SENT", "HAS", "SINCE", "REASON",
    ]);
    for (_, sidecar) in sidecars(picture) {
        for resource in &sidecar.resources {
            let state = match state(resource) {
                "applied" => good("applied"),
                "refused" => bad("refused"),
                "behind" => warn("behind"),
                other => cell(other),
            };
            table.add_row([
                cell(&sidecar.node),
                cell(kind_word(&resource.type_url)),
                cell(&resource.name),
                state,
                cell(&resource.version_sent),
                cell(&resource.version_applied),
                cell(words::ago(resource.applied, now)),
                cell(resource.nack.as_ref().map_or("", |nack| nack.reason.as_str())),
            ]);
        }
    }
    if table.is_empty() {
        return Ok(());
    }
    output::print("\n")?;
    output::print_table(&table)
}

fn print_registries(picture: &Picture, now: SystemTime) -> Result<(), Failure> {
    let mut table = output::table(&[
        "REPLICA",
        "REGISTRY",
        "STATE",
        "READ",
        "DOCUMENTS",
        "INSTANCES",
        "FAULTS",
    ]);
    let mut faults = Vec::new();
    for replica in &picture.replicas {
        let registry = replica.registry.clone().unwrap_or_default();
        table.add_row([
            cell(&replica.replica),
            cell(&registry.registry),
            if registry.connected {
                good("connected")
            } else {
                bad("serving its last good state")
            },
            cell(words::ago(registry.last_read, now)),
            cell(registry.documents.to_string()),
            cell(registry.instances.to_string()),
            if registry.faults.is_empty() {
                cell("0")
            } else {
                bad(registry.faults.len().to_string())
            },
        ]);
        faults.extend(
            registry
                .faults
                .into_iter()
                .map(|fault| format!("{}: {fault}", replica.replica)),
        );
    }
    output::print("\n")?;
    output::print_table(&table)?;
    for fault in faults {
        note(&format!("fault: {}", safe(&fault)));
    }
    Ok(())
}

fn sidecars(picture: &Picture) -> Vec<(&str, &SidecarStatus)> {
    let mut all: Vec<_> = picture
        .replicas
        .iter()
        .flat_map(|replica| {
            replica
                .sidecars
                .iter()
                .map(|sidecar| (replica.replica.as_str(), sidecar))
        })
        .collect();
    all.sort_by(|a, b| a.1.node.cmp(&b.1.node));
    all
}

/// The kind a type URL names, or the URL itself if it is none of ours.
fn kind_word(type_url: &str) -> &str {
    Kind::from_type_url(type_url).map_or(type_url, |kind| kind.as_str())
}

fn refusal(nack: &Nack, now: SystemTime) -> String {
    format!(
        "{}/{}: {} ({})",
        kind_word(&nack.type_url),
        nack.name,
        nack.reason,
        words::ago(nack.at, now)
    )
}

fn value(picture: &Picture) -> Value {
    let sidecars: Vec<Value> = sidecars(picture)
        .into_iter()
        .map(|(replica, sidecar)| {
            json!({
                "node": sidecar.node,
                "service": sidecar.service,
                "replica": replica,
                "connectedSince": words::timestamp(sidecar.connected_since),
                "version": sidecar.version,
                "peer": sidecar.peer,
                "applied": tally(sidecar, "applied"),
                "behind": tally(sidecar, "behind"),
                "refused": tally(sidecar, "refused"),
                "lastRefusal": sidecar.last_nack.as_ref().map(nack_value),
                "resources": sidecar.resources.iter().map(resource_value).collect::<Vec<_>>(),
            })
        })
        .collect();
    let replicas: Vec<Value> = picture
        .replicas
        .iter()
        .map(|replica| {
            let registry = replica.registry.clone().unwrap_or_default();
            json!({
                "id": replica.replica,
                "registry": registry.registry,
                "connected": registry.connected,
                "lastRead": words::timestamp(registry.last_read),
                "documents": registry.documents,
                "instances": registry.instances,
                "faults": registry.faults,
            })
        })
        .collect();
    let silent: Vec<Value> = picture
        .silent
        .iter()
        .map(|(id, why)| json!({"id": id, "why": why}))
        .collect();
    json!({"sidecars": sidecars, "replicas": replicas, "unreachable": silent})
}

fn resource_value(resource: &ResourceStatus) -> Value {
    json!({
        "kind": kind_word(&resource.type_url),
        "name": resource.name,
        "state": state(resource),
        "sent": resource.version_sent,
        "has": resource.version_applied,
        "applied": words::timestamp(resource.applied),
        "refusal": resource.nack.as_ref().map(nack_value),
    })
}

fn nack_value(nack: &Nack) -> Value {
    json!({
        "kind": kind_word(&nack.type_url),
        "name": nack.name,
        "version": nack.version,
        "reason": nack.reason,
        "at": words::timestamp(nack.at),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_applied_behind_absent_or_refused() {
        let resource = |sent: &str, applied: &str, nack: bool| ResourceStatus {
            version_sent: sent.into(),
            version_applied: applied.into(),
            nack: nack.then(Nack::default),
            ..Default::default()
        };
        assert_eq!(state(&resource("1", "1", false)), "applied");
        assert_eq!(state(&resource("2", "1", false)), "behind");
        assert_eq!(state(&resource("", "", false)), "absent");
        assert_eq!(state(&resource("2", "1", true)), "refused");
    }
}
