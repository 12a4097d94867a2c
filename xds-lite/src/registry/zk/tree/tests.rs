//! What becomes of nodes that vanish, come back, or cannot be read.

use super::*;

const GRACE: Duration = Duration::from_secs(10);
const KAZOO: i64 = 99;

fn tree() -> Tree {
    Tree::new(Layout::new("/mesh"), GRACE)
}

fn seen(mzxid: i64, owner: i64) -> Seen {
    Seen {
        czxid: mzxid,
        mzxid,
        version: 0,
        owner,
        mtime: 0,
    }
}

fn instance(name: &str) -> Vec<u8> {
    format!(r#"{{"apiVersion":"mesh/v1","kind":"Instance","metadata":{{"name":"{name}"}},"spec":{{"address":"127.0.0.1","port":1}}}}"#).into_bytes()
}

fn service(name: &str, timeout: &str) -> Vec<u8> {
    format!(r#"{{"apiVersion":"mesh/v1","kind":"Service","metadata":{{"name":"{name}"}},"spec":{{"protocol":"grpc","timeout":"{timeout}"}}}}"#).into_bytes()
}

fn at(name: &str) -> Place {
    Place::Instance(name.into())
}

fn names(tree: &Tree) -> Vec<String> {
    tree.state(true).instances.into_keys().collect()
}

fn with_instance(owner: i64) -> Tree {
    let mut tree = tree();
    tree.put(&Place::Replica("r1".into()), b"127.0.0.1:1", seen(1, 1));
    tree.put(&at("a/1"), &instance("a/1"), seen(2, owner));
    tree.settle(Instant::now());
    assert_eq!(names(&tree), ["a/1"]);
    tree
}

#[test]
fn an_instance_removed_while_its_replica_lives_goes_at_once() {
    let mut tree = with_instance(1);
    tree.remove(&at("a/1"));
    tree.settle(Instant::now());
    assert!(names(&tree).is_empty());
}

#[test]
fn an_instance_that_vanishes_with_its_replica_is_kept_for_the_grace() {
    let now = Instant::now();
    let mut tree = with_instance(1);
    tree.remove(&at("a/1"));
    tree.remove(&Place::Replica("r1".into()));
    tree.settle(now);
    assert_eq!(names(&tree), ["a/1"]);
    assert!(!tree.expire(now + GRACE / 2));
    assert!(tree.expire(now + GRACE));
    assert!(names(&tree).is_empty());
}

#[test]
fn an_orphan_that_registers_elsewhere_in_time_stays() {
    let now = Instant::now();
    let mut tree = with_instance(1);
    tree.remove(&at("a/1"));
    tree.remove(&Place::Replica("r1".into()));
    tree.settle(now);
    tree.put(&at("a/1"), &instance("a/1"), seen(9, 2));
    tree.settle(now);
    assert!(!tree.expire(now + GRACE * 2));
    assert_eq!(names(&tree), ["a/1"]);
}

#[test]
fn a_replica_that_came_back_with_a_new_session_does_not_count_as_the_old_one() {
    let mut tree = with_instance(1);
    tree.put(&Place::Replica("r1".into()), b"127.0.0.1:1", seen(5, 2));
    tree.remove(&at("a/1"));
    tree.settle(Instant::now());
    assert_eq!(names(&tree), ["a/1"]);
}

#[test]
fn an_instance_of_another_client_goes_with_its_node() {
    let mut tree = with_instance(KAZOO);
    tree.remove(&at("a/1"));
    tree.settle(Instant::now());
    assert!(names(&tree).is_empty());
}

#[test]
fn graces_do_not_run_while_nobody_can_register() {
    let now = Instant::now();
    let mut tree = with_instance(1);
    tree.remove(&at("a/1"));
    tree.remove(&Place::Replica("r1".into()));
    tree.settle(now);
    tree.restart_graces(now + GRACE);
    assert!(!tree.expire(now + GRACE));
}

#[test]
fn a_malformed_node_keeps_its_last_good_content_and_is_told_by_path_and_reason() {
    let key = Key {
        kind: Kind::Service,
        name: "a".into(),
    };
    let place = Place::Document(key.clone());
    let mut tree = tree();
    tree.put(&place, &service("a", "2s"), seen(1, 0));
    let good = tree.state(true).documents[&key].clone();
    tree.put(&place, &service("a", "0s"), seen(2, 0));
    let state = tree.state(true);
    assert_eq!(state.documents[&key], good);
    assert!(
        state.faults[0].starts_with("/mesh/documents/Service/a: Service/a: spec.timeout:"),
        "{:?}",
        state.faults
    );
    tree.put(&place, &service("a", "3s"), seen(3, 0));
    let state = tree.state(true);
    assert!(state.faults.is_empty() && state.documents[&key] != good);
}

#[test]
fn a_bad_node_spoils_only_itself() {
    let mut tree = tree();
    for (name, bytes) in [("a", b"{".to_vec()), ("b", service("b", "2s"))] {
        tree.put(
            &Place::Document(Key {
                kind: Kind::Service,
                name: name.into(),
            }),
            &bytes,
            seen(1, 0),
        );
    }
    let state = tree.state(true);
    assert_eq!((state.documents.len(), state.faults.len()), (1, 1));
}

#[test]
fn an_ensemble_that_comes_back_empty_takes_no_document_away() {
    let key = Key {
        kind: Kind::Service,
        name: "a".into(),
    };
    let mut tree = tree();
    tree.put(&Place::Document(key.clone()), &service("a", "2s"), seen(1, 0));
    tree.listed(
        &BTreeSet::from([Place::Document(key.clone())]),
        BTreeMap::new(),
        (7, 1),
    );
    tree.listed(&BTreeSet::new(), BTreeMap::new(), (7, 2));
    assert!(tree.state(true).faults[0].contains("came back empty"));
    tree.listed(&BTreeSet::new(), BTreeMap::new(), (7, 2));
    assert_eq!(tree.state(true).documents.len(), 1);
}

#[test]
fn the_last_document_can_be_deleted_from_the_same_tree() {
    let key = Key {
        kind: Kind::Service,
        name: "a".into(),
    };
    let mut tree = tree();
    tree.put(&Place::Document(key.clone()), &service("a", "2s"), seen(1, 0));
    tree.listed(&BTreeSet::from([Place::Document(key)]), BTreeMap::new(), (7, 1));
    tree.listed(&BTreeSet::new(), BTreeMap::new(), (7, 1));
    assert!(tree.state(true).documents.is_empty() && tree.state(true).faults.is_empty());
}
