//! Switches, field masks, request and reply in every form a rule can ask for.

use super::*;

const SHOP: &str = r#"
syntax = "proto3"; package shop;
import "google/api/annotations.proto"; import "google/protobuf/field_mask.proto"; import "google/protobuf/struct.proto";
service Shop {
    rpc Update(UpdateRequest) returns (Item) {
        option (google.api.http) = {
            patch: "/v1/{item.name=items/*}" body: "item"
            additional_bindings { put: "/v1/{item.name=items/*}" body: "item" }
            additional_bindings { patch: "/v2/{item.name=items/*}" body: "*" }
        };
    }
    rpc Two(TwoMasks) returns (Item) { option (google.api.http) = { patch: "/v1/two" body: "item" }; }
    rpc Show(Item) returns (Item) { option (google.api.http) = { get: "/show" }; }
    rpc Request(UpdateRequest) returns (UpdateRequest) { option (google.api.http) = { get: "/request" }; }
    rpc Pick(Item) returns (Item) { option (google.api.http) = { post: "/pick" body: "by_name" }; }
}
message UpdateRequest { Item item = 1; google.protobuf.FieldMask update_mask = 2; bool allow_missing = 3; }
message TwoMasks { Item item = 1; google.protobuf.FieldMask one = 2; google.protobuf.FieldMask two = 3; }
message Item {
    string name = 1; int32 size = 2; Part part_one = 3; repeated Part parts = 4; map<string, string> labels = 5;
    google.protobuf.Struct free = 6; Side side = 7; repeated Side sides = 8; map<string, Side> by_side = 9;
    oneof pick { string by_name = 10; Part by_part = 11; }
    Part other = 12;
}
message Part { string color = 1; Part deep_part = 2; }
enum Side { SIDE_UNSPECIFIED = 0; SIDE_BUY = 1; SIDE_SELL = 2; }
"#;

fn shop() -> Arc<Schema> {
    static SHOP_SCHEMA: OnceLock<Arc<Schema>> = OnceLock::new();
    let make = || Arc::new(Schema::compile(&compile("shop.proto", SHOP)).unwrap());
    SHOP_SCHEMA.get_or_init(make).clone()
}

fn call(http_method: &str, path: &str) -> Match<()> {
    let (router, _) = Router::build([((), shop())]);
    match router.recognise(http_method, path) {
        Recognised::Found(found) => found,
        other => panic!("{other:?}"),
    }
}

/// The request a PATCH or PUT makes, as JSON.
fn update(http_method: &str, target: &str, body: &str) -> Result<String, Refusal> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let options = Options::default();
    let wire = call(http_method, path).request(query, None, body.as_bytes(), &options)?;
    let json = call("GET", "/request").response(&wire, &options)?;
    Ok(String::from_utf8(json).unwrap())
}

