//! The small HTTP listener: `/metrics`, `/live`, `/ready`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use mesh_link::accept::{self, Gatekeeper, Limits};
use tokio::net::TcpListener;

use crate::control::Control;

/// A request's head must be there within this.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection ends after this, whatever it does.
const CONNECTION_MAX: Duration = Duration::from_secs(300);
const CONNECTIONS_MAX: usize = 256;

/// Serves until told to stop.
pub async fn serve(listener: TcpListener, control: Arc<Control>) {
    let limits = Limits {
        connections: CONNECTIONS_MAX,
        ..Limits::default()
    };
    let stop = control.stop.clone();
    accept::run(listener, Gatekeeper::new(limits), stop, |stream, _, pass| {
        let control = Arc::clone(&control);
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let response = answer(&request, &control);
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            let _ = tokio::time::timeout(CONNECTION_MAX, connection).await;
            drop(pass);
        });
    })
    .await;
}

fn answer(request: &Request<Incoming>, control: &Control) -> Response<Full<Bytes>> {
    let text = |status: StatusCode, text: String| respond(status, "text/plain; charset=utf-8", text.into());
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(
            StatusCode::METHOD_NOT_ALLOWED,
            "only GET is answered here\n".into(),
        );
    }
    match request.uri().path() {
        "/metrics" => respond(
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8",
            control.metrics.text().into(),
        ),
        "/live" => text(StatusCode::OK, "live\n".into()),
        "/ready" if control.stop.is_cancelled() => text(StatusCode::SERVICE_UNAVAILABLE, "stopping\n".into()),
        "/ready" => match control.loaded() {
            Ok(_) => text(StatusCode::OK, "ready\n".into()),
            Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", why.message())),
        },
        _ => text(
            StatusCode::NOT_FOUND,
            "there is /metrics, /live and /ready\n".into(),
        ),
    }
}

fn respond(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let content_type = header::HeaderValue::from_static(content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}
