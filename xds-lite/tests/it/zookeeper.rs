//! What only ZooKeeper does: sessions that end, several replicas, other clients.

use std::sync::Arc;
use std::time::Duration;

use mesh_proto::v1::document::Resource;
use xds_lite::registry::codec::{self, Form};
use xds_lite::registry::{self, Expect, Exposures, Registry, State, WriteError};
use zookeeper::{Acls, Client, CreateMode};

use crate::contract::{instance, key, put, service};
use crate::support::wire::Wire;
use crate::support::zookeeper::ZooKeeper;
use crate::support::{settings, until};

/// Longer than any test.
const FOR_EVER: Duration = Duration::from_secs(600);

async fn replica(server: &str, id: &str, grace: Duration) -> Arc<dyn Registry> {
    let url = format!("zk://{server}/mesh").parse().unwrap();
    let registry = registry::open(&url, settings(id, grace)).await.unwrap();
    until(&mut registry.state(), "the first full read", |state| state.loaded).await;
    registry
}

async fn stranger(server: &ZooKeeper) -> Client {
    let connector = Client::connector().with_session_timeout(Duration::from_secs(2));
    connector.connect(&server.address()).await.unwrap()
}

fn has(name: &str) -> impl Fn(&State) -> bool {
    move |state| state.instances.contains_key(name)
}

