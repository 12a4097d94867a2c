//! The commands that ask a control service, against one that does what the test wants.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on says so"
)]

mod support;

use mesh_proto::Kind;
use mesh_proto::v1::{Nack, Replica};
use support::fake::{Fake, Sidecars};
use support::{Folder, Ran};
use tonic_types::{ErrorDetails, StatusExt};

const SERVICE: &str = "\
apiVersion: mesh/v1
kind: Service
metadata: {name: market.quotes}
spec: {protocol: grpc, timeout: 2s}
";
const INSTANCE: &str = "\
apiVersion: mesh/v1
kind: Instance
metadata: {name: market.quotes/a}
spec: {address: 10.0.0.7, port: 9000, locality: {region: eu, zone: a}, transport: plaintext, health: draining}
";

/// A folder with credentials and documents, and a control service.
struct Setting {
    folder: Folder,
    fake: Fake,
}

impl Setting {
    async fn new() -> Self {
        let folder = Folder::new();
        folder
            .run(&["ca", "init", "--dir", "ca", "--trust-domain", "mesh.local"])
            .await
            .exits(0);
        folder.write("service.yaml", SERVICE);
        folder.write("instance.yaml", INSTANCE);
        let fake = Fake::start(&folder.path().join("ca"), "one").await;
        Self { folder, fake }
    }

    async fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, "").await
    }

    async fn run_with(&self, args: &[&str], stdin: &str) -> Ran {
        let all = [args, &["--server", &self.fake.address, "--credentials", "ca"]].concat();
        self.folder.run_with(&all, stdin).await
    }

    /// A sidecar that uses the service.
    fn sidecar(&self, node: &str) {
        self.fake.connect(node, Kind::Service, "market.quotes");
    }
}

#[tokio::test]
async fn apply_tells_what_it_did_and_its_warnings() {
    let here = Setting::new().await;
    here.fake.state().warnings = vec!["no instance yet\u{1b}[2J".into()];
    let ran = here
        .run(&["apply", "-f", "service.yaml", "-f", "instance.yaml"])
        .await
        .exits(0);
    let ran = ran.prints("created").prints("market.quotes/a");
    let ran = ran.tells("warning: Service/market.quotes: no instance yet\\u{1b}[2J");
    assert!(
        !ran.stderr.contains('\u{1b}') && !ran.stdout.contains('\u{1b}'),
        "{ran:#?}"
    );
    here.run(&["apply", "-f", "service.yaml"])
        .await
        .exits(0)
        .prints("unchanged");
    here.folder.write("service.yaml", SERVICE.replace("2s", "3s"));
    here.run(&["apply", "-f", "service.yaml", "--dry-run"])
        .await
        .exits(0)
        .prints("changed")
        .tells("dry run");
    assert_eq!(here.fake.state().dry_runs, 1);
    let value = here
        .run(&["apply", "-f", "service.yaml", "-o", "json"])
        .await
        .exits(0)
        .json();
    assert_eq!(
        (&value["results"][0]["action"], &value["dryRun"]),
        (&"changed".into(), &false.into())
    );
}

#[tokio::test]
async fn a_faulty_document_is_never_sent() {
    let here = Setting::new().await;
    here.folder.write("bad.yaml", SERVICE.replace("2s", "2 s"));
    here.run(&["apply", "-f", "service.yaml", "-f", "bad.yaml"])
        .await
        .exits(1)
        .tells("error: bad.yaml: Service/market.quotes: spec.timeout");
    assert!(here.fake.state().documents.is_empty());
}

#[tokio::test]
async fn every_fault_the_server_finds_is_listed() {
    let here = Setting::new().await;
    let mut details = ErrorDetails::new();
    details.add_bad_request_violation("Service/market.quotes: spec.schema.hash", "is not stored");
    details.add_bad_request_violation("Mesh/default: spec.trustDomain", "is not that of the authority");
    here.fake.state().refusal = Some(tonic::Status::with_error_details(
        tonic::Code::InvalidArgument,
        "refused",
        details,
    ));
    here.run(&["apply", "-f", "service.yaml"])
        .await
        .exits(1)
        .tells("error: 2 faults; nothing was stored")
        .tells("  Service/market.quotes: spec.schema.hash: is not stored")
        .tells("hint:");
}

#[tokio::test]
async fn a_lost_compare_and_set_says_how_to_go_on() {
    let here = Setting::new().await;
    here.run(&["apply", "-f", "service.yaml", "--if-revision", "none"])
        .await
        .exits(0);
    here.run(&["apply", "-f", "service.yaml", "--if-revision", "none"])
        .await
        .exits(1)
        .tells("is at revision 1")
        .tells("hint: somebody else wrote in between");
    here.run(&["apply", "-f", "service.yaml", "--if-revision", "1"])
        .await
        .exits(0);
    here.run(&["apply", "-f", ".", "--if-revision", "1"])
        .await
        .exits(2)
        .tells("is about one document");
}

