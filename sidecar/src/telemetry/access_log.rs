//! The access log: one JSON object a call, written by a thread of its own. When nobody takes the lines in time they are
//! dropped and counted; a call never waits for its log line.

use std::io::Write;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use serde::Serialize;

use super::Metrics;
use crate::config::AccessLog;

/// Lines that may wait to be written.
const WAITING_MAX: usize = 8_192;

/// What is told of a call. Paths are told without their query: it may hold what is nobody's business.
#[derive(Debug, Serialize)]
pub struct Line<'a> {
    /// When it ended, RFC 3339 in UTC with milliseconds.
    pub time: String,
    /// `inbound`, `outbound` or `edge`.
    pub way: &'static str,
    /// `grpc`, `rest` or `http`.
    pub protocol: &'static str,
    /// The HTTP method, if the head could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<&'a str>,
    /// Path without query, cut at 1 KiB.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub path: &'a str,
    /// The path of the rule that matched it, as the schema writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<&'a str>,
    /// `package.Service/Method`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpc: Option<&'a str>,
    /// The service that was called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<&'a str>,
    /// Who called: the proven identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<&'a str>,
    /// The other end of the connection.
    pub peer: String,
    /// The instance that answered, or was tried last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The policy that let it in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<&'a str>,
    /// The HTTP status that was sent.
    pub status: u16,
    /// The gRPC code, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<u16>,
    /// Why we refused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// More about why; for the log only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<&'a str>,
    /// From the head to the end of the stream.
    pub duration_ms: f64,
    /// Of the bodies, as they went over the wire.
    pub bytes_in: u64,
    /// The same, back.
    pub bytes_out: u64,
    /// W3C trace id.
    pub trace_id: &'a str,
}

/// Hands lines to the writing thread.
#[derive(Clone)]
pub struct Writer {
    lines: Option<SyncSender<String>>,
    metrics: Arc<Metrics>,
}

impl Writer {
    /// Starts the writing thread, if there is something to write to.
    ///
    /// # Errors
    /// The system gave no thread.
    pub fn start(target: AccessLog, metrics: Arc<Metrics>) -> Result<Self, String> {
        let lines = match target {
            AccessLog::Off => None,
            AccessLog::Stdout => {
                let (sender, receiver) = sync_channel(WAITING_MAX);
                std::thread::Builder::new()
                    .name("access-log".into())
                    .spawn(move || write_all(&receiver))
                    .map_err(|error| format!("the access log cannot start: {error}"))?;
                Some(sender)
            }
        };
        Ok(Self { lines, metrics })
    }

    /// Whether lines go anywhere; none need be made otherwise.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.lines.is_some()
    }

    /// Hands over one line.
    pub fn write(&self, line: &Line<'_>) {
        let Some(lines) = &self.lines else { return };
        let Ok(mut text) = serde_json::to_string(line) else {
            return;
        };
        text.push('\n');
        if lines.try_send(text).is_err() {
            self.metrics.log_dropped();
        }
    }
}

fn write_all(lines: &Receiver<String>) {
    while let Ok(line) = lines.recv() {
        let mut out = std::io::stdout().lock();
        // A closed standard output ends the log, not the sidecar.
        if out.write_all(line.as_bytes()).and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}

/// The time now as RFC 3339 in UTC with milliseconds.
#[must_use]
pub fn now_text() -> String {
    let now = prost_types::Timestamp::from(std::time::SystemTime::now());
    let millis = prost_types::Timestamp {
        nanos: now.nanos / 1_000_000 * 1_000_000,
        ..now
    };
    millis.to_string()
}
