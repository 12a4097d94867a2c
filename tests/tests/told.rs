//! What is wrong is told, by name, place and reason, by everybody alike; and what was there before stays.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::time::Duration;

use mesh_link::ca::CertificateAuthority;
use mesh_link::{Credentials, tls};
use mesh_proto::Kind;
use mesh_proto::discovery::Resource as Pushed;
use mesh_proto::name::{ServiceName, SpiffeId, TrustDomain};
use mesh_proto::v1::document::Resource;
use mesh_proto::v1::documents_client::DocumentsClient;
use mesh_proto::v1::{ApplyRequest, Document, ListRequest, apply_request};
use mesh_tests::fake_control::FakeControl;
use mesh_tests::faulty::{faulty, fields, good_documents, resource};
use mesh_tests::mesh::create_authority;
use mesh_tests::{App, Folder, Mesh, SidecarPlan, call, eventually, run};
use serde_json::{Value, json};
use tonic::Code;
use tonic::transport::Channel;

fn domain() -> TrustDomain {
    TrustDomain::parse("mesh.local").unwrap()
}

fn bundle(ca: &Path) -> String {
    std::fs::read_to_string(ca.join("ca.pem")).unwrap()
}

fn validate(folder: &Folder, document: &Value) -> mesh_tests::Ended {
    let file = folder.write("document.yaml", document.to_string());
    run("mesh-ctl", ["validate", "-f", file.to_str().unwrap()])
}

#[test]
fn every_field_of_every_kind_blanked_or_of_the_wrong_type_is_refused_by_validate_at_its_place() {
    let folder = Folder::new();
    create_authority(&folder.join("ca"));
    for document in good_documents(&bundle(&folder.join("ca"))) {
        let _ = validate(&folder, &document).ok();
        let name = format!(
            "{}/{}",
            document["kind"].as_str().unwrap(),
            document["metadata"]["name"].as_str().unwrap()
        );
        for (pointer, place) in fields(&document) {
            let old = document.pointer(&pointer).unwrap();
            // A type it cannot be: lists and texts for what holds fields, fields for all else.
            let wrong = if old.is_object() {
                json!(["wrong"])
            } else {
                json!({"wrong": {"type": 1}})
            };
            for (how, value) in [("blank", Value::Null), ("of the wrong type", wrong)] {
                let mut spoiled = document.clone();
                *spoiled.pointer_mut(&pointer).unwrap() = value;
                let told = validate(&folder, &spoiled);
                assert_eq!(told.code, Some(1), "{name} {place} {how}: {told:?}");
                let line = told.stderr.lines().find(|line| line.contains(&place));
                let line = line.unwrap_or_else(|| panic!("{name} {place} {how} is not named: {told:?}"));
                // What has lost its name can only be told by its file.
                let nameless = pointer == "/metadata" || pointer == "/metadata/name";
                assert!(
                    line.contains("document.yaml") && (nameless || line.contains(&name)),
                    "{line}"
                );
            }
        }
    }
}

fn operator(mesh: &Mesh) -> DocumentsClient<Channel> {
    let ca = mesh.folder.join("ca");
    let own = Credentials::from_files(
        &ca.join("operator.pem"),
        &ca.join("operator-key.pem"),
        &ca.join("ca.pem"),
    )
    .unwrap();
    let authorities = mesh_link::credentials::read_authorities(&bundle(&ca)).unwrap();
    let _guard = call::runtime().enter();
    let config = tls::client_config(Some(&own), &authorities, SpiffeId::control(&domain())).unwrap();
    DocumentsClient::new(mesh_link::grpc::channel(&mesh.replicas[0].grpc, config).unwrap())
}

fn request(resources: Vec<Resource>) -> ApplyRequest {
    let item = |resource| apply_request::Item {
        document: Some(Document {
            resource: Some(resource),
        }),
        if_revision: String::new(),
    };
    ApplyRequest {
        items: resources.into_iter().map(item).collect(),
        dry_run: false,
    }
}

