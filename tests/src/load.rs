//! Calls that go on in the background while a test breaks things, each of them counted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use mesh_examples::market::quotes_client::QuotesClient;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::call;
use crate::wait::eventually;

/// Callers at the same time, each with one call at a time.
const CALLERS: usize = 4;
/// Between two calls of one caller.
const PAUSE: Duration = Duration::from_millis(5);
/// Successes after which things are said to go on.
const SOME: u64 = 40;
const JSON_TIMEOUT: Duration = Duration::from_secs(15);

/// Callers that call until they are stopped.
#[derive(Debug)]
pub struct Load {
    tally: Arc<Mutex<Tally>>,
    stop: CancellationToken,
    callers: JoinSet<()>,
}

/// What came of it.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    /// Calls that were answered.
    pub answered: u64,
    /// How the others ended.
    pub failures: Vec<String>,
    /// Answers by the instance that gave them.
    pub by: BTreeMap<String, u64>,
}

impl Tally {
    /// No call failed.
    ///
    /// # Panics
    /// One did.
    #[track_caller]
    pub fn is_clean(&self) {
        assert!(
            self.answered > 0 && self.failures.is_empty(),
            "{} answered, {} failed: {:#?}",
            self.answered,
            self.failures.len(),
            self.failures.iter().take(10).collect::<Vec<_>>()
        );
    }
}

impl Load {
    /// gRPC calls to `service` through an outbound port.
    #[must_use]
    pub fn grpc(outbound: &str, service: &str) -> Self {
        Self::start(|| Grpc(call::client(outbound, service)))
    }

    /// JSON calls to an edge, each caller on one connection; `token` goes with each.
    #[must_use]
    pub fn json(edge: &str, path: &str, token: &str) -> Self {
        Self::start(|| Json {
            edge: edge.to_owned(),
            path: path.to_owned(),
            token: token.to_owned(),
            connection: None,
        })
    }

    fn start<C: Caller>(caller: impl Fn() -> C) -> Self {
        let tally: Arc<Mutex<Tally>> = Arc::default();
        let stop = CancellationToken::new();
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let (mut caller, tally, stop) = (caller(), Arc::clone(&tally), stop.clone());
            let work = async move {
                while !stop.is_cancelled() {
                    let answered = caller.call().await;
                    lock(&tally).count(answered);
                    tokio::time::sleep(PAUSE).await;
                }
            };
            callers.spawn_on(work, call::runtime().handle());
        }
        Self { tally, stop, callers }
    }

    /// Waits until some more calls were answered.
    ///
    /// # Panics
    /// None are.
    #[track_caller]
    pub fn goes_on(&self) {
        let before = lock(&self.tally).answered;
        eventually("calls go on", || {
            (lock(&self.tally).answered >= before + SOME).then_some(())
        });
    }

    /// What came of it until now.
    #[must_use]
    pub fn so_far(&self) -> Tally {
        lock(&self.tally).clone()
    }

    /// Lets the callers end their last calls.
    #[must_use]
    pub fn stop(mut self) -> Tally {
        self.stop.cancel();
        call::block_on(async { while self.callers.join_next().await.is_some() {} });
        self.so_far()
    }
}

impl Tally {
    fn count(&mut self, answered: Result<String, String>) {
        match answered {
            Ok(by) => {
                self.answered += 1;
                *self.by.entry(by).or_default() += 1;
            }
            Err(why) => self.failures.push(why),
        }
    }
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One who calls again and again; a call gives the instance that answered, or how it failed.
trait Caller: Send + 'static {
    fn call(&mut self) -> impl Future<Output = Result<String, String>> + Send;
}

struct Grpc(QuotesClient<Channel>);

impl Caller for Grpc {
    async fn call(&mut self) -> Result<String, String> {
        let quote = call::quote(self.0.clone(), "ACME").await;
        quote
            .map(|quote| quote.served_by)
            .map_err(|status| format!("{:?}: {}", status.code(), status.message()))
    }
}

struct Json {
    edge: String,
    path: String,
    token: String,
    connection: Option<http1::SendRequest<Empty<Bytes>>>,
}

impl Caller for Json {
    async fn call(&mut self) -> Result<String, String> {
        let called = tokio::time::timeout(JSON_TIMEOUT, self.get()).await;
        let (status, body) = called
            .map_err(|_| "the call hangs".to_owned())?
            .map_err(|error| error.to_string())?;
        let quote: Value = serde_json::from_slice(&body).unwrap_or_default();
        match quote["servedBy"].as_str() {
            Some(by) if status.is_success() => Ok(by.to_owned()),
            _ => Err(format!("{status}: {}", String::from_utf8_lossy(&body))),
        }
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Json {
    async fn get(&mut self) -> Result<(http::StatusCode, Bytes), Failure> {
        if self.connection.as_ref().is_none_or(http1::SendRequest::is_closed) {
            let stream = TcpStream::connect(&self.edge).await?;
            let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(driver);
            self.connection = Some(sender);
        }
        let sender = self.connection.as_mut().ok_or("no connection")?;
        let request = http::Request::get(&self.path)
            .header("host", &self.edge)
            .header("authorization", format!("Bearer {}", self.token))
            .body(Empty::new())?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }
}
