//! Identities for sidecars: join tokens, and certificates for those who show one.

pub mod service;
pub mod token;