#[test]
fn xds_lite_refuses_what_validate_would_have_refused_and_keeps_what_it_had() {
    let mesh = Mesh::start();
    let authorities = bundle(&mesh.folder.join("ca"));
    let good: Vec<Resource> = good_documents(&authorities).iter().map(resource).collect();
    let mut client = operator(&mesh);
    call::block_on(async {
        client.apply(request(good.clone())).await.unwrap();
        let stored = client
            .list(ListRequest::default())
            .await
            .unwrap()
            .into_inner()
            .documents;
        for faulty in faulty(&authorities) {
            let told = client.apply(request(vec![faulty.resource.clone()])).await;
            let status = told
                .err()
                .unwrap_or_else(|| panic!("{} is accepted", faulty.what));
            assert_eq!(
                status.code(),
                Code::InvalidArgument,
                "{}: {status:?}",
                faulty.what
            );
            let text = format!(
                "{} {}",
                status.message(),
                String::from_utf8_lossy(status.details())
            );
            assert!(text.contains(faulty.place), "{}: {text}", faulty.what);
            assert!(
                text.contains(faulty.resource.kind().as_str()),
                "{}: {text}",
                faulty.what
            );
            // With something good beside it, neither is stored.
            let mut beside = good[2].clone();
            if let Resource::Service(service) = &mut beside {
                service.metadata.as_mut().unwrap().name = "market.beside".into();
            }
            client
                .apply(request(vec![beside, faulty.resource]))
                .await
                .unwrap_err();
        }
        client.apply(request(Vec::new())).await.ok();
        let item = apply_request::Item::default();
        let empty = client
            .apply(ApplyRequest {
                items: vec![item],
                dry_run: false,
            })
            .await
            .unwrap_err();
        assert_eq!(empty.code(), Code::InvalidArgument, "{empty:?}");
        let after = client
            .list(ListRequest::default())
            .await
            .unwrap()
            .into_inner()
            .documents;
        assert_eq!(after, stored);
    });
}

#[test]
fn mesh_ctl_apply_sends_nothing_that_is_faulty_and_exits_with_1() {
    let mesh = Mesh::start();
    let before = mesh
        .ctl(&["get", "service", "market.quotes", "-o", "json"])
        .ok()
        .stdout;
    let spoiled = "apiVersion: mesh/v1\nkind: Service\nmetadata: {name: market.quotes}\nspec: {protocol: grpc, timeout: 0s, retry: {attempts: 99}}\n";
    let told = mesh.ctl_with(&["apply", "-f", "-"], spoiled);
    assert_eq!(told.code, Some(1), "{told:?}");
    for words in ["Service/market.quotes: spec.timeout", "spec.retry.attempts"] {
        assert!(told.stderr.contains(words), "{words}: {told:?}");
    }
    assert_eq!(
        mesh.ctl(&["get", "service", "market.quotes", "-o", "json"])
            .ok()
            .stdout,
        before
    );
    // What refers to nothing, and what is referred to.
    mesh.apply_file("login.yaml");
    mesh.apply_file("access.yaml");
    let deleted = mesh.ctl(&["delete", "jwt-provider", "login"]);
    assert_eq!(deleted.code, Some(1), "{deleted:?}");
    assert!(deleted.stderr.contains("quotes-readers"), "{deleted:?}");
}

/// A sidecar with certificates from files, beside an app, under a control service that says what it likes.
struct Lied {
    control: FakeControl,
    sidecar: mesh_tests::Sidecar,
    app: App,
    folder: Folder,
}

