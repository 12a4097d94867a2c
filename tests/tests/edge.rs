//! At the edge, with the real curl: JSON in, JSON out, and nobody gets past the gates.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use mesh_tests::app::header;
use mesh_tests::{App, Curl, GrpcioApp, Mesh, Quotes, Sidecar, eventually, tokens};
use serde_json::json;

/// A mesh as the examples describe it: quotes at the edge, for those whose token says that they may read.
struct Guarded {
    edge: Sidecar,
    quotes: Quotes,
    mesh: Mesh,
}

fn guarded() -> Guarded {
    let mesh = Mesh::start();
    mesh.apply_file("login.yaml");
    mesh.apply_file("access.yaml");
    let quotes = mesh.quotes("a");
    let edge = mesh.edge();
    Guarded { edge, quotes, mesh }
}

fn good() -> &'static str {
    tokens().get("good")
}

#[test]
fn a_json_call_with_a_good_token_is_answered_by_the_grpc_service() {
    let Guarded {
        edge,
        quotes,
        mesh: _mesh,
    } = guarded();
    for token in ["good", "good_rs256"] {
        let answer = edge.get("/v1/quotes/ACME").token(tokens().get(token)).call();
        assert_eq!(answer.status, 200, "{token}: {answer:?}");
        let quote = answer.json();
        assert_eq!(
            (&quote["symbol"], &quote["servedBy"], &quote["currency"]),
            (&json!("ACME"), &json!("a"), &json!("USD"))
        );
        // The app sees who called, by the certificate of the edge.
        assert_eq!(quote["askedBy"], "spiffe://mesh.local/service/web.edge");
    }
    let listed = edge
        .get("/v1/quotes?symbols=DUNE&symbols=ACME&page_size=1")
        .token(good())
        .call();
    assert_eq!(listed.json()["quotes"][0]["symbol"], "ACME", "{listed:?}");
    assert_eq!(listed.json()["nextPageToken"], "DUNE", "{listed:?}");
    assert_eq!(quotes.app.calls(), 3);
}

