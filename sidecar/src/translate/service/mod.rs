//! The service's side: how it is asked, and how its answer is read.

pub(crate) mod grpc;
pub(crate) mod rest;

use std::sync::Arc;

use http::request::Parts;
use http::response;
use mesh_proto::domain::Protocol;

use super::request::{AskingBody, Requests};
use super::{Context, End};
use crate::body::RequestBody;
use crate::call::Call;
use crate::reason::{Reason, Rejection};
use crate::snapshot::ServiceEntry;
use crate::upstream::Answer;

/// What the service speaks.
pub(crate) enum Service {
    /// gRPC: `package.Service/Method`.
    Grpc(Arc<str>),
    /// HTTP and JSON.
    Rest(Box<rest::Service>),
}

impl Service {
    pub(crate) fn of(entry: &ServiceEntry, rpc: &str) -> Self {
        let method = entry
            .schema
            .as_ref()
            .filter(|_| entry.protocol == Protocol::HttpJson)
            .and_then(|schema| schema.method(rpc));
        match method {
            Some(method) => Service::Rest(Box::new(rest::Service::new(method.clone()))),
            None => Service::Grpc(rpc.into()),
        }
    }

    /// Makes the request's head the service's, and its body.
    pub(crate) async fn request(
        &mut self,
        head: &mut Parts,
        asked: Requests,
        call: &Call,
        frames: bool,
        context: &Context,
    ) -> Result<RequestBody, Rejection> {
        match self {
            Service::Grpc(_) => self.framed(head, asked, call, frames),
            Service::Rest(service) => service.request(head, asked, context).await,
        }
    }

    /// The same for services that take what is asked as it comes.
    ///
    /// # Errors
    /// This one does not.
    pub(crate) fn framed(
        &self,
        head: &mut Parts,
        asked: Requests,
        call: &Call,
        frames: bool,
    ) -> Result<RequestBody, Rejection> {
        let Service::Grpc(rpc) = self else {
            let why = "a service that speaks HTTP takes one message, and no stream";
            return Err(Rejection::new(Reason::NotTranslatable, why));
        };
        grpc::head(head, rpc, frames)?;
        // One message that is known goes out as one body that is known.
        match asked {
            Requests::One(message) => grpc::one(message),
            asked => Ok(RequestBody::Asking(Box::new(AskingBody::new(
                asked,
                call.ticket.progress.clone(),
            )))),
        }
    }

    /// Whether it takes and gives gRPC's frames with protobuf in them.
    pub(crate) fn takes_frames(&self) -> bool {
        match self {
            Service::Grpc(_) => true,
            Service::Rest(_) => false,
        }
    }

    /// Reads an answer's head: what it ended with, if the head is all there is.
    pub(crate) fn ended(&self, head: &response::Parts) -> Option<End> {
        match self {
            Service::Grpc(_) => grpc::ended(head),
            Service::Rest(_) => None,
        }
    }

    /// Reads an answer's body. `frames`: the caller takes gRPC's frames as they are.
    pub(crate) fn answers(
        self,
        head: &response::Parts,
        body: Answer,
        frames: bool,
        context: &Context,
    ) -> Answers {
        match self {
            Service::Rest(service) => Answers::Rest(Box::new(service.answers(head, body, context))),
            Service::Grpc(_) => Answers::Grpc(Box::new(grpc::Answers::new(head, body, frames, context))),
        }
    }
}

/// A service's answer, as messages and an end.
pub(crate) enum Answers {
    Grpc(Box<grpc::Answers>),
    Rest(Box<rest::Answers>),
}

impl Answers {
    /// The next item. Nothing is asked for after an end or an error.
    pub(crate) fn poll_item(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<super::Item, Rejection>> {
        match self {
            Answers::Grpc(answers) => answers.poll_item(cx),
            Answers::Rest(answers) => answers.poll_item(cx),
        }
    }
}
