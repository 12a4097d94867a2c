//! The immutable, compiled form of all resources, which data threads read.
//!
//! ```text
//!  Resources (by name) ─► services (by index): policy, endpoints, schema, bounds
//!                      └► edge routes: REST templates, gRPC services, prefixes ─► index
//! ```
//!
//! Names are looked up here once; a call carries indices.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use mesh_proto::domain::{
    Balance, BalanceAlgorithm, ErrorForm, Health, Instance, KeySet, KeySource, LocalityPreference, Protocol,
    Rest, Retry, SchemaSource, TIMEOUT_DEFAULT, Transport,
};
use mesh_proto::name::ServiceName;
use mesh_transcode::{HeaderFields, Router, Routing, Schema, problem};

use crate::gates::access::{Access, Messages};
use crate::gates::jwt::{Provider, Verifier};
use crate::progress::STREAM_IDLE_DEFAULT;
use crate::{Config, Resources};

/// Position of a service in [`Snapshot::services`].
pub type ServiceIndex = usize;

/// What the ways decide on.
pub struct Snapshot {
    /// What it was built from.
    pub resources: Arc<Resources>,
    /// Every service that is known.
    pub services: Vec<ServiceEntry>,
    /// This sidecar's own service, if it is known.
    pub own: Option<ServiceIndex>,
    /// Verifies tokens of every provider.
    pub verifier: Verifier,
    /// Providers whose tokens the app gets to see, by name.
    pub forwards: HashMap<Arc<str>, bool>,
    /// How the edge finds services.
    pub edge: EdgeRoutes,
    by_name: HashMap<ServiceName, ServiceIndex>,
}

/// A service with everything a call needs to know about it.
pub struct ServiceEntry {
    /// Its name.
    pub name: ServiceName,
    /// What it speaks.
    pub protocol: Protocol,
    /// Whether all there is to know has been heard of: its document, the schema that names, and its instances.
    pub complete: bool,
    /// Its compiled descriptors.
    pub schema: Option<Arc<Schema>>,
    /// Whether the service itself is asked for them.
    pub tells_schema: bool,
    /// Its REST rules.
    pub router: Router<ServiceIndex>,
    /// The switches for JSON callers.
    pub rest: Arc<Rest>,
    /// Those of them that the engine goes by.
    pub transcoding: mesh_transcode::Options,
    /// Headers that stand for fields, if there are any.
    pub headers: Option<Arc<HeaderFields>>,
    /// Bound of a unary call without a deadline.
    pub timeout: Duration,
    /// How long nothing may move on a stream; nothing for no bound.
    pub stream_idle: Option<Duration>,
    /// Further tries.
    pub retry: Retry,
    /// How an instance is chosen.
    pub balance: Balance,
    /// Who may call.
    pub access: Access,
    /// Its instances that take calls, in the order of their ids.
    pub endpoints: Vec<Arc<Instance>>,
    /// Positions of those in this sidecar's region; empty where locality does not count.
    pub local: Vec<usize>,
}

/// How the edge finds services.
pub struct EdgeRoutes {
    /// REST rules of all exposed services.
    pub rest: Router<ServiceIndex>,
    /// Full names of gRPC services.
    pub grpc: HashMap<String, ServiceIndex>,
    /// Path prefixes of plain HTTP services, longest first.
    pub prefixes: Vec<(Arc<str>, ServiceIndex)>,
    /// Everything exposed.
    pub exposed: Vec<ServiceIndex>,
    /// Rules of different services for the same requests, a line each: the first one exposed is in force.
    pub ambiguous: Vec<String>,
    /// What is served, as OpenAPI; made when it is asked for.
    pub openapi: OnceLock<Bytes>,
}

impl Snapshot {
    /// Compiles resources. `keys` are those fetched for providers whose keys are elsewhere, by provider; `reflected` the
    /// schemas that services told about themselves.
    #[must_use]
    pub fn build(
        config: &Config,
        resources: Arc<Resources>,
        keys: &BTreeMap<Arc<str>, Arc<KeySet>>,
        reflected: &BTreeMap<ServiceName, Arc<Schema>>,
    ) -> Self {
        let mut names: Vec<&ServiceName> = resources
            .services
            .keys()
            .chain(resources.instances.keys())
            .collect();
        names.push(&config.node.service);
        names.sort();
        names.dedup();
        let build = |(index, name)| ServiceEntry::build(config, &resources, reflected, name, index);
        let services: Vec<_> = names.into_iter().enumerate().map(build).collect();
        let by_name: HashMap<_, _> = services
            .iter()
            .enumerate()
            .map(|(index, s)| (s.name.clone(), index))
            .collect();
        let providers = resources.providers.values().map(|provider| {
            let keys = match &provider.keys {
                KeySource::Inline(keys) => Some(keys),
                KeySource::Uri(_) => keys.get(&provider.name).map(Arc::as_ref),
            };
            Arc::new(Provider::new(provider.clone(), keys))
        });
        let verifier = Verifier::new(providers);
        let forwards = resources
            .providers
            .values()
            .map(|p| (p.name.clone(), p.forward))
            .collect();
        let edge = EdgeRoutes::build(config, &services, &by_name);
        let own = by_name.get(&config.node.service).copied();
        Self {
            services,
            own,
            verifier,
            forwards,
            edge,
            by_name,
            resources,
        }
    }

    /// A service by name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<ServiceIndex> {
        self.by_name.get(name).copied()
    }
}

