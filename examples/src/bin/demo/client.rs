//! The world that calls the mesh: single calls over HTTP/1.1, and a bounded load of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::task::JoinSet;

/// A call takes no longer.
const CALL_LIMIT: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Calls of a load that are under way at once.
pub(crate) const CLIENTS: usize = 8;
/// The pause each client of a load makes between two calls.
const PAUSE: Duration = Duration::from_millis(10);
/// A load ends by itself after this.
const LOAD_LIMIT: Duration = Duration::from_secs(90);

/// A bearer token, with the shell variable it stands in.
#[derive(Clone)]
pub(crate) struct Token {
    /// `TOKEN`
    pub(crate) variable: &'static str,
    pub(crate) value: String,
}

/// A call that can be sent, and shown.
#[derive(Clone)]
pub(crate) struct Call {
    method: Method,
    url: String,
    host: Option<&'static str>,
    token: Option<Token>,
    json: Option<Value>,
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The word of a refusal by the mesh, if it is one.
    pub(crate) reason: String,
    pub(crate) text: String,
    /// The body, if it is JSON; else null.
    pub(crate) json: Value,
}

impl Call {
    pub(crate) fn get(url: String) -> Self {
        Self {
            method: Method::GET,
            url,
            host: None,
            token: None,
            json: None,
        }
    }

    pub(crate) fn post(url: String, json: Option<Value>) -> Self {
        Self {
            method: Method::POST,
            json,
            ..Self::get(url)
        }
    }

    pub(crate) fn with(self, token: &Token) -> Self {
        Self {
            token: Some(token.clone()),
            ..self
        }
    }

    /// With another host than the URL's.
    pub(crate) fn at_host(self, host: &'static str) -> Self {
        Self {
            host: Some(host),
            ..self
        }
    }

    /// As a person would type it.
    pub(crate) fn as_curl(&self) -> String {
        let mut words = vec!["curl".to_owned()];
        if self.method != Method::GET && self.json.is_none() {
            words.push(format!("-X {}", self.method));
        }
        if let Some(host) = self.host {
            words.push(format!("-H 'host: {host}'"));
        }
        if let Some(token) = &self.token {
            words.push(format!("-H \"authorization: Bearer ${}\"", token.variable));
        }
        let quote = if self.url.contains('?') { "'" } else { "" };
        words.push(format!("{quote}{}{quote}", self.url));
        if let Some(json) = &self.json {
            words.push(format!("-H 'content-type: application/json' -d '{json}'"));
        }
        words.join(" ")
    }

    fn request(&self) -> Result<Request<Full<Bytes>>, String> {
        let mut request = Request::builder().method(&self.method).uri(&self.url);
        if let Some(host) = self.host {
            request = request.header(HOST, host);
        }
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.value));
        }
        if self.json.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = self
            .json
            .as_ref()
            .map_or_else(Bytes::new, |json| json.to_string().into());
        request
            .body(Full::new(body))
            .map_err(|error| format!("{}: {error}", self.url))
    }
}

/// Sends calls.
#[derive(Clone)]
pub(crate) struct Client(HttpClient<HttpConnector, Full<Bytes>>);

impl Client {
    pub(crate) fn new() -> Self {
        Self(HttpClient::builder(TokioExecutor::new()).build_http())
    }

    /// Sends a call and reads its answer.
    ///
    /// # Errors
    /// There is no answer, or none in time.
    pub(crate) async fn send(&self, call: &Call) -> Result<Answer, String> {
        let answer = tokio::time::timeout(CALL_LIMIT, self.exchange(call)).await;
        answer.unwrap_or_else(|_| Err(format!("no answer after {CALL_LIMIT:?}")))
    }

    async fn exchange(&self, call: &Call) -> Result<Answer, String> {
        let response = self
            .0
            .request(call.request()?)
            .await
            .map_err(|error| causes(&error))?;
        let status = response.status().as_u16();
        let reason = response
            .headers()
            .get("x-mesh-reason")
            .and_then(|value| value.to_str().ok());
        let reason = reason.unwrap_or_default().to_owned();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await;
        let body = body
            .map_err(|error| format!("the answer breaks off: {error}"))?
            .to_bytes();
        Ok(Answer {
            status,
            reason,
            text: String::from_utf8_lossy(&body).into_owned(),
            json: serde_json::from_slice(&body).unwrap_or_default(),
        })
    }

