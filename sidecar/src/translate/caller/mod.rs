//! The caller's side: how its request is read, and how it is answered. One file for each way of speaking.

pub(crate) mod connect;
mod framed;
pub(crate) mod grpc;
pub(crate) mod grpc_web;
pub(crate) mod rest;

use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use http_body::Frame;
use hyper::body::Incoming;

use super::request::{Inlet, Requests};
use super::{Context, End, Piece};
use crate::body::BoxError;
use crate::call::Call;
use crate::coding::Coding;
use crate::reason::Rejection;

/// What a caller speaks, with all that its answer depends on.
pub(crate) enum Caller {
    Rest(Box<rest::Caller>),
    Grpc(grpc::Caller),
    GrpcWeb(grpc_web::Caller),
    Connect(Box<connect::Caller>),
}

/// How much of the answer must be known before its head can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waits {
    /// Nothing: failures have a place after the head.
    No,
    /// One message, or the end: a failure before anything else has a head of its own.
    ForFirst,
    /// Everything: the head tells how it ended.
    ForEnd,
}

/// What closes an answer.
#[derive(Debug)]
pub(crate) enum Last {
    /// The regular end of the body.
    Nothing,
    /// These bytes, and then the regular end of the body.
    Bytes(Bytes),
    /// Trailers.
    Trailers(HeaderMap),
    /// The body is broken off, so that what was sent cannot pass for all of it.
    Abort(String),
}

impl Last {
    /// As the last frame of a body.
    pub(super) fn frame(self) -> Option<Result<Frame<Bytes>, BoxError>> {
        match self {
            Last::Nothing => None,
            Last::Bytes(bytes) => Some(Ok(Frame::data(bytes))),
            Last::Trailers(trailers) => Some(Ok(Frame::trailers(trailers))),
            Last::Abort(why) => Some(Err(why.into())),
        }
    }
}

/// How a caller wants the body of its answer.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Manner {
    /// Not at all.
    pub(crate) head_only: bool,
    /// Compressed, where that is worth it. `None` in `Some`: it would be, had the caller asked.
    pub(crate) coding: Option<Option<Coding>>,
    /// What says that a stream lives while it has nothing to say, and after how long.
    pub(crate) heartbeat: Option<(Duration, &'static [u8])>,
}

/// An answer that is known whole.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Caller {
    /// Reads the request; `frames` are passed as they are. What remains in the head is the caller's own metadata.
    ///
    /// # Errors
    /// It cannot be read, or does not fit the method.
    pub(super) async fn request(
        &mut self,
        head: &mut Parts,
        body: Incoming,
        call: &Call,
        frames: bool,
        context: &Context,
    ) -> Result<Requests, Rejection> {
        let inlet = Inlet::new(body, call.ticket.progress.clone());
        match self {
            Caller::Rest(caller) => caller.request(head, inlet, context).await,
            Caller::Grpc(caller) => Ok(caller.request(head, inlet, frames, context)),
            Caller::GrpcWeb(caller) => Ok(caller.request(head, inlet, frames, context)),
            Caller::Connect(caller) => caller.request(head, inlet, frames, context).await,
        }
    }

    /// Whether it takes gRPC's frames as they are.
    pub(super) fn takes_frames(&self) -> bool {
        match self {
            Caller::Rest(_) => false,
            Caller::Grpc(caller) => caller.takes_frames(),
            Caller::GrpcWeb(caller) => caller.takes_frames(),
            Caller::Connect(caller) => caller.takes_frames(),
        }
    }

    pub(super) fn waits(&self) -> Waits {
        match self {
            Caller::Rest(caller) => caller.waits(),
            Caller::Grpc(_) | Caller::GrpcWeb(_) => Waits::No,
            Caller::Connect(caller) => caller.waits(),
        }
    }

    /// A part of the answer as the caller's bytes.
    ///
    /// # Errors
    /// It cannot be told to this caller.
    pub(super) fn piece(&mut self, piece: Piece, context: &Context) -> Result<Bytes, Rejection> {
        match self {
            Caller::Rest(caller) => caller.piece(piece, context),
            Caller::Grpc(caller) => caller.piece(piece, context),
            Caller::GrpcWeb(caller) => caller.piece(piece, context),
            Caller::Connect(caller) => caller.piece(piece, context),
        }
    }

    /// How an answer ends whose head is out.
    pub(super) fn end(&mut self, end: &End, context: &Context) -> Last {
        match self {
            Caller::Rest(caller) => caller.end(end, context),
            Caller::Grpc(_) => grpc::Caller::end(end),
            Caller::GrpcWeb(caller) => caller.end(end),
            Caller::Connect(caller) => caller.end(end),
        }
    }

    /// Makes the headers those of an answer that goes on; `frames`: with the service's frames as they are.
    pub(super) fn streaming(&mut self, headers: &mut HeaderMap, frames: bool) -> StatusCode {
        match self {
            Caller::Rest(caller) => return caller.streaming(headers),
            Caller::Grpc(caller) => caller.streaming(headers),
            Caller::GrpcWeb(caller) => caller.streaming(headers, frames),
            Caller::Connect(caller) => caller.streaming(headers, frames),
        }
        StatusCode::OK
    }

    /// The answer to a call that ended without a message.
    pub(super) fn ended(&self, headers: HeaderMap, end: &End, context: &Context) -> Reply {
        match self {
            Caller::Rest(caller) => caller.ended(headers, end, context),
            Caller::Grpc(caller) => caller.ended(end),
            Caller::GrpcWeb(caller) => caller.ended(end),
            Caller::Connect(caller) => caller.ended(headers, end),
        }
    }

    /// The answer with the one message of a unary method, which is the caller's bytes already.
    pub(super) fn whole(&self, headers: HeaderMap, bytes: Bytes, end: &End) -> Reply {
        match self {
            Caller::Rest(caller) => caller.whole(headers, bytes, end),
            Caller::Grpc(caller) => caller.ended(end),
            Caller::GrpcWeb(caller) => caller.ended(end),
            Caller::Connect(caller) => caller.whole(headers, bytes, end),
        }
    }

    /// What goes beside an answer: how its body is to be sent.
    pub(super) fn manner(&self) -> Manner {
        match self {
            Caller::Rest(caller) => caller.manner(),
            Caller::Grpc(_) | Caller::GrpcWeb(_) => Manner::default(),
            Caller::Connect(caller) => caller.manner(),
        }
    }

    /// The service's own trailers, where this caller gets them as trailers.
    pub(super) fn trailers(&self, end: &End) -> Option<HeaderMap> {
        match self {
            Caller::Rest(caller) => caller.trailers(end),
            Caller::Grpc(_) | Caller::GrpcWeb(_) | Caller::Connect(_) => None,
        }
    }
}
