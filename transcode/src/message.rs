//! One message type of a schema: JSON text to protobuf and back, whole or piece by piece.

use std::fmt;
use std::sync::Arc;

use crate::json::read::{self, Machine};
use crate::json::write::{self, Fail};
use crate::table::Tables;
use crate::{Options, Refusal};

/// A message type. Cheap to clone.
#[derive(Clone)]
pub struct MessageType {
    pub(crate) tables: Arc<Tables>,
    pub(crate) index: u32,
}

impl MessageType {
    /// `package.Message`.
    #[must_use]
    pub fn full_name(&self) -> &str {
        &self.tables.message(self.index).full_name
    }

    /// One whole JSON value as a message in protobuf.
    ///
    /// # Errors
    /// 400 or 413, with the field and the place in the text where they are known.
    pub fn to_wire(&self, json: &[u8], options: &Options) -> Result<Vec<u8>, Refusal> {
        let mut machine = Machine::of_message(self.index, read::Settings::of(options));
        machine.push(&self.tables, json)?;
        let wire = machine.finish(&self.tables)?;
        check_request_length(&wire, options.limits.message_bytes)?;
        Ok(wire)
    }

    /// Appends a message in protobuf to `out` as JSON, on one line. On an error, `out` is as it was.
    ///
    /// # Errors
    /// 500: the message is over a limit, is not what the schema says, or holds what JSON cannot say.
    pub fn to_json(&self, wire: &[u8], options: &Options, out: &mut Vec<u8>) -> Result<(), Refusal> {
        check_reply_length(wire, options)?;
        write::message(&self.tables, self.index, wire, write::Settings::of(options), out).map_err(unwritten)
    }

    /// Reads one JSON value that comes in pieces.
    #[must_use]
    pub fn reader(&self, options: &Options) -> JsonReader {
        JsonReader {
            tables: Arc::clone(&self.tables),
            machine: Machine::of_message(self.index, read::Settings::of(options)),
            bytes_max: options.limits.message_bytes,
        }
    }
}

impl fmt::Debug for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageType({})", self.full_name())
    }
}

/// Reads one JSON value as a message.
///
/// ```text
///  push(piece) ─► push(piece) … ─► finish() ─► the message in protobuf
/// ```
pub struct JsonReader {
    tables: Arc<Tables>,
    machine: Machine,
    bytes_max: usize,
}

impl JsonReader {
    /// Takes the next piece of the text. What is complete in it is read at once; no piece is kept.
    ///
    /// # Errors
    /// 400 or 413, as soon as it is seen. A reader that refused once is of no more use.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), Refusal> {
        self.machine.push(&self.tables, piece)
    }

    /// The message, once the text is complete. To be called once.
    ///
    /// # Errors
    /// 400 or 413.
    pub fn finish(&mut self) -> Result<Vec<u8>, Refusal> {
        let wire = self.machine.finish(&self.tables)?;
        check_request_length(&wire, self.bytes_max)?;
        Ok(wire)
    }

    /// What lenient switches dropped so far, by its path as the caller wrote it; at most [`crate::DROPPED_MAX`] of them.
    #[must_use]
    pub fn dropped(&self) -> &[String] {
        self.machine.dropped()
    }
}

impl fmt::Debug for JsonReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonReader").finish_non_exhaustive()
    }
}

/// # Errors
/// 413: the message is over the limit.
pub(crate) fn check_request_length(wire: &[u8], bytes_max: usize) -> Result<(), Refusal> {
    if wire.len() > bytes_max {
        return Err(Refusal::too_large(bytes_max));
    }
    Ok(())
}

/// # Errors
/// 500: the reply is over the limit.
pub(crate) fn check_reply_length(wire: &[u8], options: &Options) -> Result<(), Refusal> {
    let bytes_max = options.limits.message_bytes;
    if wire.len() > bytes_max {
        return Err(Refusal::bad_reply(format!("the reply is over {bytes_max} bytes")));
    }
    Ok(())
}

/// What the caller is told of a reply that could not be written.
pub(crate) fn unwritten(fail: Fail) -> Refusal {
    match fail {
        Fail::Unsayable(why) => Refusal::bad_reply(format!("the reply has no JSON form: {why}")),
        Fail::Broken | Fail::Disorder => Refusal::bad_reply("the reply is not the message the schema says"),
    }
}
