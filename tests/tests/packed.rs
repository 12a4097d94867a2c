//! Answers that are compressed by the edge for gRPC, gRPC-Web and Connect callers: read by `@connectrpc/connect-node`, which
//! undoes it, and byte by byte.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use mesh_tests::documents::{instance, lay_out};
use mesh_tests::node::{connect_node, forms};
use mesh_tests::python::script;
use mesh_tests::{Curl, Folder, GrpcioApp, Process, Sidecar, SidecarPlan};
use mesh_transcode::gzip;
use serde_json::{Value, json};

/// What a message of two of these is worth compressing for.
const LONG: &str = "ACME-ACME-";

/// An edge before an app at this address; `services`: how the documents are to be changed.
fn edge(address: &str, services: &[(&str, &str)]) -> (Sidecar, Folder) {
    let folder = Folder::new();
    lay_out(&folder);
    std::fs::remove_file(folder.join("documents/access.yaml")).unwrap();
    let mut text = std::fs::read_to_string(folder.join("documents/services.yaml")).unwrap();
    for (from, to) in services {
        text = text.replacen(from, to, 1);
    }
    folder.write("documents/services.yaml", text);
    folder.write(
        "documents/instances.yaml",
        instance("market.quotes/a", address, "plaintext"),
    );
    let edge = SidecarPlan::new("web.edge", "edge")
        .standalone(&folder.join("documents"))
        .edge(&json!([{"service": "market.quotes"}]))
        .start();
    (edge, folder)
}

/// What becomes of a unary call and of a stream of three in every protocol.
fn all(edge: &Sidecar, folder: &Folder, symbol: &str) -> Vec<(Value, Value)> {
    let mut calls = Vec::new();
    for form in forms() {
        for (method, request) in [
            ("GetQuote", json!({"symbol": symbol})),
            ("StreamQuotes", json!({"symbol": symbol, "count": 3})),
        ] {
            let mut call = form.clone();
            call["target"] = json!(format!("http://{}", edge.edge));
            call["method"] = json!(method);
            call["requests"] = json!([request]);
            calls.push(call);
        }
    }
    let outcomes = connect_node(&folder.join("documents/quotes.binpb"), &json!(calls));
    calls.into_iter().zip(outcomes).collect()
}

/// How the answer says that it is compressed.
fn told<'a>(call: &Value, outcome: &'a Value) -> Option<&'a str> {
    let name = match (call["protocol"].as_str(), call["method"].as_str()) {
        (Some("connect"), Some("GetQuote")) => "content-encoding",
        (Some("connect"), _) => "connect-content-encoding",
        _ => "grpc-encoding",
    };
    outcome["header"][name].as_str()
}

#[track_caller]
fn is_whole(call: &Value, outcome: &Value, symbol: &str) {
    assert_eq!(outcome["code"], "ok", "{call} {outcome}");
    let replies = outcome["replies"].as_array().unwrap();
    let count = if call["method"] == "GetQuote" { 1 } else { 3 };
    assert_eq!(replies.len(), count, "{call} {outcome}");
    assert!(replies.iter().all(|reply| reply["symbol"] == symbol), "{call}");
}

#[test]
fn what_is_made_here_is_compressed_and_frames_pass_as_the_service_made_them() {
    let app = GrpcioApp::new();
    let (edge, folder) = edge(&app.address, &[]);
    let symbol = LONG.repeat(150);
    for (call, outcome) in all(&edge, &folder, &symbol) {
        is_whole(&call, &outcome, &symbol);
        let made = call["json"] == true || (call["protocol"] == "connect" && call["method"] == "GetQuote");
        let told = told(&call, &outcome).filter(|told| *told != "identity");
        assert_eq!(told, made.then_some("gzip"), "{call} {}", outcome["header"]);
    }
    // What is small is not worth it, and says so where each message cannot.
    for (call, outcome) in all(&edge, &folder, "ACME") {
        is_whole(&call, &outcome, "ACME");
        if call["protocol"] == "connect" && call["method"] == "GetQuote" {
            assert_eq!(told(&call, &outcome), None, "{call} {}", outcome["header"]);
        }
    }
}

