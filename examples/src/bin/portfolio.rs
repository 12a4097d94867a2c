//! `portfolio`: an ordinary REST service. It values portfolios with quotes that it gets by gRPC. It knows nothing of the
//! mesh: to it, its sidecar is just the address where `market.quotes` answers.

use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use clap::Parser;
use mesh_examples::market::quotes_client::QuotesClient;
use mesh_examples::market::{GetQuoteRequest, Quote};
use mesh_examples::{announce, exit, stop_signal};
use serde::Serialize;
use tokio::net::TcpListener;
use tonic::metadata::{AsciiMetadataKey, MetadataMap};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// Headers that are carried on to the calls a request leads to.
const CARRIED_ON: [&str; 3] = ["traceparent", "tracestate", "authorization"];
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const QUOTE_TIMEOUT: Duration = Duration::from_secs(5);

/// What is held: portfolio, then symbol and quantity.
const PORTFOLIOS: [(&str, &[(&str, i32)]); 2] = [
    ("retirement", &[("ACME", 10), ("BORK", 200), ("DUNE", 3)]),
    ("pocket", &[("FERN", 40)]),
];

/// A REST service that values portfolios.
#[derive(Parser)]
struct Arguments {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:9100")]
    listen: SocketAddr,
    /// Where the quotes service answers.
    #[arg(long, default_value = "http://127.0.0.1:15001")]
    quotes: String,
    /// The name the quotes service is asked for by.
    #[arg(long, default_value = "market.quotes")]
    quotes_authority: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit("portfolio", run(Arguments::parse()).await)
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let origin = format!("http://{}", arguments.quotes_authority)
        .parse()
        .map_err(|error| format!("--quotes-authority {}: {error}", arguments.quotes_authority))?;
    let channel = Endpoint::from_shared(arguments.quotes.clone())
        .map_err(|error| format!("--quotes {}: {error}", arguments.quotes))?
        .origin(origin)
        .connect_timeout(CONNECT_TIMEOUT)
        .connect_lazy();
    let listener = TcpListener::bind(arguments.listen)
        .await
        .map_err(|error| format!("cannot listen on {}: {error}", arguments.listen))?;
    // Before anybody knows that we are there to be stopped.
    let stop = stop_signal();
    announce(listener.local_addr()?)?;

    let service = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/portfolios/{id}", get(portfolio))
        .fallback(async || Failure::new(StatusCode::NOT_FOUND, "there is nothing here"))
        .with_state(Arc::new(QuotesClient::new(channel)));
    axum::serve(listener, service)
        .with_graceful_shutdown(stop)
        .await?;
    Ok(())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Portfolio {
    id: String,
    holdings: Vec<Holding>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Holding {
    symbol: String,
    quantity: i32,
    /// What it could be sold for.
    price: f64,
    currency: String,
    value: f64,
    /// The instance of the quotes service that knew the price.
    quoted_by: String,
    /// Who the quotes service says asked it.
    asked_by: String,
}

async fn portfolio(
    State(client): State<Arc<QuotesClient<Channel>>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Portfolio>, Failure> {
    let (_, held) = PORTFOLIOS
        .iter()
        .find(|(name, _)| *name == id)
        .ok_or_else(|| Failure::new(StatusCode::NOT_FOUND, "there is no such portfolio"))?;
    let mut holdings = Vec::new();
    for (symbol, quantity) in *held {
        let quote = quote(&client, symbol, &headers).await?;
        holdings.push(Holding {
            symbol: quote.symbol,
            quantity: *quantity,
            price: quote.bid,
            currency: quote.currency,
            value: (f64::from(*quantity) * quote.bid * 100.0).round() / 100.0,
            quoted_by: quote.served_by,
            asked_by: quote.asked_by,
        });
    }
    Ok(Json(Portfolio { id, holdings }))
}

async fn quote(client: &QuotesClient<Channel>, symbol: &str, headers: &HeaderMap) -> Result<Quote, Failure> {
    let mut request = tonic::Request::new(GetQuoteRequest {
        symbol: symbol.into(),
    });
    request.set_timeout(QUOTE_TIMEOUT);
    carry_on(headers, request.metadata_mut());
    let answer = client.clone().get_quote(request).await;
    Ok(answer.map_err(|status| Failure::upstream(&status))?.into_inner())
}

fn carry_on(headers: &HeaderMap, metadata: &mut MetadataMap) {
    for name in CARRIED_ON {
        let value = headers
            .get(name)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        if let Some(value) = value {
            metadata.insert(AsciiMetadataKey::from_static(name), value);
        }
    }
}

/// An error as JSON: `{"error": {"status", "message", "quotes"}}`.
struct Failure {
    status: StatusCode,
    message: String,
    /// What the quotes service said: the gRPC code and message.
    quotes: Option<(Code, String)>,
}

impl Failure {
    fn new(status: StatusCode, message: &str) -> Self {
        Self {
            status,
            message: message.into(),
            quotes: None,
        }
    }

    fn upstream(status: &Status) -> Self {
        let http = match status.code() {
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            Code::PermissionDenied => StatusCode::FORBIDDEN,
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Code::DeadlineExceeded | Code::Cancelled => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::BAD_GATEWAY,
        };
        Self {
            quotes: Some((status.code(), status.message().into())),
            ..Self::new(http, "the quotes service gave no quote")
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let quotes = self
            .quotes
            .map(|(code, message)| serde_json::json!({"code": format!("{code:?}"), "message": message}));
        let error = serde_json::json!({
            "error": {"status": self.status.as_u16(), "message": self.message, "quotes": quotes}
        });
        (self.status, Json(error)).into_response()
    }
}