impl ServiceEntry {
    fn build(
        config: &Config,
        resources: &Resources,
        reflected: &BTreeMap<ServiceName, Arc<Schema>>,
        name: &ServiceName,
        index: ServiceIndex,
    ) -> Self {
        let service = resources.services.get(name);
        let defaults = resources.mesh.as_deref();
        let rest = service.map(|service| service.rest.clone()).unwrap_or_default();
        let schema = service.and_then(|service| match &service.schema {
            Some(SchemaSource::Hash(hash)) => resources.schemas.get(hash).cloned(),
            Some(SchemaSource::Reflection) => reflected.get(name).cloned(),
            _ => None,
        });
        let tells_schema = service.is_some_and(|service| service.schema == Some(SchemaSource::Reflection));
        // Ambiguous rules were told when the document was applied; here the first one counts.
        let (router, _) = Router::build_with(
            schema
                .iter()
                .map(|schema| (index, schema.clone(), Routing::from(&rest))),
        );
        // What is wrong with them was told then, too; of a schema that changes by itself, what fits is in force.
        let headers = schema
            .iter()
            .find_map(|schema| HeaderFields::compile(&rest, schema).0);
        let balance = service.map_or(
            Balance {
                algorithm: BalanceAlgorithm::LeastRequest,
                locality: LocalityPreference::Any,
            },
            |service| service.balance,
        );
        let instances = resources.instances.get(name);
        let endpoints: Vec<_> = instances
            .iter()
            .flat_map(|all| all.values())
            .filter(|i| i.health == Health::Serving)
            .cloned()
            .collect();
        let region = &config.node.locality.region;
        let local = match balance.locality {
            LocalityPreference::PreferLocal if !region.is_empty() => {
                let here = |(index, endpoint): (usize, &Arc<Instance>)| {
                    (endpoint.locality.region == *region).then_some(index)
                };
                endpoints.iter().enumerate().filter_map(here).collect()
            }
            _ => Vec::new(),
        };
        let policies = resources.policies_known.contains(name).then(|| {
            resources
                .policies
                .get(name)
                .into_iter()
                .flat_map(|policies| policies.values())
        });
        let protocol = service.map_or(Protocol::Grpc, |service| service.protocol);
        let messages = match &schema {
            _ if protocol != Protocol::Grpc => Messages::None,
            Some(schema) => Messages::Of(schema),
            None if service.is_some_and(|service| service.schema.is_some()) => Messages::Awaited,
            None => Messages::None,
        };
        let access = Access::new(policies, messages);
        Self {
            name: name.clone(),
            protocol,
            // A schema the service tells itself is not waited for: gRPC callers need none, and it may never come.
            complete: service
                .is_some_and(|service| schema.is_some() || tells_schema || service.schema.is_none())
                && (!endpoints.is_empty() || resources.instances_known.contains(name)),
            schema,
            tells_schema,
            router,
            transcoding: (&rest).into(),
            headers: headers.map(Arc::new),
            rest: Arc::new(rest),
            timeout: service
                .and_then(|service| service.timeout)
                .or(defaults.and_then(|mesh| mesh.timeout))
                .unwrap_or(TIMEOUT_DEFAULT),
            stream_idle: service
                .and_then(|service| service.stream_idle)
                .map_or(Some(STREAM_IDLE_DEFAULT), |idle| {
                    (!idle.is_zero()).then_some(idle)
                }),
            retry: service
                .and_then(|service| service.retry)
                .or(defaults.and_then(|mesh| mesh.retry))
                .unwrap_or_default(),
            balance,
            access,
            endpoints,
            local,
        }
    }

    /// Whether errors are told as problem documents to a caller with this `Accept`.
    #[must_use]
    pub fn tells_problems(&self, accept: Option<&str>) -> bool {
        match self.rest.errors {
            ErrorForm::Status => false,
            ErrorForm::Negotiate => problem::is_wanted(accept),
            ErrorForm::Problem => true,
        }
    }

    /// Whether an endpoint is another sidecar, which judges again, or the service itself.
    #[must_use]
    pub fn is_meshed(endpoint: &Instance) -> bool {
        endpoint.transport == Transport::Mtls
    }
}

impl EdgeRoutes {
    fn build(
        config: &Config,
        services: &[ServiceEntry],
        by_name: &HashMap<ServiceName, ServiceIndex>,
    ) -> Self {
        let mut routes = Self {
            rest: Router::build([]).0,
            grpc: HashMap::new(),
            prefixes: Vec::new(),
            exposed: Vec::new(),
            ambiguous: Vec::new(),
            openapi: OnceLock::new(),
        };
        for exposed in config.edge.iter().flat_map(|edge| &edge.expose) {
            let Some(index) = by_name.get(&exposed.service).copied() else {
                continue;
            };
            routes.exposed.push(index);
            if let Some(prefix) = &exposed.prefix {
                routes.prefixes.push((prefix.clone(), index));
            }
            if let Some(schema) = &services[index].schema {
                for name in schema.services() {
                    routes.grpc.entry(name.to_owned()).or_insert(index);
                }
            }
        }
        routes
            .prefixes
            .sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        let schemas = routes.exposed.iter().filter_map(|index| {
            let entry = &services[*index];
            Some((*index, entry.schema.clone()?, Routing::from(&*entry.rest)))
        });
        let (rest, conflicts) = Router::build_with(schemas);
        routes.rest = rest;
        routes.ambiguous = conflicts
            .into_iter()
            .map(|conflict| {
                let rpc = |(index, rpc): (ServiceIndex, String)| format!("{rpc} of {}", services[index].name);
                let (first, second) = (rpc(conflict.first), rpc(conflict.second));
                format!("{} is {first} and {second}; the first is in force", conflict.rule)
            })
            .collect();
        routes
    }
}