#[test]
fn answers_of_a_service_that_speaks_http_are_compressed_for_everybody_who_asks() {
    let mut app = Process::start("HTTP app", &mut script("rest_service.py"));
    let address = app.ready().remove("").unwrap();
    let over_http = ("protocol: grpc", "protocol: http-json");
    let (with, folder) = edge(&address, &[over_http]);
    let symbol = LONG.repeat(150);
    for (call, outcome) in all(&with, &folder, &symbol) {
        is_whole(&call, &outcome, &symbol);
        assert_eq!(
            told(&call, &outcome),
            Some("gzip"),
            "{call} {}",
            outcome["header"]
        );
    }
    let (without, folder) = edge(&address, &[over_http, ("rest: {", "rest: {compression: never, ")]);
    for (call, outcome) in all(&without, &folder, &symbol) {
        is_whole(&call, &outcome, &symbol);
        assert_eq!(told(&call, &outcome), None, "{call} {}", outcome["header"]);
    }
}

/// The answer to a POST in JSON: its head in lower case, and its body as bytes.
fn bytes(folder: &Folder, edge: &Sidecar, method: &str, headers: &[&str], body: &[u8]) -> (String, Vec<u8>) {
    let (asks, answered) = (folder.write("asks", body), folder.join("answered"));
    let mut call: Curl = edge.get(&format!("/market.v1.Quotes/{method}")).with(&[
        "--data-binary",
        &format!("@{}", asks.display()),
        "-o",
        answered.to_str().unwrap(),
    ]);
    for header in headers {
        call = call.header(header);
    }
    assert_eq!(call.call().exit, 0);
    // The head is written there too.
    let mut head = std::fs::read(answered).unwrap();
    let end = head.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let body = head.split_off(end + 4);
    (String::from_utf8(head).unwrap().to_ascii_lowercase(), body)
}

fn framed(message: &[u8]) -> Vec<u8> {
    [
        &[0][..],
        &u32::try_from(message.len()).unwrap().to_be_bytes(),
        message,
    ]
    .concat()
}

#[test]
fn each_message_has_a_flag_that_says_whether_it_is_compressed() {
    let app = GrpcioApp::new();
    let (edge, folder) = edge(&app.address, &[]);
    let symbol = LONG.repeat(150);
    let asks = framed(json!({"symbol": symbol, "count": 2}).to_string().as_bytes());
    for (content_type, accept, last) in [
        ("application/connect+json", "connect-accept-encoding: br, gzip", 2),
        (
            "application/grpc-web+json",
            "grpc-accept-encoding: identity,gzip",
            0x80,
        ),
    ] {
        let content_type = &format!("content-type: {content_type}");
        let head = [content_type.as_str(), accept];
        let (headers, mut rest) = bytes(&folder, &edge, "StreamQuotes", &head, &asks);
        assert!(headers.contains("-encoding: gzip\r\n"), "{headers}");
        for sequence in ["1", "2"] {
            let length = usize::try_from(u32::from_be_bytes(rest[1..5].try_into().unwrap())).unwrap();
            let after = rest.split_off(5 + length);
            assert_eq!(rest[0], 1, "{content_type}");
            let message: Value =
                serde_json::from_slice(&gzip::decompress(&rest[5..], 1 << 20).unwrap()).unwrap();
            assert_eq!(
                (&message["symbol"], &message["sequence"]),
                (&json!(symbol), &json!(sequence))
            );
            rest = after;
        }
        // What ends the stream is not compressed.
        assert_eq!(rest[0], last, "{content_type}");
        let small = framed(br#"{"symbol": "ACME", "count": 1}"#);
        let (_, small) = bytes(&folder, &edge, "StreamQuotes", &head, &small);
        assert_eq!((small[0], small[5]), (0, b'{'), "{content_type}");
        // Who does not ask gets it plain.
        let (_, plain) = bytes(&folder, &edge, "StreamQuotes", &head[..1], &asks);
        assert_eq!((plain[0], plain[5]), (0, b'{'), "{content_type}");
    }
    // A unary answer is compressed as HTTP does it.
    let head = [
        "content-type: application/json",
        "connect-protocol-version: 1",
        "accept-encoding: gzip;q=0.5",
    ];
    let asks = json!({"symbol": symbol}).to_string();
    let (headers, packed) = bytes(&folder, &edge, "GetQuote", &head, asks.as_bytes());
    assert!(
        headers.contains("content-encoding: gzip\r\n") && headers.contains("vary: accept-encoding\r\n"),
        "{headers}"
    );
    let message: Value = serde_json::from_slice(&gzip::decompress(&packed, 1 << 20).unwrap()).unwrap();
    assert_eq!(message["symbol"], json!(symbol));
}
