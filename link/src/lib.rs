//! How two processes of the mesh reach each other: listen, accept, TLS 1.3 with SPIFFE identities on both sides, gRPC.
//!
//! ```text
//!  bind ─► accept (limits, clocks) ─► tls (who is it?) ─► hyper        credentials ◄── files, or xds-lite, which asks ca
//! ```
//!
//! Shared by the sidecar, xds-lite and mesh-ctl. Knows nothing of ways, resources or registries.

pub mod accept;
pub mod ca;
pub mod credentials;
pub mod grpc;
pub mod log;
pub mod messages;
pub mod reflection;
pub mod svid;
pub mod tls;

pub use accept::Peer;
pub use credentials::Credentials;
