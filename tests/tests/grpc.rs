//! gRPC through two sidecars and mTLS, with clients nobody here wrote: nothing is lost on the way.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::time::Duration;

use mesh_examples::market::{GetQuoteRequest, StreamQuotesRequest, Trade};
use mesh_tests::app::header;
use mesh_tests::python::grpcio;
use mesh_tests::{GrpcioApp, Mesh, Sidecar, call, eventually};
use serde_json::{Value, json};
use tokio_stream::StreamExt;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request};

/// A caller and an app on grpcio, with a sidecar each.
struct Pair {
    caller: Sidecar,
    app: GrpcioApp,
    _beside_app: Sidecar,
    _mesh: Mesh,
}

fn pair() -> Pair {
    let mesh = Mesh::start();
    let app = GrpcioApp::new();
    let beside_app = mesh.sidecar("market.quotes", "py").app(&app.address).start();
    let caller = mesh.caller("web.portfolio");
    caller.reaches(&["grpcio"]);
    Pair {
        caller,
        app,
        _beside_app: beside_app,
        _mesh: mesh,
    }
}

/// What the last call told that the app saw of this method.
fn last(app: &GrpcioApp, method: &str) -> Value {
    let mut calls = app.told("call");
    calls.retain(|call| call["method"] == method);
    calls.pop().unwrap()
}

fn value<'a>(pairs: &'a Value, name: &str) -> Option<&'a str> {
    let pairs = pairs.as_array()?;
    pairs.iter().find(|pair| pair[0] == name)?[1].as_str()
}

#[test]
fn all_four_call_kinds_pass_between_grpcio_and_grpcio_with_metadata_and_trailers() {
    let pair = pair();
    let call = |method: &str, requests: Value| {
        json!({
            "target": pair.caller.outbound, "method": method, "requests": requests,
            "metadata": [["x-colour", "blue"], ["x-colour", "green"]],
        })
    };
    let symbol = |symbol: &str| json!({"symbol": symbol});
    let outcomes = grpcio(&json!([
        call("GetQuote", json!([symbol("ACME")])),
        call("StreamQuotes", json!([{"symbol": "ACME", "count": 5}])),
        call(
            "RecordTrades",
            json!([{"symbol": "ACME", "quantity": 2}, {"symbol": "BORK", "quantity": 3}])
        ),
        call(
            "Converse",
            json!([symbol("ACME"), symbol("BORK"), symbol("CRAN")])
        ),
    ]));
    let replies: Vec<&Value> = outcomes.iter().map(|outcome| &outcome["replies"]).collect();
    assert_eq!(replies[0], &json!([{"symbol": "ACME", "servedBy": "grpcio"}]));
    assert_eq!(replies[1].as_array().unwrap().len(), 5);
    assert_eq!(replies[1][4]["sequence"], "5");
    assert_eq!(replies[2], &json!([{"trades": "2", "quantity": "5"}]));
    assert_eq!(
        replies[3][2],
        json!({"symbol": "CRAN", "sequence": "3", "servedBy": "grpcio"})
    );
    for outcome in &outcomes {
        assert_eq!(outcome["code"], "OK", "{outcome}");
        assert_eq!(
            value(&outcome["initial"], "x-app-initial"),
            Some("first"),
            "{outcome}"
        );
        assert_eq!(
            value(&outcome["trailing"], "x-app-trailing"),
            Some("last"),
            "{outcome}"
        );
        // 00 01 fe
        assert_eq!(
            value(&outcome["trailing"], "x-app-bytes-bin"),
            Some("AAH+"),
            "{outcome}"
        );
    }
    let seen = last(&pair.app, "Converse");
    assert_eq!(
        header(&seen, "x-mesh-caller"),
        Some("spiffe://mesh.local/service/web.portfolio")
    );
    let colours: Vec<&Value> = seen["metadata"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|p| p[0] == "x-colour")
        .map(|p| &p[1])
        .collect();
    assert_eq!(colours, ["blue", "green"]);
}

