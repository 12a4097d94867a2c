//! Conversations between a sidecar and xds-lite, message by message.

use std::path::Path;

use mesh_proto::domain::{SchemaHash, SchemaSource};
use mesh_proto::v1::{self, document::Resource as Message};
use prost_types::Any;

use super::*;

const CONFIG: &str = "
node: {service: web.portfolio, id: a}
control: {servers: ['127.0.0.1:1'], ca: ca.pem, joinToken: {file: token}, trustDomain: mesh.local}
edge: {listen: '127.0.0.1:0', expose: [{service: market.orders}]}
dependencies: [market.quotes]
";

fn subscription() -> Subscription {
    let config = Config::parse(CONFIG, Path::new("."), []).unwrap();
    Subscription::new(&config, TrustDomain::parse("mesh.local").unwrap())
}

fn name(text: &str) -> ServiceName {
    ServiceName::parse(text).unwrap()
}

fn yaml(text: &str) -> Message {
    let text = format!("apiVersion: mesh/v1\n{text}\n");
    mesh_proto::document::parse(&text, "test")
        .unwrap()
        .remove(0)
        .resource
}

fn service(rest: &str) -> Message {
    yaml(&format!(
        "kind: Service\nmetadata: {{name: market.quotes}}\nspec: {{protocol: grpc{rest}}}"
    ))
}

fn instance(id: &str) -> Message {
    yaml(&format!(
        "kind: Instance\nmetadata: {{name: market.quotes/{id}}}\nspec: {{address: 127.0.0.1, port: 9000}}"
    ))
}

fn policy(service: &str, rules: &str) -> Message {
    yaml(&format!(
        "kind: AccessPolicy\nmetadata: {{name: readers}}\nspec: {{service: {service}, allow: {rules}}}"
    ))
}

fn schema(bytes: &[u8]) -> Message {
    Message::Schema(v1::Schema {
        metadata: Some(v1::Metadata {
            name: SchemaHash::of(bytes).to_string(),
            ..Default::default()
        }),
        spec: Some(v1::SchemaSpec {
            descriptor_set: bytes.to_vec(),
        }),
    })
}

fn resource(message: &Message) -> discovery::Resource {
    discovery::Resource {
        version: message.version(),
        name: message.resource_name(),
        resource: Some(Any {
            type_url: message.kind().type_url().into(),
            value: message.encode_to_vec(),
        }),
    }
}

fn push(kind: Kind, messages: &[Message], removed: &[&str]) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse {
        resources: messages.iter().map(resource).collect(),
        type_url: kind.type_url().into(),
        nonce: "n".into(),
        removed_resources: removed.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    }
}

/// What a NACK says; empty for an ACK.
fn refusal(outcome: &Outcome) -> String {
    let answer = &outcome.send[0];
    assert_eq!(answer.response_nonce, "n");
    answer
        .error_detail
        .as_ref()
        .map_or_else(String::new, |status| status.message.clone())
}

fn subscribed(requests: &[DeltaDiscoveryRequest], kind: Kind) -> Vec<String> {
    let of_kind = requests
        .iter()
        .filter(|request| request.type_url == kind.type_url());
    of_kind
        .flat_map(|request| request.resource_names_subscribe.clone())
        .collect()
}

#[test]
fn a_stream_begins_by_asking_for_the_own_service_what_it_calls_and_what_the_edge_judges() {
    let requests = subscription().open();
    assert_eq!(subscribed(&requests, Kind::Mesh), ["*"]);
    assert_eq!(subscribed(&requests, Kind::TrustBundle), ["*"]);
    assert_eq!(subscribed(&requests, Kind::JwtProvider), ["*"]);
    assert_eq!(
        subscribed(&requests, Kind::Service),
        ["market.orders", "market.quotes", "web.portfolio"]
    );
    assert_eq!(
        subscribed(&requests, Kind::Instance),
        ["market.orders/*", "market.quotes/*"]
    );
    assert_eq!(
        subscribed(&requests, Kind::AccessPolicy),
        ["market.orders/*", "web.portfolio/*"]
    );
    let nodes: Vec<_> = requests
        .iter()
        .filter_map(|request| request.node.as_ref())
        .collect();
    assert_eq!(nodes.len(), 1, "the node is told once, with the first request");
    assert_eq!(
        (nodes[0].id.as_str(), nodes[0].cluster.as_str()),
        ("web.portfolio/a", "web.portfolio")
    );
}

