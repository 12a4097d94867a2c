//! A real ZooKeeper that dies, forgets and lies, and kazoo, who reads and writes the same nodes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::time::Duration;

use mesh_tests::documents::policy;
use mesh_tests::zookeeper::TICK;
use mesh_tests::{App, Kazoo, Load, Mesh, Proxy, ZooKeeper, eventually, for_a_while, tokens};
use serde_json::{Value, json};
use tonic::Code;

/// A session's time, as the meshes of these tests ask for it.
const SESSION: Duration = Duration::from_secs(3);

fn faults(mesh: &Mesh) -> String {
    mesh.ctl(&["status", "-o", "json"]).stdout
}

#[test]
fn zookeeper_is_killed_and_restarted_under_traffic_and_nobody_notices() {
    let mut zookeeper = ZooKeeper::start();
    let mesh = Mesh::on_zookeeper(&zookeeper.address(), 1, &[]);
    mesh.apply_file("login.yaml");
    mesh.apply_file("access.yaml");
    let _quotes = (mesh.quotes("a"), mesh.quotes("b"));
    let caller = mesh.caller("web.portfolio");
    let edge = mesh.edge();
    caller.reaches(&["a", "b"]);
    let grpc = Load::grpc(&caller.outbound, "market.quotes");
    let json = Load::json(&edge.edge, "/v1/quotes/ACME", tokens().get("good"));
    let both = ["market.quotes/a", "market.quotes/b"];

    // Briefly: the session is still there when it comes back.
    zookeeper.restart();
    grpc.goes_on();
    eventually("xds-lite is in contact again", || {
        (mesh.status()["replicas"][0]["registry"]["connected"] == true
            || faults(&mesh).contains("\"connected\": true"))
        .then_some(())
    });
    assert_eq!(mesh.instances(), both);

    // For much longer than the session lasts.
    zookeeper.kill();
    for_a_while(3 * SESSION, "both instances are there", || {
        mesh.instances() == both
    });
    let told = mesh.ctl_with(&["apply", "-f", "-"], &policy("late", "[]"));
    assert_ne!(told.code, Some(0), "a write cannot go through: {told:?}");
    zookeeper.run();
    let _late = mesh.quotes("c");
    for_a_while(2 * SESSION, "all three are there", || mesh.instances().len() == 3);
    // The policy lets web.portfolio call, and c takes its share.
    caller.reaches(&["a", "b", "c"]);
    mesh.apply_file("access.yaml");
    grpc.goes_on();
    json.goes_on();
    grpc.stop().is_clean();
    json.stop().is_clean();
    let mut kazoo = Kazoo::connect(&zookeeper);
    assert_eq!(kazoo.children("/mesh/instances/market.quotes"), ["a", "b", "c"]);
}

#[test]
fn a_session_that_zookeeper_expires_loses_no_instance_and_no_call() {
    let zookeeper = ZooKeeper::start();
    let wire = Proxy::to(zookeeper.address());
    let mut mesh = Mesh::on_zookeeper(&wire.address(), 1, &[]);
    let _quotes = (mesh.quotes("a"), mesh.quotes("b"));
    let caller = mesh.caller("web.portfolio");
    caller.reaches(&["a", "b"]);
    let load = Load::grpc(&caller.outbound, "market.quotes");
    let both = ["market.quotes/a", "market.quotes/b"];
    let mut kazoo = Kazoo::connect(&zookeeper);
    let owner = kazoo.get("/mesh/instances/market.quotes/a")["stat"]["owner"].clone();

    // xds-lite lives, and cannot be heard: ZooKeeper lets its session die, and the nodes with it.
    wire.cut();
    eventually("ZooKeeper has expired the session", || {
        (!kazoo.exists("/mesh/instances/market.quotes/a")).then_some(())
    });
    assert_eq!(mesh.instances(), both);
    load.goes_on();
    wire.mend();
    eventually("the instances are registered in a new session", || {
        (kazoo.children("/mesh/instances/market.quotes") == ["a", "b"]).then_some(())
    });
    assert_ne!(
        kazoo.get("/mesh/instances/market.quotes/a")["stat"]["owner"],
        owner
    );
    for_a_while(2 * SESSION, "both instances are there", || {
        mesh.instances() == both
    });

    // A process that stands still does not know that time passes.
    mesh.replicas[0].process().signal("STOP");
    eventually("ZooKeeper has expired the session again", || {
        (!kazoo.exists("/mesh/instances/market.quotes/a")).then_some(())
    });
    load.goes_on();
    mesh.replicas[0].process().signal("CONT");
    eventually("the instances are back", || {
        (kazoo.children("/mesh/instances/market.quotes") == ["a", "b"]).then_some(())
    });
    let _late = mesh.quotes("c");
    caller.reaches(&["a", "b", "c"]);
    load.stop().is_clean();
}