#[test]
fn an_error_arrives_with_its_code_message_and_details() {
    let pair = pair();
    let outcomes = grpcio(&json!([
        {"target": pair.caller.outbound, "method": "GetQuote", "requests": [{"symbol": "DETAILS"}]},
    ]));
    assert_eq!(outcomes[0]["code"], "FAILED_PRECONDITION");
    assert_eq!(outcomes[0]["message"], "market is closed: 50% off — später");
    assert!(
        value(&outcomes[0]["trailing"], "grpc-status-details-bin").is_some(),
        "{}",
        outcomes[0]
    );
    assert_eq!(value(&outcomes[0]["trailing"], "x-app-trailing"), Some("last"));
    let status = call::get_quote(&pair.caller.client(), "DETAILS").unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::FailedPrecondition, "market is closed: 50% off — später")
    );
    assert!(!status.details().is_empty());
}

#[test]
fn a_deadline_shrinks_on_the_way_and_ends_the_call_everywhere() {
    let pair = pair();
    let outcomes = grpcio(&json!([
        {"target": pair.caller.outbound, "method": "GetQuote", "requests": [{"symbol": "ACME"}], "timeout": 5},
        {"target": pair.caller.outbound, "method": "GetQuote", "requests": [{"symbol": "SLOW"}], "timeout": 0.5},
    ]));
    assert_eq!(outcomes[0]["code"], "OK");
    let calls = pair.app.told("call");
    let [.., quick, slow] = calls.as_slice() else {
        panic!()
    };
    let remaining = quick["remaining"].as_f64().unwrap();
    assert!(remaining > 0.0 && remaining < 5.0, "{quick}");
    assert_eq!(outcomes[1]["code"], "DEADLINE_EXCEEDED", "{}", outcomes[1]);
    assert!(slow["remaining"].as_f64().unwrap() < 0.5, "{slow}");
    eventually("the app learns that the call has ended", || {
        pair.app
            .told("ended")
            .iter()
            .any(|told| told["active"] == false)
            .then_some(())
    });
}

#[test]
fn a_call_without_a_deadline_gets_the_timeout_of_its_service() {
    let pair = pair();
    // Two seconds, as its document says.
    let outcome = call::block_on(async {
        let mut client = pair.caller.client();
        client
            .get_quote(GetQuoteRequest {
                symbol: "SLOW".into(),
            })
            .await
    });
    let status = outcome.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    let seen = last(&pair.app, "GetQuote");
    assert!(
        seen["remaining"].as_f64().is_some_and(|left| left <= 2.0),
        "{seen}"
    );
    // A stream is not bounded by it.
    let outcomes = grpcio(&json!([
        {"target": pair.caller.outbound, "method": "StreamQuotes", "requests": [{"symbol": "ACME", "count": 450}]},
    ]));
    assert_eq!(
        (
            &outcomes[0]["code"],
            outcomes[0]["replies"].as_array().unwrap().len()
        ),
        (&json!("OK"), 450)
    );
}

#[test]
fn a_malformed_deadline_is_refused_and_never_reaches_the_app() {
    let pair = pair();
    let before = pair.app.told("call").len();
    let status = call::block_on(async {
        let mut request = Request::new(GetQuoteRequest {
            symbol: "ACME".into(),
        });
        request
            .metadata_mut()
            .insert("grpc-timeout", MetadataValue::from_static("soon"));
        pair.caller.client().get_quote(request).await.unwrap_err()
    });
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert_eq!(pair.app.told("call").len(), before);
}

#[test]
fn who_cancels_is_heard_by_the_app() {
    let pair = pair();
    let outcomes = grpcio(&json!([
        {"target": pair.caller.outbound, "method": "StreamQuotes", "requests": [{"symbol": "ACME"}], "cancel_after": 3},
        {"target": pair.caller.outbound, "method": "GetQuote", "requests": [{"symbol": "SLOW"}], "cancel_after_s": 0.3},
    ]));
    assert_eq!(outcomes[0]["code"], "CANCELLED", "{}", outcomes[0]);
    assert_eq!(outcomes[1]["code"], "CANCELLED", "{}", outcomes[1]);
    for method in ["StreamQuotes", "GetQuote"] {
        eventually(
            &format!("the app learns that {method} is not wanted any more"),
            || {
                pair.app
                    .told("ended")
                    .iter()
                    .any(|told| told["method"] == method)
                    .then_some(())
            },
        );
    }
}

