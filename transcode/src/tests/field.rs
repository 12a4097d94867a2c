//! One field of a request as a text: what another reader of the same bytes would see there, whatever the bytes are.

use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage, Value};

use super::*;
use crate::RequestField;

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
    field(way).unwrap().text(message)
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

#[test]
fn what_other_readers_pass_over_is_passed_over_and_what_is_no_message_says_nothing() {
    let acme = long(1, b"acme");
    // Of another wire type: a varint, a group, four bytes.
    for other in [
        &[1 << 3, 7][..],
        &[1 << 3 | 3, 1 << 3 | 4],
        &[1 << 3 | 5, 1, 2, 3, 4],
    ] {
        assert_eq!(
            text("tenant", &[&acme, other].concat()).as_deref(),
            Some("acme"),
            "{other:?}"
        );
    }
    // A message that comes as a group is no value of a field that is none.
    let group = [vec![2 << 3 | 3], long(1, b"evil"), vec![2 << 3 | 4]].concat();
    let message = [long(2, &long(1, b"good")), group].concat();
    assert_eq!(text("item.etag", &message).as_deref(), Some("good"));
    for broken in [
        &b"\x0a\x05acme"[..],
        b"\x0a",
        b"\xff",
        b"\x00\x01",
        b"\x0a\x01\xff",
        b"\x0c",
    ] {
        assert_eq!(text("tenant", &[&acme, broken].concat()), None, "{broken:?}");
        assert_eq!(text("item.etag", &long(2, broken)), None, "{broken:?}");
    }
    let long_text = "a".repeat(5_000);
    let whole = DynamicMessage::parse_text_format(ask(), &format!("tenant: '{long_text}'")).unwrap();
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
                    4 => long(7, b"l"),
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
            let wanted = seen(&other, way);
            assert_eq!(field.text(&message), wanted, "{way} of {message:?}");
            told.insert((way, wanted));
        }
    }
    // Every way was seen with several values.
    assert!(
        ways.iter()
            .all(|way| told.iter().filter(|(told, _)| *told == way).count() > 1),
        "{told:?}"
    );
}
