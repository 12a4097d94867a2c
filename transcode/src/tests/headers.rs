//! Headers that stand for fields: what is refused when a document is judged, and what they do to a call.

use mesh_proto::domain::{self, MethodMatch, Rest};

use super::*;
use crate::HeaderFields;

const SHOP: &str = r#"
syntax = "proto3"; package shop;
import "google/api/annotations.proto"; import "google/protobuf/timestamp.proto"; import "google/protobuf/wrappers.proto";
import "google/protobuf/struct.proto";
service Items {
    rpc Get(Ask) returns (Item) { option (google.api.http) = { get: "/v1/{tenant}" additional_bindings { post: "/v1" body: "*" }
        additional_bindings { put: "/v1" body: "note" } additional_bindings { put: "/v2/{note}" body: "note" }
        additional_bindings { put: "/v3" body: "time" } }; }
    rpc Watch(Ask) returns (stream Item) { option (google.api.http) = { get: "/v1/{tenant}/watch" }; }
    rpc Other(Other) returns (Other) { option (google.api.http) = { get: "/v1/{word.value}/other" }; }
}
service Else { rpc Get(Ask) returns (Ask) { option (google.api.http) = { get: "/else" }; } }
message Ask { string tenant = 1; Item item = 2; google.protobuf.Timestamp time = 3; string note = 4; repeated string tags = 5;
    google.protobuf.Int64Value number = 6; google.protobuf.NullValue nothing = 7; }
message Item { string etag = 1; int64 size = 2; map<string, string> labels = 3; Side side = 4; Item inner = 5; bytes data = 6;
    oneof pick { string left = 7; string right = 8; Item third = 11; } google.protobuf.NullValue nothing = 9;
    optional bool flag = 10; google.protobuf.Struct free = 12; google.protobuf.StringValue word = 13; sint32 low = 14; double share = 15; }
message Other { google.protobuf.StringValue word = 1; string tags = 2; }
enum Side { SIDE_UNSPECIFIED = 0; SIDE_BUY = 1; }
"#;

fn shop() -> Arc<Schema> {
    static SHOP_SCHEMA: OnceLock<Arc<Schema>> = OnceLock::new();
    let make = || Arc::new(Schema::compile(&compile("shop.proto", SHOP)).unwrap());
    SHOP_SCHEMA.get_or_init(make).clone()
}

fn one(header: &str, field: &str, methods: &[&str]) -> domain::HeaderField {
    let method = |text: &&str| match text.strip_suffix("/*") {
        Some(service) => MethodMatch::Service(service.into()),
        None => MethodMatch::Method((*text).into()),
    };
    domain::HeaderField {
        header: header.into(),
        field: field.into(),
        methods: methods.iter().map(method).collect(),
    }
}

fn of_request(fields: Vec<domain::HeaderField>) -> Rest {
    Rest {
        request_headers: fields,
        ..Rest::default()
    }
}

fn of_answer(fields: Vec<domain::HeaderField>) -> Rest {
    Rest {
        response_headers: fields,
        ..Rest::default()
    }
}

fn told(rest: &Rest) -> String {
    HeaderFields::check(rest, &shop()).map_or_else(|faults| faults.to_string(), |()| String::new())
}

#[test]
fn what_no_message_has_or_no_header_can_be_is_refused_with_its_place() {
    for (field, methods, why) in [
        (
            "tenantt",
            &[][..],
            "field: no request in the schema has a field \"tenantt\"",
        ),
        (
            "item.tenant",
            &["shop.Items/*"],
            "field: no request in shop.Items/* has a field",
        ),
        (
            "tenant",
            &["shop.Items/Other"],
            "field: shop.Items/Other: shop.Other has no field \"tenant\"",
        ),
        (
            "tenant",
            &["shop.Items/Get", "shop.Items/Gone"],
            "methods[1]: the schema has no method shop.Items/Gone",
        ),
        (
            "tenant",
            &["shop.Gone/*"],
            "methods[0]: the schema has no method shop.Gone/*",
        ),
        ("tags", &[], "is repeated"),
        ("item.labels", &[], "is a map"),
        ("item", &[], "is a message"),
        ("item.free", &[], "is a message"),
        ("item.free.fields", &[], "is written as one value"),
        ("time.seconds", &[], "is written as one value"),
        ("item.word.value", &[], "is written as one value"),
        ("tenant.name", &[], "has no fields"),
    ] {
        let told = told(&of_request(vec![one("x-a", field, methods)]));
        assert!(
            told.starts_with("requestHeaders[0].") && told.contains(why),
            "{field}: {told}"
        );
        assert_eq!(told.lines().count(), 1, "{told}");
    }
    for (field, methods, why) in [
        ("size", &["shop.Items/Watch"][..], "answers with a stream"),
        ("labels", &[], "is a map"),
        ("third", &[], "is a message"),
        (
            "total",
            &[],
            "no answer that is no stream in the schema has a field",
        ),
    ] {
        let told = told(&of_answer(vec![one("x-a", field, methods)]));
        assert!(
            told.starts_with("responseHeaders[0].") && told.contains(why),
            "{field}: {told}"
        );
    }
}

