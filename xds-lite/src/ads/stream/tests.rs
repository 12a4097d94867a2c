//! Conversations with the stream: what is asked, what is answered, what is not said twice.

use std::collections::BTreeMap;

use mesh_proto::google::rpc;

use super::*;
use crate::ads::subscription::PATTERN_BYTES_MAX;
use crate::ads::types::UNANSWERED_MAX;
use crate::catalog::{Authority, Catalog};
use crate::registry::{Key, State, Stored, codec};
use crate::snapshot;

/// Snapshots that follow each other, as the publisher makes them.
#[derive(Default)]
struct World {
    settling: bool,
    number: u64,
    documents: BTreeMap<Key, Arc<Stored>>,
    last: Option<Arc<Snapshot>>,
}

impl World {
    fn with(texts: &[&str]) -> Self {
        let mut world = Self::default();
        for text in texts {
            world.put(text);
        }
        world
    }

    fn put(&mut self, text: &str) {
        let resource = codec::parse(text.as_bytes()).unwrap();
        let stored = Stored {
            schema: None,
            revision: String::new(),
            modified: SystemTime::UNIX_EPOCH,
            item: Arc::new(Item::new(resource.clone())),
        };
        self.documents.insert(Key::of(&resource), Arc::new(stored));
    }

    fn delete(&mut self, kind: Kind, name: &str) {
        self.documents
            .remove(&Key {
                kind,
                name: name.into(),
            })
            .unwrap();
    }

    fn publish(&mut self) -> Published {
        let state = State {
            documents: self.documents.clone(),
            ..Default::default()
        };
        let authority = Authority {
            trust_domain: "mesh.local".into(),
            bundle_pem: "OWN".into(),
        };
        let next = Arc::new(snapshot::build(
            Catalog::of(&state, &authority),
            self.number,
            self.settling,
        ));
        self.number += 1;
        let diff = self
            .last
            .as_ref()
            .map(|last| snapshot::diff(last, &next))
            .unwrap_or_default();
        self.last = Some(Arc::clone(&next));
        Published { snapshot: next, diff }
    }
}

fn service(name: &str, timeout: &str) -> String {
    format!(
        "apiVersion: mesh/v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{protocol: grpc, timeout: {timeout}}}\n"
    )
}

fn instance(name: &str, port: u16) -> String {
    format!(
        "apiVersion: mesh/v1\nkind: Instance\nmetadata: {{name: {name}}}\nspec: {{address: 127.0.0.1, port: {port}}}\n"
    )
}

fn request(kind: Kind) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: kind.type_url().into(),
        ..Default::default()
    }
}

fn subscribe(kind: Kind, names: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        resource_names_subscribe: names.iter().map(|&name| name.into()).collect(),
        ..request(kind)
    }
}

fn ack(response: &DeltaDiscoveryResponse) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: response.type_url.clone(),
        response_nonce: response.nonce.clone(),
        ..Default::default()
    }
}

fn nack(response: &DeltaDiscoveryResponse, message: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        error_detail: Some(rpc::Status {
            code: 3,
            message: message.into(),
            details: vec![],
        }),
        ..ack(response)
    }
}

/// `Type+name` for what is sent and `Type-name` for what is removed, in order.
fn told(responses: &[DeltaDiscoveryResponse]) -> Vec<String> {
    responses
        .iter()
        .flat_map(|response| {
            let kind = response.type_url.rsplit('.').next().unwrap();
            let sent = response
                .resources
                .iter()
                .map(move |resource| format!("{kind}+{}", resource.name));
            let removed = response
                .removed_resources
                .iter()
                .map(move |name| format!("{kind}-{name}"));
            sent.chain(removed)
        })
        .collect()
}

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

#[allow(clippy::needless_pass_by_value)]
fn ask(stream: &mut Stream, request: DeltaDiscoveryRequest) -> Vec<DeltaDiscoveryResponse> {
    stream.on_request(NOW, &request).unwrap()
}

fn started(world: &mut World) -> Stream {
    let mut stream = Stream::default();
    assert!(stream.on_snapshot(&world.publish()).is_empty());
    stream
}

fn state_of(stream: &Stream, name: &str) -> Progress {
    stream
        .progress()
        .find(|(_, found, _)| *found == name)
        .unwrap()
        .2
        .clone()
}

