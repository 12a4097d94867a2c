//! JSON text ⇄ messages, by the protobuf JSON mapping, strictly, with every limit counted here.
//!
//! ```text
//!  text ── scan (tokens, offsets) ── read (led by descriptors; well_known, leaf, time) ──► DynamicMessage
//!  DynamicMessage ── write (depth counted through Any) ──► text
//! ```

pub(crate) mod leaf;
mod read;
mod scan;
mod time;
mod well_known;
mod write;

pub(crate) use read::{Bound, Reader};
pub(crate) use well_known::{from_text as leaf_from_query, set};
pub(crate) use write::{write_any, write_field, write_message};