#[test]
fn a_good_resource_is_put_into_force_and_answered_with_yes() {
    let mut subscription = subscription();
    subscription.open();
    let outcome = subscription.on_response(push(
        Kind::Service,
        &[service("")],
        &["market.orders", "web.portfolio"],
    ));
    assert!(outcome.changed);
    assert_eq!(refusal(&outcome), "");
    let resources = subscription.resources();
    assert!(resources.services.contains_key("market.quotes"));
    for service in ["market.quotes", "market.orders", "web.portfolio"] {
        assert!(resources.services_known.contains(service), "{service}");
    }
}

#[test]
fn a_bad_resource_is_refused_alone_and_the_one_before_stays() {
    let mut subscription = subscription();
    subscription.open();
    subscription.on_response(push(Kind::Instance, &[instance("a")], &[]));
    let Message::Instance(mut bad) = instance("a") else {
        panic!("no instance")
    };
    bad.spec.as_mut().unwrap().port = 70_000;
    let outcome = subscription.on_response(push(
        Kind::Instance,
        &[Message::Instance(bad), instance("b")],
        &[],
    ));
    assert_eq!(
        refusal(&outcome),
        "market.quotes/a: spec.port: 70000 is over 65535"
    );
    let resources = subscription.resources();
    let ports: Vec<_> = resources.instances["market.quotes"]
        .values()
        .map(|i| i.port)
        .collect();
    assert_eq!(ports, [9000, 9000]);
}

#[test]
fn all_faults_of_a_resource_stand_in_its_one_line() {
    let mut subscription = subscription();
    subscription.open();
    let bad = Message::Service(v1::Service {
        metadata: Some(v1::Metadata {
            name: "market.quotes".into(),
            ..Default::default()
        }),
        spec: Some(v1::ServiceSpec {
            retry: Some(v1::RetryPolicy {
                attempts: 9,
                budget: "x".into(),
            }),
            ..Default::default()
        }),
    });
    let told = refusal(&subscription.on_response(push(Kind::Service, &[bad], &[])));
    assert_eq!(told.lines().count(), 1);
    for place in [
        "market.quotes: ",
        "spec.protocol: is missing",
        "; spec.retry.attempts: 9 is over 5",
        "; spec.retry.budget: ",
    ] {
        assert!(told.contains(place), "{place} is missing in {told}");
    }
}

#[test]
fn what_lies_about_itself_is_refused() {
    let mut subscription = subscription();
    subscription.open();
    let mut response = push(Kind::Service, &[service("")], &[]);
    response.resources[0].name = "market.orders".into();
    let told = refusal(&subscription.on_response(response));
    assert!(
        told.starts_with("market.orders: metadata.name: the resource is \"market.quotes\" inside"),
        "{told}"
    );

    let mut response = push(Kind::Service, &[service("")], &[]);
    response.resources[0].resource.as_mut().unwrap().type_url = Kind::Mesh.type_url().into();
    let told = refusal(&subscription.on_response(response));
    assert!(told.contains("pushed as Service"), "{told}");

    let mut response = push(Kind::Service, &[service("")], &[]);
    response.resources[0].resource = None;
    let told = refusal(&subscription.on_response(response));
    assert_eq!(told, "market.quotes: is empty; no message was pushed with it");

    let mut response = push(Kind::Service, &[service("")], &[]);
    response.resources[0].resource.as_mut().unwrap().value = vec![0xff; 9];
    let told = refusal(&subscription.on_response(response));
    assert_eq!(told, "market.quotes: is not an encoded mesh.v1.Service");

    let told = refusal(&subscription.on_response(push(
        Kind::Service,
        &[service(""), service(", timeout: 1s")],
        &[],
    )));
    assert_eq!(told.lines().count(), 2, "{told}");
    assert!(told.contains("stands twice in one push"), "{told}");

    let unknown = DeltaDiscoveryResponse {
        type_url: "type.googleapis.com/x".into(),
        nonce: "n".into(),
        ..Default::default()
    };
    assert!(refusal(&subscription.on_response(unknown)).contains("is not a type this sidecar asked for"));
    assert!(subscription.resources().services.is_empty());
}

#[test]
fn what_was_never_asked_for_is_not_kept() {
    let mut subscription = subscription();
    subscription.open();
    let foreign = policy("market.quotes", "[]");
    let outcome = subscription.on_response(push(Kind::AccessPolicy, &[foreign], &[]));
    assert_eq!(refusal(&outcome), "");
    let resources = subscription.resources();
    assert!(resources.policies.is_empty() && resources.policies_known.is_empty());
}

