//! What `-d` names, as the messages of a request: one, or a stream of them sent while they are read.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use mesh_transcode::{MessageType, Method, Options};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::MESSAGE_BYTES_MAX;
use crate::failure::Failure;

/// Messages that were read and wait to be sent.
const WAITING_MAX: usize = 16;

/// Why the messages ended before their end, once they have.
#[derive(Debug, Clone, Default)]
pub(super) struct Trouble(Arc<Mutex<Option<Failure>>>);

impl Trouble {
    /// What it was, if there was any.
    pub(super) fn take(&self) -> Option<Failure> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, failure: Failure) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
    }
}

/// The messages of a request. Without data: an empty message, or an empty stream.
///
/// # Errors
/// What is named cannot be read, or the one message of a method that takes one is wrong.
pub(super) fn messages(
    data: Option<&str>,
    method: &Arc<Method>,
) -> Result<(ReceiverStream<Bytes>, Trouble), Failure> {
    let source: Box<dyn Read + Send> = match data {
        None => Box::new(std::io::empty()),
        Some("-") => Box::new(std::io::stdin()),
        Some(data) => match data.strip_prefix('@') {
            Some(file) => Box::new(
                std::fs::File::open(file)
                    .map_err(|error| Failure::usage(format!("cannot read {file}: {error}")))?,
            ),
            None => Box::new(std::io::Cursor::new(data.to_owned().into_bytes())),
        },
    };
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    let trouble = Trouble::default();
    if method.client_streaming() {
        let (input, told) = (method.input().clone(), trouble.clone());
        // Reading stdin blocks, and the answers must not wait for it.
        std::thread::spawn(move || {
            if let Err(failure) = send_lines(source, &input, &sender) {
                told.set(failure);
            }
        });
    } else {
        let text = read(source)?;
        let text = if text.trim_ascii().is_empty() {
            b"{}"
        } else {
            text.as_slice()
        };
        let message = message(method.input(), text, "the request")?;
        // There is room for one.
        let _ = sender.try_send(message);
    }
    Ok((ReceiverStream::new(receiver), trouble))
}

fn read(source: impl Read) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    source
        .take(MESSAGE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut text)
        .map_err(|error| Failure::usage(format!("cannot read the request: {error}")))?;
    if text.len() > MESSAGE_BYTES_MAX {
        return Err(Failure::usage(format!(
            "the request is over {MESSAGE_BYTES_MAX} bytes"
        )));
    }
    Ok(text)
}

/// One message a line; blank lines are none.
fn send_lines(source: impl Read, input: &MessageType, sender: &mpsc::Sender<Bytes>) -> Result<(), Failure> {
    let mut reader = BufReader::new(source);
    for number in 1.. {
        let mut line = Vec::new();
        let length = (&mut reader)
            .take(MESSAGE_BYTES_MAX as u64 + 1)
            .read_until(b'\n', &mut line)
            .map_err(|error| Failure::usage(format!("cannot read the request: {error}")))?;
        if length == 0 {
            break;
        }
        if line.len() > MESSAGE_BYTES_MAX {
            return Err(Failure::usage(format!(
                "line {number} is over {MESSAGE_BYTES_MAX} bytes"
            )));
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let message = message(input, &line, &format!("line {number}"))?;
        if sender.blocking_send(message).is_err() {
            // The call is over; why is told there.
            break;
        }
    }
    Ok(())
}

fn message(input: &MessageType, json: &[u8], what: &str) -> Result<Bytes, Failure> {
    let options = Options {
        // Whoever types a field by hand wants to know that there is none of that name.
        unknown_fields: mesh_transcode::UnknownInput::Reject,
        ..Options::default()
    };
    input.to_wire(json, &options).map(Bytes::from).map_err(|refusal| {
        let field = refusal
            .field
            .map(|field| format!("{field}: "))
            .unwrap_or_default();
        let offset = refusal
            .offset
            .map(|offset| format!(" (at byte {offset})"))
            .unwrap_or_default();
        let told = format!("{what}: {field}{}{offset}", refusal.message);
        Failure::usage(told).hint(format!(
            "it is a {}; --describe shows its fields",
            input.full_name()
        ))
    })
}
