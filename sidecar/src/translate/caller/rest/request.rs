//! The request of a REST caller: what its head says, and its body by what the method takes.
//!
//! | the method takes | JSON | a form | anything else |
//! |---|---|---|---|
//! | a message | the message | its fields | 415 |
//! | `google.api.HttpBody` | carried as it is | its file | carried as it is |
//! | a stream of messages | an array, or one a line | 415 | 415 |
//! | a stream of `google.api.HttpBody` | in pieces | its file, in pieces | in pieces |

use std::rc::Rc;

use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, Method};
use mesh_transcode::form::Field;
use mesh_transcode::multipart::{self, Event, Multipart};

use super::upload::Upload;
use super::{Caller, metadata};
use crate::coding::Coding;
use crate::headers;
use crate::reason::{Reason, Rejection};
use crate::translate::Context;
use crate::translate::request::{Inlet, Requests, too_large};

impl Caller {
    /// Reads the request.
    ///
    /// # Errors
    /// It does not fit the method, is too large, or does not come.
    pub(in crate::translate::caller) async fn request(
        &mut self,
        head: &mut Parts,
        inlet: Inlet,
        context: &Context,
    ) -> Result<Requests, Rejection> {
        let asked = self.read(head, inlet, context).await;
        asked.map_err(|rejection| self.with_what_is_read(rejection, &head.method))
    }

    /// Who sent what is not read is told what is (RFC 5789 3.1; Accept-Post; RFC 9110 15.5.16).
    fn with_what_is_read(&self, rejection: Rejection, method: &Method) -> Rejection {
        if rejection.reason != Reason::ContentTypeUnknown
            || rejection.instead.is_some()
            || self.found.request_body_is_http_body()
            || !self.found.takes_body()
        {
            return rejection;
        }
        let name = match *method {
            Method::POST => headers::ACCEPT_POST,
            Method::PATCH => headers::ACCEPT_PATCH,
            _ => ACCEPT,
        };
        let read = if self.found.method.client_streaming() {
            "application/json, application/x-ndjson"
        } else if self.found.takes_form() {
            "application/json, multipart/form-data"
        } else {
            "application/json"
        };
        rejection.or_instead(name, read)
    }

    async fn read(
        &mut self,
        head: &mut Parts,
        inlet: Inlet,
        context: &Context,
    ) -> Result<Requests, Rejection> {
        self.bind_headers(&head.headers, context)?;
        metadata::inward(&mut head.headers, context.rest.strip_metadata_prefix)?;
        let content_type = content_type(&head.headers)?.map(str::to_owned);
        let content_type = content_type.as_deref();
        // What nobody reads need not be readable.
        let ignored = context.options.ignore_excess_body && !self.found.takes_body();
        let inlet = if ignored {
            head.headers.remove(CONTENT_ENCODING);
            inlet
        } else {
            plain(&mut head.headers, inlet)?
        };
        let query = head.uri.query().unwrap_or_default();
        let boundary = content_type
            .filter(|_| !ignored)
            .map(multipart::boundary)
            .transpose()?
            .flatten();
        if self.found.method.client_streaming() {
            let kind = (content_type, boundary.as_deref());
            let options = Rc::new(context.options.clone());
            let mut upload = Upload::new(self.found.clone(), options, query, kind, inlet)?;
            self.dropping = Some(upload.dropped());
            // Where both sides speak at once, the service may be the first to.
            if !self.is_stream() {
                upload.look_ahead().await?;
            }
            return Ok(Requests::Rest(Box::new(upload)));
        }
        let bytes_max = context.options.limits.message_bytes;
        if inlet.expects_more_than(bytes_max) {
            return Err(too_large(bytes_max));
        }
        let mut dropped = Vec::new();
        let message = if let Some(boundary) = boundary {
            let fields = form(inlet, &boundary, bytes_max).await?;
            self.found.form(query, &fields, &context.options, &mut dropped)?
        } else if self.found.request_body_is_http_body() {
            let whole = inlet.whole(bytes_max).await?;
            let content_type = content_type.unwrap_or_default();
            self.found
                .http_body_first(query, content_type, &whole, &context.options, &mut dropped)?
        } else {
            self.one(query, content_type, inlet, context, &mut dropped)
                .await?
        };
        self.dropped = metadata::dropped(dropped.iter().map(String::as_str));
        Ok(Requests::One(Some(message.into())))
    }

    async fn one(
        &self,
        query: &str,
        content_type: Option<&str>,
        mut inlet: Inlet,
        context: &Context,
        dropped: &mut Vec<String>,
    ) -> Result<Vec<u8>, Rejection> {
        let mut reader = self.found.begin(query, content_type, &context.options)?;
        reader.expect(inlet.expects(context.options.limits.message_bytes));
        while let Some(data) = inlet.data().await? {
            reader.push(&data)?;
        }
        let message = reader.finish()?;
        dropped.extend(reader.dropped().map(str::to_owned));
        Ok(message)
    }
}

/// The content type, if there is one.
fn content_type(headers: &HeaderMap) -> Result<Option<&str>, Rejection> {
    let refuse = |why: &str| Err(Rejection::new(Reason::ContentTypeUnknown, why));
    match headers.get_all(CONTENT_TYPE).iter().count() {
        0 => Ok(None),
        1 => match headers::single(headers, &CONTENT_TYPE) {
            Some(content_type) => Ok(Some(content_type)),
            None => refuse("the content type cannot be read"),
        },
        _ => refuse("content-type stands twice"),
    }
}

/// The body as it was before it was compressed. What is unpacked here is not told on.
fn plain(headers: &mut HeaderMap, inlet: Inlet) -> Result<Inlet, Rejection> {
    if !headers.contains_key(CONTENT_ENCODING) {
        return Ok(inlet);
    }
    let coding = Coding::of_content(headers::single(headers, &CONTENT_ENCODING).unwrap_or_default())
        .map_err(|why| {
            Rejection::new(Reason::ContentTypeUnknown, why).or_instead(ACCEPT_ENCODING, Coding::READ)
        })?;
    headers.remove(CONTENT_ENCODING);
    Ok(match coding {
        Some(coding) => inlet.unpacked(coding),
        None => inlet,
    })
}

/// All parts of a form that is one message.
async fn form(mut inlet: Inlet, boundary: &str, bytes_max: usize) -> Result<Vec<Field>, Rejection> {
    let mut multipart = Multipart::new(boundary);
    let mut fields: Vec<Field> = Vec::new();
    let mut bytes = 0;
    while let Some(data) = inlet.data().await? {
        bytes += data.len();
        if bytes > bytes_max {
            return Err(too_large(bytes_max));
        }
        multipart.push(&data);
        while let Some(event) = multipart.next()? {
            match (event, fields.last_mut()) {
                (Event::Part(part), _) => fields.push(Field {
                    part,
                    data: Vec::new(),
                }),
                (Event::Data(data), Some(field)) => field.data.extend_from_slice(&data),
                (Event::Data(_), None) | (Event::End, _) => {}
            }
        }
    }
    multipart.finish()?;
    Ok(fields)
}