#[test]
fn a_header_is_for_the_methods_that_have_its_field_and_for_no_others() {
    let all = of_request(vec![one("x-a", "tenant", &[]), one("x-b", "word", &[])]);
    let (fields, faults) = HeaderFields::compile(&all, &shop());
    assert_eq!(faults, None);
    let fields = fields.unwrap();
    let headers = |rpc: &str| -> Vec<String> {
        let of = fields.of(shop().method(rpc).unwrap());
        let request = of.iter().flat_map(|of| of.request());
        request.map(|one| one.header().to_owned()).collect()
    };
    assert_eq!(headers("shop.Items/Get"), ["x-a"]);
    assert_eq!(headers("shop.Items/Watch"), ["x-a"]);
    assert_eq!(headers("shop.Items/Other"), ["x-b"]);
    let some = of_request(vec![one("x-a", "tenant", &["shop.Else/*"])]);
    let fields = HeaderFields::compile(&some, &shop()).0.unwrap();
    assert!(fields.of(shop().method("shop.Items/Get").unwrap()).is_none());
    assert!(fields.of(shop().method("shop.Else/Get").unwrap()).is_some());
    assert!(HeaderFields::compile(&Rest::default(), &shop()).0.is_none());
}

#[test]
fn what_is_wrong_is_left_out_and_the_rest_is_in_force() {
    let rest = of_request(vec![one("x-a", "gone", &[]), one("x-b", "tenant", &[])]);
    let (fields, faults) = HeaderFields::compile(&rest, &shop());
    assert_eq!(faults.unwrap().0.len(), 1);
    let fields = fields.unwrap();
    let of = fields.of(shop().method("shop.Items/Get").unwrap()).unwrap();
    assert_eq!(of.request().len(), 1);
}

