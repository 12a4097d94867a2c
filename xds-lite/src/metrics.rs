//! The numbers of this process, through opentelemetry, for Prometheus.

use std::sync::Arc;
use std::time::Duration;

use mesh_proto::Kind;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter, MeterProvider};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Encoder, Registry, TextEncoder};
use tokio::sync::watch;

use crate::ads::book::Book;
use crate::registry::State;
use crate::snapshot::Published;

/// Bounds of the histogram of times, in seconds.
const SECONDS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];

/// The instruments.
pub struct Metrics {
    registry: Registry,
    provider: SdkMeterProvider,
    meter: Meter,
    pushes: Counter<u64>,
    resources: Counter<u64>,
    nacks: Counter<u64>,
    answer_seconds: Histogram<f64>,
    certificates: Counter<u64>,
    writes: Counter<u64>,
}

impl Metrics {
    /// All at zero.
    ///
    /// # Errors
    /// The exporter cannot be made.
    pub fn new() -> Result<Self, String> {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .without_target_info()
            .scope_info_enabled(false)
            .build()
            .map_err(|error| format!("cannot make the metrics: {error}"))?;
        let provider = SdkMeterProvider::builder().with_reader(exporter).build();
        let meter = provider.meter("xds-lite");
        let counter =
            |name: &'static str, text: &'static str| meter.u64_counter(name).with_description(text).build();
        Ok(Self {
            pushes: counter("mesh_xds_pushes", "Responses sent to sidecars"),
            resources: counter(
                "mesh_xds_resources_pushed",
                "Resources and removals sent to sidecars",
            ),
            nacks: counter(
                "mesh_xds_nacks",
                "Responses that a sidecar refused, wholly or in part",
            ),
            certificates: counter("mesh_xds_certificates_signed", "Certificates signed"),
            writes: counter(
                "mesh_xds_document_writes",
                "Requests that changed documents, by outcome",
            ),
            answer_seconds: meter
                .f64_histogram("mesh_xds_apply_seconds")
                .with_description("From sending a response to the sidecar's answer")
                .with_boundaries(SECONDS.to_vec())
                .build(),
            registry,
            provider,
            meter,
        })
    }

    /// Reads the rest from where it is known anyway.
    pub fn observe(
        &self,
        book: Arc<Book>,
        state: watch::Receiver<Arc<State>>,
        published: watch::Receiver<Option<Arc<Published>>>,
    ) {
        let gauge = |name: &'static str, text: &'static str| {
            self.meter.u64_observable_gauge(name).with_description(text)
        };
        gauge("mesh_xds_streams", "Connected sidecars")
            .with_callback(move |observer| observer.observe(count(book.count()), &[]))
            .build();
        let view = state.clone();
        gauge(
            "mesh_xds_registry_connected",
            "1 while there is contact with the registry",
        )
        .with_callback(move |observer| observer.observe(u64::from(view.borrow().connected), &[]))
        .build();
        let view = state.clone();
        gauge("mesh_xds_documents", "Documents, by kind")
            .with_callback(move |observer| {
                let view = Arc::clone(&view.borrow());
                for kind in Kind::ALL {
                    let there = view.documents.keys().filter(|key| key.kind == kind).count();
                    observer.observe(count(there), &[KeyValue::new("kind", kind.as_str())]);
                }
            })
            .build();
        let view = state.clone();
        gauge("mesh_xds_instances", "Registered instances")
            .with_callback(move |observer| observer.observe(count(view.borrow().instances.len()), &[]))
            .build();
        gauge(
            "mesh_xds_registry_faults",
            "Entries of the registry that cannot be read",
        )
        .with_callback(move |observer| observer.observe(count(state.borrow().faults.len()), &[]))
        .build();
        gauge("mesh_xds_snapshot_number", "Snapshots made by this process")
            .with_callback(move |observer| {
                let number = published
                    .borrow()
                    .as_ref()
                    .map_or(0, |published| published.snapshot.number);
                observer.observe(number, &[]);
            })
            .build();
    }

    /// A response goes out.
    pub fn pushed(&self, kind: Kind, resources: usize) {
        let kind = [KeyValue::new("kind", kind.as_str())];
        self.pushes.add(1, &kind);
        self.resources.add(count(resources), &kind);
    }

    /// A response was answered.
    pub fn answered(&self, kind: Kind, refused: bool, after: Duration) {
        let kind = [KeyValue::new("kind", kind.as_str())];
        self.answer_seconds.record(after.as_secs_f64(), &kind);
        if refused {
            self.nacks.add(1, &kind);
        }
    }

    /// A certificate was signed.
    pub fn signed(&self) {
        self.certificates.add(1, &[]);
    }

    /// Somebody changed documents, or tried to.
    pub fn wrote(&self, outcome: &'static str) {
        self.writes.add(1, &[KeyValue::new("outcome", outcome)]);
    }

    /// Everything, as Prometheus reads it.
    #[must_use]
    pub fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "cannot write the metrics");
        }
        text
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        let _ = self.provider.shutdown();
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
