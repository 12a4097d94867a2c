//! The schemas of golden files: for each set of rules a gRPC service of its own, compiled by Google's own protoc.
//!
//! Cases with the same rules share a service. Its rules stand below `/gN`, so that hundreds of them live side by side in
//! one sidecar without getting in each other's way.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::process::Command;

use prost::Message;
use serde_json::{Map, Value};

use super::case::{Case, folder};
use crate::folder::Folder;
use crate::process::{finish, repository};

/// Where rules may hold a path.
const PATTERNS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

/// A method of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rpc {
    /// Without package and service.
    pub name: String,
    /// The full name of what it takes.
    pub input: String,
    /// The full name of what it gives.
    pub output: String,
    /// Whether it takes a stream.
    pub client_streaming: bool,
    /// Whether it gives a stream.
    pub server_streaming: bool,
}

/// A gRPC service: what cases with the same rules share.
#[derive(Debug, Clone)]
pub struct Group {
    /// `g12`: its package, and the first segment of its paths.
    pub name: String,
    /// Its methods.
    pub rpcs: Vec<Rpc>,
    /// Whether its paths stand below `/g12`.
    pub mounted: bool,
    /// More of the Service document.
    pub service: Map<String, Value>,
    proto: String,
}

/// All groups, and the descriptors of everything.
#[derive(Debug)]
pub struct Schemas {
    /// By number.
    pub groups: Vec<Group>,
    /// The group of each case.
    pub of_case: Vec<usize>,
    files: Vec<File>,
}

#[derive(Debug)]
struct File {
    name: String,
    imports: Vec<String>,
    raw: Vec<u8>,
}

impl Schemas {
    /// Sorts cases into groups and compiles them.
    ///
    /// # Panics
    /// A file is none that protoc takes.
    #[must_use]
    pub fn compile(cases: &[Case]) -> Self {
        let mut groups: Vec<Group> = Vec::new();
        let mut known: BTreeMap<String, usize> = BTreeMap::new();
        let mut of_case = Vec::new();
        for case in cases {
            let mounted = case.mount && case.expect.refused.is_none();
            let key = serde_json::to_string(&(&case.schema, &case.rpcs, &case.service, mounted)).unwrap();
            let number = *known.entry(key).or_insert_with(|| {
                groups.push(Group::new(format!("g{}", groups.len()), case, mounted));
                groups.len() - 1
            });
            of_case.push(number);
        }
        let files = compile(&groups);
        Self {
            groups,
            of_case,
            files,
        }
    }

    /// The descriptor set of these groups and all they import.
    #[must_use]
    pub fn set_of<'g>(&self, groups: impl IntoIterator<Item = &'g Group>) -> Vec<u8> {
        self.closure(groups.into_iter().map(Group::file).collect())
    }

    /// The same, with the common types of error details.
    #[must_use]
    pub fn set_with_details<'g>(&self, groups: impl IntoIterator<Item = &'g Group>) -> Vec<u8> {
        let details = "google/rpc/error_details.proto".to_owned();
        self.closure(groups.into_iter().map(Group::file).chain([details]).collect())
    }

    fn closure(&self, mut wanted: Vec<String>) -> Vec<u8> {
        let mut taken = BTreeSet::new();
        while let Some(name) = wanted.pop() {
            if let Some(file) = self.files.iter().find(|file| file.name == name)
                && taken.insert(name)
            {
                wanted.extend(file.imports.iter().cloned());
            }
        }
        self.set(|name| taken.contains(name))
    }

    /// The descriptor set of all files that no edition is needed for.
    #[must_use]
    pub fn without_editions(&self) -> Vec<u8> {
        let of_edition = |file: &&File| {
            file.name == "modern.proto" || file.imports.iter().any(|name| name == "modern.proto")
        };
        let out: BTreeSet<&str> = self
            .files
            .iter()
            .filter(of_edition)
            .map(|file| file.name.as_str())
            .collect();
        self.set(|name| !out.contains(name))
    }

    // protoc writes what is imported before what imports it, and so does this.
    fn set(&self, wanted: impl Fn(&str) -> bool) -> Vec<u8> {
        let chosen = self.files.iter().filter(|file| wanted(&file.name));
        FileSet {
            files: chosen.map(|file| file.raw.clone()).collect(),
        }
        .encode_to_vec()
    }
}

impl Group {
    fn new(name: String, case: &Case, mounted: bool) -> Self {
        let mount = if mounted {
            format!("/{name}")
        } else {
            String::new()
        };
        let package = match case.schema.as_str() {
            "modern" => "golden.modern",
            "twin" => "golden.twin",
            _ => "golden",
        };
        let mut rpcs = Vec::new();
        let mut methods = String::new();
        for (signature, rule) in &case.rpcs {
            let rpc = Rpc::parse(signature, package)
                .unwrap_or_else(|| panic!("{}: {signature:?} is no signature", case.file.display()));
            let stream = |on| if on { "stream " } else { "" };
            let _ = write!(
                methods,
                "  rpc {}({}.{}) returns ({}.{}) {{\n{}  }}\n",
                rpc.name,
                stream(rpc.client_streaming),
                rpc.input,
                stream(rpc.server_streaming),
                rpc.output,
                option(rule, &mount),
            );
            rpcs.push(rpc);
        }
        let proto = format!(
            "syntax = \"proto3\";\npackage {name};\nimport \"{}.proto\";\nimport \"google/api/annotations.proto\";\nimport \"google/api/httpbody.proto\";\nimport \"google/protobuf/empty.proto\";\nservice Svc {{\n{methods}}}\n",
            case.schema
        );
        Self {
            name,
            rpcs,
            mounted,
            service: case.service.clone(),
            proto,
        }
    }

