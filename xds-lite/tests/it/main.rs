//! Registries and the process as others meet them.

// Helpers of tests may fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod contract;
mod file;
mod process;
mod zookeeper;
