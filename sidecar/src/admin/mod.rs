//! The admin page, for operators on this host, and the metrics page, for the scraper. Plain HTTP/1.1.
//!
//! Loopback keeps other hosts out, but not a web page in a browser on this one: so the name asked for must be a loopback
//! one, and requests that a page of another origin causes are refused.

mod docs;
mod views;

pub use views::resources as resources_view;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, ORIGIN};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use mesh_link::accept::{self, Gatekeeper, Limits};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::Shared;
use crate::openapi;
use crate::readiness::Readiness;
use crate::reflect;
use crate::xds::identity::Renewals;
use crate::xds::numbers::Numbers;

/// From the first byte of a head to its last.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECTIONS_MAX: usize = 64;

const PATHS: &str = "GET /live, GET /ready, GET /config, GET /resources, GET /schemas, GET /endpoints, \
                     GET /openapi.json, GET /docs, GET /certificates, \
                     POST /certificates/renew, POST /drain";

/// What the admin page shows and does.
pub struct Admin {
    /// What is in force.
    pub shared: Arc<Shared>,
    /// What is missing.
    pub readiness: Arc<Readiness>,
    /// Whether xds-lite is there.
    pub numbers: Arc<Numbers>,
    /// Every resource with its version.
    pub resources: Arc<dyn Fn() -> Value + Send + Sync>,
    /// How asking services for their schemas goes.
    pub reflection: reflect::Status,
    /// Asks for a new certificate, where there is one.
    pub renewals: Option<Renewals>,
    /// Where the edge listens, if there is one.
    pub edge: Option<SocketAddr>,
    /// Begins the end, as SIGTERM does.
    pub drain: CancellationToken,
}

type Answer = Response<Full<Bytes>>;

/// Serves the admin page until told to stop.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>, stop: CancellationToken) {
    serve_http(listener, stop, move |request| {
        let admin = admin.clone();
        async move {
            if request.method() == Method::POST && request.uri().path() == "/docs/try" {
                return admin.try_out(request).await;
            }
            admin.answer(&request).await
        }
    })
    .await;
}

/// Serves the metrics page until told to stop. `render` writes all metrics in the text format of Prometheus.
pub async fn serve_metrics(
    listener: TcpListener,
    render: Arc<dyn Fn() -> String + Send + Sync>,
    stop: CancellationToken,
) {
    serve_http(listener, stop, move |request| {
        let answer = match (request.method(), request.uri().path()) {
            (&Method::GET, "/metrics") => text(render()),
            _ => problem(
                StatusCode::NOT_FOUND,
                "there is no such page; there is GET /metrics",
            ),
        };
        async move { answer }
    })
    .await;
}

async fn serve_http<F, A>(listener: TcpListener, stop: CancellationToken, answer: F)
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + 'static,
    A: Future<Output = Answer> + Send + 'static,
{
    let gate = Gatekeeper::new(Limits {
        connections: CONNECTIONS_MAX,
        connections_per_source: CONNECTIONS_MAX,
        ..Limits::default()
    });
    let stopped = stop.clone();
    accept::run(listener, gate, stop, |stream, address, pass| {
        let (answer, stop) = (answer.clone(), stopped.clone());
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let answer = answer(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            let ended = tokio::select! {
                ended = connection => ended,
                () = stop.cancelled() => Ok(()),
            };
            if let Err(error) = ended {
                tracing::debug!(peer = %address, %error, "admin connection ended");
            }
            drop(pass);
        });
    })
    .await;
}

