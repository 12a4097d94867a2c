//! The documents most tests begin with: those of the examples, and some more.

use std::ffi::OsStr;
use std::path::PathBuf;

use crate::folder::Folder;
use crate::process::{repository, run};
use crate::python::tokens;

/// Lays the examples' documents and the files they refer to into a folder: `services.yaml`, `login.yaml` and `access.yaml`.
pub fn lay_out(folder: &Folder) -> PathBuf {
    let from = repository().join("examples/documents");
    for name in ["services.yaml", "login.yaml", "access.yaml"] {
        folder.write(
            &format!("documents/{name}"),
            std::fs::read(from.join(name)).unwrap(),
        );
    }
    folder.write("documents/login.jwks", &tokens().jwks);
    let binpb = folder.join("documents/quotes.binpb");
    let _ = run("quotes", [OsStr::new("--descriptors"), binpb.as_os_str()]).ok();
    folder.join("documents")
}

/// A policy for `market.quotes` with these rules, as YAML.
#[must_use]
pub fn policy(name: &str, rules: &str) -> String {
    format!(
        "apiVersion: mesh/v1\nkind: AccessPolicy\nmetadata: {{name: {name}}}\nspec:\n  service: market.quotes\n  allow: {rules}\n"
    )
}

/// An instance at a fixed address, as YAML.
#[must_use]
pub fn instance(name: &str, address: &str, transport: &str) -> String {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "0"));
    format!(
        "apiVersion: mesh/v1\nkind: Instance\nmetadata: {{name: {name}}}\nspec: {{address: {host}, port: {port}, transport: {transport}}}\n"
    )
}
