//! Policies about what a request says: one rule for every door, judged on the message that the service gets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use mesh_examples::market::{GetQuoteRequest, StreamQuotesRequest, Trade};
use mesh_tests::documents::policy;
use mesh_tests::{Answer, Curl, Mesh, Quotes, Sidecar, call, tokens};
use mesh_transcode::gzip;
use prost::Message;
use serde_json::json;
use tokio_stream::StreamExt;
use tonic::{Code, Request, Status};

/// Whose token names them may ask for these symbols.
const RULES: &str =
    "[{methods: [market.v1.Quotes/*], jwt: {provider: login}, fields: {symbol: {claim: symbols}}}]";

struct Guarded {
    edge: Sidecar,
    caller: Sidecar,
    quotes: Quotes,
    mesh: Mesh,
}

fn guarded(rules: &str) -> Guarded {
    let mesh = Mesh::start();
    mesh.apply_file("login.yaml");
    let quotes = mesh.quotes("a");
    let (edge, caller) = (mesh.edge(), mesh.caller("web.portfolio"));
    caller.reaches(&["a"]);
    mesh.apply(&policy("own-symbols", rules));
    Guarded {
        edge,
        caller,
        quotes,
        mesh,
    }
}

impl Guarded {
    fn get(&self, path: &str) -> Curl {
        self.edge.get(path).token(tokens().get("for_acme"))
    }

    /// A POST of bytes to a method, by its name.
    fn post(&self, method: &str, content_type: &str, body: &[u8]) -> Curl {
        let file = self.mesh.folder.write(&format!("body-{}", body.len()), body);
        self.get(&format!("/market.v1.Quotes/{method}"))
            .header(&format!("content-type: {content_type}"))
            .with(&["--data-binary", &format!("@{}", file.display())])
    }

    fn calls(&self) -> usize {
        self.quotes.app.calls()
    }
}

fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[flag][..], &length.to_be_bytes(), message].concat()
}

fn ask(symbol: &str) -> Vec<u8> {
    let symbol = symbol.into();
    GetQuoteRequest { symbol }.encode_to_vec()
}

#[track_caller]
fn is_answered(answer: &Answer) {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(
        answer.body.contains("ACME") || answer.body.contains("order"),
        "{answer:?}"
    );
}

