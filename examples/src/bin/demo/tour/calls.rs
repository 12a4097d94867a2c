//! Steps about single calls: who gets an answer, who does not, and why.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::client::{Answer, Call, Token};
use crate::mesh::Mesh;
use crate::show;

const STREAM_MESSAGES: usize = 5;

/// Sends a call, and shows it with its answer.
pub(super) async fn sent(mesh: &Mesh<'_>, call: &Call) -> Result<Answer, String> {
    show::did(call.as_curl());
    let answer = mesh.client.send(call).await?;
    show::saw(format_args!("{} {}", answer.status, answer.text));
    Ok(answer)
}

/// What an answer was, for when it is not what it should be.
pub(super) fn told(answer: &Answer) -> String {
    format!("{} {}", answer.status, answer.text)
}

/// A quote, asked for by the world.
pub(super) fn quote(mesh: &Mesh<'_>) -> Call {
    Call::get(format!("http://{}/v1/quotes/ACME", mesh.edge))
}

/// A portfolio, which needs a quote.
pub(super) fn portfolio(mesh: &Mesh<'_>) -> Call {
    Call::get(format!("http://{}/portfolio/portfolios/pocket", mesh.edge))
}

/// An order, which nobody may place at first.
pub(super) fn order(mesh: &Mesh<'_>) -> Call {
    let order = serde_json::json!({"symbol": "ACME", "side": "SIDE_BUY", "quantity": "10"});
    Call::post(format!("http://{}/v1/orders", mesh.edge), Some(order))
}

/// Step 1.
pub(super) async fn good_token(mesh: &Mesh<'_>, token: &Token) -> Result<(), String> {
    let answer = sent(mesh, &quote(mesh).with(token)).await?;
    show::check(answer.status == 200, "answered", told(&answer))?;
    show::check(
        answer.json["symbol"] == "ACME" && answer.json["bid"].is_number(),
        "JSON in, gRPC to the service, JSON out",
        told(&answer),
    )?;
    show::check(
        answer.json["askedBy"] == "spiffe://mesh.local/service/web.edge",
        "the service was told by its sidecar that the edge called",
        told(&answer),
    )
}

/// Step 2.
pub(super) async fn bad_tokens(mesh: &Mesh<'_>) -> Result<(), String> {
    // Another key under the name of the right one: only the signature can tell.
    let keys = std::fs::read_to_string(mesh.stage.folder().join("keys/jwks.json")).unwrap_or_default();
    let keys: serde_json::Value = serde_json::from_str(&keys).unwrap_or_default();
    let kid = keys["keys"][0]["kid"].as_str().unwrap_or_default();
    mesh.ctl_ok("jwt keygen --dir other-keys").await?;
    let right = "--key keys/jwt-key.pem";
    let forged = format!("--key other-keys/jwt-key.pem --kid={kid} --aud market");
    let expired = mesh
        .token("EXPIRED", &format!("{right} --aud market --expires-in -5m"))
        .await?;
    let forged = mesh.token("FORGED", &forged).await?;
    let foreign = mesh.token("FOREIGN", &format!("{right} --aud shipping")).await?;
    let call = quote(mesh);
    let cases = [
        ("a missing token: 401", "jwt_missing", call.clone()),
        (
            "an expired token: 401",
            "jwt_expired",
            call.clone().with(&expired),
        ),
        (
            "a wrongly signed token: 401",
            "jwt_signature_wrong",
            call.clone().with(&forged),
        ),
        (
            "a token for somebody else: 401",
            "jwt_audience_wrong",
            call.with(&foreign),
        ),
    ];
    let before = mesh.calls_of_quotes();
    for (claim, reason, call) in cases {
        let answer = sent(mesh, &call).await?;
        let says_so = answer.status == 401 && answer.reason == reason && answer.json["message"].is_string();
        show::check(says_so, &format!("{claim}, {reason}"), told(&answer))?;
    }
    let calls = mesh.calls_of_quotes() - before;
    show::check(
        calls == 0,
        "the service was not called",
        format_args!("it was, {calls} times"),
    )
}

/// Step 3.
pub(super) async fn who_calls(mesh: &Mesh<'_>) -> Result<(), String> {
    let answer = sent(mesh, &portfolio(mesh)).await?;
    show::check(
        answer.status == 200,
        "portfolio answers with what quotes told it by gRPC",
        told(&answer),
    )?;
    show::check(
        answer.json["holdings"][0]["askedBy"] == "spiffe://mesh.local/service/web.portfolio",
        "quotes saw who asked: spiffe://mesh.local/service/web.portfolio",
        told(&answer),
    )?;
    let bare = Call::get(format!(
        "http://{}/v1/quotes/ACME",
        mesh.sidecar("quotes-a", "inbound")?
    ));
    show::did(bare.as_curl());
    let refused = mesh.client.send(&bare).await;
    let (refused, seen) = match refused {
        Ok(answer) => (false, told(&answer)),
        Err(why) => (true, why),
    };
    show::saw(&seen);
    show::check(
        refused,
        "who comes without mTLS gets no word out of the sidecar of quotes",
        seen,
    )
}