#[test]
fn a_subscription_is_answered_with_all_that_matches_and_nothing_else() {
    let mut world = World::with(&[
        &instance("a/1", 1),
        &instance("a/2", 2),
        &instance("b/1", 3),
        &service("a", "1s"),
    ]);
    let mut stream = started(&mut world);
    let responses = ask(&mut stream, subscribe(Kind::Instance, &["a/*"]));
    assert_eq!(responses.len(), 1);
    assert_eq!(told(&responses), ["Instance+a/1", "Instance+a/2"]);
    let responses = ask(&mut stream, subscribe(Kind::TrustBundle, &["*"]));
    assert_eq!(told(&responses), ["TrustBundle+mesh.local"]);
}

#[test]
fn nothing_is_sent_before_the_first_snapshot_and_everything_owed_with_it_in_push_order() {
    let mut world = World::with(&[&instance("a/1", 1), &service("a", "1s")]);
    let mut stream = Stream::default();
    for (kind, name) in [(Kind::Instance, "a/*"), (Kind::Service, "a"), (Kind::Mesh, "*")] {
        assert!(ask(&mut stream, subscribe(kind, &[name])).is_empty());
    }
    let responses = stream.on_snapshot(&world.publish());
    assert_eq!(told(&responses), ["Mesh-*", "Service+a", "Instance+a/1"]);
    assert!(stream.on_snapshot(&world.publish()).is_empty());
}

#[test]
fn what_matches_nothing_is_told_as_removed_and_comes_when_it_is_there() {
    let mut world = World::default();
    let mut stream = started(&mut world);
    let responses = ask(&mut stream, subscribe(Kind::Service, &["a"]));
    assert_eq!(told(&responses), ["Service-a"]);
    assert_eq!(
        told(&ask(&mut stream, subscribe(Kind::AccessPolicy, &["a/*"]))),
        ["AccessPolicy-a/*"]
    );
    world.put(&service("a", "1s"));
    assert_eq!(told(&stream.on_snapshot(&world.publish())), ["Service+a"]);
}

#[test]
fn the_first_request_of_a_type_is_answered_even_if_it_asks_for_nothing() {
    let mut stream = started(&mut World::default());
    let responses = ask(&mut stream, request(Kind::Service));
    assert_eq!((responses.len(), told(&responses).len()), (1, 0));
    assert!(ask(&mut stream, ack(&responses[0])).is_empty());
}

#[test]
fn a_change_is_sent_once_and_an_answer_is_not_answered() {
    let mut world = World::with(&[&service("a", "1s"), &service("b", "1s")]);
    let mut stream = started(&mut world);
    let first = ask(&mut stream, subscribe(Kind::Service, &["a", "b"]));
    assert!(ask(&mut stream, ack(&first[0])).is_empty());
    world.put(&service("a", "2s"));
    let second = stream.on_snapshot(&world.publish());
    assert_eq!(told(&second), ["Service+a"]);
    assert!(ask(&mut stream, ack(&second[0])).is_empty());
    assert!(stream.on_snapshot(&world.publish()).is_empty());
}

#[test]
fn a_skipped_snapshot_is_made_up_for() {
    let mut world = World::with(&[&service("a", "1s"), &instance("a/1", 1)]);
    let mut stream = started(&mut world);
    ask(&mut stream, subscribe(Kind::Service, &["a"]));
    ask(&mut stream, subscribe(Kind::Instance, &["a/*"]));
    world.put(&service("a", "2s"));
    world.publish();
    world.delete(Kind::Instance, "a/1");
    world.publish();
    world.put(&instance("a/2", 2));
    assert_eq!(
        told(&stream.on_snapshot(&world.publish())),
        ["Service+a", "Instance+a/2", "Instance-a/1"]
    );
}

#[test]
fn removals_go_last_and_in_reverse_order() {
    let mut world = World::with(&[&service("a", "1s"), &instance("a/1", 1)]);
    let mut stream = started(&mut world);
    ask(&mut stream, subscribe(Kind::Service, &["a", "b"]));
    ask(&mut stream, subscribe(Kind::Instance, &["a/*", "b/*"]));
    world.delete(Kind::Service, "a");
    world.delete(Kind::Instance, "a/1");
    world.put(&service("b", "1s"));
    world.put(&instance("b/1", 1));
    let responses = stream.on_snapshot(&world.publish());
    assert_eq!(
        told(&responses),
        ["Service+b", "Instance+b/1", "Instance-a/1", "Service-a"]
    );
}

