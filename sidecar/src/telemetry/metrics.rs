//! Metrics, recorded through OpenTelemetry and scraped as Prometheus text.
//!
//! Labels have bounds: services and methods are those of documents and schemas (what a stranger makes up counts as
//! `_OTHER`), reasons are a closed set.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mesh_proto::name::ServiceName;
use opentelemetry::metrics::{BoundCounter, BoundHistogram, Counter, Histogram, Meter, MeterProvider};
use opentelemetry::{KeyValue, Value};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Encoder, Registry, TextEncoder};

use crate::reason::Reason;

/// Upper bounds of the duration histogram, in seconds; those the RPC conventions of OpenTelemetry name.
const DURATION_BUCKETS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
/// The label of a method no schema knows.
pub(crate) const OTHER: &str = "_OTHER";

/// Outcomes one thread remembers the instruments of; when there are more it begins anew.
const OUTCOMES_MAX: usize = 10_000;
/// The ways, in the order gauges are kept.
const WAYS: [&str; 3] = ["inbound", "outbound", "edge"];

/// All instruments.
pub struct Metrics {
    registry: Registry,
    _provider: SdkMeterProvider,
    meter: Meter,
    calls: Counter<u64>,
    duration: Histogram<f64>,
    connects: Counter<u64>,
    retries: Counter<u64>,
    log_dropped: Counter<u64>,
    threads: Arc<Mutex<Vec<Arc<Gauges>>>>,
}

/// What goes up and down on one thread. The thread alone writes; the scrape reads.
#[derive(Default)]
pub struct Gauges {
    in_flight: [AtomicI64; WAYS.len()],
    connections: [AtomicI64; WAYS.len()],
}

impl Gauges {
    /// A call began (+1) or ended (-1).
    pub fn in_flight(&self, way: &str, change: i64) {
        step(&self.in_flight, way, change);
    }

    /// A caller's connection opened (+1) or closed (-1).
    pub fn connections(&self, way: &str, change: i64) {
        step(&self.connections, way, change);
    }
}

fn step(values: &[AtomicI64; WAYS.len()], way: &str, change: i64) {
    if let Some(value) = WAYS
        .iter()
        .position(|known| *known == way)
        .and_then(|at| values.get(at))
    {
        // One writer: no read-modify-write is needed.
        value.store(value.load(Ordering::Relaxed) + change, Ordering::Relaxed);
    }
}

/// What a finished call is counted under.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Outcome {
    /// `inbound`, `outbound` or `edge`.
    pub way: &'static str,
    /// The service that was called, if it was found.
    pub service: Option<ServiceName>,
    /// `package.Service/Method` if a schema knows it.
    pub method: Option<Arc<str>>,
    /// `grpc`, `grpc-web`, `connect`, `rest` or `http`.
    pub protocol: &'static str,
    /// The gRPC code, or for plain HTTP the status.
    pub code: u16,
    /// Why we refused it.
    pub reason: Option<Reason>,
}

/// The instruments of the outcomes one thread has seen, with their labels resolved, so that counting a call looks none up.
#[derive(Default)]
pub struct Outcomes(HashMap<Outcome, (BoundCounter<u64>, BoundHistogram<f64>)>);

impl Outcomes {
    /// Counts a call that ended.
    pub fn count(&mut self, metrics: &Metrics, outcome: Outcome, took: Duration) {
        if self.0.len() > OUTCOMES_MAX {
            self.0.clear();
        }
        let (calls, duration) = self
            .0
            .entry(outcome)
            .or_insert_with_key(|outcome| metrics.bind(outcome));
        calls.add(1);
        duration.record(took.as_secs_f64());
    }
}

