//! What the admin page answers, over real sockets.

use std::net::SocketAddr;

use opentelemetry::metrics::MeterProvider;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::Config;
use crate::readiness::Need;
use crate::shared::Phase;

const CONFIG: &str = "
node: {service: market.quotes, id: a}
control: {servers: ['127.0.0.1:1'], ca: ca.pem, joinToken: {file: secret-token}, trustDomain: mesh.local}
inbound: {listen: '127.0.0.1:0', app: '127.0.0.1:9'}
";

async fn page() -> (SocketAddr, Arc<Admin>) {
    let config = Config::parse(CONFIG, std::path::Path::new("/etc/mesh"), []).unwrap();
    let (shared, _requests) = Shared::new(config);
    let meter = opentelemetry_sdk::metrics::SdkMeterProvider::default().meter("test");
    let admin = Arc::new(Admin {
        shared,
        readiness: Arc::new(Readiness::new([Need::Certificate])),
        numbers: Numbers::new(&meter),
        resources: Arc::new(|| json!({"resources": {}})),
        reflection: reflect::Status::default(),
        renewals: None,
        edge: None,
        drain: CancellationToken::new(),
    });
    let listener = accept::bind(SocketAddr::from(([127, 0, 0, 1], 0)), false).unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, admin.clone(), CancellationToken::new()));
    (address, admin)
}

async fn ask(address: SocketAddr, line: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{line} HTTP/1.1\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn being_not_ready_says_what_is_missing() {
    let (address, admin) = page().await;
    let answer = ask(address, "GET /ready", "host: localhost\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(
        answer.contains("certificate: xds-lite has not signed one yet"),
        "{answer}"
    );
    admin.readiness.met(Need::Certificate);
    admin.shared.enter(Phase::Ready);
    let answer = ask(address, "GET /ready", "host: localhost\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    admin.shared.enter(Phase::Draining);
    let answer = ask(address, "GET /ready", "host: localhost\r\n").await;
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("draining"),
        "{answer}"
    );
}

#[tokio::test]
async fn an_unknown_page_is_answered_with_the_pages_there_are() {
    let (address, _) = page().await;
    for line in ["GET /", "GET /drain", "POST /ready", "DELETE /config"] {
        let answer = ask(address, line, "host: 127.0.0.1:1\r\n").await;
        assert!(
            answer.starts_with("HTTP/1.1 404") && answer.contains("POST /certificates/renew"),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn a_web_page_in_a_browser_on_this_host_can_neither_read_nor_drain() {
    let (address, admin) = page().await;
    for headers in [
        "host: evil.example\r\n",
        "host: localhost\r\norigin: http://evil.example\r\n",
        "host: localhost.evil.example\r\n",
    ] {
        let answer = ask(address, "POST /drain", headers).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{headers}{answer}");
    }
    assert!(!admin.drain.is_cancelled());
    let answer = ask(address, "POST /drain", "host: [::1]:15000\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    assert!(admin.drain.is_cancelled());
}

#[tokio::test]
async fn every_page_is_there_and_shows_no_secret() {
    let (address, _) = page().await;
    for page in [
        "/live",
        "/config",
        "/resources",
        "/schemas",
        "/openapi.json",
        "/docs",
        "/docs/docs.js",
        "/docs/docs.css",
        "/endpoints",
        "/certificates",
    ] {
        let answer = ask(address, &format!("GET {page}"), "host: localhost\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{page} {answer}");
    }
    let answer = ask(address, "POST /certificates/renew", "host: localhost\r\n").await;
    assert!(
        answer.starts_with("HTTP/1.1 409") && answer.contains("has no certificate"),
        "{answer}"
    );
}

#[tokio::test]
async fn the_metrics_page_has_one_page() {
    let listener = accept::bind(SocketAddr::from(([127, 0, 0, 1], 0)), false).unwrap();
    let address = listener.local_addr().unwrap();
    let render = Arc::new(|| "mesh_sidecar_calls 1\n".to_owned());
    tokio::spawn(serve_metrics(listener, render, CancellationToken::new()));
    let answer = ask(address, "GET /metrics", "host: scraper.example\r\n").await;
    assert!(answer.ends_with("mesh_sidecar_calls 1\n"), "{answer}");
    let answer = ask(address, "GET /", "host: a\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
}