#[test]
fn a_mesh_of_another_trust_domain_is_refused() {
    let mut subscription = subscription();
    subscription.open();
    let mesh = yaml("kind: Mesh\nmetadata: {name: default}\nspec: {trustDomain: other.mesh}");
    let told = refusal(&subscription.on_response(push(Kind::Mesh, &[mesh], &[])));
    assert_eq!(
        told,
        "default: spec.trustDomain: is other.mesh, but this sidecar is of mesh.local"
    );
}

#[test]
fn authorities_that_are_no_certificates_are_refused() {
    let mut subscription = subscription();
    subscription.open();
    let bundle = Message::TrustBundle(v1::TrustBundle {
        metadata: Some(v1::Metadata {
            name: "mesh.local".into(),
            ..Default::default()
        }),
        spec: Some(v1::TrustBundleSpec {
            certificates: "-----BEGIN CERTIFICATE-----\nMAAA\n-----END CERTIFICATE-----\n".into(),
        }),
    });
    let told = refusal(&subscription.on_response(push(Kind::TrustBundle, &[bundle], &[])));
    assert_eq!(
        told,
        "mesh.local: spec.certificates: certificate 1 is not an authority's certificate"
    );
}

#[test]
fn policies_are_known_once_they_or_their_absence_were_mentioned_and_not_before() {
    let mut subscription = subscription();
    subscription.open();
    let known = |subscription: &mut Subscription, service: &str| {
        subscription.resources().policies_known.contains(service)
    };
    assert!(!known(&mut subscription, "web.portfolio"));
    // An answer about another service says nothing about this one.
    subscription.on_response(push(Kind::AccessPolicy, &[policy("market.orders", "[]")], &[]));
    assert!(known(&mut subscription, "market.orders"));
    assert!(!known(&mut subscription, "web.portfolio"));
    subscription.on_response(push(Kind::AccessPolicy, &[], &["web.portfolio/*"]));
    assert!(known(&mut subscription, "web.portfolio"));
}

#[test]
fn a_refused_policy_without_a_good_one_before_it_closes_its_service() {
    let mut subscription = subscription();
    subscription.open();
    let Message::AccessPolicy(mut bad) = policy("web.portfolio", "[{methods: ['*']}]") else {
        panic!("no policy")
    };
    bad.spec.as_mut().unwrap().allow[0].methods = vec!["not a method".into()];
    let outcome = subscription.on_response(push(
        Kind::AccessPolicy,
        &[Message::AccessPolicy(bad.clone())],
        &[],
    ));
    assert!(outcome.changed);
    assert!(refusal(&outcome).starts_with("web.portfolio/readers: spec.allow[0].methods[0]: "));
    let resources = subscription.resources();
    assert!(resources.policies["web.portfolio"]["readers"].allow.is_empty());
    // A good one opens it again, and a bad one after that changes nothing.
    let good = policy("web.portfolio", "[{methods: ['*']}]");
    subscription.on_response(push(Kind::AccessPolicy, &[good], &[]));
    subscription.on_response(push(Kind::AccessPolicy, &[Message::AccessPolicy(bad)], &[]));
    assert_eq!(
        subscription.resources().policies["web.portfolio"]["readers"]
            .allow
            .len(),
        1
    );
    // Removing it removes the closing as well.
    subscription.on_response(push(Kind::AccessPolicy, &[], &["web.portfolio/readers"]));
    assert!(!subscription.resources().policies.contains_key("web.portfolio"));
}

#[test]
fn removals_are_by_name_or_for_a_whole_collection() {
    let mut subscription = subscription();
    subscription.open();
    subscription.on_response(push(
        Kind::Instance,
        &[instance("a"), instance("b"), instance("c")],
        &[],
    ));
    subscription.on_response(push(Kind::Instance, &[], &["market.quotes/b"]));
    assert_eq!(subscription.resources().instances["market.quotes"].len(), 2);
    subscription.on_response(push(Kind::Instance, &[], &["market.quotes/*"]));
    assert!(subscription.resources().instances.is_empty());
}

