//! Streams over WebSocket at the edge, with Python's websockets: who may open one, what is said, and how it ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use mesh_tests::app::header;
use mesh_tests::documents::policy;
use mesh_tests::process::finish;
use mesh_tests::python::script;
use mesh_tests::{Depot, eventually};
use serde_json::{Value, json};

fn depot() -> Depot {
    Depot::start(&json!({}))
}

/// What comes of a plan; see `websocket.py`.
fn speak(depot: &Depot, path: &str, more: &Value, steps: &Value) -> Value {
    let mut plan = json!({"url": depot.url(path).replace("http://", "ws://"), "steps": steps});
    plan.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    finish(&mut script("websocket.py"), &plan.to_string()).ok().json()
}

fn steps(depot: &Depot, path: &str, steps: &Value) -> Value {
    speak(depot, path, &json!({}), steps)
}

/// What was heard, as JSON.
fn heard(outcome: &Value) -> Vec<Value> {
    let all = outcome["heard"].as_array().unwrap();
    all.iter()
        .map(|text| serde_json::from_str(text.as_str().unwrap()).unwrap())
        .collect()
}

#[test]
fn a_page_of_a_foreign_origin_may_not_and_nobody_is_called() {
    let cors = |plan: mesh_tests::SidecarPlan| {
        plan.set("/edge/cors", json!({"origins": ["https://app.example.com"]}))
    };
    let with = Depot::with_edge(&json!({}), cors);
    let without = depot();
    for depot in [&with, &without] {
        for origin in ["https://evil.net", "null", "https://app.example.com.evil.net"] {
            let refused = speak(
                depot,
                "/v1/chat/a",
                &json!({"origin": origin}),
                &json!([{"say": "{}"}]),
            );
            assert_eq!(
                (&refused["status"], &refused["body"]["code"]),
                (&json!(403), &json!(7)),
                "{refused}"
            );
        }
        assert!(depot.told("call").is_empty());
    }
    let allowed = speak(
        &with,
        "/v1/chat/a",
        &json!({"origin": "https://app.example.com"}),
        &json!([{"say": "{}"}, {"hear": 1}, {"say": ""}]),
    );
    assert_eq!(
        (&allowed["status"], &allowed["code"]),
        (&json!(101), &json!(1000)),
        "{allowed}"
    );
    let own = speak(
        &without,
        "/v1/chat/a",
        &json!({"origin": format!("http://{}", without.edge.edge)}),
        &json!([{"say": "{}"}, {"hear": 1}, {"say": ""}]),
    );
    assert_eq!(own["status"], 101, "{own}");
}

#[test]
fn the_gates_judge_it_like_any_call_and_paths_that_do_not_stream_are_refused() {
    let depot = depot();
    for (path, status) in [
        ("/v1/nothing", 404),
        ("/v1/items/a", 501),
        ("/v1/shelves/a/upload", 501),
        ("/v1/files/a", 501),
    ] {
        let refused = steps(&depot, path, &json!([]));
        assert_eq!(refused["status"], status, "{path}: {refused}");
    }
    let old = depot
        .get("/v1/chat/a")
        .header("connection: upgrade")
        .header("upgrade: websocket");
    old.header("sec-websocket-version: 8")
        .call()
        .is_refused(400, "request_malformed");
    depot.folder.write(
        "documents/access.yaml",
        policy("nobody", "[]").replace("market.quotes", "depot"),
    );
    eventually("the policy is in force", || {
        (steps(&depot, "/v1/chat/a", &json!([{"close": 1000}]))["status"] == 403).then_some(())
    });
    // A socket is answered before anything is said on it: what it will ask for cannot be judged.
    let rules = "[{methods: [depot.v1.Depot/*], fields: {name: {values: [a]}}}]";
    depot.folder.write(
        "documents/access.yaml",
        policy("by-field", rules).replace("market.quotes", "depot"),
    );
    let watch = "/v1/items/a:watch?count=1";
    eventually("the policy is in force", || {
        (depot.get(watch).call().status == 200).then_some(())
    });
    assert_eq!(steps(&depot, watch, &json!([]))["status"], 403);
}

