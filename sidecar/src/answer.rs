//! Refusals as answers the caller can read, in what the caller speaks.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use mesh_transcode::problem;

use crate::body::{AnswerBody, trailers};
use crate::call::{Call, Speaks};
use crate::headers::{GRPC_ACCEPT_ENCODING, REASON};
use crate::reason::{Reason, Rejection};
use crate::translate::End;

/// Answers a call with a refusal. A HEAD gets the head alone, as it would be with the body.
pub(crate) fn refuse(mut call: Box<Call>, rejection: &Rejection) -> Response<AnswerBody> {
    call.refused(rejection);
    let head_only = call.head_only;
    let mut response = told(call, rejection);
    if head_only {
        response.body_mut().leave_out();
    }
    response
}

/// A refusal in what the caller speaks.
fn told(mut call: Box<Call>, rejection: &Rejection) -> Response<AnswerBody> {
    if call.speaks == Speaks::Grpc && is_no_grpc(rejection.reason) {
        let status = http_status(rejection.reason);
        call.http_status = status.as_u16();
        let mut response = Response::new(AnswerBody::full(Bytes::new(), call));
        *response.status_mut() = status;
        *response.headers_mut() = trailers(rejection);
        mark(&mut response, rejection);
        return response;
    }
    if call.speaks == Speaks::Grpc {
        call.http_status = 200;
        let mut response = Response::new(AnswerBody::full(Bytes::new(), call));
        *response.headers_mut() = trailers(rejection);
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        say_what_is_taken(response.headers_mut(), rejection);
        return response;
    }
    if let Speaks::GrpcWeb(form) = call.speaks {
        let mut response = form.ended(&End::from(rejection)).response(call);
        say_what_is_taken(response.headers_mut(), rejection);
        return response;
    }
    if let Speaks::Connect(form) = call.speaks {
        let mut response = form.refused(rejection).response(call);
        mark(&mut response, rejection);
        if let Some(encodings) = response.headers_mut().remove(GRPC_ACCEPT_ENCODING) {
            response.headers_mut().insert(form.accept_encoding(), encodings);
        }
        return response;
    }
    let status = http_status(rejection.reason);
    let (body, content_type) = if call.problem {
        let body = problem::body(&rejection.status(), status.as_u16(), None);
        (Bytes::from(body), problem::CONTENT_TYPE)
    } else {
        let body = mesh_transcode::status::body(&rejection.status(), None);
        (Bytes::from(body), "application/json")
    };
    call.http_status = status.as_u16();
    let length = HeaderValue::from(body.len());
    let mut response = Response::new(AnswerBody::full(body, call));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONTENT_LENGTH, length);
    mark(&mut response, rejection);
    response
}

fn http_status(reason: Reason) -> StatusCode {
    StatusCode::from_u16(reason.http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Whether what calls itself gRPC breaks gRPC's own use of HTTP, so that HTTP's status must say it.
fn is_no_grpc(reason: Reason) -> bool {
    matches!(reason, Reason::MethodNotAllowed | Reason::VersionTooOld)
}

/// Adds what HTTP itself says of a refusal.
fn mark(response: &mut Response<AnswerBody>, rejection: &Rejection) {
    let status = response.status();
    let headers = response.headers_mut();
    headers.insert(REASON, HeaderValue::from_static(rejection.reason.word()));
    if status == StatusCode::UNAUTHORIZED {
        let challenge = if rejection.reason == Reason::JwtMissing {
            "Bearer"
        } else {
            "Bearer error=\"invalid_token\""
        };
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    say_what_is_taken(headers, rejection);
}

fn say_what_is_taken(headers: &mut HeaderMap, rejection: &Rejection) {
    if let Some((name, value)) = rejection.instead.as_deref() {
        headers.insert(name.clone(), value.clone());
    }
}

impl From<mesh_transcode::Refusal> for Rejection {
    fn from(refusal: mesh_transcode::Refusal) -> Self {
        let reason = match refusal.http {
            404 => Reason::RouteUnknown,
            405 => Reason::MethodNotAllowed,
            413 => Reason::RequestTooLarge,
            415 => Reason::ContentTypeUnknown,
            501 => Reason::NotTranslatable,
            500..=599 => Reason::ResponseUnreadable,
            _ => Reason::RequestUnreadable,
        };
        let message = match refusal.offset {
            Some(offset) => format!("{refusal} (at byte {offset})"),
            None => refusal.to_string(),
        };
        // A place without a field is a violation too: of the body as a whole.
        let field = refusal.field.or_else(|| refusal.offset.map(|_| String::new()));
        Rejection {
            field,
            ..Rejection::new(reason, message)
        }
    }
}
