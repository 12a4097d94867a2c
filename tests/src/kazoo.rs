//! A session of kazoo, the ZooKeeper client of the Python world.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde_json::{Value, json};

use crate::python::script;
use crate::zookeeper::ZooKeeper;

/// An open session; its ephemeral nodes go with it.
#[derive(Debug)]
pub struct Kazoo {
    child: Child,
    ask: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Kazoo {
    /// Connects.
    ///
    /// # Panics
    /// The script cannot be started.
    #[must_use]
    pub fn connect(zookeeper: &ZooKeeper) -> Self {
        let mut child = script("registry.py")
            .arg(zookeeper.address())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self {
            ask: child.stdin.take(),
            child,
            answers,
        }
    }

    /// One operation; see `registry.py`.
    ///
    /// # Panics
    /// The script has failed.
    pub fn op(&mut self, operation: &Value) -> Value {
        let ask = self.ask.as_mut().unwrap();
        writeln!(ask, "{operation}").unwrap();
        ask.flush().unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{operation}: {error}: {line:?}"))
    }

    /// What a node holds, and its stat.
    pub fn get(&mut self, path: &str) -> Value {
        self.op(&json!({"op": "get", "path": path}))
    }

    /// The names under a node; none if it is not there.
    pub fn children(&mut self, path: &str) -> Vec<String> {
        let answer = self.op(&json!({"op": "children", "path": path}));
        let children = answer["children"].as_array().cloned().unwrap_or_default();
        children
            .iter()
            .filter_map(|name| Some(name.as_str()?.to_owned()))
            .collect()
    }

    /// Whether a node is there.
    pub fn exists(&mut self, path: &str) -> bool {
        !self.op(&json!({"op": "exists", "path": path}))["stat"].is_null()
    }

    /// Makes a node that stays.
    ///
    /// # Panics
    /// ZooKeeper refuses.
    pub fn create(&mut self, path: &str, data: &str) {
        let answer = self.op(&json!({"op": "create", "path": path, "data": data}));
        assert_eq!(answer["error"], Value::Null, "{path}");
    }

    /// Makes a node that goes with this session.
    ///
    /// # Panics
    /// ZooKeeper refuses.
    pub fn create_ephemeral(&mut self, path: &str, data: &str) {
        let answer = self.op(&json!({"op": "create", "path": path, "data": data, "ephemeral": true}));
        assert_eq!(answer["error"], Value::Null, "{path}");
    }

    /// Changes what a node holds.
    ///
    /// # Panics
    /// ZooKeeper refuses.
    pub fn set(&mut self, path: &str, data: &str) {
        let answer = self.op(&json!({"op": "set", "path": path, "data": data}));
        assert_eq!(answer["error"], Value::Null, "{path}");
    }

    /// Changes what a node holds to bytes that are no text.
    ///
    /// # Panics
    /// ZooKeeper refuses.
    pub fn set_bytes(&mut self, path: &str, data: &[u8]) {
        let hex: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
        let answer = self.op(&json!({"op": "set", "path": path, "hex": hex}));
        assert_eq!(answer["error"], Value::Null, "{path}");
    }

    /// Removes a node and all below.
    ///
    /// # Panics
    /// ZooKeeper refuses.
    pub fn delete(&mut self, path: &str) {
        let answer = self.op(&json!({"op": "delete", "path": path}));
        assert_eq!(answer["error"], Value::Null, "{path}");
    }
}

impl Drop for Kazoo {
    fn drop(&mut self) {
        // The end of its input ends the session in order.
        drop(self.ask.take());
        let _ = self.child.wait();
    }
}
