//! OpenAPI: judged by validators and clients that nobody here wrote, against a running edge.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::process::Command;

use mesh_tests::documents::policy;
use mesh_tests::process::{finish, program, repository};
use mesh_tests::{App, Curl, Depot, Folder, Mesh, Process, free_port, run};
use serde_json::{Value, json};

#[track_caller]
fn is_valid(document: &Value) {
    let ended = finish(
        &mut mesh_tests::python::script("openapi_valid.py"),
        &document.to_string(),
    );
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

/// An edge before the example service, and where it and its admin pages are.
fn edge(app: &App) -> (Process, String, String) {
    let listen = format!("127.0.0.1:{}", free_port());
    let mut command = program("sidecar");
    command.args(["edge", "--to", &app.address, "--listen", &listen]);
    let mut edge = Process::start("sidecar edge", &mut command);
    let admin = edge.ready().remove("admin").unwrap();
    (edge, listen, admin)
}

#[test]
fn the_document_is_valid_wherever_it_is_asked_for_and_says_where_the_edge_is() {
    let app = App::quotes("a");
    let (_edge, listen, admin) = edge(&app);
    let at_edge = Curl::get(format!("http://{listen}/openapi.json")).call();
    assert_eq!(
        at_edge.header("content-type"),
        Some("application/json"),
        "{at_edge:?}"
    );
    let at_admin = Curl::get(format!("http://{admin}/openapi.json")).call();
    let (mut edge, mut admin) = (at_edge.json(), at_admin.json());
    is_valid(&edge);
    is_valid(&admin);
    assert_eq!(admin["servers"], json!([{"url": format!("http://{listen}")}]));
    for document in [&mut edge, &mut admin] {
        document.as_object_mut().unwrap().remove("servers");
        document["info"]["version"].take();
    }
    assert_eq!(edge, admin);
    let head = Curl::get(format!("http://{listen}/openapi.json"))
        .with(&["--head"])
        .call();
    assert_eq!((head.status, head.body.as_str()), (200, ""), "{head:?}");
    // Once more is the same, byte for byte.
    assert_eq!(
        Curl::get(format!("http://{listen}/openapi.json")).call().body,
        at_edge.body
    );
}

#[test]
fn the_world_is_told_only_where_the_configuration_says_so_and_whoever_needs_a_token_is_told_too() {
    let mesh = Mesh::start();
    mesh.apply_file("login.yaml");
    mesh.apply(&policy(
        "readers",
        "[{jwt: {provider: login, claims: {scope: quotes.read}}}]",
    ));
    let _quotes = mesh.quotes("a");
    let closed = mesh.edge();
    closed
        .get("/openapi.json")
        .call()
        .is_refused(404, "route_unknown");
    let document = Curl::get(format!("http://{}/openapi.json", closed.admin))
        .call()
        .json();
    is_valid(&document);
    let get = &document["paths"]["/v1/quotes/{symbol}"]["get"];
    assert_eq!(get["security"], json!([{"bearer": []}, {}]), "{get}");
    let open = mesh
        .sidecar("web.edge", "open")
        .edge(&json!([{"service": "market.quotes"}]))
        .set("/edge/openapi", json!({"path": "/about/api.json"}))
        .start();
    let told = open.get("/about/api.json").call();
    assert_eq!(
        (told.status, &told.json()["info"]["title"]),
        (200, &json!("market.quotes")),
        "{told:?}"
    );
    // What xds-lite has stored says the same.
    let printed = mesh.ctl(&["openapi"]).ok().json();
    assert_eq!(
        printed["paths"]["/v1/orders"]["post"]["operationId"],
        "market.v1.Quotes.PlaceOrder"
    );
}

#[test]
fn mesh_ctl_prints_it_from_descriptors_documents_and_reflection_with_comments_where_there_are_some() {
    let folder = Folder::new();
    mesh_tests::documents::lay_out(&folder);
    let binpb = folder.join("documents/quotes.binpb");
    let of_schema = run(
        "mesh-ctl",
        [
            "openapi",
            "--schema",
            binpb.to_str().unwrap(),
            "--title",
            "Quotes",
            "--url",
            "https://q.example",
        ],
    )
    .ok()
    .json();
    is_valid(&of_schema);
    let get = &of_schema["paths"]["/v1/quotes/{symbol}"]["get"];
    assert_eq!(get["summary"], "The latest quote of one instrument", "{get}");
    assert_eq!(
        (&of_schema["info"]["title"], &of_schema["servers"][0]["url"]),
        (&json!("Quotes"), &json!("https://q.example"))
    );
    let services = folder.join("documents/services.yaml");
    let of_documents = run("mesh-ctl", ["openapi", "-f", services.to_str().unwrap()])
        .ok()
        .json();
    assert_eq!(of_documents["paths"], of_schema["paths"]);
    let app = App::quotes("a");
    let mapped = run(
        "mesh-ctl",
        ["openapi", "--from", &app.address, "--unannotated", "-o", "yaml"],
    )
    .ok();
    assert!(
        mapped.stdout.contains("\nopenapi: ") && mapped.stdout.contains("3.1.0"),
        "{}",
        mapped.stdout
    );
    let nobody = run("mesh-ctl", ["openapi", "--from", "127.0.0.1:1"]);
    assert!(
        nobody.code == Some(3) && nobody.stderr.contains("refused"),
        "{nobody:?}"
    );
}

/// Has every operation of a document called with all that it allows, and judges each answer by the document. `parameters`:
/// of those, what is always sent.
#[track_caller]
fn answers_as_it_says(document: &Value, listen: &str, more: &[&str], parameters: &Value) {
    let folder = Folder::new();
    let file = folder.write("openapi.json", document.to_string());
    // A table of TOML with strings in it is written as JSON writes strings.
    let lines: String = parameters
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| format!("{name:?} = {value}\n"))
        .collect();
    folder.write("schemathesis.toml", format!("[parameters]\n{lines}"));
    let mut command = Command::new(repository().join(".venv/bin/schemathesis"));
    command.current_dir(folder.path()).arg("run").arg(file);
    command.args([
        "--url",
        &format!("http://{listen}"),
        "--seed",
        "7",
        "--max-examples",
        "30",
    ]);
    command.args([
        "--phases",
        "examples,coverage,fuzzing",
        "--generation-database",
        "none",
        "--no-color",
    ]);
    command.args([
        "--checks",
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
    ]);
    command.args(["--request-timeout", "10"]).args(more);
    let ended = finish(&mut command, "");
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.stdout, ended.stderr);
    assert!(
        ended.stdout.contains("passed") && !ended.stdout.contains("failed"),
        "{}",
        ended.stdout
    );
}

