//! Gates: steps that look at the head of a call and say yes or no, at once.
//!
//! ```text
//!  head ─► framing ─► jwt ─► access ─► yes, or a Rejection
//! ```
//!
//! None waits, none touches a body, none knows a socket; time is an argument.

pub mod access;
pub mod cors;
pub mod framing;
pub mod jwt;
