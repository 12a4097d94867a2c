//! Editions: a schema that protoc compiled, since the linker used here reads proto2 and proto3 only.

use super::*;
use crate::MessageType;

fn ed() -> MessageType {
    let schema = Schema::compile(include_bytes!("../../testdata/editions.binpb")).unwrap();
    schema.message("ed.Ed").unwrap()
}

#[track_caller]
fn written(json: &str) -> Vec<u8> {
    ed().to_wire(json.as_bytes(), &Options::default()).unwrap()
}

#[track_caller]
fn shown(wire: &[u8]) -> String {
    let mut out = Vec::new();
    ed().to_json(wire, &Options::default(), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn presence_is_what_the_feature_says() {
    assert_eq!(written(r#"{"explicit": "", "implicit": ""}"#), b"\x0a\x00");
    assert_eq!(written(r#"{"must": 0}"#), b"\x18\x00");
    assert_eq!(written(r#"{"open": 0, "implicitOpen": 0}"#), b"\x48\x00");
    let all = Options {
        print_defaults: true,
        ..Options::default()
    };
    let mut out = Vec::new();
    ed().to_json(b"", &all, &mut out).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        r#"{"implicit":"","packed":[],"expanded":[],"groups":[],"map":{},"implicitOpen":"OPEN_UNSPECIFIED"}"#
    );
}

#[test]
fn lists_are_packed_unless_the_feature_says_otherwise_and_read_both_ways() {
    assert_eq!(written(r#"{"packed": [1, 2]}"#), b"\x22\x02\x01\x02");
    assert_eq!(written(r#"{"expanded": [1, 2]}"#), b"\x28\x01\x28\x02");
    assert_eq!(
        shown(b"\x20\x01\x22\x01\x02\x2a\x01\x03"),
        r#"{"packed":[1,2],"expanded":[3]}"#
    );
}

#[test]
fn delimited_messages_stand_between_keys() {
    assert_eq!(written(r#"{"plain": {"name": "a"}}"#), b"\x32\x03\x0a\x01a");
    assert_eq!(written(r#"{"delimited": {"name": "a"}}"#), b"\x3b\x0a\x01a\x3c");
    assert_eq!(
        written(r#"{"groups": [{}, {"name": "a"}]}"#),
        b"\x43\x44\x43\x0a\x01a\x44"
    );
    assert_eq!(
        written(r#"{"map": {"k": {"name": "a"}}}"#),
        b"\x5a\x08\x0a\x01k\x12\x03\x0a\x01a"
    );
    for json in [
        r#"{"delimited":{"name":"a","ed":{"delimited":{}}}}"#,
        r#"{"groups":[{},{"name":"a"}]}"#,
        r#"{"map":{"k":{"name":"a"}}}"#,
        r#"{"[ed.more]":{"name":"a"},"[ed.delimited_more]":{"name":"b"}}"#,
    ] {
        assert_eq!(shown(&written(json)), json);
    }
}

#[test]
fn enums_are_open_unless_the_feature_says_closed() {
    assert_eq!(shown(&written(r#"{"open": 7}"#)), r#"{"open":7}"#);
    let refused = |json: &str| ed().to_wire(json.as_bytes(), &Options::default()).unwrap_err();
    assert!(
        refused(r#"{"closed": 7}"#)
            .message
            .contains("must be a value of ed.Closed")
    );
    assert!(
        refused(r#"{"deep": 7}"#)
            .message
            .contains("must be a value of ed.Inner.Deep")
    );
    // What a closed enum does not name counts as unknown.
    assert_eq!(shown(b"\x50\x07\x48\x07"), r#"{"open":7}"#);
}
