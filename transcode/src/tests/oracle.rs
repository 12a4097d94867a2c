//! Held against prost-reflect's own JSON, which is not ours, and against damage of every kind.

use prost_reflect::DynamicMessage;
use serde::de::DeserializeSeed;

use super::*;

/// One of everything whose JSON both sides agree on.
const EVERYTHING: &str = r#"{
    "text": "a\"\\\u00e9\ud83d\ude00", "number": -7, "long": "-9223372036854775808", "unsignedLong": "18446744073709551615",
    "real": 1.5e300, "small": 0.1, "truth": true, "data": "+/8=", "word": "WORD_NO",
    "inner": {"name": "n", "size": 3, "inner": {"any": {"@type": "x/lab.Inner", "size": 5}}},
    "numbers": [1, -2, 3], "inners": [{}, {"name": "b"}], "names": {"k": {"size": 1}}, "byNumber": {"-1": "m"},
    "choiceB": {"name": "c"}, "perhaps": 0, "at": "2024-05-01T12:00:00.123456789Z", "lasts": "-1.500s",
    "mask": "fooBar,baz.quxQuux", "free": {"a": [null, true, 1.5, "s", {"b": {}}]}, "value": ["x"], "list": [1.0, null],
    "any": {"@type": "x/google.protobuf.Timestamp", "value": "1970-01-01T00:00:00Z"},
    "wrappedText": "", "wrappedLong": "5", "wrappedReal": 2.5, "empty": {}, "words": ["WORD_YES", 9],
    "strange": "s", "values": [null, {"a": 1.0}], "flags": {"true": "WORD_YES"}
}"#;

fn request(body: &[u8]) -> Result<Vec<u8>, Refusal> {
    found("POST", "/v1/things").request("", None, body, &Options::default())
}

#[test]
fn both_ways_agree_with_the_reflection_librarys_own_json() {
    let descriptor = lab_pool().get_message_by_name("lab.Everything").unwrap();
    let mut text = serde_json::Deserializer::from_str(EVERYTHING);
    let theirs = descriptor.clone().deserialize(&mut text).unwrap();
    let ours = request(EVERYTHING.as_bytes()).unwrap();
    assert_eq!(
        DynamicMessage::decode(descriptor, ours.as_slice()).unwrap(),
        theirs
    );

    let written = found("GET", "/v1/things/x")
        .response(&ours, &Options::default())
        .unwrap();
    let written: serde_json::Value = serde_json::from_slice(&written).unwrap();
    let theirs = serde_json::to_vec(&theirs).unwrap();
    assert_eq!(
        written,
        serde_json::from_slice::<serde_json::Value>(&theirs).unwrap()
    );
}

#[test]
fn what_is_written_is_read_back_the_same() {
    let message = request(EVERYTHING.as_bytes()).unwrap();
    let written = found("GET", "/v1/things/x")
        .response(&message, &Options::default())
        .unwrap();
    let again = request(&written).unwrap();
    let descriptor = lab_pool().get_message_by_name("lab.Everything").unwrap();
    let decode = |bytes: &[u8]| DynamicMessage::decode(descriptor.clone(), bytes).unwrap();
    assert_eq!(decode(&again), decode(&message));
}

/// A small, fixed source of numbers that look random.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

pub(super) fn damage(bytes: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut damaged = bytes.to_vec();
    for _ in 0..=dice.roll(3) {
        let at = dice
            .roll(damaged.len().max(1))
            .min(damaged.len().saturating_sub(1));
        match dice.roll(4) {
            0 => damaged.truncate(at),
            1 if !damaged.is_empty() => damaged[at] = u8::try_from(dice.roll(256)).unwrap(),
            2 if !damaged.is_empty() => damaged[at] = b"{}[]\":,0-.eE\\nu"[dice.roll(15)],
            _ => {
                let other = dice.roll(bytes.len().max(1));
                damaged.splice(
                    at..at,
                    bytes[other.min(bytes.len())..(other + 9).min(bytes.len())]
                        .iter()
                        .copied(),
                );
            }
        }
    }
    damaged
}

#[test]
fn damaged_json_is_refused_with_400_or_read_and_never_ends_the_process() {
    let mut dice = Dice(1);
    let call = found("POST", "/v1/things");
    for _ in 0..5000 {
        let body = damage(EVERYTHING.as_bytes(), &mut dice);
        if let Err(refusal) = call.request("", None, &body, &Options::default()) {
            assert_eq!(refusal.http, 400, "{refusal:?}");
            assert!(
                refusal.offset.is_some_and(|offset| offset <= body.len()),
                "{refusal:?}"
            );
        }
    }
}

#[test]
fn damaged_replies_are_500_or_written_as_json_and_never_end_the_process() {
    let mut dice = Dice(2);
    let message = request(EVERYTHING.as_bytes()).unwrap();
    let call = found("GET", "/v1/things/x");
    for _ in 0..5000 {
        match call.response(&damage(&message, &mut dice), &Options::default()) {
            Ok(json) => assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&json).is_ok()),
            Err(refusal) => assert_eq!(refusal.http, 500),
        }
    }
}

#[test]
fn damaged_queries_and_paths_never_end_the_process() {
    let mut dice = Dice(3);
    let router = router();
    let target = "/v1/owners/a%20b/things/x:y?number=5&inner.inner.name=%C3%A9+z&at=2024-05-01T12:00:00Z&numbers=1&numbers=2";
    for _ in 0..5000 {
        let damaged = damage(target.as_bytes(), &mut dice);
        let damaged = String::from_utf8_lossy(&damaged);
        let (path, query) = damaged.split_once('?').unwrap_or((&damaged, ""));
        if let Recognised::Found(call) = router.recognise("GET", path)
            && let Err(refusal) = call.request(query, None, b"", &Options::default())
        {
            assert_eq!(refusal.http, 400);
        }
    }
}

const OLD: &str = r#"
syntax = "proto2"; package old; import "google/api/annotations.proto";
service S { rpc R(M) returns (M) { option (google.api.http) = { post: "/m" body: "*" }; } }
message M {
    required int32 must = 1; optional string given = 2 [default = "d"]; optional Closed closed = 3;
    optional group Part = 4 { optional int32 size = 1; } repeated int32 many = 5; extensions 100 to 200;
}
extend M { optional string more = 100; }
enum Closed { ONE = 1; TWO = 2; }
"#;

#[test]
fn proto2_keeps_presence_groups_and_closed_enums() {
    let schema = Arc::new(Schema::compile(&compile("old.proto", OLD)).unwrap());
    let (router, _) = Router::build([("old", schema)]);
    let Recognised::Found(call) = router.recognise("POST", "/m") else {
        panic!()
    };
    let round = |body: &str| {
        let message = call.request("", None, body.as_bytes(), &Options::default())?;
        let json = call.response(&message, &Options::default())?;
        Ok::<_, Refusal>(String::from_utf8(json).unwrap())
    };
    let body = r#"{"must":0,"given":"d","closed":"TWO","part":{"size":1},"many":[1,2]}"#;
    assert_eq!(round(body).unwrap(), body);
    refused(
        round(r#"{"closed": 7}"#),
        "closed",
        "must be a value of old.Closed",
    );
    let json = call.response(b"\xa2\x06\x01x", &Options::default()).unwrap();
    assert_eq!(String::from_utf8(json).unwrap(), r#"{"[old.more]":"x"}"#);
}
