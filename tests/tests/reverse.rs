//! gRPC, gRPC-Web and Connect callers, and a service that speaks HTTP and JSON: its rules are followed in reverse.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use mesh_tests::documents::{instance, lay_out, policy};
use mesh_tests::node::{connect_node, forms};
use mesh_tests::python::script;
use mesh_tests::{Folder, GrpcioApp, Process, Sidecar, SidecarPlan, eventually};
use mesh_transcode::gzip;
use serde_json::{Value, json};

/// The documents of a mesh whose quotes are served over HTTP at this address.
fn over_http(address: &str) -> Folder {
    let folder = Folder::new();
    lay_out(&folder);
    std::fs::remove_file(folder.join("documents/access.yaml")).unwrap();
    let services = std::fs::read_to_string(folder.join("documents/services.yaml")).unwrap();
    folder.write(
        "documents/services.yaml",
        services.replacen("protocol: grpc", "protocol: http-json", 1),
    );
    folder.write(
        "documents/instances.yaml",
        instance("market.quotes/http", address, "plaintext"),
    );
    folder
}

fn edge_of(folder: &Folder) -> Sidecar {
    SidecarPlan::new("web.edge", "edge")
        .standalone(&folder.join("documents"))
        .edge(&json!([{"service": "market.quotes"}]))
        .start()
}

/// An edge before the service of Python's own HTTP server.
struct Http {
    edge: Sidecar,
    app: Process,
    folder: Folder,
}

fn http() -> Http {
    let mut app = Process::start("HTTP app", &mut script("rest_service.py"));
    let address = app.ready().remove("").unwrap();
    let folder = over_http(&address);
    Http {
        edge: edge_of(&folder),
        app,
        folder,
    }
}

impl Http {
    fn call(&self, form: &Value, method: &str, request: &Value) -> Value {
        let mut call = form.clone();
        call["target"] = json!(format!("http://{}", self.edge.edge));
        call["method"] = json!(method);
        call["requests"] = json!([request]);
        call
    }

    /// What becomes of these calls in every protocol.
    fn all(&self, asked: &[(&str, Value)]) -> Vec<(Value, Value)> {
        let calls: Vec<Value> = forms()
            .iter()
            .flat_map(|form| {
                asked
                    .iter()
                    .map(|(method, request)| self.call(form, method, request))
            })
            .collect();
        let outcomes = connect_node(&self.folder.join("documents/quotes.binpb"), &json!(calls));
        calls.into_iter().zip(outcomes).collect()
    }

    fn told(&self) -> Vec<Value> {
        let lines = self.app.lines();
        lines
            .iter()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }
}

#[test]
fn messages_become_requests_and_answers_become_messages() {
    let http = http();
    let order = json!({"symbol": "ACME", "side": "SIDE_BUY", "quantity": "5", "account": {"owner": "o"}});
    let asked = [
        ("GetQuote", json!({"symbol": "A b"})),
        ("ListQuotes", json!({"symbols": ["X", "Y&Z"], "pageSize": 2})),
        ("PlaceOrder", order.clone()),
        ("GetQuote", json!({"symbol": "EMPTY"})),
    ];
    for (call, outcome) in http.all(&asked) {
        assert_eq!(outcome["code"], "ok", "{call} {outcome}");
        let reply = &outcome["replies"][0];
        match (call["method"].as_str(), call["requests"][0]["symbol"].as_str()) {
            (Some("GetQuote"), Some("EMPTY")) => assert_eq!(reply, &json!({}), "{call}"),
            (Some("GetQuote"), _) => {
                assert_eq!(reply, &json!({"symbol": "A%20b", "bid": 1.5}), "{call}");
                assert_eq!(outcome["header"]["x-app-initial"], "first", "{outcome}");
            }
            (Some("ListQuotes"), _) => assert_eq!(
                reply,
                &json!({"quotes": [{"symbol": "X"}, {"symbol": "Y&Z"}], "nextPageToken": "2"}),
                "{call}"
            ),
            _ => assert_eq!(reply, &json!({"id": "1", "request": order}), "{call}"),
        }
    }
    for seen in http.told() {
        match seen["method"].as_str() {
            Some("POST") => {
                assert_eq!(seen["target"], "/v1/orders");
                let body: Value = serde_json::from_str(seen["body"].as_str().unwrap()).unwrap();
                assert_eq!(body, order);
            }
            _ => assert!(
                [
                    "/v1/quotes/A%20b",
                    "/v1/quotes?pageSize=2&symbols=X&symbols=Y%26Z",
                    "/v1/quotes/EMPTY"
                ]
                .contains(&seen["target"].as_str().unwrap()),
                "{seen}"
            ),
        }
        let names: Vec<&str> = seen["headers"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|pair| pair[0].as_str())
            .collect();
        for name in [
            "te",
            "grpc-encoding",
            "grpc-accept-encoding",
            "connect-protocol-version",
        ] {
            assert!(!names.contains(&name), "{seen}");
        }
        assert_eq!(names.iter().filter(|name| **name == "host").count(), 1, "{seen}");
    }
}