#[test]
fn a_service_that_mentions_a_schema_is_followed_by_asking_for_it() {
    let mut subscription = subscription();
    subscription.open();
    let hash = SchemaHash::of(mesh_proto::DESCRIPTORS).to_string();
    let told = format!(", schema: {{hash: '{hash}'}}");
    let outcome = subscription.on_response(push(
        Kind::Service,
        &[service(&told)],
        &["market.orders", "web.portfolio"],
    ));
    assert_eq!(
        subscribed(&outcome.send, Kind::Schema),
        std::slice::from_ref(&hash)
    );
    let outcome = subscription.on_response(push(Kind::Schema, &[schema(mesh_proto::DESCRIPTORS)], &[]));
    assert_eq!(refusal(&outcome), "");
    assert_eq!(subscription.resources().schemas.len(), 1);
    // No longer mentioned: let go.
    let outcome = subscription.on_response(push(Kind::Service, &[service("")], &[]));
    assert_eq!(outcome.send[1].resource_names_unsubscribe, [hash]);
    assert!(subscription.resources().schemas.is_empty());
}

#[test]
fn a_service_whose_new_schema_has_not_come_or_is_refused_stays_as_it_was() {
    let mut subscription = subscription();
    subscription.open();
    let with = |bytes: &[u8], timeout: &str| {
        service(&format!(
            ", timeout: {timeout}, schema: {{hash: '{}'}}",
            SchemaHash::of(bytes)
        ))
    };
    let timeout = |subscription: &mut Subscription| {
        subscription.resources().services["market.quotes"]
            .timeout
            .unwrap()
            .as_secs()
    };
    let good = mesh_proto::DESCRIPTORS;
    subscription.on_response(push(Kind::Service, &[with(good, "1s")], &[]));
    subscription.on_response(push(Kind::Schema, &[schema(good)], &[]));
    // A set of descriptors that decodes but does not link: it leans on a file that is not in it.
    let bad = prost::Message::encode_to_vec(&prost_types::FileDescriptorSet {
        file: vec![prost_types::FileDescriptorProto {
            name: Some("a.proto".into()),
            dependency: vec!["missing.proto".into()],
            ..Default::default()
        }],
    });
    subscription.on_response(push(Kind::Service, &[with(&bad, "2s")], &[]));
    assert_eq!(timeout(&mut subscription), 1, "the new one waits for its schema");
    let told = refusal(&subscription.on_response(push(Kind::Schema, &[schema(&bad)], &[])));
    assert!(told.contains(": spec.descriptorSet"), "{told}");
    assert_eq!(
        timeout(&mut subscription),
        1,
        "a schema that does not compile changes nothing"
    );
    assert_eq!(subscription.resources().schemas.len(), 1);
}

#[test]
fn a_schema_that_is_taken_out_before_the_next_one_has_come_stays_in_force_until_then() {
    let mut subscription = subscription();
    subscription.open();
    let with = |bytes: &[u8]| service(&format!(", schema: {{hash: '{}'}}", SchemaHash::of(bytes)));
    let old = mesh_proto::DESCRIPTORS;
    // The same with a field nobody knows.
    let next = [old, b"\x78\x01"].concat();
    subscription.on_response(push(Kind::Service, &[with(old)], &[]));
    subscription.on_response(push(Kind::Schema, &[schema(old)], &[]));
    let gone = SchemaHash::of(old).to_string();
    let in_force = |subscription: &mut Subscription| {
        let resources = subscription.resources();
        let Some(SchemaSource::Hash(hash)) = resources.services["market.quotes"].schema.clone() else {
            panic!("it has a schema by hash")
        };
        assert!(resources.schemas.contains_key(&hash), "{hash} is not there");
        hash
    };
    // In either order.
    subscription.on_response(push(Kind::Service, &[with(&next)], &[]));
    assert_eq!(in_force(&mut subscription).as_str(), gone);
    subscription.on_response(push(Kind::Schema, &[], &[gone.as_str()]));
    assert_eq!(in_force(&mut subscription).as_str(), gone);
    let outcome = subscription.on_response(push(Kind::Schema, &[schema(&next)], &[]));
    assert_eq!(refusal(&outcome), "");
    assert_eq!(in_force(&mut subscription), SchemaHash::of(&next));
    assert_eq!(subscription.resources().schemas.len(), 1);
}

#[test]
fn it_is_synced_when_everything_asked_for_was_answered_schemas_included() {
    let mut subscription = subscription();
    subscription.open();
    let hash = SchemaHash::of(mesh_proto::DESCRIPTORS);
    let quotes = service(&format!(", schema: {{hash: '{hash}'}}"));
    let steps = [
        push(Kind::Mesh, &[], &["*"]),
        push(Kind::TrustBundle, &[], &["*"]),
        push(Kind::JwtProvider, &[], &["*"]),
        push(Kind::Service, &[quotes], &["market.orders", "web.portfolio"]),
        push(Kind::Instance, &[instance("a")], &["market.orders/*"]),
        push(Kind::AccessPolicy, &[], &["market.orders/*", "web.portfolio/*"]),
    ];
    for step in steps {
        subscription.on_response(step);
        assert!(!subscription.synced());
    }
    subscription.on_response(push(Kind::Schema, &[schema(mesh_proto::DESCRIPTORS)], &[]));
    assert!(subscription.synced());
    subscription.lost();
    subscription.open();
    assert!(subscription.synced(), "once it has served, it is not new again");
}