impl Admin {
    async fn answer<B: Sync>(&self, request: &Request<B>) -> Answer {
        if let Err(why) = from_this_host(request) {
            return problem(StatusCode::FORBIDDEN, why);
        }
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/live") => json(StatusCode::OK, &json!({"live": true})),
            (&Method::GET, "/ready") => self.ready(),
            (&Method::GET, "/config") => json(StatusCode::OK, &self.shared.config.to_json()),
            (&Method::GET, "/resources") => json(StatusCode::OK, &(self.resources)()),
            (&Method::GET, "/schemas") => json(
                StatusCode::OK,
                &views::schemas(&self.shared.snapshot(), &self.reflection.to_json()),
            ),
            (&Method::GET, "/endpoints") => json(
                StatusCode::OK,
                &views::endpoints(&self.shared.snapshot().resources),
            ),
            (&Method::GET, "/openapi.json") => json(
                StatusCode::OK,
                &openapi::document(&self.shared.config, &self.shared.snapshot(), self.edge),
            ),
            (&Method::GET, "/certificates") => self.certificates(),
            (&Method::POST, "/certificates/renew") => self.renew().await,
            (&Method::POST, "/drain") => {
                self.drain.cancel();
                json(StatusCode::ACCEPTED, &json!({"draining": true}))
            }
            (&Method::GET, path) if docs::file(path).is_some() => {
                docs::file(path).unwrap_or_else(|| text(String::new()))
            }
            (method, path) => {
                let why = format!("there is no {method} {path}; there are {PATHS}");
                problem(StatusCode::NOT_FOUND, &why)
            }
        }
    }

    /// Makes a call to the edge for the documentation page.
    async fn try_out(&self, request: Request<Incoming>) -> Answer {
        if !docs::is_from_page(request.headers()) {
            return problem(
                StatusCode::FORBIDDEN,
                "only the page at /docs may have calls made",
            );
        }
        if let Err(why) = has_local_name(request.headers()) {
            return problem(StatusCode::FORBIDDEN, why);
        }
        let edge = self.shared.config.edge.as_ref().filter(|edge| edge.tls.is_none());
        match docs::make(request, self.edge.filter(|_| edge.is_some())).await {
            Ok(answer) => json(StatusCode::OK, &answer),
            Err((status, why)) => problem(status, &why),
        }
    }

    fn ready(&self) -> Answer {
        let phase = *self.shared.phase().borrow();
        let missing: Vec<&str> = self
            .readiness
            .missing()
            .into_iter()
            .map(crate::readiness::Need::as_str)
            .collect();
        let view = views::ready(phase, &missing, &self.numbers);
        let status = if view["ready"] == true {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        json(status, &view)
    }

    fn certificates(&self) -> Answer {
        let own = self.shared.credentials();
        json(
            StatusCode::OK,
            &json!({"certificates": own.iter().map(|own| views::certificate(own)).collect::<Vec<_>>()}),
        )
    }

    async fn renew(&self) -> Answer {
        let Some(renewals) = &self.renewals else {
            return problem(
                StatusCode::CONFLICT,
                "this sidecar has no certificate; write control or tls in its configuration",
            );
        };
        match renewals.renew().await {
            Ok(()) => self.certificates(),
            Err(why) => problem(StatusCode::BAD_GATEWAY, &why),
        }
    }
}

fn from_this_host<B>(request: &Request<B>) -> Result<(), &'static str> {
    if request.headers().contains_key(ORIGIN) {
        return Err("requests from web pages are refused");
    }
    has_local_name(request.headers())
}

fn has_local_name(headers: &HeaderMap) -> Result<(), &'static str> {
    let Some(host) = headers.get(HOST) else {
        return Ok(());
    };
    let host = host.to_str().unwrap_or("");
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(""),
        None => host.split(':').next().unwrap_or(""),
    };
    let local = name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if local {
        Ok(())
    } else {
        Err("ask by a loopback name, such as 127.0.0.1 or localhost")
    }
}

fn json(status: StatusCode, value: &Value) -> Answer {
    // A value of our own making has only keys that are texts, so it can be written.
    let mut body = serde_json::to_vec_pretty(value).unwrap_or_default();
    body.push(b'\n');
    let mut answer = Response::new(Full::from(body));
    *answer.status_mut() = status;
    let kind = http::HeaderValue::from_static("application/json");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

fn problem(status: StatusCode, why: &str) -> Answer {
    json(status, &json!({"error": why}))
}

fn text(body: String) -> Answer {
    let mut answer = Response::new(Full::from(body));
    let kind = http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

#[cfg(test)]
mod tests;