#[test]
fn one_of_two_replicas_loses_its_session_and_no_instance_vanishes_for_the_other() {
    let zookeeper = ZooKeeper::start();
    let wire = Proxy::to(zookeeper.address());
    let mut mesh = Mesh::on_zookeeper(&wire.address(), 1, &[]);
    // These know the first replica only: they cannot move to the other.
    let _quotes = (mesh.quotes("a"), mesh.quotes("b"));
    let direct = format!("zk://{}/mesh", zookeeper.address());
    let other = mesh.add_replica(&direct, &["--zk-session-timeout", "3s"]);
    let both = ["market.quotes/a", "market.quotes/b"];
    eventually("the other replica sees both", || {
        mesh.knows(other, &both).then_some(())
    });
    wire.cut();
    // Past the end of the session, within the grace.
    for_a_while(SESSION + SESSION, "the other replica knows both", || {
        mesh.knows(other, &both)
    });
    wire.mend();
    for_a_while(SESSION + SESSION, "both know both", || {
        mesh.knows(other, &both) && mesh.knows(0, &both)
    });
}

#[test]
fn kazoo_reads_what_we_write_and_we_use_what_kazoo_writes() {
    let zookeeper = ZooKeeper::start();
    let mesh = Mesh::on_zookeeper(&zookeeper.address(), 1, &[]);
    let mut kazoo = Kazoo::connect(&zookeeper);
    let quotes = mesh.quotes("a");
    let caller = mesh.caller("web.portfolio");
    caller.reaches(&["a"]);

    // Documents are JSON text that stays; instances go with the session that made them.
    let stored = kazoo.get("/mesh/documents/Service/market.quotes");
    assert_eq!(stored["stat"]["ephemeral"], false);
    let document: Value = serde_json::from_str(stored["data"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&document["kind"], &document["spec"]["timeout"]),
        (&json!("Service"), &json!("2s"))
    );
    let instance = kazoo.get("/mesh/instances/market.quotes/a");
    assert_eq!(instance["stat"]["ephemeral"], true);
    let written: Value = serde_json::from_str(instance["data"].as_str().unwrap()).unwrap();
    let port = quotes.sidecar.inbound.rsplit(':').next().unwrap();
    assert_eq!(written["spec"]["port"].to_string(), port);

    // A policy from kazoo reaches the sidecars.
    let path = "/mesh/documents/AccessPolicy/by-kazoo";
    kazoo.create(path, &policy("by-kazoo", "[]"));
    eventually("nobody may call", || {
        caller
            .quote()
            .err()
            .filter(|status| status.code() == Code::PermissionDenied)
    });
    let listed = mesh.ctl(&["get", "access-policy", "by-kazoo", "-o", "yaml"]).ok();
    assert!(listed.stdout.contains("by-kazoo"), "{listed:?}");
    kazoo.set(path, &policy("by-kazoo", "[{callers: [service: web.portfolio]}]"));
    eventually("web.portfolio may call", || caller.quote().ok());
    kazoo.delete(path);

    // An app of elsewhere, which kazoo registers, takes its share and goes with its session.
    let foreign = App::quotes("foreign");
    let port: u16 = foreign.address.rsplit(':').next().unwrap().parse().unwrap();
    let spec = json!({"address": "127.0.0.1", "port": port, "transport": "plaintext"});
    let document = json!({"apiVersion": "mesh/v1", "kind": "Instance", "metadata": {"name": "market.quotes/k"}, "spec": spec});
    kazoo.create_ephemeral("/mesh/instances/market.quotes/k", &document.to_string());
    caller.reaches(&["a", "foreign"]);
    drop(kazoo);
    caller.reaches(&["a"]);
}

#[test]
fn garbage_from_elsewhere_is_told_with_its_path_and_what_was_good_stays() {
    let zookeeper = ZooKeeper::start();
    let mesh = Mesh::on_zookeeper(&zookeeper.address(), 1, &[]);
    mesh.apply(&policy("readers", "[{callers: [service: web.portfolio]}]"));
    let _quotes = mesh.quotes("a");
    let (caller, other) = (mesh.caller("web.portfolio"), mesh.caller("web.other"));
    caller.reaches(&["a"]);
    let load = Load::grpc(&caller.outbound, "market.quotes");
    let mut kazoo = Kazoo::connect(&zookeeper);
    let path = "/mesh/documents/AccessPolicy/readers";
    let good = kazoo.get(path)["data"].as_str().unwrap().to_owned();

    let unknown_field = good.replace("\"callers\"", "\"colours\"");
    let wrong_name = good.replace("readers", "others");
    let garbage: [(&str, &[u8]); 6] = [
        ("not YAML", b"{"),
        ("not text", b"\xff\xfe\x00"),
        ("nothing", b""),
        ("an unknown field", unknown_field.as_bytes()),
        ("another name", wrong_name.as_bytes()),
        (
            "another kind",
            b"apiVersion: mesh/v1\nkind: Service\nmetadata: {name: readers}\nspec: {protocol: grpc}\n",
        ),
    ];
    for (what, bytes) in garbage {
        kazoo.set_bytes(path, bytes);
        eventually(&format!("{what} is told"), || {
            faults(&mesh).contains(path).then_some(())
        });
        // The policy that was good is in force: for those it allows and for those it does not.
        caller.quote().unwrap();
        let status = other.quote().unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{what}");
    }
    for (path, data) in [
        ("/mesh/instances/market.quotes/bad", "{}"),
        ("/mesh/instances/not a name/x", "{}"),
        ("/mesh/documents/Pod", "{}"),
        ("/mesh/strange", "x"),
    ] {
        kazoo.create(path, data);
        eventually(&format!("{path} is told"), || {
            faults(&mesh).contains(path).then_some(())
        });
    }
    caller.reaches(&["a"]);

    // Mended, it is as if nothing had been.
    kazoo.set(path, &good);
    for gone in [
        "/mesh/instances/market.quotes/bad",
        "/mesh/instances/not a name",
        "/mesh/documents/Pod",
        "/mesh/strange",
    ] {
        kazoo.delete(gone);
    }
    eventually("no fault is left", || {
        (!faults(&mesh).contains("/mesh/")).then_some(())
    });
    load.goes_on();
    load.stop().is_clean();
}

