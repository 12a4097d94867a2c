//! Without xds-lite: resources from a file or a folder of documents, watched, and swapped while running.
//!
//! ```text
//!  documents ─► load, judge, cross-check ─► Holdings ─► Shared        a bad edit: told once with all faults, nothing swapped
//! ```
//!
//! Everything counts as known here: what stands in no file does not exist.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use mesh_proto::document::{self, Loaded};
use mesh_proto::domain::{SchemaHash, SchemaSource};
use mesh_proto::fault::{Check, Faults};
use mesh_proto::kind::Kind;
use mesh_proto::name::ServiceName;
use mesh_proto::v1::{self, document::Resource, schema_source};
use mesh_transcode::HeaderFields;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Source};
use crate::files::{POLL_INTERVAL, Watch, read_text};
use crate::xds::holdings::{Holding, Holdings};
use crate::xds::judge::{self, Value};
use crate::{Resources, Shared};

/// Most services that were called and stand in no file. More are refused as unknown to the sidecar, not as unknown here.
const WANTED_MAX: usize = 1000;

/// What the files say, for the admin page.
pub type Held = Arc<Mutex<Holdings>>;

/// See the module.
pub struct Standalone {
    shared: Arc<Shared>,
    source: Source,
    held: Held,
    watch: Watch,
    /// Files that documents refer to, as of the last look.
    referred: Vec<PathBuf>,
    /// Services that were called and stand in no file.
    wanted: BTreeSet<ServiceName>,
}

/// Reads and judges everything a source holds, as it would be put into force.
///
/// # Errors
/// Every fault of every document, with its origin and place.
pub fn load(source: &Source, config: &Config) -> Result<Holdings, Faults> {
    build(source, config, &Holdings::default())
}

impl Standalone {
    /// Puts the files into force for the first time.
    ///
    /// # Errors
    /// Every fault of every document.
    pub fn begin(shared: Arc<Shared>, source: Source) -> Result<Self, Faults> {
        let mut standalone = Self {
            shared,
            source,
            held: Held::default(),
            watch: Watch::default(),
            referred: Vec::new(),
            wanted: BTreeSet::new(),
        };
        // Looked before it is read, so that a change after the reading is seen.
        standalone.has_changed();
        standalone.swap()?;
        Ok(standalone)
    }

    /// What the files say.
    #[must_use]
    pub fn held(&self) -> Held {
        self.held.clone()
    }

    /// Watches until told to stop.
    pub async fn run(mut self, mut wants: mpsc::Receiver<ServiceName>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(POLL_INTERVAL) => {
                    if self.has_changed() {
                        match self.swap() {
                            Ok(()) => tracing::info!("resources swapped: the documents have changed"),
                            Err(faults) => tracing::error!(
                                "resources have changed and are refused, those before stay in force:\n{faults}"
                            ),
                        }
                    }
                }
                Some(service) = wants.recv() => self.want(service),
                () = stop.cancelled() => return,
            }
        }
    }

    /// A service that was called and stands in no file is known not to exist.
    fn want(&mut self, service: ServiceName) {
        if self.wanted.len() < WANTED_MAX && self.wanted.insert(service) {
            self.publish();
        }
    }

    fn swap(&mut self) -> Result<(), Faults> {
        let before = self.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let holdings = build(&self.source, &self.shared.config, &before)?;
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = holdings;
        self.publish();
        Ok(())
    }

    fn publish(&self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let mut resources: Resources = held.resources();
        drop(held);
        resources.services_known.extend(self.wanted.iter().cloned());
        resources.instances_known.extend(self.wanted.iter().cloned());
        resources.policies_known.extend(self.wanted.iter().cloned());
        self.shared.publish(Arc::new(resources));
    }

    fn has_changed(&mut self) -> bool {
        let files = match &self.source {
            Source::Files(path) => document::files(path).unwrap_or_default(),
            Source::Documents(_) | Source::Control(_) => return false,
        };
        let all = files.iter().chain(&self.referred).cloned();
        if !self.watch.changed(all) {
            return false;
        }
        // They may refer to other files now; those are looked at from here on.
        self.referred = referred(&files);
        self.watch
            .changed(files.into_iter().chain(self.referred.iter().cloned()));
        true
    }
}

