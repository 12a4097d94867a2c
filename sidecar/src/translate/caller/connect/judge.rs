//! What is judged of a Connect request by its head alone.

use http::header::CONTENT_TYPE;
use http::request::Parts;
use mesh_transcode::charset::is_utf8;

use super::{Form, VERSION};
use crate::headers;
use crate::reason::{Reason, Rejection};

/// Judges whether a caller speaks the version that is spoken here, where it tells one.
///
/// # Errors
/// It speaks another.
pub(crate) fn check_version(head: &Parts) -> Result<(), Rejection> {
    if head.headers.get_all(VERSION).iter().all(|version| version == "1") {
        return Ok(());
    }
    let message = format!("{VERSION} must be 1");
    Err(Rejection::new(Reason::RequestUnreadable, message))
}

/// Judges whether JSON comes in a charset that is read.
///
/// # Errors
/// 415, with what would be taken.
pub(crate) fn check_charset(form: Form, head: &Parts) -> Result<(), Rejection> {
    let told = headers::single(&head.headers, &CONTENT_TYPE).unwrap_or_default();
    if !form.json || is_utf8(told) {
        return Ok(());
    }
    let taken = if form.stream {
        "application/connect+json"
    } else {
        "application/json"
    };
    let message = format!("JSON is read in UTF-8; send it as {taken}");
    Err(Rejection::new(Reason::ContentTypeUnknown, message).or_instead(headers::ACCEPT_POST, taken))
}

/// Judges whether a caller's form is one the method has: streams in envelopes, and nothing else.
///
/// # Errors
/// 415, with what would be taken.
pub(crate) fn check_form(form: Form, method: &mesh_transcode::Method) -> Result<(), Rejection> {
    let streams = method.client_streaming() || method.server_streaming();
    if streams == form.stream {
        return Ok(());
    }
    let taken = if streams {
        "application/connect+proto, application/connect+json"
    } else {
        "application/proto, application/json"
    };
    let message = format!("{} takes {}", method.name(), taken.replace(", ", " or "));
    Err(Rejection::new(Reason::ContentTypeUnknown, message).or_instead(headers::ACCEPT_POST, taken))
}
