//! Pages in headless Chromium call through the edge, with `grpc-web` and `@connectrpc/connect-web`: what CORS lets them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use mesh_tests::documents::{instance, lay_out};
use mesh_tests::process::finish;
use mesh_tests::{Folder, GrpcioApp, SidecarPlan, free_port, node};
use serde_json::{Value, json};

#[test]
fn pages_of_an_origin_that_may_call_do_and_others_get_nothing() {
    let folder = Folder::new();
    lay_out(&folder);
    std::fs::remove_file(folder.join("documents/access.yaml")).unwrap();
    let app = GrpcioApp::new();
    folder.write(
        "documents/instances.yaml",
        instance("market.quotes/py", &app.address, "plaintext"),
    );
    let port = free_port();
    let edge = SidecarPlan::new("web.edge", "edge")
        .standalone(&folder.join("documents"))
        .edge(&json!([{"service": "market.quotes"}]))
        .set(
            "/edge/cors",
            json!({
                "origins": [format!("http://127.0.0.1:{port}")],
                "headers": ["x-colour"],
                // Connect's unary calls have their trailers in the head.
                "expose": ["x-app-initial", "x-app-trailing", "trailer-x-app-trailing"],
            }),
        )
        .start();
    let asked = json!({
        "descriptors": folder.join("documents/quotes.binpb"),
        "edge": format!("http://{}", edge.edge),
        "port": port,
    });
    let seen = finish(&mut node::script("browser.js"), &asked.to_string())
        .ok()
        .json();
    let allowed = seen["allowed"].as_array().unwrap();
    assert_eq!(allowed.len(), 17, "{seen}");
    for outcome in allowed {
        is_answered(outcome);
    }
    let calls = app.told("call").len();
    assert_eq!(calls, allowed.len());
    // A page of another origin is not let by the browser, since the edge does not say that it may.
    let stranger = seen["stranger"].as_array().unwrap();
    assert_eq!(stranger.len(), allowed.len());
    for outcome in stranger {
        assert_ne!(outcome["code"], "ok", "{outcome}");
        assert_eq!(outcome["replies"], json!([]), "{outcome}");
    }
}

#[track_caller]
fn is_answered(outcome: &Value) {
    let replies = outcome["replies"].as_array().unwrap();
    if outcome["code"] == "FailedPrecondition" {
        assert_eq!(outcome["message"], "market is closed", "{outcome}");
        if outcome["client"]
            .as_str()
            .is_some_and(|client| client.contains("connect"))
        {
            assert_eq!(
                outcome["details"],
                json!(["google.protobuf.Duration"]),
                "{outcome}"
            );
        }
        return;
    }
    assert_eq!(outcome["code"], "ok", "{outcome}");
    match outcome["method"].as_str() {
        Some("getQuote") => assert_eq!(
            replies,
            &[json!({"symbol": "ACME", "servedBy": "grpcio"})],
            "{outcome}"
        ),
        _ => {
            assert_eq!(replies.len(), 3, "{outcome}");
            assert_eq!(replies[2]["sequence"], "3", "{outcome}");
        }
    }
    // What this client hands out of headers and trailers, the page may read.
    if !outcome["header"].is_null() {
        assert_eq!(outcome["header"]["x-app-initial"], "first", "{outcome}");
    }
    if !outcome["trailer"].is_null() {
        assert_eq!(outcome["trailer"]["x-app-trailing"], "last", "{outcome}");
    }
}
