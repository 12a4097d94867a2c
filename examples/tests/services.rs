//! The two example services as their users start them: real processes, called over real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test file outside of `cfg(test)`

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use mesh_examples::market::quotes_client::QuotesClient;
use mesh_examples::market::{
    Account, GetQuoteRequest, ListQuotesRequest, PlaceOrderRequest, Side, StreamQuotesRequest, Trade, order,
};
use tokio_stream::StreamExt;
use tonic::transport::Channel;
use tonic::{Code, Request};

const QUOTES: &str = env!("CARGO_BIN_EXE_quotes");
const PORTFOLIO: &str = env!("CARGO_BIN_EXE_portfolio");

/// A running service, killed when the test is over.
struct Service {
    child: Child,
    address: SocketAddr,
}

impl Service {
    fn start(program: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(program)
            .args(["--listen", "127.0.0.1:0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line.trim().strip_prefix("ready ").expect(&line).parse().unwrap();
        Self { child, address }
    }

    async fn client(&self) -> QuotesClient<Channel> {
        QuotesClient::connect(format!("http://{}", self.address))
            .await
            .unwrap()
    }

    /// Sends a signal and gives back the exit code.
    fn signalled(&mut self, signal: &str) -> Option<i32> {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &id])
                .status()
                .unwrap()
                .success()
        );
        self.child.wait().unwrap().code()
    }

    fn get(&self, path: &str, headers: &str) -> (u16, serde_json::Value) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: portfolio\r\nconnection: close\r\n{headers}\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or(body.into()))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn quotes() -> Service {
    Service::start(QUOTES, &["--name", "a"])
}

fn ask(symbol: &str) -> GetQuoteRequest {
    GetQuoteRequest {
        symbol: symbol.into(),
    }
}

#[tokio::test]
async fn a_quote_says_who_served_it_and_an_unknown_symbol_is_not_found() {
    let service = quotes();
    let mut client = service.client().await;
    let quote = client.get_quote(ask("ACME")).await.unwrap().into_inner();
    assert_eq!((quote.symbol.as_str(), quote.served_by.as_str()), ("ACME", "a"));
    assert!(quote.bid < quote.ask);
    let status = client.get_quote(ask("NOPE")).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(status.message(), "\"NOPE\" is not traded here");
}

#[tokio::test]
async fn quotes_are_listed_by_symbols_and_by_pages() {
    let service = quotes();
    let mut client = service.client().await;
    let mut list = async |symbols: &[&str], page_size, page_token: &str| {
        let request = ListQuotesRequest {
            symbols: symbols.iter().map(|&symbol| symbol.into()).collect(),
            page_size,
            page_token: page_token.into(),
        };
        let answer = client
            .list_quotes(request)
            .await
            .map_err(|status| status.code())?
            .into_inner();
        let symbols: Vec<_> = answer.quotes.into_iter().map(|quote| quote.symbol).collect();
        Ok::<_, Code>((symbols.join(" "), answer.next_page_token))
    };
    assert_eq!(
        list(&["DUNE", "ACME"], 0, "").await.unwrap(),
        ("ACME DUNE".into(), String::new())
    );
    assert_eq!(
        list(&[], 4, "").await.unwrap(),
        ("ACME BORK CRAN DUNE".into(), "ELMO".into())
    );
    assert_eq!(
        list(&[], 4, "ELMO").await.unwrap(),
        ("ELMO FERN".into(), String::new())
    );
    assert_eq!(list(&["ACME", "NOPE"], 0, "").await.unwrap_err(), Code::NotFound);
    assert_eq!(list(&[], -1, "").await.unwrap_err(), Code::InvalidArgument);
    assert_eq!(list(&[], 101, "").await.unwrap_err(), Code::InvalidArgument);
}

#[tokio::test]
async fn an_order_is_filled_waits_for_its_price_or_is_refused() {
    let service = quotes();
    let mut client = service.client().await;
    let good = PlaceOrderRequest {
        symbol: "ACME".into(),
        side: Side::Buy.into(),
        quantity: 9_007_199_254_740_993,
        limit_price: "102.00".into(),
        valid_until: None,
        account: Some(Account {
            owner: "ann".into(),
            reference: "r".into(),
        }),
    };
    let order = client.place_order(good.clone()).await.unwrap().into_inner();
    assert_eq!(order.status(), order::Status::Filled);
    assert_eq!(order.request.as_ref(), Some(&good));
    let cheap = PlaceOrderRequest {
        limit_price: "1".into(),
        ..good.clone()
    };
    assert_eq!(
        client.place_order(cheap).await.unwrap().into_inner().status(),
        order::Status::Open
    );
    type Change = fn(&mut PlaceOrderRequest);
    let changes: [(Change, Code); 6] = [
        (|order| order.symbol = "NOPE".into(), Code::NotFound),
        (|order| order.side = 0, Code::InvalidArgument),
        (|order| order.side = 7, Code::InvalidArgument),
        (|order| order.quantity = 0, Code::InvalidArgument),
        (|order| order.limit_price = "NaN".into(), Code::InvalidArgument),
        (
            |order| order.valid_until = Some(prost_types::Timestamp::default()),
            Code::FailedPrecondition,
        ),
    ];
    for (change, code) in changes {
        let mut bad = good.clone();
        change(&mut bad);
        assert_eq!(
            client.place_order(bad.clone()).await.unwrap_err().code(),
            code,
            "{bad:?}"
        );
    }
}

