//! Every switch of a service for HTTP/JSON callers, before a real gRPC server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use mesh_tests::{Answer, Depot};
use serde_json::{Value, json};

/// What comes of this body at a depot with these switches.
fn switched(rest: &Value, query: &str, body: &str) -> Answer {
    let depot = Depot::start(rest);
    let answer = depot.get(&format!("/v1/items/box{query}")).post(body).call();
    drop(depot);
    answer
}

#[test]
fn switches_of_what_is_read_do_what_they_say() {
    for (switch, query, body) in [
        (json!({"unknownFields": "reject"}), "", r#"{"colour": "red"}"#),
        (json!({}), "", r#"{"note": "a", "note": "b"}"#),
    ] {
        switched(&switch, query, body).is_refused(400, "request_unreadable");
    }
    let dropped = switched(&json!({}), "", r#"{"colour": "red", "note": "a"}"#);
    assert_eq!(
        (dropped.status, dropped.header("x-mesh-dropped")),
        (200, Some("colour")),
        "{dropped:?}"
    );
    let lenient = json!({
        "unknownQuery": "ignore", "unknownEnums": "ignore", "duplicateKeys": "last", "excessBody": "ignore",
    });
    let answer = switched(
        &lenient,
        "",
        r#"{"grade": "GRADE_SUPERB", "note": "a", "note": "b"}"#,
    );
    assert_eq!(
        (answer.status, &answer.json()["note"]),
        (200, &json!("b")),
        "{answer:?}"
    );
    let depot = Depot::start(&lenient);
    let answer = depot.get("/v1/items/box?colour=red&note=a").call();
    assert_eq!(
        (answer.status, &answer.json()["note"]),
        (200, &json!("a")),
        "{answer:?}"
    );
    assert_eq!(answer.header("x-mesh-dropped"), Some("colour"), "{answer:?}");
    let excess = depot.get("/v1/items/box").post("{}").method("GET").call();
    assert_eq!(excess.status, 200, "{excess:?}");
    let named = Depot::start(&json!({"ignoredQuery": ["utm_source"], "plusInQuery": "literal"}));
    let answer = named.get("/v1/items/box?utm_source=x&note=a+b").call();
    assert_eq!(
        (answer.status, &answer.json()["note"]),
        (200, &json!("a+b")),
        "{answer:?}"
    );
    named
        .get("/v1/items/box?utm_medium=x")
        .call()
        .is_refused(400, "request_unreadable");
}

#[test]
fn switches_of_what_is_written_do_what_they_say() {
    let body = r#"{"grade": "GRADE_GOOD"}"#;
    let plain = switched(&json!({}), "", body).json();
    assert_eq!(plain, json!({"name": "box", "grade": "GRADE_GOOD"}));
    let numbers = switched(&json!({"enumsAsNumbers": true}), "", body).json();
    assert_eq!(numbers["grade"], 1);
    let short = switched(
        &json!({"enumPrefix": "strip", "enumCase": "any"}),
        "",
        r#"{"grade": "good"}"#,
    )
    .json();
    assert_eq!(short["grade"], "GOOD");
    let all = switched(&json!({"printDefaults": true}), "", body).json();
    assert_eq!(
        (&all["fragile"], &all["number"], &all["tags"]),
        (&json!(false), &json!("0"), &json!([]))
    );
    let proto = Depot::start(&json!({"protoNames": true}));
    let summary = proto.get("/v1/shelves/a/store").post("{}").call();
    assert_eq!(summary.json()["content_type"], "application/json", "{summary:?}");
}

#[test]
fn a_method_without_a_rule_is_called_by_its_name_where_the_service_allows() {
    for (switch, status) in [(json!({}), 404), (json!({"unannotated": true}), 200)] {
        let depot = Depot::start(&switch);
        let answer = depot
            .get("/depot.v1.Depot/Bare")
            .post(r#"{"name": "box"}"#)
            .call();
        assert_eq!(answer.status, status, "{switch}: {answer:?}");
    }
}