#[test]
fn a_resumed_stream_gets_only_what_differs_and_what_is_gone() {
    let mut world = World::with(&[&instance("a/1", 1), &instance("a/2", 2)]);
    let mut stream = started(&mut world);
    let version = world
        .last
        .as_ref()
        .unwrap()
        .get(Kind::Instance, "a/1")
        .unwrap()
        .version
        .clone();
    let mut resumed = subscribe(Kind::Instance, &["a/*"]);
    resumed.initial_resource_versions = [
        ("a/1".into(), version.clone()),
        ("a/2".into(), "old".into()),
        ("a/3".into(), "gone".into()),
        ("b/1".into(), "x".into()),
    ]
    .into();
    let responses = ask(&mut stream, resumed);
    assert_eq!(told(&responses), ["Instance+a/2", "Instance-a/3"]);
    assert_eq!(state_of(&stream, "a/1").applied.unwrap().0, version);
}

#[test]
fn a_name_that_is_subscribed_again_is_answered_again() {
    let mut world = World::with(&[&service("a", "1s")]);
    let mut stream = started(&mut world);
    for _ in 0..2 {
        assert_eq!(
            told(&ask(&mut stream, subscribe(Kind::Service, &["a"]))),
            ["Service+a"]
        );
    }
}

#[test]
fn what_is_unsubscribed_is_not_sent_any_more() {
    let mut world = World::with(&[&service("a", "1s"), &instance("a/1", 1)]);
    let mut stream = started(&mut world);
    ask(&mut stream, subscribe(Kind::Instance, &["a/*"]));
    let mut request = request(Kind::Instance);
    request.resource_names_unsubscribe = vec!["a/*".into()];
    assert!(ask(&mut stream, request).is_empty());
    world.put(&instance("a/1", 2));
    assert!(stream.on_snapshot(&world.publish()).is_empty());
    assert!(!stream.subscribes(Kind::Instance, "a/1"));
    assert_eq!(stream.progress().count(), 0);
}

#[test]
fn a_name_that_a_glob_still_covers_is_answered_when_it_is_unsubscribed() {
    let mut world = World::with(&[&instance("a/1", 1)]);
    let mut stream = started(&mut world);
    ask(&mut stream, subscribe(Kind::Instance, &["a/*", "a/1"]));
    let mut request = request(Kind::Instance);
    request.resource_names_unsubscribe = vec!["a/1".into()];
    assert_eq!(told(&ask(&mut stream, request)), ["Instance+a/1"]);
}

#[test]
fn a_refusal_is_kept_with_its_reason_by_resource_and_the_others_count_as_applied() {
    let mut world = World::with(&[&service("a", "1s"), &service("a.b", "1s")]);
    let mut stream = started(&mut world);
    let first = ask(&mut stream, subscribe(Kind::Service, &["a", "a.b"]));
    ask(
        &mut stream,
        nack(&first[0], "a: spec.timeout: too odd\na: spec.retry: odd too"),
    );
    let refused = state_of(&stream, "a");
    assert_eq!(
        refused.nack.as_ref().unwrap().reason,
        "spec.timeout: too odd; spec.retry: odd too"
    );
    assert_eq!(refused.applied, None);
    assert!(state_of(&stream, "a.b").applied.is_some());
    assert_eq!(stream.last_nack().unwrap().name, "a");
}

#[test]
fn a_refusal_that_names_nothing_refuses_all_of_its_response() {
    let mut world = World::with(&[&service("a", "1s"), &service("b", "1s")]);
    let mut stream = started(&mut world);
    let first = ask(&mut stream, subscribe(Kind::Service, &["a", "b"]));
    ask(&mut stream, nack(&first[0], "out of memory"));
    for name in ["a", "b"] {
        assert_eq!(state_of(&stream, name).nack.unwrap().reason, "out of memory");
    }
}

#[test]
fn a_refused_version_is_not_sent_again_and_the_next_one_is() {
    let mut world = World::with(&[&service("a", "1s")]);
    let mut stream = started(&mut world);
    let first = ask(&mut stream, subscribe(Kind::Service, &["a"]));
    assert!(ask(&mut stream, nack(&first[0], "a: : no")).is_empty());
    world.put(&service("b", "1s"));
    assert!(stream.on_snapshot(&world.publish()).is_empty());
    world.put(&service("a", "2s"));
    let second = stream.on_snapshot(&world.publish());
    assert_eq!(told(&second), ["Service+a"]);
    ask(&mut stream, ack(&second[0]));
    let mended = state_of(&stream, "a");
    assert_eq!((mended.nack, mended.applied.unwrap().0), (None, mended.sent));
    assert!(
        stream.last_nack().is_some(),
        "the newest refusal is kept after it was mended"
    );
}

