//! REST caller, gRPC service: arranges what `mesh_transcode` translates.
//!
//! ```text
//!  path, query, JSON body ─► one message ─► frame ─► upstream
//!  JSON body | array, NDJSON, SSE ◄─ message(s) ◄─ frames ◄─ upstream,  trailers ─► HTTP status and error body
//! ```

mod stream;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{
    ACCEPT, ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, TE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use mesh_proto::google::rpc;
use mesh_transcode::frame;
use mesh_transcode::status::{self, Code};
use mesh_transcode::stream::{Ending, StreamFormat, StreamWriter};
use mesh_transcode::{Match, Options, Schema};

use crate::body::{AnswerBody, RequestBody};
use crate::call::Call;
use crate::headers::{self, GRPC_MESSAGE, GRPC_STATUS, GRPC_STATUS_DETAILS};
use crate::reason::{Reason, Rejection};
use crate::snapshot::{ServiceEntry, ServiceIndex};
use crate::upstream::Answer;

pub(crate) use stream::JsonStream;

/// A body that makes no progress for this long is given up.
const BODY_STALL: Duration = Duration::from_secs(30);

/// Turns a REST request into a gRPC one.
///
/// # Errors
/// The body cannot be read in time or within its limit, or does not fit the message.
pub(crate) async fn request(
    found: &Match<ServiceIndex>,
    options: &Options,
    head: &mut Parts,
    body: Incoming,
    call: &Call,
) -> Result<RequestBody, Rejection> {
    let content_type = match head.headers.get_all(CONTENT_TYPE).iter().count() {
        0 => None,
        1 => headers::single(&head.headers, &CONTENT_TYPE).or(Some("")),
        _ => {
            return Err(Rejection::new(
                Reason::ContentTypeUnknown,
                "content-type stands twice",
            ));
        }
    };
    if head.headers.contains_key(CONTENT_ENCODING) {
        return Err(Rejection::new(
            Reason::ContentTypeUnknown,
            "compressed request bodies are not read",
        ));
    }
    let whole = read_whole(body, options.limits.message_bytes).await?;
    call.ticket.progress.came(whole.len());
    let query = head.uri.query().unwrap_or("");
    let message = found.request(query, content_type, &whole, options)?;
    let framed = frame::encode(&message)
        .map_err(|error| Rejection::new(Reason::RequestTooLarge, error.to_string()))?;
    let path = format!("/{}", found.method.name());
    head.uri =
        Uri::try_from(path).map_err(|error| Rejection::new(Reason::RequestMalformed, error.to_string()))?;
    head.method = Method::POST;
    for name in [CONTENT_LENGTH, ACCEPT, ACCEPT_ENCODING, EXPECT] {
        head.headers.remove(name);
    }
    head.headers
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    head.headers.insert(TE, HeaderValue::from_static("trailers"));
    Ok(RequestBody::Full(Some(framed)))
}

async fn read_whole(mut body: Incoming, bytes_max: usize) -> Result<Bytes, Rejection> {
    let too_large = || {
        Rejection::new(
            Reason::RequestTooLarge,
            format!("the request is over {bytes_max} bytes"),
        )
    };
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(too_large());
    }
    let mut first: Option<Bytes> = None;
    let mut whole = BytesMut::new();
    loop {
        let frame = tokio::time::timeout(BODY_STALL, body.frame())
            .await
            .map_err(|_| Rejection::new(Reason::DeadlinePassed, "the request's body did not come"))?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| {
            Rejection::new(Reason::RequestMalformed, "the request's body broke off")
                .with_detail(error.to_string())
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + first.as_ref().map_or(0, Bytes::len) + data.len() > bytes_max {
            return Err(too_large());
        }
        // The common body comes in one piece and is not copied.
        match first.take() {
            None if whole.is_empty() => first = Some(data),
            earlier => {
                whole.extend_from_slice(&earlier.unwrap_or_default());
                whole.extend_from_slice(&data);
            }
        }
    }
    Ok(first.unwrap_or_else(|| whole.freeze()))
}

/// What is needed to turn a gRPC answer into a REST one.
pub(crate) struct Translation {
    pub(crate) found: Match<ServiceIndex>,
    pub(crate) options: Options,
    pub(crate) schema: Option<Arc<Schema>>,
    pub(crate) format: StreamFormat,
    /// The caller asked for the head alone.
    pub(crate) head_only: bool,
}

impl Translation {
    pub(crate) fn new(found: Match<ServiceIndex>, entry: &ServiceEntry, head: &Parts) -> Self {
        Self {
            found,
            options: entry.transcoding.clone(),
            schema: entry.schema.clone(),
            format: StreamFormat::choose(headers::single(&head.headers, &ACCEPT)),
            head_only: head.method == Method::HEAD,
        }
    }
}

/// A gRPC answer whose beginning was read: far enough to know its HTTP status.
pub(crate) struct Begun {
    translation: Option<Translation>,
    headers: HeaderMap,
    what: What,
}

/// How an answer begins.
enum What {
    /// With its end.
    Ended(rpc::Status),
    /// With the one message of a unary method, and a good end.
    Whole(Vec<u8>),
    /// With a message that others follow.
    Streaming(Box<JsonStream>),
}

/// Reads a gRPC answer to where its HTTP status is known: to the end for unary methods, to the first message of a stream.
///
/// # Errors
/// The answer is none, is too large, or has no JSON form.
pub(crate) async fn begin(translation: Translation, response: Response<Answer>) -> Result<Begun, Rejection> {
    let (head, body) = response.into_parts();
    let mut headers = head.headers;
    headers::clean_response(&mut headers);
    if headers.contains_key(GRPC_STATUS) || !headers::is_grpc(&headers) {
        let what = What::Ended(status_of(&headers, head.status));
        return Ok(Begun {
            translation: Some(translation),
            headers,
            what,
        });
    }
    let streaming = translation.found.method.server_streaming();
    let mut stream = JsonStream::new(translation, body);
    let what = if streaming {
        stream.read_first().await?
    } else {
        stream.read_only().await?
    };
    Ok(match what {
        Some(what) => Begun {
            translation: Some(stream.translation),
            headers,
            what,
        },
        None => Begun {
            translation: None,
            headers,
            what: What::Streaming(Box::new(stream)),
        },
    })
}

/// Answers a REST caller with what was begun.
pub(crate) fn answer(begun: Begun, mut call: Box<Call>) -> Response<AnswerBody> {
    let mut headers = begun.headers;
    match (begun.what, begun.translation) {
        (What::Ended(ended), Some(translation)) => finish(&ended, &translation, headers, call),
        (What::Whole(json), translation) => {
            call.grpc_status = Some(0);
            let head_only = translation.is_some_and(|translation| translation.head_only);
            whole(StatusCode::OK, json.into(), head_only, headers, call)
        }
        (What::Streaming(stream), _) => {
            call.http_status = 200;
            strip_grpc(&mut headers);
            headers.insert(
                CONTENT_TYPE,
                HeaderValue::from_static(stream.translation.format.content_type()),
            );
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            let head_only = stream.translation.head_only;
            let body = if head_only {
                AnswerBody::full(Bytes::new(), call)
            } else {
                AnswerBody::json(stream, call)
            };
            let mut response = Response::new(body);
            *response.headers_mut() = headers;
            response
        }
        (What::Ended(_), None) => whole(
            StatusCode::INTERNAL_SERVER_ERROR,
            Bytes::new(),
            true,
            headers,
            call,
        ),
    }
}

/// The answer to OPTIONS.
pub(crate) fn options(allow: &str, mut call: Box<Call>) -> Response<AnswerBody> {
    call.http_status = 204;
    let mut response = Response::new(AnswerBody::full(Bytes::new(), call));
    *response.status_mut() = StatusCode::NO_CONTENT;
    if let Ok(allow) = HeaderValue::from_str(allow) {
        response.headers_mut().insert(ALLOW, allow);
    }
    response
}

/// The service's own error, as JSON with the HTTP status of its code. A stream that ended well without a message is empty.
fn finish(
    ended: &rpc::Status,
    translation: &Translation,
    headers: HeaderMap,
    mut call: Box<Call>,
) -> Response<AnswerBody> {
    let code = Code::from_number(ended.code);
    call.grpc_status = u16::try_from(ended.code).ok();
    if code == Code::Ok && translation.found.method.server_streaming() {
        let Ending::Bytes(empty) = StreamWriter::new(translation.format).end() else {
            return whole(StatusCode::OK, Bytes::new(), false, headers, call);
        };
        let mut response = whole(StatusCode::OK, empty.into(), translation.head_only, headers, call);
        response.headers_mut().insert(
            CONTENT_TYPE,
            HeaderValue::from_static(translation.format.content_type()),
        );
        return response;
    }
    let http = StatusCode::from_u16(code.http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = status::body(ended, translation.schema.as_deref());
    whole(http, body.into(), translation.head_only, headers, call)
}

fn whole(
    status: StatusCode,
    body: Bytes,
    head_only: bool,
    mut headers: HeaderMap,
    mut call: Box<Call>,
) -> Response<AnswerBody> {
    strip_grpc(&mut headers);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    call.http_status = status.as_u16();
    let mut response = Response::new(AnswerBody::full(
        if head_only { Bytes::new() } else { body },
        call,
    ));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Takes away what is the protocol's and not the service's own metadata.
fn strip_grpc(headers: &mut HeaderMap) {
    headers.remove(CONTENT_TYPE);
    headers.remove(CONTENT_LENGTH);
    let names: Vec<_> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("grpc-"))
        .cloned()
        .collect();
    for name in names {
        headers.remove(name);
    }
}

/// How a call ended, by its trailers, or by the head of an answer that has nothing else.
fn status_of(headers: &HeaderMap, http: StatusCode) -> rpc::Status {
    let bytes = |name: HeaderName| headers.get(name).map(HeaderValue::as_bytes);
    if headers.contains_key(GRPC_STATUS) {
        let code = bytes(GRPC_STATUS).filter(|_| headers.get_all(GRPC_STATUS).iter().count() == 1);
        return status::from_trailers(code, bytes(GRPC_MESSAGE), bytes(GRPC_STATUS_DETAILS));
    }
    let code = if http == StatusCode::OK {
        Code::Unknown
    } else {
        Code::from_http(http.as_u16())
    };
    let message = format!(
        "the service answered HTTP {} without a gRPC status",
        http.as_u16()
    );
    rpc::Status {
        code: code.number(),
        message,
        details: Vec::new(),
    }
}
