//! Documents: judged as a whole, then stored all or none.
//!
//! ```text
//!  request ──► judge (pure): each document, then how they lean on each other ──► plan ──► registry, all or none
//!                    └─► every fault at once, as `Kind/name: place`
//! ```

pub mod ambiguous;
pub mod blind;
pub mod judge;
pub mod service;
