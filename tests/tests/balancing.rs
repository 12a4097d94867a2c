//! Several instances, and what happens when one goes: with a goodbye, or without.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::time::Duration;

use mesh_examples::market::StreamQuotesRequest;
use mesh_tests::{App, Load, Mesh, call, eventually, for_a_while, tokens};
use serde_json::json;
use tonic::Code;

#[test]
fn two_instances_share_and_when_one_is_killed_the_other_takes_over() {
    let mesh = Mesh::with_arguments(&["--registration-grace", "2s"]);
    let mut a = mesh.quotes("a");
    let b = mesh.quotes("b");
    let caller = mesh.caller("web.portfolio");
    caller.reaches(&["a", "b"]);
    let load = Load::grpc(&caller.outbound, "market.quotes");
    eventually("both have a good part of the calls", || {
        let by = load.so_far().by;
        let (a, b) = (by.get("a")?, by.get("b")?);
        (*a > 50 && *b > 50 && a.max(b) / a.min(b) < 4).then_some(())
    });
    a.kill();
    load.goes_on();
    caller.reaches(&["b"]);
    eventually("the dead instance is gone from the registry", || {
        (mesh.instances() == ["market.quotes/b"]).then_some(())
    });
    load.goes_on();
    let tally = load.stop();
    // Only calls that were under way in it may have failed.
    assert!(tally.failures.len() <= 4, "{:?}", tally.failures);

    drop(b);
    let status = eventually("nobody is left", || caller.quote().err());
    assert_eq!(status.code(), Code::Unavailable);
}

#[test]
fn without_an_instance_the_refusal_says_so_on_both_doors() {
    let mesh = Mesh::start();
    let caller = mesh.caller("web.portfolio");
    let edge = mesh.edge();
    edge.get("/v1/quotes/ACME").call().is_refused(503, "no_instance");
    let status = caller.quote().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(
        String::from_utf8_lossy(status.details()).contains("NO_INSTANCE"),
        "{status:?}"
    );
    assert!(
        caller.scrape().contains("reason=\"no_instance\""),
        "{}",
        caller.scrape()
    );
}

#[test]
fn an_app_that_is_away_while_its_sidecar_stands_is_told_and_found_again() {
    let mesh = Mesh::start();
    let mut quotes = mesh.quotes("a");
    let caller = mesh.caller("web.portfolio");
    caller.reaches(&["a"]);
    let address = quotes.app.address.clone();
    quotes.app.process.kill();
    let status = eventually("the call fails", || caller.quote().err());
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    let mut command = mesh_tests::process::program("quotes");
    let again = mesh_tests::Process::start(
        "app again",
        command.args(["--listen", &address, "--name", "again"]),
    );
    eventually("the app is found again", || {
        caller.quote().ok().filter(|quote| quote.served_by == "again")
    });
    drop(again);
}

#[test]
fn one_of_two_instances_restarts_under_load_and_no_call_fails() {
    let mesh = Mesh::start();
    mesh.apply_file("login.yaml");
    mesh.apply_file("access.yaml");
    let mut a = mesh.quotes("a");
    let _b = mesh.quotes("b");
    let caller = mesh.caller("web.portfolio");
    let edge = mesh.edge();
    caller.reaches(&["a", "b"]);
    let grpc = Load::grpc(&caller.outbound, "market.quotes");
    let json = Load::json(&edge.edge, "/v1/quotes/ACME", tokens().get("good"));
    for _ in 0..3 {
        grpc.goes_on();
        json.goes_on();
        a.sidecar.restart();
        caller.reaches(&["a", "b"]);
    }
    grpc.goes_on();
    json.goes_on();
    grpc.stop().is_clean();
    json.stop().is_clean();
}

#[test]
fn a_caller_s_own_sidecar_ends_the_calls_it_has_when_it_is_told_to_stop() {
    let mesh = Mesh::start();
    let _quotes = mesh.quotes("a");
    let mut caller = mesh
        .sidecar("web.portfolio", "caller")
        .outbound()
        .depends(&["market.quotes"])
        .set("/drain", json!({"readinessOff": "2s", "deadline": "20s"}))
        .start();
    caller.reaches(&["a"]);
    let request = |count| StreamQuotesRequest {
        symbol: "ACME".into(),
        count,
        interval: Some(prost_types::Duration {
            seconds: 0,
            nanos: 20_000_000,
        }),
    };
    let mut stream = call::block_on(async { caller.client().stream_quotes(request(200)).await })
        .unwrap()
        .into_inner();
    assert_eq!(caller.admin_status("/ready"), 200);
    caller.process().signal("TERM");
    eventually("readiness goes off", || {
        (caller.admin_status("/ready") == 503).then_some(())
    });
    // Not ready, but serving: whoever has not heard of it yet is not turned away.
    caller.quote().unwrap();
    let received = call::block_on(async {
        let mut received = 0;
        while stream.message().await.unwrap().is_some() {
            received += 1;
        }
        received
    });
    assert_eq!(received, 200);
    assert!(caller.process().wait().success());
}

#[test]
fn a_call_that_never_ends_is_cut_at_the_deadline_of_the_drain_and_told_so() {
    let mesh = Mesh::start();
    let app = App::quotes("a");
    let mut sidecar = mesh
        .sidecar("market.quotes", "a")
        .app(&app.address)
        .set("/drain", json!({"readinessOff": "0s", "deadline": "1s"}))
        .start();
    let caller = mesh.caller("web.portfolio");
    caller.reaches(&["a"]);
    let request = StreamQuotesRequest {
        symbol: "ACME".into(),
        ..StreamQuotesRequest::default()
    };
    let mut stream = call::block_on(async { caller.client().stream_quotes(request).await })
        .unwrap()
        .into_inner();
    assert!(sidecar.process().terminate().success());
    let ended = call::block_on(async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(status) => return Some(status),
            }
        }
    });
    // An end without an error would be a lie.
    let status = ended.expect("the caller must learn that the stream was cut");
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
}

#[test]
fn an_instance_that_is_drained_by_hand_takes_no_new_calls() {
    let mesh = Mesh::start();
    let mut a = mesh.quotes("a");
    let b = App::quotes("b");
    let beside_b = mesh
        .sidecar("market.quotes", "b")
        .app(&b.address)
        .set("/drain", json!({"readinessOff": "6s", "deadline": "20s"}))
        .start();
    let caller = mesh.caller("web.portfolio");
    caller.reaches(&["a", "b"]);
    let _ = mesh_tests::Curl::get(format!("http://{}/drain", beside_b.admin))
        .method("POST")
        .call();
    caller.reaches(&["a"]);
    for_a_while(Duration::from_millis(500), "only a answers", || {
        caller.quote().unwrap().served_by == "a"
    });
    assert!(a.sidecar.process().is_running());
}
