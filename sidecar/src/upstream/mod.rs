//! The last step of a way: to the app, or to an instance of another service.
//!
//! ```text
//!  retry( balance( endpoint( connection )))
//!     │        │         │          └── connect.rs opens one: TCP, TLS, HTTP/2 or HTTP/1.1
//!     │        │         └── endpoint.rs: an instance as this thread knows it
//!     │        └── balance.rs, an engine
//!     └── budget.rs, an engine
//! ```
//!
//! Everything here belongs to one data thread; nothing is locked.

pub mod balance;
pub mod budget;
pub(crate) mod cluster;
pub(crate) mod connect;
pub(crate) mod endpoint;
