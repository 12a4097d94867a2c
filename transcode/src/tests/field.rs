//! One field of a request as a text: what another reader of the same bytes would see there, whatever the bytes are.

use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage, Value};

use super::*;
use crate::{RequestField, wire};

const PROTO: &str = r#"
syntax = "proto3"; package shop;
import "google/protobuf/timestamp.proto"; import "google/protobuf/wrappers.proto";
service Items { rpc Get(Ask) returns (Ask); }
message Ask { string tenant = 1; Item item = 2; repeated string tags = 3; map<string, string> labels = 4;
    google.protobuf.Timestamp time = 5; google.protobuf.Int64Value number = 6; bytes data = 7; double share = 8; }
message Item { string etag = 1; int64 size = 2; Side side = 3; Item inner = 4; optional bool flag = 5; bool draft = 6;
    oneof pick { string left = 7; string right = 8; Item third = 9; } sint32 low = 10; fixed64 wide = 11; }
enum Side { SIDE_UNSPECIFIED = 0; SIDE_BUY = 1; }
"#;

fn field(way: &str) -> Result<RequestField, String> {
    let schema = Schema::compile(&compile("shop.proto", PROTO)).unwrap();
    RequestField::find(schema.method("shop.Items/Get").unwrap(), way)
}

fn text(way: &str, message: &[u8]) -> Option<String> {
    read(&field(way).unwrap(), message)
}

fn read(field: &RequestField, message: &[u8]) -> Option<String> {
    field.text(field.plain(message)?)
}

/// A field of wire type 2.
fn long(number: u8, content: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(content.len()).unwrap()], content].concat()
}

#[test]
fn a_field_is_told_as_it_would_stand_in_a_path() {
    let item = [long(1, b"e"), vec![2 << 3, 5, 3 << 3, 1, 6 << 3, 1, 10 << 3, 3]].concat();
    let message = [
        long(1, b"acme"),
        long(2, &item),
        long(5, &[8, 1]),
        long(6, &[8, 7]),
        long(7, b"\xff"),
    ]
    .concat();
    for (way, wanted) in [
        ("tenant", "acme"),
        ("item.etag", "e"),
        ("item.size", "5"),
        ("item.side", "SIDE_BUY"),
        ("item.draft", "true"),
        ("item.low", "-2"),
        ("time", "1970-01-01T00:00:01Z"),
        ("number", "7"),
        ("data", "/w=="),
    ] {
        assert_eq!(text(way, &message).as_deref(), Some(wanted), "{way}");
    }
}

#[test]
fn a_field_that_is_not_there_has_its_default_unless_its_absence_says_something() {
    for (way, wanted) in [
        ("tenant", Some("")),
        ("item.size", Some("0")),
        ("item.draft", Some("false")),
        ("item.side", Some("SIDE_UNSPECIFIED")),
        ("item.inner.inner.wide", Some("0")),
        ("item.flag", None),
        ("item.left", None),
        ("item.third.flag", None),
        ("time", None),
        ("number", None),
    ] {
        assert_eq!(text(way, b"").as_deref(), wanted, "{way}");
    }
}

#[test]
fn a_way_that_leads_to_no_one_text_is_refused() {
    for (way, why) in [
        ("tenants", "has no field"),
        ("item", "is a message"),
        ("tags", "is repeated"),
        ("labels", "is a map"),
        ("tenant.name", "has no fields"),
        ("time.seconds", "is written as one value"),
    ] {
        let told = field(way).map(|_| ()).unwrap_err();
        assert!(told.contains(why), "{way}: {told}");
    }
}

/// An item of any length.
fn item_of(content: &[u8]) -> Vec<u8> {
    let mut item = vec![2 << 3 | 2];
    wire::put_varint(&mut item, content.len() as u64);
    [&item, content].concat()
}

/// An item in an item, and so on.
fn nested(times: usize) -> Vec<u8> {
    (0..times).fold(Vec::new(), |inner, _| {
        let mut outer = vec![4 << 3 | 2];
        wire::put_varint(&mut outer, inner.len() as u64);
        [outer, inner].concat()
    })
}

