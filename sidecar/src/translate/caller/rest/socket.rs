//! What a caller says over a WebSocket, as the messages of its stream.

use std::rc::Rc;
use std::task::{Context as Poller, Poll, ready};

use bytes::Bytes;
use mesh_transcode::{Match, Options, Refusal};
use tokio::sync::mpsc;

use crate::reason::Rejection;
use crate::snapshot::ServiceIndex;
use crate::translate::Piece;

/// Text messages on their way.
pub(crate) struct SocketRequests {
    found: Rc<Match<ServiceIndex>>,
    options: Rc<Options>,
    query: String,
    from: mpsc::Receiver<Bytes>,
    messages: u64,
    /// The method takes one message, and the caller's stream is over with it.
    one: bool,
}

impl SocketRequests {
    pub(super) fn new(
        found: Rc<Match<ServiceIndex>>,
        options: Rc<Options>,
        query: &str,
        from: mpsc::Receiver<Bytes>,
    ) -> Self {
        Self {
            one: !found.method.client_streaming(),
            found,
            options,
            query: query.to_owned(),
            from,
            messages: 0,
        }
    }

    /// The next message, or the end.
    pub(crate) fn poll_piece(&mut self, cx: &mut Poller<'_>) -> Poll<Option<Result<Piece, Rejection>>> {
        if self.one && self.messages > 0 {
            return Poll::Ready(None);
        }
        let text = ready!(self.from.poll_recv(cx));
        Poll::Ready(text.map(|text| self.message(&text).map(|message| Piece::Message(message.into()))))
    }

    fn message(&mut self, text: &[u8]) -> Result<Vec<u8>, Rejection> {
        let index = self.messages;
        self.messages += 1;
        let read = if index == 0 {
            self.found.first_message(&self.query, text, &self.options)
        } else {
            self.found.later_message(text, &self.options)
        };
        read.map_err(|refusal| at_message(index, refusal).into())
    }
}

/// Names the message that is wrong, by its place in the stream.
pub(super) fn at_message(index: u64, refusal: Refusal) -> Refusal {
    let field = match refusal.field.as_deref() {
        None | Some("") => format!("[{index}]"),
        Some(field) => format!("[{index}].{field}"),
    };
    Refusal {
        field: Some(field),
        ..refusal
    }
}
