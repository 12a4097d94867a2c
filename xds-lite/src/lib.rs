//! xds-lite, the control service: registry in, resources out.
pub mod ads;
pub mod catalog;
pub mod registry;
pub mod schema;
pub mod snapshot;
