//! Refusals as answers the caller can read, in what the caller speaks.

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};

use crate::body::{AnswerBody, trailers};
use crate::call::{Call, Speaks};
use crate::headers::REASON;
use crate::reason::{Reason, Rejection};

/// Answers a call with a refusal.
pub(crate) fn refuse(mut call: Box<Call>, rejection: &Rejection) -> Response<AnswerBody> {
    call.refused(rejection);
    if call.speaks == Speaks::Grpc {
        call.http_status = 200;
        let mut response = Response::new(AnswerBody::full(Bytes::new(), call));
        *response.headers_mut() = trailers(rejection);
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        return response;
    }
    let status = StatusCode::from_u16(rejection.reason.http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = Bytes::from(mesh_transcode::status::body(&rejection.status(), None));
    call.http_status = status.as_u16();
    let length = HeaderValue::from(body.len());
    let mut response = Response::new(AnswerBody::full(body, call));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LENGTH, length);
    headers.insert(REASON, HeaderValue::from_static(rejection.reason.word()));
    if status == StatusCode::UNAUTHORIZED {
        let challenge = if rejection.reason == Reason::JwtMissing {
            "Bearer"
        } else {
            "Bearer error=\"invalid_token\""
        };
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    if let Some(allow) = rejection
        .allow
        .as_deref()
        .and_then(|allow| HeaderValue::from_str(allow).ok())
    {
        headers.insert(ALLOW, allow);
    }
    response
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
        Rejection {
            field: refusal.field,
            ..Rejection::new(reason, message)
        }
    }
}
