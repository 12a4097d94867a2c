//! Whether documents may be stored, given what is stored. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesh_proto::google::rpc::bad_request::FieldViolation;
use mesh_proto::v1::document::Resource;
use mesh_proto::v1::{apply_request, apply_result::Action, caller};
use mesh_proto::{Fault, Kind, domain};

use super::ambiguous::{self, Found};
use super::blind;
use crate::registry::{Expect, Item, Key, State, Write};
use crate::schema;

/// Most documents in one request.
pub const ITEMS_MAX: usize = 1000;

/// What a request comes down to.
#[derive(Debug, Default)]
pub struct Plan {
    /// To be stored, schemas first.
    pub writes: Vec<Write>,
    /// One for each document of the request, in its order.
    pub outcomes: Vec<Outcome>,
}

/// What becomes of one document.
#[derive(Debug)]
pub struct Outcome {
    /// As it is after the request.
    pub item: Arc<Item>,
    /// What that changes.
    pub action: Action,
    /// What is accepted but probably not meant.
    pub warnings: Vec<String>,
}

/// Why a request is refused.
#[derive(Debug)]
pub enum Refusal {
    /// Every fault there is, with `Kind/name: place` as field.
    Faults(Vec<FieldViolation>),
    /// Conditions that do not hold.
    Lost(Vec<String>),
}

/// Judges a request against what is stored.
///
/// # Errors
/// Every reason against it; see [`Refusal`].
pub fn apply(items: Vec<apply_request::Item>, state: &State, trust_domain: &str) -> Result<Plan, Refusal> {
    let mut faults = Vec::new();
    if items.len() > ITEMS_MAX {
        let many = format!(
            "has {} documents; at most {ITEMS_MAX} are allowed, apply them in several steps",
            items.len()
        );
        return Err(Refusal::Faults(vec![violation("items", &many)]));
    }
    let mut judged: Vec<(Resource, Expect)> = Vec::new();
    let mut schemas: BTreeMap<Key, Resource> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (index, item) in items.into_iter().enumerate() {
        let Some(mut resource) = item.document.and_then(|document| document.resource) else {
            faults.push(violation(&format!("items[{index}]"), "holds no document"));
            continue;
        };
        if let Err(found) = domain::check(&resource) {
            faults.extend(found.0.iter().map(of_fault));
            continue;
        }
        let key = Key::of(&resource);
        if !seen.insert(key.clone()) {
            faults.push(violation(
                &format!("{key}: metadata.name"),
                "stands twice in this request",
            ));
        }
        let inline = schema::split(&mut resource);
        if let Some(schema) = inline.as_ref().or(Some(&resource))
            && let Err(why) = schema::compile(schema)
        {
            let place = if inline.is_some() {
                "spec.schema.inline"
            } else {
                "spec.descriptorSet"
            };
            faults.push(violation(&format!("{key}: {place}"), &why));
        }
        if let Some(schema) = inline {
            schemas.insert(Key::of(&schema), schema);
        }
        judged.push((resource, expectation(&item.if_revision)));
    }
    let after = After::of(state, &judged, &schemas);
    for (resource, _) in &judged {
        faults.extend(after.references(resource, trust_domain));
    }
    let mut ambiguous = after.ambiguous(&judged, state);
    faults.append(&mut ambiguous.faults);
    if !faults.is_empty() {
        return Err(Refusal::Faults(faults));
    }
    let lost: Vec<String> = judged
        .iter()
        .filter_map(|(resource, expect)| lost(resource, expect, state))
        .collect();
    if !lost.is_empty() {
        return Err(Refusal::Lost(lost));
    }
    Ok(plan(&judged, &schemas, state, &after, ambiguous.warnings))
}

/// Judges a deletion: what leans on the document, and which schemas nobody needs once it is gone.
///
/// # Errors
/// The documents that refer to it.
pub fn delete(key: &Key, state: &State) -> Result<Vec<Key>, Vec<String>> {
    let mut referring = Vec::new();
    for stored in state.documents.values() {
        let resource = &stored.item.resource;
        if references(resource).iter().any(|(_, target)| target == key) {
            referring.push(Key::of(resource).to_string());
        }
    }
    if !referring.is_empty() {
        return Err(referring);
    }
    let old = state
        .documents
        .get(key)
        .and_then(|stored| schema::referred(&stored.item.resource));
    Ok(old
        .and_then(|hash| unneeded(hash, state, &BTreeSet::from([key.clone()]), &[]))
        .into_iter()
        .collect())
}

/// Everything that is stored, with the schemas that stand in services.
fn stored(state: &State) -> impl Iterator<Item = &Resource> {
    state.documents.values().flat_map(|stored| {
        let schema = stored.schema.iter().map(|schema| &schema.resource);
        std::iter::once(&stored.item.resource).chain(schema)
    })
}

/// What will be stored if the request is granted.
struct After<'a> {
    resources: BTreeMap<Key, &'a Resource>,
}

