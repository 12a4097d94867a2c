//! What the edge serves, as OpenAPI: made from the snapshot when somebody asks, once for each snapshot.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, Method, Response};
use mesh_transcode::openapi::{self, About, Entry};
use serde_json::Value;

use crate::body::AnswerBody;
use crate::call::Call;
use crate::config::Config;
use crate::reason::{Reason, Rejection};
use crate::snapshot::{ServiceEntry, Snapshot};

/// Describes what the edge exposes; without an edge, this sidecar's own service.
#[must_use]
pub fn document(config: &Config, snapshot: &Snapshot, edge: Option<SocketAddr>) -> Value {
    let shown: Vec<&ServiceEntry> = if config.edge.is_some() {
        let exposed = snapshot.edge.exposed.iter();
        exposed
            .filter_map(|index| snapshot.services.get(*index))
            .collect()
    } else {
        let own = snapshot.own.and_then(|index| snapshot.services.get(index));
        own.into_iter().collect()
    };
    let entries: Vec<Entry> = shown
        .iter()
        .filter_map(|service| {
            Some(Entry {
                schema: service.schema.clone()?,
                unannotated: service.rest.unannotated,
                options: service.transcoding.clone(),
                bearer: service.access.asks_for_tokens(),
                headers: service.headers.clone(),
            })
        })
        .collect();
    let names: Vec<&str> = shown.iter().map(|service| service.name.as_str()).collect();
    let scheme = match config.edge.as_ref().and_then(|edge| edge.tls.as_ref()) {
        Some(_) => "https",
        None => "http",
    };
    let mut about = About {
        title: names.join(", "),
        version: String::new(),
        servers: edge
            .iter()
            .map(|address| format!("{scheme}://{address}"))
            .collect(),
    };
    // The version is that of the content: it changes when the document does.
    let unversioned = openapi::document(&about, &entries).to_string();
    about.version = mesh_proto::version_of(unversioned.as_bytes());
    openapi::document(&about, &entries)
}

/// Whether the edge is asked for the document and not for a service.
pub(crate) fn is_asked(config: &Config, head: &Parts) -> bool {
    let path = config.edge.as_ref().and_then(|edge| edge.openapi.as_deref());
    path.is_some_and(|path| head.uri.path() == path) && matches!(head.method, Method::GET | Method::HEAD)
}

/// Answers with the document.
///
/// # Errors
/// It could not be made.
pub(crate) async fn answer(
    snapshot: &Arc<Snapshot>,
    head: &Parts,
    mut call: Box<Call>,
) -> Result<Response<AnswerBody>, (Box<Call>, Rejection)> {
    let body = match snapshot.edge.openapi.get() {
        Some(body) => body.clone(),
        None => {
            // Off the data thread: a large one takes a while.
            let (shared, snapshot) = (call.worker.shared.clone(), snapshot.clone());
            let make = move || {
                let made = || Bytes::from(document(&shared.config, &snapshot, None).to_string());
                snapshot.edge.openapi.get_or_init(made).clone()
            };
            match tokio::task::spawn_blocking(make).await {
                Ok(body) => body,
                Err(error) => {
                    let rejection = Rejection::new(Reason::Overloaded, "the document could not be made")
                        .with_detail(error.to_string());
                    return Err((call, rejection));
                }
            }
        }
    };
    call.http_status = 200;
    let length = HeaderValue::from(body.len());
    let body = if head.method == Method::HEAD {
        Bytes::new()
    } else {
        body
    };
    let mut response = Response::new(AnswerBody::full(body, call));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LENGTH, length);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}
