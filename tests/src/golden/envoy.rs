//! Envoy's transcoder before the same service: what it answers otherwise, each difference with its reason.
//!
//! ```text
//!  golden files ─► Envoy ─► judged as we are ─► differences ─┬─ a class of tests/golden/envoy.yaml has its reason
//!                                                            └─ none has: the test fails
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;

use serde::Deserialize;
use serde_json::{Value, json};

use super::case::{Case, folder};
use super::judge::Difference;
use super::stage::Stage;
use crate::folder::free_port;
use crate::process::{Process, repository};
use crate::wait::eventually;

/// Why a case of another protocol is not asked.
const NO_REST: &str = "is no REST";
/// How much of a value stands in the table.
const SHOWN: usize = 110;

/// Why Envoy answers otherwise, for some cases.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    /// What it is about.
    pub about: String,
    /// Why we do it our way.
    pub why: String,
    /// The cases, by name.
    #[serde(default)]
    pub cases: Vec<String>,
    /// Or all cases that differ in nothing but these keys.
    #[serde(default)]
    pub keys: Vec<String>,
}

/// A running Envoy.
#[derive(Debug)]
pub struct Envoy {
    /// `host:port`
    pub address: String,
    /// The process.
    pub process: Process,
}

impl Envoy {
    /// Starts one with the rules of all cases it is asked, as near to our defaults as its options let it.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn start(stage: &Stage) -> Self {
        let groups: Vec<_> = stage.asked().map(|case| stage.schemas.of_case[case]).collect();
        let groups: Vec<_> = stage
            .schemas
            .groups
            .iter()
            .enumerate()
            .filter(|(number, _)| groups.contains(number))
            .map(|(_, group)| group)
            .collect();
        let services: Vec<String> = groups.iter().map(|group| group.grpc_name()).collect();
        let set = stage
            .folder
            .write("envoy/all.binpb", stage.schemas.set_with_details(groups));
        let port = free_port();
        let config = config(port, &stage.backend.address, &set, &services);
        let file = stage.folder.write("envoy/envoy.json", config.to_string());
        let mut command = Command::new(binary());
        command.arg("-c").arg(file);
        command.args(["--disable-hot-restart", "--concurrency", "1", "-l", "error"]);
        let mut process = Process::start("envoy".to_owned(), &mut command).foreign();
        eventually("envoy listens", || {
            assert!(process.is_running(), "envoy does not start: {}", process.log());
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self {
            address: format!("127.0.0.1:{port}"),
            process,
        }
    }
}

fn binary() -> PathBuf {
    let libraries = repository().join(".venv/lib");
    let entries =
        std::fs::read_dir(&libraries).unwrap_or_else(|_| panic!("tests/setup makes {}", libraries.display()));
    let found = entries.map(|entry| entry.unwrap().path().join("site-packages/envoy/_bin/envoy"));
    found.into_iter().find(|path| path.is_file()).unwrap()
}

fn config(port: u16, backend: &str, set: &std::path::Path, services: &[String]) -> Value {
    let (host, backend_port) = backend.split_once(':').unwrap();
    let typed = |name: &str, mut value: Value| {
        value["@type"] = json!(format!("type.googleapis.com/envoy.extensions.{name}"));
        value
    };
    let socket =
        |address: &str, port: u16| json!({"socket_address": {"address": address, "port_value": port}});
    let transcoder = typed(
        "filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
        json!({
            "proto_descriptor": set,
            "services": services,
            "convert_grpc_status": true,
            "query_param_unescape_plus": true,
            "max_request_body_size": 4 << 20,
            "max_response_body_size": 4 << 20,
            "request_validation_options": {
                "reject_unknown_method": true,
                "reject_unknown_query_parameters": true,
                "reject_binding_body_field_collisions": true,
            },
        }),
    );
    let router = typed("filters.http.router.v3.Router", json!({}));
    let route = json!({"match": {"prefix": "/"}, "route": {
        "cluster": "service", "timeout": "10s",
        "max_stream_duration": {"grpc_timeout_header_max": "0s"},
    }});
    let manager = typed(
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        json!({
            "stat_prefix": "golden",
            "codec_type": "AUTO",
            "normalize_path": false,
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
            "http_filters": [
                {"name": "transcoder", "typed_config": transcoder},
                {"name": "router", "typed_config": router},
            ],
        }),
    );
    let protocol = typed(
        "upstreams.http.v3.HttpProtocolOptions",
        json!({"explicit_http_config": {"http2_protocol_options": {}}}),
    );
    let endpoint = json!({"endpoint": {"address": socket(host, backend_port.parse().unwrap())}});
    json!({"static_resources": {
        "listeners": [{
            "address": socket("127.0.0.1", port),
            "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
        }],
        "clusters": [{
            "name": "service", "type": "STATIC",
            "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": protocol},
            "load_assignment": {"cluster_name": "service", "endpoints": [{"lb_endpoints": [endpoint]}]},
        }],
    }})
}

