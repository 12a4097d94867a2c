//! Registries and the process as others meet them.

#[path = "../support/mod.rs"]
mod support;

mod contract;
mod file;
mod process;
mod zookeeper;