#[test]
fn the_log_names_the_rule_and_the_rpc_that_a_path_stood_for_when_it_is_refused_too() {
    let Guarded {
        mut edge,
        quotes: _quotes,
        mesh: _mesh,
    } = guarded();
    let rule = [r#""route":"/v1/quotes/{symbol}","rpc":"market.v1.Quotes/GetQuote""#];
    assert_eq!(edge.get("/v1/quotes/ACME").token(good()).call().status, 200);
    let answered = edge.process().says(&rule);
    assert!(answered.contains(r#""path":"/v1/quotes/ACME""#), "{answered}");
    edge.get("/v1/quotes/DUNE").call().is_refused(401, "jwt_missing");
    let refused = edge.process().says(&[rule[0], r#""reason":"jwt_missing""#]);
    assert!(refused.contains(r#""path":"/v1/quotes/DUNE""#), "{refused}");
}

#[test]
fn a_stream_comes_as_one_json_object_a_line_over_both_versions_of_http() {
    let Guarded {
        edge,
        quotes: _quotes,
        mesh: _mesh,
    } = guarded();
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let answer = edge
            .get("/v1/quotes/ACME:stream?count=3&interval=0.01s")
            .with(&[version])
            .token(good())
            .call();
        assert_eq!(answer.status, 200, "{answer:?}");
        let lines: Vec<serde_json::Value> = answer
            .body
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 3, "{answer:?}");
        assert!(answer.body.contains("\"sequence\":\"3\""), "{answer:?}");
    }
}

#[test]
fn every_bad_token_is_refused_with_401_and_the_app_is_never_called() {
    let Guarded {
        edge,
        quotes,
        mesh: _mesh,
    } = guarded();
    let cases = [
        ("expired", "jwt_expired"),
        ("not_yet_valid", "jwt_not_yet_valid"),
        ("lives_too_long", "jwt_lives_too_long"),
        ("wrong_key", "jwt_signature_wrong"),
        ("changed_payload", "jwt_signature_wrong"),
        ("zero_signature", "jwt_signature_wrong"),
        ("unknown_kid", "jwt_key_unknown"),
        ("wrong_audience", "jwt_audience_wrong"),
        ("audience_prefix", "jwt_audience_wrong"),
        ("wrong_issuer", "jwt_issuer_unknown"),
        ("garbage", "jwt_malformed"),
        ("two_parts", "jwt_malformed"),
        ("too_long", "jwt_malformed"),
    ];
    for (name, reason) in cases {
        let answer = edge.get("/v1/quotes/ACME").token(tokens().get(name)).call();
        assert_eq!(answer.header("x-mesh-reason"), Some(reason), "{name}: {answer:?}");
        answer.is_refused(401, reason);
        assert_eq!(
            answer.header("www-authenticate"),
            Some("Bearer error=\"invalid_token\""),
            "{name}"
        );
    }
    // Which of these it is called is of no matter; that it is 401 is.
    for name in [
        "without_exp",
        "without_audience",
        "without_issuer",
        "issuer_list",
        "wrong_typ",
        "key_of_other_alg",
        "alg_none",
        "alg_none_odd_case",
        "hs256_with_public_key",
        "crit",
        "without_signature",
    ] {
        let answer = edge.get("/v1/quotes/ACME").token(tokens().get(name)).call();
        assert_eq!(answer.status, 401, "{name}: {answer:?}");
        assert_eq!(answer.json()["code"], 16, "{name}: {answer:?}");
    }
    let missing = edge.get("/v1/quotes/ACME").call();
    missing.is_refused(401, "jwt_missing");
    assert_eq!(missing.header("www-authenticate"), Some("Bearer"));
    assert_eq!(quotes.app.calls(), 0);
}

#[test]
fn a_token_that_is_not_alone_or_not_a_bearer_token_is_refused() {
    let Guarded {
        edge,
        quotes,
        mesh: _mesh,
    } = guarded();
    let quote = || edge.get("/v1/quotes/ACME");
    let twice = quote().token(good()).token(tokens().get("expired")).call();
    assert_eq!(twice.status, 401, "{twice:?}");
    let same_twice = quote().token(good()).token(good()).call();
    assert_eq!(same_twice.status, 401, "{same_twice:?}");
    for value in [
        format!("Bearer {}, Bearer {}", good(), good()),
        "Basic YWxpY2U6c2VjcmV0".into(),
        good().to_owned(),
        "Bearer".into(),
        format!("Token {}", good()),
    ] {
        let answer = quote().header(&format!("authorization: {value}")).call();
        assert_eq!(answer.status, 401, "{value}: {answer:?}");
    }
    let query = edge
        .get(&format!("/v1/quotes/ACME?access_token={}", good()))
        .call();
    assert_eq!(query.status, 401, "{query:?}");
    let cookie = quote()
        .header(&format!("cookie: authorization={}", good()))
        .call();
    assert_eq!(cookie.status, 401, "{cookie:?}");
    assert_eq!(quotes.app.calls(), 0);
}

#[test]
fn a_good_token_without_the_claim_is_403_and_so_is_a_method_no_rule_allows() {
    let Guarded {
        edge,
        quotes,
        mesh: _mesh,
    } = guarded();
    for name in ["without_scope", "other_scope", "scope_as_list"] {
        let answer = edge.get("/v1/quotes/ACME").token(tokens().get(name)).call();
        answer.is_refused(403, "access_denied");
    }
    let order = edge
        .get("/v1/orders")
        .post(r#"{"symbol": "ACME", "side": "SIDE_BUY", "quantity": "1"}"#)
        .token(good())
        .call();
    order.is_refused(403, "access_denied");
    assert_eq!(quotes.app.calls(), 0);
}

#[test]
fn what_is_nowhere_or_malformed_is_told_in_json() {
    let mesh = Mesh::start();
    let quotes = mesh.quotes("a");
    let edge = mesh.edge();
    edge.get("/v1/nothing").call().is_refused(404, "route_unknown");
    edge.get("/").call().is_refused(404, "route_unknown");
    let method = edge.get("/v1/quotes/ACME").method("DELETE").call();
    method.is_refused(405, "method_not_allowed");
    assert!(
        method.header("allow").is_some_and(|allow| allow.contains("GET")),
        "{method:?}"
    );
    edge.get("/v1/quotes?colour=red")
        .call()
        .is_refused(400, "request_unreadable");
    edge.get("/v1/quotes?page_size=many")
        .call()
        .is_refused(400, "request_unreadable");
    for (body, field) in [
        (r#"{"symbol": "#, None),
        (r#"{"symbol": 7}"#, Some("symbol")),
        (r#"{"side": "SIDE_UP"}"#, Some("side")),
        (r#"{"quantity": "many"}"#, Some("quantity")),
        ("[]", None),
    ] {
        let answer = edge.get("/v1/orders").post(body).call();
        answer.is_refused(400, "request_unreadable");
        if let Some(field) = field {
            assert!(answer.body.contains(field), "{body}: {answer:?}");
        }
    }
    let text = edge
        .get("/v1/orders")
        .header("content-type: text/plain")
        .with(&["--data", "x"])
        .call();
    text.is_refused(415, "content_type_unknown");
    assert_eq!(quotes.app.calls(), 0);

    // What the service itself says comes through in the same form.
    let unknown = edge.get("/v1/quotes/NOPE").call();
    assert_eq!(
        (unknown.status, &unknown.json()["code"]),
        (404, &json!(5)),
        "{unknown:?}"
    );
    assert_eq!(unknown.json()["message"], "\"NOPE\" is not traded here");
    let order = edge
        .get("/v1/orders")
        .post(r#"{"symbol": "ACME", "side": "SIDE_BUY", "quantity": "0"}"#)
        .call();
    assert_eq!(order.status, 400, "{order:?}");
    let order = edge
        .get("/v1/orders")
        .post(r#"{"symbol": "ACME", "side": "SIDE_BUY", "quantity": "2"}"#)
        .call();
    assert_eq!(
        (order.status, &order.json()["status"]),
        (200, &json!("STATUS_FILLED")),
        "{order:?}"
    );
}

#[test]
fn smuggled_framing_and_paths_with_tricks_never_reach_the_app() {
    let mesh = Mesh::start();
    let quotes = mesh.quotes("a");
    let edge = mesh.edge();
    let odd_paths = [
        "/v1/../v1/quotes/ACME",
        "/v1//quotes/ACME",
        "/v1/quotes/%2e%2e/ACME",
        "/v1/./quotes/ACME",
    ];
    for path in odd_paths {
        let answer = edge.get(path).with(&["--path-as-is"]).call();
        assert!(matches!(answer.status, 400 | 404), "{path}: {answer:?}");
    }
    for header in ["transfer-encoding: chunked, identity", "content-length: 5x"] {
        let answer = edge.get("/v1/orders").post("{}").header(header).call();
        assert!(matches!(answer.status, 0 | 400 | 501), "{header}: {answer:?}");
    }
    let two_hosts = edge
        .get("/v1/quotes/ACME")
        .header("host: a")
        .header("host: b")
        .call();
    assert!(matches!(two_hosts.status, 200 | 400), "{two_hosts:?}");
    let calls = usize::from(two_hosts.status == 200);
    assert_eq!(quotes.app.calls(), calls);
}

#[test]
fn what_only_the_mesh_may_say_is_taken_off_before_the_app_sees_it() {
    let mesh = Mesh::start();
    let app = GrpcioApp::new();
    let _sidecar = mesh.sidecar("market.quotes", "py").app(&app.address).start();
    let edge = mesh.edge();
    let spoofed = [
        "x-mesh-caller: spiffe://mesh.local/service/admin",
        "x-mesh-anything: 1",
        "x-jwt-claim-role: admin",
        "x-forwarded-client-cert: Subject=admin",
        "x-original-url: /admin",
        "x-forwarded-for: 1.2.3.4",
        "x-real-ip: 1.2.3.4",
        "forwarded: for=1.2.3.4",
        "grpc-status: 0",
    ];
    let mut curl = edge.get("/v1/quotes/ACME").header("x-request-colour: blue");
    for line in spoofed {
        curl = curl.header(line);
    }
    eventually("the call is answered", || {
        (curl.call().status == 200).then_some(())
    });
    let call = app.call(1);
    assert_eq!(
        header(&call, "x-mesh-caller"),
        Some("spiffe://mesh.local/service/web.edge")
    );
    assert_eq!(header(&call, "x-request-colour"), Some("blue"), "{call}");
    for gone in [
        "x-mesh-anything",
        "x-jwt-claim-role",
        "x-forwarded-client-cert",
        "x-original-url",
        "x-real-ip",
        "forwarded",
        "grpc-status",
    ] {
        assert_eq!(header(&call, gone), None, "{gone}: {call}");
    }
    assert_eq!(header(&call, "x-forwarded-for"), Some("127.0.0.1"), "{call}");
    assert!(header(&call, "traceparent").is_some(), "{call}");
}

#[test]
fn a_verified_token_stays_outside_unless_the_provider_forwards_it() {
    let mesh = Mesh::start();
    mesh.apply_file("login.yaml");
    mesh.apply_file("access.yaml");
    let app = GrpcioApp::new();
    let _sidecar = mesh.sidecar("market.quotes", "py").app(&app.address).start();
    let edge = mesh.edge();
    let quote = || edge.get("/v1/quotes/ACME").token(good()).call();
    eventually("the call is answered", || (quote().status == 200).then_some(()));
    let call = app.told("call").pop().unwrap();
    assert_eq!(header(&call, "authorization"), None, "{call}");

    let login = std::fs::read_to_string(mesh.folder.join("documents/login.yaml")).unwrap();
    mesh.folder
        .write("documents/login.yaml", format!("{login}\n  forward: true\n"));
    mesh.apply_file("login.yaml");
    assert_eq!(quote().status, 200);
    let call = app.told("call").pop().unwrap();
    assert!(
        header(&call, "authorization").is_some_and(|value| value.ends_with(good())),
        "{call}"
    );
}

#[test]
fn a_rest_service_behind_a_prefix_calls_on_through_its_own_sidecar() {
    let mesh = Mesh::start();
    mesh.apply_file("login.yaml");
    mesh.apply_file("access.yaml");
    let _quotes = mesh.quotes("a");
    let outbound = mesh_tests::free_port();
    let portfolio = App::portfolio(&format!("127.0.0.1:{outbound}"));
    let _beside = mesh
        .sidecar("web.portfolio", "p")
        .app(&portfolio.address)
        .outbound()
        .set("/outbound/listen", json!(format!("127.0.0.1:{outbound}")))
        .depends(&["market.quotes"])
        .start();
    let edge = mesh
        .sidecar("web.edge", "edge")
        .edge(&json!([{"service": "market.quotes"}, {"service": "web.portfolio", "prefix": "/portfolio"}]))
        .start();
    let answer = eventually("the portfolio is valued", || {
        let answer = edge.get("/portfolio/portfolios/pocket").call();
        (answer.status == 200).then_some(answer)
    });
    let holding = &answer.json()["holdings"][0];
    assert_eq!(
        (&holding["symbol"], &holding["quotedBy"]),
        (&json!("FERN"), &json!("a"))
    );
    assert_eq!(holding["askedBy"], "spiffe://mesh.local/service/web.portfolio");
    assert_eq!(edge.get("/portfolio/nothing").call().status, 404);
}

#[test]
fn a_rule_that_the_edge_serves_for_another_service_is_refused_at_apply_and_nothing_changes() {
    let mesh = Mesh::start();
    let _quotes = mesh.quotes("a");
    let exposes = |services: serde_json::Value| mesh.sidecar("web.edge", "edge").edge(&services).start();
    let both = json!([{"service": "market.quotes"}, {"service": "market.other"}]);
    let edge = exposes(both);
    // The same rules in another package: another API at the same paths.
    let mut other = mesh_examples::DESCRIPTORS.to_vec();
    for at in 0..other.len() - 9 {
        if &other[at..at + 9] == b"market.v1" {
            other[at + 8] = b'2';
        }
    }
    std::fs::write(mesh.folder.join("other.binpb"), other).unwrap();
    let document = "apiVersion: mesh/v1\nkind: Service\nmetadata: {name: market.other}\nspec: {protocol: grpc, schema: {file: other.binpb}}\n";
    let document = mesh.folder.write("other.yaml", document);
    let apply = || mesh.ctl(&["apply", "-f", document.to_str().unwrap()]);
    eventually("the edge has told what it exposes", || {
        let told = mesh.ctl(&["apply", "--dry-run", "-f", document.to_str().unwrap()]);
        (told.code != Some(0)).then_some(())
    });
    let told = apply();
    assert_eq!(told.code, Some(1), "{told:?}");
    for words in [
        "Service/market.other: spec.schema",
        "GET /v1/quotes/{symbol} (market.v2.Quotes/GetQuote)",
        "(market.v1.Quotes/GetQuote) of Service/market.quotes",
        "web.edge/edge exposes both",
        "change one of the two rules",
    ] {
        assert!(told.stderr.contains(words), "{words}: {told:?}");
    }
    assert_ne!(mesh.ctl(&["get", "service", "market.other"]).code, Some(0));
    assert_eq!(edge.get("/v1/quotes/ACME").call().status, 200);
    // An edge of its own for it, and it may come.
    drop(edge);
    let edge = exposes(json!([{"service": "market.quotes"}]));
    eventually("the edge has told what it exposes now", || {
        (apply().code == Some(0)).then_some(())
    });
    // Who exposes both nevertheless serves the rule of the one that is named first, and says so.
    drop(edge);
    let edge = exposes(json!([{"service": "market.quotes"}, {"service": "market.other"}]));
    assert_eq!(edge.get("/v1/quotes/ACME").call().status, 200);
    let schemas = Curl::get(format!("http://{}/schemas", edge.admin)).call().json();
    let told = schemas["ambiguousAtEdge"].to_string();
    assert!(
        told.contains("market.quotes") && told.contains("market.other"),
        "{told}"
    );
}
