//! Requests in frames of a flag, a length and a message, as gRPC, gRPC-Web and Connect's streams have them.
//!
//! ```text
//!  bytes | base64 ─► Passed: watched and handed on, where the service takes the same frames and messages
//!                 └► Opened: cut, decompressed, read as protobuf
//! ```

use std::task::{Context as Poller, Poll, ready};

use bytes::Bytes;
use mesh_transcode::Options;
use mesh_transcode::frame::Decoder;
use mesh_transcode::grpc_web::{TextDecoder, TextError, Walker};

use super::Piece;
use super::codec::{Codec, Encoding};
use super::message::Framing;
use super::request::Inlet;
use crate::reason::{Reason, Rejection};

/// The messages of a request in frames.
pub(crate) struct Envelopes {
    inlet: Inlet,
    framing: Framing,
    text: Option<TextDecoder>,
    frames: Frames,
}

enum Frames {
    Passed(Walker),
    Opened(Decoder, Encoding, Codec, Options),
}

impl Envelopes {
    /// Frames that the service takes as they are.
    pub(crate) fn passed(inlet: Inlet, framing: Framing, options: &Options) -> Box<Self> {
        let walker = Walker::new(options.limits.message_bytes);
        Self::new(inlet, framing, Frames::Passed(walker))
    }

    /// Frames of which the messages are wanted.
    pub(crate) fn opened(
        inlet: Inlet,
        framing: Framing,
        encoding: Encoding,
        codec: Codec,
        options: &Options,
    ) -> Box<Self> {
        let decoder = Decoder::new(options.limits.message_bytes);
        Self::new(
            inlet,
            framing,
            Frames::Opened(decoder, encoding, codec, options.clone()),
        )
    }

    fn new(inlet: Inlet, framing: Framing, frames: Frames) -> Box<Self> {
        Box::new(Self {
            inlet,
            framing,
            text: None,
            frames,
        })
    }

    /// The same, in base64 if `text` says so.
    pub(crate) fn in_text(mut self: Box<Self>, text: bool) -> Box<Self> {
        self.text = text.then(TextDecoder::default);
        self
    }

    pub(crate) fn framing(&self) -> Framing {
        self.framing
    }

    pub(crate) fn poll_piece(&mut self, cx: &mut Poller<'_>) -> Poll<Option<Result<Piece, Rejection>>> {
        let framing = self.framing;
        loop {
            if let Frames::Opened(decoder, encoding, codec, options) = &mut self.frames
                && let Some(frame) = decoder.next().map_err(|error| framing.bad_frame(&error))?
            {
                let opened = encoding.open(frame, options.limits.message_bytes);
                let message = opened.map_err(super::codec::Unopened::of_request)?;
                return Poll::Ready(Some(codec.read(message, options).map(Piece::Message)));
            }
            let Some(data) = ready!(self.poll_data(cx)).transpose()? else {
                return Poll::Ready(self.finish().err().map(Err));
            };
            match &mut self.frames {
                Frames::Opened(decoder, ..) => decoder.push(data),
                Frames::Passed(walker) => {
                    walker.pass(&data).map_err(|error| framing.bad_frame(&error))?;
                    return Poll::Ready(Some(Ok(Piece::Framed(data))));
                }
            }
        }
    }

    fn poll_data(&mut self, cx: &mut Poller<'_>) -> Poll<Option<Result<Bytes, Rejection>>> {
        loop {
            let Some(data) = ready!(self.inlet.poll_data(cx)).transpose()? else {
                return Poll::Ready(None);
            };
            let data = match &mut self.text {
                None => data,
                Some(text) => text.push(&data).map_err(unreadable)?.into(),
            };
            // A piece of text may be less than a byte.
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(data)));
            }
        }
    }

    fn finish(&self) -> Result<(), Rejection> {
        if let Some(text) = &self.text {
            text.finish().map_err(unreadable)?;
        }
        match &self.frames {
            Frames::Passed(walker) => walker.finish(),
            Frames::Opened(decoder, ..) => decoder.finish(),
        }
        .map_err(|error| self.framing.bad_frame(&error))
    }
}

fn unreadable(error: TextError) -> Rejection {
    Rejection::new(Reason::RequestUnreadable, error.to_string())
}
