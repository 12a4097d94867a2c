//! What the control side measures.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use opentelemetry::metrics::{Counter, Meter};

/// Instruments and the state behind them.
pub struct Numbers {
    state: Arc<State>,
    refused: Counter<u64>,
    key_fetches: Counter<u64>,
    reflections: Counter<u64>,
}

#[derive(Default)]
struct State {
    connected: AtomicBool,
    registered: AtomicBool,
    /// Seconds since 1970; 0: there is none.
    certificate_end: AtomicI64,
    resources: AtomicU64,
    contact: Mutex<Option<Instant>>,
}

impl Numbers {
    /// Registers the instruments.
    #[must_use]
    pub fn new(meter: &Meter) -> Arc<Self> {
        let state = Arc::<State>::default();
        let flag = |name: &'static str, about: &'static str, read: fn(&State) -> u64| {
            let state = state.clone();
            meter
                .u64_observable_gauge(name)
                .with_description(about)
                .with_callback(move |seen| seen.observe(read(&state), &[]))
                .build();
        };
        flag(
            "mesh_sidecar_xds_connected",
            "1 while the stream to an xds-lite stands",
            |state| state.connected.load(Ordering::Relaxed).into(),
        );
        flag(
            "mesh_sidecar_registered",
            "1 while this instance is registered",
            |state| state.registered.load(Ordering::Relaxed).into(),
        );
        flag("mesh_sidecar_resources", "Resources in force", |state| {
            state.resources.load(Ordering::Relaxed)
        });
        let seconds = |name: &'static str, about: &'static str, read: fn(&State) -> Option<f64>| {
            let state = state.clone();
            meter
                .f64_observable_gauge(name)
                .with_description(about)
                .with_callback(move |seen| {
                    if let Some(value) = read(&state) {
                        seen.observe(value, &[]);
                    }
                })
                .build();
        };
        seconds(
            "mesh_sidecar_config_age_seconds",
            "Since the last contact with an xds-lite; 0 while connected",
            State::age,
        );
        seconds(
            "mesh_sidecar_certificate_expiry_seconds",
            "Until the own certificate expires; negative once it has",
            State::expiry,
        );
        Arc::new(Self {
            refused: meter
                .u64_counter("mesh_sidecar_resources_refused")
                .with_description("Pushed resources that were refused")
                .build(),
            key_fetches: meter
                .u64_counter("mesh_sidecar_key_fetches")
                .with_description("Fetches of JSON Web Key Sets, by result")
                .build(),
            reflections: meter
                .u64_counter("mesh_sidecar_reflections")
                .with_description("Services asked for their schemas by reflection, by result")
                .build(),
            state,
        })
    }

    /// The stream stands, or not.
    pub fn connected(&self, yes: bool) {
        let was = self.state.connected.swap(yes, Ordering::Relaxed);
        if yes || was {
            *self.state.contact.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
    }

    /// The last contact was in an earlier life, so long ago.
    pub fn contact_before(&self, age: Duration) {
        let at = Instant::now().checked_sub(age);
        *self.state.contact.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    /// Whether the stream stands.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.state.connected.load(Ordering::Relaxed)
    }

    /// This instance is registered, or not.
    pub fn registered(&self, yes: bool) {
        self.state.registered.store(yes, Ordering::Relaxed);
    }

    /// Whether this instance is registered.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        self.state.registered.load(Ordering::Relaxed)
    }

    /// The own certificate ends then.
    pub fn certificate(&self, not_after: SystemTime) {
        let seconds = not_after
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
        self.state.certificate_end.store(seconds, Ordering::Relaxed);
    }

    /// So many resources are in force.
    pub fn resources(&self, count: usize) {
        self.state
            .resources
            .store(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// So many resources were refused at once.
    pub fn refused(&self, count: usize) {
        self.refused.add(u64::try_from(count).unwrap_or(u64::MAX), &[]);
    }

    /// A key set was fetched, or not.
    pub fn key_fetch(&self, good: bool) {
        self.key_fetches.add(1, &result(good));
    }

    /// A service told its schema, or not.
    pub fn reflection(&self, good: bool) {
        self.reflections.add(1, &result(good));
    }
}

fn result(good: bool) -> [opentelemetry::KeyValue; 1] {
    let result = if good { "ok" } else { "failed" };
    [opentelemetry::KeyValue::new("result", result)]
}

impl State {
    fn age(&self) -> Option<f64> {
        if self.connected.load(Ordering::Relaxed) {
            return Some(0.0);
        }
        let contact = *self.contact.lock().unwrap_or_else(PoisonError::into_inner);
        contact.map(|at| at.elapsed().as_secs_f64())
    }

    #[allow(clippy::cast_precision_loss)] // Seconds since 1970 fit for some million years.
    fn expiry(&self) -> Option<f64> {
        let end = self.certificate_end.load(Ordering::Relaxed);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
        (end != 0).then_some(end as f64 - now.as_secs_f64())
    }
}
