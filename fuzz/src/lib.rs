//! What the targets share: the schema they speak, and the properties that hold for every message.

use std::sync::{Arc, OnceLock};

use mesh_transcode::{MessageType, Options, RequestField, Router, Schema};
use serde_json::Value;

/// One field of every type and shape, and a rule of every kind; `transcode/testdata/lab.proto`, compiled by protoc with `--include_imports`.
const DESCRIPTORS: &[u8] = include_bytes!("../schema.binpb");

/// The schema.
pub fn schema() -> &'static Arc<Schema> {
    static SCHEMA: OnceLock<Arc<Schema>> = OnceLock::new();
    SCHEMA.get_or_init(|| Arc::new(Schema::compile(DESCRIPTORS).expect("the schema is sound")))
}

/// The message with a field of every type.
pub fn message() -> &'static MessageType {
    static MESSAGE: OnceLock<MessageType> = OnceLock::new();
    MESSAGE.get_or_init(|| schema().message("lab.Everything").expect("the message is there"))
}

/// The rules of the schema.
pub fn router() -> &'static Router<()> {
    static ROUTER: OnceLock<Router<()>> = OnceLock::new();
    ROUTER.get_or_init(|| Router::build([((), Arc::clone(schema()))]).0)
}

/// Every switch, from eight bits.
pub fn options(bits: u8) -> Options {
    use mesh_transcode::UnknownInput::{Ignore, Reject};
    let bit = |at: u8| bits & 1 << at != 0;
    let unknown = |at| if bit(at) { Reject } else { Ignore };
    Options {
        unknown_fields: unknown(0),
        unknown_enums: unknown(1),
        duplicate_keys: bit(2),
        enum_any_case: bit(3),
        enum_strip_prefix: bit(4),
        print_defaults: bit(5),
        proto_names: bit(6),
        enum_numbers: bit(7),
        ..Options::default()
    }
}

/// What was read from JSON is written as JSON, read again the same, and written again the same. A message that JSON cannot
/// say (a reply over the depth of a request) ends here.
pub fn round_trip(wire: &[u8]) {
    let options = options(0b1100);
    let strict = Options::default();
    let mut json = Vec::new();
    if message().to_json(wire, &strict, &mut json).is_err() {
        assert!(json.is_empty(), "a failure leaves nothing behind");
        return;
    }
    assert!(!json.contains(&b'\n'), "one line");
    let Ok(again) = message().to_wire(&json, &options) else {
        return;
    };
    let mut second = Vec::new();
    message()
        .to_json(&again, &strict, &mut second)
        .expect("what was read can be written");
    assert!(json == second, "the round trip holds");
}

/// What policies see in a field is what its JSON says. A message that JSON cannot say ends here.
pub fn fields_agree(wire: &[u8]) {
    static FIELDS: OnceLock<Vec<(&str, RequestField)>> = OnceLock::new();
    let fields = FIELDS.get_or_init(|| {
        let method = schema().method("lab.Lab/Plain").expect("the method is there");
        let ways = ["text", "number", "long", "truth", "word", "choice_a", "perhaps", "at", "inner.name", "choice_b.name"];
        let find = |way| (way, RequestField::find(method, way).expect("the field is there"));
        ways.into_iter().map(find).collect()
    });
    let options = Options {
        print_defaults: true,
        proto_names: true,
        ..Options::default()
    };
    let mut json = Vec::new();
    if message().to_json(wire, &options, &mut json).is_err() {
        return;
    }
    let json: Value = serde_json::from_slice(&json).expect("what is written is JSON");
    for (way, field) in fields {
        let (parent, leaf) = way.rsplit_once('.').map_or((None, *way), |(parent, leaf)| (Some(parent), leaf));
        let parent = parent.map_or(Some(&json), |parent| json.get(parent));
        let wanted = match parent.map(|parent| parent.get(leaf)) {
            Some(Some(Value::String(text))) => Some(text.clone()),
            Some(Some(other)) => Some(other.to_string()),
            Some(None) => None,
            // Its default.
            None => Some(String::new()),
        };
        // Where readers may differ, nothing is said.
        if let Some(text) = field.plain(wire).and_then(|request| field.text(request)) {
            assert_eq!(Some(text), wanted, "{way}");
        }
    }
}