#[test]
fn a_stale_nonce_says_nothing_but_its_subscriptions_count() {
    let mut world = World::with(&[&service("a", "1s"), &service("b", "1s")]);
    let mut stream = started(&mut world);
    let first = ask(&mut stream, subscribe(Kind::Service, &["a"]));
    for nonce in ["99", "x", "-1"] {
        let mut stale = nack(&first[0], "a: : no");
        stale.response_nonce = nonce.into();
        stale.resource_names_subscribe = vec!["b".into()];
        assert_eq!(told(&ask(&mut stream, stale)), ["Service+b"], "{nonce}");
    }
    assert!(stream.last_nack().is_none());
}

#[test]
fn a_sidecar_that_never_answers_is_not_buried_and_gets_the_newest_when_it_does() {
    let mut world = World::with(&[&service("a", "1s")]);
    let mut stream = started(&mut world);
    let first = ask(&mut stream, subscribe(Kind::Service, &["a"]));
    let mut sent = 1;
    for seconds in 2..100 {
        world.put(&service("a", &format!("{seconds}s")));
        sent += stream.on_snapshot(&world.publish()).len();
    }
    assert_eq!(sent, UNANSWERED_MAX);
    let newest = world
        .last
        .as_ref()
        .unwrap()
        .get(Kind::Service, "a")
        .unwrap()
        .version
        .clone();
    let responses = ask(&mut stream, ack(&first[0]));
    assert_eq!(responses[0].resources[0].version, newest);
}

#[test]
fn a_type_of_a_later_release_is_answered_with_nothing() {
    let mut stream = started(&mut World::default());
    let mut request = subscribe(Kind::Service, &["a"]);
    request.type_url = "type.googleapis.com/mesh.v1.Later".into();
    let responses = ask(&mut stream, request);
    assert_eq!(responses[0].removed_resources, ["a"]);
    assert!(ask(&mut stream, ack(&responses[0])).is_empty());
}

#[test]
fn names_that_are_no_names_end_the_stream() {
    let mut stream = started(&mut World::default());
    for name in ["", &"a".repeat(PATTERN_BYTES_MAX + 1)] {
        assert!(
            stream
                .on_request(NOW, &subscribe(Kind::Service, &[name]))
                .is_err()
        );
    }
}

#[test]
fn a_large_answer_is_cut_and_a_huge_resource_goes_alone() {
    let item = |name: &str, size: usize| {
        Arc::new(Item::new(crate::schema::of_bytes(vec![
            u8::try_from(name.len())
                .unwrap();
            size
        ])))
    };
    let half = RESPONSE_BYTES_MAX / 2;
    let cut = parts(vec![
        item("a", half),
        item("bb", half - 1000),
        item("ccc", RESPONSE_BYTES_MAX + 1),
        item("dddd", 1),
    ]);
    assert_eq!(cut.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 1]);
    assert_eq!(parts(Vec::new()).len(), 1);
}

#[test]
fn soon_after_a_start_no_instance_a_sidecar_knows_from_before_is_called_gone() {
    let mut world = World::with(&[&instance("a/1", 1)]);
    world.settling = true;
    let mut stream = started(&mut world);
    let mut resumed = subscribe(Kind::Instance, &["a/*", "b/*", "c/*"]);
    resumed.initial_resource_versions = [
        ("a/1".into(), "old".into()),
        ("a/2".into(), "x".into()),
        ("b/1".into(), "x".into()),
    ]
    .into();
    assert_eq!(told(&ask(&mut stream, resumed)), ["Instance+a/1", "Instance-c/*"]);
    world.put(&instance("a/2", 2));
    assert_eq!(told(&stream.on_snapshot(&world.publish())), ["Instance+a/2"]);
    world.delete(Kind::Instance, "a/1");
    assert_eq!(told(&stream.on_snapshot(&world.publish())), ["Instance-a/1"]);
    world.settling = false;
    assert_eq!(told(&stream.on_snapshot(&world.publish())), ["Instance-b/1"]);
}