fn instance_node(name: &str) -> Vec<u8> {
    codec::encode(&Resource::Instance(instance(name, 1)), Form::Json)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_moves_to_another_replica_and_outlives_the_first_ones_session() {
    let server = ZooKeeper::start("move");
    let (r1, r2) = (
        replica(&server.address(), "r1", FOR_EVER).await,
        replica(&server.address(), "r2", FOR_EVER).await,
    );
    r1.register(instance("a/1", 1)).await.unwrap();
    until(&mut r2.state(), "the instance at r2", has("a/1")).await;
    let client = stranger(&server).await;
    let owner = async || {
        let stat = client.check_stat("/mesh/instances/a/1").await.unwrap();
        stat.unwrap().ephemeral_owner
    };
    let first = owner().await;
    r2.register(instance("a/1", 1)).await.unwrap();
    assert_ne!(owner().await, first);
    drop(r1);
    until(&mut r2.state(), "r1's session ends", |state| {
        !state.replicas.contains_key("r1")
    })
    .await;
    assert!(client.check_stat("/mesh/instances/a/1").await.unwrap().is_some());
    assert!(r2.state().borrow().instances.contains_key("a/1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_of_a_replica_that_died_are_kept_for_the_grace_and_then_go() {
    let server = ZooKeeper::start("died");
    let r1 = replica(&server.address(), "r1", FOR_EVER).await;
    let r2 = replica(&server.address(), "r2", Duration::from_secs(2)).await;
    let r3 = replica(&server.address(), "r3", FOR_EVER).await;
    r1.register(instance("a/1", 1)).await.unwrap();
    for registry in [&r2, &r3] {
        until(&mut registry.state(), "the instance", has("a/1")).await;
    }
    let watched = watch_for_loss(&*r3, "a/1");
    drop(r1);
    until(&mut r2.state(), "r1's session ends", |state| {
        !state.replicas.contains_key("r1")
    })
    .await;
    assert!(r2.state().borrow().instances.contains_key("a/1"));
    until(&mut r2.state(), "the grace ends", |state| !has("a/1")(state)).await;
    r3.register(instance("a/1", 1)).await.unwrap();
    until(&mut r2.state(), "it comes back at another replica", has("a/1")).await;
    assert!(!watched.is_finished(), "r3 lost it in between");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_leaves_goes_everywhere_at_once() {
    let server = ZooKeeper::start("leaves");
    let (r1, r2) = (
        replica(&server.address(), "r1", FOR_EVER).await,
        replica(&server.address(), "r2", FOR_EVER).await,
    );
    r1.register(instance("a/1", 1)).await.unwrap();
    until(&mut r2.state(), "the instance", has("a/1")).await;
    r1.leave("a/1").await.unwrap();
    until(&mut r2.state(), "it leaves", |state| !has("a/1")(state)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_edges_expose_is_known_to_every_replica_while_theirs_is_there() {
    let server = ZooKeeper::start("edges");
    let r1 = replica(&server.address(), "r1", FOR_EVER).await;
    let r2 = replica(&server.address(), "r2", FOR_EVER).await;
    let edges = |service: &str| -> Exposures { [("web.edge/a".into(), [service.to_owned()].into())].into() };
    r1.announce(edges("one")).await.unwrap();
    until(&mut r2.state(), "r1's edge", |state| state.edges == edges("one")).await;
    // An edge that moves is told by both for a moment.
    r2.announce(edges("two")).await.unwrap();
    until(&mut r2.state(), "the edge at both", |state| {
        state.edges["web.edge/a"] == ["one".to_owned(), "two".to_owned()].into()
    })
    .await;
    drop(r1);
    until(&mut r2.state(), "r1 goes", |state| state.edges == edges("two")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_other_clients_count_and_bad_ones_keep_their_last_good_content() {
    let server = ZooKeeper::start("others");
    let registry = replica(&server.address(), "r1", FOR_EVER).await;
    let mut state = registry.state();
    let client = stranger(&server).await;
    let persistent = CreateMode::Persistent.with_acls(Acls::anyone_all());
    let ephemeral = CreateMode::Ephemeral.with_acls(Acls::anyone_all());

    client.mkdir("/mesh/instances/a", &persistent).await.unwrap();
    client
        .create("/mesh/instances/a/1", &instance_node("a/1"), &ephemeral)
        .await
        .unwrap();
    until(&mut state, "the other's instance", has("a/1")).await;

    let path = "/mesh/documents/Service/a";
    let document = |timeout: &str| codec::encode(&service("a", timeout), Form::Json);
    client.create(path, &document("1s"), &persistent).await.unwrap();
    client
        .create("/mesh/documents/Pod", b"", &persistent)
        .await
        .unwrap();
    until(&mut state, "the other's document", |state| {
        state.documents.contains_key(&key("a"))
    })
    .await;
    client.set_data(path, b"{\"kind\": 1}", None).await.unwrap();
    client
        .set_data("/mesh/instances/a/1", b"nonsense", None)
        .await
        .unwrap();
    let told = until(&mut state, "both faults", |state| state.faults.len() >= 2).await;
    assert_eq!(told.documents[&key("a")].item.resource, service("a", "1s"));
    assert!(told.instances.contains_key("a/1"));
    for place in ["/mesh/documents/Service/a: ", "/mesh/instances/a/1: "] {
        assert!(
            told.faults.iter().any(|fault| fault.starts_with(place)),
            "{:?}",
            told.faults
        );
    }
    registry
        .write(vec![put(service("b", "1s"), Expect::Nothing)])
        .await
        .unwrap();
    client.set_data(path, &document("2s"), None).await.unwrap();
    until(&mut state, "mended", |state| {
        state.documents[&key("a")].item.resource == service("a", "2s")
    })
    .await;
    drop(client);
    until(&mut state, "the other goes", |state| !has("a/1")(state)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_and_comes_back_costs_nothing() {
    let mut server = ZooKeeper::start("killed");
    let registry = replica(&server.address(), "r1", FOR_EVER).await;
    let mut state = registry.state();
    registry
        .write(vec![put(service("a", "1s"), Expect::Nothing)])
        .await
        .unwrap();
    registry.register(instance("a/1", 1)).await.unwrap();
    let watched = watch_for_loss(&*registry, "a/1");

    server.kill();
    let lost = until(&mut state, "contact is lost", |state| !state.connected).await;
    assert!(lost.documents.contains_key(&key("a")));
    let told = registry
        .write(vec![put(service("b", "1s"), Expect::Nothing)])
        .await
        .unwrap_err();
    assert!(matches!(told, WriteError::Unavailable(_)), "{told:?}");
    let told = registry.register(instance("a/2", 1)).await.unwrap_err();
    assert!(matches!(told, WriteError::Unavailable(_)), "{told:?}");

    server.resume();
    until(&mut state, "contact is back", |state| state.connected).await;
    retry(|| registry.register(instance("a/2", 1))).await;
    until(&mut state, "both instances", |state| {
        has("a/1")(state) && has("a/2")(state)
    })
    .await;
    assert!(!watched.is_finished(), "the instance was lost in between");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_session_is_made_anew_with_all_that_it_held() {
    let server = ZooKeeper::start("expired");
    let wire = Wire::to(server.address()).await;
    let r1 = replica(&wire.address(), "r1", FOR_EVER).await;
    let r2 = replica(&server.address(), "r2", FOR_EVER).await;
    r1.register(instance("a/1", 1)).await.unwrap();
    until(&mut r2.state(), "the instance at r2", has("a/1")).await;
    let (at_r1, at_r2) = (watch_for_loss(&*r1, "a/1"), watch_for_loss(&*r2, "a/1"));
    let client = stranger(&server).await;
    let owner = async || {
        let stat = client.check_stat("/mesh/instances/a/1").await.unwrap();
        stat.map(|stat| stat.ephemeral_owner)
    };
    let first = owner().await.unwrap();
    let revision = r2.state().borrow().instances["a/1"].revision.clone();

    wire.cut();
    until(&mut r2.state(), "r1's session ends", |state| {
        !state.replicas.contains_key("r1")
    })
    .await;
    assert_eq!(owner().await, None);
    r2.write(vec![put(service("a", "1s"), Expect::Nothing)])
        .await
        .unwrap();
    assert!(!r1.state().borrow().connected);
    wire.mend();
    until(&mut r1.state(), "r1 reads what it missed", |state| {
        state.connected && state.documents.contains_key(&key("a"))
    })
    .await;
    until(&mut r2.state(), "r1 is back", |state| {
        state.replicas.contains_key("r1")
    })
    .await;
    until(&mut r2.state(), "r2 sees the new node", |state| {
        state
            .instances
            .get("a/1")
            .is_some_and(|stored| stored.revision != revision)
    })
    .await;
    assert!(owner().await.is_some_and(|owner| owner != first));
    assert!(
        !at_r1.is_finished() && !at_r2.is_finished(),
        "it was lost in between"
    );
    r1.leave("a/1").await.unwrap();
    until(&mut r2.state(), "the new session owns it", |state| {
        !has("a/1")(state)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_starts_anew_under_its_old_name_keeps_what_it_held() {
    let server = ZooKeeper::start("anew");
    let r1 = replica(&server.address(), "r1", FOR_EVER).await;
    r1.register(instance("a/1", 1)).await.unwrap();
    r1.close().await;
    drop(r1);
    let r1 = replica(&server.address(), "r1", FOR_EVER).await;
    let watched = watch_for_loss(&*r1, "a/1");
    assert!(r1.state().borrow().instances.contains_key("a/1"));
    r1.register(instance("a/1", 1)).await.unwrap();
    // Two sessions' time: the old one has expired by then.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!watched.is_finished());
    let client = stranger(&server).await;
    assert!(client.check_stat("/mesh/instances/a/1").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ensemble_that_comes_back_empty_empties_nothing() {
    let mut server = ZooKeeper::start("wiped");
    let registry = replica(&server.address(), "r1", FOR_EVER).await;
    let mut state = registry.state();
    registry
        .write(vec![put(service("a", "1s"), Expect::Nothing)])
        .await
        .unwrap();
    registry.register(instance("a/1", 1)).await.unwrap();
    server.kill();
    server.wipe();
    server.resume();
    let told = until(&mut state, "the fault", |state| {
        state.connected && !state.faults.is_empty()
    })
    .await;
    assert!(told.faults[0].contains("came back empty"), "{:?}", told.faults);
    assert!(told.documents.contains_key(&key("a")) && told.instances.contains_key("a/1"));
    registry
        .write(vec![put(service("a", "2s"), Expect::Anything)])
        .await
        .unwrap();
    until(&mut state, "applied again", |state| state.faults.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_for_a_node_is_refused_with_the_limit() {
    let server = ZooKeeper::start("large");
    let registry = replica(&server.address(), "r1", FOR_EVER).await;
    let schema = xds_lite::schema::of_bytes(vec![0; 1 << 20]);
    let told = registry
        .write(vec![put(schema, Expect::Anything)])
        .await
        .unwrap_err();
    assert!(
        matches!(&told, WriteError::TooLarge(why) if why.contains("at most 921600")),
        "{told:?}"
    );
}

/// Ends as soon as the view is without the instance.
fn watch_for_loss(registry: &dyn Registry, name: &'static str) -> tokio::task::JoinHandle<()> {
    let mut state = registry.state();
    tokio::spawn(async move {
        let _ = state.wait_for(|state| !has(name)(state)).await;
    })
}

async fn retry<F: Future<Output = Result<(), WriteError>>>(mut work: impl FnMut() -> F) {
    for _ in 0..50 {
        match work().await {
            Ok(()) => return,
            Err(WriteError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(200)).await,
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("never available");
}
