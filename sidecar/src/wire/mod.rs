//! The bytes of a connection: gathered into few writes, followed frame by frame, watched by one clock a thread.
//!
//! ```text
//!  library ── writes ──► Wire ── buffer ──► Driver: one write a poll ──► socket
//!  library ◄─ reads ──── Wire ◄───────────────────────────────────────── socket
//!                         ├ frames ─► accountant: who floods is told ENHANCE_YOUR_CALM and cut off
//!                         └ pulse: first byte, progress, idleness, age ◄── the thread's sweep, once a second
//! ```
//!
//! The libraries below bound none of these (they have no clock before the first frame, on idle connections or on stalled
//! ones, and answer control frames without end), so it is done here, on the bytes that pass anyway.

mod accountant;
mod frames;
mod gather;
mod pulse;

pub(crate) use gather::{Driver, Ended, Wire, wire};
pub(crate) use pulse::{KeepAlive, Limits, Order, Pulse, Tick, passed};