#[tokio::test]
async fn wait_returns_when_every_sidecar_of_every_replica_has_it() {
    let here = Setting::new().await;
    let second = Fake::start(&here.folder.path().join("ca"), "two").await;
    let listed = vec![
        Replica {
            id: "one".into(),
            address: here.fake.address.clone(),
        },
        Replica {
            id: "two".into(),
            address: second.address.clone(),
        },
    ];
    here.fake.state().replicas = listed.clone();
    second.state().replicas = listed;
    here.run(&["apply", "-f", "service.yaml"]).await.exits(0);
    here.sidecar("market.quotes/a");
    second.connect("web.portfolio/b", Kind::Service, "market.quotes");
    let version = here
        .fake
        .state()
        .documents
        .values()
        .next()
        .unwrap()
        .version
        .clone();

    let waiting = here.run(&["apply", "-f", "service.yaml", "--wait", "--timeout", "20s"]);
    let later = async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        second.change(|state| state.sidecars[0].resources[0].version_applied = version);
    };
    let (ran, ()) = tokio::join!(waiting, later);
    ran.exits(0)
        .prints("unchanged")
        .tells("applied Service/market.quotes by market.quotes/a after ")
        .tells("applied Service/market.quotes by web.portfolio/b after ")
        .tells("applied by 2 sidecars in ");
}

#[tokio::test]
async fn wait_fails_with_the_sidecars_own_reason() {
    let here = Setting::new().await;
    here.sidecar("market.quotes/a");
    here.fake.state().behaviour = Sidecars::Refuse("spec.schema: does not link\u{9b}2J".into());
    here.run(&["apply", "-f", "service.yaml", "--wait"])
        .await
        .exits(1)
        .prints("created")
        .tells("  market.quotes/a refuses Service/market.quotes: spec.schema: does not link\\u{9b}2J")
        .tells("hint:");
    let value = here
        .run(&["apply", "-f", "service.yaml", "--wait", "-o", "json"])
        .await
        .exits(1)
        .json();
    assert_eq!(value["rollout"]["state"], "refused");
}

#[tokio::test]
async fn wait_gives_up_in_time_and_names_who_is_behind() {
    let here = Setting::new().await;
    here.sidecar("market.quotes/a");
    here.fake.state().behaviour = Sidecars::Sleep;
    here.run(&["apply", "-f", "service.yaml", "--wait", "--timeout", "400ms"])
        .await
        .exits(4)
        .prints("created")
        .tells("error: after 400ms only 0 of 1 answers are there")
        .tells("market.quotes/a has no version of Service/market.quotes")
        .tells("hint:");
}

#[tokio::test]
async fn wait_names_a_replica_that_cannot_be_asked() {
    let here = Setting::new().await;
    here.sidecar("market.quotes/a");
    here.fake.state().replicas.push(Replica {
        id: "two".into(),
        address: "127.0.0.1:1".into(),
    });
    here.run(&["apply", "-f", "service.yaml", "--wait", "--timeout", "1500ms"])
        .await
        .exits(4)
        .tells("replica two: cannot reach xds-lite at 127.0.0.1:1");
    here.run(&["status"])
        .await
        .exits(3)
        .prints("market.quotes/a")
        .tells("1 replica cannot be asked")
        .tells("two");
}

#[tokio::test]
async fn wait_says_when_nobody_uses_a_document() {
    let here = Setting::new().await;
    let ran = here.run(&["apply", "-f", ".", "--wait"]).await.exits(0);
    ran.tells("no connected sidecar uses Service/market.quotes; it is stored")
        .tells("no connected sidecar uses Instance/market.quotes/a; it is stored");
}

#[tokio::test]
async fn what_get_prints_can_be_applied_again() {
    let here = Setting::new().await;
    here.run(&["get", "services"])
        .await
        .exits(0)
        .tells("there is no Service yet");
    here.run(&["apply", "-f", "."]).await.exits(0);
    here.folder
        .write("more.yaml", SERVICE.replace("market.quotes", "market.other"));
    here.run(&["apply", "-f", "more.yaml"]).await.exits(0);
    for format in ["yaml", "json"] {
        let printed = here.run(&["get", "service", "-o", format]).await.exits(0).stdout;
        let again = here
            .run_with(&["apply", "-f", "-", "-o", "json"], &printed)
            .await
            .exits(0)
            .json();
        let actions: Vec<_> = again["results"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| &r["action"])
            .collect();
        assert_eq!(actions, ["unchanged", "unchanged"], "{format}: {printed}");
    }
    here.run(&["get", "service", "market.quotes"])
        .await
        .exits(0)
        .prints("REVISION")
        .prints("grpc, no schema");
}

