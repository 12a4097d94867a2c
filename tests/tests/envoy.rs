//! Envoy's transcoder is asked what we are asked: each difference has its reason, and stands in docs/transcoding-vs-envoy.md.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests"
)]

use std::sync::OnceLock;

use mesh_tests::call::block_on;
use mesh_tests::golden::case::Direction;
use mesh_tests::golden::envoy::{Differences, Envoy, Sorted, classes, page, sort};
use mesh_tests::golden::judge::{Difference, judge};
use mesh_tests::golden::stage::Stage;
use mesh_tests::golden::update;
use mesh_tests::process::repository;
use tokio::task::JoinSet;

/// Cases at the same time.
const AT_ONCE: usize = 8;
const PAGE: &str = "docs/transcoding-vs-envoy.md";

fn stage() -> &'static Stage {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    STAGE.get_or_init(Stage::set)
}

async fn ask(number: usize, address: String) -> Vec<Difference> {
    let scene = stage().scene(number, Direction::Forward, &address).unwrap();
    let Some((name, answer)) = scene.perform(1).await.unwrap() else {
        return Vec::new();
    };
    // A call that Envoy opens and takes back while it reads is seen by the service, or is not: that is a race.
    let saw: Vec<_> = stage()
        .backend
        .saw(&name)
        .into_iter()
        .filter(|seen| seen.whole)
        .collect();
    let mut differences = judge(&scene, &answer, &saw);
    // Headers of our own are no difference.
    differences.retain(|difference| difference.key != "headers/x-mesh-reason");
    differences
}

#[test]
fn every_difference_from_envoy_has_a_reason_and_stands_in_the_page() {
    let stage = stage();
    let mut envoy = Envoy::start(stage);
    let address = envoy.address.clone();
    let mut differences = Differences::new();
    let mut asked = 0;
    block_on(async {
        let mut waiting = stage.asked();
        let mut asking = JoinSet::new();
        loop {
            while asking.len() < AT_ONCE
                && let Some(number) = waiting.next()
            {
                let address = address.clone();
                asking.spawn(async move { (number, ask(number, address).await) });
            }
            let Some(answered) = asking.join_next().await else {
                break;
            };
            let (number, found) = answered.unwrap();
            asked += 1;
            if !found.is_empty() {
                differences.insert(stage.cases[number].name(), found);
            }
        }
    });
    assert!(envoy.process.is_running(), "{}", envoy.process.log());
    let classes = classes();
    let Sorted {
        classes,
        unknown,
        stale,
    } = sort(&classes, &differences);
    let told: Vec<String> = unknown
        .iter()
        .map(|name| format!("{name}: {:#?}", differences[name]))
        .collect();
    assert!(
        unknown.is_empty(),
        "{} differences have no reason in tests/golden/envoy.yaml:\n{}",
        unknown.len(),
        told.join("\n")
    );
    assert!(
        stale.is_empty(),
        "tests/golden/envoy.yaml names what is answered alike: {stale:#?}"
    );
    let page = page(stage, asked, &classes, &differences);
    let file = repository().join(PAGE);
    if update::wanted() {
        std::fs::write(&file, &page).unwrap();
    }
    let before = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        before == page,
        "{PAGE} is not what was seen; write it anew with MESH_GOLDEN_UPDATE=1"
    );
}
