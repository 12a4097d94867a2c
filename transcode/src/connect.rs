//! Connect: unary calls as plain HTTP, streams in gRPC's envelopes with a last one that tells the end.
//!
//! ```text
//!  unary    message | {"code", "message", "details"} with the HTTP status of the code
//!  GET      ?connect=v1&encoding=json&message=…      for methods without side effects
//!  stream   0 length message  0 length message  …  2 length {"error": …, "metadata": {…}}
//! ```

use std::time::Duration;

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_STANDARD_NO_PAD;
use mesh_proto::google::rpc;
use serde_json::{Map, Value, json};

use crate::frame::{FrameError, HEADER_BYTES};
use crate::percent::{self, Decode};
use crate::refusal::Refusal;
use crate::status::Code;

/// The flag of the envelope that ends a stream.
const END: u8 = 2;
/// Most digits of a timeout in milliseconds.
const TIMEOUT_DIGITS_MAX: usize = 10;
/// Before the type's name in a detail.
const TYPE_PREFIX: &str = "type.googleapis.com/";
/// Messages in URLs come with and without padding.
const URL_BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A code as Connect writes it: `not_found`.
#[must_use]
pub fn code(code: Code) -> String {
    match code {
        Code::Cancelled => "canceled".into(),
        other => other.name().to_ascii_lowercase(),
    }
}

/// An error as the body of a unary answer.
#[must_use]
pub fn error(status: &rpc::Status) -> Vec<u8> {
    error_value(status).to_string().into_bytes()
}

fn error_value(status: &rpc::Status) -> Value {
    let mut error = Map::new();
    error.insert("code".into(), code(Code::from_number(status.code)).into());
    if !status.message.is_empty() {
        error.insert("message".into(), status.message.clone().into());
    }
    if !status.details.is_empty() {
        let detail = |any: &prost_reflect::prost_types::Any| {
            let name = any.type_url.strip_prefix(TYPE_PREFIX).unwrap_or(&any.type_url);
            json!({"type": name, "value": BASE64_STANDARD_NO_PAD.encode(&any.value)})
        };
        let details: Vec<Value> = status.details.iter().map(detail).collect();
        error.insert("details".into(), details.into());
    }
    error.into()
}

/// The envelope that ends a stream: an error unless it ended well, and the trailing metadata. A value that is no text is
/// left out: JSON has no form for it.
///
/// # Errors
/// It is over 4 GiB.
pub fn end<'a>(
    status: &rpc::Status,
    metadata: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> Result<Vec<u8>, FrameError> {
    let mut trailing: Map<String, Value> = Map::new();
    for (name, value) in metadata {
        if let Ok(value) = std::str::from_utf8(value) {
            let values = trailing.entry(name).or_insert_with(|| json!([]));
            if let Value::Array(values) = values {
                values.push(value.into());
            }
        }
    }
    let mut end = Map::new();
    if status.code != 0 {
        end.insert("error".into(), error_value(status));
    }
    if !trailing.is_empty() {
        end.insert("metadata".into(), trailing.into());
    }
    let json = Value::from(end).to_string();
    let length = u32::try_from(json.len()).map_err(|_| FrameError::TooLarge {
        bytes: json.len(),
        bytes_max: u32::MAX as usize,
    })?;
    let mut envelope = Vec::with_capacity(HEADER_BYTES + json.len());
    envelope.push(END);
    envelope.extend_from_slice(&length.to_be_bytes());
    envelope.extend_from_slice(json.as_bytes());
    Ok(envelope)
}

/// Reads `connect-timeout-ms`.
#[must_use]
pub fn timeout(text: &str) -> Option<Duration> {
    let fits =
        (1..=TIMEOUT_DIGITS_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    fits.then(|| text.parse().ok().map(Duration::from_millis))
        .flatten()
}

/// What the query of a unary GET says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Get {
    /// Whether the message is JSON, or else protobuf.
    pub json: bool,
    /// Whether it is compressed with gzip.
    pub gzip: bool,
    /// The message, as it was sent.
    pub message: Vec<u8>,
}

impl Get {
    /// Whether a raw query is that of a Connect call. The path must name a method as well.
    #[must_use]
    pub fn is(query: &str) -> bool {
        let has = |wanted: &str| {
            query
                .split('&')
                .any(|piece| piece.split('=').next() == Some(wanted))
        };
        query.split('&').any(|piece| piece.starts_with("connect=")) || (has("encoding") && has("message"))
    }

    /// Reads a raw query. Parameters of other names are nobody's and passed over.
    ///
    /// # Errors
    /// 400: a parameter is missing, stands twice or cannot be read; 415: an encoding that is not known.
    pub fn parse(query: &str) -> Result<Self, Refusal> {
        let [version, encoding, message, base64, compression] =
            values(query, ["connect", "encoding", "message", "base64", "compression"])?;
        let bad = |name: &str, why: String| Err(Refusal::bad_request(why).at_field(name));
        if version.as_deref().is_some_and(|version| version != "v1") {
            return bad("connect", "must be v1".into());
        }
        let json = match encoding.as_deref() {
            Some("json") => true,
            Some("proto") => false,
            Some(_) => {
                return Err(Refusal::unsupported_encoding("must be json or proto").at_field("encoding"));
            }
            None => return bad("encoding", "is missing; write json or proto".into()),
        };
        let gzip = match compression.as_deref() {
            None | Some("" | "identity") => false,
            Some(crate::gzip::NAME) => true,
            Some(_) => return bad("compression", "must be identity or gzip".into()),
        };
        let Some(message) = message else {
            return bad("message", "is missing".into());
        };
        let message = match base64.as_deref() {
            None | Some("" | "0") => message.into_bytes(),
            Some("1") => match URL_BASE64.decode(&message) {
                Ok(message) => message,
                Err(_) => return bad("message", "is not url-safe base64".into()),
            },
            Some(_) => return bad("base64", "must be 1".into()),
        };
        Ok(Self { json, gzip, message })
    }
}

