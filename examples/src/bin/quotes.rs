//! `quotes`: an ordinary gRPC service in the market domain, with all four kinds of calls, and with gRPC reflection. It knows
//! nothing of the mesh.

use std::error::Error;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use clap::Parser;
use mesh_examples::market::quotes_server::{Quotes, QuotesServer};
use mesh_examples::market::{
    GetQuoteRequest, ListQuotesRequest, ListQuotesResponse, Order, PlaceOrderRequest, Quote, Side,
    StreamQuotesRequest, Trade, TradeSummary, Venue, order,
};
use mesh_examples::{DESCRIPTORS, announce, exit, stop_signal};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

/// What is traded here: symbol, middle price, currency, venue. In the order of their symbols.
const INSTRUMENTS: [(&str, f64, &str, Venue); 6] = [
    ("ACME", 101.25, "USD", Venue::Nasdaq),
    ("BORK", 17.5, "EUR", Venue::Xetra),
    ("CRAN", 4.75, "GBP", Venue::London),
    ("DUNE", 230.0, "USD", Venue::Nasdaq),
    ("ELMO", 64.5, "EUR", Venue::Xetra),
    ("FERN", 9.25, "GBP", Venue::London),
];
/// Half the distance between bid and ask, as a share of the price.
const HALF_SPREAD: f64 = 0.001;
const PAGE_SIZE_MAX: usize = 100;
const INTERVAL_DEFAULT: Duration = Duration::from_secs(1);
const INTERVAL_MIN: Duration = Duration::from_millis(1);
/// Messages of a stream that wait for its caller.
const STREAM_QUEUE: usize = 4;
/// How long calls may go on after the signal to stop.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// A gRPC service that answers what things cost.
#[derive(Parser)]
struct Arguments {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
    /// The name of this instance, told in every answer.
    #[arg(long, default_value = "quotes")]
    name: String,
    /// The request header that says who calls, if this host has one that callers cannot set themselves.
    #[arg(long)]
    caller_header: Option<String>,
    /// Write one line for each call to stderr.
    #[arg(long)]
    log: bool,
    /// Write the descriptors of the service to this file, and exit.
    #[arg(long, value_name = "FILE")]
    descriptors: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit("quotes", run(Arguments::parse()).await)
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    if let Some(file) = arguments.descriptors {
        return Ok(
            std::fs::write(&file, DESCRIPTORS).map_err(|error| format!("{}: {error}", file.display()))?
        );
    }
    let listener = TcpListener::bind(arguments.listen)
        .await
        .map_err(|error| format!("cannot listen on {}: {error}", arguments.listen))?;
    // Before anybody knows that we are there to be stopped.
    let signal = stop_signal();
    announce(listener.local_addr()?)?;

    let (stop, stopping) = watch::channel(false);
    let service = Market(Arc::new(Desk {
        name: arguments.name,
        caller_header: arguments.caller_header,
        log: arguments.log,
        calls: AtomicU64::new(0),
        orders: AtomicU64::new(0),
        stopping: stopping.clone(),
    }));
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .build_v1()?;
    // An answer waits for nothing: not for the caller to acknowledge what went before it.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = tonic::transport::Server::builder()
        .add_service(reflection)
        .add_service(QuotesServer::new(service))
        .serve_with_incoming_shutdown(incoming, stopped(stopping.clone()));
    tokio::spawn(async move {
        signal.await;
        let _ = stop.send(true);
    });
    tokio::select! {
        ended = server => Ok(ended?),
        () = async { stopped(stopping).await; tokio::time::sleep(STOP_LIMIT).await } => Ok(()),
    }
}

/// Waits for the stop.
async fn stopped(mut stopping: watch::Receiver<bool>) {
    // An error means that whoever could stop us is gone, which is a stop too.
    let _ = stopping.wait_for(|stop| *stop).await;
}

struct Market(Arc<Desk>);

struct Desk {
    name: String,
    caller_header: Option<String>,
    log: bool,
    calls: AtomicU64,
    orders: AtomicU64,
    stopping: watch::Receiver<bool>,
}

type QuoteStream = Pin<Box<dyn Stream<Item = Result<Quote, Status>> + Send>>;

#[tonic::async_trait]
impl Quotes for Market {
    type StreamQuotesStream = QuoteStream;
    type ConverseStream = QuoteStream;

