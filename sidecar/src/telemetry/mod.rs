//! What is seen from outside: metrics, the access log, trace context.

pub mod access_log;
mod metrics;
pub mod trace;

pub use metrics::{Gauges, Metrics, Outcome, Outcomes};
