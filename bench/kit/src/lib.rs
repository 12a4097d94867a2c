//! What the bench's programs share: gathered writes, TLS as the mesh does it, the bench message, schemas with many routes.

pub mod gather;
pub mod message;
pub mod net;
pub mod routes;
