//! Every way of calling a gRPC service through the edge, with clients nobody here wrote: gRPC, gRPC-Web and Connect by
//! `@connectrpc/connect-node`, and by hand with curl where a client would not do what is wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use mesh_tests::app::header;
use mesh_tests::documents::{instance, lay_out, policy};
use mesh_tests::node::{connect_node, forms};
use mesh_tests::{Answer, Curl, Folder, GrpcioApp, Sidecar, SidecarPlan, eventually};
use prost::Message as _;
use serde_json::{Value, json};

/// An edge before a grpcio app that speaks plaintext.
struct Edge {
    sidecar: Sidecar,
    app: GrpcioApp,
    folder: Folder,
}

fn edge() -> Edge {
    let folder = Folder::new();
    lay_out(&folder);
    std::fs::remove_file(folder.join("documents/access.yaml")).unwrap();
    let app = GrpcioApp::new();
    folder.write(
        "documents/instances.yaml",
        instance("market.quotes/py", &app.address, "plaintext"),
    );
    let sidecar = SidecarPlan::new("web.edge", "edge")
        .standalone(&folder.join("documents"))
        .edge(&json!([{"service": "market.quotes"}]))
        .start();
    Edge { sidecar, app, folder }
}

impl Edge {
    fn node(&self, calls: &[Value]) -> Vec<Value> {
        connect_node(&self.folder.join("documents/quotes.binpb"), &json!(calls))
    }

    fn call(&self, form: &Value, method: &str, requests: Value) -> Value {
        let mut call = form.clone();
        call["target"] = json!(format!("http://{}", self.sidecar.edge));
        call["method"] = json!(method);
        call["requests"] = requests;
        call
    }

    /// A POST to a method, with a body of any bytes.
    fn post(&self, method: &str, content_type: &str, body: &[u8]) -> Curl {
        let file = self.folder.write(&format!("body-{}", body.len()), body);
        self.sidecar
            .get(&format!("/market.v1.Quotes/{method}"))
            .header(&format!("content-type: {content_type}"))
            .with(&["--data-binary", &format!("@{}", file.display())])
    }

    fn calls(&self) -> usize {
        self.app.told("call").len()
    }
}

fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[flag][..], &length.to_be_bytes(), message].concat()
}

/// The trailers of a gRPC-Web answer in text form, after its messages.
fn web_text(answer: &Answer) -> (Vec<Vec<u8>>, String) {
    // Each piece is padded on its own.
    let mut bytes = Vec::new();
    let mut rest = answer.body.as_bytes();
    while !rest.is_empty() {
        let end = rest.iter().position(|letter| *letter == b'=');
        let end = end.map_or(rest.len(), |padding| (padding / 4 + 1) * 4);
        bytes.extend(BASE64_STANDARD.decode(&rest[..end]).unwrap());
        rest = &rest[end..];
    }
    let (mut messages, mut rest) = (Vec::new(), bytes.as_slice());
    loop {
        let length = usize::try_from(u32::from_be_bytes(rest[1..5].try_into().unwrap())).unwrap();
        let (flag, message) = (rest[0], rest[5..5 + length].to_vec());
        rest = &rest[5 + length..];
        if flag == 0x80 {
            assert!(rest.is_empty(), "something follows the trailers: {answer:?}");
            return (messages, String::from_utf8(message).unwrap());
        }
        messages.push(message);
    }
}

