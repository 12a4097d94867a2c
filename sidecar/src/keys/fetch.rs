//! Fetches one key set: bounded in time and size, without following redirects, and read strictly.

use std::future::Future;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::header::{ACCEPT, CONTENT_LENGTH, USER_AGENT};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use mesh_proto::domain::{JWKS_BYTES_MAX, KeySet};

/// From the first packet to the last byte.
const TIMEOUT: Duration = Duration::from_secs(2);

type HttpClient = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// Fetches key sets. The host's own certificate authorities are read at the first fetch over https.
#[derive(Default)]
pub struct Fetcher {
    https: OnceLock<Result<HttpClient, String>>,
    http: OnceLock<Client<HttpConnector, Empty<Bytes>>>,
}

impl Fetcher {
    /// Fetches the key set at `uri`, which has been judged with its provider.
    ///
    /// The future's error is one line: what came instead of a key set.
    pub fn get(&mut self, uri: &str) -> impl Future<Output = Result<KeySet, String>> + Send + 'static {
        let response = self.send(uri);
        async move {
            let whole = async {
                let response = response?.await.map_err(|error| explain(&error))?;
                read(response).await
            };
            tokio::time::timeout(TIMEOUT, whole)
                .await
                .unwrap_or_else(|_| Err(format!("no answer within {TIMEOUT:?}")))
        }
    }

    fn send(&self, uri: &str) -> Result<hyper_util::client::legacy::ResponseFuture, String> {
        let request = http::Request::get(uri)
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("mesh-sidecar/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())
            .map_err(|_| "the address is no URI".to_owned())?;
        if request.uri().scheme() == Some(&http::uri::Scheme::HTTP) {
            let http = self.http.get_or_init(|| builder().build(HttpConnector::new()));
            return Ok(http.request(request));
        }
        let https = self.https.get_or_init(https_client).as_ref();
        https.map(|https| https.request(request)).map_err(Clone::clone)
    }
}

fn builder() -> hyper_util::client::legacy::Builder {
    let mut builder = Client::builder(TokioExecutor::new());
    // Fetches are minutes apart; an idle connection would be closed by then.
    builder.pool_max_idle_per_host(0);
    builder
}

fn https_client() -> Result<HttpClient, String> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let connector = HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(provider)
        .map_err(|error| {
            format!("this host has no certificate authorities for https ({error}); install ca-certificates")
        })?
        .https_only()
        .enable_http1()
        .enable_http2()
        .build();
    Ok(builder().build(connector))
}

async fn read(response: http::Response<hyper::body::Incoming>) -> Result<KeySet, String> {
    let status = response.status();
    if status.is_redirection() {
        return Err(format!(
            "{status}: redirects are not followed; write the address it points to"
        ));
    }
    if status != http::StatusCode::OK {
        return Err(format!("the answer is {status}"));
    }
    let limit = usize::try_from(JWKS_BYTES_MAX).unwrap_or(usize::MAX);
    let too_large = || format!("the answer is over {JWKS_BYTES_MAX} bytes");
    let told = response
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if told.is_some_and(|length| length > JWKS_BYTES_MAX) {
        return Err(too_large());
    }
    let body = Limited::new(response.into_body(), limit).collect().await;
    let body = body.map_err(|error| {
        if error.is::<http_body_util::LengthLimitError>() {
            too_large()
        } else {
            format!("the answer broke off: {error}")
        }
    })?;
    KeySet::parse(&body.to_bytes()).map_err(|faults| {
        format!(
            "the key set is refused: {}",
            faults.to_string().replace('\n', "; ")
        )
    })
}

/// The innermost cause says most.
fn explain(error: &hyper_util::client::legacy::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    format!("cannot fetch: {cause}")
}