#[test]
fn what_readers_may_read_in_different_ways_says_nothing() {
    let acme = long(1, b"acme");
    let item = |content: &[u8]| long(2, content);
    let of_tenant = |more: &[u8]| text("tenant", &[&acme, more].concat());
    assert_eq!(of_tenant(b"").as_deref(), Some("acme"));
    for (what, more) in [
        ("twice", acme.clone()),
        ("another wire type: a varint", vec![1 << 3, 7]),
        // One reader takes the varint as a length, and finds another tenant in the unknown field behind it.
        (
            "a varint that hides another value",
            [b"\x08\x03bobzl".to_vec(), vec![b'.'; 108]].concat(),
        ),
        ("another wire type: a group", vec![1 << 3 | 3, 1 << 3 | 4]),
        ("another wire type: four bytes", vec![1 << 3 | 5, 1, 2, 3, 4]),
        ("another wire type, elsewhere", vec![3 << 3, 7]),
        ("another wire type, deep within", item(&item(&long(2, b"x")))),
        ("an unknown group", vec![99 << 3 & 0x7f | 3, 99 << 3 & 0x7f | 4]),
        (
            "a message as a group",
            [vec![2 << 3 | 3], long(1, b"x"), vec![2 << 3 | 4]].concat(),
        ),
        ("a long key", b"\x9a\x80\x00\x01x".to_vec()),
        ("a long length", b"\x1a\x81\x00x".to_vec()),
        ("a long value", item(b"\x10\x81\x00")),
        ("a boolean of two", item(&[6 << 3, 2])),
        (
            "an enum of 33 bits",
            item(&[3 << 3, 0x80, 0x80, 0x80, 0x80, 0x10]),
        ),
        ("a map's key of another type", long(4, &[1 << 3, 1])),
        ("no field", b"\x00\x01".to_vec()),
        ("cut off", b"\x1a\x05x".to_vec()),
        ("too deep", item_of(&nested(99))),
    ] {
        assert_eq!(of_tenant(&more), None, "{what}");
    }
    // Unknown fields that are skipped by all, and what is said once each.
    for more in [
        &b"\x60\x01"[..],
        b"\x61\0\0\0\0\0\0\0\0",
        b"\x62\x01x",
        b"\x65\0\0\0\0",
    ] {
        assert_eq!(of_tenant(more).as_deref(), Some("acme"), "{more:?}");
    }
    assert_eq!(of_tenant(&item_of(&nested(98))).as_deref(), Some("acme"));
    let low = [vec![2 << 3], vec![0xff; 9], vec![1]].concat();
    assert_eq!(text("item.size", &item(&low)).as_deref(), Some("-1"));
}

#[test]
fn a_field_beside_another_of_its_oneof_and_a_message_in_parts_say_nothing() {
    let item = |content: &[u8]| long(2, content);
    let third = long(9, &[6 << 3, 1]);
    assert_eq!(text("item.third.draft", &item(&third)).as_deref(), Some("true"));
    for beside in [long(7, b"l"), long(8, b"r")] {
        for parts in [
            [third.clone(), beside.clone()].concat(),
            [beside.clone(), third.clone()].concat(),
        ] {
            assert_eq!(text("item.third.draft", &item(&parts)), None);
            assert_eq!(text("item.left", &item(&parts)), None);
        }
    }
    // Some readers merge parts of a message, and some take the last one.
    let parts = [item(&long(1, b"e")), item(&[2 << 3, 5])].concat();
    assert_eq!(
        (text("item.etag", &parts), text("item.size", &parts)),
        (None, None)
    );
    assert_eq!(text("tenant", &parts).as_deref(), Some(""));
}

#[test]
fn a_number_that_a_closed_enum_does_not_name_is_no_value() {
    const CLOSED: &str = r#"
        syntax = "proto2"; package shop;
        service Items { rpc Get(Ask) returns (Ask); }
        message Ask { optional Level level = 1; }
        enum Level { GUEST = 0; ADMIN = 1; }
    "#;
    let schema = Schema::compile(&compile("closed.proto", CLOSED)).unwrap();
    let level = RequestField::find(schema.method("shop.Items/Get").unwrap(), "level").unwrap();
    assert_eq!(read(&level, &[8, 1]).as_deref(), Some("ADMIN"));
    for message in [&[8, 99][..], &[8, 1, 8, 99], &[8, 99, 8, 0], &[]] {
        assert_eq!(read(&level, message), None, "{message:?}");
    }
}

#[test]
fn a_text_of_many_bytes_is_not_given() {
    let tenant = "a".repeat(5_000);
    let whole = DynamicMessage::parse_text_format(ask(), &format!("tenant: '{tenant}'")).unwrap();
    assert_eq!(text("tenant", &prost::Message::encode_to_vec(&whole)), None);
}

fn ask() -> prost_reflect::MessageDescriptor {
    let pool = DescriptorPool::decode(compile("shop.proto", PROTO).as_slice()).unwrap();
    pool.get_message_by_name("shop.Ask").unwrap()
}

