//! Golden files: one behaviour of transcoding each, played against a running sidecar.
//!
//! ```text
//!  tests/golden/<topic>/<sentence>.yaml ──► Case
//!                                            │ rpcs ─► schema.rs: a service of its own below /gN, compiled by protoc
//!                                            │ ask  ─► caller.rs: HTTP/1.1 byte by byte, or HTTP/2
//!                                            ▼
//!              caller ───────► sidecar (edge, standalone) ───────► backend.rs: scripted, keeps what it saw
//!                 │                                                   │
//!                 └── answer ──► judge.rs ◄── messages by oracle.rs ──┘
//! ```
//!
//! What the service must have seen is compared by prost-reflect, which is no part of what is tested. With
//! `MESH_GOLDEN_UPDATE=1` the `expect` of every failing file is written anew with what was seen.

pub mod answer;
pub mod backend;
pub mod caller;
pub mod case;
pub mod envoy;
pub mod judge;
pub mod oracle;
pub mod play;
pub mod reverse;
pub mod schema;
pub mod stage;
pub mod update;
