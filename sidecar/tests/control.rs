//! The control side against a control service: refusals, losses, restarts, renewals.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use mesh_proto::kind::Kind;
use mesh_proto::name::ServiceName;
use mesh_proto::v1::document::Resource;
use mesh_proto::v1::{self, instance_spec};
use mesh_sidecar::shared::Phase;
use support::{Fake, Sidecar, eventually, mesh, yaml};
use tokio_util::sync::CancellationToken;

const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

fn service(rest: &str) -> Resource {
    yaml(&format!(
        "kind: Service\nmetadata: {{name: market.quotes}}\nspec: {{protocol: grpc, timeout: 7s{rest}}}"
    ))
}

fn policy(rules: &str) -> Resource {
    yaml(&format!(
        "kind: AccessPolicy\nmetadata: {{name: readers}}\nspec: {{service: market.quotes, allow: {rules}}}"
    ))
}

fn instance(id: &str) -> Resource {
    yaml(&format!(
        "kind: Instance\nmetadata: {{name: market.orders/{id}}}\nspec: {{address: 127.0.0.1, port: 9000}}"
    ))
}

/// One way to spoil a message, and what is said about it.
type Spoiled<M> = (fn(&mut M), &'static str);

#[tokio::test]
async fn each_field_of_a_service_wrong_in_turn_is_refused_by_its_place_and_the_one_before_stays() {
    let spoiled: Vec<Spoiled<v1::ServiceSpec>> = vec![
        (
            |spec| spec.protocol = 0,
            "spec.protocol: is missing; write grpc or http-json",
        ),
        (
            |spec| spec.schema = Some(v1::SchemaSource { source: None }),
            "spec.schema: is blank",
        ),
        (
            |spec| {
                let source = Some(v1::schema_source::Source::Hash("sha256:1".into()));
                spec.schema = Some(v1::SchemaSource { source });
            },
            "spec.schema.hash: \"sha256:1\" is not a schema's hash",
        ),
        (
            |spec| {
                let source = Some(v1::schema_source::Source::File("a".into()));
                spec.schema = Some(v1::SchemaSource { source });
            },
            "spec.schema.file: \"a\" was not read in",
        ),
        (
            |spec| {
                spec.rest = Some(v1::RestOptions {
                    unknown_query: 9,
                    ..Default::default()
                });
            },
            "spec.rest.unknownQuery: 9 is not known",
        ),
        (
            |spec| {
                spec.rest = Some(v1::RestOptions {
                    unknown_fields: 9,
                    ..Default::default()
                });
            },
            "spec.rest.unknownFields: 9 is not known",
        ),
        (
            |spec| spec.timeout = Some(prost_types::Duration::default()),
            "spec.timeout: 0ns is under 1ms",
        ),
        (
            |spec| {
                spec.retry = Some(v1::RetryPolicy {
                    attempts: 9,
                    ..Default::default()
                });
            },
            "spec.retry.attempts: 9 is over 5",
        ),
        (
            |spec| {
                spec.retry = Some(v1::RetryPolicy {
                    budget: "130%".into(),
                    ..Default::default()
                });
            },
            "spec.retry.budget: 130% is over 100%",
        ),
        (
            |spec| {
                spec.balance = Some(v1::BalancePolicy {
                    policy: 9,
                    ..Default::default()
                });
            },
            "spec.balance.policy: 9 is not known",
        ),
        (
            |spec| {
                spec.balance = Some(v1::BalancePolicy {
                    locality: 9,
                    ..Default::default()
                });
            },
            "spec.balance.locality: 9 is not known",
        ),
    ];
    let (folder, ca) = mesh("service", "good");
    let fake = Fake::start(&ca).await;
    fake.hold(&[service("")]);
    let sidecar = Sidecar::start(&folder, &[fake.address], "").unwrap();
    sidecar.ready().await;
    for (index, (spoil, expected)) in spoiled.into_iter().enumerate() {
        let Resource::Service(mut message) = service("") else {
            panic!()
        };
        spoil(message.spec.as_mut().unwrap());
        let nonce = format!("bad-{index}");
        fake.push(Kind::Service, &[Resource::Service(message)], &nonce)
            .await;
        let told = fake.answer(&nonce).await;
        assert!(
            told.starts_with(&format!("market.quotes: {expected}")),
            "{expected}\n{told}"
        );
        let timeout = sidecar.shared.snapshot().resources.services["market.quotes"].timeout;
        assert_eq!(timeout, Some(Duration::from_secs(7)), "after {expected}");
    }
    sidecar.end().await;
}

#[tokio::test]
async fn each_field_of_a_policy_wrong_in_turn_is_refused_by_its_place_and_the_one_before_stays() {
    let spoiled: Vec<Spoiled<v1::AccessRule>> = vec![
        (
            |rule| *rule = v1::AccessRule::default(),
            ": would allow everything",
        ),
        (|rule| rule.methods = vec![String::new()], ".methods[0]: is blank"),
        (
            |rule| rule.methods = vec!["a b".into()],
            ".methods[0]: \"a b\" is not a method",
        ),
        (
            |rule| rule.callers = vec![v1::Caller { who: None }],
            ".callers[0]: names nobody",
        ),
        (
            |rule| {
                let who = Some(v1::caller::Who::Service("Not".into()));
                rule.callers = vec![v1::Caller { who }];
            },
            ".callers[0].service: \"Not\" is not a service name",
        ),
        (
            |rule| {
                let who = Some(v1::caller::Who::Identity("spiffe://A/b".into()));
                rule.callers = vec![v1::Caller { who }];
            },
            ".callers[0].identity: \"spiffe://A/b\" is not a SPIFFE ID",
        ),
        (
            |rule| rule.jwt = Some(v1::JwtRule::default()),
            ".jwt.provider: is missing",
        ),
        (
            |rule| {
                let claims = [("scope".to_owned(), prost_types::Value { kind: None })].into();
                rule.jwt = Some(v1::JwtRule {
                    provider: "login".into(),
                    claims,
                });
            },
            ".jwt.claims.scope: must be text",
        ),
    ];
    let (folder, ca) = mesh("policy", "good");
    let fake = Fake::start(&ca).await;
    let good = policy("[{callers: [{service: web.portfolio}]}]");
    fake.hold(std::slice::from_ref(&good));
    let sidecar = Sidecar::start(&folder, &[fake.address], "").unwrap();
    sidecar.ready().await;
    let before = sidecar.shared.snapshot().resources.policies["market.quotes"]["readers"].clone();
    assert_eq!(before.allow.len(), 1);
    for (index, (spoil, expected)) in spoiled.into_iter().enumerate() {
        let Resource::AccessPolicy(mut message) = good.clone() else {
            panic!()
        };
        spoil(&mut message.spec.as_mut().unwrap().allow[0]);
        let nonce = format!("bad-{index}");
        fake.push(Kind::AccessPolicy, &[Resource::AccessPolicy(message)], &nonce)
            .await;
        let told = fake.answer(&nonce).await;
        let expected = format!("market.quotes/readers: spec.allow[0]{expected}");
        assert!(told.starts_with(&expected), "{expected}\n{told}");
        assert_eq!(
            sidecar.shared.snapshot().resources.policies["market.quotes"]["readers"],
            before
        );
    }
    sidecar.end().await;
}

#[tokio::test]
async fn a_bad_resource_of_every_other_kind_is_refused_by_name_and_place() {
    let (folder, ca) = mesh("kinds", "good");
    let fake = Fake::start(&ca).await;
    let sidecar = Sidecar::start(&folder, &[fake.address], "").unwrap();
    sidecar.ready().await;
    let named = |name: &str| {
        Some(v1::Metadata {
            name: name.into(),
            ..Default::default()
        })
    };
    let cases: [(Kind, Resource, &str); 4] = [
        (
            Kind::Mesh,
            Resource::Mesh(v1::Mesh {
                metadata: named("default"),
                spec: None,
            }),
            "default: spec.trustDomain: is missing",
        ),
        (
            Kind::TrustBundle,
            Resource::TrustBundle(v1::TrustBundle {
                metadata: named("mesh.local"),
                spec: None,
            }),
            "mesh.local: spec.certificates: is missing",
        ),
        (
            Kind::JwtProvider,
            Resource::JwtProvider(v1::JwtProvider {
                metadata: named("login"),
                spec: None,
            }),
            "login: spec.issuer: is missing; write the exact iss of its tokens; spec.audiences: is missing",
        ),
        (
            Kind::Instance,
            Resource::Instance(v1::Instance {
                metadata: named("market.orders/a"),
                spec: None,
            }),
            "market.orders/a: spec.address: is missing",
        ),
    ];
    for (kind, bad, expected) in cases {
        let nonce = format!("bad-{kind}");
        fake.push(kind, &[bad], &nonce).await;
        let told = fake.answer(&nonce).await;
        assert!(told.starts_with(expected), "{expected}\n{told}");
    }
    // The others of the same push are applied.
    let Resource::Instance(mut bad) = instance("bad") else {
        panic!()
    };
    bad.spec.as_mut().unwrap().port = 0;
    fake.push(
        Kind::Instance,
        &[instance("good"), Resource::Instance(bad)],
        "mixed",
    )
    .await;
    assert_eq!(
        fake.answer("mixed").await,
        "market.orders/bad: spec.port: is missing; write 1 to 65535"
    );
    let resources = sidecar.shared.snapshot().resources.clone();
    assert_eq!(
        resources.instances["market.orders"]
            .keys()
            .map(|id| &**id)
            .collect::<Vec<_>>(),
        ["good"]
    );
    sidecar.end().await;
}

#[tokio::test]
async fn after_a_loss_everything_stays_and_the_stream_resumes_at_the_next_server_with_what_is_held() {
    let (folder, ca) = mesh("resume", "good");
    let (one, two) = (Fake::start(&ca).await, Fake::start(&ca).await);
    for fake in [&one, &two] {
        fake.hold(&[service(""), instance("a")]);
    }
    let sidecar = Sidecar::start(&folder, &[one.address, two.address], "").unwrap();
    sidecar.ready().await;
    one.die();
    eventually("a stream at the second server", || {
        !two.heard.requests.lock().unwrap().is_empty()
    })
    .await;
    assert!(
        sidecar
            .shared
            .snapshot()
            .resources
            .services
            .contains_key("market.quotes")
    );
    eventually("every first request", || {
        two.heard.requests.lock().unwrap().len() >= 6
    })
    .await;
    let requests = two.heard.requests.lock().unwrap().clone();
    let versions = |kind: Kind| {
        let first = requests
            .iter()
            .find(|request| request.type_url == kind.type_url());
        first.unwrap().initial_resource_versions.clone()
    };
    assert_eq!(
        versions(Kind::Service),
        [("market.quotes".to_owned(), service("").version())].into()
    );
    assert_eq!(
        versions(Kind::Instance),
        [("market.orders/a".to_owned(), instance("a").version())].into()
    );
    sidecar.end().await;
}

#[tokio::test]
async fn a_lost_registration_is_made_again_at_the_next_server_then_drains_and_leaves() {
    let (folder, ca) = mesh("register", "good");
    let (one, two) = (Fake::start(&ca).await, Fake::start(&ca).await);
    let sidecar = Sidecar::start(&folder, &[one.address, two.address], "").unwrap();
    sidecar.ready().await;
    let leave = CancellationToken::new();
    let inbound = SocketAddr::from(([127, 0, 0, 1], 15006));
    let registration = sidecar.control.registration(Some(inbound)).unwrap();
    let running = tokio::spawn(registration.run(leave.clone()));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(
        one.heard.registrations.lock().unwrap().is_empty(),
        "not before it is ready"
    );
    sidecar.shared.enter(Phase::Ready);
    let registered = |fake: &Fake, health: instance_spec::Health| {
        let registrations = fake.heard.registrations.lock().unwrap();
        registrations.iter().any(|request| {
            let spec = request
                .instance
                .as_ref()
                .and_then(|instance| instance.spec.as_ref());
            spec.is_some_and(|spec| spec.health == i32::from(health) && spec.port == 15006)
        })
    };
    eventually("registered", || registered(&one, instance_spec::Health::Serving)).await;
    eventually("heartbeats", || {
        let registrations = one.heard.registrations.lock().unwrap();
        registrations
            .iter()
            .filter(|request| request.instance.is_none())
            .count()
            > 2
    })
    .await;
    one.die();
    eventually("registered at the second", || {
        registered(&two, instance_spec::Health::Serving)
    })
    .await;
    eventually("counted as registered", || {
        sidecar.control.numbers.is_registered()
    })
    .await;
    sidecar.shared.enter(Phase::Draining);
    eventually("draining", || registered(&two, instance_spec::Health::Draining)).await;
    leave.cancel();
    running.await.unwrap();
    assert!(
        two.heard
            .registrations
            .lock()
            .unwrap()
            .iter()
            .any(|request| request.leave)
    );
    sidecar.end().await;
}

#[tokio::test]
async fn a_certificate_is_renewed_with_itself_by_time_and_when_asked() {
    let (folder, ca) = mesh("renew", "good");
    let fake = Fake::start(&ca).await;
    *fake.heard.lifetime.lock().unwrap() = Duration::from_secs(4);
    let sidecar = Sidecar::start(&folder, &[fake.address], "").unwrap();
    sidecar.ready().await;
    // The token is needed once.
    folder.write("token", "expired");
    let first = sidecar.fingerprint();
    eventually("renewed by time", || sidecar.fingerprint() != first).await;
    *fake.heard.lifetime.lock().unwrap() = Duration::from_secs(3600);
    let second = sidecar.fingerprint();
    sidecar.control.renewals.clone().unwrap().renew().await.unwrap();
    assert_ne!(sidecar.fingerprint(), second);
    let signed = fake.heard.signed.lock().unwrap().clone();
    assert!(
        !signed[0] && signed[1..].iter().all(|renewal| *renewal),
        "{signed:?}"
    );
    sidecar.end().await;
}

#[tokio::test]
async fn a_restart_within_the_life_of_the_certificate_needs_no_token() {
    let (folder, ca) = mesh("restart", "good");
    let fake = Fake::start(&ca).await;
    let sidecar = Sidecar::start(&folder, &[fake.address], "").unwrap();
    sidecar.ready().await;
    let before = sidecar.fingerprint();
    sidecar.end().await;
    std::fs::remove_file(folder.0.join("token")).unwrap();
    let sidecar = Sidecar::start(&folder, &[fake.address], "").unwrap();
    sidecar.ready().await;
    assert_eq!(sidecar.fingerprint(), before);
    sidecar.connected().await;
    sidecar.end().await;
}

#[tokio::test]
async fn a_refused_token_is_told_with_how_to_make_a_new_one_and_a_new_one_in_its_place_is_taken() {
    let (folder, ca) = mesh("token", "expired");
    let fake = Fake::start(&ca).await;
    let sidecar = Sidecar::start(&folder, &[fake.address], "").unwrap();
    let renewals = sidecar.control.renewals.clone().unwrap();
    let token = folder.0.join("token");
    let told = renewals.renew().await.unwrap_err();
    assert_eq!(
        told,
        format!(
            "xds-lite at {} refused the join token in {}: the join token has expired; make another with `mesh-ctl \
             token create --service market.quotes`",
            fake.address,
            token.display()
        )
    );
    folder.write("token", "");
    let told = renewals.renew().await.unwrap_err();
    assert!(
        told.contains("is blank; make a join token with `mesh-ctl token create"),
        "{told}"
    );
    std::fs::remove_file(&token).unwrap();
    let told = renewals.renew().await.unwrap_err();
    assert!(
        told.contains("No such file") && told.contains("mesh-ctl token create"),
        "{told}"
    );
    folder.write("token", "other");
    let told = renewals.renew().await.unwrap_err();
    assert!(
        told.contains("the certificate is for spiffe://mesh.local/service/market.orders, not"),
        "{told}"
    );
    assert!(sidecar.shared.credentials().is_none());
    folder.write("token", "good\n");
    sidecar.ready().await;
    sidecar.end().await;
}

#[tokio::test]
async fn an_xds_lite_of_another_authority_or_identity_is_not_believed() {
    let (folder, _) = mesh("stranger", "good");
    let (_other, stranger) = mesh("stranger-2", "good");
    let fake = Fake::start(&stranger).await;
    let sidecar = Sidecar::start(&folder, &[fake.address], "").unwrap();
    let told = sidecar
        .control
        .renewals
        .clone()
        .unwrap()
        .renew()
        .await
        .unwrap_err();
    assert!(
        told.contains("shows a certificate of another authority; is `ca` the ca.pem"),
        "{told}"
    );
    assert!(
        fake.heard.signed.lock().unwrap().is_empty(),
        "the token was not shown to it"
    );
    sidecar.end().await;
    let nowhere = Sidecar::start(&folder, &[NOWHERE], "").unwrap();
    let told = nowhere
        .control
        .renewals
        .clone()
        .unwrap()
        .renew()
        .await
        .unwrap_err();
    assert!(told.contains("nothing listens there"), "{told}");
    nowhere.end().await;
    std::fs::write(folder.0.join("ca.pem"), "nonsense").unwrap();
    let told = Sidecar::start(&folder, &[NOWHERE], "").err().unwrap();
    assert!(
        told.starts_with("control.ca: ") && told.contains("holds no certificate in PEM"),
        "{told}"
    );
}

#[tokio::test]
async fn a_sidecar_starts_from_its_last_good_copy_while_every_xds_lite_is_away() {
    let (folder, ca) = mesh("last-good", "good");
    let fake = Fake::start(&ca).await;
    fake.hold(&[service(""), instance("a"), policy("[]")]);
    let sidecar = Sidecar::start(&folder, &[fake.address], "").unwrap();
    sidecar.ready().await;
    sidecar.end().await;
    let copy = folder.0.join("state/last-good.binpb");
    assert!(support::exists(&copy), "written at the latest at the end");
    fake.die();
    let sidecar = Sidecar::start(&folder, &[fake.address], "").unwrap();
    sidecar.ready().await;
    let resources = sidecar.shared.snapshot().resources.clone();
    assert!(resources.policies["market.quotes"]["readers"].allow.is_empty());
    assert_eq!(resources.instances["market.orders"].len(), 1);
    assert!(resources.policies_known.contains("market.quotes"));
    sidecar.end().await;
    // Damaged: ignored, and then it is not ready without xds-lite.
    let mut bytes = std::fs::read(&copy).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&copy, bytes).unwrap();
    let sidecar = Sidecar::start(&folder, &[fake.address], "").unwrap();
    assert!(sidecar.shared.snapshot().resources.services.is_empty());
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(sidecar.control.readiness.missing().len(), 1);
    sidecar.end().await;
}