#[test]
fn all_kinds_of_calls_pass_in_every_protocol_codec_and_version_of_http() {
    let edge = edge();
    let mut calls = Vec::new();
    for form in forms() {
        let symbol = |symbol: &str| json!({"symbol": symbol});
        calls.push(edge.call(&form, "GetQuote", json!([symbol("ACME")])));
        calls.push(edge.call(&form, "StreamQuotes", json!([{"symbol": "ACME", "count": 3}])));
        let trades = json!([{"symbol": "ACME", "quantity": "2"}, {"symbol": "BORK", "quantity": "3"}]);
        calls.push(edge.call(&form, "RecordTrades", trades));
        calls.push(edge.call(
            &form,
            "Converse",
            json!([symbol("ACME"), symbol("BORK"), symbol("CRAN")]),
        ));
    }
    for call in &mut calls {
        call["headers"] = json!({"x-colour": "blue"});
    }
    let outcomes = edge.node(&calls);
    for (call, outcome) in calls.iter().zip(&outcomes) {
        assert_eq!(outcome["code"], "ok", "{call} {outcome}");
        let replies = outcome["replies"].as_array().unwrap();
        match call["method"].as_str().unwrap() {
            "GetQuote" => assert_eq!(
                replies,
                &[json!({"symbol": "ACME", "servedBy": "grpcio"})],
                "{call}"
            ),
            "StreamQuotes" => {
                assert_eq!(replies.len(), 3, "{call} {outcome}");
                assert_eq!(replies[2]["sequence"], "3", "{call}");
            }
            "RecordTrades" => assert_eq!(replies, &[json!({"trades": "2", "quantity": "5"})], "{call}"),
            _ => assert_eq!(
                replies[2],
                json!({"symbol": "CRAN", "sequence": "3", "servedBy": "grpcio"}),
                "{call}"
            ),
        }
        assert_eq!(outcome["header"]["x-app-initial"], "first", "{call} {outcome}");
        assert_eq!(outcome["trailer"]["x-app-trailing"], "last", "{call} {outcome}");
        // 00 01 fe
        assert_eq!(outcome["trailer"]["x-app-bytes-bin"], "AAH+", "{call} {outcome}");
    }
    for seen in edge.app.told("call") {
        assert_eq!(header(&seen, "x-colour"), Some("blue"), "{seen}");
        // What belongs to the caller's protocol ends here.
        for name in [
            "connect-protocol-version",
            "connect-timeout-ms",
            "x-grpc-web",
            "x-user-agent",
        ] {
            assert_eq!(header(&seen, name), None, "{seen}");
        }
        assert!(
            seen["remaining"].as_f64().is_some_and(|left| left <= 10.0),
            "{seen}"
        );
    }
}

#[test]
fn an_error_arrives_with_its_code_message_details_and_trailers() {
    let edge = edge();
    let calls: Vec<Value> = forms()
        .iter()
        .map(|form| edge.call(form, "GetQuote", json!([{"symbol": "RICH"}])))
        .collect();
    for (call, outcome) in calls.iter().zip(edge.node(&calls)) {
        assert_eq!(outcome["code"], "FailedPrecondition", "{call} {outcome}");
        assert_eq!(outcome["message"], "market is closed", "{call} {outcome}");
        // A Duration of 7 s.
        assert_eq!(
            outcome["details"],
            json!([{"type": "google.protobuf.Duration", "value": "CAc="}]),
            "{call} {outcome}"
        );
        assert_eq!(outcome["metadata"]["x-app-trailing"], "last", "{call} {outcome}");
    }
}

