//! HTTP rules of different services for the same requests. Within one schema they are a fault anyway; across services they
//! are one where an edge exposes both.
//!
//! ```text
//!  both exposed by an edge that is there ──┬─ this request brings it about ──► refused
//!                                          └─ it was so before ─────────────► warning
//!  no edge exposes both ──────────────────────────────────────────────────────► warning
//! ```
//!
//! Two services with the same schema are the same API twice, which is meant; with the same RPC they are two versions of one,
//! which may be on their way past each other and is never more than a warning.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesh_proto::google::rpc::bad_request::FieldViolation;
use mesh_proto::v1::{self, document::Resource};
use mesh_transcode::{Conflict, Router, Routing, Schema};

use crate::registry::Exposures;
use crate::schema;

/// Most bytes of descriptors that are compared where no edge exposes them.
const COMPARED_BYTES_MAX: usize = 4 << 20;
/// Most bytes of descriptors of one edge that are compared. No sidecar holds more.
const EDGE_BYTES_MAX: usize = 16 << 20;
/// Most warnings for one service.
const WARNINGS_MAX: usize = 20;
/// Most faults of one request.
const FAULTS_MAX: usize = 20;

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// Why the request is refused.
    pub faults: Vec<FieldViolation>,
    /// What each changed service is told.
    pub warnings: BTreeMap<String, Vec<String>>,
}

/// Looks at rules of these services, given everything that is stored, and that will be.
pub fn judge<'a>(
    changed: &BTreeSet<&str>,
    before: impl Iterator<Item = &'a Resource>,
    after: impl Iterator<Item = &'a Resource>,
    edges: &Exposures,
) -> Found {
    let mut found = Found::default();
    let after = Rules::of(after);
    if !after.services.iter().any(|rules| changed.contains(rules.service)) {
        return found;
    }
    let mut before = Some(before);
    let mut old: Option<Rules<'a>> = None;
    let mut told = BTreeSet::new();
    let mut looked = BTreeSet::new();
    for (edge, exposed) in edges {
        let concerned = exposed.iter().any(|name| changed.contains(name.as_str()));
        // Copies of one edge expose the same.
        if !concerned || !looked.insert(exposed) {
            continue;
        }
        let only = |name: &str| exposed.contains(name);
        for clash in after.clashes(only, EDGE_BYTES_MAX) {
            let Some(own) = clash.own(changed).filter(|_| !clash.is_one_api()) else {
                continue;
            };
            if !told.insert(clash.key()) {
                continue;
            }
            let old = old.get_or_insert_with(|| Rules::of(before.take().into_iter().flatten()));
            if old.has(&clash) {
                warn(
                    &mut found.warnings,
                    own,
                    &clash.line(
                        own,
                        &format!("the edge {edge} exposes both and serves the one it names first"),
                    ),
                );
            } else if found.faults.len() < FAULTS_MAX {
                let fix = format!(
                    "the edge {edge} exposes both: change one of the two rules, or let that edge expose one of the services"
                );
                found.faults.push(FieldViolation {
                    field: format!("Service/{own}: spec.schema"),
                    description: clash.line(own, &fix),
                });
            }
        }
    }
    for clash in after.clashes(|_| true, COMPARED_BYTES_MAX) {
        if let Some(own) = clash.own(changed)
            && !told.contains(&clash.key())
        {
            warn(
                &mut found.warnings,
                own,
                &clash.line(
                    own,
                    "an edge that exposes both serves only the one it names first",
                ),
            );
        }
    }
    found
}

fn warn(warnings: &mut BTreeMap<String, Vec<String>>, service: &str, line: &str) {
    let lines = warnings.entry(service.to_owned()).or_default();
    if lines.len() < WARNINGS_MAX {
        lines.push(format!("spec.schema: {line}"));
    }
}

/// One service's rules.
struct Mapped<'a> {
    service: &'a str,
    hash: &'a str,
    bytes: usize,
    routing: Routing,
}

/// The rules of all services.
struct Rules<'a> {
    services: Vec<Mapped<'a>>,
    descriptors: BTreeMap<&'a str, &'a [u8]>,
    compiled: std::cell::RefCell<BTreeMap<&'a str, Option<Arc<Schema>>>>,
}