/// The values of parameters that stand at most once.
fn values<const N: usize>(query: &str, names: [&str; N]) -> Result<[Option<String>; N], Refusal> {
    let mut values = [const { None }; N];
    for piece in query.split('&') {
        let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
        let Some((name, slot)) = names.iter().zip(&mut values).find(|(known, _)| **known == name) else {
            continue;
        };
        let value = percent::decode(&value.replace('+', " "), Decode::All)
            .map(std::borrow::Cow::into_owned)
            .map_err(|why| Refusal::bad_request(why).at_field(*name))?;
        if slot.replace(value).is_some() {
            return Err(Refusal::bad_request("stands twice").at_field(*name));
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: i32, message: &str) -> rpc::Status {
        rpc::Status {
            code,
            message: message.into(),
            details: Vec::new(),
        }
    }

    #[test]
    fn codes_are_lower_case_words() {
        assert_eq!(code(Code::Cancelled), "canceled");
        assert_eq!(code(Code::InvalidArgument), "invalid_argument");
        assert_eq!(code(Code::Unauthenticated), "unauthenticated");
    }

    #[test]
    fn an_error_keeps_its_details_whatever_their_type() {
        let mut not_found = status(5, "no \"ACME\"");
        not_found.details = vec![prost_reflect::prost_types::Any {
            type_url: "type.googleapis.com/some.Unknown".into(),
            value: vec![0, 1, 0xfe],
        }];
        let error: Value = serde_json::from_slice(&error(&not_found)).unwrap();
        assert_eq!(
            error,
            json!({"code": "not_found", "message": "no \"ACME\"", "details": [{"type": "some.Unknown", "value": "AAH+"}]})
        );
    }

    fn ended(envelope: &[u8]) -> Value {
        assert_eq!(envelope[0], 2);
        let length = u32::from_be_bytes(envelope[1..5].try_into().unwrap());
        assert_eq!(usize::try_from(length).unwrap(), envelope.len() - 5);
        serde_json::from_slice(&envelope[5..]).unwrap()
    }

    #[test]
    fn a_stream_ends_with_its_error_and_its_metadata() {
        assert_eq!(ended(&end(&status(0, ""), []).unwrap()), json!({}));
        let metadata = [
            ("x-a", &b"1"[..]),
            ("x-b", b"2"),
            ("x-a", b"3"),
            ("x-bad", b"\xff"),
        ];
        assert_eq!(
            ended(&end(&status(14, "later"), metadata).unwrap()),
            json!({
                "error": {"code": "unavailable", "message": "later"},
                "metadata": {"x-a": ["1", "3"], "x-b": ["2"]},
            })
        );
    }

    #[test]
    fn timeouts_are_up_to_ten_digits() {
        assert_eq!(timeout("0"), Some(Duration::ZERO));
        assert_eq!(timeout("1500"), Some(Duration::from_millis(1500)));
        assert_eq!(timeout("9999999999"), Some(Duration::from_millis(9_999_999_999)));
        for bad in ["", "-1", "1.5", " 1", "1s", "+1", "12345678901"] {
            assert_eq!(timeout(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_query_of_a_get_holds_the_message_plain_or_in_base64() {
        let get = Get::parse("connect=v1&encoding=json&message=%7B%22a%22:+1%7D&cache=7").unwrap();
        assert_eq!(
            (get.json, get.gzip, get.message.as_slice()),
            (true, false, &b"{\"a\": 1}"[..])
        );
        for message in ["-_8", "-_8=", "-_8%3D"] {
            let get = Get::parse(&format!(
                "message={message}&base64=1&encoding=proto&compression=gzip"
            ))
            .unwrap();
            assert_eq!((get.json, get.gzip, get.message), (false, true, vec![0xfb, 0xff]));
        }
        assert!(Get::parse("encoding=proto&message=").unwrap().message.is_empty());
    }

    #[test]
    fn a_query_that_is_none_is_refused_and_names_the_parameter() {
        for (query, field) in [
            ("connect=v2&encoding=json&message=", "connect"),
            ("connect=v1&message=", "encoding"),
            ("encoding=json", "message"),
            ("encoding=json&message=a&message=b", "message"),
            ("encoding=json&message=%zz", "message"),
            ("encoding=proto&message=%ff", "message"),
            ("encoding=proto&message=a+b%2F&base64=1", "message"),
            ("encoding=proto&message=&base64=yes", "base64"),
            ("encoding=proto&message=&compression=br", "compression"),
        ] {
            let refusal = Get::parse(query).unwrap_err();
            assert_eq!(
                (refusal.http, refusal.field.as_deref()),
                (400, Some(field)),
                "{query}"
            );
        }
    }

    #[test]
    fn an_encoding_that_is_not_known_is_an_unsupported_media_type() {
        let refusal = Get::parse("encoding=xml&message=").unwrap_err();
        assert_eq!((refusal.http, refusal.field.as_deref()), (415, Some("encoding")));
    }

    #[test]
    fn queries_of_rest_calls_are_told_apart() {
        assert!(Get::is("connect=v1&encoding=json&message=x"));
        assert!(Get::is("message=x&encoding=json"));
        assert!(!Get::is(""));
        assert!(!Get::is("message=x"));
        assert!(!Get::is("symbols=connect&encodings=1&messages=2"));
    }
}