#[test]
fn json_callers_may_ask_for_what_their_token_names_wherever_they_say_it() {
    let guarded = guarded(RULES);
    let order = |symbol: &str| json!({"symbol": symbol, "side": "SIDE_BUY", "quantity": "1"}).to_string();
    let before = guarded.calls();
    // In the path, in a body, in a stream's query, in Connect's own form.
    for symbol in ["DUNE", "acme", "ACME%20"] {
        guarded
            .get(&format!("/v1/quotes/{symbol}"))
            .call()
            .is_refused(403, "access_denied");
    }
    guarded
        .get("/v1/orders")
        .post(&order("DUNE"))
        .call()
        .is_refused(403, "access_denied");
    guarded
        .get("/v1/orders")
        .post("{}")
        .call()
        .is_refused(403, "access_denied");
    guarded
        .get("/v1/quotes/DUNE:stream?count=1")
        .call()
        .is_refused(403, "access_denied");
    let connect = guarded
        .post("GetQuote", "application/json", br#"{"symbol": "DUNE"}"#)
        .header("connect-protocol-version: 1")
        .call();
    assert_eq!(
        (connect.status, connect.header("x-mesh-reason")),
        (403, Some("access_denied")),
        "{connect:?}"
    );
    // Methods without the field, and those that take a stream.
    guarded.get("/v1/quotes").call().is_refused(403, "access_denied");
    let trades = guarded
        .get("/v1/trades:record")
        .post(r#"[{"symbol": "ACME"}]"#)
        .call();
    trades.is_refused(403, "access_denied");
    // Other tokens, and none.
    let other = |name: &str| {
        guarded
            .edge
            .get("/v1/quotes/ACME")
            .token(tokens().get(name))
            .call()
    };
    other("good").is_refused(403, "access_denied");
    other("for_nothing").is_refused(403, "access_denied");
    other("expired").is_refused(401, "jwt_expired");
    guarded
        .edge
        .get("/v1/quotes/ACME")
        .call()
        .is_refused(401, "jwt_missing");
    assert_eq!(guarded.calls(), before, "a refused request reached the service");

    is_answered(&guarded.get("/v1/quotes/ACME").call());
    assert_eq!(guarded.get("/v1/quotes/BORK").call().json()["symbol"], "BORK");
    is_answered(&guarded.get("/v1/quotes/ACME:stream?count=1").call());
    is_answered(
        &guarded
            .post("GetQuote", "application/json", br#"{"symbol": "ACME"}"#)
            .header("connect-protocol-version: 1")
            .call(),
    );
    let placed = guarded.get("/v1/orders").post(&order("ACME")).call();
    assert_eq!(placed.status, 200, "{placed:?}");
    assert_eq!(guarded.calls(), before + 5);
}

#[test]
fn grpc_callers_are_judged_by_the_same_rule_on_both_ways_in() {
    let guarded = guarded(RULES);
    let before = guarded.calls();
    let token = format!("Bearer {}", tokens().get("for_acme"));
    let with_token = |message: GetQuoteRequest| {
        let mut request = Request::new(message);
        request
            .metadata_mut()
            .insert("authorization", token.parse().unwrap());
        request
    };
    let quote = |symbol: &str| -> Result<String, Status> {
        let request = with_token(GetQuoteRequest {
            symbol: symbol.into(),
        });
        let answer = call::block_on(async { guarded.caller.client().get_quote(request).await })?;
        Ok(answer.into_inner().symbol)
    };
    // From sidecar to sidecar.
    assert_eq!(quote("DUNE").unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(quote("").unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(guarded.calls(), before);
    assert_eq!(quote("ACME").unwrap(), "ACME");
    let streamed = call::block_on(async {
        let mut request = Request::new(StreamQuotesRequest {
            symbol: "BORK".into(),
            count: 2,
            ..StreamQuotesRequest::default()
        });
        request
            .metadata_mut()
            .insert("authorization", token.parse().unwrap());
        let stream = guarded.caller.client().stream_quotes(request).await?.into_inner();
        Ok::<_, Status>(stream.collect::<Vec<_>>().await.len())
    });
    assert_eq!(streamed.unwrap(), 2);
    // A stream of requests has no one message to judge, whatever its first one says.
    let recorded = call::block_on(async {
        let trade = Trade {
            symbol: "ACME".into(),
            ..Trade::default()
        };
        let mut request = Request::new(tokio_stream::iter([trade]));
        request
            .metadata_mut()
            .insert("authorization", token.parse().unwrap());
        guarded.caller.client().record_trades(request).await
    });
    assert_eq!(recorded.unwrap_err().code(), Code::PermissionDenied);

    // Through the edge.
    let through = |body: &[u8]| {
        let curl = guarded.post("GetQuote", "application/grpc", body);
        let answer = curl
            .with(&["--http2-prior-knowledge", "-H", "te: trailers"])
            .call();
        answer
            .header("grpc-status")
            .map_or_else(|| "0".to_owned(), str::to_owned)
    };
    let before = guarded.calls();
    assert_eq!(through(&framed(0, &ask("DUNE"))), "7");
    assert_eq!(
        through(&[framed(0, &ask("ACME")), framed(0, &ask("DUNE"))].concat()),
        "12"
    );
    assert_eq!(through(&[]), "13");
    assert_eq!(through(&framed(0, &ask("ACME"))[..9]), "13");
    assert_eq!(guarded.calls(), before);
    assert_eq!(through(&framed(0, &ask("ACME"))), "0");
    assert_eq!(guarded.calls(), before + 1);
}

#[test]
fn what_is_said_twice_counts_for_nothing_and_compressed_messages_are_looked_into() {
    let mut guarded = guarded(RULES);
    let grpc_web = |body: &[u8], encoding: &str| {
        let curl = guarded.post("GetQuote", "application/grpc-web+proto", body);
        let answer = curl.header(&format!("grpc-encoding: {encoding}")).call();
        // In the head where there is no message, and behind the message.
        let behind = answer.body.split("grpc-status:").nth(1);
        let behind = behind.and_then(|rest| rest.lines().next()).map(str::trim);
        let status = answer.header("grpc-status").or(behind).map(str::to_owned);
        status.unwrap_or_else(|| panic!("{answer:?}"))
    };
    let before = guarded.calls();
    let (good, evil) = (ask("ACME"), ask("DUNE"));
    // Services differ in which one they take.
    for twice in [
        [&good[..], &evil].concat(),
        [&evil[..], &good].concat(),
        [&good[..], &good].concat(),
    ] {
        assert_eq!(grpc_web(&framed(0, &twice), "identity"), "7");
    }
    // Some take a varint for a length here, and find another symbol in what nobody knows.
    let hidden = [&good[..], b"\x08\x04DUNEzl", &[b'.'; 108]].concat();
    assert_eq!(grpc_web(&framed(0, &hidden), "identity"), "7");
    assert_eq!(grpc_web(&framed(1, &gzip::compress(&evil)), "gzip"), "7");
    // What cannot be looked into is not let through.
    assert_eq!(grpc_web(&framed(1, &good), "zstd"), "12");
    assert_eq!(grpc_web(&framed(0, &good[..3]), "identity"), "7");
    assert_eq!(guarded.calls(), before);
    assert_eq!(grpc_web(&framed(0, &good), "identity"), "0");
    assert_eq!(guarded.calls(), before + 1);
    // It is let through, to an app that takes no gzip.
    assert_eq!(grpc_web(&framed(1, &gzip::compress(&good)), "gzip"), "12");
    guarded
        .edge
        .process()
        .says(&[r#""policy":"own-symbols""#, r#""grpc_status":12"#]);
}

#[test]
fn values_are_allowed_without_a_token_and_the_log_names_the_policy() {
    let mut guarded = guarded("[{fields: {symbol: {values: [ACME, CRAN]}}}]");
    let get = |symbol: &str| guarded.edge.get(&format!("/v1/quotes/{symbol}")).call();
    is_answered(&get("ACME"));
    let refused = get("DUNE");
    refused.is_refused(403, "access_denied");
    assert!(
        refused.body.contains("with what this request says"),
        "{refused:?}"
    );
    // Which values would do is for the log alone.
    assert!(
        !refused.body.contains("CRAN") && !refused.body.contains("own-symbols"),
        "{refused:?}"
    );
    guarded
        .edge
        .process()
        .says(&[r#""policy":"own-symbols""#, r#""path":"/v1/quotes/ACME""#]);
    guarded.edge.process().says(&[
        r#""reason":"access_denied""#,
        "own-symbols",
        r#""path":"/v1/quotes/DUNE""#,
    ]);
}
