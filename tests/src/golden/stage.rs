//! The stage: one sidecar with the services of all cases, and the scripted backend behind them.

use std::collections::{BTreeMap, BTreeSet};

use mesh_proto::v1::document::Resource;
use mesh_proto::v1::{SchemaSource, schema_source};
use mesh_transcode::{HeaderFields, Schema};
use serde_json::{Map, Value, json};

use super::backend::Backend;
use super::case::{Case, Direction};
use super::oracle::Oracle;
use super::play::Scene;
use super::schema::{Group, Schemas};
use crate::folder::Folder;
use crate::process::run;
use crate::sidecar::{Sidecar, SidecarPlan};

/// Everything the cases are played with.
#[derive(Debug)]
pub struct Stage {
    /// All golden files.
    pub cases: Vec<Case>,
    /// Their services.
    pub schemas: Schemas,
    /// Who reads messages.
    pub oracle: Oracle,
    /// Who plays the services.
    pub backend: Backend,
    /// Why the service of a group could not be loaded, by number.
    faults: BTreeMap<(usize, Direction), String>,
    /// Kept as long as the sidecar reads them.
    pub(super) folder: Folder,
}

impl Stage {
    /// Reads and compiles everything; no sidecar runs yet.
    #[must_use]
    pub fn set() -> Self {
        let cases = Case::all();
        let schemas = Schemas::compile(&cases);
        let oracle = Oracle::new(&schemas.without_editions());
        let mut faults = BTreeMap::new();
        for (number, group) in schemas.groups.iter().enumerate() {
            let of_group = |direction: &Direction| {
                let mut played = cases.iter().zip(&schemas.of_case);
                played.any(|(case, group)| *group == number && case.directions.contains(direction))
            };
            let both = [Direction::Forward, Direction::Reverse];
            for direction in both.into_iter().filter(of_group) {
                if let Some(why) = fault(group, &schemas, direction) {
                    faults.insert((number, direction), why);
                }
            }
        }
        Self {
            cases,
            schemas,
            oracle,
            backend: Backend::start(),
            faults,
            folder: Folder::new(),
        }
    }

    /// An edge before the services of all cases that are played this way; `None` where none of them can be loaded.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn edge(&self, direction: Direction) -> Option<Sidecar> {
        let played: BTreeSet<usize> = self
            .played(direction)
            .map(|case| self.schemas.of_case[case])
            .collect();
        let mut by_service: BTreeMap<String, Vec<&Group>> = BTreeMap::new();
        for (number, group) in self.schemas.groups.iter().enumerate() {
            if played.contains(&number) && self.fault(number, direction).is_none() {
                by_service
                    .entry(json!(group.service).to_string())
                    .or_default()
                    .push(group);
            }
        }
        let mut exposed = Vec::new();
        for (number, groups) in by_service.values().enumerate() {
            let name = format!("golden.s{number}");
            self.lay(&format!("{direction:?}/s{number}"), &name, groups, direction);
            exposed.push(json!({"service": name}));
        }
        let documents = self.folder.join(&format!("{direction:?}"));
        (!exposed.is_empty()).then(|| {
            SidecarPlan::new("web.edge", "golden")
                .standalone(&documents)
                .edge(&json!(exposed))
                .start()
        })
    }

    fn fault(&self, group: usize, direction: Direction) -> Option<&String> {
        self.faults.get(&(group, direction))
    }

    /// What a sidecar says to the document of one case, without starting: `Ok` when it takes it.
    ///
    /// # Errors
    /// It does not: its words.
    pub fn load(&self, case: usize) -> Result<(), String> {
        let group = &self.schemas.groups[self.schemas.of_case[case]];
        let place = format!("load/{}", group.name);
        self.lay(&format!("{place}/s"), "golden.one", &[group], Direction::Forward);
        let config = json!({
            "node": {"service": "web.edge", "id": "golden"},
            "resources": {"file": self.folder.join(&place)},
            "edge": {"listen": "127.0.0.1:0", "expose": [{"service": "golden.one"}]},
        });
        let file = self
            .folder
            .write(&format!("{}.yaml", group.name), config.to_string());
        let told = run(
            "sidecar",
            [
                std::ffi::OsStr::new("--config"),
                file.as_os_str(),
                std::ffi::OsStr::new("--check"),
            ],
        );
        match told.code {
            Some(0) => Ok(()),
            _ => Err(format!("{}{}", told.stdout, told.stderr)),
        }
    }

    /// A case, ready to be played at this address.
    ///
    /// # Errors
    /// Its service could not be loaded.
    pub fn scene<'s>(
        &'s self,
        case: usize,
        direction: Direction,
        address: &'s str,
    ) -> Result<Scene<'s>, String> {
        let number = self.schemas.of_case[case];
        if let Some(why) = self.fault(number, direction) {
            return Err(format!("its service cannot be loaded: {why}"));
        }
        Ok(Scene {
            case: &self.cases[case],
            group: &self.schemas.groups[number],
            oracle: &self.oracle,
            backend: &self.backend,
            address,
        })
    }

    /// The numbers of the cases that are played this way.
    pub fn played(&self, direction: Direction) -> impl Iterator<Item = usize> {
        let played = move |(_, case): &(usize, &Case)| {
            case.expect.refused.is_none() && case.directions.contains(&direction)
        };
        self.cases
            .iter()
            .enumerate()
            .filter(played)
            .map(|(number, _)| number)
    }

    /// The documents of a service with these groups' methods.
    fn lay(&self, place: &str, name: &str, groups: &[&Group], direction: Direction) {
        let binpb = format!("{place}.binpb");
        self.folder
            .write(&binpb, self.schemas.set_of(groups.iter().copied()));
        let file = binpb.rsplit('/').next().unwrap_or_default().to_owned();
        let more = groups
            .first()
            .map(|group| group.service.clone())
            .unwrap_or_default();
        let service = document(name, &file, &more, direction);
        let (host, port) = self.backend.address.split_once(':').unwrap();
        let instance = json!({
            "apiVersion": "mesh/v1", "kind": "Instance", "metadata": {"name": format!("{name}/a")},
            "spec": {"address": host, "port": port.parse::<u16>().unwrap(), "transport": "plaintext"},
        });
        self.folder
            .write(&format!("{place}.yaml"), format!("{service}\n---\n{instance}\n"));
    }
}