#[test]
fn errors_of_http_are_told_with_what_their_bodies_say() {
    let http = http();
    let asked =
        ["GONE", "BROKEN", "PLAIN", "HTML", "ODD"].map(|symbol| ("GetQuote", json!({"symbol": symbol})));
    for (call, outcome) in http.all(&asked) {
        let (code, message) = match call["requests"][0]["symbol"].as_str().unwrap() {
            "GONE" => ("NotFound", "no such thing"),
            "BROKEN" => ("Unavailable", "come back later"),
            "PLAIN" => ("PermissionDenied", "the service answered HTTP 403"),
            "HTML" => ("Unknown", "text/html"),
            _ => ("Internal", "symbol"),
        };
        assert_eq!(outcome["code"], code, "{call} {outcome}");
        let told = outcome["message"].as_str().unwrap();
        assert!(told.contains(message), "{call} {outcome}");
        if code == "NotFound" {
            assert_eq!(
                outcome["details"],
                json!([{"type": "google.protobuf.Duration", "value": "CAc="}]),
                "{call} {outcome}"
            );
        }
    }
}

#[test]
fn streams_are_read_in_every_framing_and_their_failures_are_told() {
    let http = http();
    let asked = ["LINES", "ARRAY", "EVENTS", "FAILS", "CUT"]
        .map(|symbol| ("StreamQuotes", json!({"symbol": symbol, "count": 3})));
    for (call, outcome) in http.all(&asked) {
        let replies = outcome["replies"].as_array().unwrap();
        let (code, count) = match call["requests"][0]["symbol"].as_str().unwrap() {
            "FAILS" => ("Unavailable", 3),
            // The last message of an array that breaks off may be one that is cut.
            "CUT" => ("Internal", 3),
            _ => ("ok", 3),
        };
        assert_eq!(outcome["code"], code, "{call} {outcome}");
        assert_eq!(replies.len(), count, "{call} {outcome}");
        assert_eq!(replies[1]["sequence"], "2", "{call} {outcome}");
    }
}

#[test]
fn what_http_cannot_say_is_refused_before_the_service_hears_of_it() {
    let http = http();
    let asked = [
        ("RecordTrades", json!({"symbol": "ACME"})),
        ("GetQuote", json!({})),
        ("GetQuote", json!({"symbol": "../../admin"})),
        ("GetQuote", json!({"symbol": "."})),
    ];
    for (call, outcome) in http.all(&asked) {
        // Over HTTP/1.1 this client goes on writing a stream to who has answered, and does not read the answer.
        if call["http"] == "1.1" && call["method"] == "RecordTrades" {
            continue;
        }
        let expected = if call["method"] == "RecordTrades" {
            "Unimplemented"
        } else {
            "InvalidArgument"
        };
        assert_eq!(outcome["code"], expected, "{call} {outcome}");
    }
    assert!(http.told().is_empty(), "{:?}", http.told());
}

#[test]
fn one_policy_covers_rest_and_rpc_callers_of_an_http_service() {
    let http = http();
    assert_eq!(http.edge.get("/v1/quotes/ACME").call().json()["symbol"], "ACME");
    http.folder.write(
        "documents/access.yaml",
        policy(
            "readers",
            "[{methods: [market.v1.Quotes/ListQuotes], callers: [{service: web.nobody}]}]",
        ),
    );
    eventually("the policy is in force", || {
        (http.edge.get("/v1/quotes/ACME").call().status == 403).then_some(())
    });
    let before = http.told().len();
    let calls = forms()
        .into_iter()
        .filter(|form| form["http"] != "1.1")
        .map(|form| http.call(&form, "GetQuote", &json!({"symbol": "ACME"})))
        .collect::<Vec<_>>();
    for outcome in connect_node(&http.folder.join("documents/quotes.binpb"), &json!(calls)) {
        assert_eq!(outcome["code"], "PermissionDenied", "{outcome}");
    }
    assert_eq!(http.told().len(), before);
}

