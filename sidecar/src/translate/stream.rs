//! The messages of a gRPC answer as JSON, one piece each, and how the stream ends for a JSON caller.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::{HeaderMap, StatusCode};
use http_body::Body;
use mesh_proto::google::rpc;
use mesh_transcode::frame::{self, Decoder};
use mesh_transcode::status;
use mesh_transcode::stream::{Ending, StreamWriter};

use super::{Translation, What, status_of};
use crate::body::BoxError;
use crate::reason::{Reason, Rejection};
use crate::upstream::Answer;

/// The messages of an answer as JSON, one piece each.
pub(crate) struct JsonStream {
    pub(super) translation: Translation,
    body: Answer,
    decoder: Decoder,
    writer: StreamWriter,
    first: Option<Bytes>,
    over: bool,
    status: Option<rpc::Status>,
    failure: Option<Rejection>,
}

/// What the body gave.
enum Item {
    Message(Vec<u8>),
    End(rpc::Status),
}

impl JsonStream {
    pub(super) fn new(translation: Translation, body: Answer) -> Self {
        Self {
            decoder: Decoder::new(translation.options.limits.message_bytes),
            writer: StreamWriter::new(translation.format),
            translation,
            body,
            first: None,
            over: false,
            status: None,
            failure: None,
        }
    }

    /// The end, if the stream has no message; otherwise the first message is kept for [`JsonStream::poll_piece`].
    pub(super) async fn read_first(&mut self) -> Result<Option<What>, Rejection> {
        match std::future::poll_fn(|cx| self.poll_item(cx)).await? {
            Item::End(status) => Ok(Some(What::Ended(status))),
            Item::Message(json) => {
                self.first = Some(self.writer.message(&json).into());
                Ok(None)
            }
        }
    }

    /// The one message of a unary method with its good end, or the end.
    pub(super) async fn read_only(&mut self) -> Result<Option<What>, Rejection> {
        let unreadable = |why: &str| Err(Rejection::new(Reason::ResponseUnreadable, why));
        let json = match std::future::poll_fn(|cx| self.poll_item(cx)).await? {
            Item::Message(json) => json,
            Item::End(status) if status.code == 0 => {
                return unreadable("the service answered without a message");
            }
            Item::End(status) => return Ok(Some(What::Ended(status))),
        };
        match std::future::poll_fn(|cx| self.poll_item(cx)).await? {
            Item::End(status) if status.code == 0 => Ok(Some(What::Whole(json))),
            // A message and then an error is an error.
            Item::End(status) => Ok(Some(What::Ended(status))),
            Item::Message(_) => unreadable("the service answered a unary call twice"),
        }
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Result<Item, Rejection>> {
        loop {
            match self.decoder.next() {
                Ok(None) => {}
                Ok(Some(frame)) if frame.compressed => {
                    let why = "the service compressed its answer, which was not asked for";
                    return Poll::Ready(Err(Rejection::new(Reason::ResponseUnreadable, why)));
                }
                Ok(Some(frame)) => {
                    let json = self
                        .translation
                        .found
                        .response(&frame.message, &self.translation.options)?;
                    return Poll::Ready(Ok(Item::Message(json)));
                }
                Err(error) => {
                    let reason = match error {
                        frame::FrameError::TooLarge { .. } => Reason::ResponseTooLarge,
                        _ => Reason::ResponseUnreadable,
                    };
                    return Poll::Ready(Err(Rejection::new(reason, error.to_string())));
                }
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(mut data) => self.decoder.push(data.copy_to_bytes(data.remaining())),
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            return Poll::Ready(self.ended(&trailers));
                        }
                    }
                },
                Some(Err(error)) => {
                    let rejection = Rejection::new(Reason::UpstreamReset, "the service broke its answer off");
                    return Poll::Ready(Err(rejection.with_detail(error.to_string())));
                }
                None => return Poll::Ready(self.ended(&HeaderMap::new())),
            }
        }
    }

    fn ended(&self, trailers: &HeaderMap) -> Result<Item, Rejection> {
        let status = status_of(trailers, StatusCode::OK);
        if status.code == 0 {
            self.decoder
                .finish()
                .map_err(|error| Rejection::new(Reason::ResponseUnreadable, error.to_string()))?;
        }
        Ok(Item::End(status))
    }

    /// The next piece of the body.
    pub(crate) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        if self.over {
            return Poll::Ready(None);
        }
        let ending = match ready!(self.poll_item(cx)) {
            Ok(Item::Message(json)) => return Poll::Ready(Some(Ok(self.writer.message(&json).into()))),
            Ok(Item::End(status)) if status.code == 0 => {
                self.status = Some(status);
                self.over = true;
                self.writer.end()
            }
            Ok(Item::End(status)) => self.fail(status),
            Err(rejection) => self.fail_for(rejection),
        };
        Poll::Ready(self.last(ending))
    }

    /// Ends the stream because a clock rang.
    pub(crate) fn cut_short(&mut self, rejection: Rejection) -> Option<Result<Bytes, BoxError>> {
        if self.over {
            return None;
        }
        let ending = self.fail_for(rejection);
        self.last(ending)
    }

    fn fail_for(&mut self, rejection: Rejection) -> Ending {
        let status = rpc::Status {
            code: i32::from(rejection.reason.grpc()),
            message: rejection.message.clone(),
            details: Vec::new(),
        };
        self.failure = Some(rejection);
        self.fail(status)
    }

    fn fail(&mut self, status: rpc::Status) -> Ending {
        let body = status::body(&status, self.translation.schema.as_deref());
        self.status = Some(status);
        self.over = true;
        self.writer.error(&body)
    }

    fn last(&self, ending: Ending) -> Option<Result<Bytes, BoxError>> {
        match ending {
            Ending::Bytes(bytes) if bytes.is_empty() => None,
            Ending::Bytes(bytes) => Some(Ok(bytes.into())),
            Ending::Abort => {
                let why = self
                    .status
                    .as_ref()
                    .map_or("the stream failed", |status| status.message.as_str());
                Some(Err(why.to_owned().into()))
            }
        }
    }

    /// Why we ended it, if we did.
    pub(crate) fn failure(&self) -> Option<&Rejection> {
        self.failure.as_ref()
    }

    /// The gRPC code it ended with.
    pub(crate) fn grpc_status(&self) -> u16 {
        self.status
            .as_ref()
            .and_then(|status| u16::try_from(status.code).ok())
            .unwrap_or(1)
    }
}
