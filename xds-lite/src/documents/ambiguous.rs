//! HTTP rules of different services for the same requests. Within one schema they are a fault; across services nobody here
//! knows whether one edge exposes both, so they are a warning that names both. The edge that does says so itself.

use std::collections::{BTreeMap, BTreeSet};

use mesh_proto::v1::{self, document::Resource};
use mesh_transcode::{Router, Routing, Schema};

use crate::schema;

/// Most bytes of descriptors that are compared at one request; over that, only the edges tell.
const COMPARED_BYTES_MAX: usize = 4 << 20;
/// Most warnings for one service.
const WARNINGS_MAX: usize = 20;

/// Warnings for services of these names, given everything that will be stored.
pub fn warnings<'a>(
    changed: &BTreeSet<&str>,
    resources: impl Iterator<Item = &'a Resource>,
) -> BTreeMap<String, Vec<String>> {
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut services: Vec<(&v1::Service, &str)> = Vec::new();
    let mut schemas: BTreeMap<&str, &[u8]> = BTreeMap::new();
    for resource in resources {
        match resource {
            Resource::Service(service) => {
                services.extend(schema::referred(resource).map(|hash| (service, hash)));
            }
            Resource::Schema(v1::Schema { spec: Some(spec), .. }) => {
                schemas.insert(resource.name(), &spec.descriptor_set);
            }
            _ => {}
        }
    }
    if !services
        .iter()
        .any(|(service, _)| changed.contains(name_of(service)))
    {
        return told;
    }
    let used: BTreeSet<&str> = services.iter().map(|(_, hash)| *hash).collect();
    schemas.retain(|hash, _| used.contains(hash));
    if schemas.values().map(|bytes| bytes.len()).sum::<usize>() > COMPARED_BYTES_MAX {
        return told;
    }
    let compiled: BTreeMap<&str, std::sync::Arc<Schema>> = schemas
        .iter()
        .filter_map(|(hash, bytes)| Some((*hash, Schema::compile(bytes).ok()?.into())))
        .collect();
    // Services with the same schema are the same in two versions, which is meant.
    let mut entries: Vec<((&str, &str), std::sync::Arc<Schema>, Routing)> = Vec::new();
    for (service, hash) in services {
        let routing = Routing {
            unannotated: unannotated(service),
            ..Routing::default()
        };
        entries.extend(
            compiled
                .get(hash)
                .map(|schema| ((name_of(service), hash), schema.clone(), routing)),
        );
    }
    let (_, conflicts) = Router::build_with(entries);
    for conflict in conflicts {
        let ((first, first_hash), first_rpc) = conflict.first;
        let ((second, second_hash), second_rpc) = conflict.second;
        if first_hash == second_hash {
            continue;
        }
        for (own, own_rpc, own_rule, other, other_rpc, other_rule) in [
            (
                second,
                &second_rpc,
                &conflict.rule,
                first,
                &first_rpc,
                &conflict.first_rule,
            ),
            (
                first,
                &first_rpc,
                &conflict.first_rule,
                second,
                &second_rpc,
                &conflict.rule,
            ),
        ] {
            if !changed.contains(own) {
                continue;
            }
            let lines = told.entry(own.to_owned()).or_default();
            if lines.len() < WARNINGS_MAX {
                lines.push(format!(
                    "spec.schema: {own_rule} ({own_rpc}) is the rule {other_rule} ({other_rpc}) of Service/{other} too; an \
                     edge that exposes both serves only the one it names first"
                ));
            }
            // One line is enough for a request that changes both.
            break;
        }
    }
    told
}

fn name_of(service: &v1::Service) -> &str {
    service
        .metadata
        .as_ref()
        .map_or("", |metadata| metadata.name.as_str())
}

fn unannotated(service: &v1::Service) -> bool {
    let rest = service.spec.as_ref().and_then(|spec| spec.rest.as_ref());
    rest.is_some_and(|rest| rest.unannotated)
}