    async fn get_quote(&self, request: Request<GetQuoteRequest>) -> Result<Response<Quote>, Status> {
        let caller = self.0.begin("GetQuote", &request);
        let symbol = request.into_inner().symbol;
        self.0.quote(&symbol, 0, &caller).map(Response::new)
    }

    async fn list_quotes(
        &self,
        request: Request<ListQuotesRequest>,
    ) -> Result<Response<ListQuotesResponse>, Status> {
        let caller = self.0.begin("ListQuotes", &request);
        self.0.page(&request.into_inner(), &caller).map(Response::new)
    }

    async fn place_order(&self, request: Request<PlaceOrderRequest>) -> Result<Response<Order>, Status> {
        self.0.begin("PlaceOrder", &request);
        self.0.place(request.into_inner()).map(Response::new)
    }

    async fn stream_quotes(
        &self,
        request: Request<StreamQuotesRequest>,
    ) -> Result<Response<QuoteStream>, Status> {
        let caller = self.0.begin("StreamQuotes", &request);
        let request = request.into_inner();
        let interval = match request.interval.map(Duration::try_from) {
            None => INTERVAL_DEFAULT,
            Some(Ok(interval)) if interval >= INTERVAL_MIN => interval,
            Some(_) => return Err(Status::invalid_argument("interval: is under 1ms")),
        };
        let count =
            u32::try_from(request.count).map_err(|_| Status::invalid_argument("count: is negative"))?;
        // An unknown symbol is told before the stream begins.
        self.0.quote(&request.symbol, 0, &caller)?;
        let (quotes, stream) = mpsc::channel(STREAM_QUEUE);
        let desk = self.0.clone();
        tokio::spawn(async move {
            let feed = async {
                for sequence in 1.. {
                    let quote = desk.quote(&request.symbol, sequence, &caller);
                    let last = sequence == i64::from(count);
                    if quotes.send(quote).await.is_err() || last {
                        break;
                    }
                    tokio::time::sleep(interval).await;
                }
            };
            desk.until_stop(feed, &quotes).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn record_trades(
        &self,
        request: Request<Streaming<Trade>>,
    ) -> Result<Response<TradeSummary>, Status> {
        self.0.begin("RecordTrades", &request);
        let mut trades = request.into_inner();
        let mut summary = TradeSummary {
            served_by: self.0.name.clone(),
            ..TradeSummary::default()
        };
        while let Some(trade) = trades.message().await? {
            find(&trade.symbol)?;
            if trade.quantity <= 0 {
                return Err(Status::invalid_argument("quantity: must be more than 0"));
            }
            let sum = summary.quantity.checked_add(trade.quantity);
            summary.quantity = sum.ok_or_else(|| Status::out_of_range("quantity: the sum is too large"))?;
            summary.trades += 1;
            summary.turnover += pieces(trade.quantity) * trade.price;
        }
        Ok(Response::new(summary))
    }

    async fn converse(
        &self,
        request: Request<Streaming<GetQuoteRequest>>,
    ) -> Result<Response<QuoteStream>, Status> {
        let caller = self.0.begin("Converse", &request);
        let mut questions = request.into_inner();
        let (quotes, stream) = mpsc::channel(STREAM_QUEUE);
        let desk = self.0.clone();
        tokio::spawn(async move {
            let talk = async {
                let mut sequence = 0;
                while let Some(question) = questions.next().await {
                    sequence += 1;
                    let answer =
                        question.and_then(|question| desk.quote(&question.symbol, sequence, &caller));
                    let failed = answer.is_err();
                    if quotes.send(answer).await.is_err() || failed {
                        break;
                    }
                }
            };
            desk.until_stop(talk, &quotes).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

impl Desk {
    /// Counts a call, logs it where asked to, and says who calls.
    fn begin<T>(&self, method: &str, request: &Request<T>) -> String {
        let count = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let caller = self
            .caller_header
            .as_ref()
            .and_then(|header| request.metadata().get(header.as_str())?.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        if self.log {
            let who = if caller.is_empty() { "-" } else { &caller };
            let line = format!("{} call {count} {method} by {who}\n", self.name);
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
        caller
    }

    fn quote(&self, symbol: &str, sequence: i64, caller: &str) -> Result<Quote, Status> {
        let (symbol, middle, currency, venue) = *find(symbol)?;
        // Prices wander a little along a stream, the same way each time.
        let wander = 1.0 + f64::from(u8::try_from(sequence.rem_euclid(5)).unwrap_or_default()) * 0.0005;
        let middle = middle * wander;
        Ok(Quote {
            symbol: symbol.into(),
            bid: cents(middle * (1.0 - HALF_SPREAD)),
            ask: cents(middle * (1.0 + HALF_SPREAD)),
            currency: currency.into(),
            venue: venue.into(),
            quoted_at: Some(SystemTime::now().into()),
            sequence,
            served_by: self.name.clone(),
            asked_by: caller.into(),
        })
    }

    fn page(&self, request: &ListQuotesRequest, caller: &str) -> Result<ListQuotesResponse, Status> {
        let size = match usize::try_from(request.page_size) {
            Ok(0) => PAGE_SIZE_MAX,
            Ok(size) if size <= PAGE_SIZE_MAX => size,
            _ => {
                return Err(Status::invalid_argument(format!(
                    "page_size: must be 1 to {PAGE_SIZE_MAX}"
                )));
            }
        };
        for symbol in &request.symbols {
            find(symbol)?;
        }
        // The token is the first symbol of the page.
        let mut rest = INSTRUMENTS
            .iter()
            .map(|instrument| instrument.0)
            .filter(|symbol| {
                request.symbols.is_empty() || request.symbols.iter().any(|wanted| wanted == symbol)
            })
            .filter(|symbol| *symbol >= request.page_token.as_str());
        let quotes: Result<_, _> = rest
            .by_ref()
            .take(size)
            .map(|symbol| self.quote(symbol, 0, caller))
            .collect();
        Ok(ListQuotesResponse {
            quotes: quotes?,
            next_page_token: rest.next().unwrap_or_default().into(),
        })
    }

    fn place(&self, request: PlaceOrderRequest) -> Result<Order, Status> {
        let invalid = |why: &str| Err(Status::invalid_argument(why));
        let quote = self.quote(&request.symbol, 0, "")?;
        let price = match request.side() {
            Side::Buy => quote.ask,
            Side::Sell => quote.bid,
            Side::Unspecified => return invalid("side: must be SIDE_BUY or SIDE_SELL"),
        };
        if request.quantity <= 0 {
            return invalid("quantity: must be more than 0");
        }
        let limit = match request.limit_price.as_str() {
            "" => price,
            text => match text.parse::<f64>() {
                Ok(limit) if limit.is_finite() && limit > 0.0 => limit,
                _ => return invalid("limit_price: must be a decimal number of more than 0"),
            },
        };
        let now = SystemTime::now();
        if let Some(until) = request
            .valid_until
            .and_then(|until| SystemTime::try_from(until).ok())
            && until < now
        {
            return Err(Status::failed_precondition("valid_until: is past"));
        }
        let good = if request.side() == Side::Buy {
            price <= limit
        } else {
            price >= limit
        };
        let number = self.orders.fetch_add(1, Ordering::Relaxed) + 1;
        let status = if good {
            order::Status::Filled
        } else {
            order::Status::Open
        };
        Ok(Order {
            id: format!("{}-{number}", self.name),
            request: Some(request),
            status: status.into(),
            placed_at: Some(now.into()),
            served_by: self.name.clone(),
        })
    }

    /// Feeds a stream to its end, or to the stop, which its caller is told.
    async fn until_stop(&self, feed: impl Future<Output = ()>, quotes: &mpsc::Sender<Result<Quote, Status>>) {
        tokio::select! {
            () = feed => {}
            () = quotes.closed() => {}
            () = stopped(self.stopping.clone()) => {
                let _ = quotes.send(Err(Status::unavailable("this instance is going down"))).await;
            }
        }
    }
}

fn find(symbol: &str) -> Result<&'static (&'static str, f64, &'static str, Venue), Status> {
    let found = INSTRUMENTS.iter().find(|instrument| instrument.0 == symbol);
    found.ok_or_else(|| {
        let shown: String = symbol.chars().take(40).collect();
        Status::not_found(format!("{shown:?} is not traded here"))
    })
}

fn cents(price: f64) -> f64 {
    (price * 100.0).round() / 100.0
}

/// A number of pieces as a factor; exact to 2^53, which is more than anyone trades.
#[allow(clippy::cast_precision_loss)]
fn pieces(quantity: i64) -> f64 {
    quantity as f64
}
