//! Calls with tonic, from a test without a runtime of its own.

use std::sync::OnceLock;
use std::time::Duration;

use mesh_examples::market::quotes_client::QuotesClient;
use mesh_examples::market::{GetQuoteRequest, Quote};
use tokio::runtime::{Builder, Runtime};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// No call may hang a test.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs something asynchronous to its end.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    runtime().block_on(work)
}

/// The one runtime for all that this process does itself.
///
/// # Panics
/// The system gives no threads.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
    })
}

/// A client that calls `service` at `address`, `host:port`: the outbound port of a sidecar, or an app itself.
///
/// # Panics
/// One of the two is malformed.
#[must_use]
pub fn client(address: &str, service: &str) -> QuotesClient<Channel> {
    let _guard = runtime().enter();
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .unwrap()
        .origin(format!("http://{service}").parse().unwrap())
        .connect_timeout(Duration::from_secs(2));
    QuotesClient::new(endpoint.connect_lazy())
}

/// One quote, or why there is none.
///
/// # Errors
/// As the call ended.
pub fn get_quote(client: &QuotesClient<Channel>, symbol: &str) -> Result<Quote, Status> {
    block_on(quote(client.clone(), symbol))
}

/// The same, in a runtime.
pub(crate) async fn quote(mut client: QuotesClient<Channel>, symbol: &str) -> Result<Quote, Status> {
    let mut request = Request::new(GetQuoteRequest {
        symbol: symbol.into(),
    });
    request.set_timeout(CALL_TIMEOUT);
    let called = tokio::time::timeout(2 * CALL_TIMEOUT, client.get_quote(request)).await;
    let answer = called.map_err(|_| Status::unknown("the call hangs, in spite of its deadline"))?;
    answer.map(tonic::Response::into_inner)
}
