//! Rules of policies about fields that find nothing to look at: they allow nothing, which is safe and seldom meant.
//!
//! ```text
//!  a policy changes ──► its rules against its service's schema ──────────────► warnings with the policy
//!  a service changes ─► the rules of all its policies against its new schema ─► warnings with the service
//! ```

use std::collections::BTreeMap;

use mesh_proto::Kind;
use mesh_proto::domain::AccessRule;
use mesh_proto::v1::{self, document::Resource, schema_source::Source};
use mesh_transcode::{Schema, policy};

use crate::registry::Key;
use crate::schema;

/// Looks at the policies that a change concerns, given everything that will be stored.
pub fn judge(changed: &Resource, after: &BTreeMap<Key, &Resource>) -> Vec<String> {
    let name = match changed {
        Resource::Service(_) => changed.name(),
        Resource::AccessPolicy(policy) => service_of(policy),
        _ => return Vec::new(),
    };
    let policies: Vec<_> = match changed {
        Resource::AccessPolicy(policy) => vec![(String::new(), rules(policy))],
        _ => after
            .iter()
            .filter_map(|(key, resource)| match resource {
                Resource::AccessPolicy(policy) if service_of(policy) == name => {
                    Some((format!("{key}: "), rules(policy)))
                }
                _ => None,
            })
            .collect(),
    };
    // Compiling a schema is the larger part of this.
    if policies.iter().all(|(_, rules)| rules.is_empty()) {
        return Vec::new();
    }
    let key = |kind: Kind, name: &str| Key {
        kind,
        name: name.to_owned(),
    };
    let Some(service) = after.get(&key(Kind::Service, name)) else {
        return Vec::new();
    };
    let hash = schema::referred(service);
    let schema = hash.and_then(|hash| after.get(&key(Kind::Schema, hash)).copied());
    let looked = Looked::of(service, schema);
    let told = policies.iter().filter(|(_, rules)| !rules.is_empty());
    told.flat_map(|(label, rules)| {
        looked
            .at(rules)
            .into_iter()
            .map(move |why| format!("{label}{why}"))
    })
    .collect()
}

fn service_of(policy: &v1::AccessPolicy) -> &str {
    policy.spec.as_ref().map_or("", |spec| &spec.service)
}

/// The rules of a policy, if some are about fields. What is wrong with them is told elsewhere.
fn rules(policy: &v1::AccessPolicy) -> Vec<AccessRule> {
    let rules = policy.spec.iter().flat_map(|spec| &spec.allow).cloned();
    let rules: Result<Vec<_>, _> = rules.map(AccessRule::try_from).collect();
    rules
        .ok()
        .filter(|rules| rules.iter().any(|rule| !rule.fields.is_empty()))
        .unwrap_or_default()
}

/// What is known of the requests of a service.
enum Looked {
    Schema(Schema),
    /// Nothing can be looked at; the words say why.
    Never(&'static str),
    /// The service itself tells its schema, or it is broken, which is told elsewhere.
    Unknown,
}

impl Looked {
    fn of(service: &Resource, schema: Option<&Resource>) -> Self {
        let Resource::Service(v1::Service { spec: Some(spec), .. }) = service else {
            return Looked::Unknown;
        };
        if spec.protocol() != v1::Protocol::Grpc {
            return Looked::Never("are for services that speak gRPC; they allow nothing here");
        }
        let source = spec.schema.as_ref().and_then(|schema| schema.source.as_ref());
        match (source, schema) {
            (None, _) => Looked::Never("need the schema of the service; they allow nothing without"),
            (Some(Source::Hash(_)), Some(Resource::Schema(v1::Schema { spec: Some(spec), .. }))) => {
                Schema::compile(&spec.descriptor_set).map_or(Looked::Unknown, Looked::Schema)
            }
            _ => Looked::Unknown,
        }
    }

    fn at(&self, rules: &[AccessRule]) -> Vec<String> {
        match self {
            Looked::Unknown => Vec::new(),
            Looked::Never(why) => vec![format!("spec.allow: rules about fields {why}")],
            Looked::Schema(schema) => {
                let faults = policy::check(rules, schema).err();
                let told = faults.into_iter().flat_map(|faults| faults.0);
                told.map(|fault| {
                    format!(
                        "{}: {}; the rule allows nothing there",
                        fault.place, fault.message
                    )
                })
                .collect()
            }
        }
    }
}