/// The files that documents refer to. What cannot be read or parsed is told when it is loaded.
fn referred(files: &[PathBuf]) -> Vec<PathBuf> {
    let mut referred = Vec::new();
    for file in files {
        let Ok(text) = read_text(file, document::FILE_BYTES_MAX) else {
            continue;
        };
        let base = file.parent().unwrap_or(Path::new("."));
        for document in document::parse(&text, "").unwrap_or_default() {
            let names = document::referred_files(&document.resource);
            referred.extend(names.into_iter().map(|name| base.join(name)));
        }
    }
    referred
}

fn read(source: &Source) -> Result<Vec<Loaded>, Faults> {
    match source {
        Source::Files(path) => document::load(path),
        Source::Documents(text) => {
            let loaded = document::parse(text, "made up")?;
            for document in &loaded {
                mesh_proto::domain::check(&document.resource)?;
            }
            Ok(loaded)
        }
        Source::Control(_) => Ok(Vec::new()),
    }
}

fn build(source: &Source, config: &Config, before: &Holdings) -> Result<Holdings, Faults> {
    let mut holdings = Holdings::default();
    let mut check = Check::default();
    let mut origins: BTreeMap<(Kind, String), String> = BTreeMap::new();
    for loaded in read(source)? {
        let (kind, name) = (loaded.resource.kind(), loaded.resource.resource_name());
        let label = format!("{}: {kind}/{}:", loaded.origin, loaded.resource.name());
        if let Some(other) = origins.insert((kind, name.clone()), loaded.origin.clone()) {
            check.fault(label, format!("stands in {other} as well; write it once"));
            continue;
        }
        check.part(&label, add(&mut holdings, loaded, before));
    }
    cross_check(&holdings, &origins, &mut check);
    know(&mut holdings, config);
    check.finish(Some(holdings))
}

fn add(holdings: &mut Holdings, loaded: Loaded, before: &Holdings) -> Result<(), Faults> {
    let mut resource = loaded.resource;
    if let Resource::Service(service) = &mut resource {
        add_schema(holdings, service, before)?;
    }
    let (kind, name) = (resource.kind(), resource.resource_name());
    let bytes = resource.encode_to_vec();
    let value = judge::read(kind, &name, &bytes, None)?;
    put(holdings, kind, &name, bytes, value);
    Ok(())
}

/// Makes a resource of its own of a schema in place, as xds-lite does.
fn add_schema(holdings: &mut Holdings, service: &mut v1::Service, before: &Holdings) -> Result<(), Faults> {
    let Some(source) = service.spec.as_mut().and_then(|spec| spec.schema.as_mut()) else {
        return Ok(());
    };
    let Some(schema_source::Source::Inline(descriptor_set)) = &source.source else {
        return Ok(());
    };
    let hash = SchemaHash::of(descriptor_set);
    let value = match before.get(Kind::Schema, hash.as_str()) {
        Some(held) => held.value.clone(),
        None => {
            let compiled = mesh_transcode::Schema::compile(descriptor_set)
                .map_err(|faults| faults.under("spec.schema"))?;
            Value::Schema(hash.clone(), compiled.into())
        }
    };
    let schema = Resource::Schema(v1::Schema {
        metadata: Some(v1::Metadata {
            name: hash.to_string(),
            ..Default::default()
        }),
        spec: Some(v1::SchemaSpec {
            descriptor_set: descriptor_set.clone(),
        }),
    });
    put(
        holdings,
        Kind::Schema,
        hash.as_str(),
        schema.encode_to_vec(),
        value,
    );
    source.source = Some(schema_source::Source::Hash(hash.to_string()));
    Ok(())
}

