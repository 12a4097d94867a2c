//! What every registry does. Both adapters pass all of it.

use std::sync::Arc;
use std::time::Duration;

use mesh_proto::v1::document::Resource;
use mesh_proto::{Kind, v1};
use xds_lite::registry::{self, Expect, Exposures, Key, Registry, RegistryUrl, Write, WriteError, codec};

use crate::support::zookeeper::ZooKeeper;
use crate::support::{folder, settings, until};

const GRACE: Duration = Duration::from_secs(1);

pub(crate) fn service(name: &str, timeout: &str) -> Resource {
    let text = format!(
        "apiVersion: mesh/v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{protocol: grpc, timeout: {timeout}}}\n"
    );
    codec::parse(text.as_bytes()).unwrap()
}

pub(crate) fn instance(name: &str, port: u32) -> v1::Instance {
    v1::Instance {
        metadata: Some(v1::Metadata {
            name: name.into(),
            ..Default::default()
        }),
        spec: Some(v1::InstanceSpec {
            address: "127.0.0.1".into(),
            port,
            ..Default::default()
        }),
    }
}

pub(crate) fn key(name: &str) -> Key {
    Key {
        kind: Kind::Service,
        name: name.into(),
    }
}

pub(crate) fn put(resource: Resource, expect: Expect) -> Write {
    Write {
        key: Key::of(&resource),
        content: Some(resource),
        expect,
    }
}