/// The request of a call with these headers, as JSON.
fn call(line: &str, headers: &[(&str, &str)], body: &str) -> Result<String, Refusal> {
    let rest = of_request(vec![
        one("x-tenant", "tenant", &[]),
        one("if-match", "item.etag", &[]),
        one("x-time", "time", &[]),
        one("x-note", "note", &[]),
        one("x-number", "number", &[]),
        one("x-side", "item.side", &[]),
        one("x-word", "word", &[]),
    ]);
    let fields = HeaderFields::compile(&rest, &shop()).0.unwrap();
    let (router, _) = Router::build([((), shop())]);
    let (http_method, target) = line.split_once(' ').unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let Recognised::Found(mut found) = router.recognise(http_method, path) else {
        panic!("{line} is no call");
    };
    let options = Options::default();
    for one in fields.of(&found.method).unwrap().request() {
        if let Some((_, text)) = headers.iter().find(|(name, _)| *name == one.header()) {
            found.bind_header(one, text, &options)?;
        }
    }
    let wire = found.request(query, None, body.as_bytes(), &options)?;
    let mut out = Vec::new();
    found.method.input().to_json(&wire, &options, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn a_second_value_that_differs_is_refused_wherever_it_stands() {
    let time = "2020-01-01T00:00:00Z";
    for (line, header, body, field, why) in [
        (
            "GET /v1/a",
            ("x-tenant", "b"),
            "",
            "tenant",
            "the header x-tenant differs from the value in the path",
        ),
        (
            "GET /v1/a/watch",
            ("x-tenant", "b"),
            "",
            "tenant",
            "the header x-tenant differs",
        ),
        (
            "GET /v1/a/other",
            ("x-word", "b"),
            "",
            "word",
            "the header x-word differs from the value in the path",
        ),
        (
            "GET /v1/a?item.etag=w",
            ("if-match", "v"),
            "",
            "item.etag",
            "differs from the value in the header if-match",
        ),
        (
            "GET /v1/a?number=8",
            ("x-number", "7"),
            "",
            "number",
            "in the header x-number",
        ),
        (
            "GET /v1/a?number.value=8",
            ("x-number", "7"),
            "",
            "number.value",
            "in the header x-number",
        ),
        (
            "GET /v1/a?time=2020-01-01T00:00:01Z",
            ("x-time", time),
            "",
            "time",
            "in the header x-time",
        ),
        (
            "POST /v1",
            ("x-tenant", "b"),
            r#"{"tenant": ""}"#,
            "tenant",
            "in the header x-tenant",
        ),
        (
            "POST /v1",
            ("if-match", "v"),
            r#"{"item": {"size": 1, "etag": "w"}}"#,
            "item.etag",
            "in the header if-match",
        ),
        (
            "POST /v1",
            ("x-time", time),
            r#"{"time": "2020-01-01T00:00:00.1Z"}"#,
            "time",
            "in the header x-time",
        ),
        (
            "POST /v1",
            ("x-number", "0"),
            r#"{"number": 1}"#,
            "number",
            "in the header x-number",
        ),
        (
            "POST /v1",
            ("x-side", "SIDE_BUY"),
            r#"{"item": {"side": 0}}"#,
            "item.side",
            "in the header x-side",
        ),
        (
            "PUT /v1",
            ("x-note", "a"),
            r#""b""#,
            "note",
            "in the header x-note",
        ),
        (
            "PUT /v3",
            ("x-time", time),
            r#""2021-01-01T00:00:00Z""#,
            "time",
            "in the header x-time",
        ),
        (
            "PUT /v2/a",
            ("x-none", ""),
            r#""b""#,
            "note",
            "differs from the value in the path",
        ),
        (
            "GET /v1/a",
            ("x-number", "1e"),
            "",
            "number",
            "the header x-number",
        ),
        ("GET /v1/a", ("x-time", "today"), "", "time", "the header x-time"),
        (
            "GET /v1/a",
            ("x-side", "BUY"),
            "",
            "item.side",
            "the header x-side",
        ),
    ] {
        let refused = call(line, &[header], body).unwrap_err();
        assert_eq!(refused.http, 400, "{line} {header:?} {body}");
        assert!(
            refused.message.contains(why),
            "{line} {header:?} {body}: {refused}"
        );
        assert_eq!(refused.field.as_deref(), Some(field), "{line} {header:?} {body}");
    }
}

#[test]
fn a_second_value_that_is_the_same_is_no_conflict() {
    let time = "2020-01-01T00:00:00Z";
    for (line, header, body, seen) in [
        ("GET /v1/a", ("x-tenant", "a"), "", r#"{"tenant":"a"}"#),
        (
            "GET /v1/a?number=7",
            ("x-number", "7"),
            "",
            r#"{"tenant":"a","number":"7"}"#,
        ),
        ("GET /v1/a/other", ("x-word", "a"), "", r#"{"word":"a"}"#),
        (
            "POST /v1",
            ("x-number", "0"),
            r#"{"number": "0"}"#,
            r#"{"number":"0"}"#,
        ),
        (
            "POST /v1",
            ("x-number", "7"),
            r#"{"number": null}"#,
            r#"{"number":"7"}"#,
        ),
        (
            "POST /v1",
            ("x-time", time),
            r#"{"time": "2020-01-01T02:00:00+02:00"}"#,
            r#"{"time":"2020-01-01T00:00:00Z"}"#,
        ),
        (
            "POST /v1",
            ("x-time", time),
            r#"{"time": null, "note": "n"}"#,
            r#"{"time":"2020-01-01T00:00:00Z","note":"n"}"#,
        ),
        (
            "POST /v1",
            ("if-match", "v"),
            r#"{"item": {"etag": "v", "size": 1}}"#,
            r#"{"item":{"etag":"v","size":"1"}}"#,
        ),
        ("PUT /v1", ("x-note", "a"), r#""a""#, r#"{"note":"a"}"#),
        ("PUT /v1", ("x-note", "a"), "null", r#"{"note":"a"}"#),
        ("PUT /v1", ("x-note", "a"), "", r#"{"note":"a"}"#),
        (
            "PUT /v3",
            ("x-time", time),
            r#""2020-01-01T00:00:00Z""#,
            r#"{"time":"2020-01-01T00:00:00Z"}"#,
        ),
        ("PUT /v2/a", ("x-none", ""), r#""a""#, r#"{"note":"a"}"#),
    ] {
        let parsed = |json: &str| serde_json::from_str::<serde_json::Value>(json).unwrap();
        assert_eq!(
            parsed(&call(line, &[header], body).unwrap()),
            parsed(seen),
            "{line} {header:?} {body}"
        );
    }
}

/// What an answer says in a header.
fn says(field: &str, json: &str, options: &Options) -> Option<String> {
    let rest = of_answer(vec![one("x-a", field, &["shop.Items/Get"])]);
    let fields = HeaderFields::compile(&rest, &shop()).0.unwrap();
    let method = shop().method("shop.Items/Get").unwrap().clone();
    let wire = method
        .output()
        .to_wire(json.as_bytes(), &Options::default())
        .unwrap();
    let of = fields.of(&method).unwrap();
    let mut told = of.told(&method, &wire, options);
    assert!(told.len() <= 1);
    told.pop().map(|(_, value)| value)
}

#[test]
fn what_is_not_there_or_may_not_stand_in_a_header_is_not_told() {
    let long = format!(r#"{{"etag": "{}"}}"#, "a".repeat(5000));
    for (field, json) in [
        ("etag", "{}"),
        ("etag", r#"{"etag": ""}"#),
        ("etag", r#"{"etag": "a\nb"}"#),
        ("etag", r#"{"etag": "a\u0000"}"#),
        ("etag", r#"{"etag": "\u007f"}"#),
        ("etag", r#"{"etag": "ä"}"#),
        ("etag", r#"{"etag": "a "}"#),
        ("etag", &long),
        ("inner.etag", r#"{"inner": {}, "etag": "a"}"#),
        ("inner.inner.etag", r#"{"inner": {"etag": "a"}}"#),
        ("side", r#"{"side": "SIDE_UNSPECIFIED"}"#),
        ("nothing", r#"{"nothing": null}"#),
        ("left", r#"{"right": "a"}"#),
        ("flag", "{}"),
        ("word", "{}"),
    ] {
        assert_eq!(says(field, json, &Options::default()), None, "{field} {json}");
    }
}

#[test]
fn what_is_there_is_told_as_json_writes_it_without_quotes() {
    let defaults = Options::default();
    for (field, json, told) in [
        ("etag", r#"{"etag": "a \"b\" \\"}"#, r#"a "b" \"#),
        ("size", r#"{"size": "9007199254740993"}"#, "9007199254740993"),
        ("low", r#"{"low": -3}"#, "-3"),
        ("share", r#"{"share": "NaN"}"#, "NaN"),
        ("inner.side", r#"{"inner": {"side": 1}}"#, "SIDE_BUY"),
        ("data", r#"{"data": "AP8"}"#, "AP8="),
        ("left", r#"{"left": ""}"#, ""),
        ("flag", r#"{"flag": false}"#, "false"),
        ("word", r#"{"word": ""}"#, ""),
        ("word", r#"{"word": "w"}"#, "w"),
    ] {
        assert_eq!(
            says(field, json, &defaults).as_deref(),
            Some(told),
            "{field} {json}"
        );
    }
    let stripped = Options {
        enum_strip_prefix: true,
        ..Options::default()
    };
    assert_eq!(says("side", r#"{"side": 1}"#, &stripped).as_deref(), Some("BUY"));
    let numbers = Options {
        enum_numbers: true,
        ..Options::default()
    };
    assert_eq!(says("side", r#"{"side": 1}"#, &numbers).as_deref(), Some("1"));
}

#[test]
fn of_parts_of_an_answer_the_last_counts_and_messages_are_merged() {
    let method = shop().method("shop.Items/Get").unwrap().clone();
    let of = |field: &str, wire: &[u8]| {
        let rest = of_answer(vec![one("x-a", field, &["shop.Items/Get"])]);
        let fields = HeaderFields::compile(&rest, &shop()).0.unwrap();
        let of = fields.of(&method).unwrap();
        of.told(&method, wire, &Options::default())
            .pop()
            .map(|(_, value)| value)
    };
    assert_eq!(of("etag", b"\x0a\x01a\x0a\x01b").as_deref(), Some("b"));
    assert_eq!(of("etag", b"\x0a\x01a\x0a\x00"), None);
    // inner {etag: a} and inner {size: 7} are one inner.
    assert_eq!(
        of("inner.etag", b"\x2a\x03\x0a\x01a\x2a\x02\x10\x07").as_deref(),
        Some("a")
    );
    // left, then right, and left again.
    assert_eq!(of("left", b"\x3a\x01a\x42\x01b"), None);
    assert_eq!(of("left", b"\x42\x01b\x3a\x01a").as_deref(), Some("a"));
    // A number under a text's number, and half a message.
    assert_eq!(of("etag", b"\x0a\x01a\x08\x07").as_deref(), Some("a"));
    assert_eq!(of("etag", b"\x0a\x01a\x0a\x05"), None);
    assert_eq!(of("etag", b"\x0a\x01\xff"), None);
}
