//! xds-lite goes and comes back: nobody who calls learns of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::time::Duration;

use mesh_tests::documents::policy;
use mesh_tests::{Load, Mesh, ZooKeeper, eventually, for_a_while, tokens};
use serde_json::json;
use tonic::Code;

#[test]
fn xds_lite_is_killed_and_restarted_under_load_and_no_call_fails() {
    let mut mesh = Mesh::start();
    mesh.apply_file("login.yaml");
    mesh.apply_file("access.yaml");
    let _quotes = (mesh.quotes("a"), mesh.quotes("b"));
    let caller = mesh.caller("web.portfolio");
    let edge = mesh.edge();
    caller.reaches(&["a", "b"]);
    let grpc = Load::grpc(&caller.outbound, "market.quotes");
    let json = Load::json(&edge.edge, "/v1/quotes/ACME", tokens().get("good"));
    for _ in 0..2 {
        grpc.goes_on();
        mesh.replicas[0].kill();
        grpc.goes_on();
        json.goes_on();
        mesh.replicas[0].run();
        eventually("all sidecars are back", || {
            let status = mesh.status();
            (status["sidecars"].as_array()?.len() == 4).then_some(())
        });
        eventually("all instances are back", || {
            (mesh.instances().len() == 2).then_some(())
        });
    }
    grpc.goes_on();
    grpc.stop().is_clean();
    json.stop().is_clean();
    // And what is applied now arrives.
    mesh.apply(&policy("quotes-readers", "[]"));
    assert_eq!(caller.quote().unwrap_err().code(), Code::PermissionDenied);
}

#[test]
fn with_two_replicas_one_is_killed_and_no_instance_vanishes() {
    let zookeeper = ZooKeeper::start();
    let mut mesh = Mesh::on_zookeeper(&zookeeper.address(), 2, &[]);
    let _quotes = (mesh.quotes("a"), mesh.quotes("b"), mesh.quotes("c"));
    let caller = mesh.caller("web.portfolio");
    caller.reaches(&["a", "b", "c"]);
    let load = Load::grpc(&caller.outbound, "market.quotes");
    let all = ["market.quotes/a", "market.quotes/b", "market.quotes/c"];
    for dead in [0, 1] {
        mesh.replicas[dead].kill();
        // Longer than the session of the dead one lasts, and its grace.
        for_a_while(Duration::from_secs(15), "every instance is there", || {
            mesh.knows(1 - dead, &all)
        });
        mesh.replicas[dead].run();
        eventually("both replicas know all", || {
            (mesh.instances() == all).then_some(())
        });
        load.goes_on();
    }
    load.stop().is_clean();
    caller.reaches(&["a", "b", "c"]);
}

#[test]
fn a_replica_that_stops_in_order_hands_over_without_a_gap() {
    let zookeeper = ZooKeeper::start();
    let mut mesh = Mesh::on_zookeeper(&zookeeper.address(), 2, &[]);
    let _quotes = mesh.quotes("a");
    let caller = mesh.caller("web.portfolio");
    caller.reaches(&["a"]);
    let load = Load::grpc(&caller.outbound, "market.quotes");
    assert!(mesh.replicas[0].process().terminate().success());
    for_a_while(Duration::from_secs(12), "the instance is there", || {
        mesh.knows(1, &["market.quotes/a"])
    });
    load.goes_on();
    load.stop().is_clean();
}

#[test]
fn a_sidecar_that_restarts_while_xds_lite_is_away_serves_from_its_last_good_copy() {
    let mut mesh = Mesh::start();
    mesh.apply(&policy("portfolio-only", "[{callers: [service: web.portfolio]}]"));
    let mut quotes = mesh.quotes("a");
    let (mut caller, other) = (mesh.caller("web.portfolio"), mesh.caller("web.other"));
    caller.reaches(&["a"]);
    for sidecar in [&quotes.sidecar, &caller] {
        eventually("the last good copy is written", || {
            sidecar
                .folder
                .join("state/last-good.binpb")
                .exists()
                .then_some(())
        });
    }
    std::thread::sleep(Duration::from_secs(2));
    mesh.replicas[0].kill();
    caller.restart();
    quotes.sidecar.restart();
    eventually("the call is answered without a control plane", || {
        caller.quote().ok()
    });
    // What was denied is denied still.
    let status = eventually("the other caller is judged", || {
        other
            .quote()
            .err()
            .filter(|status| status.code() != Code::Unavailable)
    });
    assert_eq!(status.code(), Code::PermissionDenied);
}

