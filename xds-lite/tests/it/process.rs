//! The real program over the real wire: operators, sidecars, tokens, refusals, starts that fail, and the end.

use std::time::Duration;

use mesh_link::ca::CertificateAuthority;
use mesh_proto::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use mesh_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};
use mesh_proto::v1::document::Resource;
use mesh_proto::v1::documents_client::DocumentsClient;
use mesh_proto::v1::identity_client::IdentityClient;
use mesh_proto::v1::registration_client::RegistrationClient;
use mesh_proto::v1::status_client::StatusClient;
use mesh_proto::{Kind, google::rpc, v1};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;
use xds_lite::registry::codec;

use crate::contract::{instance, service};
use crate::support::process::{XdsLite, authority, command, fails};
use crate::support::zookeeper::ZooKeeper;
use crate::support::{PATIENCE, folder};

fn file_registry() -> String {
    format!("file:{}", folder("process").display())
}

async fn apply(xds: &XdsLite, resources: &[Resource]) -> Result<Vec<v1::ApplyResult>, Status> {
    let items = resources.iter().map(|resource| v1::apply_request::Item {
        document: Some(v1::Document {
            resource: Some(resource.clone()),
        }),
        if_revision: String::new(),
    });
    let request = v1::ApplyRequest {
        items: items.collect(),
        dry_run: false,
    };
    let mut client = DocumentsClient::new(xds.operator());
    Ok(client.apply(request).await?.into_inner().results)
}

struct Ads {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl Ads {
    async fn open(xds: &XdsLite, service: &str, first: DeltaDiscoveryRequest) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::channel(8);
        let node = Node {
            id: format!("{service}/1"),
            cluster: service.into(),
            ..Default::default()
        };
        requests
            .send(DeltaDiscoveryRequest {
                node: Some(node),
                ..first
            })
            .await
            .unwrap();
        let mut client = AggregatedDiscoveryServiceClient::new(xds.sidecar(service));
        let responses = client
            .delta_aggregated_resources(ReceiverStream::new(receiver))
            .await?
            .into_inner();
        Ok(Self { requests, responses })
    }

    async fn next(&mut self) -> Result<DeltaDiscoveryResponse, Status> {
        let message = tokio::time::timeout(PATIENCE, self.responses.message())
            .await
            .unwrap();
        message.map(|message| message.expect("the stream ended"))
    }

    /// The next response with something in it: a snapshot may be younger than the subscription.
    async fn next_resources(&mut self) -> DeltaDiscoveryResponse {
        loop {
            let response = self.next().await.unwrap();
            if !response.resources.is_empty() {
                return response;
            }
        }
    }

    async fn answer(&self, response: &DeltaDiscoveryResponse, refusal: Option<&str>) {
        let error_detail = refusal.map(|message| rpc::Status {
            code: 3,
            message: message.into(),
            details: vec![],
        });
        let request = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail,
            ..Default::default()
        };
        self.requests.send(request).await.unwrap();
    }
}

fn subscribe(kind: Kind, names: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: kind.type_url().into(),
        resource_names_subscribe: names.iter().map(|&name| name.into()).collect(),
        ..Default::default()
    }
}

