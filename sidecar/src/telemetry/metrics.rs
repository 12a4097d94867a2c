//! Metrics, recorded through OpenTelemetry and scraped as Prometheus text.
//!
//! Labels have bounds: services and methods are those of documents and schemas (what a stranger makes up counts as
//! `_OTHER`), reasons are a closed set.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::metrics::{Counter, Histogram, Meter, MeterProvider, UpDownCounter};
use opentelemetry::{KeyValue, StringValue, Value};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Encoder, Registry, TextEncoder};

use crate::reason::Reason;

/// Upper bounds of the duration histogram, in seconds; those the RPC conventions of OpenTelemetry name.
const DURATION_BUCKETS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
/// The label of a method no schema knows.
pub(crate) const OTHER: &str = "_OTHER";

/// All instruments.
pub struct Metrics {
    registry: Registry,
    _provider: SdkMeterProvider,
    meter: Meter,
    calls: Counter<u64>,
    duration: Histogram<f64>,
    in_flight: UpDownCounter<i64>,
    connections: UpDownCounter<i64>,
    connects: Counter<u64>,
    retries: Counter<u64>,
    log_dropped: Counter<u64>,
}

/// What a finished call is counted under.
pub struct CallLabels<'a> {
    /// `inbound`, `outbound` or `edge`.
    pub way: &'static str,
    /// The service that was called, if it was found.
    pub service: Option<&'a str>,
    /// `package.Service/Method` if a schema knows it.
    pub method: Option<Arc<str>>,
    /// `grpc`, `rest` or `http`.
    pub protocol: &'static str,
    /// The gRPC code, or for plain HTTP the status.
    pub code: u16,
    /// Why we refused it.
    pub reason: Option<Reason>,
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
            in_flight: meter
                .i64_up_down_counter("mesh_calls_in_flight")
                .with_description("Calls that have not ended")
                .build(),
            connections: meter
                .i64_up_down_counter("mesh_connections")
                .with_description("Open connections of callers")
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

    /// A call ended.
    pub fn call_ended(&self, labels: CallLabels<'_>, took: Duration) {
        let service = KeyValue::new("service", labels.service.unwrap_or("").to_owned());
        let method = labels
            .method
            .map_or(Value::String(StringValue::from(OTHER)), |method| {
                Value::String(method.into())
            });
        let method = KeyValue::new("method", method);
        let way = KeyValue::new("way", labels.way);
        let protocol = KeyValue::new("protocol", labels.protocol);
        let code = KeyValue::new("code", i64::from(labels.code));
        let reason = KeyValue::new("reason", labels.reason.map_or("", Reason::word));
        self.duration.record(
            took.as_secs_f64(),
            &[way.clone(), service.clone(), method.clone(), protocol.clone()],
        );
        self.calls.add(1, &[way, service, method, protocol, code, reason]);
    }

    /// A call began (+1) or ended (-1).
    pub fn in_flight(&self, way: &'static str, change: i64) {
        self.in_flight.add(change, &[KeyValue::new("way", way)]);
    }

    /// A caller's connection opened (+1) or closed (-1).
    pub fn connections(&self, way: &'static str, change: i64) {
        self.connections.add(change, &[KeyValue::new("way", way)]);
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