    /// The full name of its gRPC service.
    #[must_use]
    pub fn grpc_name(&self) -> String {
        format!("{}.Svc", self.name)
    }

    /// What its paths begin with.
    #[must_use]
    pub fn mount(&self) -> String {
        if self.mounted {
            format!("/{}", self.name)
        } else {
            String::new()
        }
    }

    /// The method of this name; the only one there is, where none is named.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn rpc(&self, name: Option<&str>) -> &Rpc {
        let found = match name {
            Some(name) => self.rpcs.iter().find(|rpc| rpc.name == name),
            None => self.rpcs.first(),
        };
        found.unwrap_or_else(|| panic!("there is no rpc {name:?}"))
    }

    fn file(&self) -> String {
        format!("{}.proto", self.name)
    }
}

impl Rpc {
    fn parse(signature: &str, package: &str) -> Option<Self> {
        let (name, rest) = signature.split_once('(')?;
        let (input, output) = rest.strip_suffix(')')?.split_once(") returns (")?;
        let typed = |text: &str| {
            let (streaming, text) = match text.strip_prefix("stream ") {
                Some(text) => (true, text),
                None => (false, text),
            };
            let full = if text.contains('.') {
                text.to_owned()
            } else {
                format!("{package}.{text}")
            };
            (streaming, full)
        };
        let ((client_streaming, input), (server_streaming, output)) = (typed(input), typed(output));
        Some(Self {
            name: name.trim().to_owned(),
            input,
            output,
            client_streaming,
            server_streaming,
        })
    }
}

/// A rule as the option it is written as in a proto file; `$no_side_effects` is an option of its own.
fn option(rule: &Value, mount: &str) -> String {
    match rule {
        Value::Null => String::new(),
        rule => {
            let mut rule = mounted(rule, mount);
            let safe = rule
                .as_object_mut()
                .and_then(|fields| fields.remove("$no_side_effects"))
                .is_some();
            let safe = if safe {
                "    option idempotency_level = NO_SIDE_EFFECTS;\n"
            } else {
                ""
            };
            match rule.as_object().is_some_and(Map::is_empty) {
                true => safe.to_owned(),
                false => format!("{safe}    option (google.api.http) = {};\n", text_format(&rule)),
            }
        }
    }
}

fn mounted(rule: &Value, mount: &str) -> Value {
    let mut rule = rule.clone();
    let below = |path: &mut Value| {
        if let Value::String(path) = path {
            *path = match path.as_str() {
                "/" if !mount.is_empty() => mount.to_owned(),
                path => format!("{mount}{path}"),
            };
        }
    };
    for pattern in PATTERNS {
        rule.get_mut(pattern).into_iter().for_each(below);
    }
    rule.pointer_mut("/custom/path").into_iter().for_each(below);
    if let Some(Value::Array(more)) = rule.get_mut("additional_bindings") {
        for rule in more {
            *rule = mounted(rule, mount);
        }
    }
    rule
}

fn text_format(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| match value {
                Value::Array(items) => items
                    .iter()
                    .map(|item| format!("{name}: {} ", text_format(item)))
                    .collect(),
                value => format!("{name}: {} ", text_format(value)),
            };
            format!("{{ {}}}", fields.iter().map(field).collect::<String>())
        }
        Value::String(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
        other => other.to_string(),
    }
}

fn compile(groups: &[Group]) -> Vec<File> {
    let place = Folder::new();
    let mut names: Vec<String> = [
        "google/rpc/status.proto",
        "google/rpc/error_details.proto",
        "twin.proto",
    ]
    .map(str::to_owned)
    .to_vec();
    for group in groups {
        place.write(&group.file(), &group.proto);
        names.push(group.file());
    }
    let set = FileSet::decode(protoc(&place, &names).as_slice()).unwrap();
    let read = |raw: Vec<u8>| {
        let head = FileHead::decode(raw.as_slice()).unwrap();
        File {
            name: head.name,
            imports: head.dependency,
            raw,
        }
    };
    set.files.into_iter().map(read).collect()
}

/// The descriptor set of these files of `tests/golden/schemas`, or of `place`, with all they import.
///
/// # Panics
/// protoc does not take them.
#[must_use]
pub fn protoc(place: &Folder, names: &[String]) -> Vec<u8> {
    let out = place.join("all.binpb");
    let mut protoc = Command::new(repository().join(".venv/bin/python"));
    protoc.args(["-m", "grpc_tools.protoc", "--include_imports"]);
    for include in [
        place.path().to_owned(),
        folder().join("schemas"),
        repository().join("proto/proto"),
    ] {
        protoc.arg(format!("-I{}", include.display()));
    }
    protoc
        .arg(format!("--descriptor_set_out={}", out.display()))
        .args(names);
    let _ = finish(&mut protoc, "").ok();
    std::fs::read(out).unwrap()
}

/// `google.protobuf.FileDescriptorSet`, its files left as they are: read as messages, they would lose their options.
#[derive(Clone, PartialEq, Message)]
struct FileSet {
    #[prost(bytes = "vec", repeated, tag = "1")]
    files: Vec<Vec<u8>>,
}

/// As much of `google.protobuf.FileDescriptorProto` as is needed to sort files.
#[derive(Clone, PartialEq, Message)]
struct FileHead {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, repeated, tag = "3")]
    dependency: Vec<String>,
}
