//! When following is over, and what is told until then.

use super::*;
use mesh_proto::v1::{self, Nack, ResourceStatus};

const URL: &str = "type.googleapis.com/mesh.v1.Service";

fn target(created: bool) -> Target {
    Target {
        kind: "Service".into(),
        name: "market.quotes".into(),
        type_url: URL.into(),
        resource_name: "market.quotes".into(),
        version: "new".into(),
        created,
    }
}

fn sidecar(node: &str, applied: &str) -> SidecarStatus {
    let resource = ResourceStatus {
        type_url: URL.into(),
        name: "market.quotes".into(),
        version_sent: "new".into(),
        version_applied: applied.into(),
        ..Default::default()
    };
    SidecarStatus {
        node: node.into(),
        resources: vec![resource],
        ..Default::default()
    }
}

fn refusing(node: &str, version: &str) -> SidecarStatus {
    let mut sidecar = sidecar(node, "old");
    sidecar.resources[0].nack = Some(Nack {
        version: version.into(),
        reason: "spec: no".into(),
        ..Default::default()
    });
    sidecar
}

fn status(sidecars: Vec<SidecarStatus>) -> GetStatusResponse {
    GetStatusResponse {
        sidecars,
        ..Default::default()
    }
}

/// A rollout that knows of these replicas and has heard none of them.
fn rollout(created: bool, replicas: &[&str]) -> (Rollout, Instant) {
    let start = Instant::now();
    let mut rollout = Rollout::new(start, vec![target(created)]);
    for id in replicas {
        rollout.replicas.insert((*id).to_owned(), Replica::default());
    }
    (rollout, start)
}

#[test]
fn it_is_done_when_every_sidecar_of_every_replica_said_yes() {
    let (mut rollout, start) = rollout(false, &["a", "b"]);
    let soon = start + Duration::from_millis(40);
    let events = rollout.on_status(soon, "a", status(vec![sidecar("q/1", "new")]));
    assert_eq!(events[0].progress, Progress::Applied);
    assert_eq!(rollout.verdict(soon), Verdict::Waiting, "b was not heard yet");
    rollout.on_status(soon, "b", status(vec![sidecar("q/2", "old")]));
    assert_eq!(rollout.verdict(soon), Verdict::Waiting, "q/2 is behind");
    assert_eq!(
        rollout.behind(),
        ["q/2 has old of Service/market.quotes, not new"]
    );
    let later = start + Duration::from_millis(90);
    rollout.on_status(later, "b", status(vec![sidecar("q/2", "new")]));
    assert_eq!(
        rollout.verdict(later),
        Verdict::Done {
            took: Duration::from_millis(90)
        }
    );
    assert_eq!(rollout.tally(), (2, 2));
}

#[test]
fn the_settle_time_is_no_part_of_what_it_took() {
    let (mut rollout, start) = rollout(true, &["a"]);
    let soon = start + Duration::from_millis(40);
    rollout.on_status(soon, "a", status(vec![sidecar("q/1", "new")]));
    assert_eq!(
        rollout.verdict(soon),
        Verdict::Waiting,
        "others may not have been told of a new document"
    );
    assert_eq!(
        rollout.verdict(start + SETTLE),
        Verdict::Done {
            took: Duration::from_millis(40)
        }
    );
}

#[test]
fn that_nobody_uses_it_is_believed_after_a_while_only() {
    let (mut rollout, start) = rollout(false, &["a"]);
    rollout.on_status(start, "a", status(vec![]));
    assert_eq!(rollout.verdict(start), Verdict::Waiting);
    assert_eq!(
        rollout.verdict(start + SETTLE),
        Verdict::Done { took: Duration::ZERO }
    );
    assert_eq!(rollout.users(0), 0);
}

#[test]
fn a_refusal_of_this_version_ends_it_and_one_of_an_older_version_does_not() {
    let (mut rollout, start) = rollout(false, &["a"]);
    rollout.on_status(start, "a", status(vec![refusing("q/1", "older")]));
    assert_eq!(rollout.verdict(start), Verdict::Waiting);
    rollout.on_status(start, "a", status(vec![refusing("q/1", "new")]));
    assert_eq!(rollout.verdict(start), Verdict::Refused);
    assert_eq!(
        rollout.refusals(),
        ["q/1 refuses Service/market.quotes: spec: no"]
    );
}

#[test]
fn a_sidecar_that_leaves_is_not_waited_for() {
    let (mut rollout, start) = rollout(false, &["a"]);
    rollout.on_status(
        start,
        "a",
        status(vec![sidecar("q/1", "new"), sidecar("q/2", "old")]),
    );
    assert_eq!(rollout.verdict(start), Verdict::Waiting);
    rollout.on_status(start, "a", status(vec![sidecar("q/1", "new")]));
    assert_eq!(rollout.verdict(start), Verdict::Done { took: Duration::ZERO });
}

#[test]
fn a_sidecar_that_moved_counts_where_it_is_now() {
    let (mut rollout, start) = rollout(false, &["a", "b"]);
    let mut moved = sidecar("q/1", "new");
    moved.connected_since = Some(prost_types::Timestamp { seconds: 9, nanos: 0 });
    rollout.on_status(start, "b", status(vec![moved]));
    rollout.on_status(start, "a", status(vec![sidecar("q/1", "old")]));
    assert_eq!(rollout.verdict(start), Verdict::Done { took: Duration::ZERO });
}

#[test]
fn a_replica_that_cannot_be_asked_is_named() {
    let (mut rollout, start) = rollout(false, &["a", "b"]);
    rollout.on_status(start, "a", status(vec![sidecar("q/1", "new")]));
    rollout.on_trouble(start, "b", "connection refused".into());
    assert_eq!(rollout.verdict(start + SETTLE), Verdict::Waiting);
    assert_eq!(rollout.behind(), ["replica b: connection refused"]);
}

#[test]
fn a_replica_that_left_the_list_is_forgotten_and_a_new_one_awaited() {
    let (mut rollout, start) = rollout(false, &["a", "b"]);
    rollout.on_trouble(start, "b", "gone".into());
    let listed = |id: &str| v1::Replica {
        id: id.into(),
        address: String::new(),
    };
    let mut told = status(vec![sidecar("q/1", "new")]);
    told.replicas = vec![listed("a"), listed("c")];
    rollout.on_status(start, "a", told);
    assert_eq!(rollout.behind(), ["replica c: it has not answered"]);
}

#[test]
fn a_subscriber_that_was_sent_nothing_yet_is_awaited() {
    let (mut rollout, start) = rollout(true, &["a"]);
    let mut quiet = sidecar("q/1", "");
    quiet.resources.clear();
    rollout.on_status(start, "a", status(vec![quiet.clone()]));
    assert_eq!(rollout.verdict(start + SETTLE), Verdict::Waiting);
    assert_eq!(
        rollout.behind(),
        ["q/1 has no version of Service/market.quotes, not new"]
    );

    let mut other = target(true);
    other.resource_name = "market.other".into();
    let mut several = Rollout::new(start, vec![target(true), other]);
    assert_eq!(several.filter(), GetStatusRequest::default());
    several.on_status(start, "a", status(vec![quiet]));
    assert_eq!(
        several.verdict(start + SETTLE),
        Verdict::Done { took: Duration::ZERO },
        "it names everybody"
    );
}