#[test]
fn a_deadline_is_kept_in_every_protocol_and_reaches_the_app() {
    let edge = edge();
    let mut calls = Vec::new();
    for protocol in ["grpc", "grpc-web", "connect"] {
        let mut call = edge.call(
            &json!({"protocol": protocol}),
            "GetQuote",
            json!([{"symbol": "SLOW"}]),
        );
        call["timeoutMs"] = json!(300);
        calls.push(call);
    }
    for (call, outcome) in calls.iter().zip(edge.node(&calls)) {
        assert_eq!(outcome["code"], "DeadlineExceeded", "{call} {outcome}");
    }
    for seen in edge.app.told("call") {
        let remaining = seen["remaining"].as_f64();
        assert!(remaining.is_some_and(|left| left <= 0.3), "{seen}");
    }
    // The edge itself says so to a caller that waits longer than it asked for.
    let late = edge
        .post("GetQuote", "application/json", br#"{"symbol": "SLOW"}"#)
        .header("connect-protocol-version: 1")
        .header("connect-timeout-ms: 200")
        .call();
    assert_eq!(
        (late.status, &late.json()["code"]),
        (504, &json!("deadline_exceeded")),
        "{late:?}"
    );
}

#[test]
fn who_cancels_is_heard_by_the_app() {
    let edge = edge();
    for protocol in ["grpc-web", "connect"] {
        let mut call = edge.call(
            &json!({"protocol": protocol}),
            "StreamQuotes",
            json!([{"symbol": "ACME"}]),
        );
        call["cancelAfter"] = json!(2);
        let before = edge.app.told("ended").len();
        let outcome = edge.node(&[call]).remove(0);
        assert_eq!(outcome["code"], "Canceled", "{outcome}");
        eventually("the app hears that the caller is gone", || {
            (edge.app.told("ended").len() > before).then_some(())
        });
    }
}

#[test]
fn a_connect_call_may_be_a_get_where_the_method_has_no_side_effects() {
    let edge = edge();
    let calls: Vec<Value> = [false, true]
        .map(|json| {
            let form = json!({"protocol": "connect", "get": true, "json": json});
            edge.call(&form, "GetQuote", json!([{"symbol": "ACME"}]))
        })
        .into();
    for outcome in edge.node(&calls) {
        assert_eq!(outcome["replies"][0]["symbol"], "ACME", "{outcome}");
    }
    let get = |method: &str, query: &str| {
        edge.sidecar
            .get(&format!("/market.v1.Quotes/{method}?{query}"))
            .with(&["--globoff"])
            .call()
    };
    let plain = get(
        "GetQuote",
        "encoding=json&message=%7B%22symbol%22%3A%22ACME%22%7D",
    );
    assert_eq!(
        plain.json(),
        json!({"symbol": "ACME", "servedBy": "grpcio"}),
        "{plain:?}"
    );
    let before = edge.calls();
    let refused = |answer: Answer, status: u16, code: &str, word: &str| {
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.json()["code"], code, "{answer:?}");
        assert!(answer.body.contains(word), "{answer:?}");
        answer
    };
    let order = get("PlaceOrder", "connect=v1&encoding=json&message=%7B%7D");
    let order = refused(order, 405, "unimplemented", "side effects");
    assert_eq!(order.header("allow"), Some("POST"));
    let stream = get("StreamQuotes", "connect=v1&encoding=json&message=%7B%7D");
    let _ = refused(stream, 405, "unimplemented", "GET");
    let yaml = get("GetQuote", "connect=v1&encoding=yaml&message=%7B%7D");
    let _ = refused(yaml, 415, "invalid_argument", "encoding");
    for (query, word) in [
        ("connect=v2&encoding=json&message=%7B%7D", "connect"),
        ("connect=v1&message=%7B%7D", "encoding"),
        ("connect=v1&encoding=json", "message"),
        ("connect=v1&encoding=json&message=%7B", "offset"),
        ("connect=v1&encoding=proto&base64=1&message=*", "message"),
        ("connect=v1&encoding=proto&compression=br&message=", "compression"),
        (
            "connect=v1&encoding=proto&compression=gzip&base64=1&message=AAAA",
            "gzip",
        ),
    ] {
        let word = if word == "offset" { "byte" } else { word };
        let _ = refused(get("GetQuote", query), 400, "invalid_argument", word);
    }
    assert_eq!(edge.calls(), before);
}

#[test]
fn a_service_that_compresses_is_read_for_callers_who_do_not() {
    let edge = edge();
    let symbol = "GZIP".repeat(1000);
    let calls: Vec<Value> = forms()
        .iter()
        .map(|form| edge.call(form, "GetQuote", json!([{"symbol": "GZIP"}])))
        .collect();
    for (call, outcome) in calls.iter().zip(edge.node(&calls)) {
        assert_eq!(outcome["replies"][0]["symbol"], json!(symbol), "{call} {outcome}");
    }
    let rest = edge.sidecar.get("/v1/quotes/GZIP").call();
    assert_eq!(rest.json()["symbol"], json!(symbol), "{}", rest.status);
}

#[test]
fn grpc_web_in_text_comes_and_goes_in_base64() {
    let edge = edge();
    let request = framed(0, b"\x0a\x04ACME");
    let ask = |body: &str| {
        edge.post("StreamQuotes", "application/grpc-web-text+proto", body.as_bytes())
            .call()
    };
    let counted = b"\x0a\x04ACME\x10\x02";
    let whole = BASE64_STANDARD.encode(framed(0, counted));
    // A sender that flushed after each byte has padded each byte.
    let padded: String = framed(0, counted)
        .iter()
        .map(|byte| BASE64_STANDARD.encode([*byte]))
        .collect();
    for body in [&whole, &padded] {
        let answer = ask(body);
        assert_eq!(
            answer.header("content-type"),
            Some("application/grpc-web-text+proto"),
            "{answer:?}"
        );
        let (messages, trailers) = web_text(&answer);
        assert_eq!(messages.len(), 2, "{answer:?}");
        assert!(trailers.contains("grpc-status: 0\r\n"), "{trailers}");
        assert!(trailers.contains("x-app-trailing: last\r\n"), "{trailers}");
    }
    // What is wrong is told in trailers, and with the message it is about.
    let text = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
    for (body, code, word) in [
        ("AAAA*".to_owned(), 3, "base64"),
        (text(&request[..4]), 13, "ended inside"),
        (text(&framed(2, b"")), 13, "2 is not the flag of a gRPC-Web frame"),
        (
            text(&framed(0x80, b"")),
            13,
            "128 is not the flag of a gRPC-Web frame",
        ),
        (text(&[0, 0xff, 0xff, 0xff, 0xff]), 8, "over the limit"),
    ] {
        let answer = ask(&body);
        assert_eq!(answer.status, 200, "{answer:?}");
        let (messages, trailers) = web_text(&answer);
        assert!(messages.is_empty(), "{answer:?}");
        assert!(
            trailers.contains(&format!("grpc-status: {code}\r\n")),
            "{body}: {trailers}"
        );
        assert!(trailers.contains(word), "{trailers}");
    }
}