fn stream(symbol: &str, count: i32, nanos: i32) -> StreamQuotesRequest {
    StreamQuotesRequest {
        symbol: symbol.into(),
        count,
        interval: Some(prost_types::Duration { seconds: 0, nanos }),
    }
}

#[tokio::test]
async fn a_stream_has_as_many_quotes_as_were_asked_for() {
    let service = quotes();
    let mut client = service.client().await;
    let answer = client
        .stream_quotes(stream("ACME", 5, 1_000_000))
        .await
        .unwrap()
        .into_inner();
    let sequence: Vec<_> = answer.map(|quote| quote.unwrap().sequence).collect().await;
    assert_eq!(sequence, [1, 2, 3, 4, 5]);
    for (bad, code) in [
        (stream("NOPE", 1, 1_000_000), Code::NotFound),
        (stream("ACME", -1, 1_000_000), Code::InvalidArgument),
        (stream("ACME", 1, 0), Code::InvalidArgument),
        (stream("ACME", 1, -1), Code::InvalidArgument),
    ] {
        assert_eq!(client.stream_quotes(bad).await.unwrap_err().code(), code);
    }
}

#[tokio::test]
async fn trades_are_summed_up_when_their_stream_ends() {
    let service = quotes();
    let mut client = service.client().await;
    let trade = |symbol: &str, quantity| Trade {
        symbol: symbol.into(),
        quantity,
        price: 2.5,
    };
    let good = tokio_stream::iter([trade("ACME", 2), trade("BORK", 4)]);
    let summary = client.record_trades(good).await.unwrap().into_inner();
    assert_eq!((summary.trades, summary.quantity, summary.turnover), (2, 6, 15.0));
    for (bad, code) in [
        (vec![trade("ACME", 1), trade("NOPE", 1)], Code::NotFound),
        (vec![trade("ACME", 0)], Code::InvalidArgument),
        (vec![trade("ACME", i64::MAX), trade("ACME", 1)], Code::OutOfRange),
    ] {
        let status = client.record_trades(tokio_stream::iter(bad)).await.unwrap_err();
        assert_eq!(status.code(), code);
    }
}

#[tokio::test]
async fn a_conversation_goes_back_and_forth_and_ends_at_the_first_unknown_symbol() {
    let service = quotes();
    let mut client = service.client().await;
    let (questions, asked) = tokio::sync::mpsc::channel(1);
    let asked = tokio_stream::wrappers::ReceiverStream::new(asked);
    questions.send(ask("ACME")).await.unwrap();
    let mut answers = client.converse(asked).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().symbol, "ACME");
    questions.send(ask("BORK")).await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().symbol, "BORK");
    questions.send(ask("NOPE")).await.unwrap();
    assert_eq!(answers.message().await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn the_caller_is_told_only_from_the_header_the_host_trusts() {
    let trusting = Service::start(QUOTES, &["--caller-header", "x-mesh-caller", "--log"]);
    let plain = quotes();
    for (service, expected) in [(&trusting, "spiffe://td/service/web"), (&plain, "")] {
        let mut request = Request::new(ask("ACME"));
        request
            .metadata_mut()
            .insert("x-mesh-caller", "spiffe://td/service/web".parse().unwrap());
        let quote = service
            .client()
            .await
            .get_quote(request)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(quote.asked_by, expected);
    }
}

#[tokio::test]
async fn a_signal_ends_streams_with_unavailable_and_the_process_with_0() {
    for signal in ["-TERM", "-INT"] {
        let mut service = quotes();
        let mut client = service.client().await;
        let mut answer = client
            .stream_quotes(stream("ACME", 0, 1_000_000))
            .await
            .unwrap()
            .into_inner();
        assert!(answer.message().await.unwrap().is_some());
        let exited = tokio::task::spawn_blocking(move || service.signalled(signal));
        let ended = loop {
            if let Err(status) = answer.message().await {
                break status;
            }
        };
        assert_eq!(ended.code(), Code::Unavailable);
        drop((answer, client));
        assert_eq!(exited.await.unwrap(), Some(0));
    }
}

#[test]
fn the_descriptors_are_written_with_their_annotations_and_comments() {
    let file = std::env::temp_dir().join(format!("quotes-{}.binpb", std::process::id()));
    let status = Command::new(QUOTES)
        .arg("--descriptors")
        .arg(&file)
        .status()
        .unwrap();
    assert!(status.success());
    let bytes = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds("/v1/quotes/{symbol}:stream"));
    assert!(holds("google/api/annotations.proto"));
    assert!(holds("Answers what things cost."));
}

