//! Where a schema comes from: the service itself by gRPC reflection, or a document, swapped while calls go on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use mesh_tests::documents::{instance, policy};
use mesh_tests::process::program;
use mesh_tests::{App, Curl, Folder, Load, Mesh, Process, SidecarPlan, call, eventually, free_port, run};
use prost::Message;
use prost_types::{
    DescriptorProto, FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto, ServiceDescriptorProto,
};
use serde_json::{Value, json};
use tonic::Code;

/// A server of one .proto file, by grpcio, which knows reflection v1alpha.
const GREETER: &str = r#"syntax = "proto3"; package greet.v1;
service Greeter { rpc Greet(Hello) returns (Reply); }
message Hello { string name = 1; int64 times = 2; }
message Reply { string name = 1; int64 times = 2; string served_by = 3; }
"#;
const GREETER_GROWN: &str = r#"syntax = "proto3"; package greet.v1; import "google/api/annotations.proto";
service Greeter {
  rpc Greet(Hello) returns (Reply);
  rpc Part(Hello) returns (Reply) { option (google.api.http) = { get: "/v2/part/{name}" }; }
}
message Hello { string name = 1; int64 times = 2; }
message Reply { string name = 1; int64 times = 2; string served_by = 3; }
"#;

struct Reflected {
    address: String,
    process: Process,
    _folder: Folder,
}

fn reflected(proto: &str, port: u16, more: &[&str]) -> Reflected {
    let folder = Folder::new();
    let file = folder.write("greet.proto", proto);
    let mut command = mesh_tests::python::script("reflected.py");
    command.arg(port.to_string()).arg(file).args(more);
    let mut process = Process::start("reflected.py", &mut command);
    let address = process.ready().remove("").unwrap();
    Reflected {
        address,
        process,
        _folder: folder,
    }
}

/// `sidecar edge`, ready or not.
fn edge_before(to: &str) -> (Process, String) {
    let listen = format!("127.0.0.1:{}", free_port());
    let mut command = program("sidecar");
    command.args([
        "edge",
        "--to",
        to,
        "--listen",
        &listen,
        "--allow-origin",
        "http://pages.example",
    ]);
    (Process::start("sidecar edge", &mut command), listen)
}

fn schemas(admin: &str) -> Value {
    Curl::get(format!("http://{admin}/schemas")).call().json()
}