fn lied_to() -> Lied {
    let folder = Folder::new();
    let ca = folder.join("ca");
    create_authority(&ca);
    let control = FakeControl::start(&ca);
    let authority = CertificateAuthority::load(&ca).unwrap();
    let id = SpiffeId::service(&domain(), &ServiceName::parse("market.quotes").unwrap());
    let issued = authority.issue(&id, Duration::from_secs(3600)).unwrap();
    let certificate = folder.write("own.pem", &issued.chain_pem);
    let key = folder.write("own-key.pem", &issued.key_pem);
    let _ = std::process::Command::new("chmod").arg("600").arg(&key).status();
    let app = App::quotes("a");
    for document in good_documents(&bundle(&ca)) {
        if !matches!(document["kind"].as_str(), Some("Instance")) {
            control.hold(resource(&document));
        }
    }
    // web.portfolio may call without a token here.
    let policy = json!({"apiVersion": "mesh/v1", "kind": "AccessPolicy", "metadata": {"name": "readers"},
        "spec": {"service": "market.quotes", "allow": [{"callers": [{"service": "market.quotes"}]}]}});
    control.hold(resource(&policy));
    let sidecar = SidecarPlan::new("market.quotes", "a")
        .set(
            "/control",
            json!({"servers": [control.address], "ca": ca.join("ca.pem"), "trustDomain": "mesh.local"}),
        )
        .set(
            "/tls",
            json!({"certificate": certificate, "key": key, "ca": ca.join("ca.pem")}),
        )
        .app(&app.address)
        .outbound()
        .depends(&["market.quotes"])
        .launch();
    let port = sidecar
        .inbound
        .rsplit(':')
        .next()
        .unwrap()
        .parse::<u16>()
        .unwrap();
    control.hold(resource(
        &json!({"apiVersion": "mesh/v1", "kind": "Instance", "metadata": {"name": "market.quotes/a"},
        "spec": {"address": "127.0.0.1", "port": port}}),
    ));
    Lied {
        control,
        sidecar,
        app,
        folder,
    }
}

#[test]
fn a_sidecar_refuses_bad_resources_by_name_place_and_reason_and_goes_on_as_before() {
    let Lied {
        control,
        mut sidecar,
        app,
        folder,
    } = lied_to();
    control.is_asked_for(Kind::Service, "market.quotes");
    eventually("calls are answered", || sidecar.quote().ok());
    let authorities = bundle(&folder.join("ca"));
    for (number, faulty) in faulty(&authorities).iter().enumerate() {
        let kind = faulty.resource.kind();
        let nonce = format!("bad-{number}");
        control.push(&nonce, kind, &[(&faulty.name, &faulty.resource)]);
        let reason = control
            .answer_to(&nonce)
            .unwrap_or_else(|| panic!("{} is accepted", faulty.what));
        assert!(reason.starts_with(&faulty.name), "{}: {reason}", faulty.what);
        assert!(reason.contains(faulty.place), "{}: {reason}", faulty.what);
        assert_eq!(reason.lines().count(), 1, "{}: {reason}", faulty.what);
    }
    // What was there before is in force, all of it.
    let before = app.calls();
    assert_eq!(sidecar.quote().unwrap().served_by, "a");
    assert_eq!(app.calls(), before + 1);
    assert!(sidecar.process().is_running());
}

#[test]
fn one_bad_resource_among_good_ones_is_refused_alone() {
    let Lied {
        control,
        mut sidecar,
        app,
        folder,
    } = lied_to();
    eventually("calls are answered", || sidecar.quote().ok());
    let all = faulty(&bundle(&folder.join("ca")));
    let bad = all
        .iter()
        .find(|faulty| faulty.what == "AccessPolicy: a rule that says nothing")
        .unwrap();
    let closed = resource(
        &json!({"apiVersion": "mesh/v1", "kind": "AccessPolicy", "metadata": {"name": "readers"},
        "spec": {"service": "market.quotes", "allow": [{"callers": [{"service": "web.nobody"}]}]}}),
    );
    let mut other = bad.resource.clone();
    if let Resource::AccessPolicy(policy) = &mut other {
        policy.metadata.as_mut().unwrap().name = "other".into();
    }
    control.push(
        "mixed",
        Kind::AccessPolicy,
        &[
            ("market.quotes/other", &other),
            ("market.quotes/readers", &closed),
        ],
    );
    let reason = control.answer_to("mixed").expect("a refusal");
    assert!(
        reason.contains("market.quotes/other") && !reason.contains("market.quotes/readers"),
        "{reason}"
    );
    let before = app.calls();
    let status = eventually("the good one is in force", || sidecar.quote().err());
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(app.calls() >= before);
    assert!(sidecar.process().is_running());
}