/// What prost-reflect sees in a field.
fn seen(message: &DynamicMessage, way: &str) -> Option<String> {
    let (first, rest) = way
        .split_once('.')
        .map_or((way, None), |(first, rest)| (first, Some(rest)));
    let field = message.descriptor().get_field_by_name(first).unwrap();
    if field.supports_presence() && !message.has_field(&field) && rest.is_none() {
        return None;
    }
    let value = message.get_field(&field);
    match (&*value, rest) {
        (Value::Message(inner), Some(rest)) => seen(inner, rest),
        (Value::String(text), None) => Some(text.clone()),
        (Value::I64(number), None) => Some(number.to_string()),
        (Value::Bool(truth), None) => Some(truth.to_string()),
        (other, _) => panic!("{other:?}"),
    }
}

#[test]
fn of_messages_in_any_number_of_parts_the_text_is_what_another_reader_sees() {
    let mut state = 7u64;
    let mut below = move |bound: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % bound
    };
    let ways = [
        "tenant",
        "item.etag",
        "item.size",
        "item.flag",
        "item.draft",
        "item.left",
        "item.third.etag",
        "item.inner.etag",
    ];
    let fields: Vec<_> = ways.iter().map(|way| field(way).unwrap()).collect();
    let ask = ask();
    let mut told = std::collections::HashSet::new();
    for _ in 0..5_000 {
        // Items within items, of a few parts each.
        let mut item = Vec::new();
        for _ in 0..3 {
            for _ in 0..below(4) {
                let part = match below(8) {
                    0 => long(1, &[b'a' + u8::try_from(below(3)).unwrap()]),
                    1 => vec![2 << 3, u8::try_from(below(3)).unwrap()],
                    2 => vec![5 << 3, u8::try_from(below(2)).unwrap()],
                    3 => vec![6 << 3, u8::try_from(below(2)).unwrap()],
                    4 => long(7, &[b'l' + u8::try_from(below(2)).unwrap()]),
                    5 => long(8, b"r"),
                    6 => long(
                        9,
                        item.get(..item.len().min(40))
                            .filter(|_| item.len() <= 40)
                            .unwrap_or_default(),
                    ),
                    _ => long(4, item.get(..).filter(|_| item.len() <= 40).unwrap_or_default()),
                };
                item.extend(part);
            }
        }
        let cut = below(2);
        let mut message = long(1, &[b'a' + u8::try_from(below(3)).unwrap()]);
        if item.len() < 120 {
            message.extend(long(2, &item));
        }
        if cut == 0 {
            message.extend(long(2, &long(1, b"z")));
            message.extend(long(1, b"z"));
        }
        let other = DynamicMessage::decode(ask.clone(), message.as_slice()).unwrap();
        for (way, field) in ways.iter().zip(&fields) {
            // What comes in parts may say nothing, and never another thing.
            if let Some(text) = read(field, &message) {
                assert_eq!(Some(&text), seen(&other, way).as_ref(), "{way} of {message:?}");
                told.insert((way, text));
            }
        }
    }
    // Every way was seen with several values.
    assert!(
        ways.iter()
            .all(|way| told.iter().filter(|(told, _)| *told == way).count() > 1),
        "{told:?}"
    );
}

/// Nothing that a message has once comes twice, at any depth.
#[track_caller]
fn comes_once(descriptor: &prost_reflect::MessageDescriptor, mut message: &[u8]) {
    let mut seen = std::collections::HashSet::new();
    let rest = &mut message;
    while !rest.is_empty() {
        let (number, wire_type) = wire::key(rest).unwrap();
        let value = wire::value(rest, number, wire_type).unwrap();
        let Some(field) = descriptor.get_field(number) else {
            continue;
        };
        let group = field
            .containing_oneof()
            .map_or(field.full_name().to_owned(), |oneof| oneof.full_name().to_owned());
        assert!(
            field.is_list() || field.is_map() || seen.insert(group),
            "{} comes twice",
            field.full_name()
        );
        if let (wire::Value::Bytes(inner) | wire::Value::Group(inner), prost_reflect::Kind::Message(kind)) =
            (value, field.kind())
        {
            comes_once(&kind, inner);
        }
    }
}

