//! Clients that nobody here wrote, on Node.js: those of Connect.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::process::{Ended, finish, repository};

/// A command for one of the scripts in `tests/node`.
///
/// # Panics
/// Its packages are not there.
#[must_use]
pub fn script(name: &str) -> Command {
    let folder = repository().join("tests/node");
    assert!(
        folder.join("node_modules").exists(),
        "{} has no node_modules: tests/setup makes them",
        folder.display()
    );
    let mut command = Command::new("node");
    command.arg(folder.join(name));
    command
}

/// Makes calls with `@connectrpc/connect-node`, one after the other, and gives back how each ended. See `call.js`.
///
/// # Panics
/// The script fails.
#[must_use]
pub fn connect_node(descriptors: &Path, calls: &Value) -> Vec<Value> {
    let asked = json!({"descriptors": descriptors, "calls": calls});
    let Ended { code, stdout, stderr } = finish(&mut script("call.js"), &asked.to_string());
    assert_eq!(code, Some(0), "{stderr}");
    serde_json::from_str(&stdout).unwrap()
}

/// Every way to call that `@connectrpc/connect-node` knows, as parts of calls.
#[must_use]
pub fn forms() -> Vec<Value> {
    let mut forms = vec![
        json!({"protocol": "grpc"}),
        json!({"protocol": "grpc", "gzip": true}),
    ];
    for protocol in ["connect", "grpc-web"] {
        for json in [false, true] {
            for http in ["1.1", "2"] {
                forms.push(json!({"protocol": protocol, "json": json, "http": http}));
            }
            forms.push(json!({"protocol": protocol, "json": json, "gzip": true}));
        }
    }
    forms
}