/// Step 4.
pub(super) async fn forbidden(mesh: &Mesh<'_>, token: &Token) -> Result<(), String> {
    let before = mesh.calls_of_quotes();
    let answer = sent(mesh, &order(mesh).with(token)).await?;
    show::check(
        answer.status == 403 && answer.reason == "access_denied",
        "the token is good, but nobody may place orders: 403, access_denied",
        told(&answer),
    )?;
    // As portfolio would: at its own sidecar, which knows services by name.
    let outbound = mesh.sidecar("portfolio", "outbound")?;
    let call = Call::get(format!("http://{outbound}/v1/quotes/ACME:stream")).at_host("market.quotes");
    let answer = sent(mesh, &call).await?;
    show::check(
        answer.status == 403,
        "portfolio may read quotes, but not stream them: 403 from the sidecar of quotes",
        told(&answer),
    )?;
    let calls = mesh.calls_of_quotes() - before;
    show::check(
        calls == 0,
        "the service was not called",
        format_args!("it was, {calls} times"),
    )
}

/// Step 10.
pub(super) async fn stream(mesh: &Mesh<'_>, token: &Token) -> Result<(), String> {
    let url = format!(
        "http://{}/v1/quotes/ACME:stream?count={STREAM_MESSAGES}&interval=0.2s",
        mesh.edge
    );
    let call = Call::get(url).with(token);
    show::did(call.as_curl());
    let lines = mesh.client.stream(&call).await?;
    for (at, line) in &lines {
        show::saw(format_args!("+{:>4} ms  {line}", at.as_millis()));
    }
    let sequence: Vec<String> = lines
        .iter()
        .map(|(_, line)| serde_json::from_str(line).unwrap_or_default())
        .map(|quote: serde_json::Value| quote["sequence"].as_str().unwrap_or("?").to_owned())
        .collect();
    let counts_up = sequence == ["1", "2", "3", "4", "5"];
    show::check(counts_up, "five quotes, each a line of JSON", sequence.join(", "))?;
    let (first, last) = (lines.first().map(|line| line.0), lines.last().map(|line| line.0));
    let apart = last.unwrap_or_default() - first.unwrap_or_default();
    show::check(
        apart > Duration::ZERO,
        "sent as they were made, not all at the end",
        "all came at once",
    )
}

/// Step 11.
pub(super) async fn numbers(mesh: &Mesh<'_>) -> Result<(), String> {
    let mut counts: BTreeMap<[String; 4], u64> = BTreeMap::new();
    for name in mesh.sidecars.keys() {
        let call = Call::get(format!("http://{}/metrics", mesh.sidecar(name, "metrics")?));
        show::did(call.as_curl());
        let answer = mesh.client.send(&call).await?;
        for line in answer.text.lines() {
            let Some((labels, count)) = line
                .strip_prefix("mesh_calls_total{")
                .and_then(|rest| rest.rsplit_once("} "))
            else {
                continue;
            };
            let label = |name: &str| labelled(labels, name).unwrap_or_default().to_owned();
            let key = [label("way"), label("service"), label("code"), label("reason")];
            *counts.entry(key).or_default() += count.parse().unwrap_or(0);
        }
    }
    show::saw(format_args!(
        "{:<9} {:<14} {:>4}  {:<20} {:>6}",
        "WAY", "SERVICE", "CODE", "REASON", "CALLS"
    ));
    for ([way, service, code, reason], count) in &counts {
        show::saw(format_args!(
            "{way:<9} {service:<14} {code:>4}  {reason:<20} {count:>6}"
        ));
    }
    let of = |way: &str, reason: &str, codes: &[&str]| -> u64 {
        let matching = counts.iter().filter(|([w, _, code, r], _)| {
            w == way && r == reason && (codes.is_empty() || codes.contains(&code.as_str()))
        });
        matching.map(|(_, count)| count).sum()
    };
    for way in ["edge", "inbound", "outbound"] {
        // OK, of gRPC and of HTTP.
        let answered = of(way, "", &["0", "200"]);
        show::check(
            answered > 0,
            &format!("{way}: {answered} calls answered"),
            "none is counted",
        )?;
    }
    let reasons = [
        "jwt_missing",
        "jwt_expired",
        "jwt_signature_wrong",
        "jwt_audience_wrong",
        "access_denied",
    ];
    let missing: Vec<&str> = reasons
        .into_iter()
        .filter(|reason| of("edge", reason, &[]) == 0)
        .collect();
    show::check(
        missing.is_empty(),
        "every refusal of the tour is counted under its reason",
        missing.join(", "),
    )
}

/// The value of a label in `name="value",...`; those of the mesh hold no quotes.
fn labelled<'t>(labels: &'t str, name: &str) -> Option<&'t str> {
    labels
        .split(',')
        .find_map(|label| label.strip_prefix(name)?.strip_prefix("=\"")?.strip_suffix('"'))
}