impl<'a> After<'a> {
    fn of(state: &'a State, judged: &'a [(Resource, Expect)], schemas: &'a BTreeMap<Key, Resource>) -> Self {
        let mut resources: BTreeMap<Key, &Resource> = stored(state)
            .map(|resource| (Key::of(resource), resource))
            .collect();
        resources.extend(schemas.iter().map(|(key, schema)| (key.clone(), schema)));
        resources.extend(judged.iter().map(|(resource, _)| (Key::of(resource), resource)));
        Self { resources }
    }

    /// Faults in how a document leans on others.
    fn references(&self, resource: &Resource, trust_domain: &str) -> Vec<FieldViolation> {
        let key = Key::of(resource);
        let mut faults = Vec::new();
        for (place, target) in references(resource) {
            // A policy may come before its service; it is a warning.
            if target.kind != Kind::Service && !self.resources.contains_key(&target) {
                let fix = match target.kind {
                    Kind::Schema => "apply the service with `schema: {file: ...}`".to_owned(),
                    kind => format!("apply that {kind} first, or in the same request"),
                };
                faults.push(violation(
                    &format!("{key}: {place}"),
                    &format!("there is no {target}; {fix}"),
                ));
            }
        }
        match resource {
            Resource::Service(_) => {
                let schema = references(resource)
                    .into_iter()
                    .find_map(|(_, target)| self.resources.get(&target));
                if let Some(Err(wrong)) = schema.map(|schema| schema::check_headers(resource, schema)) {
                    let told = wrong.0.iter();
                    faults.extend(
                        told.map(|fault| violation(&format!("{key}: {}", fault.place), &fault.message)),
                    );
                }
            }
            Resource::JwtProvider(provider) => {
                let issuer = provider.spec.as_ref().map_or("", |spec| spec.issuer.as_str());
                let twin = self
                    .resources
                    .iter()
                    .find(|(other, resource)| **other != key && issuer_of(resource) == Some(issuer));
                if let Some((twin, _)) = twin {
                    let why =
                        format!("{issuer:?} is the issuer of {twin} too; an issuer has one JwtProvider");
                    faults.push(violation(&format!("{key}: spec.issuer"), &why));
                }
            }
            Resource::Mesh(mesh) => {
                let domain = mesh.spec.as_ref().map_or("", |spec| spec.trust_domain.as_str());
                if domain != trust_domain {
                    let why = format!(
                        "{domain:?} is not the trust domain of the certificate authority; write {trust_domain}"
                    );
                    faults.push(violation(&format!("{key}: spec.trustDomain"), &why));
                }
            }
            Resource::TrustBundle(bundle) => {
                let pem = bundle.spec.as_ref().map_or("", |spec| spec.certificates.as_str());
                if let Err(why) = mesh_link::credentials::read_authorities(pem) {
                    faults.push(violation(&format!("{key}: spec.certificates"), &why));
                }
            }
            _ => {}
        }
        faults
    }

    /// What the changed services' rules have in common with those of others.
    fn ambiguous(&self, judged: &[(Resource, Expect)], state: &State) -> Found {
        let changed: BTreeSet<&str> = judged
            .iter()
            .filter(|(resource, _)| matches!(resource, Resource::Service(_)))
            .map(|(resource, _)| resource.name())
            .collect();
        ambiguous::judge(
            &changed,
            stored(state),
            self.resources.values().copied(),
            &state.edges,
        )
    }

    fn warnings(&self, resource: &Resource, state: &State) -> Vec<String> {
        let missing = references(resource)
            .into_iter()
            .filter(|(_, target)| !self.resources.contains_key(target));
        let mut warnings: Vec<String> = missing
            .map(|(place, target)| format!("{place}: there is no {target} yet"))
            .collect();
        if let Resource::Instance(_) = resource
            && state.instances.contains_key(resource.name())
        {
            warnings.push("a sidecar has registered an instance of this name; that one is used".into());
        }
        warnings.extend(blind::judge(resource, &self.resources));
        if let Resource::AccessPolicy(policy) = resource {
            for (index, rule) in policy.spec.iter().flat_map(|spec| &spec.allow).enumerate() {
                for (at, caller) in rule.callers.iter().enumerate() {
                    if let Some(caller::Who::Service(name)) = &caller.who
                        && !self.resources.contains_key(&Key {
                            kind: Kind::Service,
                            name: name.clone(),
                        })
                    {
                        warnings.push(format!(
                            "spec.allow[{index}].callers[{at}].service: there is no Service/{name} yet"
                        ));
                    }
                }
            }
        }
        warnings
    }
}