#[test]
fn a_stream_that_turns_out_wrong_is_cancelled_and_the_caller_is_told_why() {
    let edge = edge();
    let good = framed(0, br#"{"symbol": "ACME"}"#);
    let bad = framed(0, br#"{"symbol": 5}"#);
    let answer = edge
        .post(
            "RecordTrades",
            "application/connect+json",
            &[good.clone(), bad.clone()].concat(),
        )
        .call();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(
        answer.body.contains("\"code\":\"invalid_argument\"") && answer.body.contains("symbol"),
        "{answer:?}"
    );
    for wrong in [framed(2, b"{}"), framed(1, b"not gzip"), good[..7].to_vec()] {
        let answer = edge
            .post(
                "Converse",
                "application/connect+json",
                &[good.clone(), wrong].concat(),
            )
            .call();
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(
            answer.body.contains("\"code\":\"invalid_argument\"")
                || answer.body.contains("\"code\":\"unimplemented\""),
            "{answer:?}"
        );
    }
}

#[test]
fn what_no_method_takes_is_refused_in_the_callers_own_words() {
    let edge = edge();
    let before = edge.calls();
    let connect = |method: &str, content_type: &str, body: &[u8]| {
        edge.post(method, content_type, body)
            .header("connect-protocol-version: 1")
            .call()
    };
    // The kind of message does not fit the kind of method.
    for (method, content_type) in [
        ("StreamQuotes", "application/json"),
        ("StreamQuotes", "application/proto"),
        ("GetQuote", "application/connect+json"),
    ] {
        let answer = connect(method, content_type, b"{}");
        assert_eq!(answer.status, 415, "{answer:?}");
        assert!(
            answer.json()["message"]
                .as_str()
                .unwrap()
                .contains("takes application/")
        );
    }
    let unknown = connect("Nothing", "application/json", b"{}");
    assert_eq!(
        (unknown.status, &unknown.json()["code"]),
        (501, &json!("unimplemented")),
        "{unknown:?}"
    );
    let elsewhere = edge
        .sidecar
        .get("/no.Such/Method")
        .post("{}")
        .header("connect-protocol-version: 1")
        .call();
    assert_eq!(elsewhere.json()["code"], "unimplemented", "{elsewhere:?}");
    let malformed = connect("GetQuote", "application/json", b"{");
    assert_eq!(
        (malformed.status, &malformed.json()["code"]),
        (400, &json!("invalid_argument"))
    );
    let brotli = edge
        .post("GetQuote", "application/json", b"{}")
        .header("connect-protocol-version: 1")
        .header("content-encoding: br")
        .call();
    assert_eq!(
        (brotli.status, &brotli.json()["code"]),
        (501, &json!("unimplemented")),
        "{brotli:?}"
    );
    for timeout in ["1s", "-1", "12345678901"] {
        let answer = edge
            .post("GetQuote", "application/json", b"{}")
            .header("connect-protocol-version: 1")
            .header(&format!("connect-timeout-ms: {timeout}"))
            .call();
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (400, &json!("invalid_argument"))
        );
    }
    let too_large = connect("GetQuote", "application/proto", &vec![0; (4 << 20) + 1]);
    assert_eq!(too_large.json()["code"], "resource_exhausted", "{too_large:?}");
    // Not a call by name without its header: REST has no such path.
    edge.post("GetQuote", "application/json", b"{}")
        .call()
        .is_refused(404, "route_unknown");
    let web = edge
        .post("Nothing", "application/grpc-web-text", b"AAAAAAA=")
        .call();
    assert!(web_text(&web).1.contains("grpc-status: 12\r\n"), "{web:?}");
    assert_eq!(edge.calls(), before, "nothing of this is the app's to answer");
}

#[test]
fn a_bomb_is_refused_by_what_comes_out_of_it() {
    let edge = edge();
    // 64 MiB of spaces before a JSON value.
    let made = mesh_tests::process::finish(
        std::process::Command::new("sh").args([
            "-c",
            &format!(
                "head -c 67108864 /dev/zero | tr '\\0' ' ' | gzip -9 > {}",
                edge.folder.join("bomb").display()
            ),
        ]),
        "",
    );
    let _ = made.ok();
    let bomb = std::fs::read(edge.folder.join("bomb")).unwrap();
    assert!(bomb.len() < 1 << 20);
    let unary = edge
        .post("GetQuote", "application/json", &bomb)
        .header("connect-protocol-version: 1")
        .header("content-encoding: gzip")
        .call();
    assert_eq!(
        (unary.status, &unary.json()["code"]),
        (429, &json!("resource_exhausted")),
        "{unary:?}"
    );
    let stream = edge
        .post("Converse", "application/connect+json", &framed(1, &bomb))
        .header("connect-content-encoding: gzip")
        .call();
    assert!(stream.body.contains("resource_exhausted"), "{stream:?}");
}

#[test]
fn one_policy_covers_every_door() {
    let edge = edge();
    edge.folder.write(
        "documents/access.yaml",
        policy(
            "readers",
            "[{methods: [market.v1.Quotes/ListQuotes], callers: [{service: web.nobody}]}]",
        ),
    );
    eventually("the policy is in force", || {
        (edge.sidecar.get("/v1/quotes/ACME").call().status == 403).then_some(())
    });
    let before = edge.calls();
    // Over HTTP/1.1 this client goes on writing to who has answered, and then does not read the answer.
    let calls: Vec<Value> = forms()
        .iter()
        .filter(|form| form["http"] != "1.1")
        .flat_map(|form| {
            [
                edge.call(form, "GetQuote", json!([{"symbol": "ACME"}])),
                edge.call(form, "StreamQuotes", json!([{"symbol": "ACME", "count": 1}])),
            ]
        })
        .chain([edge.call(
            &json!({"protocol": "connect", "get": true}),
            "GetQuote",
            json!([{"symbol": "ACME"}]),
        )])
        .collect();
    for (call, outcome) in calls.iter().zip(edge.node(&calls)) {
        assert_eq!(outcome["code"], "PermissionDenied", "{call} {outcome}");
        assert_eq!(
            outcome["details"][0]["type"], "google.rpc.ErrorInfo",
            "{call} {outcome}"
        );
    }
    assert_eq!(edge.calls(), before);
    let metrics = edge.sidecar.scrape();
    for protocol in ["grpc", "grpc-web", "connect", "rest"] {
        assert!(
            metrics.lines().any(|line| {
                line.starts_with("mesh_calls_total")
                    && line.contains(&format!("protocol=\"{protocol}\""))
                    && line.contains("reason=\"access_denied\"")
            }),
            "{protocol}: {metrics}"
        );
    }
}

/// The market's descriptors as somebody would have them who knows nothing of HTTP rules.
fn without_rules(descriptors: &[u8]) -> Vec<u8> {
    // Decoding forgets extensions, which is what the rules are.
    let mut set = prost_types::FileDescriptorSet::decode(descriptors).unwrap();
    set.file.retain(|file| !file.name().starts_with("google/api/"));
    for file in &mut set.file {
        file.dependency.retain(|name| !name.starts_with("google/api/"));
    }
    set.encode_to_vec()
}

#[test]
fn a_method_without_a_rule_is_posted_to_by_its_name_only_where_that_is_switched_on() {
    let edge = edge();
    let bare = || {
        edge.sidecar
            .get("/market.v1.Quotes/GetQuote")
            .post(r#"{"symbol": "ACME"}"#)
            .call()
    };
    bare().is_refused(404, "route_unknown");
    let descriptors = without_rules(mesh_examples::DESCRIPTORS);
    edge.folder.write("documents/quotes.binpb", descriptors);
    let services = std::fs::read_to_string(edge.folder.join("documents/services.yaml")).unwrap();
    let with = |rest: &str| {
        let services = services.replace("rest: {", &format!("rest: {{{rest}"));
        edge.folder.write("documents/services.yaml", services);
    };
    with("printDefaults: true, ");
    eventually("the rules are gone", || {
        (edge.sidecar.get("/v1/quotes/ACME").call().status == 404).then_some(())
    });
    let before = edge.calls();
    bare().is_refused(404, "route_unknown");
    assert_eq!(edge.calls(), before);
    with("unannotated: true, ");
    eventually("the switch is in force", || (bare().status == 200).then_some(()));
    assert_eq!(bare().json()["symbol"], "ACME");
    let answer = edge.sidecar.get("/market.v1.Quotes/GetQuote").call();
    answer.is_refused(405, "method_not_allowed");
}