fn delete(name: &str, expect: Expect) -> Write {
    Write {
        key: key(name),
        content: None,
        expect,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_file_registry_keeps_the_contract() {
    let directory = folder("contract");
    keeps_the_contract(&format!("file:{}", directory.display())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_zookeeper_registry_keeps_the_contract() {
    let server = ZooKeeper::start("contract");
    keeps_the_contract(&format!("zk://{}/mesh/test", server.address())).await;
}

async fn keeps_the_contract(url: &str) {
    let url: RegistryUrl = url.parse().unwrap();
    let registry = registry::open(&url, settings("r1", GRACE)).await.unwrap();
    until(&mut registry.state(), "the first full read", |state| {
        state.loaded && state.connected
    })
    .await;
    assert_eq!(registry.state().borrow().replicas["r1"], "r1.test:18000");

    what_is_written_is_in_the_view_when_the_write_returns(&*registry).await;
    a_lost_condition_stores_nothing_at_all(&*registry).await;
    of_two_who_expect_the_same_copy_one_wins(&registry).await;
    a_deletion_is_conditional_too(&*registry).await;
    a_registered_instance_is_there_until_it_leaves(&*registry).await;
    a_released_instance_goes_after_the_grace_unless_it_comes_back(&*registry).await;
    what_edges_expose_is_in_the_view(registry.as_ref()).await;
    a_schema_is_stored_as_its_bytes(&*registry).await;
}

async fn what_is_written_is_in_the_view_when_the_write_returns(registry: &dyn Registry) {
    let writes = vec![
        put(service("a", "1s"), Expect::Nothing),
        put(service("b", "1s"), Expect::Anything),
    ];
    let revisions = registry.write(writes).await.unwrap();
    let state = Arc::clone(&registry.state().borrow());
    assert_eq!(state.documents[&key("a")].revision, revisions[0]);
    assert_eq!(state.documents[&key("b")].revision, revisions[1]);
    assert_eq!(state.documents[&key("a")].item.resource, service("a", "1s"));
}

async fn a_lost_condition_stores_nothing_at_all(registry: &dyn Registry) {
    let before = Arc::clone(&registry.state().borrow());
    for expect in [Expect::Nothing, Expect::Revision("0.0".into())] {
        let writes = vec![
            put(service("c", "1s"), Expect::Nothing),
            put(service("a", "2s"), expect),
        ];
        let told = registry.write(writes).await.unwrap_err();
        assert!(
            matches!(&told, WriteError::Lost(lines) if lines.len() == 1 && lines[0].starts_with("Service/a ")),
            "{told:?}"
        );
    }
    let told = registry
        .write(vec![put(service("c", "1s"), Expect::Revision("0.0".into()))])
        .await;
    assert!(matches!(told, Err(WriteError::Lost(_))));
    assert_eq!(registry.state().borrow().documents, before.documents);
}

async fn of_two_who_expect_the_same_copy_one_wins(registry: &Arc<dyn Registry>) {
    let revision = registry.state().borrow().documents[&key("a")].revision.clone();
    let writers = (2..10).map(|seconds| {
        let registry = Arc::clone(registry);
        let write = put(
            service("a", &format!("{seconds}s")),
            Expect::Revision(revision.clone()),
        );
        tokio::spawn(async move { registry.write(vec![write]).await })
    });
    let mut won = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        match writer.await.unwrap() {
            Ok(revisions) => won.push(revisions[0].clone()),
            Err(error) => assert!(matches!(error, WriteError::Lost(_)), "{error:?}"),
        }
    }
    assert_eq!(won.len(), 1);
    assert_ne!(won[0], revision);
    assert_eq!(registry.state().borrow().documents[&key("a")].revision, won[0]);
}

async fn a_deletion_is_conditional_too(registry: &dyn Registry) {
    let revision = registry.state().borrow().documents[&key("a")].revision.clone();
    let told = registry
        .write(vec![delete("a", Expect::Revision("0.0".into()))])
        .await;
    assert!(matches!(told, Err(WriteError::Lost(_))));
    let writes = vec![
        delete("a", Expect::Revision(revision)),
        delete("b", Expect::Anything),
        delete("never", Expect::Anything),
    ];
    registry.write(writes).await.unwrap();
    assert!(registry.state().borrow().documents.is_empty());
}

async fn a_registered_instance_is_there_until_it_leaves(registry: &dyn Registry) {
    registry.register(instance("a/1", 1)).await.unwrap();
    registry.register(instance("a/2", 1)).await.unwrap();
    registry.register(instance("a/1", 2)).await.unwrap();
    let state = Arc::clone(&registry.state().borrow());
    assert_eq!(
        state.instances["a/1"].item.resource,
        Resource::Instance(instance("a/1", 2))
    );
    registry.leave("a/1").await.unwrap();
    registry.leave("a/never").await.unwrap();
    until(&mut registry.state(), "the instance leaves", |state| {
        state.instances.keys().eq(["a/2"])
    })
    .await;
}

async fn a_released_instance_goes_after_the_grace_unless_it_comes_back(registry: &dyn Registry) {
    registry.register(instance("a/3", 1)).await.unwrap();
    registry.release("a/2").await;
    registry.release("a/3").await;
    registry.register(instance("a/3", 1)).await.unwrap();
    assert!(registry.state().borrow().instances.contains_key("a/2"));
    until(&mut registry.state(), "the grace ends", |state| {
        state.instances.keys().eq(["a/3"])
    })
    .await;
    tokio::time::sleep(GRACE * 2).await;
    assert!(registry.state().borrow().instances.contains_key("a/3"));
}

async fn a_schema_is_stored_as_its_bytes(registry: &dyn Registry) {
    let schema = xds_lite::schema::of_bytes(mesh_proto::DESCRIPTORS.to_vec());
    let key = Key::of(&schema);
    registry
        .write(vec![put(schema.clone(), Expect::Anything)])
        .await
        .unwrap();
    assert_eq!(registry.state().borrow().documents[&key].item.resource, schema);
}

async fn what_edges_expose_is_in_the_view(registry: &dyn Registry) {
    let edges: Exposures = [("web.edge/a".into(), ["market.quotes".into()].into())].into();
    let mut state = registry.state();
    registry.announce(edges.clone()).await.unwrap();
    until(&mut state, "the edge", |state| state.edges == edges).await;
    registry.announce(Exposures::new()).await.unwrap();
    until(&mut state, "it goes", |state| {
        state.edges.is_empty() && state.replicas.len() == 1
    })
    .await;
    assert_eq!(registry.state().borrow().replicas["r1"], "r1.test:18000");
}