fn item(json: &str, options: &Options) -> Result<String, Refusal> {
    let item = shop().message("shop.Item").unwrap();
    let wire = item.to_wire(json.as_bytes(), options)?;
    let mut out = Vec::new();
    item.to_json(&wire, options, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn a_patch_names_the_fields_of_its_body_in_the_mask() {
    for (body, mask) in [
        (r#"{"size": 1}"#, "size"),
        (
            r#"{"size": 0, "partOne": {"color": "red", "deepPart": {"color": ""}}}"#,
            "size,partOne.color,partOne.deepPart.color",
        ),
        (r#"{"part_one": {}}"#, "partOne"),
        (r#"{"partOne": null, "size": null}"#, "partOne,size"),
        (
            r#"{"parts": [{"color": "x"}], "labels": {"a": "b"}, "free": {"c": {"d": 1}}}"#,
            "parts,labels,free",
        ),
        (
            r#"{"byPart": {"color": "x"}, "side": "SIDE_BUY"}"#,
            "byPart.color,side",
        ),
        ("{}", ""),
    ] {
        let seen = update("PATCH", "/v1/items/a", body).unwrap();
        assert!(
            seen.contains(&format!(r#""updateMask":"{mask}""#)),
            "{body}: {seen}"
        );
    }
    let seen = update(
        "PATCH",
        "/v1/items/a",
        r#"{"name": "items/a", "unknown": 1, "size": 3}"#,
    )
    .unwrap();
    assert_eq!(
        seen,
        r#"{"item":{"size":3,"name":"items/a"},"updateMask":"name,size"}"#
    );
}

#[test]
fn a_mask_that_would_be_longer_than_a_message_may_be_is_refused() {
    // Each name far down is longer than the text that sets it.
    let parts = |depth: usize| {
        let (open, close) = (r#"{"color":"","deepPart":"#.repeat(depth), "}".repeat(depth));
        format!(r#"{{"partOne":{open}{{}}{close}}}"#)
    };
    let options = Options {
        limits: crate::Limits {
            message_bytes: 2_000,
            ..crate::Limits::default()
        },
        ..Options::default()
    };
    let patch = |depth: usize| {
        let found = call("PATCH", "/v1/items/a");
        found.request("", None, parts(depth).as_bytes(), &options)
    };
    patch(10).unwrap();
    let refusal = patch(40).unwrap_err();
    assert_eq!(refusal.http, 400, "{refusal:?}");
    assert!(refusal.message.contains("too many fields"), "{refusal:?}");
}

#[test]
fn a_mask_is_left_alone_where_it_is_given_or_nothing_is_clear() {
    let given = update(
        "PATCH",
        "/v1/items/a?updateMask=size",
        r#"{"size": 1, "labels": {}}"#,
    )
    .unwrap();
    assert!(given.contains(r#""updateMask":"size""#), "{given}");
    for (http_method, path, body) in [
        ("PUT", "/v1/items/a", r#"{"size": 1}"#),
        ("PATCH", "/v2/items/a", r#"{"item": {"size": 1}}"#),
        ("PATCH", "/v1/items/a", ""),
    ] {
        let seen = update(http_method, path, body).unwrap();
        assert!(!seen.contains("updateMask"), "{http_method} {path}: {seen}");
    }
    let two = call("PATCH", "/v1/two")
        .request("", None, br#"{"size": 1}"#, &Options::default())
        .unwrap();
    assert_eq!(two, b"\x0a\x02\x10\x01");
}

#[test]
fn the_path_wins_over_a_body_that_is_one_field_or_the_whole_message() {
    for (path, body, place) in [
        ("/v1/items/a", r#"{"name": "items/b"}"#, "item.name"),
        ("/v1/items/a", r#"{"name": ""}"#, "item.name"),
        (
            "/v2/items/a",
            r#"{"item": {"size": 1, "name": "items/b"}}"#,
            "item.name",
        ),
    ] {
        refused(
            update("PATCH", path, body),
            place,
            "differs from the value in the path",
        );
    }
    // In pieces, escaped, and long: it is the same value.
    let name = format!("items/{}", "x".repeat(200));
    let body = format!(r#"{{"name": "items\/{}", "size": 1}}"#, "x".repeat(200));
    let path = format!("/v1/{name}");
    let mut reader = call("PATCH", &path).begin("", None, &Options::default()).unwrap();
    for byte in body.as_bytes() {
        reader.push(&[*byte]).unwrap();
    }
    let wire = reader.finish().unwrap();
    let json = call("GET", "/request")
        .response(&wire, &Options::default())
        .unwrap();
    assert!(String::from_utf8(json).unwrap().contains(&name));
}

#[test]
fn a_member_of_a_oneof_in_the_query_does_not_go_with_one_in_the_body() {
    let both = call("POST", "/pick").request("byPart.color=x", None, br#""n""#, &Options::default());
    let refusal = both.unwrap_err();
    assert_eq!((refusal.http, refusal.field.as_deref()), (400, Some("byName")));
    let absent = call("POST", "/pick").request("byPart.color=x", None, b"null", &Options::default());
    assert!(absent.is_ok());
}

#[test]
fn duplicate_keys_are_taken_by_switch_and_the_last_counts() {
    let options = Options {
        duplicate_keys: true,
        ..Options::default()
    };
    for (json, seen) in [
        (r#"{"size": 1, "size": 2}"#, r#"{"size":2}"#),
        (r#"{"size": 1, "size": null}"#, "{}"),
        (
            r#"{"parts": [{"color": "a"}, {}], "name": "n", "parts": [{"color": "b"}]}"#,
            r#"{"name":"n","parts":[{"color":"b"}]}"#,
        ),
        (
            r#"{"partOne": {"color": "a"}, "part_one": {"deepPart": {}}}"#,
            r#"{"partOne":{"deepPart":{}}}"#,
        ),
        (
            r#"{"labels": {"a": "1", "b": "2", "a": "3"}, "size": 4}"#,
            r#"{"labels":{"a":"3","b":"2"},"size":4}"#,
        ),
        (
            r#"{"labels": {"a": "1"}, "labels": {"b": "2"}}"#,
            r#"{"labels":{"b":"2"}}"#,
        ),
        (
            r#"{"partOne": {"color": "a", "color": "b", "deepPart": {"color": "c", "color": "d"}}}"#,
            r#"{"partOne":{"color":"b","deepPart":{"color":"d"}}}"#,
        ),
        (r#"{"byName": "a", "byName": "b"}"#, r#"{"byName":"b"}"#),
        (
            r#"{"nope": 1, "nope": 2, "free": {"a": [1], "a": {"b": 1}}}"#,
            r#"{"free":{"a":{"b":1.0}}}"#,
        ),
    ] {
        assert_eq!(item(json, &options).unwrap(), seen, "{json}");
        assert!(
            item(json, &Options::default())
                .unwrap_err()
                .message
                .contains("written twice"),
            "{json}"
        );
    }
    let long = |text: &str| {
        format!(
            r#"{{"partOne": {{"color": "{0}"}}, "name": "{0}", "partOne": {{"color": "{text}"}}}}"#,
            "x".repeat(300)
        )
    };
    let seen = item(&long("y"), &options).unwrap();
    assert_eq!(
        seen,
        format!(r#"{{"name":"{}","partOne":{{"color":"y"}}}}"#, "x".repeat(300))
    );
    let seen = item(&long(&"y".repeat(20_000)), &options).unwrap();
    assert!(seen.ends_with(&format!(r#""partOne":{{"color":"{}"}}}}"#, "y".repeat(20_000))));
    assert!(
        item(r#"{"byName": "a", "byPart": {}}"#, &options)
            .unwrap_err()
            .message
            .contains("only one of them")
    );
}

#[test]
fn enum_names_follow_the_switches() {
    let any_case = Options {
        enum_any_case: true,
        ..Options::default()
    };
    let strip = Options {
        enum_strip_prefix: true,
        ..Options::default()
    };
    let both = Options {
        enum_any_case: true,
        ..strip.clone()
    };
    let numbers = Options {
        enum_numbers: true,
        ..Options::default()
    };
    assert_eq!(
        item(r#"{"side": "side_Buy"}"#, &any_case).unwrap(),
        r#"{"side":"SIDE_BUY"}"#
    );
    assert_eq!(
        item(r#"{"side": "SELL", "sides": ["SIDE_BUY"]}"#, &strip).unwrap(),
        r#"{"side":"SELL","sides":["BUY"]}"#
    );
    assert_eq!(item(r#"{"side": "sell"}"#, &both).unwrap(), r#"{"side":"SELL"}"#);
    assert_eq!(
        item(r#"{"side": "SIDE_SELL"}"#, &numbers).unwrap(),
        r#"{"side":2}"#
    );
    for (json, options) in [
        (r#"{"side": "side_buy"}"#, &strip),
        (r#"{"side": "BUY"}"#, &any_case),
        (r#"{"side": "BUY"}"#, &Options::default()),
        (r#"{"side": "1"}"#, &both),
    ] {
        assert!(item(json, options).is_err(), "{json}");
    }
}

#[test]
fn unknown_enum_names_are_dropped_by_switch_and_told() {
    let options = Options {
        unknown_enums: UnknownInput::Ignore,
        ..Options::default()
    };
    let of = shop().message("shop.Item").unwrap();
    let json = br#"{"side": "X", "sides": ["SIDE_BUY", "Y", "SIDE_SELL"], "bySide": {"a": "Z", "b": "SIDE_BUY"}, "nope": 1, "other": {"odd": {}}}"#;
    let mut reader = of.reader(&options);
    reader.push(json).unwrap();
    let wire = reader.finish().unwrap();
    assert_eq!(
        reader.dropped(),
        ["side", "sides[1]", "bySide.a", "nope", "other.odd"]
    );
    let mut out = Vec::new();
    of.to_json(&wire, &options, &mut out).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        r#"{"sides":["SIDE_BUY","SIDE_SELL"],"bySide":{"b":"SIDE_BUY"},"other":{}}"#
    );
    // Paths and queries drop nothing.
    let refusal = call("GET", "/show")
        .request("side=X", None, b"", &options)
        .unwrap_err();
    assert_eq!(refusal.field.as_deref(), Some("side"));
}

#[test]
fn what_is_dropped_is_told_up_to_a_limit() {
    let of = shop().message("shop.Item").unwrap();
    let keys: Vec<String> = (0..1000)
        .map(|key| format!(r#""{key}{}":0"#, "x".repeat(400)))
        .collect();
    let mut reader = of.reader(&Options::default());
    reader.push(format!("{{{}}}", keys.join(",")).as_bytes()).unwrap();
    reader.finish().unwrap();
    assert_eq!(reader.dropped().len(), crate::DROPPED_MAX);
    assert!(
        reader
            .dropped()
            .iter()
            .all(|name| name.len() <= crate::DROPPED_NAME_BYTES_MAX)
    );
    let mut reader = call("GET", "/show")
        .begin("nope=1&size=2&side.x.y=3", None, &lenient())
        .unwrap_err();
    reader.field = None;
    assert!(reader.message.contains("has no fields"));
    let reader = call("GET", "/show")
        .begin("nope=1&size=2&a.b=3", None, &lenient())
        .unwrap();
    assert_eq!(reader.dropped().collect::<Vec<_>>(), ["nope", "a.b"]);
}

#[test]
fn replies_follow_the_switches() {
    let all = Options {
        print_defaults: true,
        proto_names: true,
        ..Options::default()
    };
    let of = shop().message("shop.Item").unwrap();
    let mut out = Vec::new();
    of.to_json(b"\x10\x05\x1a\x00", &all, &mut out).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        r#"{"name":"","size":5,"part_one":{"color":""},"parts":[],"labels":{},"side":"SIDE_UNSPECIFIED","sides":[],"by_side":{}}"#
    );
}

#[test]
fn an_ignored_parameter_is_passed_over_and_one_of_the_path_never_is() {
    let options = Options {
        ignored_query: ["key".into(), "item.name".into()].into(),
        ..Options::default()
    };
    let call = call("PUT", "/v1/items/a");
    assert!(call.request("key=1&key=2", None, b"", &options).is_ok());
    assert!(call.request("other=1", None, b"", &options).is_err());
    assert!(call.request("item.name=items/b", None, b"", &options).is_err());
    assert!(call.request("item.name=items/a", None, b"", &options).is_ok());
}

#[test]
fn a_plus_is_a_space_unless_the_switch_says_otherwise() {
    let shown = |options: &Options| {
        let wire = call("GET", "/show")
            .request("name=a+b%2Bc", None, b"", options)
            .unwrap();
        String::from_utf8(call("GET", "/show").response(&wire, options).unwrap()).unwrap()
    };
    assert_eq!(shown(&Options::default()), r#"{"name":"a b+c"}"#);
    assert_eq!(
        shown(&Options {
            literal_plus: true,
            ..Options::default()
        }),
        r#"{"name":"a+b+c"}"#
    );
}

#[test]
fn a_body_too_many_is_refused_or_passed_over() {
    let options = Options {
        ignore_excess_body: true,
        ..Options::default()
    };
    let show = call("GET", "/show");
    assert!(show.request("", None, b"not json", &Options::default()).is_err());
    assert_eq!(
        show.request("size=1", None, b"not json", &options).unwrap(),
        b"\x10\x01"
    );
}

#[test]
fn an_any_in_pieces_is_kept_only_until_its_type_is_seen_and_read_in_linear_time() {
    let any = lab().message("lab.Everything").unwrap();
    // 15 levels, the type last in each, and megabytes in the innermost: read byte for byte it must not be quadratic.
    let mut json = format!(
        r#"{{"name": "{}", "@type": "x/lab.Inner"}}"#,
        "x".repeat(3_000_000)
    );
    for _ in 0..14 {
        json = format!(r#"{{"any": {json}, "@type": "x/lab.Inner"}}"#);
    }
    let json = format!(r#"{{"any": {json}}}"#);
    let whole = any.to_wire(json.as_bytes(), &Options::default()).unwrap();
    let mut reader = any.reader(&Options::default());
    for piece in json.as_bytes().chunks(100) {
        reader.push(piece).unwrap();
    }
    assert!(reader.finish().unwrap() == whole);
}

#[test]
fn many_keys_dropped_or_unknown_or_equal_cost_what_they_are_long() {
    let drop = Options {
        unknown_enums: UnknownInput::Ignore,
        duplicate_keys: true,
        ..Options::default()
    };
    let same: Vec<_> = (0..90_000).map(|_| r#""a":"X""#).collect();
    let json = format!(
        r#"{{"bySide": {{"b":"SIDE_BUY","c":"SIDE_BUY","d":"SIDE_BUY","e":"SIDE_BUY","f":"SIDE_BUY","g":"SIDE_BUY","h":"SIDE_BUY","i":"SIDE_BUY","j":"SIDE_BUY",{}}}}}"#,
        same.join(",")
    );
    assert!(item(&json, &drop).is_ok());
    let same: Vec<_> = (0..90_000).map(|_| r#""a":"1""#).collect();
    assert_eq!(
        item(&format!(r#"{{"labels": {{{}}}}}"#, same.join(",")), &drop).unwrap(),
        r#"{"labels":{"a":"1"}}"#
    );
    let unknown: Vec<_> = (0..100_001).map(|key| format!(r#""{key}":0"#)).collect();
    let refusal = item(&format!("{{{}}}", unknown.join(",")), &Options::default()).unwrap_err();
    assert!(refusal.message.contains("unknown fields"), "{refusal:?}");
}

#[test]
fn fields_are_written_as_they_come_and_those_that_come_again_in_the_order_of_their_numbers() {
    let item = shop().message("shop.Item").unwrap();
    let written = |wire: &[u8], print_defaults: bool| {
        let options = Options {
            print_defaults,
            ..Options::default()
        };
        let mut out = Vec::new();
        item.to_json(wire, &options, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    let (size_5, size_7, name, part) = (b"\x10\x05", b"\x10\x07", b"\x0a\x01a", b"\x22\x03\x0a\x01r");
    let wire = [&part[..], size_5, name].concat();
    assert_eq!(
        written(&wire, false),
        r#"{"parts":[{"color":"r"}],"size":5,"name":"a"}"#
    );
    let printed = written(&wire, true);
    assert!(
        printed.starts_with(r#"{"name":"a","size":5,"parts":[{"color":"r"}]"#),
        "{printed}"
    );
    // The last one counts, and lists go on.
    let wire = [&part[..], size_5, name, size_7, part].concat();
    assert_eq!(
        written(&wire, false),
        r#"{"name":"a","size":7,"parts":[{"color":"r"},{"color":"r"}]}"#
    );
}