#[test]
fn a_header_that_stands_for_a_field_fills_the_first_message_alone_and_is_not_contradicted() {
    let depot = Depot::start(&json!({"requestHeaders": [{"header": "x-number", "field": "number"}]}));
    let headers = json!({"headers": [["x-number", "7"]]});
    let outcome = speak(
        &depot,
        "/v1/chat/a",
        &headers,
        &json!([{"say": "{}"}, {"hear": 1}, {"say": "{}"}, {"hear": 1}, {"say": ""}]),
    );
    assert_eq!(
        heard(&outcome),
        [json!({"name": "a", "number": "7"}), json!({})],
        "{outcome}"
    );
    let refused = speak(
        &depot,
        "/v1/chat/a",
        &headers,
        &json!([{"say": r#"{"number": 8}"#}]),
    );
    let told = heard(&refused)[0]["error"]["message"].to_string();
    assert!(
        told.contains("differs from the value in the header x-number"),
        "{refused}"
    );
    let refused = speak(
        &depot,
        "/v1/chat/a",
        &json!({"headers": [["x-number", "seven"]]}),
        &json!([]),
    );
    assert_eq!(refused["code"], 4003, "{refused}");
    let told = heard(&refused)[0]["error"]["message"].to_string();
    assert!(told.contains("the header x-number must be a number"), "{refused}");
}

#[test]
fn both_sides_talk_and_the_path_is_woven_into_the_first_message_alone() {
    let depot = depot();
    let outcome = speak(
        &depot,
        "/v1/chat/a",
        &json!({"subprotocols": ["chat", "json"], "headers": [["x-tenant", "t"]]}),
        &json!([
            {"say": r#"{"number": 1}"#}, {"hear": 1}, {"ping": true}, {"say": r#"{"number": 2}"#}, {"hear": 1}, {"say": ""},
        ]),
    );
    assert_eq!(
        heard(&outcome),
        [json!({"name": "a", "number": "1"}), json!({"number": "2"})],
        "{outcome}"
    );
    assert_eq!(
        (&outcome["code"], &outcome["subprotocol"]),
        (&json!(1000), &json!("json")),
        "{outcome}"
    );
    let call = depot.call(1);
    assert_eq!(header(&call, "x-tenant"), Some("t"));
    for name in [
        "sec-websocket-key",
        "sec-websocket-version",
        "upgrade",
        "connection",
    ] {
        assert_eq!(header(&call, name), None, "{call}");
    }
    eventually("the service hears the end", || {
        (depot.told("ended").len() == 1).then_some(())
    });
}

#[test]
fn one_side_may_stream_alone() {
    let depot = depot();
    let filled = steps(
        &depot,
        "/v1/shelves/a/items",
        &json!([{"say": r#"{"number": 1}"#}, {"say": r#"{"number": 2}"#}, {"say": ""}]),
    );
    assert_eq!(
        heard(&filled),
        [json!({"name": "a", "messages": 2, "number": "3"})],
        "{filled}"
    );
    assert_eq!(filled["code"], 1000);
    let watched = steps(&depot, "/v1/items/a:watch?count=3", &json!([]));
    let numbers: Vec<Value> = heard(&watched)
        .iter()
        .map(|item| item["number"].clone())
        .collect();
    assert_eq!(
        (numbers, &watched["code"]),
        (vec![json!("1"), json!("2"), json!("3")], &json!(1000)),
        "{watched}"
    );
}

#[test]
fn a_failure_of_the_service_is_the_last_message_and_the_code_of_the_close() {
    let depot = depot();
    let watched = steps(&depot, "/v1/items/a:watch?fail_after=2", &json!([]));
    let all = heard(&watched);
    assert_eq!(all.len(), 3, "{watched}");
    assert_eq!(all[2]["error"]["code"], 14);
    assert_eq!(all[2]["error"]["details"][1]["value"], "AP8=");
    assert_eq!(
        (&watched["code"], &watched["reason"]),
        (&json!(4014), &json!("the depot is gone")),
        "{watched}"
    );
    let at_once = steps(&depot, "/v1/chat/a", &json!([{"say": r#"{"fail": "no"}"#}]));
    assert_eq!(
        (&heard(&at_once)[0]["error"]["message"], &at_once["code"]),
        (&json!("no"), &json!(4003)),
        "{at_once}"
    );
}

#[test]
fn what_a_caller_says_wrong_is_told_by_message_and_field() {
    let depot = depot();
    for (say, field) in [
        (
            json!([{"say": "{}"}, {"hear": 1}, {"say": r#"{"number": "x"}"#}]),
            "[1].number",
        ),
        (json!([{"say": "no json"}]), "[0]"),
        (json!([{"say": r#"{"name": "b"}"#}]), "[0].name"),
    ] {
        let outcome = steps(&depot, "/v1/chat/a", &say);
        let all = heard(&outcome);
        let error = &all.last().unwrap()["error"];
        assert_eq!(
            (&error["code"], &outcome["code"]),
            (&json!(3), &json!(4003)),
            "{outcome}"
        );
        assert!(
            error["details"]
                .as_array()
                .unwrap()
                .iter()
                .any(|d| d["fieldViolations"][0]["field"] == field),
            "{outcome}"
        );
    }
    let query = steps(&depot, "/v1/items/a:watch?count=x", &json!([]));
    assert_eq!(query["code"], 4003, "{query}");
    let bytes = steps(&depot, "/v1/chat/a", &json!([{"bytes": "00ff"}]));
    assert_eq!(bytes["code"], 1003, "{bytes}");
    let large = steps(&depot, "/v1/chat/a", &json!([{"say": "x".repeat((4 << 20) + 1)}]));
    assert_eq!(large["code"], 1009, "{large}");
    let more = steps(
        &depot,
        "/v1/shelves/a/items",
        &json!([{"say": ""}, {"say": "{}"}]),
    );
    assert!([json!(1008), json!(1000)].contains(&more["code"]), "{more}");
}

#[test]
fn a_caller_that_closes_ends_the_call() {
    let depot = depot();
    let closed = steps(
        &depot,
        "/v1/items/a:watch?interval_ms=10",
        &json!([{"hear": 2}, {"close": 1000}]),
    );
    assert_eq!(closed["code"], 1000, "{closed}");
    eventually("the service is told", || {
        (depot.told("ended").len() == 1).then_some(())
    });
}

#[test]
fn a_caller_that_talks_faster_than_the_service_listens_loses_nothing() {
    let depot = depot();
    let note = "x".repeat(10_000);
    let mut all: Vec<Value> = (0..500)
        .map(|n| json!({"say": json!({"number": n, "note": note}).to_string()}))
        .collect();
    all.push(json!({"say": ""}));
    let outcome = steps(&depot, "/v1/shelves/a/items", &json!(all));
    assert_eq!(heard(&outcome)[0]["messages"], 500, "{}", outcome["code"]);
}
