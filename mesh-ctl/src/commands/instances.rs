//! `instances`: what runs where, registered by a sidecar or written as a document.

use mesh_proto::Kind;
use mesh_proto::name::ServiceName;
use mesh_proto::v1::{Instance, StoredDocument, document::Resource, instance_spec};
use serde_json::{Value, json};

use super::resource_of;
use crate::cli::{Format, Global};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, cell, good, note, warn};

/// An instance whose document says nothing weighs this much.
use mesh_proto::domain::WEIGHT_DEFAULT;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only those of this service.
    #[arg(value_parser = parse_service)]
    service: Option<ServiceName>,
}

fn parse_service(text: &str) -> Result<ServiceName, String> {
    ServiceName::parse(text)
}

pub(crate) async fn run(global: &Global, args: Args) -> Result<(), Failure> {
    let client = Client::open(global)?;
    let stored = client.list(Kind::Instance).await?;
    let mut rows: Vec<Row> = stored.iter().filter_map(Row::of).collect();
    if let Some(service) = &args.service {
        rows.retain(|row| row.service() == service.as_str());
    }
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    if global.output != Format::Table {
        let listed: Vec<Value> = rows.iter().map(Row::value).collect();
        return output::print_value(global.output, &json!({ "instances": listed }));
    }
    if rows.is_empty() {
        let whose = args
            .service
            .as_ref()
            .map_or_else(String::new, |service| format!(" of {service}"));
        note(&format!(
            "no instance{whose} is registered; `mesh-ctl status` shows which sidecars are connected"
        ));
        return Ok(());
    }
    let mut table = output::table(&[
        "INSTANCE",
        "ADDRESS",
        "PORT",
        "LOCALITY",
        "WEIGHT",
        "HEALTH",
        "TRANSPORT",
        "SOURCE",
    ]);
    for row in &rows {
        table.add_row([
            cell(&row.name),
            cell(&row.address),
            cell(row.port.to_string()),
            cell(&row.locality),
            cell(row.weight.to_string()),
            if row.health == "serving" {
                good(row.health)
            } else {
                warn(row.health)
            },
            cell(row.transport),
            cell(row.source),
        ]);
    }
    output::print_table(&table)
}

struct Row {
    name: String,
    address: String,
    port: u32,
    locality: String,
    weight: u32,
    health: &'static str,
    transport: &'static str,
    source: &'static str,
}

impl Row {
    fn of(stored: &StoredDocument) -> Option<Self> {
        let Resource::Instance(Instance { spec, .. }) = resource_of(stored)? else {
            return None;
        };
        let spec = spec.clone().unwrap_or_default();
        let locality = spec.locality.clone().unwrap_or_default();
        let parts = [locality.region, locality.zone, locality.sub_zone];
        Some(Self {
            name: super::name_of(stored).to_owned(),
            locality: parts
                .iter()
                .filter(|part| !part.is_empty())
                .cloned()
                .collect::<Vec<_>>()
                .join("/"),
            weight: if spec.weight == 0 {
                WEIGHT_DEFAULT
            } else {
                spec.weight
            },
            health: match spec.health() {
                instance_spec::Health::Draining => "draining",
                _ => "serving",
            },
            transport: match spec.transport() {
                instance_spec::Transport::Plaintext => "plaintext",
                _ => "mtls",
            },
            // Only what a person wrote has a stored copy, and with it a revision.
            source: if stored.revision.is_empty() {
                "sidecar"
            } else {
                "document"
            },
            address: spec.address,
            port: spec.port,
        })
    }

    fn service(&self) -> &str {
        self.name.split_once('/').map_or("", |(service, _)| service)
    }

    fn value(&self) -> Value {
        json!({
            "name": self.name,
            "service": self.service(),
            "address": self.address,
            "port": self.port,
            "locality": self.locality,
            "weight": self.weight,
            "health": self.health,
            "transport": self.transport,
            "source": self.source,
        })
    }
}
