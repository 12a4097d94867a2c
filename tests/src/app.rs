//! Apps: services that know nothing of the mesh.

use serde_json::Value;

use crate::process::{Process, program};
use crate::python::script;
use crate::wait::eventually;

/// The example's `quotes`, which counts its calls.
#[derive(Debug)]
pub struct App {
    /// `host:port`
    pub address: String,
    /// The process.
    pub process: Process,
}

impl App {
    /// Starts one that goes by `name`.
    #[must_use]
    pub fn quotes(name: &str) -> Self {
        let mut command = program("quotes");
        command.args(["--listen", "127.0.0.1:0", "--name", name, "--log"]);
        command.args(["--caller-header", "x-mesh-caller"]);
        let mut process = Process::start(format!("app {name}"), &mut command);
        let address = process.ready().remove("").unwrap_or_default();
        Self { address, process }
    }

    /// The example's `portfolio`, which calls quotes at `outbound`.
    #[must_use]
    pub fn portfolio(outbound: &str) -> Self {
        let mut command = program("portfolio");
        command.args([
            "--listen",
            "127.0.0.1:0",
            "--quotes",
            &format!("http://{outbound}"),
        ]);
        let mut process = Process::start("app portfolio", &mut command);
        let address = process.ready().remove("").unwrap_or_default();
        Self { address, process }
    }

    /// How many calls have reached it.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.process
            .lines()
            .iter()
            .filter(|line| line.contains(" call "))
            .count()
    }
}

/// The same service written with grpcio, which tells all it gets to see. See `service.py`.
#[derive(Debug)]
pub struct GrpcioApp {
    /// `host:port`
    pub address: String,
    /// The process.
    pub process: Process,
}

impl GrpcioApp {
    /// Starts one.
    #[must_use]
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        let mut process = Process::start("grpcio app", &mut script("service.py"));
        let address = process.ready().remove("").unwrap_or_default();
        Self { address, process }
    }

    /// What it has told so far, of one sort: `call` or `ended`.
    #[must_use]
    pub fn told(&self, event: &str) -> Vec<Value> {
        let lines = self.process.lines();
        lines
            .iter()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|value| value["event"] == event)
            .collect()
    }

    /// The last call it saw, once there are `count` of them.
    ///
    /// # Panics
    /// There never are.
    #[must_use]
    pub fn call(&self, count: usize) -> Value {
        eventually(&format!("call {count} reaches the app"), || {
            self.told("call").get(count - 1).cloned()
        })
    }
}

/// A header of a call that [`GrpcioApp`] told of.
#[must_use]
pub fn header<'a>(call: &'a Value, name: &str) -> Option<&'a str> {
    let pairs = call["metadata"].as_array()?;
    let found = pairs.iter().find(|pair| pair[0] == name)?;
    found[1].as_str()
}
