//! JSON text ⇄ protobuf, by the protobuf JSON mapping, strictly, with every limit counted here, led by tables.
//!
//! ```text
//!  text ── read (a machine with a stack of its own; text, number, leaf, time) ──► protobuf
//!  protobuf ── write (in order, or carefully; depth counted through Any) ──► text
//! ```

mod base64;
pub(crate) mod leaf;
mod number;
mod out;
pub(crate) mod read;
mod text;
mod time;
pub(crate) mod write;

pub(crate) use text::put_string;