const PATHS: &str = r#"
syntax = "proto2"; package paths;
import "google/api/annotations.proto"; import "google/protobuf/wrappers.proto"; import "google/protobuf/timestamp.proto";
service S {
    rpc A(Q) returns (Q) { option (google.api.http) = { post: "/a/{in.name}" body: "*" additional_bindings { put: "/a/{in.name}" body: "in" } }; }
    rpc B(Q) returns (Q) { option (google.api.http) = { post: "/b/{in.deep.name}/{in.name}" body: "*" additional_bindings { put: "/b/{in.deep.name}/{in.name}" body: "in" } }; }
    rpc C(Q) returns (Q) { option (google.api.http) = { post: "/c/{word.value}" body: "*" additional_bindings { put: "/c/{word.value}" body: "word" } }; }
    rpc D(Q) returns (Q) { option (google.api.http) = { post: "/d/{pair.name}/{in.deep.word.value}" body: "*" }; }
    rpc E(Q) returns (Q) { option (google.api.http) = { post: "/e/{one.name}" body: "*" }; }
}
message Q { optional In in = 1; optional google.protobuf.StringValue word = 2; optional string note = 3;
    optional group Pair = 4 { optional string name = 1; optional int32 size = 2; }
    oneof pick { In one = 5; string two = 6; } repeated In many = 7; }
message In { optional string name = 1; optional int32 size = 2; optional In deep = 3; optional google.protobuf.StringValue word = 4; }
"#;