impl<'a> Rules<'a> {
    fn of(resources: impl Iterator<Item = &'a Resource>) -> Self {
        let mut services = Vec::new();
        let mut descriptors: BTreeMap<&str, &[u8]> = BTreeMap::new();
        for resource in resources {
            match resource {
                Resource::Service(service) => {
                    services.extend(schema::referred(resource).map(|hash| Mapped {
                        service: resource.name(),
                        hash,
                        bytes: 0,
                        routing: routing(service),
                    }));
                }
                Resource::Schema(v1::Schema { spec: Some(spec), .. }) => {
                    descriptors.insert(resource.name(), &spec.descriptor_set);
                }
                _ => {}
            }
        }
        for rules in &mut services {
            rules.bytes = descriptors.get(rules.hash).map_or(0, |bytes| bytes.len());
        }
        Self {
            services,
            descriptors,
            compiled: std::cell::RefCell::default(),
        }
    }

    fn compiled(&self, hash: &'a str) -> Option<Arc<Schema>> {
        let mut compiled = self.compiled.borrow_mut();
        let schema = compiled.entry(hash).or_insert_with(|| {
            let bytes = self.descriptors.get(hash)?;
            Schema::compile(bytes).ok().map(Arc::new)
        });
        schema.clone()
    }

    /// Rules of different APIs for the same requests, among the services that pass the test.
    fn clashes(&self, wanted: impl Fn(&str) -> bool, bytes_max: usize) -> Vec<Clash<'a>> {
        let services: Vec<_> = self
            .services
            .iter()
            .filter(|rules| wanted(rules.service))
            .collect();
        let sizes: BTreeMap<&str, usize> = services.iter().map(|rules| (rules.hash, rules.bytes)).collect();
        if sizes.values().sum::<usize>() > bytes_max {
            return Vec::new();
        }
        let entries = services.iter().filter_map(|rules| {
            let schema = self.compiled(rules.hash)?;
            Some(((rules.service, rules.hash), schema, rules.routing))
        });
        let (_, conflicts) = Router::build_with(entries);
        conflicts
            .into_iter()
            .filter(|conflict| conflict.first.0.1 != conflict.second.0.1)
            .map(Clash)
            .collect()
    }

    /// Whether these services had these rules before.
    fn has(&self, clash: &Clash<'_>) -> bool {
        let Clash(conflict) = clash;
        let both = [conflict.first.0.0, conflict.second.0.0];
        self.clashes(|name| both.contains(&name), EDGE_BYTES_MAX)
            .iter()
            .any(|old| old.key() == clash.key())
    }
}

fn routing(service: &v1::Service) -> Routing {
    let rest = service.spec.as_ref().and_then(|spec| spec.rest.as_ref());
    Routing {
        unannotated: rest.is_some_and(|rest| rest.unannotated),
        ..Routing::default()
    }
}

/// Two rules of two services, each with its service's name and its schema's hash.
struct Clash<'a>(Conflict<(&'a str, &'a str)>);

impl<'a> Clash<'a> {
    /// The changed one of the two services; the later one if both are.
    fn own(&self, changed: &BTreeSet<&str>) -> Option<&'a str> {
        let (first, second) = (self.0.first.0.0, self.0.second.0.0);
        [second, first].into_iter().find(|name| changed.contains(name))
    }

    /// Whether both rules are the same RPC's.
    fn is_one_api(&self) -> bool {
        self.0.first.1 == self.0.second.1
    }

    /// The same for the same rules of the same services.
    fn key(&self) -> BTreeSet<(&'a str, String, String)> {
        let Conflict {
            first,
            second,
            rule,
            first_rule,
        } = &self.0;
        [
            (first.0.0, first.1.clone(), first_rule.clone()),
            (second.0.0, second.1.clone(), rule.clone()),
        ]
        .into()
    }

    /// Both rules, seen from one of the services.
    fn line(&self, own: &str, consequence: &str) -> String {
        let Conflict {
            first,
            second,
            rule,
            first_rule,
        } = &self.0;
        let ((own_rpc, own_rule), (other, other_rpc, other_rule)) = if second.0.0 == own {
            ((&second.1, rule), (first.0.0, &first.1, first_rule))
        } else {
            ((&first.1, first_rule), (second.0.0, &second.1, rule))
        };
        format!(
            "{own_rule} ({own_rpc}) is the rule {other_rule} ({other_rpc}) of Service/{other} too; {consequence}"
        )
    }
}