#[test]
fn bytes_that_are_no_resource_are_refused_by_name() {
    let Lied {
        control,
        mut sidecar,
        app: _app,
        folder: _folder,
    } = lied_to();
    eventually("calls are answered", || sidecar.quote().ok());
    let any = |type_url: &str, value: &[u8]| {
        Some(prost_types::Any {
            type_url: type_url.into(),
            value: value.into(),
        })
    };
    let own = Kind::Service.type_url();
    let cases: [(&str, &str, Option<prost_types::Any>); 5] = [
        ("noise", "market.quotes", any(own, b"\xff\xff\xff\xff")),
        ("nothing", "market.quotes", None),
        ("an empty message", "market.quotes", any(own, b"")),
        ("another type", "market.quotes", any(Kind::Mesh.type_url(), b"")),
        (
            "another name",
            "market.quotes",
            any(
                own,
                &resource(&json!({"apiVersion": "mesh/v1", "kind": "Service",
            "metadata": {"name": "market.other"}, "spec": {"protocol": "grpc"}}))
                .encode_to_vec(),
            ),
        ),
    ];
    for (what, name, resource) in cases {
        let pushed = Pushed {
            version: "1".into(),
            resource,
            name: name.into(),
        };
        control.push_raw(what, Kind::Service, vec![pushed]);
        let reason = control
            .answer_to(what)
            .unwrap_or_else(|| panic!("{what} is accepted"));
        assert!(reason.starts_with("market.quotes"), "{what}: {reason}");
        sidecar.quote().unwrap();
    }
    assert!(sidecar.process().is_running());
}

#[test]
fn status_tells_every_sidecar_and_what_it_has_applied() {
    let mesh = Mesh::start();
    let _quotes = mesh.quotes("a");
    let stored = mesh.ctl(&[
        "apply",
        "-f",
        mesh.folder.join("documents/services.yaml").to_str().unwrap(),
        "--dry-run",
        "-o",
        "json",
    ]);
    let stored = stored.ok().json();
    let results = stored["results"].as_array().unwrap();
    let version = &results
        .iter()
        .find(|result| result["name"] == "market.quotes")
        .unwrap()["version"];
    let version = version.as_str().unwrap();
    eventually("the sidecar has applied its own service", || {
        let status = mesh.status();
        let sidecar = status["sidecars"]
            .as_array()?
            .iter()
            .find(|one| one["node"] == "market.quotes/a")?;
        sidecar["resources"].to_string().contains(version).then_some(())
    });
    let text = mesh.ctl(&["status", "--verbose"]).ok().stdout;
    assert!(
        text.contains("market.quotes/a") && text.contains(version),
        "{text}"
    );
}

#[test]
fn a_bad_configuration_file_is_told_with_every_fault_at_once() {
    let folder = Folder::new();
    let file = folder.write("sidecar.yaml", "node: {service: Market Quotes}\ninbound: {listen: nowhere, app: 127.0.0.1:1}\nthreads: many\ncolour: blue\n");
    let told = run("sidecar", ["--config", file.to_str().unwrap()]);
    assert_eq!(told.code, Some(2), "{told:?}");
    for place in ["node.service", "inbound.listen", "threads", "colour", "control"] {
        assert!(told.stderr.contains(place), "{place}: {told:?}");
    }
    let empty = folder.write("empty.yaml", "");
    let told = run("sidecar", ["--config", empty.to_str().unwrap()]);
    assert_eq!(told.code, Some(2), "{told:?}");
    let noise = folder.write("noise.yaml", "a: [b: {");
    let told = run("sidecar", ["--config", noise.to_str().unwrap()]);
    assert!(
        told.code == Some(2) && told.stderr.contains("noise.yaml"),
        "{told:?}"
    );
    let told = run("sidecar", ["--config", "/nowhere/at/all.yaml"]);
    assert!(
        told.code == Some(2) && told.stderr.contains("/nowhere/at/all.yaml"),
        "{told:?}"
    );
    assert_eq!(told.stderr.lines().count(), 1, "{told:?}");
}