#[test]
fn what_cannot_be_done_is_one_line_and_a_failure() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (program, arguments, word) in [
        (QUOTES, vec!["--listen", &address], "cannot listen on"),
        (
            QUOTES,
            vec!["--descriptors", "/nowhere/at/all"],
            "/nowhere/at/all",
        ),
        (PORTFOLIO, vec!["--listen", &address], "cannot listen on"),
        (PORTFOLIO, vec!["--quotes-authority", "a b"], "--quotes-authority"),
        (PORTFOLIO, vec!["--quotes", "::"], "--quotes"),
    ] {
        let output = Command::new(program).args(&arguments).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(
            !output.status.success() && told.contains(word),
            "{arguments:?}: {told}"
        );
        assert_eq!(told.trim().lines().count(), 1, "{told}");
    }
}

#[test]
fn a_portfolio_is_valued_with_live_quotes() {
    let quotes = Service::start(QUOTES, &["--name", "b"]);
    let portfolio = Service::start(PORTFOLIO, &["--quotes", &format!("http://{}", quotes.address)]);
    let (status, body) = portfolio.get("/portfolios/retirement", "");
    assert_eq!((status, &body["id"]), (200, &"retirement".into()), "{body}");
    let holdings = body["holdings"].as_array().unwrap();
    assert_eq!(holdings.len(), 3);
    assert_eq!(holdings[0]["quotedBy"], "b");
    assert_eq!(
        holdings[0]["value"].as_f64().unwrap(),
        holdings[0]["price"].as_f64().unwrap() * 10.0
    );
    assert_eq!(portfolio.get("/healthz", "").0, 200);
    assert_eq!(portfolio.get("/portfolios/nobody", "").0, 404);
    let (status, body) = portfolio.get("/elsewhere", "");
    assert_eq!((status, &body["error"]["status"]), (404, &404.into()));
}

#[test]
fn a_portfolio_without_its_quotes_is_an_error_in_json() {
    let mut quotes = quotes();
    let portfolio = Service::start(PORTFOLIO, &["--quotes", &format!("http://{}", quotes.address)]);
    quotes.signalled("-KILL");
    let (status, body) = portfolio.get("/portfolios/pocket", "");
    assert_eq!(
        (status, &body["error"]["quotes"]["code"]),
        (503, &"Unavailable".into()),
        "{body}"
    );
}

#[test]
fn a_portfolio_stops_on_a_signal() {
    let mut portfolio = Service::start(PORTFOLIO, &[]);
    assert_eq!(portfolio.signalled("-TERM"), Some(0));
}

#[tokio::test]
async fn a_portfolio_names_the_service_it_calls_and_carries_trace_and_token_on() {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = heads.clone();
    let record = async move |request: axum::extract::Request| {
        let (head, _) = request.into_parts();
        seen.lock().unwrap().push((head.uri.to_string(), head.headers));
        [("content-type", "application/grpc"), ("grpc-status", "7")]
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = tonic::service::Routes::from(axum::Router::new().fallback(record));
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_routes(routes)
            .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)),
    );
    let portfolio = Service::start(PORTFOLIO, &["--quotes", &format!("http://{address}")]);
    let headers = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\
                   authorization: Bearer t\r\nx-other: o\r\n";
    let call = move || portfolio.get("/portfolios/pocket", headers);
    let (status, body) = tokio::task::spawn_blocking(call).await.unwrap();
    assert_eq!(
        (status, &body["error"]["quotes"]["code"]),
        (403, &"PermissionDenied".into()),
        "{body}"
    );
    let heads = heads.lock().unwrap();
    let (uri, headers) = &heads[0];
    assert_eq!(uri, "http://market.quotes/market.v1.Quotes/GetQuote");
    assert_eq!(headers["authorization"], "Bearer t");
    assert!(headers.contains_key("traceparent"));
    assert!(headers.contains_key("grpc-timeout"));
    assert!(!headers.contains_key("x-other"));
}
