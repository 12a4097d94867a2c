//! Pages in headless Chromium call through the edge, with `grpc-web`, `@connectrpc/connect-web` and `EventSource`: what CORS
//! lets them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use mesh_tests::app::header;
use mesh_tests::documents::{instance, lay_out};
use mesh_tests::process::finish;
use mesh_tests::{Folder, GrpcioApp, Sidecar, SidecarPlan, free_port, node};
use serde_json::{Value, json};

/// An edge that lets pages of one port call.
struct Edge {
    edge: Sidecar,
    app: GrpcioApp,
    port: u16,
    folder: Folder,
}

/// `rest`: switches of the service, as YAML with a comma behind each.
fn edge(rest: &str) -> Edge {
    let folder = Folder::new();
    lay_out(&folder);
    std::fs::remove_file(folder.join("documents/access.yaml")).unwrap();
    let services = std::fs::read_to_string(folder.join("documents/services.yaml")).unwrap();
    let services = services.replace("rest: {", &format!("rest: {{{rest}"));
    folder.write("documents/services.yaml", services);
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
    Edge {
        edge,
        app,
        port,
        folder,
    }
}

#[test]
fn pages_of_an_origin_that_may_call_do_and_others_get_nothing() {
    let Edge {
        edge,
        app,
        port,
        folder,
    } = edge("");
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

#[test]
fn an_event_source_gets_messages_with_ids_comes_again_from_the_last_one_and_is_told_of_a_failure() {
    let Edge {
        edge,
        app,
        port,
        folder: _f,
    } = edge("sse: {ids: true}, ");
    let url = |path: &str| format!("http://{}/v1/quotes/{path}", edge.edge);
    let asked = json!({
        "port": port,
        "allowed": [
            // Three are all of this stream: for five the browser has to come again.
            [url("ACME:stream?count=3"), 5],
            [url("HALT:stream?count=5"), 5],
            // Refused before the first event.
            [url("ACME:stream?count=many"), 5],
        ],
        "stranger": [[url("ACME:stream?count=3"), 3]],
    });
    let seen = finish(&mut node::script("events.js"), &asked.to_string())
        .ok()
        .json();
    let data = |event: &Value| -> Value { serde_json::from_str(event["data"].as_str().unwrap()).unwrap() };
    let told = |of: &Value| -> Vec<String> {
        let events = of.as_array().unwrap().iter();
        events
            .map(|event| match event["kind"].as_str().unwrap() {
                "message" => format!("{} {}", event["id"].as_str().unwrap(), data(event)["sequence"]),
                "error" if event["data"].is_string() => format!("failed {}", data(event)["message"]),
                "error" if event["gone"] == true => "given up".into(),
                "error" => "again".into(),
                kind => kind.into(),
            })
            .collect()
    };
    assert_eq!(
        told(&seen["allowed"][0]),
        [
            "open", "1 \"1\"", "2 \"2\"", "3 \"3\"", "again", "open", "1 \"1\"", "2 \"2\""
        ],
        "{seen}"
    );
    assert_eq!(
        told(&seen["allowed"][1]),
        ["open", "1 \"1\"", "2 \"2\"", "failed \"market is closed\""],
        "{seen}"
    );
    assert_eq!(told(&seen["allowed"][2]), ["given up"], "{seen}");
    assert_eq!(told(&seen["stranger"][0]), ["given up"], "{seen}");
    // What the service can go on from.
    let calls = app.told("call");
    let last = |at: usize| header(&calls[at], "last-event-id");
    assert_eq!((last(0), last(1), last(2)), (None, Some("3"), None), "{calls:?}");
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
