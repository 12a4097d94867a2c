//! xds-lite, the control service: registry in, resources out.
//!
//! ```text
//!  file: | zk:  ──registry──► State ──catalog──► build ──► Snapshot ──diff──► ads stream ──► sidecars
//!                    ▲                                                            │
//!   documents, registration (gRPC) ── judged, then written                        └──► book ──► status (gRPC)
//!                                        identity (gRPC): join tokens, certificates
//! ```
//!
//! It holds no state of its own: run two or three on one ZooKeeper. Pure parts (`catalog`, `snapshot`, `ads::stream`,
//! `documents::judge`, `registry::zk::tree`, `registry::grace`, `identity::token`) know no socket and take the time as an
//! argument; the rest is a thin shell around them.

pub mod ads;
pub mod app;
pub mod caller;
pub mod catalog;
pub mod control;
pub mod documents;
pub mod http;
pub mod identity;
pub mod metrics;
pub mod options;
pub mod publisher;
pub mod registration;
pub mod registry;
pub mod schema;
pub mod snapshot;
pub mod status;
