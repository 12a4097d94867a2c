//! Everything a sidecar has been told, validated, before it is compiled into a [`crate::Snapshot`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesh_proto::domain::{AccessPolicy, Instance, JwtProvider, Mesh, SchemaHash, Service, TrustBundle};
use mesh_proto::name::ServiceName;
use mesh_transcode::Schema;

/// Resources by kind and name.
#[derive(Default, Clone)]
pub struct Resources {
    /// What holds for the whole mesh, once known.
    pub mesh: Option<Arc<Mesh>>,
    /// By trust domain.
    pub bundles: BTreeMap<Arc<str>, Arc<TrustBundle>>,
    /// By name.
    pub providers: BTreeMap<Arc<str>, Arc<JwtProvider>>,
    /// Compiled, by hash.
    pub schemas: BTreeMap<SchemaHash, Arc<Schema>>,
    /// By name.
    pub services: BTreeMap<ServiceName, Arc<Service>>,
    /// By service, then id.
    pub instances: BTreeMap<ServiceName, BTreeMap<Arc<str>, Arc<Instance>>>,
    /// By service, then name.
    pub policies: BTreeMap<ServiceName, BTreeMap<Arc<str>, Arc<AccessPolicy>>>,
    /// Services whose policies have been heard of, even if there are none. Until then every call to them is refused where
    /// policies are enforced: missing security policy denies.
    pub policies_known: BTreeSet<ServiceName>,
    /// Services that have been asked for and answered, even if the answer was that there is none.
    pub services_known: BTreeSet<ServiceName>,
    /// Services whose instances have been heard of, even if there are none.
    pub instances_known: BTreeSet<ServiceName>,
}