#[test]
fn a_last_good_copy_that_is_damaged_is_ignored_loudly_and_nothing_is_served_from_it() {
    let mut mesh = Mesh::start();
    let _quotes = mesh.quotes("a");
    let mut caller = mesh.caller("web.portfolio");
    caller.reaches(&["a"]);
    let copy = caller.folder.join("state/last-good.binpb");
    eventually("the last good copy is written", || copy.exists().then_some(()));
    std::thread::sleep(Duration::from_secs(2));
    mesh.replicas[0].kill();
    caller.process().kill();
    let whole = std::fs::read(&copy).unwrap();
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    for damaged in [
        &flipped[..],
        &whole[..whole.len() / 2],
        b"",
        b"\xff\xfe not a copy",
    ] {
        std::fs::write(&copy, damaged).unwrap();
        caller.launch();
        let line = caller.process().says(&["last-good.binpb"]);
        assert!(line.contains("WARN") || line.contains("ERROR"), "{line}");
        assert_eq!(
            eventually("the admin port answers", || Some(caller.admin_status("/ready"))
                .filter(|s| *s != 0)),
            503
        );
        assert_eq!(caller.quote().unwrap_err().code(), Code::Unavailable);
        caller.process().kill();
    }
    // Whole again, it serves; and once xds-lite is back, so does the damaged one.
    std::fs::write(&copy, &whole).unwrap();
    caller.launch();
    eventually("the call is answered from the whole copy", || caller.quote().ok());
    caller.process().kill();
    std::fs::write(&copy, &flipped).unwrap();
    caller.launch();
    mesh.replicas[0].run();
    eventually("the call is answered", || caller.quote().ok());
}

#[test]
fn a_first_start_without_xds_lite_is_not_ready_and_refuses_until_it_comes() {
    let mut mesh = Mesh::start();
    let token = mesh.join_token("web.portfolio");
    let mut caller = {
        let plan = mesh
            .sidecar("web.portfolio", "caller")
            .outbound()
            .depends(&["market.quotes"]);
        mesh.replicas[0].kill();
        plan.launch()
    };
    let _ = token;
    let line = caller.process().says(&["cannot reach xds-lite"]);
    assert!(line.contains(&mesh.replicas[0].grpc), "{line}");
    let ready = eventually("the admin port answers", || {
        Some(caller.admin_status("/ready")).filter(|s| *s != 0)
    });
    assert_eq!(ready, 503);
    assert_eq!(caller.admin_status("/live"), 200);
    assert_eq!(caller.quote().unwrap_err().code(), Code::Unavailable);
    mesh.replicas[0].run();
    let _quotes = mesh.quotes("a");
    eventually("the call is answered", || caller.quote().ok());
    assert_eq!(caller.admin_status("/ready"), 200);
}

#[test]
fn certificates_are_renewed_while_calls_go_on() {
    let mesh = Mesh::with_arguments(&["--certificate-lifetime", "12s"]);
    let mut quotes = mesh.quotes("a");
    let mut caller = mesh.caller("web.portfolio");
    caller.reaches(&["a"]);
    let load = Load::grpc(&caller.outbound, "market.quotes");
    for sidecar in [&mut quotes.sidecar, &mut caller] {
        eventually("the certificate is renewed twice", || {
            let lines = sidecar.process().lines();
            (lines
                .iter()
                .filter(|line| line.contains("certificate of"))
                .count()
                >= 4)
                .then_some(())
        });
    }
    load.goes_on();
    load.stop().is_clean();
}

#[test]
fn a_service_nobody_declared_is_learnt_on_first_use() {
    let mesh = Mesh::start();
    let _quotes = mesh.quotes("a");
    let caller = mesh.sidecar("web.portfolio", "caller").outbound().start();
    let quote = caller.quote().unwrap();
    assert_eq!(quote.served_by, "a");
}

#[test]
fn an_expired_or_foreign_join_token_is_refused_with_one_clear_line() {
    let mesh = Mesh::start();
    let file = mesh.folder.join("short");
    let path = file.to_str().unwrap();
    let _ = mesh
        .ctl(&[
            "token",
            "create",
            "--service",
            "web.portfolio",
            "--lifetime",
            "1s",
            "--file",
            path,
        ])
        .ok();
    std::thread::sleep(Duration::from_secs(3));
    let mut late = mesh
        .sidecar("web.portfolio", "late")
        .outbound()
        .set("/control/joinToken", json!({"file": path}))
        .launch();
    let line = late.process().says(&["token", "expired"]);
    assert!(line.contains("mesh-ctl token create"), "{line}");
    // A token for one service does not make a sidecar of another.
    let foreign = mesh.join_token("market.quotes");
    let mut wrong = mesh
        .sidecar("web.portfolio", "wrong")
        .outbound()
        .set("/control/joinToken", json!({"file": foreign}))
        .launch();
    let line = wrong
        .process()
        .says(&["is for spiffe://mesh.local/service/market.quotes"]);
    assert!(
        line.contains("was the join token made for this service?"),
        "{line}"
    );
    for sidecar in [&late, &wrong] {
        assert_ne!(sidecar.admin_status("/ready"), 200);
    }
}

#[test]
fn a_wrong_authority_is_told_with_the_fix() {
    let mesh = Mesh::start();
    mesh_tests::mesh::create_authority(&mesh.folder.join("other"));
    let mut stranger = mesh
        .sidecar("web.portfolio", "stranger")
        .outbound()
        .set("/control/ca", json!(mesh.folder.join("other/ca.pem")))
        .launch();
    let line = stranger.process().says(&["authority"]);
    assert!(line.contains("ca.pem"), "{line}");
    assert_ne!(stranger.admin_status("/ready"), 200);
    let other = mesh.folder.join("other");
    let (other, server) = (other.to_str().unwrap(), &mesh.replicas[0].grpc);
    let told = mesh_tests::run("mesh-ctl", ["--server", server, "--credentials", other, "status"]);
    assert_eq!(told.code, Some(3), "{told:?}");
    assert!(told.stderr.contains("authority"), "{told:?}");
}