#[test]
fn one_command_puts_json_in_front_of_a_server_that_has_reflection() {
    let app = App::quotes("a");
    let (mut edge, listen) = edge_before(&app.address);
    let told = edge.ready();
    let get = |path: &str| Curl::get(format!("http://{listen}{path}"));
    let quote = get("/v1/quotes/ACME").call();
    assert_eq!(
        (quote.status, &quote.json()["servedBy"]),
        (200, &json!("a")),
        "{quote:?}"
    );
    let stream = get("/v1/quotes/ACME:stream?count=2&interval=0.01s").call();
    assert_eq!(stream.body.lines().count(), 2, "{stream:?}");
    let order = get("/v1/orders")
        .post(r#"{"symbol": "ACME", "side": "SIDE_BUY", "quantity": "5"}"#)
        .call();
    assert_eq!(
        (order.status, &order.json()["request"]["quantity"]),
        (200, &json!("5")),
        "{order:?}"
    );
    let from_page = get("/v1/quotes/ACME")
        .header("origin: http://pages.example")
        .call();
    let allowed = from_page.header("access-control-allow-origin");
    assert_eq!(allowed, Some("http://pages.example"), "{from_page:?}");
    get("/v1/quotes/ACME?odd=1")
        .call()
        .is_refused(400, "request_unreadable");
    get("/v1/nothing").call().is_refused(404, "route_unknown");
    let grpc = call::get_quote(&call::client(&listen, "any.name"), "ACME").unwrap();
    assert_eq!(grpc.served_by, "a");
    // What it prints is a table of all that, and a line that works as it stands.
    let lines = edge.lines().clone();
    let has = |words: &[&str]| {
        lines
            .iter()
            .any(|line| words.iter().all(|word| line.contains(word)))
    };
    assert!(
        has(&["GET", "/v1/quotes/{symbol}", "market.v1.Quotes/GetQuote"]),
        "{lines:#?}"
    );
    assert!(
        has(&["/v1/quotes/{symbol}:stream", "a stream of answers"]),
        "{lines:#?}"
    );
    let line = lines
        .iter()
        .find_map(|line| line.strip_prefix("try: curl "))
        .unwrap();
    assert!(line.starts_with('\'') && line.ends_with('\''), "{line}");
    assert_eq!(Curl::get(line.trim_matches('\'')).call().status, 200, "{line}");
    let shown = schemas(&told["admin"]);
    let upstream = &shown["schemas"]["upstream"];
    assert_eq!(
        (
            &upstream["source"],
            &upstream["reflection"]["state"],
            &upstream["reflection"]["inForce"]["version"]
        ),
        (&json!("reflection"), &json!("good"), &json!("v1")),
        "{shown}"
    );
    assert!(edge.terminate().success());
}

#[test]
fn a_server_without_annotations_that_knows_only_v1alpha_is_served_by_the_names_of_its_methods() {
    let server = reflected(GREETER, 0, &[]);
    let (mut edge, listen) = edge_before(&server.address);
    let told = edge.ready();
    let post = |path: &str, body: &str| Curl::get(format!("http://{listen}{path}")).post(body).call();
    let greeted = post("/greet.v1.Greeter/Greet", r#"{"name": "ann", "times": "3"}"#);
    assert_eq!(
        greeted.json(),
        json!({"name": "ann", "times": "3", "servedBy": "Greet"}),
        "{greeted:?}"
    );
    assert_eq!(
        post("/greet.v1.Greeter/Greet", "").json(),
        json!({"servedBy": "Greet"})
    );
    post("/greet.v1.Greeter/Greet", r#"{"times": "x"}"#).is_refused(400, "request_unreadable");
    post("/greet.v1.Greeter/Other", "{}").is_refused(404, "route_unknown");
    let get = Curl::get(format!("http://{listen}/greet.v1.Greeter/Greet")).call();
    get.is_refused(405, "method_not_allowed");
    let in_force = &schemas(&told["admin"])["schemas"]["upstream"]["reflection"]["inForce"]["version"];
    assert_eq!(in_force, "v1alpha");
}

#[test]
fn a_server_that_is_away_is_waited_for_and_the_wait_is_told() {
    let port = free_port();
    let to = format!("127.0.0.1:{port}");
    let (mut edge, listen) = edge_before(&to);
    edge.says(&["asking", &to]);
    edge.says(&["was not read from", &to, "refused", "asking again"]);
    let early = Curl::get(format!("http://{listen}/greet.v1.Greeter/Greet"))
        .post("{}")
        .call();
    early.is_refused(503, "schema_unknown");
    let _server = reflected(GREETER, port, &[]);
    let _ = edge.ready();
    let greeted = Curl::get(format!("http://{listen}/greet.v1.Greeter/Greet"))
        .post("{}")
        .call();
    assert_eq!(greeted.status, 200, "{greeted:?}");
}

#[test]
fn a_server_without_reflection_is_told_with_the_fix_and_still_reached_by_grpc() {
    let server = reflected(GREETER, 0, &["hidden"]);
    let (edge, listen) = edge_before(&server.address);
    edge.says(&["has no gRPC reflection", "write its schema as a file"]);
    let post = Curl::get(format!("http://{listen}/greet.v1.Greeter/Greet"))
        .post("{}")
        .call();
    post.is_refused(503, "schema_unknown");
    // The server itself says that it has no such method: the call went through.
    let status = call::get_quote(&call::client(&listen, "any.name"), "ACME").unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented, "{status:?}");
    assert_eq!(status.metadata().get("x-mesh-reason"), None, "{status:?}");
    for wrong in ["nowhere", "http://a:1", "a:0"] {
        let told = run("sidecar", ["edge", "--to", wrong]);
        assert!(told.code == Some(2) && told.stderr.contains("--to"), "{told:?}");
    }
}

#[test]
fn a_server_that_comes_back_with_another_schema_is_asked_again_without_a_restart_of_the_edge() {
    let port = free_port();
    let mut server = reflected(GREETER, port, &[]);
    let (mut edge, listen) = edge_before(&server.address);
    let _ = edge.ready();
    let part = || Curl::get(format!("http://{listen}/v2/part/bob")).call();
    part().is_refused(404, "route_unknown");
    server.process.kill();
    let _grown = reflected(GREETER_GROWN, port, &[]);
    // The unknown path itself is what makes the edge ask.
    let answer = eventually("the new method is known", || {
        Some(part()).filter(|answer| answer.status == 200)
    });
    assert_eq!(answer.json(), json!({"name": "bob", "servedBy": "Part"}));
}

/// A standalone edge before instances of a service that tells its schema itself.
fn standalone(folder: &Folder) -> mesh_tests::Sidecar {
    let service = json!({"apiVersion": "mesh/v1", "kind": "Service", "metadata": {"name": "market.quotes"},
        "spec": {"protocol": "grpc", "schema": {"reflection": true}, "rest": {"unannotated": true}}});
    folder.write("documents/service.yaml", service.to_string());
    SidecarPlan::new("web.edge", "edge")
        .standalone(&folder.join("documents"))
        .edge(&json!([{"service": "market.quotes"}]))
        .start()
}

#[test]
fn no_call_is_lost_while_instances_with_another_schema_take_over() {
    let folder = Folder::new();
    let old = App::quotes("a");
    let write = |address: &str, id: &str| {
        let text = instance(&format!("market.quotes/{id}"), address, "plaintext");
        folder.write("documents/instances.yaml", text);
    };
    write(&old.address, "a");
    let edge = standalone(&folder);
    let quote = |path: &str| edge.get(path).call();
    eventually("the schema is known", || {
        (quote("/v1/quotes/ACME").status == 200).then_some(())
    });
    let load = Load::json(&edge.edge, "/v1/quotes/ACME", "none");
    load.goes_on();
    let before = schemas(&edge.admin)["schemas"]["market.quotes"]["reflection"]["inForce"]["hash"].clone();
    // Another process, which brings the same service with the same schema: nothing changes.
    let second = App::quotes("b");
    write(&second.address, "b");
    eventually("the second instance answers", || {
        load.so_far().by.get("b").filter(|calls| **calls > 5).copied()
    });
    eventually("the second instance was asked", || {
        let shown = schemas(&edge.admin);
        let in_force = &shown["schemas"]["market.quotes"]["reflection"]["inForce"];
        (in_force["from"] == json!(second.address) && in_force["hash"] == before).then_some(())
    });
    load.goes_on();
    // And one that is something else: the edge follows, and says what is there now.
    load.stop().is_clean();
    let other = reflected(GREETER, 0, &[]);
    write(&other.address, "c");
    eventually("the other schema is in force", || {
        (edge.get("/greet.v1.Greeter/Greet").post("{}").call().status == 200).then_some(())
    });
    quote("/v1/quotes/ACME").is_refused(404, "route_unknown");
}

#[test]
fn the_last_good_schema_stays_in_force_while_nobody_can_be_asked() {
    let folder = Folder::new();
    let mut app = App::quotes("a");
    let text = instance("market.quotes/a", &app.address, "plaintext");
    folder.write("documents/instances.yaml", text);
    let edge = standalone(&folder);
    eventually("the schema is known", || {
        (edge.get("/v1/quotes/ACME").call().status == 200).then_some(())
    });
    app.process.kill();
    // Its paths are known still: what is not there is the instance, and not the path.
    edge.get("/v1/quotes/ACME")
        .call()
        .is_refused(503, "connect_failed");
    edge.get("/v1/nothing").call().is_refused(404, "route_unknown");
    eventually("the failure is shown, with what is in force", || {
        let shown = schemas(&edge.admin);
        let reflection = &shown["schemas"]["market.quotes"]["reflection"];
        let failure = reflection["failure"].as_str()?;
        (reflection["state"] == "last good" && failure.contains("refused")).then_some(())
    });
    edge.get("/v1/quotes/ACME")
        .call()
        .is_refused(503, "connect_failed");
    assert!(
        edge.scrape()
            .contains("mesh_sidecar_reflections_total{result=\"ok\""),
        "{}",
        edge.scrape()
    );
}

#[test]
fn through_the_mesh_the_sidecar_of_the_service_judges_who_may_ask_for_its_schema() {
    let mesh = Mesh::start();
    let service = json!({"apiVersion": "mesh/v1", "kind": "Service", "metadata": {"name": "market.quotes"},
        "spec": {"protocol": "grpc", "schema": {"reflection": true}}});
    mesh.apply(&service.to_string());
    mesh.apply(&policy("closed", "[{methods: [market.v1.Quotes/*]}]"));
    let quotes = mesh.quotes("a");
    let edge = mesh.edge();
    let told = eventually("the refusal is shown with the fix", || {
        let shown = schemas(&edge.admin);
        let failure = &shown["schemas"]["market.quotes"]["reflection"]["failure"];
        Some(failure.as_str()?.to_owned())
    });
    assert!(
        told.contains("refuses reflection") && told.contains("allow grpc.reflection.v1"),
        "{told}"
    );
    edge.get("/v1/quotes/ACME")
        .call()
        .is_refused(503, "schema_unknown");
    // Its own sidecar asks the app, and knows.
    eventually("the service's own sidecar knows", || {
        let shown = schemas(&quotes.sidecar.admin);
        (shown["schemas"]["market.quotes"]["reflection"]["state"] == "good").then_some(())
    });
    let rules = "[{methods: [market.v1.Quotes/*]}, {methods: [grpc.reflection.v1.ServerReflection/*], callers: [service: web.edge]}]";
    mesh.apply(&policy("closed", rules));
    let answer = eventually("the edge knows", || {
        Some(edge.get("/v1/quotes/ACME").call()).filter(|answer| answer.status == 200)
    });
    assert_eq!(answer.json()["servedBy"], "a");
}

/// A schema that has one more method, `extra.v<number>.Extra/Do`. Two serialized sets, one after the other, are one.
fn with_extra(descriptors: &[u8], number: u32) -> Vec<u8> {
    let package = format!("extra.v{number}");
    let method = MethodDescriptorProto {
        name: Some("Do".into()),
        input_type: Some(format!(".{package}.Nothing")),
        output_type: Some(format!(".{package}.Nothing")),
        ..Default::default()
    };
    let file = FileDescriptorProto {
        name: Some(format!("extra{number}.proto")),
        package: Some(package),
        syntax: Some("proto3".into()),
        message_type: vec![DescriptorProto {
            name: Some("Nothing".into()),
            ..Default::default()
        }],
        service: vec![ServiceDescriptorProto {
            name: Some("Extra".into()),
            method: vec![method],
            ..Default::default()
        }],
        ..Default::default()
    };
    let extra = FileDescriptorSet { file: vec![file] };
    [descriptors, &extra.encode_to_vec()].concat()
}

#[test]
fn a_schema_pushed_by_hash_is_swapped_again_and_again_under_load_and_no_call_is_lost() {
    let mesh = Mesh::start();
    let _quotes = mesh.quotes("a");
    let (caller, edge) = (mesh.caller("web.portfolio"), mesh.edge());
    caller.reaches(&["a"]);
    let descriptors = std::fs::read(mesh.folder.join("documents/quotes.binpb")).unwrap();
    let json = Load::json(&edge.edge, "/v1/quotes/ACME", "none");
    let grpc = Load::grpc(&caller.outbound, "market.quotes");
    json.goes_on();
    for number in 1..=6 {
        mesh.folder
            .write("documents/extra.binpb", with_extra(&descriptors, number));
        let service = json!({"apiVersion": "mesh/v1", "kind": "Service", "metadata": {"name": "market.quotes"},
            "spec": {"protocol": "grpc", "schema": {"file": "extra.binpb"}, "rest": {"unannotated": true}}});
        mesh.folder.write("documents/extra.yaml", service.to_string());
        mesh.apply_file("extra.yaml");
        // The new method is known, and the app says that it does not have it; the one before is not known any more.
        let call = |number: u32| edge.get(&format!("/extra.v{number}.Extra/Do")).post("{}").call();
        let known = eventually("the new schema is in force", || {
            Some(call(number)).filter(|answer| answer.status != 404)
        });
        assert_eq!(
            (known.status, known.header("x-mesh-reason")),
            (501, None),
            "{known:?}"
        );
        call(number - 1).is_refused(404, "route_unknown");
        json.goes_on();
        grpc.goes_on();
    }
    json.stop().is_clean();
    grpc.stop().is_clean();
}
