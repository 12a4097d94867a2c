//! Calls that go on in the background while a test breaks things, each of them counted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

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
        Self::start(|| {
            let client = call::client(outbound, service);
            async move |_: &mut ()| {
                let quote = call::quote(client.clone(), "ACME").await;
                quote.map(|quote| quote.served_by).map_err(|status| {
                    let metadata = status.metadata().clone().into_headers();
                    format!("{:?}: {} {metadata:?}", status.code(), status.message())
                })
            }
        })
    }

    /// JSON calls to an edge, each caller on one connection; `token` goes with each.
    #[must_use]
    pub fn json(edge: &str, path: &str, token: &str) -> Self {
        Self::start(|| {
            let (edge, path, token) = (edge.to_owned(), path.to_owned(), token.to_owned());
            async move |connection: &mut Option<http1::SendRequest<Empty<Bytes>>>| {
                let called = tokio::time::timeout(JSON_TIMEOUT, get(connection, &edge, &path, &token)).await;
                called.unwrap_or_else(|_| Err("the call hangs".into()))
            }
        })
    }

    fn start<S, C>(caller: impl Fn() -> C) -> Self
    where
        S: Default + Send,
        C: AsyncFn(&mut S) -> Result<String, String> + Send + 'static,
        for<'a> C::CallRefFuture<'a>: Send,
    {
        let tally: Arc<Mutex<Tally>> = Arc::default();
        let stop = CancellationToken::new();
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let (caller, tally, stop) = (caller(), Arc::clone(&tally), stop.clone());
            let work = async move {
                let mut state = S::default();
                while !stop.is_cancelled() {
                    let answered = caller(&mut state).await;
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

async fn get(
    connection: &mut Option<http1::SendRequest<Empty<Bytes>>>,
    edge: &str,
    path: &str,
    token: &str,
) -> Result<String, String> {
    let told = |error: &dyn std::error::Error| error.to_string();
    if connection.as_ref().is_none_or(http1::SendRequest::is_closed) {
        let stream = TcpStream::connect(edge).await.map_err(|e| told(&e))?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| told(&e))?;
        tokio::spawn(driver);
        *connection = Some(sender);
    }
    let sender = connection.as_mut().ok_or("no connection")?;
    let request = http::Request::get(path)
        .header("host", edge)
        .header("authorization", format!("Bearer {token}"))
        .body(Empty::new())
        .map_err(|e| told(&e))?;
    let response = sender.send_request(request).await.map_err(|e| told(&e))?;
    let status = response.status();
    let body = response
        .into_body()
        .collect()
        .await
        .map_err(|e| told(&e))?
        .to_bytes();
    if !status.is_success() {
        return Err(format!("{status}: {}", String::from_utf8_lossy(&body)));
    }
    let quote: Value = serde_json::from_slice(&body).map_err(|e| told(&e))?;
    Ok(quote["servedBy"].as_str().unwrap_or_default().to_owned())
}
