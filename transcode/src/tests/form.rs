//! Forms into messages, and entity tags out of them.

use std::sync::Arc;

use super::compile;
use crate::form::Field;
use crate::multipart::Part;
use crate::{Match, Options, Recognised, Refusal, Router, Schema};

const PROTO: &str = r#"
syntax = "proto3";
package form;
import "google/api/annotations.proto";
import "google/api/httpbody.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
service Forms {
  rpc Fields(Thing) returns (Thing) { option (google.api.http) = { post: "/fields/{title}" body: "*" additional_bindings { post: "/part" body: "inner" } }; }
  rpc Raw(google.api.HttpBody) returns (google.api.HttpBody) { option (google.api.http) = { post: "/raw" body: "*" }; }
  rpc File(Upload) returns (Thing) { option (google.api.http) = { post: "/files/{name}" body: "file" }; }
}
message Thing {
  string title = 1; int64 count = 2; bool good = 3; bytes data = 4; Word word = 5; repeated string tags = 6;
  Inner inner = 7; google.protobuf.Timestamp at = 8; google.protobuf.BoolValue maybe = 9; google.protobuf.Struct free = 10;
  google.api.HttpBody file = 11; map<string, int32> numbers = 12; string etag = 13;
}
message Inner { string name = 1; }
message Upload { string name = 1; google.api.HttpBody file = 2; int32 version = 3; }
enum Word { WORD_UNSPECIFIED = 0; WORD_YES = 1; }
"#;

fn schema() -> Arc<Schema> {
    Arc::new(Schema::compile(&compile("form.proto", PROTO)).unwrap())
}

fn found(path: &str) -> Match<()> {
    match Router::build([((), schema())]).0.recognise("POST", path) {
        Recognised::Found(found) => found,
        other => panic!("{other:?}"),
    }
}

fn field(name: &str, file: Option<&str>, content_type: Option<&str>, data: &str) -> Field {
    Field {
        part: Part {
            name: name.into(),
            file_name: file.map(str::to_owned),
            content_type: content_type.map(str::to_owned),
        },
        data: data.into(),
    }
}

fn text(name: &str, data: &str) -> Field {
    field(name, None, None, data)
}

/// The message that a form makes, as JSON.
fn made(path: &str, query: &str, message: &str, fields: &[Field]) -> Result<String, Refusal> {
    let wire = found(path).form(query, fields, &Options::default(), &mut Vec::new())?;
    let mut json = Vec::new();
    let message = schema().message(message).unwrap();
    message.to_json(&wire, &Options::default(), &mut json)?;
    Ok(String::from_utf8(json).unwrap())
}

#[test]
fn a_part_is_a_field_of_the_body_in_the_type_of_that_field() {
    let json = made(
        "/fields/t",
        "",
        "form.Thing",
        &[
            text("count", "7"),
            text("good", "true"),
            field("data", Some("a.bin"), Some("image/png"), "abc"),
            text("word", "WORD_YES"),
            text("tags", "a,\"b\""),
            field("inner", None, Some("application/json"), " {\"name\": \"n\"} "),
            text("tags", "c"),
            text("at", "2024-01-02T03:04:05Z"),
            text("maybe", "false"),
            text("free", "{\"x\": [\"1\"]}"),
            field("file", Some("f.txt"), Some("text/plain"), "hi"),
            text("numbers", "{\"a\": 1}"),
        ],
    )
    .unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        json,
        serde_json::json!({
            "title": "t", "count": "7", "good": true, "data": "YWJj", "word": "WORD_YES", "tags": ["a,\"b\"", "c"],
            "inner": {"name": "n"}, "at": "2024-01-02T03:04:05Z", "maybe": false, "free": {"x": ["1"]},
            "file": {"contentType": "text/plain", "data": "aGk="}, "numbers": {"a": 1},
        })
    );
    let one = made("/part", "title=t", "form.Thing", &[text("name", "n")]).unwrap();
    assert_eq!(one, "{\"inner\":{\"name\":\"n\"},\"title\":\"t\"}");
}

#[test]
fn what_a_form_says_and_nobody_reads_is_told() {
    let mut dropped = Vec::new();
    let fields = [text("count", "7"), text("nobody", "x")];
    found("/fields/t")
        .form("", &fields, &Options::default(), &mut dropped)
        .unwrap();
    assert_eq!(dropped, ["nobody"]);
}

#[test]
fn parts_that_do_not_fit_their_field_or_contradict_the_path_are_refused_by_name() {
    for (fields, name) in [
        (vec![text("count", "seven")], "count"),
        (vec![text("good", "yes")], "good"),
        (vec![text("maybe", "1")], "maybe"),
        (vec![text("inner", "{\"name\":\"a\"},\"count\":\"9\"")], "inner"),
        (
            vec![field("count", None, Some("application/json"), "1,\"good\":true")],
            "count",
        ),
        (vec![text("title", "other")], "title"),
        (vec![text("count", "1"), text("count", "2")], "count"),
        (vec![text("word", "WORD_PERHAPS")], "word"),
    ] {
        let refused = made("/fields/t", "", "form.Thing", &fields).unwrap_err();
        assert_eq!((refused.http, refused.offset), (400, None), "{refused:?}");
        assert!(
            refused
                .field
                .as_deref()
                .is_some_and(|field| field.starts_with(name)),
            "{name}: {refused:?}"
        );
    }
    let odd = Field {
        data: vec![0xff],
        ..text("tags", "")
    };
    assert_eq!(made("/fields/t", "", "form.Thing", &[odd]).unwrap_err().http, 400);
}

#[test]
fn the_file_of_a_form_is_the_body_and_the_rest_are_parameters() {
    let file = || field("upload", Some("a.png"), Some("image/png"), "abc");
    let json = made("/files/n", "", "form.Upload", &[text("version", "3"), file()]).unwrap();
    let expected =
        "{\"name\":\"n\",\"version\":3,\"file\":{\"contentType\":\"image/png\",\"data\":\"YWJj\"}}";
    assert_eq!(json, expected);
    let by_name = made(
        "/files/n",
        "version=3",
        "form.Upload",
        &[field("file", None, Some("image/png"), "abc")],
    );
    assert_eq!(by_name.unwrap(), expected);
    let raw = made("/raw", "", "google.api.HttpBody", &[file()]).unwrap();
    assert_eq!(raw, "{\"contentType\":\"image/png\",\"data\":\"YWJj\"}");
    for fields in [
        vec![],
        vec![file(), file()],
        vec![text("version", "1"), text("name", "n")],
        vec![file(), text("unknown", "x")],
        vec![file(), text("name", "another")],
        vec![file(), text("version", "a&version=1")],
    ] {
        assert_eq!(
            made("/files/n", "", "form.Upload", &fields).unwrap_err().http,
            400,
            "{fields:?}"
        );
    }
}

#[test]
fn the_etag_of_a_message_is_its_field_of_that_name() {
    let found = found("/fields/t");
    let wire = |json: &[u8]| {
        let message = schema().message("form.Thing").unwrap();
        message.to_wire(json, &Options::default()).unwrap()
    };
    assert_eq!(
        found.method.etag(&wire(b"{\"etag\":\"abc\",\"count\":1}")),
        Some("abc")
    );
    assert_eq!(found.method.etag(&wire(b"{\"count\":1}")), None);
    assert_eq!(found.method.etag(b"\xff"), None);
}
