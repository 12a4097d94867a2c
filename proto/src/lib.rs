//! The vocabulary of the mesh: the messages, the services that carry them, and the domain types that cannot be wrong.
//!
//! ```text
//!  YAML, JSON ──document──► mesh.v1 message ──TryFrom──► domain type
//!                                 │                          │
//!                      stored and pushed as it is    the only form the rest of the mesh decides on
//! ```
//!
//! What is accepted once is accepted everywhere: `mesh-ctl validate`, `xds-lite` at apply and the sidecar all run the same
//! `TryFrom`. This crate knows no tokio, hyper or rustls.

pub mod document;
pub mod domain;
pub mod fault;
mod json;
pub mod kind;
pub mod name;

/// Generated code, one module a protobuf package.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic
)]
mod generated {
    pub mod envoy {
        pub mod service {
            pub mod discovery {
                pub mod v3 {
                    tonic::include_proto!("envoy.service.discovery.v3");
                }
            }
        }
    }
    pub mod google {
        pub mod api {
            tonic::include_proto!("google.api");
        }
        pub mod rpc {
            tonic::include_proto!("google.rpc");
        }
    }
    pub mod mesh {
        pub mod v1 {
            tonic::include_proto!("mesh.v1");
        }
    }
}

/// The incremental xDS transport, cut down to the fields we use.
pub use generated::envoy::service::discovery::v3 as discovery;

/// In `Node.metadata`: the names of the services that the sidecar's edge exposes.
pub const NODE_EXPOSES: &str = "edge.expose";
/// `google.api` and `google.rpc`.
pub use generated::google;
/// Messages and services of `mesh.v1`.
pub use generated::mesh::v1;

pub use fault::{Fault, Faults};
pub use kind::Kind;

/// The descriptors of everything above, with custom options, as a serialized `FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/mesh.binpb"));

/// Version of a resource: the first 16 hexadecimal digits of the SHA-256 of its deterministic encoding. Equal content has
/// an equal version on every replica, which is what lets a sidecar resume its stream anywhere.
#[must_use]
pub fn version_of(encoded: &[u8]) -> String {
    let mut digits = hex_sha256(encoded);
    digits.truncate(16);
    digits
}

/// SHA-256 in lower-case hexadecimal, 64 digits.
#[must_use]
pub fn hex_sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