#[tokio::test]
async fn a_pushed_trust_bundle_is_believed_without_a_new_certificate() {
    let (folder, ca) = mesh("bundle", "good");
    let (_other, next) = mesh("bundle-2", "good");
    let fake = Fake::start(&ca).await;
    let sidecar = Sidecar::start(&folder, &[fake.address], "").unwrap();
    sidecar.ready().await;
    let before = sidecar.fingerprint();
    let both = Resource::TrustBundle(v1::TrustBundle {
        metadata: Some(v1::Metadata {
            name: "mesh.local".into(),
            ..Default::default()
        }),
        spec: Some(v1::TrustBundleSpec {
            certificates: format!("{}{}", ca.bundle_pem(), next.bundle_pem()),
        }),
    });
    fake.push(Kind::TrustBundle, &[both], "both").await;
    assert_eq!(fake.answer("both").await, "");
    eventually("two authorities", || {
        sidecar.shared.credentials().unwrap().authorities.len() == 2
    })
    .await;
    assert_eq!(sidecar.fingerprint(), before);
    assert_eq!(fake.heard.signed.lock().unwrap().len(), 1);
    sidecar.end().await;
}

#[tokio::test]
async fn a_service_called_for_the_first_time_is_learnt() {
    let (folder, ca) = mesh("wants", "good");
    let fake = Fake::start(&ca).await;
    let news = ServiceName::parse("market.news").unwrap();
    fake.hold(&[yaml(
        "kind: Service\nmetadata: {name: market.news}\nspec: {protocol: grpc}",
    )]);
    let sidecar = Sidecar::start(&folder, &[fake.address], "").unwrap();
    sidecar.ready().await;
    assert!(!sidecar.shared.snapshot().resources.services_known.contains(&news));
    sidecar.shared.want(&news);
    eventually("learnt", || {
        sidecar.shared.snapshot().resources.services.contains_key(&news)
    })
    .await;
    sidecar.end().await;
}
