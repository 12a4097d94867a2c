//! The sidecar: it stands next to a service and speaks for it.
//!
//! ```text
//!  control thread                                        data threads
//!  xds | standalone ─► Resources ─► Snapshot ══swap═══►  ways ─► gates ─► translate ─► upstream
//!  identity | files ─► Credentials ═══════════swap═══►    ▲
//!  admin, metrics, keys (JWKS)                            └── listeners (SO_REUSEPORT), one set a thread
//! ```
//!
//! What passes between the two sides is in [`shared`]; everything else belongs to one of them.

pub mod admin;
mod answer;
mod body;
mod call;
mod clock;
mod coding;
pub mod config;
pub mod control;
pub mod data_plane;
pub mod deadline;
pub mod files;
pub mod gates;
pub mod headers;
pub mod keys;
mod leftover;
mod listen;
pub mod openapi;
mod progress;
pub mod quick_edge;
pub mod readiness;
pub mod reason;
mod recognise;
pub mod reflect;
pub mod resources;
pub mod run;
pub mod shared;
pub mod snapshot;
pub mod standalone;
pub mod telemetry;
mod translate;
mod unreadable;
pub mod upstream;
mod ways;
mod websocket;
mod wire;
mod worker;
pub mod xds;

pub use config::Config;
pub use resources::Resources;
pub use shared::Shared;
pub use snapshot::Snapshot;