fn document(name: &str, schema: &str, more: &Map<String, Value>, direction: Direction) -> Value {
    let protocol = match direction {
        Direction::Forward => "grpc",
        Direction::Reverse => "http-json",
    };
    let mut spec = json!({"protocol": protocol, "schema": {"file": schema}});
    if let Some(fields) = spec.as_object_mut() {
        fields.extend(more.clone());
    }
    json!({"apiVersion": "mesh/v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
}

/// Why a group cannot be loaded: one bad document would keep a whole sidecar from starting.
fn fault(group: &Group, schemas: &Schemas, direction: Direction) -> Option<String> {
    let document = document("golden.one", "one.binpb", &group.service, direction);
    let set = schemas.set_of([group]);
    let judged = mesh_proto::document::from_value(&document).and_then(|mut resource| {
        if let Resource::Service(service) = &mut resource
            && let Some(spec) = &mut service.spec
        {
            // As it is once its file was read.
            spec.schema = Some(SchemaSource {
                source: Some(schema_source::Source::Inline(set.clone())),
            });
        }
        mesh_proto::domain::check(&resource)
    });
    let headers = group.service.get("rest").cloned().unwrap_or_default();
    let compile = || match Schema::compile(&set) {
        Ok(schema) => unfound(&headers, &schema),
        Err(faults) => Some(faults.to_string()),
    };
    let compiled =
        || std::panic::catch_unwind(compile).unwrap_or_else(|_| Some("compiling it panics".into()));
    judged.err().map(|faults| faults.to_string()).or_else(compiled)
}

/// Why headers of a service's `rest` do not find their fields.
fn unfound(rest: &Value, schema: &Schema) -> Option<String> {
    let document = document(
        "golden.one",
        "one.binpb",
        &Map::from_iter([("rest".to_owned(), rest.clone())]),
        Direction::Forward,
    );
    let Ok(Resource::Service(service)) = mesh_proto::document::from_value(&document) else {
        return None;
    };
    let rest = mesh_proto::domain::Rest::try_from(service.spec?.rest?).ok()?;
    HeaderFields::check(&rest, schema)
        .err()
        .map(|faults| faults.to_string())
}
