//! What only a directory does: hand edits, restarts.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use xds_lite::registry::{self, Expect, Registry, RegistryUrl};

use crate::contract::{instance, key, put, service};
use crate::support::{folder, settings, until};

async fn open(directory: &Path, grace: Duration) -> Arc<dyn Registry> {
    let url = RegistryUrl::File(directory.to_owned());
    registry::open(&url, settings("r1", grace)).await.unwrap()
}

#[tokio::test]
async fn a_hand_edit_is_seen_and_a_bad_one_keeps_the_last_good_content() {
    let directory = folder("edits");
    let registry = open(&directory, Duration::from_secs(600)).await;
    let mut state = registry.state();
    registry
        .write(vec![put(service("a", "1s"), Expect::Nothing)])
        .await
        .unwrap();
    let file = directory.join("documents/Service/a.yaml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("kind: Service"), "{text}");

    fs::write(&file, text.replace("1s", "2s")).unwrap();
    until(&mut state, "the edit", |state| {
        state.documents[&key("a")].item.resource == service("a", "2s")
    })
    .await;
    fs::write(&file, text.replace("1s", "0s")).unwrap();
    let told = until(&mut state, "the fault", |state| !state.faults.is_empty()).await;
    assert!(
        told.faults[0].starts_with("documents/Service/a.yaml: Service/a: spec.timeout:"),
        "{:?}",
        told.faults
    );
    assert_eq!(told.documents[&key("a")].item.resource, service("a", "2s"));
    fs::remove_file(&file).unwrap();
    let gone = until(&mut state, "the deletion", |state| state.documents.is_empty()).await;
    assert!(gone.faults.is_empty());
}

#[tokio::test]
async fn a_file_under_a_wrong_name_or_referring_to_a_missing_schema_is_told_and_mended() {
    let directory = folder("names");
    let registry = open(&directory, Duration::from_secs(600)).await;
    let mut state = registry.state();
    let services = directory.join("documents/Service");
    fs::create_dir_all(&services).unwrap();
    let text = |name: &str| {
        format!(
            "apiVersion: mesh/v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{protocol: grpc, schema: {{file: s.binpb}}}}\n"
        )
    };
    fs::write(services.join("b.yaml"), text("a")).unwrap();
    until(&mut state, "the fault", |state| {
        state.faults.iter().any(|fault| fault.contains("s.binpb"))
    })
    .await;
    fs::write(services.join("s.binpb"), mesh_proto::DESCRIPTORS).unwrap();
    until(&mut state, "the wrong name", |state| {
        state
            .faults
            .iter()
            .any(|fault| fault.contains("rename one of them"))
    })
    .await;
    fs::write(services.join("b.yaml"), text("b")).unwrap();
    let mended = until(&mut state, "mended", |state| state.faults.is_empty()).await;
    assert!(mended.documents[&key("b")].schema.is_some());
}

#[tokio::test]
async fn a_restart_keeps_instances_through_the_grace_and_no_longer() {
    let directory = folder("restart");
    let registry = open(&directory, Duration::from_secs(600)).await;
    for name in ["a/1", "a/2"] {
        registry.register(instance(name, 1)).await.unwrap();
    }
    registry
        .write(vec![put(service("a", "1s"), Expect::Nothing)])
        .await
        .unwrap();
    drop(registry);

    let registry = reopen(&directory, Duration::from_secs(1)).await;
    let state = Arc::clone(&registry.state().borrow());
    assert!(state.instances.keys().eq(["a/1", "a/2"]) && state.documents.len() == 1);
    registry.register(instance("a/2", 1)).await.unwrap();
    until(&mut registry.state(), "the orphan goes", |state| {
        state.instances.keys().eq(["a/2"])
    })
    .await;
}

#[tokio::test]
async fn a_directory_that_is_in_use_or_no_directory_is_refused_with_the_fix() {
    let directory = folder("locked");
    let _registry = open(&directory, Duration::from_secs(1)).await;
    let url = RegistryUrl::File(directory.clone());
    let Err(told) = registry::open(&url, settings("r2", Duration::from_secs(1))).await else {
        panic!("two have one directory");
    };
    assert!(
        told.contains("another xds-lite") && told.contains("zk://"),
        "{told}"
    );
    let file = directory.join("lock");
    let Err(told) = registry::open(&RegistryUrl::File(file), settings("r3", Duration::from_secs(1))).await
    else {
        panic!("a file is no directory");
    };
    assert!(told.contains("cannot make the registry"), "{told}");
}

/// The lock is let go by a task of the registry before.
async fn reopen(directory: &Path, grace: Duration) -> Arc<dyn Registry> {
    let url = RegistryUrl::File(directory.to_owned());
    for _ in 0..100 {
        if let Ok(registry) = registry::open(&url, settings("r1", grace)).await {
            return registry;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the lock is not let go");
}