fn plan(
    judged: &[(Resource, Expect)],
    schemas: &BTreeMap<Key, Resource>,
    state: &State,
    after: &After<'_>,
    mut ambiguous: BTreeMap<String, Vec<String>>,
) -> Plan {
    let mut plan = Plan::default();
    let mut replaced = Vec::new();
    for (resource, _) in judged {
        let mut warnings = after.warnings(resource, state);
        warnings.extend(
            ambiguous
                .remove(resource.name())
                .filter(|_| matches!(resource, Resource::Service(_)))
                .into_iter()
                .flatten(),
        );
        let item = Arc::new(Item::new(resource.clone()));
        let stored = state.documents.get(&Key::of(resource));
        let action = match stored {
            None => Action::Created,
            Some(stored) if stored.item.version == item.version => Action::Unchanged,
            Some(_) => Action::Changed,
        };
        if let Some(old) = stored.and_then(|stored| schema::referred(&stored.item.resource)) {
            replaced.push(old.to_owned());
        }
        plan.outcomes.push(Outcome {
            item,
            action,
            warnings,
        });
    }
    for (key, schema) in schemas {
        if !state.documents.contains_key(key) {
            plan.writes.push(Write {
                key: key.clone(),
                content: Some(schema.clone()),
                expect: Expect::Anything,
            });
        }
    }
    let changing: BTreeSet<Key> = judged.iter().map(|(resource, _)| Key::of(resource)).collect();
    let new: Vec<&Resource> = judged.iter().map(|(resource, _)| resource).collect();
    let unneeded: BTreeSet<Key> = replaced
        .iter()
        .filter_map(|hash| unneeded(hash, state, &changing, &new))
        .collect();
    for ((resource, expect), outcome) in judged.iter().zip(&plan.outcomes) {
        if outcome.action != Action::Unchanged {
            plan.writes.push(Write {
                key: Key::of(resource),
                content: Some(resource.clone()),
                expect: expect.clone(),
            });
        }
    }
    plan.writes.extend(unneeded.into_iter().map(|key| Write {
        key,
        content: None,
        expect: Expect::Anything,
    }));
    plan
}

/// The schema of this hash, if no service will refer to it once `changing` is replaced by `new`.
fn unneeded(hash: &str, state: &State, changing: &BTreeSet<Key>, new: &[&Resource]) -> Option<Key> {
    let key = Key {
        kind: Kind::Schema,
        name: hash.to_owned(),
    };
    let staying = state.documents.iter().filter(|(key, _)| !changing.contains(key));
    let mut users = staying
        .map(|(_, stored)| &stored.item.resource)
        .chain(new.iter().copied());
    let stored = state.documents.contains_key(&key) && !changing.contains(&key);
    (stored && !users.any(|user| schema::referred(user) == Some(hash))).then_some(key)
}

/// The documents a document refers to, each with the place that does.
fn references(resource: &Resource) -> Vec<(String, Key)> {
    let mut found = Vec::new();
    match resource {
        Resource::AccessPolicy(policy) => {
            let Some(spec) = &policy.spec else { return found };
            found.push((
                "spec.service".into(),
                Key {
                    kind: Kind::Service,
                    name: spec.service.clone(),
                },
            ));
            for (index, rule) in spec.allow.iter().enumerate() {
                if let Some(jwt) = &rule.jwt {
                    let target = Key {
                        kind: Kind::JwtProvider,
                        name: jwt.provider.clone(),
                    };
                    found.push((format!("spec.allow[{index}].jwt.provider"), target));
                }
            }
        }
        Resource::Service(_) => {
            if let Some(hash) = schema::referred(resource) {
                found.push((
                    "spec.schema.hash".into(),
                    Key {
                        kind: Kind::Schema,
                        name: hash.to_owned(),
                    },
                ));
            }
        }
        Resource::Instance(_) => {
            if let Some((service, _)) = resource.name().split_once('/') {
                found.push((
                    "metadata.name".into(),
                    Key {
                        kind: Kind::Service,
                        name: service.to_owned(),
                    },
                ));
            }
        }
        _ => {}
    }
    found
}

fn issuer_of(resource: &Resource) -> Option<&str> {
    match resource {
        Resource::JwtProvider(provider) => provider.spec.as_ref().map(|spec| spec.issuer.as_str()),
        _ => None,
    }
}

fn expectation(if_revision: &str) -> Expect {
    match if_revision {
        "" => Expect::Anything,
        "none" => Expect::Nothing,
        revision => Expect::Revision(revision.to_owned()),
    }
}

/// Tells a lost condition early, and in a dry run. The registry judges it again when it writes.
fn lost(resource: &Resource, expect: &Expect, state: &State) -> Option<String> {
    let key = Key::of(resource);
    let stored = state.documents.get(&key).map(|stored| stored.revision.as_str());
    match (expect, stored) {
        (Expect::Nothing, Some(revision)) => Some(format!("{key} is there already, at revision {revision}")),
        (Expect::Revision(wanted), Some(revision)) if wanted != revision => Some(format!(
            "{key} was changed meanwhile: revision {wanted} was expected, {revision} is stored; get it and apply again"
        )),
        (Expect::Revision(_), None) => Some(format!("{key} was deleted meanwhile")),
        _ => None,
    }
}

fn violation(field: &str, description: &str) -> FieldViolation {
    FieldViolation {
        field: field.to_owned(),
        description: description.to_owned(),
    }
}

fn of_fault(fault: &Fault) -> FieldViolation {
    violation(fault.place.trim_end_matches(':'), &fault.message)
}

#[cfg(test)]
mod tests;
