//! Incremental ADS: what each sidecar subscribed to, what it was sent, and what it said to it.
//!
//! ```text
//!  requests ──► stream (pure) ──► responses        service: one task a stream, bounded queue, newest snapshot wins
//!  snapshots ─┘      │
//!                    └──► book: who is connected, what each applied or refused ──► Status
//! ```

pub mod announce;
pub mod book;
pub mod service;
pub mod stream;
pub mod subscription;
pub mod types;