impl Stage {
    /// The numbers of the cases Envoy is asked: those of REST, by default switches.
    pub fn asked(&self) -> impl Iterator<Item = usize> {
        self.played(super::case::Direction::Forward).filter(|number| {
            let case = &self.cases[*number];
            case.no_envoy.is_none()
                && case.service.is_empty()
                && case.mount
                && case.http != Some(2)
                && case.pending.is_none()
        })
    }
}

/// The classes there are.
///
/// # Panics
/// The file is none.
#[must_use]
pub fn classes() -> Vec<Class> {
    let text = std::fs::read_to_string(folder().join("envoy.yaml")).unwrap();
    let value: Value = serde_saphyr::from_str(&text).unwrap();
    serde_json::from_value(value).unwrap()
}

/// What Envoy answers otherwise, by the case's name.
pub type Differences = BTreeMap<String, Vec<Difference>>;

/// A class, and the cases that are in it.
pub type Filled<'c> = (&'c Class, Vec<String>);

/// Differences, sorted.
#[derive(Debug)]
pub struct Sorted<'c> {
    /// By class.
    pub classes: Vec<Filled<'c>>,
    /// Cases that no class knows.
    pub unknown: Vec<String>,
    /// Cases that a class names, and that do not differ.
    pub stale: Vec<String>,
}

/// Sorts differences into classes.
#[must_use]
pub fn sort<'c>(classes: &'c [Class], differences: &Differences) -> Sorted<'c> {
    let mut filled: Vec<Filled<'_>> = classes.iter().map(|class| (class, Vec::new())).collect();
    let mut unknown = Vec::new();
    for (name, found) in differences {
        let by_name = filled.iter().position(|(class, _)| class.cases.contains(name));
        let only = |class: &Class| {
            !class.keys.is_empty()
                && found
                    .iter()
                    .all(|difference| class.keys.contains(&difference.key))
        };
        let at = by_name.or_else(|| filled.iter().position(|(class, _)| only(class)));
        match at.and_then(|at| filled.get_mut(at)) {
            Some((_, names)) => names.push(name.clone()),
            None => unknown.push(name.clone()),
        }
    }
    let named = classes.iter().flat_map(|class| &class.cases);
    let stale = named
        .filter(|name| !differences.contains_key(*name))
        .cloned()
        .collect();
    Sorted {
        classes: filled,
        unknown,
        stale,
    }
}

