//! What the admin page shows, as JSON.

use std::time::SystemTime;

use mesh_link::Credentials;
use mesh_proto::document;
use mesh_proto::domain::{Health, Transport};
use mesh_proto::kind::Kind;
use mesh_proto::v1::document::Resource;
use serde_json::{Map, Value, json};

use crate::shared::Phase;
use crate::xds::holdings::Holdings;
use crate::xds::numbers::Numbers;
use crate::{Resources, Snapshot};

pub(super) fn ready(phase: Phase, missing: &[&str], numbers: &Numbers) -> Value {
    json!({
        "ready": phase == Phase::Ready,
        "phase": match phase {
            Phase::Starting => "starting",
            Phase::Ready => "ready",
            Phase::Draining => "draining",
        },
        "missing": missing,
        "connected": numbers.is_connected(),
        "registered": numbers.is_registered(),
    })
}

/// Every resource in force, with its version. Descriptors are told by size only.
#[must_use]
pub fn resources(holdings: &Holdings) -> Value {
    let mut kinds = Map::new();
    for kind in Kind::ALL {
        let entries: Map<String, Value> = holdings
            .of(kind)
            .map(|(name, holding)| {
                let document = match Resource::decode(kind, &holding.bytes) {
                    Ok(Resource::Schema(_)) | Err(_) => Value::Null,
                    Ok(resource) => document::to_value(&resource),
                };
                let entry = json!({
                    "version": &*holding.version,
                    "bytes": holding.bytes.len(),
                    "document": document,
                });
                (name.clone(), entry)
            })
            .collect();
        kinds.insert(kind.as_str().into(), entries.into());
    }
    json!({
        "resources": kinds,
        "servicesKnown": holdings.services_known.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "policiesKnown": holdings.policies_known.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "refusedPolicies": holdings.closed,
    })
}

/// Every service that has a schema, or is asked for one, with where it comes from and what it offers.
pub(super) fn schemas(snapshot: &Snapshot, reflection: &Value) -> Value {
    let mut services = Map::new();
    for entry in &snapshot.services {
        if entry.schema.is_none() && !entry.tells_schema {
            continue;
        }
        let schema = entry.schema.as_ref();
        services.insert(
            entry.name.to_string(),
            json!({
                "source": if entry.tells_schema { "reflection" } else { "document" },
                "services": schema.map(|schema| schema.services().collect::<Vec<_>>()),
                "methods": schema.map(|schema| schema.methods().count()),
                "unannotated": entry.rest.unannotated,
                "reflection": reflection.get(entry.name.as_str()),
            }),
        );
    }
    json!({"schemas": services, "ambiguousAtEdge": snapshot.edge.ambiguous})
}

pub(super) fn endpoints(resources: &Resources) -> Value {
    let mut services = Map::new();
    for (service, instances) in &resources.instances {
        let entries = instances.values().map(|instance| {
            json!({
                "name": instance.name.to_string(),
                "address": &*instance.address,
                "port": instance.port,
                "weight": instance.weight,
                "health": match instance.health {
                    Health::Serving => "serving",
                    Health::Draining => "draining",
                },
                "transport": match instance.transport {
                    Transport::Mtls => "mtls",
                    Transport::Plaintext => "plaintext",
                },
                "region": &*instance.locality.region,
                "zone": &*instance.locality.zone,
            })
        });
        services.insert(service.to_string(), entries.collect::<Vec<_>>().into());
    }
    json!({"endpoints": services})
}

pub(super) fn certificate(own: &Credentials) -> Value {
    let time = |at: SystemTime| prost_types::Timestamp::from(at).to_string();
    json!({
        "id": own.id.as_str(),
        "notBefore": time(own.not_before),
        "notAfter": time(own.not_after),
        "remainingSeconds": own.remaining(SystemTime::now()).as_secs(),
        "fingerprint": fingerprint(own),
        "authorities": own.authorities.len(),
    })
}

/// Tells one certificate from the next: the first digits of its hash.
fn fingerprint(own: &Credentials) -> String {
    own.chain
        .first()
        .map_or_else(String::new, |leaf| mesh_proto::version_of(leaf))
}
