//! Steps in which the mesh changes while it runs: a policy, its instances, a certificate.

use std::time::{Duration, Instant};

use super::calls::{order, quote, sent, told};
use crate::client::{Call, Load, Token, many};
use crate::mesh::{Mesh, until};
use crate::show;

/// Calls that are counted by who answered.
const COUNTED_CALLS: usize = 300;
/// An instance that takes its share answers at least this many of them; a third would be 100.
const SHARE_LEAST: u64 = 50;
const JOIN_LIMIT: Duration = Duration::from_secs(20);
/// How long calls go on around a renewal, before and after it.
const AROUND: Duration = Duration::from_millis(500);

const READERS: &str = "documents/access.yaml";
const TRADERS: &str = "access-with-orders.yaml";

/// Step 5.
pub(super) async fn policy(mesh: &Mesh<'_>, token: &Token) -> Result<(), String> {
    allow_orders(mesh).await?;
    let call = order(mesh).with(token);
    mesh.apply(TRADERS).await?;
    let answer = sent(mesh, &call).await?;
    show::check(
        answer.status == 200,
        "the order that step 4 refused is placed",
        told(&answer),
    )?;
    mesh.apply(READERS).await?;
    let answer = sent(mesh, &call).await?;
    show::check(
        answer.status == 403,
        "and after the way back it is refused again",
        told(&answer),
    )
}

/// Writes the policy with one method more, and shows the difference.
async fn allow_orders(mesh: &Mesh<'_>) -> Result<(), String> {
    let path = mesh.stage.folder().join(READERS);
    let readers = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let (before, after) = (
        "Quotes/StreamQuotes]",
        "Quotes/StreamQuotes, market.v1.Quotes/PlaceOrder]",
    );
    mesh.stage.write(TRADERS, &readers.replace(before, after))?;
    show::did(format_args!("sed 's|{before}|{after}|' {READERS} > {TRADERS}"));
    let arguments = format!("diff -f {TRADERS}");
    show::did(format_args!("mesh-ctl {arguments}"));
    let said = mesh.ctl(&arguments).await?;
    let changed = |line: &&str| line.starts_with(['+', '-']);
    show::saw(said.out.lines().filter(changed).collect::<Vec<_>>().join("\n"));
    show::check(said.code == 1, "mesh-ctl diff shows what would change", said.err)
}

/// Step 6.
pub(super) async fn joining(mesh: &mut Mesh<'_>, token: &Token) -> Result<(), String> {
    let call = quote(mesh).with(token);
    let tally = many(&mesh.client, &call, COUNTED_CALLS / 3).await;
    show::note(format_args!(
        "{} calls, answered by: {}",
        tally.calls(),
        tally.shares()
    ));
    let alone = tally.of("a") == tally.calls();
    show::check(
        alone,
        "one instance answers everything",
        tally.shares() + &tally.reasons(),
    )?;
    mesh.start_quotes("b").await?;
    mesh.start_quotes("c").await?;
    let begun = Instant::now();
    let (client, mut seen) = (mesh.client.clone(), std::collections::BTreeSet::new());
    until("waiting for first answers of b and c", JOIN_LIMIT, async || {
        let tally = many(&client, &call, 10).await;
        seen.extend(tally.answered.into_keys());
        Ok(seen.contains("b") && seen.contains("c"))
    })
    .await?;
    show::note(format_args!(
        "both have answered {} ms after they were ready",
        begun.elapsed().as_millis()
    ));
    let tally = many(&mesh.client, &call, COUNTED_CALLS).await;
    show::note(format_args!(
        "{} calls, answered by: {}",
        tally.calls(),
        tally.shares()
    ));
    let fair = ["a", "b", "c"].iter().all(|id| tally.of(id) >= SHARE_LEAST);
    show::check(fair, "each of the three takes its share", tally.shares())?;
    show::check(tally.failures() == 0, "no call failed", tally.reasons())?;
    instances(mesh).await
}

/// Shows who is registered.
async fn instances(mesh: &Mesh<'_>) -> Result<(), String> {
    show::did("mesh-ctl instances market.quotes");
    let said = mesh.ctl("instances market.quotes").await?;
    show::saw(&said.out);
    let all = ["market.quotes/a", "market.quotes/b", "market.quotes/c"];
    show::check(
        all.iter().all(|name| said.out.contains(name)),
        "all three are registered",
        said.err,
    )
}

/// Step 9.
pub(super) async fn renewal(mesh: &Mesh<'_>, token: &Token) -> Result<(), String> {
    let admin = mesh.sidecar("quotes-a", "admin")?;
    let look = Call::get(format!("http://{admin}/certificates"));
    let before = certificate(mesh, &look).await?;
    let load = Load::start(&mesh.client, vec![quote(mesh).with(token)]);
    tokio::time::sleep(AROUND).await;
    let renew = Call::post(format!("http://{admin}/certificates/renew"), None);
    show::did(renew.as_curl());
    let renewed = mesh.client.send(&renew).await?;
    let after = certificate(mesh, &look).await?;
    tokio::time::sleep(AROUND).await;
    let tally = load.stop().await;
    show::check(renewed.status == 200, "xds-lite signed a new one", told(&renewed))?;
    show::check(
        before != after,
        "another certificate is in force",
        "it is the old one",
    )?;
    show::note(format_args!(
        "{} calls meanwhile, answered by: {}",
        tally.calls(),
        tally.shares()
    ));
    show::check(
        tally.failures() == 0 && tally.of("a") > 0,
        "no call failed",
        tally.reasons(),
    )
}

/// What tells the certificate in force from others: its fingerprint and its end.
async fn certificate(mesh: &Mesh<'_>, look: &Call) -> Result<String, String> {
    show::did(look.as_curl());
    let answer = mesh.client.send(look).await?;
    let certificate = &answer.json["certificates"][0];
    let (Some(print), Some(end)) = (
        certificate["fingerprint"].as_str(),
        certificate["notAfter"].as_str(),
    ) else {
        return Err(format!("the sidecar shows no certificate: {}", told(&answer)));
    };
    let shown = format!("fingerprint {print}, not after {end}");
    show::saw(&shown);
    Ok(shown)
}