#[test]
fn there_and_back_again_through_two_edges_nothing_is_lost() {
    // RPC caller ─► edge, in reverse ─► REST ─► edge, forward ─► gRPC service.
    let inner = Folder::new();
    lay_out(&inner);
    std::fs::remove_file(inner.join("documents/access.yaml")).unwrap();
    let app = GrpcioApp::new();
    inner.write(
        "documents/instances.yaml",
        instance("market.quotes/py", &app.address, "plaintext"),
    );
    let rest = edge_of(&inner);
    let folder = over_http(&rest.edge);
    let edge = edge_of(&folder);
    let mut calls = Vec::new();
    for form in forms() {
        for (method, request) in [
            ("GetQuote", json!({"symbol": "ACME é"})),
            (
                "StreamQuotes",
                json!({"symbol": "ACME", "count": 3, "interval": "0.01s"}),
            ),
            ("GetQuote", json!({"symbol": "RICH"})),
        ] {
            let mut call = form.clone();
            call["target"] = json!(format!("http://{}", edge.edge));
            call["method"] = json!(method);
            call["requests"] = json!([request]);
            calls.push(call);
        }
    }
    let outcomes = connect_node(&folder.join("documents/quotes.binpb"), &json!(calls));
    for (call, outcome) in calls.iter().zip(outcomes) {
        if call["requests"][0]["symbol"] == "RICH" {
            assert_eq!(outcome["code"], "FailedPrecondition", "{call} {outcome}");
            assert_eq!(outcome["message"], "market is closed", "{call} {outcome}");
            assert_eq!(
                outcome["details"][0]["type"], "google.protobuf.Duration",
                "{call} {outcome}"
            );
            continue;
        }
        assert_eq!(outcome["code"], "ok", "{call} {outcome}");
        let replies = outcome["replies"].as_array().unwrap();
        if call["method"] == "GetQuote" {
            assert_eq!(replies[0]["symbol"], "ACME é", "{call} {outcome}");
        } else {
            assert_eq!(replies.len(), 3, "{call} {outcome}");
        }
    }
}

fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[flag][..], &length, message].concat()
}

#[test]
fn frames_that_are_none_cost_the_service_nothing_and_say_how_they_would_be_read() {
    let http = http();
    let acme = framed(0, b"\x0a\x04ACME");
    let bomb = gzip::compress(&vec![0; 64 << 20]);
    let asked: [(&str, &str, Vec<u8>, &str, &str); 8] = [
        (
            "longer than the body",
            "identity",
            acme[..8].to_vec(),
            "13",
            "ended inside",
        ),
        (
            "half a head",
            "identity",
            acme[..3].to_vec(),
            "13",
            "ended inside",
        ),
        (
            "two",
            "identity",
            [acme.clone(), acme.clone()].concat(),
            "12",
            "second",
        ),
        ("none", "identity", Vec::new(), "13", "no%20message"),
        ("of 4 GiB", "identity", vec![0, 255, 255, 255, 255], "8", "limit"),
        (
            "of another flag",
            "identity",
            framed(2, b""),
            "13",
            "flag of a gRPC frame",
        ),
        ("in another encoding", "br", framed(1, b"\x0b"), "12", "gzip"),
        ("a bomb", "gzip", framed(1, &bomb), "8", "limit"),
    ];
    for (what, encoding, body, code, word) in asked {
        let file = http.folder.write("frames", body);
        let answer = http
            .edge
            .get("/market.v1.Quotes/GetQuote")
            .with(&["--http2-prior-knowledge", "--data-binary"])
            .with(&[&format!("@{}", file.display())])
            .header("content-type: application/grpc")
            .header("te: trailers")
            .header(&format!("grpc-encoding: {encoding}"))
            .call();
        assert_eq!(
            (answer.status, answer.header("grpc-status")),
            (200, Some(code)),
            "{what}: {answer:?}"
        );
        let message = answer.header("grpc-message").unwrap();
        assert!(
            message.contains(word) || message.contains(&word.replace("%20", " ")),
            "{what}: {message}"
        );
        let read = (encoding == "br").then_some("identity,gzip");
        assert_eq!(answer.header("grpc-accept-encoding"), read, "{what}: {answer:?}");
    }
    assert!(http.told().is_empty(), "{:?}", http.told());
}

#[test]
fn what_is_wrong_with_frames_is_told_with_the_codes_and_words_of_who_sent_them() {
    let http = http();
    let acme = framed(0, b"\x0a\x04ACME");
    let twice = [acme.clone(), acme.clone()].concat();
    let of_another_flag = framed(0x80, b"");
    let invalid = "\"code\":\"invalid_argument\"";
    let (web, connect) = ("application/grpc-web+proto", "application/connect+proto");
    let asked: [(&str, &[u8], &str, &str); 8] = [
        (web, &acme[..8], "grpc-status: 13\n", "ended inside"),
        (web, &twice, "grpc-status: 12\n", "second"),
        (web, b"", "grpc-status: 13\n", "no message"),
        (web, &of_another_flag, "grpc-status: 13\n", "gRPC-Web frame"),
        (connect, &acme[..8], invalid, "ended inside"),
        (connect, &twice, invalid, "second"),
        (connect, b"", invalid, "no message"),
        (connect, &of_another_flag, invalid, "Connect envelope"),
    ];
    for (content_type, body, code, word) in asked {
        let file = http.folder.write("frames", body);
        let answer = http
            .edge
            .get("/market.v1.Quotes/StreamQuotes")
            .with(&["--data-binary", &format!("@{}", file.display())])
            .header(&format!("content-type: {content_type}"))
            .call();
        assert_eq!(answer.status, 200, "{answer:?}");
        let told = answer.body.replace("%20", " ");
        assert!(
            told.contains(code) && told.contains(word),
            "{content_type} {word}: {answer:?}"
        );
    }
    assert!(http.told().is_empty(), "{:?}", http.told());
}