#[tokio::test]
async fn a_name_that_is_not_there_brings_names_that_are_close() {
    let here = Setting::new().await;
    here.run(&["apply", "-f", "service.yaml"]).await.exits(0);
    for command in ["get", "delete"] {
        here.run(&[command, "service", "market.quots"])
            .await
            .exits(1)
            .tells("error: there is no Service named \"market.quots\"")
            .tells("did you mean market.quotes? `mesh-ctl get service`");
    }
    here.run(&["delete", "service", "x", "--ignore-missing"])
        .await
        .exits(0)
        .prints("missing");
    here.run(&["delete", "service", "market.quotes"])
        .await
        .exits(0)
        .prints("deleted");
    here.run(&["apply", "-f", "."]).await.exits(0);
    here.run(&["delete", "-f", "."])
        .await
        .exits(0)
        .prints("market.quotes/a");
    assert!(here.fake.state().documents.is_empty());
}

#[tokio::test]
async fn what_still_leans_on_a_document_keeps_it() {
    let here = Setting::new().await;
    here.fake.state().refusal = Some(tonic::Status::failed_precondition(
        "AccessPolicy/readers refers to it",
    ));
    here.run(&["delete", "service", "market.quotes"])
        .await
        .exits(1)
        .tells("error: Service/market.quotes: AccessPolicy/readers refers to it");
}

#[tokio::test]
async fn diff_shows_what_would_change_and_exits_accordingly() {
    let here = Setting::new().await;
    here.run(&["diff", "-f", "service.yaml"])
        .await
        .exits(1)
        .prints("(nothing stored)")
        .prints("+kind: Service");
    here.run(&["apply", "-f", "service.yaml"]).await.exits(0);
    let same = here
        .run(&["diff", "-f", "service.yaml"])
        .await
        .exits(0)
        .tells("0 of 1 document would change");
    assert_eq!(same.stdout, "");
    here.folder.write("service.yaml", SERVICE.replace("2s", "3s"));
    let ran = here
        .run(&["diff", "-f", "."])
        .await
        .exits(1)
        .prints("-  timeout: 2s")
        .prints("+  timeout: 3s");
    assert!(!ran.stdout.contains('\u{1b}'), "{ran:#?}");
    ran.tells("2 of 2 documents would change");
    let value = here.run(&["diff", "-f", ".", "-o", "json"]).await.exits(1).json();
    assert_eq!(value["documents"][1]["state"], "differs", "{value}");
}

#[tokio::test]
async fn status_shows_who_has_what_and_the_last_refusal() {
    let here = Setting::new().await;
    here.run(&["status"])
        .await
        .exits(0)
        .tells("no sidecar is connected");
    here.run(&["apply", "-f", "service.yaml"]).await.exits(0);
    here.sidecar("market.quotes/a");
    here.fake.change(|state| {
        state.registry.registry = "file:documents".into();
        state.registry.connected = true;
        state.registry.faults = vec!["documents/bad.yaml: is not YAML".into()];
        state.sidecars[0].resources[0].version_sent = "v2".into();
        state.sidecars[0].resources[0].version_applied = "v1".into();
        state.sidecars[0].last_nack = Some(Nack {
            type_url: Kind::AccessPolicy.type_url().into(),
            name: "market.quotes/readers".into(),
            reason: "spec.allow[0]: no\u{1b}]0;x\u{7}".into(),
            ..Default::default()
        });
    });
    let ran = here.run(&["status", "--verbose"]).await.exits(0);
    let ran = ran
        .prints("market.quotes/a")
        .prints("AccessPolicy/market.quotes/readers: spec.allow[0]: no\\u{1b}]0;x\\u{7}")
        .prints("behind")
        .prints("file:documents")
        .tells("fault: one: documents/bad.yaml: is not YAML");
    assert!(!ran.stdout.contains('\u{1b}'), "{ran:#?}");
    let value = here.run(&["status", "-o", "json"]).await.exits(0).json();
    assert_eq!(value["sidecars"][0]["resources"][0]["state"], "behind");
    assert_eq!(
        value["replicas"][0]["faults"][0],
        "documents/bad.yaml: is not YAML"
    );
    here.run(&["status", "-o", "yaml"])
        .await
        .exits(0)
        .prints("lastRefusal:");
}