impl Metrics {
    /// Sets everything up.
    ///
    /// # Errors
    /// The exporter does not start.
    pub fn new() -> Result<Self, String> {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .without_target_info()
            .build()
            .map_err(|error| format!("metrics cannot start: {error}"))?;
        let provider = SdkMeterProvider::builder().with_reader(exporter).build();
        let meter = provider.meter("mesh-sidecar");
        let threads = Arc::<Mutex<Vec<Arc<Gauges>>>>::default();
        gauge(
            &meter,
            "mesh_calls_in_flight",
            "Calls that have not ended",
            &threads,
            |gauges| &gauges.in_flight,
        );
        gauge(
            &meter,
            "mesh_connections",
            "Open connections of callers",
            &threads,
            |gauges| &gauges.connections,
        );
        Ok(Self {
            calls: meter
                .u64_counter("mesh_calls")
                .with_description("Calls that ended, by outcome")
                .build(),
            duration: meter
                .f64_histogram("mesh_call_duration")
                .with_unit("s")
                .with_description("From the head of a call to the end of its stream")
                .with_boundaries(DURATION_BUCKETS.to_vec())
                .build(),
            connects: meter
                .u64_counter("mesh_upstream_connects")
                .with_description("Connections opened to instances, by result")
                .build(),
            retries: meter
                .u64_counter("mesh_retries")
                .with_description("Further tries of calls that never reached the service")
                .build(),
            log_dropped: meter
                .u64_counter("mesh_access_log_dropped")
                .with_description("Access log lines nobody took in time")
                .build(),
            registry,
            _provider: provider,
            meter,
            threads,
        })
    }

    /// For instruments that live elsewhere.
    #[must_use]
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Everything, in the Prometheus text format.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::warn!(%error, "metrics cannot be written");
        }
        String::from_utf8(text).unwrap_or_default()
    }

    /// The gauges of a new thread.
    #[must_use]
    pub fn thread(&self) -> Arc<Gauges> {
        let gauges = Arc::<Gauges>::default();
        self.threads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(gauges.clone());
        gauges
    }

    fn bind(&self, outcome: &Outcome) -> (BoundCounter<u64>, BoundHistogram<f64>) {
        let method = outcome
            .method
            .clone()
            .map_or(Value::from(OTHER), |method| Value::String(method.into()));
        let service = outcome
            .service
            .as_ref()
            .map_or(String::new(), ToString::to_string);
        let mut labels = vec![
            KeyValue::new("way", outcome.way),
            KeyValue::new("service", service),
            KeyValue::new("method", method),
            KeyValue::new("protocol", outcome.protocol),
        ];
        let duration = self.duration.bind(&labels);
        labels.push(KeyValue::new("code", i64::from(outcome.code)));
        labels.push(KeyValue::new("reason", outcome.reason.map_or("", Reason::word)));
        (self.calls.bind(&labels), duration)
    }

    /// A connection to an instance was tried.
    pub fn connected(&self, service: &str, ok: bool) {
        let result = if ok { "ok" } else { "failed" };
        self.connects.add(
            1,
            &[
                KeyValue::new("service", service.to_owned()),
                KeyValue::new("result", result),
            ],
        );
    }

    /// A call is tried again.
    pub fn retried(&self, service: &str) {
        self.retries
            .add(1, &[KeyValue::new("service", service.to_owned())]);
    }

    /// A log line was dropped.
    pub fn log_dropped(&self) {
        self.log_dropped.add(1, &[]);
    }
}

/// A gauge that sums what the threads have, by way.
fn gauge(
    meter: &Meter,
    name: &'static str,
    description: &'static str,
    threads: &Arc<Mutex<Vec<Arc<Gauges>>>>,
    pick: impl Fn(&Gauges) -> &[AtomicI64; WAYS.len()] + Send + Sync + 'static,
) {
    let threads = threads.clone();
    meter
        .i64_observable_up_down_counter(name)
        .with_description(description)
        .with_callback(move |observer| {
            let threads = threads.lock().unwrap_or_else(PoisonError::into_inner);
            for (at, way) in WAYS.into_iter().enumerate() {
                let sum = threads
                    .iter()
                    .filter_map(|thread| pick(thread).get(at))
                    .map(|v| v.load(Ordering::Relaxed))
                    .sum();
                observer.observe(sum, &[KeyValue::new("way", way)]);
            }
        })
        .build();
}