/// The page: every difference, and why.
#[must_use]
pub fn page(stage: &Stage, asked: usize, sorted: &[Filled<'_>], differences: &Differences) -> String {
    let differing: usize = sorted.iter().map(|(_, names)| names.len()).sum();
    let mut page = format!(
        "# Transcoding, side by side with Envoy\n\n\
         Envoy 1.40's `grpc_json_transcoder` is asked the same as we are: the golden files of `tests/golden` that speak REST by default\n\
         switches, before the same service. Its options are set as near to our defaults as they go: `convert_grpc_status`,\n\
         `reject_unknown_method`, `reject_unknown_query_parameters`, `reject_binding_body_field_collisions`, `query_param_unescape_plus`,\n\
         and our limit of 4 MiB. Of {asked} requests, {} are answered alike and {differing} otherwise; every difference is here, with the\n\
         reason for ours.\n\n\
         This page is written by `MESH_GOLDEN_UPDATE=1 cargo test -p mesh-tests --test envoy`; reasons stand in `tests/golden/envoy.yaml`.\n\
         A difference that has none fails that test.\n\n\
         | what | cases |\n|---|---|\n",
        asked - differing
    );
    for (class, names) in sorted {
        let _ = writeln!(page, "| {} | {} |", class.about, names.len());
    }
    for (class, names) in sorted.iter().filter(|(_, names)| !names.is_empty()) {
        let _ = write!(
            page,
            "\n## {}\n\n{}\n\n| behaviour | Envoy | here |\n|---|---|---|\n",
            class.about,
            class.why.trim()
        );
        // What is answered alike stands in one line.
        let mut lines: Vec<((String, String), Vec<String>)> = Vec::new();
        for name in names {
            let case = stage.cases.iter().find(|case| case.name() == *name);
            let told = case
                .map(|case| told(case, &differences[name]))
                .unwrap_or_default();
            match lines.iter_mut().find(|(known, _)| *known == told) {
                Some((_, sentences)) => sentences.push(sentence(name)),
                None => lines.push((told, vec![sentence(name)])),
            }
        }
        for ((envoy, ours), sentences) in lines {
            let _ = writeln!(page, "| {} | {envoy} | {ours} |", sentences.join("; "));
        }
    }
    page.push_str("\n## Not asked\n\nWhat cannot be asked, because Envoy does not survive it or has no form for it.\n\n| behaviour | Envoy |\n|---|---|\n");
    for case in &stage.cases {
        if let Some(why) = case.no_envoy.as_ref().filter(|why| *why != NO_REST) {
            let _ = writeln!(page, "| {} | {why} |", sentence(&case.name()));
        }
    }
    page
}

fn sentence(name: &str) -> String {
    name.rsplit('/').next().unwrap_or_default().replace('_', " ")
}

fn told(case: &Case, differences: &[Difference]) -> (String, String) {
    let (mut envoy, mut ours) = (Vec::new(), Vec::new());
    if let Some(status) = case.expect.status
        && !differences.iter().any(|difference| difference.key == "status")
    {
        envoy.push(format!("{status}"));
        ours.push(format!("{status}"));
    }
    for Difference { key, expected, seen } in differences {
        let name = match key.as_str() {
            // What a body lacks that is no error of ours is told by its code, or by its type.
            "error" => continue,
            "error/code" => {
                ours.push(format!("code {expected}"));
                if !seen.is_null() {
                    envoy.push(format!("code {seen}"));
                }
                continue;
            }
            "status" | "text" | "json" | "headers/content-type" => String::new(),
            "seen" => "the service saw ".into(),
            key => format!(
                "{} ",
                key.trim_start_matches("headers/").trim_start_matches("error/")
            ),
        };
        envoy.push(format!("{name}{}", shown(seen)));
        ours.push(format!("{name}{}", shown(expected)));
    }
    (envoy.join("; "), ours.join("; "))
}

/// Without the `/g12` that paths of a case begin with: its number changes with every new case.
fn without_mount(text: &str) -> String {
    let mut parts = text.split("/g");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|character: char| character.is_ascii_digit());
        if rest.len() == part.len() || !rest.starts_with('/') {
            out.push_str("/g");
            out.push_str(part);
        } else {
            out.push_str(rest);
        }
    }
    out
}

fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text)
            if text
                .chars()
                .all(|character| character.is_ascii_alphanumeric() || " ,./-".contains(character)) =>
        {
            text.clone()
        }
        Value::Null => "none".into(),
        other => other.to_string(),
    };
    let text = without_mount(&text);
    let cut: String = text.chars().take(SHOWN).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    let code = |text: &str| {
        if text.starts_with(['{', '[', '"']) {
            format!("`{text}{more}`")
        } else {
            format!("{text}{more}")
        }
    };
    code(&cut.replace('|', "\\|").replace('`', "'").replace('\n', " "))
}
