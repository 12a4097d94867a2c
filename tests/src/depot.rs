//! An edge before `depot.v1.Depot`, which has a method for each way that HTTP callers and gRPC services meet.

use serde_json::{Value, json};

use crate::curl::Curl;
use crate::documents::instance;
use crate::folder::Folder;
use crate::process::Process;
use crate::python::script;
use crate::sidecar::{Sidecar, SidecarPlan};
use crate::wait::eventually;

/// The edge, the service behind it, and their documents.
#[derive(Debug)]
pub struct Depot {
    /// Where the world comes in.
    pub edge: Sidecar,
    /// `depot_service.py`
    pub app: Process,
    /// Their files.
    pub folder: Folder,
}

impl Depot {
    /// With these switches for HTTP/JSON callers.
    #[must_use]
    pub fn start(rest: &Value) -> Self {
        Self::with_edge(rest, |plan| plan)
    }

    /// The same, with more said about the edge.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn with_edge(rest: &Value, plan: impl FnOnce(SidecarPlan) -> SidecarPlan) -> Self {
        let folder = Folder::new();
        let mut app = Process::start("depot", &mut script("depot_service.py"));
        let address = app.ready().remove("").unwrap_or_default();
        let made = script("depot_service.py")
            .arg("--descriptors")
            .arg(folder.join("depot.binpb"))
            .status();
        assert!(made.unwrap().success());
        let service = json!({
            "apiVersion": "mesh/v1",
            "kind": "Service",
            "metadata": {"name": "depot"},
            "spec": {"protocol": "grpc", "schema": {"file": "../depot.binpb"}, "rest": rest, "timeout": "10s"},
        });
        // JSON is YAML.
        folder.write("documents/depot.yaml", service.to_string());
        folder.write(
            "documents/instances.yaml",
            instance("depot/a", &address, "plaintext"),
        );
        let edge = SidecarPlan::new("web.edge", "edge")
            .standalone(&folder.join("documents"))
            .edge(&json!([{"service": "depot"}]));
        Self {
            edge: plan(edge).start(),
            app,
            folder,
        }
    }

    /// A request to the edge.
    #[must_use]
    pub fn get(&self, path: &str) -> Curl {
        self.edge.get(path)
    }

    /// The address of a path at the edge.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.edge.edge)
    }

    /// What the service has told so far, of one sort: `call`, `item` or `ended`.
    #[must_use]
    pub fn told(&self, event: &str) -> Vec<Value> {
        let lines = self.app.lines();
        let values = lines
            .iter()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        values.filter(|value| value["event"] == event).collect()
    }

    /// The last call it saw, once there are `count` of them.
    ///
    /// # Panics
    /// There never are.
    #[must_use]
    #[track_caller]
    pub fn call(&self, count: usize) -> Value {
        eventually(&format!("call {count} reaches the service"), || {
            self.told("call").get(count - 1).cloned()
        })
    }
}