/// Waits until the status of the one sidecar passes the test.
async fn status_until(
    xds: &XdsLite,
    kind: Kind,
    name: &str,
    test: impl Fn(&v1::ResourceStatus) -> bool,
) -> v1::SidecarStatus {
    let request = v1::GetStatusRequest {
        type_url: kind.type_url().into(),
        resource_name: name.into(),
    };
    let mut states = StatusClient::new(xds.operator())
        .watch_status(request)
        .await
        .unwrap()
        .into_inner();
    loop {
        let state = tokio::time::timeout(PATIENCE, states.message())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        if let [sidecar] = state.sidecars.as_slice()
            && sidecar.resources.iter().any(&test)
        {
            return sidecar.clone();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_reaches_the_sidecar_and_its_answer_reaches_the_operator() {
    let xds = XdsLite::start(&file_registry(), &authority(), &[]);
    let applied = apply(&xds, &[service("a", "1s")]).await.unwrap();
    assert_eq!(applied[0].action(), v1::apply_result::Action::Created);

    let mut ads = Ads::open(&xds, "a", subscribe(Kind::Service, &["a"]))
        .await
        .unwrap();
    let first = ads.next_resources().await;
    assert_eq!(first.resources[0].version, applied[0].version);
    ads.answer(&first, None).await;
    let version = applied[0].version.clone();
    status_until(&xds, Kind::Service, "a", |resource| {
        resource.version_applied == version
    })
    .await;

    let applied = apply(&xds, &[service("a", "2s")]).await.unwrap();
    let second = ads.next().await.unwrap();
    assert_eq!(second.resources[0].version, applied[0].version);
    ads.answer(&second, Some("a: spec.timeout: not today")).await;
    let sidecar = status_until(&xds, Kind::Service, "a", |resource| resource.nack.is_some()).await;
    assert_eq!(
        sidecar.resources[0].nack.as_ref().unwrap().reason,
        "spec.timeout: not today"
    );
    assert_eq!(sidecar.resources[0].version_applied, version);
    assert_eq!(sidecar.node, "a/1");

    let metrics = xds.http("/metrics");
    for number in [
        "mesh_xds_pushes_total{kind=\"Service\"} ",
        "mesh_xds_nacks_total{kind=\"Service\"} 1",
        "mesh_xds_streams 1",
    ] {
        assert!(metrics.contains(number), "{number} is missing in\n{metrics}");
    }
    assert!(xds.http("/ready").starts_with("HTTP/1.1 200"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_request_is_refused_whole_with_every_fault_as_detail() {
    let xds = XdsLite::start(&file_registry(), &authority(), &[]);
    let bad = codec::parse(b"apiVersion: mesh/v1\nkind: Service\nmetadata: {name: b}\nspec: {timeout: 0s}\n")
        .unwrap();
    let told = apply(&xds, &[service("a", "1s"), bad]).await.unwrap_err();
    assert_eq!(told.code(), Code::InvalidArgument);
    let fields: Vec<String> = told
        .get_details_bad_request()
        .unwrap()
        .field_violations
        .into_iter()
        .map(|violation| violation.field)
        .collect();
    assert_eq!(fields, ["Service/b: spec.protocol", "Service/b: spec.timeout"]);
    let mut client = DocumentsClient::new(xds.operator());
    let stored = client
        .list(v1::ListRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert!(stored.documents.is_empty());
    let told = client
        .get(v1::GetRequest {
            kind: "service".into(),
            name: "a".into(),
        })
        .await
        .unwrap_err();
    assert_eq!(told.code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_allowed_is_told_so() {
    let xds = XdsLite::start(&file_registry(), &authority(), &[]);
    let list = async |path: Option<&str>| {
        let mut client = DocumentsClient::new(xds.channel(path));
        client
            .list(v1::ListRequest::default())
            .await
            .map(drop)
            .map_err(|status| status.code())
    };
    assert_eq!(list(None).await, Err(Code::Unauthenticated));
    assert_eq!(list(Some("/service/a")).await, Err(Code::PermissionDenied));
    assert_eq!(list(Some("/operator/admin")).await, Ok(()));

    let mut wrong_node = subscribe(Kind::Service, &["a"]);
    wrong_node.node = Some(Node::default());
    let (requests, receiver) = mpsc::channel(1);
    let node = Node {
        id: "b/1".into(),
        cluster: "b".into(),
        ..Default::default()
    };
    requests
        .send(DeltaDiscoveryRequest {
            node: Some(node),
            ..wrong_node
        })
        .await
        .unwrap();
    let mut client = AggregatedDiscoveryServiceClient::new(xds.sidecar("a"));
    let mut responses = client
        .delta_aggregated_resources(ReceiverStream::new(receiver))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        responses.message().await.unwrap_err().code(),
        Code::PermissionDenied
    );

    let told = register(&xds, "a", instance("b/1", 1)).await.unwrap_err();
    assert_eq!(told.code(), Code::PermissionDenied);
}

type Registered = (mpsc::Sender<v1::RegisterRequest>, Streaming<v1::RegisterResponse>);

async fn register(xds: &XdsLite, service: &str, instance: v1::Instance) -> Result<Registered, Status> {
    let (requests, receiver) = mpsc::channel(4);
    requests
        .send(v1::RegisterRequest {
            instance: Some(instance),
            leave: false,
        })
        .await
        .unwrap();
    let mut client = RegistrationClient::new(xds.sidecar(service));
    let mut answers = client.register(ReceiverStream::new(receiver)).await?.into_inner();
    let answer = tokio::time::timeout(PATIENCE, answers.message()).await.unwrap()?;
    assert!(answer.unwrap().heartbeat_interval.is_some());
    Ok((requests, answers))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_comes_with_its_stream_leaves_when_asked_and_survives_a_restart() {
    let (registry, ca) = (file_registry(), authority());
    let mut xds = XdsLite::start(&registry, &ca, &["--registration-grace", "60s"]);
    let mut ads = Ads::open(&xds, "b", subscribe(Kind::Instance, &["a/*"]))
        .await
        .unwrap();
    assert_eq!(ads.next().await.unwrap().removed_resources, ["a/*"]);
    let (requests, mut answers) = register(&xds, "a", instance("a/1", 9)).await.unwrap();
    let kept = register(&xds, "a", instance("a/2", 9)).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(
            ads.next()
                .await
                .unwrap()
                .resources
                .into_iter()
                .map(|resource| resource.name),
        );
    }
    assert_eq!(seen, ["a/1", "a/2"]);
    requests
        .send(v1::RegisterRequest {
            instance: None,
            leave: true,
        })
        .await
        .unwrap();
    assert!(answers.message().await.unwrap().is_some());
    assert!(
        answers.message().await.unwrap().is_none(),
        "the stream ends after the answer"
    );
    assert_eq!(ads.next().await.unwrap().removed_resources, ["a/1"]);

    xds.terminate();
    let ended = ads.responses.message().await;
    assert!(!matches!(ended, Ok(Some(_))));
    assert!(xds.wait().success());
    drop(kept);
    let xds = XdsLite::start(&registry, &ca, &["--registration-grace", "1s"]);
    let mut client = DocumentsClient::new(xds.operator());
    let request = v1::WatchRequest {
        kind: "Instance".into(),
        ..Default::default()
    };
    let mut events = client.watch(request).await.unwrap().into_inner();
    let mut told = Vec::new();
    while told.len() < 3 {
        let event = tokio::time::timeout(PATIENCE, events.message())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        told.push(event.event());
    }
    use v1::watch_response::Event;
    assert_eq!(
        told,
        [Event::Stored, Event::Synced, Event::Deleted],
        "orphan, and then its grace ends"
    );
}

fn csr(uri: Option<&str>) -> (Vec<u8>, rcgen::KeyPair) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut params = rcgen::CertificateParams::default();
    params
        .subject_alt_names
        .extend(uri.map(|uri| rcgen::SanType::URI(uri.try_into().unwrap())));
    (params.serialize_request(&key).unwrap().der().to_vec(), key)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_token_becomes_a_certificate_that_works_and_bad_ones_are_told_apart() {
    let ca = authority();
    let xds = XdsLite::start(&file_registry(), &ca, &[]);
    let mut operator = IdentityClient::new(xds.operator());
    let create = async |operator: &mut IdentityClient<_>, seconds: i64| {
        let lifetime = Some(prost_types::Duration { seconds, nanos: 0 });
        let request = v1::CreateJoinTokenRequest {
            service: "a".into(),
            lifetime,
        };
        operator
            .create_join_token(request)
            .await
            .map(|response| response.into_inner().token)
    };
    let token = create(&mut operator, 3600).await.unwrap();
    assert_eq!(
        create(&mut operator, 0).await.unwrap_err().code(),
        Code::InvalidArgument
    );

    let sign = async |path: Option<&str>, csr: Vec<u8>, join_token: &str| {
        let mut client = IdentityClient::new(xds.channel(path));
        let request = v1::SignCertificateRequest {
            csr,
            join_token: join_token.into(),
        };
        client
            .sign_certificate(request)
            .await
            .map(tonic::Response::into_inner)
    };
    let (request, _key) = csr(None);
    let signed = sign(None, request.clone(), &token).await.unwrap();
    let id = mesh_link::svid::identity(&signed.certificate_chain[0].clone().into()).unwrap();
    assert_eq!(id.as_str(), "spiffe://mesh.local/service/a");
    assert!(
        sign(Some("/service/a"), request.clone(), "").await.is_ok(),
        "a renewal"
    );

    let refused = async |path, csr, token: &str| {
        let status = sign(path, csr, token).await.unwrap_err();
        (status.code(), status.message().to_owned())
    };
    let (code, told) = refused(None, request.clone(), "").await;
    assert!(code == Code::Unauthenticated && told.contains("token"), "{told}");
    assert_eq!(
        refused(Some("/operator/admin"), request.clone(), "").await.0,
        Code::PermissionDenied
    );
    let (code, told) = refused(None, csr(Some("spiffe://mesh.local/service/b")).0, &token).await;
    assert!(
        code == Code::PermissionDenied && told.contains("service/b"),
        "{told}"
    );
    assert_eq!(
        refused(None, vec![1, 2, 3], &token).await.0,
        Code::InvalidArgument
    );
    let short = create(&mut operator, 1).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let (code, told) = refused(None, request.clone(), &short).await;
    assert!(
        code == Code::Unauthenticated && told.contains("expired"),
        "{told}"
    );
    let other = CertificateAuthority::load(&authority()).unwrap();
    let service = mesh_proto::name::ServiceName::parse("a").unwrap();
    let foreign = xds_lite::identity::token::create(
        &other,
        &service,
        Duration::from_secs(60),
        std::time::SystemTime::now(),
    );
    let (code, told) = refused(None, request, &foreign.unwrap().0).await;
    assert!(
        code == Code::Unauthenticated && told.contains("another authority"),
        "{told}"
    );
}

#[test]
fn a_start_that_fails_is_one_line_with_the_fix() {
    let (ca, registry) = (authority(), file_registry());
    let told = fails(command(&registry, &folder("no-ca"), &[]));
    assert!(told.contains("mesh-ctl ca init"), "{told}");
    let told = fails(command("file:/proc/nowhere", &ca, &[]));
    assert!(
        told.starts_with("xds-lite: --registry file:/proc/nowhere: "),
        "{told}"
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut busy_listen = std::process::Command::new(env!("CARGO_BIN_EXE_xds-lite"));
    busy_listen
        .args([
            "--registry",
            &registry,
            "--listen",
            &address,
            "--metrics",
            "127.0.0.1:0",
            "--ca",
        ])
        .arg(&ca);
    let told = fails(busy_listen);
    assert!(told.contains("--listen") && told.contains(&address), "{told}");
    let mut bad = command("zk://nowhere", &ca, &[]);
    let output = bad.output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(told.contains("zk://HOST:PORT"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_on_zookeeper_push_the_same_versions_and_know_each_other() {
    let server = ZooKeeper::start("process");
    let (registry, ca) = (format!("zk://{}/mesh", server.address()), authority());
    let more = ["--zk-session-timeout", "2s"];
    let (one, two) = (
        XdsLite::start(&registry, &ca, &more),
        XdsLite::start(&registry, &ca, &more),
    );
    let applied = apply(&one, &[service("a", "1s")]).await.unwrap();
    let mut ads = Ads::open(&two, "a", subscribe(Kind::Service, &["a"]))
        .await
        .unwrap();
    let response = ads.next_resources().await;
    assert_eq!(response.resources[0].version, applied[0].version);
    let mut client = StatusClient::new(two.operator());
    let status = client
        .get_status(v1::GetStatusRequest::default())
        .await
        .unwrap()
        .into_inner();
    let mut replicas: Vec<_> = status
        .replicas
        .iter()
        .map(|replica| replica.address.clone())
        .collect();
    let mut expected = vec![one.grpc.clone(), two.grpc.clone()];
    replicas.sort();
    expected.sort();
    assert_eq!(replicas, expected);
    assert!(status.registry.unwrap().connected);
}

#[test]
fn without_zookeeper_it_starts_is_not_ready_and_stops_when_told() {
    let port = crate::support::free_port();
    let metrics = crate::support::free_port();
    let ca = authority();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_xds-lite"));
    command.args([
        "--registry",
        &format!("zk://127.0.0.1:{port}/mesh"),
        "--listen",
        "127.0.0.1:0",
    ]);
    command
        .args(["--metrics", &format!("127.0.0.1:{metrics}"), "--ca"])
        .arg(&ca);
    command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let answer = (0..200).find_map(|_| {
        std::thread::sleep(Duration::from_millis(50));
        http(metrics, "/ready")
    });
    let answer = answer.expect("the metrics port answers");
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("has not read its registry"),
        "{answer}"
    );
    std::process::Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(child.wait().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(told.matches("out of reach").count(), 1, "{told}");
    assert!(output.stdout.is_empty());
}

fn http(port: u16, path: &str) -> Option<String> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}
