//! Pages of other origins at the edge: who may call, what the browser is told, and that nobody is called for it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use mesh_tests::documents::{instance, lay_out, policy};
use mesh_tests::{App, Curl, Folder, Sidecar, SidecarPlan, tokens};
use serde_json::{Value, json};

const PAGE: &str = "https://app.example.com";

struct Edge {
    edge: Sidecar,
    app: App,
    _folder: Folder,
}

/// An edge before `market.quotes`, for those with a token, with this CORS policy.
fn edge(cors: Option<Value>) -> Edge {
    let folder = Folder::new();
    lay_out(&folder);
    let readers = "[{jwt: {provider: login, claims: {scope: quotes.read}}}]";
    folder.write("documents/access.yaml", policy("quotes-readers", readers));
    let app = App::quotes("a");
    folder.write(
        "documents/instances.yaml",
        instance("market.quotes/a", &app.address, "plaintext"),
    );
    let mut plan = SidecarPlan::new("web.edge", "edge")
        .standalone(&folder.join("documents"))
        .edge(&json!([{"service": "market.quotes"}]));
    if let Some(cors) = cors {
        plan = plan.set("/edge/cors", cors);
    }
    Edge {
        edge: plan.start(),
        app,
        _folder: folder,
    }
}

fn policy_of_pages() -> Option<Value> {
    Some(json!({"origins": [PAGE, "https://*.example.org"], "headers": ["x-tenant"], "credentials": true}))
}

fn preflight(edge: &Sidecar, path: &str, origin: &str) -> Curl {
    edge.get(path)
        .method("OPTIONS")
        .header(&format!("origin: {origin}"))
        .header("access-control-request-method: POST")
        .header("access-control-request-headers: content-type,x-tenant")
}

#[test]
fn a_foreign_origin_gets_no_cors_header_whether_it_asks_before_or_calls() {
    let Edge {
        edge,
        app,
        _folder: _f,
    } = edge(policy_of_pages());
    let asked = preflight(&edge, "/v1/orders", "https://evil.net").call();
    let called = edge
        .get("/v1/quotes/ACME")
        .header("origin: https://app.example.com.evil.net")
        .token(tokens().get("good"))
        .call();
    for answer in [&asked, &called] {
        let told = |(name, _): &(String, String)| name.starts_with("access-control-");
        assert!(!answer.headers.iter().any(told), "{answer:?}");
        assert!(answer.header("vary").unwrap().contains("origin"), "{answer:?}");
    }
    // The browser keeps the answer from the page; who is no browser is judged by the token.
    assert_eq!((called.status, app.calls()), (200, 1), "{called:?}");
}

#[test]
fn a_preflight_needs_no_token_and_calls_nobody_and_the_call_after_it_still_needs_one() {
    let Edge {
        edge,
        app,
        _folder: _f,
    } = edge(policy_of_pages());
    for (path, methods) in [
        ("/v1/orders", "POST"),
        ("/v1/quotes/ACME", "GET"),
        ("/market.v1.Quotes/GetQuote", "POST"),
    ] {
        let answer = preflight(&edge, path, PAGE).call();
        assert_eq!(answer.status, 204, "{answer:?}");
        assert_eq!(
            answer.header("access-control-allow-origin"),
            Some(PAGE),
            "{answer:?}"
        );
        assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
        let allowed = answer.header("access-control-allow-methods").unwrap();
        assert!(
            allowed.split(", ").any(|method| method == methods),
            "{path}: {answer:?}"
        );
        let headers = answer.header("access-control-allow-headers").unwrap();
        for name in ["content-type", "x-tenant", "authorization", "x-grpc-web"] {
            assert!(headers.split(", ").any(|told| told == name), "{name}: {answer:?}");
        }
        assert_eq!(answer.header("access-control-max-age"), Some("600"));
    }
    let refused = edge
        .get("/v1/quotes/ACME")
        .header(&format!("origin: {PAGE}"))
        .call();
    refused.is_refused(401, "jwt_missing");
    assert_eq!(
        refused.header("access-control-allow-origin"),
        Some(PAGE),
        "{refused:?}"
    );
    assert_eq!(app.calls(), 0);
}

#[test]
fn a_page_may_read_the_answer_and_its_metadata() {
    let Edge {
        edge,
        app: _app,
        _folder: _f,
    } = edge(policy_of_pages());
    let answer = edge
        .get("/v1/quotes/ACME")
        .header("origin: https://shop.example.org")
        .token(tokens().get("good"))
        .call();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://shop.example.org")
    );
    let exposed = answer.header("access-control-expose-headers").unwrap();
    assert!(
        exposed.contains("grpc-status") && exposed.contains("x-mesh-reason"),
        "{answer:?}"
    );
}

#[test]
fn a_preflight_for_a_path_that_is_none_is_404_and_one_without_a_policy_is_plain_options() {
    let Edge {
        edge: with,
        app: _app,
        _folder: _f,
    } = edge(policy_of_pages());
    preflight(&with, "/v2/nothing", PAGE)
        .call()
        .is_refused(404, "route_unknown");
    let Edge {
        edge: without,
        app: _a,
        _folder: _g,
    } = edge(None);
    let answer = preflight(&without, "/v1/orders", PAGE).call();
    assert_eq!(
        (answer.status, answer.header("allow")),
        (204, Some("OPTIONS, POST")),
        "{answer:?}"
    );
    assert_eq!(answer.header("access-control-allow-origin"), None);
    assert_eq!(answer.header("vary"), None);
}

#[test]
fn where_everybody_may_the_answer_is_a_star_and_the_same_for_all() {
    let Edge {
        edge,
        app: _app,
        _folder: _f,
    } = edge(Some(json!({"origins": ["*"]})));
    let answer = preflight(&edge, "/v1/orders", "https://anything.net").call();
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("*"),
        "{answer:?}"
    );
    assert_eq!(answer.header("access-control-allow-credentials"), None);
}
