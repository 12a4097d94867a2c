//! What an HTTP service means by an answer that is none: a status.

use std::sync::OnceLock;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use mesh_proto::google::rpc;
use serde_json::{Map, Value};

use crate::message::MessageType;
use crate::schema::Schema;
use crate::status::{Code, STATUS_MESSAGE_BYTES_MAX};
use crate::table::Special;
use crate::{Options, UnknownInput};

/// Most details that are kept.
const DETAILS_MAX: usize = 64;

/// The status of an HTTP answer that is an error, or no answer to an RPC: what its JSON says, in one of the forms that are
/// in use, and otherwise what its HTTP status stands for.
///
/// ```text
///  {"code": 5, "message": …, "details": […]}      google.rpc.Status, as we write it ourselves
///  {"error": {"code": 404, "message": …, "status": "NOT_FOUND"}}     the same in an envelope, with HTTP's code
///  {"title": …, "detail": …}                      a problem document
///  {"message": …}, {"error": …}                   what people write
/// ```
#[must_use]
pub fn status(http: u16, body: &[u8], schema: Option<&Schema>) -> rpc::Status {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    of_value(&value, schema, Code::from_http(http)).unwrap_or_else(|| rpc::Status {
        code: Code::from_http(http).number(),
        message: format!("the service answered HTTP {http}"),
        details: Vec::new(),
    })
}

/// The status that a JSON value is, if it is one.
pub(super) fn of_value(value: &Value, schema: Option<&Schema>, otherwise: Code) -> Option<rpc::Status> {
    let envelope = value.as_object()?;
    let status = envelope
        .get("error")
        .and_then(Value::as_object)
        .unwrap_or(envelope);
    let text = |name: &str| {
        status
            .get(name)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    let number = status.get("code").and_then(Value::as_i64);
    let by_number = number.filter(|number| (1..=16).contains(number));
    let by_number = by_number.and_then(|number| i32::try_from(number).ok());
    let by_name = || {
        let name = text("status").or_else(|| text("code"))?;
        Code::ALL
            .iter()
            .find(|code| code.name().eq_ignore_ascii_case(name) && **code != Code::Ok)
    };
    let code = by_number.map(Code::from_number).or_else(|| by_name().copied());
    let message = ["message", "error", "detail", "title"].into_iter().find_map(text);
    if code.is_none() && message.is_none() {
        return None;
    }
    let details = status.get("details").and_then(Value::as_array);
    Some(rpc::Status {
        code: code.unwrap_or(otherwise).number(),
        message: cut(message.unwrap_or_default()),
        details: details
            .into_iter()
            .flatten()
            .take(DETAILS_MAX)
            .filter_map(|detail| any(detail, schema))
            .collect(),
    })
}

/// A detail: by the schema that was given or by our own, or as base64, which is how one of an unknown type is told.
fn any(detail: &Value, schema: Option<&Schema>) -> Option<prost_reflect::prost_types::Any> {
    let members = detail.as_object()?;
    let type_url = members.get("@type")?.as_str()?;
    let name = type_url.rsplit('/').next()?;
    let known = [schema, own()]
        .into_iter()
        .flatten()
        .find_map(|schema| schema.message(name))
        .and_then(|message| of_type(members, &message));
    let in_base64 = || {
        let text = members.get("value")?.as_str().filter(|_| members.len() == 2)?;
        BASE64_STANDARD.decode(text).ok()
    };
    Some(prost_reflect::prost_types::Any {
        type_url: type_url.into(),
        value: known.or_else(in_base64)?,
    })
}

/// The members of an `Any` as this message: those of a type with a JSON form of its own stand under `value`.
fn of_type(members: &Map<String, Value>, message: &MessageType) -> Option<Vec<u8>> {
    let options = Options {
        unknown_fields: UnknownInput::Ignore,
        ..Options::default()
    };
    let special = message.tables.message(message.index).special;
    let json = if special == Special::None {
        let mut fields = members.clone();
        fields.remove("@type");
        Value::from(fields).to_string()
    } else {
        members.get("value")?.to_string()
    };
    message.to_wire(json.as_bytes(), &options).ok()
}

/// Details of the types this project writes itself.
fn own() -> Option<&'static Schema> {
    static OWN: OnceLock<Option<Schema>> = OnceLock::new();
    OWN.get_or_init(|| Schema::compile(mesh_proto::DESCRIPTORS).ok())
        .as_ref()
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(STATUS_MESSAGE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(http: u16, body: &str) -> (i32, String, usize) {
        let status = status(http, body.as_bytes(), None);
        (status.code, status.message, status.details.len())
    }

    #[test]
    fn errors_are_read_in_every_form_in_use() {
        for (http, body, code, message) in [
            (404, r#"{"code": 5, "message": "gone", "details": []}"#, 5, "gone"),
            (
                404,
                r#"{"error": {"code": 404, "message": "gone", "status": "NOT_FOUND"}}"#,
                5,
                "gone",
            ),
            (
                409,
                r#"{"code": "already_exists", "message": "there"}"#,
                6,
                "there",
            ),
            (
                400,
                r#"{"type": "about:blank", "title": "Bad", "detail": "no size"}"#,
                13,
                "no size",
            ),
            (503, r#"{"error": "later"}"#, 14, "later"),
            (403, r#"{"message": "no"}"#, 7, "no"),
            (500, r#"{"code": 0, "message": "odd"}"#, 2, "odd"),
            (500, r#"{"code": 17, "message": "odd"}"#, 2, "odd"),
        ] {
            assert_eq!(told(http, body), (code, message.to_owned(), 0), "{body}");
        }
    }

    #[test]
    fn without_words_the_http_status_is_what_there_is() {
        for (http, code) in [
            (400, 13),
            (401, 16),
            (403, 7),
            (404, 12),
            (429, 14),
            (431, 13),
            (500, 2),
            (502, 14),
            (503, 14),
            (504, 14),
            (302, 2),
            (418, 2),
        ] {
            for body in ["", "<html>", "[]", "null", "{}", "7"] {
                assert_eq!(
                    told(http, body),
                    (code, format!("the service answered HTTP {http}"), 0)
                );
            }
        }
    }

    #[test]
    fn details_of_unknown_types_come_in_base64_and_what_is_no_detail_is_left_out() {
        let body = r#"{"code": 3, "details": [
            {"@type": "type.googleapis.com/some.Type", "value": "AAH+"},
            {"@type": "type.googleapis.com/some.Type", "field": 1}, {"value": ""}, 7]}"#;
        let status = status(400, body.as_bytes(), None);
        assert_eq!(status.details.len(), 1);
        assert_eq!(status.details[0].value, [0, 1, 0xfe]);
    }

    #[test]
    fn details_that_we_write_ourselves_are_read_back() {
        let body = r#"{"code": 3, "message": "m", "details": [
            {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "R", "domain": "d", "new": 1}]}"#;
        let status = status(400, body.as_bytes(), None);
        let info = <rpc::ErrorInfo as prost::Message>::decode(status.details[0].value.as_slice()).unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("R", "d"));
    }
}
