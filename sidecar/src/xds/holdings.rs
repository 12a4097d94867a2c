//! What a sidecar holds: every resource in force with its version and bytes, and what is known to be absent.
//!
//! Kept apart from [`Resources`] because it also says what the data path need not know: versions for resuming the stream,
//! bytes for the copy on disk and the admin page, and which new service still waits for its schema.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesh_proto::domain::{AccessPolicy, SchemaHash, SchemaSource, Service};
use mesh_proto::kind::Kind;
use mesh_proto::name::ServiceName;
use mesh_transcode::Schema;

use super::judge::Value;
use crate::Resources;

/// Largest sum of all resources, in bytes.
pub const SNAPSHOT_BYTES_MAX: usize = 16 << 20;
/// Most instances.
pub const ENDPOINTS_MAX: usize = 100_000;

/// One resource in force.
#[derive(Clone)]
pub struct Holding {
    /// As told by whoever pushed it.
    pub version: Arc<str>,
    /// The encoded message.
    pub bytes: Arc<[u8]>,
    /// What it means.
    pub value: Value,
}

/// Everything in force.
#[derive(Default, Clone)]
pub struct Holdings {
    by_kind: BTreeMap<Kind, BTreeMap<String, Holding>>,
    bytes: usize,
    /// Services as they were when their schema was last there; a newer one waits until its own is.
    warm: BTreeMap<ServiceName, Warm>,
    /// See [`Resources::services_known`].
    pub services_known: BTreeSet<ServiceName>,
    /// See [`Resources::instances_known`].
    pub instances_known: BTreeSet<ServiceName>,
    /// See [`Resources::policies_known`].
    pub policies_known: BTreeSet<ServiceName>,
    /// Policies that were refused and have no good predecessor, `<service>/<name>`. Each closes its service, as it would
    /// have: whoever wrote it did not mean the service to be open.
    pub closed: BTreeSet<String>,
}

/// A service that can be served.
#[derive(Clone)]
struct Warm {
    service: Arc<Service>,
    /// Its schema. Kept here too, since the one who pushes takes it out as soon as nobody is told to use it, which may be
    /// before the next one has come.
    schema: Option<(SchemaHash, Arc<Schema>)>,
}

impl Holdings {
    /// Everything of one kind, by name.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = (&String, &Holding)> {
        self.by_kind.get(&kind).into_iter().flatten()
    }

    /// One resource.
    #[must_use]
    pub fn get(&self, kind: Kind, name: &str) -> Option<&Holding> {
        self.by_kind.get(&kind)?.get(name)
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_kind.values().all(BTreeMap::is_empty)
    }

    /// Number of resources.
    #[must_use]
    pub fn count(&self) -> usize {
        self.by_kind.values().map(BTreeMap::len).sum()
    }

    /// Sum of all resources, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Number of instances.
    #[must_use]
    pub fn endpoints(&self) -> usize {
        self.by_kind.get(&Kind::Instance).map_or(0, BTreeMap::len)
    }

    /// Puts a resource into force in place of any of its name.
    pub fn put(&mut self, kind: Kind, name: &str, holding: Holding) {
        self.bytes += holding.bytes.len();
        let old = self
            .by_kind
            .entry(kind)
            .or_default()
            .insert(name.to_owned(), holding);
        self.bytes -= old.map_or(0, |old| old.bytes.len());
        if kind == Kind::AccessPolicy {
            self.closed.remove(name);
        }
    }

    /// Takes a resource out of force. Tells whether anything changed.
    pub fn remove(&mut self, kind: Kind, name: &str) -> bool {
        let old = self.by_kind.get_mut(&kind).and_then(|held| held.remove(name));
        self.bytes -= old.as_ref().map_or(0, |old| old.bytes.len());
        let reopened = kind == Kind::AccessPolicy && self.closed.remove(name);
        old.is_some() || reopened
    }

    /// Takes all out of force whose names begin with `prefix`. Tells whether anything changed.
    pub fn remove_under(&mut self, kind: Kind, prefix: &str) -> bool {
        let held = self.of(kind).map(|(name, _)| name);
        let closed = self.closed.iter().filter(|_| kind == Kind::AccessPolicy);
        let names: Vec<String> = held
            .chain(closed)
            .filter(|name| name.starts_with(prefix))
            .cloned()
            .collect();
        for name in &names {
            self.remove(kind, name);
        }
        !names.is_empty()
    }

    /// Notes that a policy was refused. Without a good one of its name, its service is closed.
    pub fn refuse_policy(&mut self, name: &str) -> bool {
        self.get(Kind::AccessPolicy, name).is_none() && self.closed.insert(name.to_owned())
    }

    /// Schemas that a service in force, or one that waits, mentions.
    #[must_use]
    pub fn schemas_mentioned(&self) -> BTreeSet<String> {
        let waiting = self
            .of(Kind::Service)
            .filter_map(|(_, holding)| match &holding.value {
                Value::Service(service) => Some(service),
                _ => None,
            });
        waiting
            .chain(self.warm.values().map(|warm| &warm.service))
            .filter_map(|service| schema_hash(service))
            .map(|hash| hash.as_str().to_owned())
            .collect()
    }

    /// What the data path gets to see. A service whose new schema has not come yet stays as it was.
    pub fn resources(&mut self) -> Resources {
        let mut resources = Resources {
            services_known: self.services_known.clone(),
            instances_known: self.instances_known.clone(),
            policies_known: self.policies_known.clone(),
            ..Resources::default()
        };
        // In push order, so that schemas are there before the services that lean on them.
        for holding in self.by_kind.values().flat_map(BTreeMap::values) {
            add(&mut resources, &mut self.warm, &holding.value);
        }
        self.warm.retain(|name, _| resources.services.contains_key(name));
        for name in &self.closed {
            close(&mut resources, name);
        }
        resources
    }
}

