//! The sidecar's side of xds-lite: identity, resources, registration. All of it lives on the control thread.
//!
//! ```text
//!  identity ──certificate──► client ──resources──► Shared ──► data threads        last_good ◄── client
//!  (token, then certificate)  │ wire ─► subscription ─► judge ─► holdings          (disk)
//!                             └ registration: this instance, as long as the stream lives
//! ```
//!
//! Loss of every xds-lite changes nothing of what is served.

pub mod backoff;
pub mod client;
pub mod holdings;
pub mod identity;
pub mod judge;
pub mod last_good;
pub mod node;
pub mod numbers;
pub mod registration;
pub mod servers;
mod signing;
pub mod subscription;
pub mod tls_files;
