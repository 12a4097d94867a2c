//! Steps in which something is killed while calls go on.

use std::time::{Duration, Instant};

use super::calls::{order, portfolio, quote, sent, told};
use crate::client::{CLIENTS, Load, Token, many};
use crate::mesh::{Mesh, XDS, until};
use crate::show;

/// How long calls go on before something is killed, and after it.
const AROUND: Duration = Duration::from_secs(1);
/// How long xds-lite is away.
const AWAY: Duration = Duration::from_secs(3);
/// An instance whose sidecar is gone is forgotten within this: xds-lite's grace is 10 s, a ZooKeeper session 15 s.
const FORGET_LIMIT: Duration = Duration::from_secs(40);
const RECONNECT_LIMIT: Duration = Duration::from_secs(40);
const COUNTED_CALLS: usize = 150;

/// Step 7.
pub(super) async fn instance_killed(mesh: &mut Mesh<'_>, token: &Token) -> Result<(), String> {
    let call = quote(mesh).with(token);
    let load = Load::start(&mesh.client, vec![call.clone()]);
    tokio::time::sleep(AROUND).await;
    let before = load.so_far();
    mesh.stage.kill(&["quotes-c.sidecar", "quotes-c.app"]).await?;
    mesh.sidecars.remove("quotes-c");
    tokio::time::sleep(AROUND).await;
    let tally = load.stop().await;
    show::note(format_args!(
        "{} calls, {CLIENTS} under way at a time: {} answered, {} failed{}",
        tally.calls(),
        tally.answers(),
        tally.failures(),
        tally.reasons_in_brackets()
    ));
    show::check(before.of("c") > 0, "c was answering until then", before.shares())?;
    let in_flight = CLIENTS as u64;
    show::check(
        tally.failures() <= in_flight,
        "no more failed than were under way",
        tally.reasons(),
    )?;
    let tally = many(&mesh.client, &call, COUNTED_CALLS).await;
    show::note(format_args!(
        "{} calls more, answered by: {}",
        tally.calls(),
        tally.shares()
    ));
    let gone = tally.failures() == 0 && tally.of("c") == 0 && tally.of("a") > 0 && tally.of("b") > 0;
    show::check(
        gone,
        "a and b share what was c's, and none fails",
        tally.reasons(),
    )?;
    show::did("mesh-ctl instances market.quotes");
    let begun = Instant::now();
    until("waiting for the registry to forget c", FORGET_LIMIT, async || {
        let listed = mesh.ctl_json("instances market.quotes").await?;
        Ok(!listed.to_string().contains("market.quotes/c"))
    })
    .await?;
    show::check(
        true,
        &format!(
            "c is no longer registered, {:.1} s later",
            begun.elapsed().as_secs_f32()
        ),
        "",
    )
}

/// Step 8.
pub(super) async fn xds_killed(mesh: &mut Mesh<'_>, token: &Token) -> Result<(), String> {
    let load = Load::start(&mesh.client, vec![quote(mesh).with(token), portfolio(mesh)]);
    tokio::time::sleep(AROUND).await;
    mesh.stage.kill(&[XDS]).await?;
    tokio::time::sleep(AWAY).await;
    let answer = sent(mesh, &quote(mesh)).await?;
    show::check(
        answer.status == 401,
        "policies and tokens are still judged",
        told(&answer),
    )?;
    let away = load.so_far();
    show::note(format_args!(
        "{} calls so far, answered by: {}",
        away.calls(),
        away.shares()
    ));
    show::check(
        away.failures() == 0,
        "no call failed while it was away",
        away.reasons(),
    )?;
    mesh.start_xds().await?;
    show::did("mesh-ctl status");
    let took = until(
        "waiting for the sidecars to come back",
        RECONNECT_LIMIT,
        async || {
            let status = mesh.ctl_json("status").await?;
            let connected = status["sidecars"].as_array().map_or(0, Vec::len);
            Ok(connected == mesh.sidecars.len())
        },
    )
    .await?;
    show::saw(&mesh.ctl("status").await?.out);
    let claim = format!(
        "all {} sidecars are connected again, {:.1} s after it",
        mesh.sidecars.len(),
        took.as_secs_f32()
    );
    show::check(true, &claim, "")?;
    mesh.apply("access-with-orders.yaml").await?;
    let answer = sent(mesh, &order(mesh).with(token)).await?;
    show::check(
        answer.status == 200,
        "a policy change gets through again",
        told(&answer),
    )?;
    mesh.apply("documents/access.yaml").await?;
    let tally = load.stop().await;
    show::note(format_args!(
        "{} calls in all, answered by: {}",
        tally.calls(),
        tally.shares()
    ));
    show::check(
        tally.failures() == 0,
        "no call failed from first to last",
        tally.reasons(),
    )
}