fn put(holdings: &mut Holdings, kind: Kind, name: &str, bytes: Vec<u8>, value: Value) {
    let holding = Holding {
        version: mesh_proto::version_of(&bytes).into(),
        bytes: bytes.into(),
        value,
    };
    holdings.put(kind, name, holding);
}

/// What no single document can see: a policy that leans on a provider that is not there would refuse everybody.
fn cross_check(holdings: &Holdings, origins: &BTreeMap<(Kind, String), String>, check: &mut Check) {
    let label = |kind: Kind, name: &str, place: &str| {
        let origin = origins.get(&(kind, name.to_owned())).map_or("", String::as_str);
        let short = name.rsplit('/').next().unwrap_or(name);
        let shown = if kind == Kind::AccessPolicy { short } else { name };
        format!("{origin}: {kind}/{shown}: {place}")
    };
    for (name, holding) in holdings.of(Kind::AccessPolicy) {
        let Value::AccessPolicy(policy) = &holding.value else {
            continue;
        };
        for (index, rule) in policy.allow.iter().enumerate() {
            let provider = rule.jwt.as_ref().map(|jwt| &jwt.provider);
            if let Some(provider) = provider.filter(|name| holdings.get(Kind::JwtProvider, name).is_none()) {
                let place = format!("spec.allow[{index}].jwt.provider");
                let place = label(Kind::AccessPolicy, name, &place);
                check.fault(place, format!("there is no JwtProvider {provider}"));
            }
        }
    }
    for (name, holding) in holdings.of(Kind::Service) {
        let Value::Service(service) = &holding.value else {
            continue;
        };
        let Some(SchemaSource::Hash(hash)) = &service.schema else {
            continue;
        };
        match holdings
            .get(Kind::Schema, hash.as_str())
            .map(|schema| &schema.value)
        {
            Some(Value::Schema(_, schema)) => {
                let place = label(Kind::Service, name, "spec.rest");
                check.part(&place, HeaderFields::check(&service.rest, schema));
                let policies = holdings.of(Kind::AccessPolicy);
                for (policy, holding) in policies {
                    if let Value::AccessPolicy(rules) = &holding.value
                        && rules.service.as_str() == name
                    {
                        let place = label(Kind::AccessPolicy, policy, "");
                        let place = place.trim_end();
                        check.part(place, mesh_transcode::policy::check(&rules.allow, schema));
                    }
                }
            }
            _ => {
                let place = label(Kind::Service, name, "spec.schema.hash");
                check.fault(place, "there is no such Schema here; write file instead");
            }
        }
    }
    let mut issuers: BTreeMap<Arc<str>, &String> = BTreeMap::new();
    for (name, holding) in holdings.of(Kind::JwtProvider) {
        if let Value::JwtProvider(provider) = &holding.value
            && let Some(other) = issuers.insert(provider.issuer.clone(), name)
        {
            let place = label(Kind::JwtProvider, name, "spec.issuer");
            check.fault(place, format!("is that of JwtProvider {other} as well"));
        }
    }
}

/// Everything that is mentioned anywhere is known.
fn know(holdings: &mut Holdings, config: &Config) {
    let mut known: BTreeSet<ServiceName> = config.dependencies.iter().cloned().collect();
    known.insert(config.node.service.clone());
    let exposed = config.edge.iter().flat_map(|edge| &edge.expose);
    known.extend(exposed.map(|exposed| exposed.service.clone()));
    for kind in [Kind::Service, Kind::Instance, Kind::AccessPolicy] {
        for (name, _) in holdings.of(kind) {
            known.extend(ServiceName::parse(name.split('/').next().unwrap_or(name)));
        }
    }
    holdings.services_known.clone_from(&known);
    holdings.instances_known.clone_from(&known);
    holdings.policies_known = known;
}

#[cfg(test)]
mod tests;
