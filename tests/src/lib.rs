//! The harness: a whole mesh of real processes as a sentence.
//!
//! ```text
//!   curl ──► edge ──┐                        ┌─► xds-lite ◄──► ZooKeeper ◄── kazoo
//!   tonic ─► caller ┼═ mTLS ═► sidecar ─► app│   mesh-ctl ─────────┘
//!   grpcio ► caller ┘             └──────────┘
//! ```
//!
//! ```no_run
//! # use mesh_tests::Mesh;
//! let mesh = Mesh::start();
//! let _quotes = mesh.quotes("a");
//! let edge = mesh.edge();
//! assert_eq!(edge.get("/v1/quotes/ACME").call().status, 200);
//! ```
//!
//! Everything is a process of its own, found in the target folder beside the test; it listens on loopback, keeps its files in
//! a folder of its own and is killed when its value is dropped. When a test fails, the logs of all its processes are
//! printed; when one passes, no log may tell of a panic.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a harness has nobody to tell of a failure but the test"
)]

pub mod app;
pub mod call;
pub mod curl;
pub mod depot;
pub mod documents;
pub mod fake_control;
pub mod faulty;
pub mod folder;
pub mod golden;
pub mod kazoo;
pub mod load;
pub mod mesh;
pub mod node;
pub mod process;
pub mod proxy;
pub mod python;
pub mod sidecar;
pub mod wait;
pub mod zookeeper;

pub use app::{App, GrpcioApp};
pub use curl::{Answer, Curl};
pub use depot::Depot;
pub use folder::{Folder, free_port};
pub use kazoo::Kazoo;
pub use load::{Load, Tally};
pub use mesh::{Mesh, XdsLite};
pub use process::{Ended, Process, run};
pub use proxy::Proxy;
pub use python::{run_python, tokens};
pub use sidecar::{Quotes, Sidecar, SidecarPlan};
pub use wait::{eventually, for_a_while};
pub use zookeeper::ZooKeeper;
