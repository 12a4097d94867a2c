//! A sidecar without xds-lite: resources from files, swapped while it runs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use mesh_tests::documents::{instance, lay_out, policy};
use mesh_tests::{App, Curl, Folder, Load, Sidecar, SidecarPlan, eventually, run, tokens};
use serde_json::json;

/// An edge before plaintext instances of `market.quotes`, with all its documents in one folder.
struct Alone {
    edge: Sidecar,
    app: App,
    folder: Folder,
}

fn alone() -> Alone {
    let folder = Folder::new();
    lay_out(&folder);
    // Without a certificate the edge is nobody: only the token can speak for a caller.
    let readers = "[{jwt: {provider: login, claims: {scope: quotes.read}}}]";
    folder.write("documents/access.yaml", policy("quotes-readers", readers));
    let app = App::quotes("a");
    folder.write(
        "documents/instances.yaml",
        instance("market.quotes/a", &app.address, "plaintext"),
    );
    let edge = SidecarPlan::new("web.edge", "edge")
        .standalone(&folder.join("documents"))
        .edge(&json!([{"service": "market.quotes"}]))
        .start();
    Alone { edge, app, folder }
}

fn quote(edge: &Sidecar) -> Curl {
    edge.get("/v1/quotes/ACME").token(tokens().get("good"))
}

#[test]
fn a_sidecar_alone_answers_json_for_a_plaintext_service_and_keeps_the_gates() {
    let Alone {
        edge,
        app,
        folder: _folder,
    } = alone();
    let answer = quote(&edge).call();
    assert_eq!(
        (answer.status, &answer.json()["servedBy"]),
        (200, &json!("a")),
        "{answer:?}"
    );
    edge.get("/v1/quotes/ACME").call().is_refused(401, "jwt_missing");
    edge.get("/v1/quotes/ACME")
        .token(tokens().get("wrong_key"))
        .call()
        .is_refused(401, "jwt_signature_wrong");
    edge.get("/v1/quotes/ACME")
        .token(tokens().get("other_scope"))
        .call()
        .is_refused(403, "access_denied");
    assert_eq!(app.calls(), 1);
    assert_eq!(edge.admin_status("/ready"), 200);
    assert!(edge.scrape().contains("mesh_calls"), "{}", edge.scrape());
}

#[test]
fn an_edited_file_is_swapped_while_calls_go_on() {
    let Alone {
        mut edge,
        app: _app,
        folder,
    } = alone();
    let load = Load::json(&edge.edge, "/v1/quotes/ACME", tokens().get("good"));
    load.goes_on();
    let second = App::quotes("b");
    let both = [
        std::fs::read_to_string(folder.join("documents/instances.yaml")).unwrap(),
        instance("market.quotes/b", &second.address, "plaintext"),
    ];
    folder.write("documents/instances.yaml", both.join("---\n"));
    eventually("the second instance takes its share", || {
        load.so_far().by.get("b").filter(|calls| **calls > 5).copied()
    });
    load.stop().is_clean();
    folder.write("documents/access.yaml", policy("quotes-readers", "[]"));
    eventually("the policy is in force", || {
        (quote(&edge).call().status == 403).then_some(())
    });
    assert!(edge.process().is_running());
}

#[test]
fn a_bad_edit_is_told_with_every_fault_and_what_was_before_stays() {
    let Alone {
        mut edge,
        app: _app,
        folder,
    } = alone();
    let good = std::fs::read_to_string(folder.join("documents/services.yaml")).unwrap();
    folder.write(
        "documents/services.yaml",
        good.replace("timeout: 2s", "timeout: 0s")
            .replace("budget: 20%", "budget: 200%"),
    );
    edge.process()
        .says(&["services.yaml", "Service/market.quotes", "spec.timeout"]);
    edge.process().says(&["spec.retry.budget"]);
    assert_eq!(quote(&edge).call().status, 200);
    folder.write("documents/services.yaml", "{{{");
    edge.process().says(&["services.yaml", "is not YAML"]);
    assert_eq!(quote(&edge).call().status, 200);
    // A policy that cannot be read does not open the door.
    folder.write("documents/access.yaml", "apiVersion: mesh/v1\nkind: AccessPolicy\nmetadata: {name: x}\nspec: {service: market.quotes, allow: [{}]}\n");
    edge.process().says(&["access.yaml"]);
    edge.get("/v1/quotes/ACME").call().is_refused(401, "jwt_missing");
    folder.write("documents/services.yaml", good);
    folder.write("documents/access.yaml", policy("quotes-readers", "[]"));
    eventually("mended, the whole is in force", || {
        (quote(&edge).call().status == 403).then_some(())
    });
}

#[test]
fn documents_that_do_not_fit_together_are_told_before_the_start() {
    let folder = Folder::new();
    let config = json!({"node": {"service": "web.edge", "id": "edge"}, "resources": {"file": folder.join("documents")},
        "edge": {"listen": "127.0.0.1:0", "expose": [{"service": "market.quotes"}]}});
    let file = folder.write("sidecar.yaml", config.to_string());
    let file = file.to_str().unwrap();
    let missing = run("sidecar", ["--config", file]);
    assert!(
        missing.code != Some(0) && missing.stderr.contains("documents"),
        "{missing:?}"
    );
    lay_out(&folder);
    let _ = run("sidecar", ["--config", file, "--check"]).ok();
    std::fs::remove_file(folder.join("documents/login.yaml")).unwrap();
    for arguments in [&["--config", file][..], &["--config", file, "--check"]] {
        let told = run("sidecar", arguments);
        assert!(
            told.code != Some(0) && told.stderr.contains("login") && told.stderr.contains("quotes-readers"),
            "{told:?}"
        );
    }
}