#[tokio::test]
async fn instances_are_listed_with_where_they_come_from() {
    let here = Setting::new().await;
    here.run(&["instances"])
        .await
        .exits(0)
        .tells("no instance is registered");
    here.run(&["apply", "-f", "instance.yaml"]).await.exits(0);
    let ran = here.run(&["instances", "market.quotes"]).await.exits(0);
    for text in [
        "10.0.0.7",
        "9000",
        "eu/a",
        "100",
        "draining",
        "plaintext",
        "document",
    ] {
        assert!(ran.stdout.contains(text), "{text} is missing in {ran:#?}");
    }
    here.fake
        .state()
        .documents
        .values_mut()
        .for_each(|stored| stored.revision = String::new());
    here.run(&["instances"]).await.exits(0).prints("sidecar");
    here.run(&["instances", "market.other"])
        .await
        .exits(0)
        .tells("no instance of market.other");
    here.run(&["instances", "Market"]).await.exits(2);
}

#[tokio::test]
async fn a_join_token_stands_alone_on_stdout_or_in_a_file_of_its_own() {
    let here = Setting::new().await;
    here.fake.state().token = "abc.def.ghi".into();
    let ran = here
        .run(&["token", "create", "--service", "market.quotes"])
        .await
        .exits(0);
    assert_eq!(ran.stdout, "abc.def.ghi\n");
    for _ in 0..2 {
        let args = [
            "token",
            "create",
            "--service",
            "market.quotes",
            "--lifetime",
            "2h",
            "--file",
            "token",
        ];
        let ran = here
            .run(&args)
            .await
            .exits(0)
            .tells("token: a join token for market.quotes");
        assert!(!ran.stderr.contains("abc") && ran.stdout.is_empty(), "{ran:#?}");
        assert_eq!(
            (here.folder.read("token").as_str(), here.folder.mode("token")),
            ("abc.def.ghi", 0o600)
        );
    }
    here.fake.state().token = "abc\u{1b}[2J".into();
    here.run(&["token", "create", "--service", "market.quotes"])
        .await
        .exits(1)
        .tells("no token");
    here.run(&["token", "create", "--service", "Market"])
        .await
        .exits(2);
}

#[tokio::test]
async fn servers_are_tried_in_turn_and_one_that_is_not_ready_is_passed_over() {
    let here = Setting::new().await;
    let second = Fake::start(&here.folder.path().join("ca"), "two").await;
    here.fake.state().refusal = Some(tonic::Status::unavailable(
        "not ready: the registry was not read yet",
    ));
    let servers = format!("127.0.0.1:1,{},{}", here.fake.address, second.address);
    let args = [
        "apply",
        "-f",
        "service.yaml",
        "--credentials",
        "ca",
        "--server",
        &servers,
    ];
    here.folder.run(&args).await.exits(0).prints("created");
    assert_eq!(second.state().documents.len(), 1);
    let servers = format!("127.0.0.1:1,{}", here.fake.address);
    here.folder
        .run(&["status", "--credentials", "ca", "--server", &servers])
        .await
        .exits(3)
        .tells("127.0.0.1:1")
        .tells("not ready");
}

#[tokio::test]
async fn strangers_are_told_that_they_are_strangers() {
    let here = Setting::new().await;
    here.folder
        .run(&["ca", "init", "--dir", "other", "--trust-domain", "mesh.local"])
        .await
        .exits(0);
    here.folder
        .run(&["status", "--server", &here.fake.address, "--credentials", "other"])
        .await
        .exits(3)
        .tells("certificate of another authority");
    // Whom we trust is right, who we are is not.
    here.folder.write("other/ca.pem", here.folder.read("ca/ca.pem"));
    here.folder
        .run(&["status", "--server", &here.fake.address, "--credentials", "other"])
        .await
        .exits(3)
        .tells("signed by the authority of that xds-lite");
    here.folder
        .run(&["ca", "init", "--dir", "far", "--trust-domain", "far.away"])
        .await
        .exits(0);
    let far = Fake::start(&here.folder.path().join("far"), "far").await;
    here.folder
        .run(&["status", "--server", &far.address, "--credentials", "ca"])
        .await
        .exits(3)
        .tells("hint:");
    here.fake.state().refusal = Some(tonic::Status::permission_denied("operators only"));
    here.run(&["status"])
        .await
        .exits(1)
        .tells("operators only")
        .tells("hint:");
}

#[tokio::test]
async fn whoever_listens_there_and_is_no_control_service_is_told_apart() {
    let here = Setting::new().await;
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent
        .local_addr()
        .map(|address| (silent, address.to_string()))
        .unwrap();
    let plain = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = plain.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = plain.accept().await {
            let _ =
                tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let status = async |address: &str| {
        here.folder
            .run(&["status", "--credentials", "ca", "--server", address])
            .await
    };
    status(&address)
        .await
        .exits(3)
        .tells(&format!("error: cannot reach xds-lite at {address}"));
    status(&silent.1).await.exits(3).tells("did not answer in time");
    // It was never reached, so the next one is asked.
    status(&format!("{},{}", silent.1, here.fake.address))
        .await
        .exits(0);
}