#[test]
fn what_path_and_body_fill_together_is_one_message_however_deep_and_however_the_body_says_it() {
    let bytes = compile("paths.proto", PATHS);
    let pool = DescriptorPool::decode(bytes.as_slice()).unwrap();
    let descriptor = pool.get_message_by_name("paths.Q").unwrap();
    let (router, conflicts) = Router::build([((), Arc::new(Schema::compile(&bytes).unwrap()))]);
    assert_eq!(conflicts, []);
    let duplicates = Options {
        duplicate_keys: true,
        ..Options::default()
    };
    for (http_method, path, body, wanted) in [
        ("POST", "/a/n", r#"{}"#, r#"{"in":{"name":"n"}}"#),
        ("POST", "/a/n", r#"{"in":{}}"#, r#"{"in":{"name":"n"}}"#),
        (
            "POST",
            "/a/n",
            r#"{"in":null,"note":"x"}"#,
            r#"{"in":{"name":"n"},"note":"x"}"#,
        ),
        (
            "POST",
            "/a/n",
            r#"{"in":{"size":1,"deep":{"size":2}}}"#,
            r#"{"in":{"name":"n","size":1,"deep":{"size":2}}}"#,
        ),
        (
            "POST",
            "/a/n",
            r#"{"in":{"name":"n","size":1},"many":[{"name":"m"},{}]}"#,
            r#"{"in":{"name":"n","size":1},"many":[{"name":"m"},{}]}"#,
        ),
        ("PUT", "/a/n", r#"{"size":1}"#, r#"{"in":{"name":"n","size":1}}"#),
        ("PUT", "/a/n", "", r#"{"in":{"name":"n"}}"#),
        (
            "PUT",
            "/a/n?note=x",
            r#"{"size":1}"#,
            r#"{"in":{"name":"n","size":1},"note":"x"}"#,
        ),
        (
            "POST",
            "/b/d/n",
            r#"{}"#,
            r#"{"in":{"name":"n","deep":{"name":"d"}}}"#,
        ),
        (
            "POST",
            "/b/d/n",
            r#"{"in":{"size":1}}"#,
            r#"{"in":{"name":"n","size":1,"deep":{"name":"d"}}}"#,
        ),
        (
            "POST",
            "/b/d/n",
            r#"{"in":{"deep":{"size":1}}}"#,
            r#"{"in":{"name":"n","deep":{"name":"d","size":1}}}"#,
        ),
        (
            "POST",
            "/b/d/n",
            r#"{"in":{"deep":null,"size":1}}"#,
            r#"{"in":{"name":"n","size":1,"deep":{"name":"d"}}}"#,
        ),
        (
            "PUT",
            "/b/d/n",
            r#"{"deep":{"deep":{"name":"e"}}}"#,
            r#"{"in":{"name":"n","deep":{"name":"d","deep":{"name":"e"}}}}"#,
        ),
        ("POST", "/c/w", r#"{}"#, r#"{"word":"w"}"#),
        ("POST", "/c/w", r#"{"word":"w"}"#, r#"{"word":"w"}"#),
        ("PUT", "/c/w", r#""w""#, r#"{"word":"w"}"#),
        (
            "POST",
            "/d/p/w",
            r#"{"pair":{"size":1},"in":{"deep":{"word":"w","size":1}}}"#,
            r#"{"pair":{"name":"p","size":1},"in":{"deep":{"word":"w","size":1}}}"#,
        ),
        (
            "POST",
            "/d/p/w",
            r#"{"in":{"deep":{"size":1}}}"#,
            r#"{"pair":{"name":"p"},"in":{"deep":{"word":"w","size":1}}}"#,
        ),
        (
            "POST",
            "/e/n",
            r#"{"one":{"size":1}}"#,
            r#"{"one":{"name":"n","size":1}}"#,
        ),
        // The last one counts, and what it says is all there is of the body.
        (
            "POST",
            "/a/n",
            r#"{"in":{"size":1},"in":{"deep":{}}}"#,
            r#"{"in":{"name":"n","deep":{}}}"#,
        ),
        (
            "POST",
            "/a/n",
            r#"{"in":{"size":1},"in":null}"#,
            r#"{"in":{"name":"n"}}"#,
        ),
        (
            "POST",
            "/b/d/n",
            r#"{"in":{"deep":{"size":1}},"in":{}}"#,
            r#"{"in":{"name":"n","deep":{"name":"d"}}}"#,
        ),
        (
            "POST",
            "/b/d/n",
            r#"{"in":{"deep":{"size":1},"deep":null}}"#,
            r#"{"in":{"name":"n","deep":{"name":"d"}}}"#,
        ),
        (
            "POST",
            "/b/d/n",
            r#"{"in":{"deep":{"size":1},"deep":{"size":2}}}"#,
            r#"{"in":{"name":"n","deep":{"name":"d","size":2}}}"#,
        ),
        ("POST", "/c/w", r#"{"word":"w","word":"w"}"#, r#"{"word":"w"}"#),
    ] {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let Recognised::Found(found) = router.recognise(http_method, path) else {
            panic!("{path}")
        };
        for size in [1, 3, body.len().max(1)] {
            let mut reader = found.begin(query, None, &duplicates).unwrap();
            for piece in body.as_bytes().chunks(size) {
                reader
                    .push(piece)
                    .unwrap_or_else(|refusal| panic!("{path} {body}: {refusal}"));
            }
            let message = reader.finish().unwrap();
            comes_once(&descriptor, &message);
            let seen = DynamicMessage::decode(descriptor.clone(), message.as_slice()).unwrap();
            let json = serde_json::to_value(&seen).unwrap();
            assert_eq!(
                json,
                serde_json::from_str::<serde_json::Value>(wanted).unwrap(),
                "{path} {body}"
            );
        }
    }
}

#[test]
fn requests_that_are_made_of_path_query_and_body_are_such_that_every_reader_agrees() {
    let lab = lab();
    let ask = |rpc: &str, way: &str| RequestField::find(lab.method(rpc).unwrap(), way).unwrap();
    for (rpc, http_method, target, body, ways) in [
        (
            "lab.Lab/PutInner",
            "PUT",
            "/v1/inner/a",
            r#"{"size": 3}"#,
            &[("inner.name", "a"), ("inner.size", "3")][..],
        ),
        (
            "lab.Lab/PutInner",
            "PUT",
            "/v1/inner/a",
            r#"{"size": 3, "name": "a"}"#,
            &[("inner.name", "a"), ("inner.size", "3")],
        ),
        (
            "lab.Lab/PutInner",
            "POST",
            "/v1/choice/a",
            r#"{"number": 3}"#,
            &[("choice_a", "a"), ("number", "3")],
        ),
        (
            "lab.Lab/Get",
            "GET",
            "/v1/owners/a/things/b?inner.size=3&number=5",
            "",
            &[("inner.name", "a"), ("inner.size", "3"), ("text", "b")],
        ),
        (
            "lab.Lab/Get",
            "GET",
            "/v1/things/b?inner.size=3&inner.name=a&inner.inner.name=c",
            "",
            &[("inner.name", "a"), ("inner.inner.name", "c")],
        ),
        (
            "lab.Lab/Make",
            "POST",
            "/v1/things",
            r#"{"inner": {"name": "a"}, "number": -3, "text": "t"}"#,
            &[("inner.name", "a"), ("number", "-3")],
        ),
    ] {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let message = found(http_method, path)
            .request(query, None, body.as_bytes(), &Options::default())
            .unwrap();
        for (way, wanted) in ways {
            assert_eq!(
                read(&ask(rpc, way), &message).as_deref(),
                Some(*wanted),
                "{way} of {http_method} {target}: {message:?}"
            );
        }
    }
}