#[test]
fn all_four_call_kinds_pass_with_tonic_on_both_sides() {
    let mesh = Mesh::start();
    let _quotes = mesh.quotes("a");
    let caller = mesh.caller("web.portfolio");
    caller.reaches(&["a"]);
    let ask = |symbol: &str| GetQuoteRequest {
        symbol: symbol.into(),
    };
    let quote = caller.quote().unwrap();
    assert_eq!(
        (quote.served_by.as_str(), quote.asked_by.as_str()),
        ("a", "spiffe://mesh.local/service/web.portfolio")
    );
    call::block_on(async {
        let mut client = caller.client();
        let interval = Some(prost_types::Duration {
            seconds: 0,
            nanos: 1_000_000,
        });
        let request = StreamQuotesRequest {
            symbol: "ACME".into(),
            count: 50,
            interval,
        };
        let stream = client.stream_quotes(request).await.unwrap().into_inner();
        assert_eq!(stream.collect::<Result<Vec<_>, _>>().await.unwrap().len(), 50);

        let trade = |quantity| Trade {
            symbol: "ACME".into(),
            quantity,
            price: 2.0,
        };
        let trades = tokio_stream::iter([1, 2, 3].map(trade));
        let summary = client.record_trades(trades).await.unwrap().into_inner();
        assert_eq!((summary.trades, summary.quantity), (3, 6));

        // A conversation: no question is asked before the answer to the one before is there.
        let (questions, stream) = tokio::sync::mpsc::channel(1);
        let stream = tokio_stream::wrappers::ReceiverStream::new(stream);
        questions.send(ask("ACME")).await.unwrap();
        let mut answers = client.converse(stream).await.unwrap().into_inner();
        for next in ["BORK", "CRAN", "NOPE"] {
            answers.message().await.unwrap().unwrap();
            questions.send(ask(next)).await.unwrap();
        }
        let status = answers.message().await.unwrap_err();
        assert_eq!(
            (status.code(), status.message()),
            (Code::NotFound, "\"NOPE\" is not traded here")
        );
    });
}

#[test]
fn a_large_message_passes_both_ways_through_flow_control() {
    let mesh = Mesh::start();
    let _quotes = mesh.quotes("a");
    let caller = mesh.caller("web.portfolio");
    caller.reaches(&["a"]);
    let summary = call::block_on(async {
        let trade = |quantity| Trade {
            symbol: "ACME".into(),
            quantity,
            price: 1.0,
        };
        let trades = tokio_stream::iter((1..=20_000).map(trade));
        let mut client = caller.client();
        let called = client.record_trades(trades);
        tokio::time::timeout(Duration::from_secs(60), called)
            .await
            .unwrap()
            .unwrap()
            .into_inner()
    });
    assert_eq!(summary.trades, 20_000);
}

#[test]
fn grpc_with_json_frames_and_services_nobody_knows_are_told_apart() {
    let mesh = Mesh::start();
    let quotes = mesh.quotes("a");
    let caller = mesh.caller("web.portfolio");
    caller.reaches(&["a"]);
    let nowhere = call::get_quote(&call::client(&caller.outbound, "market.nowhere"), "ACME").unwrap_err();
    assert_eq!(nowhere.code(), Code::Unavailable, "{nowhere:?}");
    assert!(nowhere.message().contains("market.nowhere"), "{nowhere:?}");
    let odd = call::get_quote(&call::client(&caller.outbound, "127.0.0.1"), "ACME").unwrap_err();
    assert_eq!(odd.code(), Code::Unavailable, "{odd:?}");
    let before = quotes.app.calls();
    // A method that is in no schema does not reach the app either.
    let answer = mesh_tests::Curl::get(format!("http://{}/market.v1.Quotes/Nothing", caller.outbound))
        .with(&["--http2-prior-knowledge", "--data-binary", ""])
        .header("host: market.quotes")
        .header("content-type: application/grpc")
        .header("te: trailers")
        .call();
    assert_eq!(
        (answer.status, answer.header("grpc-status")),
        (200, Some("12")),
        "{answer:?}"
    );
    assert_eq!(quotes.app.calls(), before);
}
