//! OpenAPI 3.1 of what a router serves: the same rules, the same types, the streams and errors as they really are.
//!
//! ```text
//!  rules of all schemas ─► paths (paths.rs: templates, parameters) ─► operations (operation.rs: bodies, answers)
//!  fields that neither path nor body fills ─► parameters (query.rs)
//!  messages and enums they lean on ─► components (types.rs: ProtoJSON as JSON Schema)
//!  comments of the .proto files (comments.rs) ─► summaries and descriptions
//! ```
//!
//! Equal schemas make equal bytes: everything is in the order of names.

mod comments;
mod operation;
mod paths;
mod query;
mod types;

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::HeaderFields;
use crate::schema::Schema;
use operation::Operation;
use types::Types;

/// The version of OpenAPI that is written.
pub const VERSION: &str = "3.1.0";
/// Most operations in one document.
pub const OPERATIONS_MAX: usize = 20_000;
/// Services of gRPC itself are served, but are nothing to call over HTTP.
const OWN_PACKAGE: &str = "grpc.";

/// A service whose rules are described.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What it speaks.
    pub schema: Arc<Schema>,
    /// Whether methods without a rule are reached by `POST /package.Service/Method`.
    pub unannotated: bool,
    /// How its callers are read and answered.
    pub options: crate::Options,
    /// Whether some of its calls need a token.
    pub bearer: bool,
    /// Headers that stand for fields, if there are any.
    pub headers: Option<Arc<HeaderFields>>,
}

/// What stands at the head of a document.
#[derive(Debug, Clone)]
pub struct About {
    /// The name of it all.
    pub title: String,
    /// Of what is described.
    pub version: String,
    /// Where it is served, `http://127.0.0.1:8080`; none where that is not known.
    pub servers: Vec<String>,
}

/// Writes the document. Of rules for the same requests, the first is described, as it is the first that is in force.
#[must_use]
pub fn document(about: &About, entries: &[Entry]) -> Value {
    let mut types = Types::default();
    let mut paths = paths::Paths::default();
    let mut tags: Map<String, Value> = Map::new();
    let mut bearer = false;
    for entry in entries {
        types.enter(&entry.schema, &entry.options);
        for route in entry.schema.routes(entry.unannotated) {
            let Some((service, _)) = route.method.name().split_once('/') else {
                continue;
            };
            if service.starts_with(OWN_PACKAGE) || paths.operations() >= OPERATIONS_MAX {
                continue;
            }
            bearer |= entry.bearer;
            tags.entry(service).or_insert_with(|| types.tag(service));
            let operation = Operation {
                route: &route,
                bearer: entry.bearer,
                headers: entry
                    .headers
                    .as_deref()
                    .and_then(|headers| headers.of(&route.method))
                    .map(Arc::as_ref),
                http_method: &route.rule.http_method,
            };
            paths.add(&operation, &mut types);
        }
    }
    types.add_status();
    let mut components = Map::new();
    components.insert("schemas".into(), types.finish().into());
    components.insert("responses".into(), operation::shared_responses());
    components.insert("headers".into(), operation::shared_headers());
    if bearer {
        let scheme = json!({"type": "http", "scheme": "bearer", "bearerFormat": "JWT"});
        components.insert("securitySchemes".into(), json!({"bearer": scheme}));
    }
    let mut document = json!({
        "openapi": VERSION,
        "info": {"title": about.title, "version": about.version, "description": ABOUT},
        "tags": tags.into_iter().map(|(_, tag)| tag).collect::<Vec<_>>(),
        "paths": paths.finish(),
        "components": components,
    });
    if !about.servers.is_empty() {
        let servers: Vec<Value> = about.servers.iter().map(|url| json!({"url": url})).collect();
        document["servers"] = servers.into();
    }
    document
}

/// What holds for every operation.
const ABOUT: &str = "Made from the descriptors of gRPC services; each operation calls the method its operationId names. \
Every GET answers HEAD too, and every path OPTIONS. Names are taken in lowerCamel and as in the .proto file. 64-bit integers are \
strings in answers, and strings or numbers in requests. Fields with default values are left out of answers. A field that the path \
fills is the path's: a different second value is refused. Answers of a stream are framed by Accept: a JSON array for \
application/json, Server-Sent Events for text/event-stream, else one JSON value a line. An error before the first message has \
its own HTTP status; after it, an array breaks off, lines end with {\"error\": …}, and events end with one named error. A \
service may answer with another success than 200.";

#[cfg(test)]
mod tests;