#[test]
fn schemathesis_finds_no_server_error_and_no_answer_that_is_not_declared() {
    let app = App::quotes("a");
    let (_edge, listen, admin) = edge(&app);
    let document = Curl::get(format!("http://{admin}/openapi.json")).call().json();
    // A stream without an end, and one that is both ways: no client of requests and answers can say how those end.
    let more = ["--exclude-path-regex", ":(stream|converse)$"];
    answers_as_it_says(&document, &listen, &more, &json!({}));
}

#[test]
fn schemathesis_finds_tags_and_every_success_that_the_service_chooses_declared() {
    let depot = Depot::start(&json!({}));
    let document = Curl::get(format!("http://{}/openapi.json", depot.edge.admin))
        .call()
        .json();
    is_valid(&document);
    let listen = &depot.edge.edge;
    let only = ["--include-path", "/v1/items/{name}"];
    for (code, tag) in [("201", ""), ("204", ""), ("200", "v1")] {
        let sent = json!({"query.code": code, "query.etag": tag, "query.fail": ""});
        answers_as_it_says(&document, listen, &only, &sent);
    }
    // As it was said: what a caller has is not sent again.
    let known = depot
        .get("/v1/items/a?etag=v1")
        .header("if-none-match: \"v1\"")
        .call();
    assert_eq!((known.status, known.body.as_str()), (304, ""), "{known:?}");
}