#[test]
fn a_new_stream_says_what_is_held_and_keeps_everything_in_force() {
    let mut subscription = subscription();
    subscription.open();
    subscription.on_response(push(Kind::Instance, &[instance("a")], &[]));
    subscription.lost();
    assert_eq!(subscription.resources().instances.len(), 1);
    let requests = subscription.open();
    let instances = requests
        .iter()
        .find(|request| request.type_url == Kind::Instance.type_url())
        .unwrap();
    let expected = [("market.quotes/a".to_owned(), instance("a").version())].into();
    assert_eq!(instances.initial_resource_versions, expected);
}

#[test]
fn a_service_called_for_the_first_time_is_asked_for_once() {
    let mut subscription = subscription();
    assert!(
        subscription.want(&name("market.news")).send.is_empty(),
        "no stream yet"
    );
    let requests = subscription.open();
    assert!(subscribed(&requests, Kind::Instance).contains(&"market.news/*".to_owned()));
    assert!(
        subscription.want(&name("market.news")).send.is_empty(),
        "asked for already"
    );
    assert!(
        subscription.want(&name("market.quotes")).send.is_empty(),
        "a dependency"
    );
    let outcome = subscription.want(&name("market.other"));
    assert_eq!(subscribed(&outcome.send, Kind::Service), ["market.other"]);
    assert_eq!(subscribed(&outcome.send, Kind::Instance), ["market.other/*"]);
    assert!(
        outcome
            .send
            .iter()
            .all(|request| request.initial_resource_versions.is_empty())
    );
}

#[test]
fn names_that_an_app_makes_up_do_not_pile_up() {
    let mut subscription = subscription();
    subscription.open();
    subscription.want(&name("market.real"));
    let real = yaml("kind: Service\nmetadata: {name: market.real}\nspec: {protocol: grpc}");
    subscription.on_response(push(Kind::Service, &[real], &[]));
    for index in 0..LEARNT_MAX + 10 {
        subscription.want(&name(&format!("made-up-{index}")));
    }
    assert!(subscription.names[&Kind::Instance].len() <= LEARNT_MAX + 2);
    assert!(
        subscription.names[&Kind::Service].contains("market.real"),
        "what exists is kept"
    );
    assert!(!subscription.names[&Kind::Service].contains("made-up-0"));
}

#[test]
fn a_snapshot_that_grows_too_large_is_refused_whole_and_the_one_before_stays() {
    let mut subscription = subscription();
    subscription.open();
    subscription.on_response(push(Kind::Instance, &[instance("a")], &[]));
    let one = resource(&instance("b"));
    let mut response = push(Kind::Instance, &[], &["market.quotes/a"]);
    response.resources = (0..=ENDPOINTS_MAX)
        .map(|index| discovery::Resource {
            name: format!("market.quotes/{index}"),
            ..one.clone()
        })
        .collect();
    let outcome = subscription.on_response(response);
    assert!(!outcome.changed);
    assert!(refusal(&outcome).contains("with this push there would be 100001 instances; at most 100000"));
    assert!(refusal(&outcome).len() <= REFUSAL_BYTES_MAX);
    assert_eq!(subscription.resources().instances["market.quotes"].len(), 1);

    let mut heavy = push(Kind::Instance, &[instance("b")], &[]);
    heavy.resources[0].resource.as_mut().unwrap().value = vec![0; SNAPSHOT_BYTES_MAX];
    let told = refusal(&subscription.on_response(heavy));
    assert!(told.contains("bytes; at most 16777216 are allowed"), "{told}");
}

#[test]
fn a_removal_told_many_times_does_not_make_room_many_times() {
    let mut subscription = subscription();
    subscription.open();
    subscription.on_response(push(Kind::Instance, &[instance("a")], &[]));
    let again = vec!["market.quotes/a"; 1000];
    let outcome = subscription.on_response(push(Kind::Instance, &[], &again));
    assert_eq!(refusal(&outcome), "");
    assert_eq!(subscription.holdings().bytes(), 0);
}