/// Adds one value to what the data path sees.
fn add(resources: &mut Resources, warm: &mut BTreeMap<ServiceName, Warm>, value: &Value) {
    match value {
        Value::Mesh(mesh) => resources.mesh = Some(mesh.clone()),
        Value::TrustBundle(bundle) => {
            let domain = bundle.trust_domain.as_str().into();
            resources.bundles.insert(domain, bundle.clone());
        }
        Value::JwtProvider(provider) => {
            let name = provider.name.clone();
            resources.providers.insert(name, provider.clone());
        }
        Value::Schema(hash, schema) => {
            resources.schemas.insert(hash.clone(), schema.clone());
        }
        Value::Service(service) => {
            let chosen = warmest(service, warm.get(&service.name), resources);
            if let Some((hash, schema)) = &chosen.schema {
                let held = resources.schemas.entry(hash.clone());
                held.or_insert_with(|| schema.clone());
            }
            resources
                .services
                .insert(service.name.clone(), chosen.service.clone());
            warm.insert(service.name.clone(), chosen);
        }
        Value::Instance(instance) => {
            let siblings = resources.instances.entry(instance.name.service.clone());
            siblings
                .or_default()
                .insert(instance.name.id.clone(), instance.clone());
        }
        Value::AccessPolicy(policy) => {
            let siblings = resources.policies.entry(policy.service.clone());
            siblings.or_default().insert(policy.name.clone(), policy.clone());
        }
    }
}

/// The new service, or the one before it while only that one has its schema.
fn warmest(new: &Arc<Service>, old: Option<&Warm>, resources: &Resources) -> Warm {
    let schema_of = |service: &Service| {
        let hash = schema_hash(service)?;
        let kept = old
            .and_then(|old| old.schema.clone())
            .filter(|(kept, _)| kept == hash);
        let pushed = resources.schemas.get(hash);
        pushed.map(|schema| (hash.clone(), schema.clone())).or(kept)
    };
    let is_warm = |service: &Service| schema_hash(service).is_none() || schema_of(service).is_some();
    let service = match old {
        Some(old) if !is_warm(new) && is_warm(&old.service) => old.service.clone(),
        _ => new.clone(),
    };
    Warm {
        schema: schema_of(&service),
        service,
    }
}

/// A policy without rules allows nothing.
fn close(resources: &mut Resources, name: &str) {
    let Some((service, name)) = name.split_once('/') else {
        return;
    };
    let Ok(service) = ServiceName::parse(service) else {
        return;
    };
    let nothing = AccessPolicy {
        name: name.into(),
        service: service.clone(),
        allow: Vec::new(),
    };
    resources
        .policies
        .entry(service)
        .or_default()
        .insert(name.into(), nothing.into());
}

fn schema_hash(service: &Service) -> Option<&SchemaHash> {
    match &service.schema {
        Some(SchemaSource::Hash(hash)) => Some(hash),
        _ => None,
    }
}
