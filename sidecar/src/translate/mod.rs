//! Translates between what a caller speaks and what a service speaks: two sides, and a stream of messages between them.
//!
//! ```text
//!   caller side                          messages                       service side
//!   REST        ─┐                                                     ┌─► gRPC
//!   gRPC         │  bytes ─► Piece, Piece, … end  ─────────► bytes     │
//!   gRPC-Web     ├─                                                   ─┤
//!   Connect      │  bytes ◄───────────────  Item: Piece, … End ◄─ bytes│
//!                ─┘                                                    └─► HTTP/JSON
//! ```
//!
//! A side knows nothing of the other: with N kinds of callers and M kinds of services there are N + M of them. Where both
//! sides use gRPC's frames, the frames pass as they are. Both directions are bodies that are polled, so a slow reader slows
//! the writer, and what one poll gave is sent at once. Callers that need the end of an answer before its head ([`Waits`])
//! get the answer's messages counted, within the limit of one.

mod answer;
pub(crate) mod caller;
mod codec;
mod envelopes;
mod message;
mod request;
pub(crate) mod service;

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use hyper::body::Incoming;
use mesh_proto::domain::Rest;
use mesh_transcode::{Options, Schema};
use tokio::sync::mpsc;

pub(crate) use answer::{Answering, answer, begin, options};
pub(crate) use caller::Caller;
pub(crate) use codec::{Codec, Encoding, Unopened};
pub(crate) use message::{End, Framing, Item, Piece};
pub(crate) use request::{AskingBody, Requests};

use crate::body::RequestBody;
use crate::call::Call;
use crate::reason::{Reason, Rejection};
use crate::snapshot::ServiceEntry;
use service::Service;

/// What is needed to translate one call.
pub(crate) struct Translation {
    caller: Caller,
    service: Service,
    context: Context,
}

/// What both sides of a translation go by.
pub(crate) struct Context {
    pub(crate) options: Options,
    pub(crate) rest: Arc<Rest>,
    pub(crate) schema: Option<Arc<Schema>>,
}

impl Translation {
    /// Between a caller and the service it calls.
    pub(crate) fn new(caller: Caller, rpc: &str, entry: &ServiceEntry) -> Box<Self> {
        Box::new(Self {
            caller,
            service: Service::of(entry, rpc),
            context: Context {
                options: entry.transcoding.clone(),
                rest: entry.rest.clone(),
                schema: entry.schema.clone(),
            },
        })
    }

    /// Turns the caller's request into one for the service. What can be judged before the service hears of it, is.
    ///
    /// # Errors
    /// The request cannot be read in time or within its limits, or does not fit the message.
    pub(crate) async fn request(
        &mut self,
        head: &mut Parts,
        body: Incoming,
        call: &Call,
    ) -> Result<RequestBody, Rejection> {
        let frames = self.passes_frames();
        let asked = self
            .caller
            .request(head, body, call, frames, &self.context)
            .await?;
        self.service
            .request(head, asked, call, frames, &self.context)
            .await
    }

    /// What a caller asks over a WebSocket that is open.
    ///
    /// # Errors
    /// Path or query do not fit.
    pub(crate) fn socket(
        &mut self,
        head: &mut Parts,
        from: mpsc::Receiver<Bytes>,
    ) -> Result<Requests, Rejection> {
        match &mut self.caller {
            Caller::Rest(caller) => caller.socket_requests(head, from, &self.context),
            Caller::Grpc(_) | Caller::GrpcWeb(_) | Caller::Connect(_) => Err(Rejection::new(
                Reason::NotTranslatable,
                "only JSON is spoken over a WebSocket",
            )),
        }
    }

    /// Turns what was asked into a request for the service.
    ///
    /// # Errors
    /// It is too large for a frame.
    pub(crate) fn asked(
        &self,
        head: &mut Parts,
        asked: Requests,
        call: &Call,
    ) -> Result<RequestBody, Rejection> {
        self.service.framed(head, asked, call, self.passes_frames())
    }

    /// Whether both sides use the same frames with the same messages in them.
    fn passes_frames(&self) -> bool {
        self.caller.takes_frames() && self.service.takes_frames()
    }
}
