//! Clients and servers that nobody here wrote: grpcio, PyJWT.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use crate::process::{Ended, finish, repository};

/// A command for one of the scripts in `tests/python`.
///
/// # Panics
/// There is no environment for it.
#[must_use]
pub fn script(name: &str) -> Command {
    let python = repository().join(".venv/bin/python");
    assert!(
        python.exists(),
        "{} is missing: tests/setup makes it",
        python.display()
    );
    let mut command = Command::new(python);
    command
        .arg("-u")
        .arg(repository().join("tests/python").join(name));
    command
}

/// Makes calls with grpcio, one after the other, and gives back how each ended. See `call.py`.
///
/// # Panics
/// The script fails.
#[must_use]
pub fn grpcio(calls: &Value) -> Vec<Value> {
    let Ended { code, stdout, stderr } = finish(&mut script("call.py"), &calls.to_string());
    assert_eq!(code, Some(0), "{stderr}");
    serde_json::from_str(&stdout).unwrap()
}

/// Keys and tokens of one issuer, made by PyJWT.
#[derive(Debug)]
pub struct Tokens {
    /// The public keys, as a key set.
    pub jwks: String,
    /// By what is good or bad about each; see `tokens.py`.
    pub all: BTreeMap<String, String>,
}

impl Tokens {
    /// A token by its name.
    ///
    /// # Panics
    /// There is none of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.all
            .get(name)
            .unwrap_or_else(|| panic!("tokens.py makes no {name}"))
    }
}

/// The tokens of this test program.
///
/// # Panics
/// The script fails.
pub fn tokens() -> &'static Tokens {
    static TOKENS: OnceLock<Tokens> = OnceLock::new();
    TOKENS.get_or_init(|| {
        let made = finish(&mut script("tokens.py"), "").ok().json();
        Tokens {
            jwks: made["jwks"].as_str().unwrap().into(),
            all: serde_json::from_value(made["tokens"].clone()).unwrap(),
        }
    })
}

/// Runs Python with these arguments, and gives back what it printed.
///
/// # Panics
/// It fails.
#[must_use]
pub fn run_python(arguments: &[&str]) -> String {
    let mut command = Command::new(repository().join(".venv/bin/python"));
    finish(command.args(arguments), "").ok().stdout
}
