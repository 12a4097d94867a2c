//! Replies: messages as JSON, and errors as statuses.

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use mesh_proto::google::rpc;
use prost::Message;
use prost_reflect::prost_types::Any;

use super::*;
use crate::status::{self, Code, STATUS_MESSAGE_BYTES_MAX};

/// One field on the wire: key, length, content.
fn field(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::encode_varint(u64::from(number << 3 | 2), &mut out);
    prost::encoding::encode_varint(content.len() as u64, &mut out);
    out.extend_from_slice(content);
    out
}

fn reply(message: &[u8]) -> Result<String, Refusal> {
    let json = found("GET", "/v1/things/x").response(message, &Options::default())?;
    Ok(String::from_utf8(json).unwrap())
}

#[track_caller]
fn unsayable(message: &[u8], why: &str) {
    let refusal = reply(message).expect_err(why);
    assert_eq!((refusal.http, refusal.code), (500, Code::Internal), "{refusal:?}");
    assert!(refusal.message.contains(why), "{refusal:?}");
}

#[test]
fn fields_with_default_values_are_left_out_and_those_with_presence_are_not() {
    assert_eq!(reply(b"").unwrap(), "{}");
    assert_eq!(
        made(r#"{"number": 0, "text": "", "perhaps": 0, "word": 0}"#).unwrap(),
        r#"{"perhaps":0}"#
    );
}

#[test]
fn a_default_value_is_left_out_even_if_the_service_sent_it() {
    // text "", number 0, long 0 in two bytes, real 0.0, small 0.0, truth false, data "", word 0, number 0 in the lower half
    let sent = b"\x0a\x00\x10\x00\x18\x80\x00\x29\0\0\0\0\0\0\0\0\x35\0\0\0\0\x38\x00\x42\x00\x48\x00";
    assert_eq!(reply(sent).unwrap(), "{}");
    assert_eq!(reply(b"\x10\x80\x80\x80\x80\x10").unwrap(), "{}");
    assert_eq!(
        reply(b"\x10\x05\x0a\x00\x10\x00\x88\x01\x00").unwrap(),
        r#"{"perhaps":0}"#
    );
    let all = Options {
        print_defaults: true,
        ..Options::default()
    };
    let json = found("GET", "/v1/things/x").response(sent, &all).unwrap();
    assert_eq!(json, found("GET", "/v1/things/x").response(b"", &all).unwrap());
}

#[test]
fn times_have_0_3_6_or_9_digits() {
    for (text, written) in [
        ("2024-05-01T12:00:00Z", "2024-05-01T12:00:00Z"),
        ("2024-05-01T12:00:00.1Z", "2024-05-01T12:00:00.100Z"),
        ("2024-05-01T12:00:00.00001Z", "2024-05-01T12:00:00.000010Z"),
        ("0001-01-01T00:00:00.000000001Z", "0001-01-01T00:00:00.000000001Z"),
    ] {
        assert_eq!(
            made(&format!(r#"{{"at": "{text}"}}"#)).unwrap(),
            format!(r#"{{"at":"{written}"}}"#)
        );
    }
    assert_eq!(made(r#"{"lasts": "-0.01s"}"#).unwrap(), r#"{"lasts":"-0.010s"}"#);
}

#[test]
fn maps_are_written_in_the_order_of_their_keys() {
    let body = r#"{"byNumber": {"10": "c", "-1": "a", "2": "b"}}"#;
    assert_eq!(made(body).unwrap(), r#"{"byNumber":{"-1":"a","2":"b","10":"c"}}"#);
}

#[test]
fn text_is_escaped_and_stays_on_one_line() {
    let body = r#"{"text": "a\n\"\u0001\u2028<"}"#;
    let written = made(body).unwrap();
    assert!(!written.contains('\n'));
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&written).unwrap()["text"],
        "a\n\"\u{1}\u{2028}<"
    );
}

#[test]
fn response_body_may_be_any_field_present_or_not() {
    let respond = |http_method: &str, path: &str, message: &[u8]| {
        let json = found(http_method, path)
            .response(message, &Options::default())
            .unwrap();
        String::from_utf8(json).unwrap()
    };
    let message = found("POST", "/v1/things")
        .request(
            "",
            None,
            br#"{"text": "t", "numbers": [1], "names": {"a": {}}, "inner": {"size": 1}}"#,
            &Options::default(),
        )
        .unwrap();
    for (http_method, path, full, empty) in [
        ("GET", "/v1/owners/a/things/b", r#"{"size":1}"#, "null"),
        ("GET", "/v1/counts/1", "[1]", "[]"),
        ("GET", "/v1/words/1", r#""t""#, r#""""#),
        ("POST", "/v1/names", r#"{"a":{}}"#, "{}"),
    ] {
        assert_eq!(respond(http_method, path, &message), full);
        assert_eq!(respond(http_method, path, b""), empty);
    }
}

#[test]
fn a_reply_that_is_not_the_message_of_the_schema_is_500() {
    unsayable(b"\xff", "not the message");
    unsayable(&field(1, b"\xff"), "not the message");
    unsayable(b"\x0a\x05ab", "not the message");
}

#[test]
fn a_reply_that_json_cannot_say_is_500() {
    unsayable(&field(18, b"\x08\xff\xff\xff\xff\xff\xff\x7f"), "Timestamp");
    unsayable(
        &field(18, b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        "Timestamp",
    );
    unsayable(
        &field(19, b"\x08\x01\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        "Duration",
    );
    unsayable(&field(20, &field(1, b"Foo")), "FieldMask");
    unsayable(&field(20, &field(1, b"a__b")), "FieldMask");
    unsayable(&field(22, b"\x11\0\0\0\0\0\0\xf0\x7f"), "finite");
    unsayable(&field(24, &field(1, b"x/lab.Nothing")), "schema does not know");
    unsayable(
        &field(24, &[field(1, b"x/lab.Inner"), field(2, b"\xff")].concat()),
        "does not hold",
    );
}

#[test]
fn a_reply_over_the_limit_is_500() {
    let mut options = Options::default();
    options.limits.message_bytes = 3;
    let refusal = found("GET", "/v1/things/x")
        .response(&field(1, b"abc"), &options)
        .unwrap_err();
    assert_eq!((refusal.http, refusal.code), (500, Code::Internal));
}

#[test]
fn what_the_schema_does_not_know_in_a_reply_is_left_out() {
    assert_eq!(
        reply(&[field(99, b"x"), field(1, b"a")].concat()).unwrap(),
        r#"{"text":"a"}"#
    );
}

/// An `Inner` whose `any` holds an `Inner` whose `any` holds …
fn any_of_depth(depth: usize) -> Vec<u8> {
    let url = field(1, b"type.googleapis.com/lab.Inner");
    let mut inner = Vec::new();
    for _ in 0..depth {
        let any = [url.clone(), field(2, &inner)].concat();
        inner = field(4, &any);
    }
    inner
}

#[test]
fn nested_any_is_written_to_depth_16_and_never_ends_the_process() {
    let reply_of = |depth: usize| {
        // The outermost Any is field 24 of Everything, not 4 of Inner.
        let any = [
            field(1, b"type.googleapis.com/lab.Inner"),
            field(2, &any_of_depth(depth - 1)),
        ]
        .concat();
        reply(&field(24, &any))
    };
    for depth in [1, 10, 16] {
        assert!(reply_of(depth).is_ok(), "{depth}");
    }
    for depth in [17, 100, 8000, 20_000] {
        let refusal = reply_of(depth).unwrap_err();
        assert_eq!((refusal.http, refusal.code), (500, Code::Internal), "{depth}");
    }
}

#[test]
fn a_nested_any_in_error_details_is_kept_as_base64_and_never_ends_the_process() {
    for depth in [1, 20, 8000] {
        let detail = Any {
            type_url: "type.googleapis.com/lab.Inner".into(),
            value: any_of_depth(depth),
        };
        let status = rpc::Status {
            code: 5,
            message: "m".into(),
            details: vec![detail.clone()],
        };
        let body: serde_json::Value = serde_json::from_slice(&status::body(&status, Some(&lab()))).unwrap();
        assert_eq!(body["details"][0]["@type"], "type.googleapis.com/lab.Inner");
        if depth > 1 {
            assert_eq!(body["details"][0]["value"], BASE64_STANDARD.encode(&detail.value));
        }
    }
}

#[test]
fn depth_counts_through_any_and_is_not_reset_by_it() {
    // 15 levels of Any with 9 levels of Inner in each are 150 messages: over 100, though no decoder sees more than 10.
    let mut inner = Vec::new();
    for _ in 0..15 {
        let any = [field(1, b"x/lab.Inner"), field(2, &inner)].concat();
        inner = field(4, &any);
        for _ in 0..9 {
            inner = field(3, &inner);
        }
    }
    unsayable(&field(10, &inner), "nest deeper");
}

#[test]
fn every_code_has_the_http_status_of_the_table() {
    let table = [
        200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401,
    ];
    for (number, http) in (0..).zip(table) {
        assert_eq!(Code::from_number(number).http(), http, "{number}");
        assert_eq!(Code::from_number(number).number(), number);
    }
    for strange in [-1, 17, 99, i32::MIN, i32::MAX] {
        assert_eq!(Code::from_number(strange), Code::Unknown);
    }
}

#[test]
fn every_http_status_without_grpc_status_has_the_code_of_the_table() {
    for (http, code) in [
        (400, 13),
        (401, 16),
        (403, 7),
        (404, 12),
        (429, 14),
        (431, 13),
        (502, 14),
        (503, 14),
        (504, 14),
        (200, 2),
        (301, 2),
        (418, 2),
        (500, 2),
    ] {
        assert_eq!(Code::from_http(http).number(), code, "{http}");
    }
}

#[test]
fn a_grpc_status_that_is_none_is_unknown() {
    for (text, code) in [
        (Some("5"), 5),
        (Some("0"), 0),
        (Some("16"), 16),
        (Some("99"), 2),
        (Some("-1"), 2),
        (Some("007"), 2),
        (Some("+5"), 2),
        (Some(""), 2),
        (Some("5 "), 2),
        (Some("x"), 2),
        (None, 2),
    ] {
        assert_eq!(
            status::from_trailers(text.map(str::as_bytes), None, None).code,
            code,
            "{text:?}"
        );
    }
}

#[test]
fn a_grpc_message_is_decoded_where_it_can_be_and_cut_where_it_is_long() {
    let message = |text: &[u8]| status::from_trailers(Some(b"5"), Some(text), None).message;
    assert_eq!(message(b"no such thing: %E2%82%AC 5%25"), "no such thing: € 5%");
    assert_eq!(message(b"100% sure %zz %"), "100% sure %zz %");
    assert_eq!(message(b"\xff%ff"), "\u{fffd}\u{fffd}");
    assert_eq!(message(&[b'a'; 1 << 20]).len(), STATUS_MESSAGE_BYTES_MAX);
    let euros = "€".repeat(STATUS_MESSAGE_BYTES_MAX);
    assert!(message(euros.as_bytes()).len() <= STATUS_MESSAGE_BYTES_MAX);
}

#[test]
fn a_grpc_message_is_written_as_printable_ascii() {
    assert_eq!(
        status::encode_message("50% of €\r\nx: y"),
        "50%25 of %E2%82%AC%0D%0Ax: y"
    );
    assert!(status::encode_message(&"€".repeat(10_000)).len() <= STATUS_MESSAGE_BYTES_MAX);
    for text in ["", "a b", "50% of €\r\n~\u{7f}\0"] {
        assert_eq!(
            status::decode_message(status::encode_message(text).as_bytes()),
            text
        );
    }
}

#[test]
fn details_come_from_the_trailer_padded_or_not_and_the_code_stays_that_of_the_call() {
    let detailed = rpc::Status {
        code: 5,
        message: "there is no ACME".into(),
        details: vec![Any {
            type_url: "x/y".into(),
            value: vec![1],
        }],
    };
    let bytes = detailed.encode_to_vec();
    for text in [
        BASE64_STANDARD.encode(&bytes),
        BASE64_STANDARD_NO_PAD.encode(&bytes),
    ] {
        let status = status::from_trailers(Some(b"5"), Some(b"short"), Some(text.as_bytes()));
        assert_eq!(status, detailed);
        let status = status::from_trailers(Some(b"7"), None, Some(text.as_bytes()));
        assert_eq!(status.code, 7);
    }
    for bad in ["?", "////", ""] {
        let status = status::from_trailers(Some(b"5"), Some(b"short"), Some(bad.as_bytes()));
        assert_eq!((status.code, status.message.as_str()), (5, "short"), "{bad}");
    }
}

#[test]
fn a_detail_of_unknown_type_is_kept_as_base64() {
    let status = rpc::Status {
        code: 5,
        message: "m".into(),
        details: vec![
            Any {
                type_url: "type.googleapis.com/some.Unknown".into(),
                value: vec![0xfb, 0xff],
            },
            Any {
                type_url: "type.googleapis.com/google.rpc.ErrorInfo".into(),
                value: rpc::ErrorInfo {
                    reason: "R".into(),
                    ..Default::default()
                }
                .encode_to_vec(),
            },
        ],
    };
    let body = String::from_utf8(status::body(&status, None)).unwrap();
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["details"][0]["@type"], "type.googleapis.com/some.Unknown");
    assert_eq!(body["details"][0]["value"], "+/8=");
    assert_eq!(body["details"][1]["reason"], "R");
}

#[test]
fn the_body_of_an_error_always_has_its_three_parts() {
    let body = status::body(&Refusal::not_found().to_status(), None);
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["code"], 5);
    assert!(body["message"].is_string());
    assert_eq!(body["details"], serde_json::json!([]));
}