#[test]
fn the_documentation_page_needs_nothing_from_elsewhere_and_only_it_may_have_calls_made() {
    let app = App::quotes("a");
    let (_edge, _, admin) = edge(&app);
    let page = Curl::get(format!("http://{admin}/docs")).call();
    assert!(
        page.header("content-security-policy")
            .unwrap()
            .contains("default-src 'none'"),
        "{page:?}"
    );
    for file in ["/docs/docs.js", "/docs/docs.css"] {
        assert!(page.body.contains(file), "{page:?}");
        assert_eq!(
            Curl::get(format!("http://{admin}{file}")).call().status,
            200,
            "{file}"
        );
    }
    assert!(
        !page.body.contains("http:") && !page.body.contains("https:"),
        "{page:?}"
    );
    let attempt = |body: &Value, origin: &str| {
        Curl::get(format!("http://{admin}/docs/try"))
            .post(&body.to_string())
            .header(&format!("origin: {origin}"))
            .call()
    };
    let own = format!("http://{admin}");
    let call =
        json!({"method": "GET", "path": "/v1/quotes/ACME", "headers": [["accept", "application/json"]]});
    let made = attempt(&call, &own).json();
    assert_eq!(made["status"], 200, "{made}");
    assert!(made["body"].as_str().unwrap().contains("ACME"), "{made}");
    let missing = attempt(&json!({"method": "GET", "path": "/v1/quotes/NONE"}), &own).json();
    assert_eq!(missing["status"], 404, "{missing}");
    let order = json!({"method": "POST", "path": "/v1/orders", "headers": [["content-type", "application/json"]], "body": "{"});
    assert_eq!(attempt(&order, &own).json()["status"], 400);
    for wrong in [
        json!({"method": "GET", "path": "http://elsewhere.example/"}),
        json!({"method": "G T", "path": "/"}),
        json!(5),
    ] {
        assert_eq!(attempt(&wrong, &own).status, 400, "{wrong}");
    }
    assert_eq!(attempt(&call, "http://elsewhere.example").status, 403);
    let without = Curl::get(format!("http://{admin}/docs/try"))
        .post(&call.to_string())
        .call();
    assert_eq!(without.status, 403, "{without:?}");
}

#[test]
fn in_a_browser_the_page_lists_every_operation_and_tries_one_out() {
    let app = App::quotes("a");
    let (_edge, listen, admin) = edge(&app);
    let asked = json!({
        "page": format!("http://{admin}/docs"),
        "filter": "quotes.getquote",
        "fill": {"symbol *": "ACME"},
    });
    let seen = finish(&mut mesh_tests::node::script("docs.js"), &asked.to_string())
        .ok()
        .json();
    assert_eq!(seen["complaints"], json!([]), "{seen}");
    let has = |place: &str, words: &[&str]| {
        let lines = seen[place].as_array().unwrap().iter();
        lines
            .map(|line| line.as_str().unwrap())
            .any(|line| words.iter().all(|word| line.contains(word)))
    };
    assert!(has("operations", &["GET", "/v1/quotes/{symbol}"]), "{seen}");
    assert!(has("operations", &["POST", "/v1/orders"]), "{seen}");
    assert!(has("types", &["market.v1.Quote"]), "{seen}");
    let url = format!("http://{listen}/v1/quotes/ACME");
    assert!(seen["line"].as_str().unwrap().contains(&url), "{seen}");
    assert_eq!(seen["status"], "200", "{seen}");
    assert!(
        seen["body"].as_str().unwrap().contains("\"servedBy\": \"a\""),
        "{seen}"
    );
}