#[test]
fn who_writes_on_what_another_has_changed_is_told_and_changes_nothing() {
    let zookeeper = ZooKeeper::start();
    let mesh = Mesh::on_zookeeper(&zookeeper.address(), 1, &[]);
    mesh.apply(&policy("readers", "[]"));
    let mut kazoo = Kazoo::connect(&zookeeper);
    let dry = mesh
        .ctl_with(
            &["apply", "-f", "-", "--dry-run", "-o", "json"],
            &policy("readers", "[]"),
        )
        .ok()
        .json();
    let revision = dry["results"][0]["revision"].as_str().unwrap().to_owned();
    let path = "/mesh/documents/AccessPolicy/readers";
    let theirs = policy("readers", "[{callers: [service: web.theirs]}]");
    kazoo.set(path, &theirs);
    let ours = policy("readers", "[{callers: [service: web.ours]}]");
    let lost = mesh.ctl_with(&["apply", "-f", "-", "--if-revision", &revision], &ours);
    assert_eq!(lost.code, Some(1), "{lost:?}");
    assert!(
        lost.stderr.contains("readers") && lost.stderr.contains("revision"),
        "{lost:?}"
    );
    assert_eq!(kazoo.get(path)["data"], theirs);
    let only_new = mesh.ctl_with(&["apply", "-f", "-", "--if-revision", "none"], &ours);
    assert_eq!(only_new.code, Some(1), "{only_new:?}");
    let _ = mesh.ctl_with(&["apply", "-f", "-"], &ours).ok();
    assert!(kazoo.get(path)["data"].as_str().unwrap().contains("web.ours"));
}

#[test]
fn xds_lite_pushes_nothing_until_it_has_read_everything() {
    let mut zookeeper = ZooKeeper::start();
    let mut mesh = Mesh::on_zookeeper(&zookeeper.address(), 1, &[]);
    let _quotes = mesh.quotes("a");
    let caller = mesh.caller("web.portfolio");
    caller.reaches(&["a"]);
    let load = Load::grpc(&caller.outbound, "market.quotes");
    // It comes back while ZooKeeper is away: it knows nothing, so it must say nothing.
    mesh.replicas[0].kill();
    zookeeper.kill();
    mesh.replicas[0].launch();
    let line = mesh.replicas[0].process().says(&["ZooKeeper is out of reach"]);
    assert!(line.contains(&zookeeper.address()), "{line}");
    for_a_while(6 * TICK, "calls are answered", || caller.quote().is_ok());
    let ready = mesh_tests::Curl::get(format!("http://{}/ready", mesh.replicas[0].metrics)).call();
    assert_ne!(ready.status, 200, "{ready:?}");
    zookeeper.run();
    let _ = mesh.replicas[0].process().ready();
    eventually("the instance is registered again", || {
        (mesh.instances() == ["market.quotes/a"]).then_some(())
    });
    load.goes_on();
    load.stop().is_clean();
}

#[test]
fn documents_outlive_every_xds_lite_and_instances_do_not() {
    let zookeeper = ZooKeeper::start();
    let mut mesh = Mesh::on_zookeeper(&zookeeper.address(), 1, &["--registration-grace", "2s"]);
    let quotes = mesh.quotes("a");
    let mut kazoo = Kazoo::connect(&zookeeper);
    drop(quotes);
    eventually("the instance is gone after its grace", || {
        (kazoo.children("/mesh/instances/market.quotes").is_empty()).then_some(())
    });
    mesh.replicas[0].kill();
    mesh.replicas[0].run();
    let listed = mesh.ctl(&["get", "service", "-o", "json"]).ok();
    assert!(listed.stdout.contains("market.quotes"), "{listed:?}");
}
