//! Who a sidecar is, as it tells xds-lite.

use mesh_proto::discovery;

use crate::Config;
use crate::config::Edge;

/// What a sidecar says of itself when its stream begins.
#[must_use]
pub fn describe(config: &Config) -> discovery::Node {
    let locality = &config.node.locality;
    discovery::Node {
        id: config.node.name().to_string(),
        cluster: config.node.service.to_string(),
        locality: Some(discovery::Locality {
            region: locality.region.to_string(),
            zone: locality.zone.to_string(),
            sub_zone: locality.sub_zone.to_string(),
        }),
        user_agent_name: "mesh-sidecar".into(),
        user_agent_version: env!("CARGO_PKG_VERSION").into(),
        metadata: config.edge.as_ref().map(exposes),
    }
}

/// What the edge exposes, so that rules for the same requests are refused where they are applied.
fn exposes(edge: &Edge) -> prost_types::Struct {
    let names = edge.expose.iter().map(|exposed| prost_types::Value {
        kind: Some(prost_types::value::Kind::StringValue(exposed.service.to_string())),
    });
    let list = prost_types::ListValue {
        values: names.collect(),
    };
    let value = prost_types::Value {
        kind: Some(prost_types::value::Kind::ListValue(list)),
    };
    prost_types::Struct {
        fields: [(mesh_proto::NODE_EXPOSES.to_owned(), value)].into(),
    }
}
