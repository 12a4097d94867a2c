//! What the bench's programs share: gathered writes, TLS as the mesh does it, the bench message.

pub mod gather;
pub mod message;
pub mod net;