    /// Sends a call and reads its answer line by line, each with the time since the first.
    ///
    /// # Errors
    /// There is no answer, it is a refusal, or it breaks off.
    pub(crate) async fn stream(&self, call: &Call) -> Result<Vec<(Duration, String)>, String> {
        let reading = async {
            let response = self
                .0
                .request(call.request()?)
                .await
                .map_err(|error| causes(&error))?;
            let status = response.status().as_u16();
            let mut body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
            let (mut text, mut lines, mut first) = (String::new(), Vec::new(), None);
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| format!("the answer breaks off: {error}"))?;
                let now = Instant::now();
                text.push_str(&String::from_utf8_lossy(
                    frame.data_ref().map_or(&[][..], |data| data),
                ));
                while let Some((line, rest)) = text.split_once('\n') {
                    lines.push((now - *first.get_or_insert(now), line.to_owned()));
                    text = rest.to_owned();
                }
            }
            if status == 200 {
                Ok(lines)
            } else {
                Err(format!("{status} {text}"))
            }
        };
        let read = tokio::time::timeout(CALL_LIMIT, reading).await;
        read.unwrap_or_else(|_| Err(format!("no end after {CALL_LIMIT:?}")))
    }
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// What became of a number of calls.
#[derive(Clone, Default)]
pub(crate) struct Tally {
    /// By the instance of quotes that answered.
    pub(crate) answered: BTreeMap<String, u64>,
    /// By what was seen instead of an answer.
    pub(crate) failed: BTreeMap<String, u64>,
}

impl Tally {
    fn add(&mut self, answer: Result<Answer, String>) {
        let (counts, key) = match answer {
            Ok(answer) if answer.status == 200 => (&mut self.answered, served_by(&answer)),
            Ok(answer) => (&mut self.failed, format!("{} {}", answer.status, answer.reason)),
            Err(why) => (&mut self.failed, why),
        };
        *counts.entry(key).or_default() += 1;
    }

    pub(crate) fn answers(&self) -> u64 {
        self.answered.values().sum()
    }

    pub(crate) fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    pub(crate) fn calls(&self) -> u64 {
        self.answers() + self.failures()
    }

    pub(crate) fn of(&self, instance: &str) -> u64 {
        self.answered.get(instance).copied().unwrap_or_default()
    }

    /// `a 100, b 98`
    pub(crate) fn shares(&self) -> String {
        list(&self.answered)
    }

    /// ` (503 upstream_reset 1)`, or nothing.
    pub(crate) fn reasons_in_brackets(&self) -> String {
        match self.reasons().as_str() {
            "" => String::new(),
            reasons => format!(" ({reasons})"),
        }
    }

    pub(crate) fn reasons(&self) -> String {
        list(&self.failed)
    }
}

fn list(counts: &BTreeMap<String, u64>) -> String {
    let each: Vec<String> = counts
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    each.join(", ")
}

/// The instance of quotes behind an answer, of quotes itself or of portfolio.
pub(crate) fn served_by(answer: &Answer) -> String {
    let name = answer.json["servedBy"].as_str();
    let name = name.or_else(|| answer.json["holdings"][0]["quotedBy"].as_str());
    name.unwrap_or("?").to_owned()
}

/// A number of calls, a few at a time.
pub(crate) async fn many(client: &Client, call: &Call, count: usize) -> Tally {
    let mut tally = Tally::default();
    let mut running = JoinSet::new();
    let mut sent = 0;
    loop {
        while sent < count && running.len() < CLIENTS {
            sent += 1;
            let (client, call) = (client.clone(), call.clone());
            running.spawn(async move { client.send(&call).await });
        }
        match running.join_next().await {
            None => return tally,
            Some(Ok(answer)) => tally.add(answer),
            Some(Err(error)) => tally.add(Err(error.to_string())),
        }
    }
}

/// Calls that go on in the background, until stopped or dropped.
pub(crate) struct Load {
    clients: JoinSet<()>,
    tally: Arc<Mutex<Tally>>,
    stop: Arc<AtomicBool>,
}

impl Load {
    /// Each client sends the calls in turn, over and over.
    pub(crate) fn start(client: &Client, calls: Vec<Call>) -> Self {
        let load = (
            Arc::new(Mutex::<Tally>::default()),
            Arc::new(AtomicBool::new(false)),
            Arc::new(calls),
        );
        let mut clients = JoinSet::new();
        let end = Instant::now() + LOAD_LIMIT;
        for _ in 0..CLIENTS {
            let (client, (tally, stop, calls)) = (client.clone(), load.clone());
            clients.spawn(async move {
                for call in calls.iter().cycle() {
                    if stop.load(Ordering::Relaxed) || Instant::now() > end {
                        break;
                    }
                    let answer = client.send(call).await;
                    tally.lock().unwrap_or_else(PoisonError::into_inner).add(answer);
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
        let (tally, stop, _) = load;
        Self { clients, tally, stop }
    }

    /// What became of the calls so far.
    pub(crate) fn so_far(&self) -> Tally {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for the calls under way, and sums up.
    pub(crate) async fn stop(mut self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        while self.clients.join_next().await.is_some() {}
        self.so_far()
    }
}
