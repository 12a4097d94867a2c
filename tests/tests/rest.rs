//! REST at the edge, with the real curl before a real gRPC server: what is refused, what errors look like, metadata, and
//! every switch of a service.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use mesh_tests::app::header;
use mesh_tests::{Answer, Depot};
use serde_json::json;

fn depot() -> Depot {
    Depot::start(&json!({}))
}

/// The field that an error is about.
fn field(answer: &Answer) -> String {
    let body = answer.json();
    let details = body["details"].as_array().cloned().unwrap_or_default();
    let request = details
        .iter()
        .find(|detail| detail["@type"] == "type.googleapis.com/google.rpc.BadRequest");
    let field = request.and_then(|request| request["fieldViolations"][0]["field"].as_str());
    field.unwrap_or_default().to_owned()
}

#[test]
fn what_does_not_fit_is_refused_by_field_and_the_service_is_never_called() {
    let depot = depot();
    for (body, named) in [
        (r#"{"number": "many"}"#, "number"),
        (r#"{"grade": "GRADE_SUPERB"}"#, "grade"),
        (r#"{"data": "%%%"}"#, "data"),
        (r#"{"tags": [1]}"#, "tags[0]"),
        (r#"{"name": "another"}"#, "name"),
    ] {
        let answer = depot.get("/v1/items/box").post(body).call();
        answer.is_refused(400, "request_unreadable");
        assert_eq!(field(&answer), named, "{answer:?}");
        let info = answer.json()["details"][0].clone();
        assert_eq!(
            info["@type"], "type.googleapis.com/google.rpc.ErrorInfo",
            "{answer:?}"
        );
    }
    for body in [
        r#"{"note": 1,}"#,
        r#"{"note": "a", "note": "b"}"#,
        r#"{} {}"#,
        r#"[]"#,
        "\u{feff}{}",
    ] {
        depot
            .get("/v1/items/box")
            .post(body)
            .call()
            .is_refused(400, "request_unreadable");
    }
    let get = || depot.get("/v1/items/box?note=a&note=b");
    get().call().is_refused(400, "request_unreadable");
    depot
        .get("/v1/items/box?colour=red")
        .call()
        .is_refused(400, "request_unreadable");
    depot
        .get("/v1/items/box?access_token=x")
        .call()
        .is_refused(400, "request_unreadable");
    depot
        .get("/v1/items/%zz")
        .call()
        .is_refused(400, "request_malformed");
    depot.get("/v1/nothing").call().is_refused(404, "route_unknown");
    let method = depot.get("/v1/items/box").method("DELETE").call();
    method.is_refused(405, "method_not_allowed");
    assert_eq!(method.header("allow"), Some("GET, HEAD, OPTIONS, POST"));
    assert!(depot.told("call").is_empty(), "{:?}", depot.told("call"));
}

#[test]
fn bodies_that_are_no_json_or_where_there_should_be_none_are_refused() {
    let depot = depot();
    let post = |header: &str| {
        depot
            .get("/v1/items/box")
            .with(&["--data", "{}"])
            .header(header)
            .call()
    };
    for content_type in ["text/json", "application/json; charset=utf-16", "application/xml"] {
        post(&format!("content-type: {content_type}")).is_refused(415, "content_type_unknown");
    }
    let twice = depot
        .get("/v1/items/box")
        .post("{}")
        .header("content-type: text/plain");
    twice.call().is_refused(415, "content_type_unknown");
    // A body where the rule has none.
    let excess = depot.get("/v1/items/box").post("{}").method("GET").call();
    excess.is_refused(400, "request_unreadable");
    for timeout in ["1", "1.5S", "-1S", "100000000000m"] {
        let answer = depot
            .get("/v1/items/box")
            .header(&format!("grpc-timeout: {timeout}"))
            .call();
        answer.is_refused(400, "timeout_malformed");
    }
    // An override is no method.
    let overridden = depot
        .get("/v1/items/box")
        .header("x-http-method-override: DELETE")
        .call();
    assert_eq!(overridden.status, 200, "{overridden:?}");
    assert_eq!(header(&depot.call(1), "x-http-method-override"), None);
    assert_eq!(depot.told("call").len(), 1);
}

#[test]
fn an_error_of_the_service_keeps_every_detail_even_one_of_an_unknown_type() {
    let depot = depot();
    let answer = depot
        .get("/v1/items/box")
        .post(r#"{"fail": "50% off — später"}"#)
        .call();
    assert_eq!(answer.status, 400, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(
        answer.json(),
        json!({
            "code": 3,
            "message": "50% off — später",
            "details": [
                {"@type": "type.googleapis.com/google.protobuf.Duration", "value": "7s"},
                {"@type": "type.googleapis.com/depot.v1.Nowhere", "value": "AP8="},
            ],
        })
    );
}

#[test]
fn errors_are_problem_documents_where_the_service_or_the_caller_asks() {
    let always = Depot::start(&json!({"errors": "problem"}));
    let own = always.get("/v1/items/box?colour=red").call();
    let theirs = always.get("/v1/items/box").post(r#"{"fail": "no"}"#).call();
    for answer in [&own, &theirs] {
        assert_eq!(answer.status, 400, "{answer:?}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json"),
            "{answer:?}"
        );
        let problem = answer.json();
        assert_eq!(
            (&problem["status"], &problem["title"]),
            (&json!(400), &json!("Bad Request"))
        );
        assert_eq!(problem["code"], 3, "{answer:?}");
    }
    assert_eq!(theirs.json()["detail"], "no");
    assert_eq!(theirs.json()["details"][1]["value"], "AP8=");

    let asked = Depot::start(&json!({"errors": "negotiate"}));
    let with = |accept: &str| {
        asked
            .get("/v1/items/box?colour=red")
            .header(&format!("accept: {accept}"))
            .call()
    };
    let kind = |answer: &Answer| answer.header("content-type").unwrap_or_default().to_owned();
    assert_eq!(
        kind(&with("application/problem+json, */*")),
        "application/problem+json"
    );
    assert_eq!(kind(&with("application/json")), "application/json");
    let never = depot();
    let answer = never
        .get("/v1/items/box?colour=red")
        .header("accept: application/problem+json")
        .call();
    assert_eq!(kind(&answer), "application/json");
}

#[test]
fn metadata_goes_both_ways_and_binary_metadata_is_judged() {
    let depot = depot();
    for bad in ["%%%", "a b", "YQ=="] {
        let call = depot
            .get("/v1/items/box")
            .header(&format!("trace-bin: {bad}"))
            .call();
        if bad == "YQ==" {
            assert_eq!(call.status, 200, "{call:?}");
        } else {
            call.is_refused(400, "request_unreadable");
            assert_eq!(field(&call), "trace-bin", "{call:?}");
        }
    }
    let answer = depot
        .get("/v1/items/box")
        .header("x-tenant: a")
        .header("trace-bin: AAH+")
        .header("x-mesh-caller: spiffe://mesh.local/service/forged")
        .header("grpc-status: 0")
        .header("grpc-timeout: 5S")
        .call();
    assert_eq!(answer.status, 200, "{answer:?}");
    let call = depot.call(2);
    assert_eq!(header(&call, "x-tenant"), Some("a"));
    assert_eq!(header(&call, "trace-bin"), Some("0001fe"));
    assert_eq!(header(&call, "x-mesh-caller"), None);
    assert!(
        call["remaining"].as_f64().is_some_and(|left| left <= 5.0),
        "{call}"
    );
    assert_eq!(answer.header("x-depot-initial"), Some("early"));
    assert_eq!(answer.header("x-depot-bytes-bin"), Some("AAH+"));
    assert!(
        !answer.headers.iter().any(|(name, _)| name.starts_with("grpc-")),
        "{answer:?}"
    );
}

#[test]
fn trailing_metadata_is_trailers_for_those_who_read_them() {
    let depot = depot();
    let plain = depot.get("/v1/items/box").call();
    assert_eq!(plain.header("trailer"), None, "{plain:?}");
    assert!(plain.header("content-length").is_some(), "{plain:?}");
    let asked = depot.get("/v1/items/box").header("te: trailers").call();
    let second = depot
        .get("/v1/items/box")
        .with(&["--http2-prior-knowledge"])
        .call();
    for answer in [&asked, &second] {
        assert_eq!(answer.trailer("x-depot-trailing"), Some("late"), "{answer:?}");
        assert_eq!(answer.json()["name"], "box", "{answer:?}");
        assert!(
            !answer.trailers.iter().any(|(name, _)| name.starts_with("grpc-")),
            "{answer:?}"
        );
    }
}

#[test]
fn the_prefix_of_metadata_is_taken_off_where_the_service_asks_and_forges_nothing() {
    let depot = Depot::start(&json!({"metadataPrefix": "strip"}));
    let answer = depot
        .get("/v1/items/box")
        .header("grpc-metadata-tenant: a")
        .header("grpc-metadata-x-mesh-caller: spiffe://mesh.local/service/admin")
        .header("grpc-metadata-authorization: Bearer forged")
        .call();
    assert_eq!(answer.status, 200, "{answer:?}");
    let call = depot.call(1);
    assert_eq!(header(&call, "tenant"), Some("a"), "{call}");
    for name in ["x-mesh-caller", "authorization", "grpc-metadata-tenant"] {
        assert_eq!(header(&call, name), None, "{call}");
    }
}

#[test]
fn success_has_the_code_that_the_service_gives_it_and_no_other() {
    let depot = depot();
    for (code, status) in [
        ("201", 201),
        ("202", 202),
        ("204", 204),
        ("302", 200),
        ("500", 200),
        ("x", 200),
    ] {
        let answer = depot
            .get("/v1/items/box")
            .post(&json!({"code": code}).to_string())
            .call();
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.header("x-http-code"), None, "{answer:?}");
        assert_eq!(answer.body.is_empty(), status == 204, "{answer:?}");
    }
    let failed = depot
        .get("/v1/items/box")
        .post(r#"{"code": "201", "fail": "no"}"#)
        .call();
    assert_eq!(
        (failed.status, failed.header("x-http-code")),
        (400, None),
        "{failed:?}"
    );
}

#[test]
fn an_entity_tag_makes_a_second_look_cheap() {
    let depot = depot();
    let path = "/v1/items/box?etag=v1";
    let first = depot.get(path).call();
    assert_eq!(
        (first.status, first.header("etag")),
        (200, Some("\"v1\"")),
        "{first:?}"
    );
    for (condition, status) in [
        ("\"v1\"", 304),
        ("W/\"v1\"", 304),
        ("\"v0\", \"v1\"", 304),
        ("*", 304),
        ("\"v2\"", 200),
        ("v1", 200),
    ] {
        let second = depot
            .get(path)
            .header(&format!("if-none-match: {condition}"))
            .call();
        assert_eq!(second.status, status, "{condition}: {second:?}");
        assert_eq!(second.header("etag"), Some("\"v1\""));
        assert_eq!(second.body.is_empty(), status == 304, "{second:?}");
    }
    // What changes things has no second look, and its condition is the service's to judge.
    let changed = depot
        .get("/v1/items/box")
        .post(r#"{"etag": "v1"}"#)
        .header("if-none-match: \"v1\"")
        .header("if-match: \"v1\"")
        .call();
    assert_eq!(changed.status, 200, "{changed:?}");
    let calls = depot.told("call");
    assert_eq!(header(calls.last().unwrap(), "if-match"), Some("\"v1\""));
}

#[test]
fn head_has_the_headers_of_get_and_no_body() {
    let depot = depot();
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        for path in [
            "/v1/items/box",
            "/v1/items/box:watch?count=2",
            "/v1/pages/a?content_type=text/html",
        ] {
            let head = depot.get(path).with(&["--head", version]).call();
            assert_eq!((head.status, head.exit), (200, 0), "{path} {version}: {head:?}");
            assert!(
                head.body.is_empty() && head.header("content-type").is_some(),
                "{head:?}"
            );
        }
    }
}