#[test]
fn a_port_in_use_is_told_in_one_line_by_every_program() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = Folder::new();
    create_authority(&folder.join("ca"));
    let resources = folder.write("resources.yaml", "");
    let config = json!({"node": {"service": "web.edge"}, "resources": {"file": resources}, "outbound": {"listen": address}});
    let file = folder.write("sidecar.yaml", config.to_string());
    let sidecar = run("sidecar", ["--config", file.to_str().unwrap()]);
    let registry = format!("file:{}", folder.join("registry").display());
    let ca = folder.join("ca");
    let xds = run(
        "xds-lite",
        [
            "--registry",
            &registry,
            "--ca",
            ca.to_str().unwrap(),
            "--listen",
            &address,
            "--metrics",
            "127.0.0.1:0",
        ],
    );
    let app = run("quotes", ["--listen", &address]);
    for (name, told) in [("sidecar", sidecar), ("xds-lite", xds), ("quotes", app)] {
        assert_eq!(told.code, Some(1), "{name}: {told:?}");
        let lines: Vec<&str> = told
            .stderr
            .lines()
            .filter(|line| !line.contains("INFO") && !line.contains("WARN"))
            .collect();
        assert!(
            lines.len() == 1 && lines[0].contains(&address),
            "{name}: {told:?}"
        );
    }
}

#[test]
fn what_xds_lite_cannot_start_with_is_told_in_one_line() {
    let folder = Folder::new();
    create_authority(&folder.join("ca"));
    let ca = folder.join("ca");
    let ca = ca.to_str().unwrap();
    let file = folder.write("a-file", "");
    let not_a_folder = format!("file:{}", file.display());
    let start = |registry: &str, ca: &str| {
        run(
            "xds-lite",
            [
                "--registry",
                registry,
                "--ca",
                ca,
                "--listen",
                "127.0.0.1:0",
                "--metrics",
                "127.0.0.1:0",
            ],
        )
    };
    let told = start(&not_a_folder, ca);
    assert!(told.code != Some(0) && told.stderr.contains("a-file"), "{told:?}");
    let good = format!("file:{}", folder.join("registry").display());
    let told = start(&good, "/nowhere");
    assert!(
        told.code != Some(0) && told.stderr.contains("/nowhere") && told.stderr.contains("mesh-ctl ca init"),
        "{told:?}"
    );
    let told = start("zk://127.0.0.1", ca);
    assert!(
        told.code == Some(2) && told.stderr.contains("zk://127.0.0.1"),
        "{told:?}"
    );
}

#[test]
fn a_fault_in_the_registry_s_folder_is_told_and_the_document_before_it_stays() {
    let mesh = Mesh::start();
    let _quotes = mesh.quotes("a");
    let caller = mesh.caller("web.portfolio");
    caller.reaches(&["a"]);
    let file = mesh.folder.join("registry/documents/Service/market.quotes.yaml");
    let found = find(&mesh.folder.join("registry"), "market.quotes");
    let file = found.unwrap_or(file);
    std::fs::write(
        &file,
        "apiVersion: mesh/v1\nkind: Service\nmetadata: {name: market.quotes}\nspec: {protocol: pigeon}\n",
    )
    .unwrap();
    let name = file.file_name().unwrap().to_str().unwrap();
    eventually("the fault is in the status", || {
        let told = mesh.ctl(&["status", "-o", "json"]).stdout;
        (told.contains(name) && told.contains("spec.protocol")).then_some(())
    });
    caller.quote().unwrap();
}

fn find(folder: &Path, name: &str) -> Option<std::path::PathBuf> {
    for entry in std::fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if let Some(found) = find(&path, name) {
                return Some(found);
            }
        } else if path.to_str()?.contains("Service") && path.file_name()?.to_str()?.starts_with(name) {
            return Some(path);
        }
    }
    None
}

#[test]
fn mesh_ctl_without_anybody_there_says_so_and_exits_with_3() {
    let folder = Folder::new();
    create_authority(&folder.join("ca"));
    let ca = folder.join("ca");
    let nobody = format!("127.0.0.1:{}", mesh_tests::free_port());
    let told = run(
        "mesh-ctl",
        [
            "--server",
            &nobody,
            "--credentials",
            ca.to_str().unwrap(),
            "status",
        ],
    );
    assert_eq!(told.code, Some(3), "{told:?}");
    assert!(told.stderr.contains(&nobody), "{told:?}");
}
