//! Streams over REST: in from arrays, lines, forms and raw bytes, out as arrays, lines, events and raw bytes; and that a
//! failure is always seen.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use mesh_tests::process::finish;
use mesh_tests::python::script;
use mesh_tests::{Depot, eventually};
use serde_json::{Value, json};

const BOTH: [&str; 2] = ["--http1.1", "--http2-prior-knowledge"];
/// curl's exit codes for a body that was broken off: HTTP/1.1 and HTTP/2.
const BROKEN_OFF: [i32; 2] = [18, 92];

fn depot() -> Depot {
    Depot::start(&json!({}))
}

#[test]
fn a_client_stream_that_is_none_is_refused_where_it_is_wrong_and_costs_the_service_nothing() {
    let depot = depot();
    let large = format!("[{{\"note\": \"{}\"}}]", "x".repeat(5 << 20));
    for (path, content_type, body, status) in [
        ("/v1/shelves/a/items", "application/json", r#"{"number": 1}"#, 400),
        ("/v1/shelves/a/items", "application/json", "[1]", 400),
        ("/v1/shelves/a/items", "application/json", "7", 400),
        (
            "/v1/shelves/a/items",
            "application/json",
            r#"[{"number": "x"}]"#,
            400,
        ),
        (
            "/v1/shelves/a/items",
            "application/json",
            r#"[{"name": "b"}]"#,
            400,
        ),
        (
            "/v1/shelves/a/items",
            "application/x-ndjson",
            "{\"number\": }\n",
            400,
        ),
        ("/v1/shelves/a/items?number=1", "application/json", "[]", 400),
        ("/v1/shelves/a/items", "text/plain", "[]", 415),
        (
            "/v1/shelves/a/items",
            "multipart/form-data; boundary=x",
            "--x--",
            415,
        ),
        ("/v1/shelves/a/items", "application/json", &large, 413),
    ] {
        for version in ["1.1", "2"] {
            // A connection that is closed over an unread body can take the answer with it; curl below reads while it writes.
            if (version, status) == ("1.1", 413) {
                continue;
            }
            let plan = json!({
                "version": version, "address": depot.edge.edge, "path": path,
                "headers": [["content-type", content_type]], "steps": [{"say": body}, {"end": true}],
            });
            let outcome = finish(&mut script("talk.py"), &plan.to_string()).ok().json();
            assert_eq!(outcome["status"], status, "{version} {content_type}: {outcome}");
            assert_eq!(
                lines(&outcome)[0]["code"],
                if status == 413 { 8 } else { 3 },
                "{outcome}"
            );
        }
    }
    assert!(depot.told("call").is_empty(), "{:?}", depot.told("call"));
}

#[test]
fn what_is_wrong_in_the_middle_of_a_client_stream_is_told_by_message_and_place() {
    let depot = depot();
    for version in BOTH {
        let answer = depot
            .get("/v1/shelves/a/items")
            .post(r#"[{"number": 1}, {"number": "x"}, {"number": 3}]"#)
            .with(&[version])
            .call();
        answer.is_refused(400, "request_unreadable");
        let details = answer.json()["details"].as_array().cloned().unwrap();
        assert!(
            details
                .iter()
                .any(|d| d["fieldViolations"][0]["field"] == "[1].number"),
            "{answer:?}"
        );
    }
    eventually("the service is told to stop", || {
        (depot.told("ended").len() == depot.told("call").len()).then_some(())
    });
}

#[test]
fn a_client_stream_comes_from_an_array_or_lines_and_only_the_first_message_gets_the_path() {
    let depot = depot();
    for version in BOTH {
        for (content_type, body) in [
            (
                "application/json",
                r#"[ {"number": 1}, {"number": "2"},{"number": 3, "note": "],["} ]"#,
            ),
            (
                "application/x-ndjson",
                "{\"number\": 1}\n\n{\"number\": 2}\n{\"number\": 3}",
            ),
        ] {
            let before = depot.told("item").len();
            let answer = depot
                .get("/v1/shelves/a/items")
                .with(&[version, "--data-binary", body])
                .header(&format!("content-type: {content_type}"))
                .call();
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(
                answer.json(),
                json!({"name": "a", "messages": 3, "number": "6"}),
                "{answer:?}"
            );
            let names: Vec<Value> = depot.told("item")[before..]
                .iter()
                .map(|item| item["name"].clone())
                .collect();
            assert_eq!(names, ["a", "", ""]);
        }
        for body in ["", "[]", "  "] {
            let empty = depot
                .get("/v1/shelves/a/items")
                .post(body)
                .with(&[version])
                .call();
            assert_eq!(
                (empty.status, empty.body.trim()),
                (200, "{}"),
                "{body:?}: {empty:?}"
            );
        }
    }
}

#[test]
fn a_large_client_stream_flows_through_whole() {
    let depot = depot();
    let line = format!("{{\"number\": 1, \"note\": \"{}\"}}\n", "x".repeat(1000));
    depot.folder.write("many.ndjson", line.repeat(20_000));
    let file = format!("@{}", depot.folder.join("many.ndjson").display());
    for version in BOTH {
        let answer = depot
            .get("/v1/shelves/a/items")
            .with(&[version, "--data-binary", &file])
            .header("content-type: application/x-ndjson")
            .call();
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["messages"], 20_000, "{answer:?}");
    }
}

/// What comes of speaking and listening at once; see `talk.py`.
fn talk(depot: &Depot, version: &str, path: &str, steps: &Value) -> Value {
    let plan = json!({
        "version": version,
        "address": depot.edge.edge,
        "path": path,
        "headers": [["content-type", "application/x-ndjson"], ["te", "trailers"]],
        "steps": steps,
    });
    finish(&mut script("talk.py"), &plan.to_string()).ok().json()
}

fn lines(outcome: &Value) -> Vec<Value> {
    let all = outcome["lines"].as_array().unwrap();
    all.iter()
        .map(|line| serde_json::from_str(line.as_str().unwrap()).unwrap())
        .collect()
}

#[test]
fn both_sides_talk_at_once_over_both_versions_of_http() {
    let depot = depot();
    for version in ["1.1", "2"] {
        let steps = json!([
            {"say": "{\"number\": 1}\n"}, {"hear": 1}, {"say": "{\"number\": 2}\n{\"num"}, {"hear": 1},
            {"say": "ber\": 3}\n"}, {"hear": 1}, {"end": true},
        ]);
        let outcome = talk(&depot, version, "/v1/chat/a", &steps);
        // The path is woven into the first message alone.
        let expected = [
            json!({"name": "a", "number": "1"}),
            json!({"number": "2"}),
            json!({"number": "3"}),
        ];
        assert_eq!(lines(&outcome), expected, "{version}: {outcome}");
        assert_eq!(
            (&outcome["status"], &outcome["end"]),
            (&json!(200), &json!("complete")),
            "{outcome}"
        );
    }
    eventually("the service hears the end", || {
        (depot.told("ended").len() == 2).then_some(())
    });
}

#[test]
fn a_failure_of_either_side_in_the_middle_of_a_talk_is_the_last_line() {
    let depot = depot();
    for version in ["1.1", "2"] {
        let theirs = json!([{"say": "{}\n"}, {"hear": 1}, {"say": "{\"fail\": \"no more\"}\n"}, {"hear": 1}]);
        let outcome = talk(&depot, version, "/v1/chat/a", &theirs);
        assert_eq!(lines(&outcome)[0], json!({"name": "a"}), "{outcome}");
        assert_eq!(lines(&outcome)[1]["error"]["message"], "no more", "{outcome}");
        assert_eq!(outcome["end"], "complete", "{outcome}");
        let own = json!([{"say": "{}\n"}, {"hear": 1}, {"say": "{\"number\": \"x\"}\n"}, {"hear": 1}]);
        let outcome = talk(&depot, version, "/v1/chat/a", &own);
        let error = &lines(&outcome)[1]["error"];
        assert_eq!(error["code"], 3, "{version}: {outcome}");
        assert!(
            error["message"].as_str().unwrap().contains("[1].number"),
            "{outcome}"
        );
    }
}

#[test]
fn a_server_stream_is_framed_as_accept_asks() {
    let depot = depot();
    for version in BOTH {
        for (accept, framing) in [
            ("application/json", "application/json"),
            ("text/html, application/json;q=0.9, */*;q=0.1", "application/json"),
            (
                "application/json;q=0.2, text/event-stream;q=0.8",
                "text/event-stream",
            ),
            ("application/x-ndjson", "application/x-ndjson"),
            ("*/*", "application/x-ndjson"),
            ("image/png", "application/x-ndjson"),
        ] {
            let watch = |count: u32| {
                let path = format!("/v1/items/a:watch?count={count}");
                depot
                    .get(&path)
                    .with(&[version])
                    .header(&format!("accept: {accept}"))
                    .call()
            };
            let answer = watch(2);
            assert_eq!(
                (answer.status, answer.header("content-type")),
                (200, Some(framing)),
                "{answer:?}"
            );
            let (one, two) = (r#"{"name":"a","number":"1"}"#, r#"{"name":"a","number":"2"}"#);
            let expected = match framing {
                "application/json" => format!("[{one},{two}]"),
                "text/event-stream" => format!("data: {one}\n\ndata: {two}\n\n"),
                _ => format!("{one}\n{two}\n"),
            };
            assert_eq!(answer.body, expected, "{accept}");
        }
        // Two header lines are one list.
        let two = depot.get("/v1/items/a:watch?count=1").with(&[version]);
        let two = two
            .header("accept: text/html")
            .header("accept: text/event-stream")
            .call();
        assert_eq!(two.header("content-type"), Some("text/event-stream"), "{two:?}");
    }
}

#[test]
fn a_failure_before_the_first_message_has_its_own_status_and_one_after_it_is_never_hidden() {
    let depot = depot();
    let missing = depot
        .get("/v1/items/a:watch?count=x")
        .header("accept: text/event-stream")
        .call();
    missing.is_refused(400, "request_unreadable");
    for version in BOTH {
        let watch = |accept: &str| {
            let path = "/v1/items/a:watch?fail_after=2";
            depot
                .get(path)
                .with(&[version])
                .header(&format!("accept: {accept}"))
                .call()
        };
        let lines = watch("application/x-ndjson");
        let last: Value = serde_json::from_str(lines.body.lines().last().unwrap()).unwrap();
        assert_eq!(last["error"]["code"], 14, "{lines:?}");
        assert_eq!(last["error"]["details"][1]["value"], "AP8=", "{lines:?}");
        assert_eq!((lines.status, lines.exit), (200, 0));
        let events = watch("text/event-stream");
        let (_, error) = events.body.split_once("event: error\ndata: ").unwrap();
        assert_eq!(serde_json::from_str::<Value>(error.trim()).unwrap()["code"], 14);
        let array = watch("application/json");
        assert!(BROKEN_OFF.contains(&array.exit), "{version}: {array:?}");
        assert!(serde_json::from_str::<Value>(&array.body).is_err(), "{array:?}");
    }
}

#[test]
fn each_message_is_sent_when_it_is_there() {
    let depot = depot();
    for accept in ["application/json", "application/x-ndjson", "text/event-stream"] {
        for coding in [None, Some("gzip"), Some("br"), Some("zstd")] {
            // It never ends by itself: all that is seen was sent before.
            let path = "/v1/items/a:watch?interval_ms=20";
            let mut call = depot
                .get(path)
                .header(&format!("accept: {accept}"))
                .with(&["--max-time", "1"]);
            if let Some(coding) = coding {
                call = call
                    .with(&["--compressed"])
                    .header(&format!("accept-encoding: {coding}"));
            }
            let answer = call.call();
            assert!(
                answer.body.contains("\"number\":\"3\""),
                "{accept} {coding:?}: {answer:?}"
            );
        }
    }
}

#[test]
fn events_have_ids_and_heartbeats_where_the_service_asks() {
    let plain = depot()
        .get("/v1/items/a:watch?count=1")
        .header("accept: text/event-stream")
        .call();
    assert!(!plain.body.contains("id:"), "{plain:?}");
    let depot = Depot::start(&json!({"sse": {"ids": true, "heartbeat": "1s"}}));
    let watch = |path: &str| {
        let call = depot
            .get(path)
            .header("accept: text/event-stream")
            .header("last-event-id: 7");
        call.with(&["--max-time", "4"]).call()
    };
    let answer = watch("/v1/items/a:watch?count=2&interval_ms=2500");
    assert_eq!(
        answer.header("content-type"),
        Some("text/event-stream"),
        "{answer:?}"
    );
    let events: Vec<&str> = answer.body.split("\n\n").collect();
    assert!(events[0].starts_with("id: 1\ndata: {"), "{answer:?}");
    assert_eq!(events[1..3], [":", ":"], "{answer:?}");
    assert!(events[3].starts_with("id: 2\ndata: {"), "{answer:?}");
    let call = depot.call(1);
    assert_eq!(mesh_tests::app::header(&call, "last-event-id"), Some("7"));
    let lines = depot.get("/v1/items/a:watch?count=2&interval_ms=1500").call();
    assert_eq!(lines.body.lines().count(), 2, "{lines:?}");
}

#[test]
fn a_caller_that_goes_away_ends_the_call() {
    let depot = depot();
    for version in BOTH {
        let gone = depot
            .get("/v1/items/a:watch?interval_ms=20")
            .with(&[version, "--max-time", "0.5"])
            .call();
        assert_eq!(gone.exit, 28, "{gone:?}");
    }
    eventually("the service is told", || {
        (depot.told("ended").len() == 2).then_some(())
    });
}
