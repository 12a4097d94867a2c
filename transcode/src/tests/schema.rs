//! What compiles, and what is told about what does not.

use super::*;

fn told(rules: &str) -> String {
    let text = format!(
        r#"syntax = "proto3"; package bad; import "google/api/annotations.proto"; import "google/protobuf/timestamp.proto";
        service S {{ {rules} }}
        message M {{ string a = 1; N n = 2; repeated string many = 3; map<string, string> map = 4; google.protobuf.Timestamp at = 5;
            google.api.HttpBody raw = 6; }}
        message N {{ string b = 1; }}"#
    );
    // HttpBody is not among our imports; a schema that has it brings it along.
    let text = text.replace("google.api.HttpBody", ".bad.HttpBody") + "message HttpBody { bytes data = 1; }";
    Schema::compile(&compile("bad.proto", &text))
        .unwrap_err()
        .to_string()
}

fn rule(rule: &str) -> String {
    told(&format!(
        "rpc R(M) returns (M) {{ option (google.api.http) = {{ {rule} }}; }}"
    ))
}

#[test]
fn the_annotations_survive_the_build() {
    let schema = lab();
    let rules: Vec<_> = schema
        .method("lab.Lab/Get")
        .unwrap()
        .http_rules()
        .map(|(m, p)| format!("{m} {p}"))
        .collect();
    assert_eq!(rules[0], "GET /v1/things/{text}");
    assert_eq!(rules.len(), 4);
}

#[test]
fn services_and_methods_are_listed_with_their_kinds() {
    let schema = lab();
    assert_eq!(schema.services().collect::<Vec<_>>(), ["lab.Lab"]);
    let kind = |name| {
        let method = schema.method(name).unwrap();
        (method.client_streaming(), method.server_streaming())
    };
    assert_eq!(kind("lab.Lab/Get"), (false, false));
    assert_eq!(kind("lab.Lab/Watch"), (false, true));
    assert_eq!(kind("lab.Lab/Talk"), (true, true));
    assert!(schema.method("lab.Lab/Nothing").is_none());
    assert!(schema.method("/lab.Lab/Get").is_none());
}

#[test]
fn annotations_are_found_by_number_without_their_definition() {
    use prost::Message;
    let bytes = compile("lab.proto", include_str!("../../testdata/lab.proto"));
    let mut set = RawSet::decode(bytes.as_slice()).unwrap();
    // The files are named in the set; the importing file still depends on them, so they are emptied, not removed.
    for file in &mut set.file {
        let name = prost_reflect::prost_types::FileDescriptorProto::decode(file.as_slice())
            .unwrap()
            .name;
        if name.as_deref() == Some("google/api/annotations.proto") {
            let empty = prost_reflect::prost_types::FileDescriptorProto {
                name,
                ..Default::default()
            };
            *file = empty.encode_to_vec();
        }
    }
    let schema = Schema::compile(&set.encode_to_vec()).unwrap();
    assert_eq!(schema.method("lab.Lab/Get").unwrap().http_rules().count(), 4);
}

#[derive(Clone, PartialEq, prost::Message)]
struct RawSet {
    #[prost(bytes = "vec", repeated, tag = "1")]
    file: Vec<Vec<u8>>,
}

#[test]
fn bytes_that_are_no_descriptors_and_sets_without_their_imports_are_refused() {
    use prost::Message;
    assert!(Schema::compile(b"\xff\xff").is_err());
    let bytes = compile("lab.proto", include_str!("../../testdata/lab.proto"));
    let mut set = RawSet::decode(bytes.as_slice()).unwrap();
    set.file.remove(0);
    let told = Schema::compile(&set.encode_to_vec()).unwrap_err().to_string();
    assert!(told.contains("--include_imports"), "{told}");
}

#[test]
fn a_fault_of_a_rule_is_told_with_the_method_and_the_part_of_the_rule() {
    for (text, place) in [
        (r#"get: "v1""#, "bad.S/R: get: "),
        (r#"get: "/v1/{nothing}""#, "bad.S/R: get: "),
        (r#"get: "/v1/{n}""#, "bad.S/R: get: "),
        (r#"get: "/v1/{at}""#, "bad.S/R: get: "),
        (r#"get: "/v1/{many}""#, "bad.S/R: get: "),
        (r#"get: "/v1/{map}""#, "bad.S/R: get: "),
        (r#"get: "/v1/{a.b}""#, "bad.S/R: get: "),
        (r#"get: "/v1/{n.c}""#, "bad.S/R: get: "),
        (r#"get: "/v1/{a}/{a}""#, "bad.S/R: get: "),
        (r#"post: "/v1" body: "nothing""#, "bad.S/R: body: "),
        (r#"post: "/v1" body: "n.b""#, "bad.S/R: body: "),
        (
            r#"get: "/v1" response_body: "nothing""#,
            "bad.S/R: response_body: ",
        ),
        (r#"body: "*""#, "bad.S/R: the HTTP rule has no method"),
        (
            r#"custom { kind: "pu rge" path: "/v1" }"#,
            "bad.S/R: custom.kind: ",
        ),
        (r#"custom { kind: "PURGE" path: "v1" }"#, "bad.S/R: custom.path: "),
        (
            r#"get: "/v1" additional_bindings { post: "v2" }"#,
            "bad.S/R: additional_bindings[0].post: ",
        ),
        (
            r#"get: "/v1" additional_bindings { get: "/v2" additional_bindings { get: "/v3" } }"#,
            "bad.S/R: additional_bindings[0]: ",
        ),
        (
            r#"get: "/v1/{a}" additional_bindings { get: "/v1/{n.b}" }"#,
            "bad.S/R: GET ",
        ),
    ] {
        let told = rule(text);
        assert!(told.starts_with(place), "{text}: {told}");
    }
}

#[test]
fn every_fault_is_told_not_only_the_first() {
    let told = told(
        r#"rpc A(M) returns (M) { option (google.api.http) = { get: "a" body: "x" }; }
           rpc B(M) returns (M) { option (google.api.http) = { get: "b" }; }"#,
    );
    assert_eq!(told.lines().count(), 3, "{told}");
}

#[test]
fn the_same_rule_on_two_methods_is_a_fault_whatever_its_variables_are_called() {
    let told = told(
        r#"rpc A(M) returns (M) { option (google.api.http) = { get: "/v1/{a}" }; }
           rpc B(M) returns (M) { option (google.api.http) = { get: "/v1/{n.b=*}" }; }"#,
    );
    assert!(told.contains("is taken already, by bad.S/A"), "{told}");
}

const FILES: &str = r#"syntax = "proto3"; package google.api; import "google/api/annotations.proto";
    service S {
        rpc Up(HttpBody) returns (M) { option (google.api.http) = { post: "/up" body: "*" }; }
        rpc In(stream M) returns (M) { option (google.api.http) = { post: "/in/{name}" body: "raw" }; }
        rpc Down(M) returns (HttpBody) { option (google.api.http) = { get: "/down" }; }
        rpc Out(M) returns (stream M) { option (google.api.http) = { get: "/out" response_body: "raw" }; }
        rpc Many(M) returns (M) { option (google.api.http) = { post: "/many" body: "many" response_body: "many" }; }
    }
    message M { HttpBody raw = 1; string name = 2; int32 part = 3; repeated HttpBody many = 4; }
    message HttpBody { string content_type = 1; bytes data = 2; }"#;

fn files(http_method: &str, path: &str) -> Match<&'static str> {
    let schema = Schema::compile(&compile("body.proto", FILES)).unwrap();
    let (router, _) = Router::build([("files", Arc::new(schema))]);
    match router.recognise(http_method, path) {
        Recognised::Found(found) => found,
        other => panic!("{http_method} {path}: {other:?}"),
    }
}

#[test]
fn an_http_body_is_told_apart_from_json_on_both_sides() {
    let kind = |http_method, path| {
        let call = files(http_method, path);
        (call.request_body_is_http_body(), call.response_is_http_body())
    };
    assert_eq!(kind("POST", "/up"), (true, false));
    assert_eq!(kind("POST", "/in/a"), (true, false));
    assert_eq!(kind("GET", "/down"), (false, true));
    assert_eq!(kind("GET", "/out"), (false, true));
    assert_eq!(kind("POST", "/many"), (false, false));
}

#[test]
fn an_uploaded_body_is_wrapped_as_it_is_and_path_and_query_are_woven_into_the_first_message_only() {
    let options = Options::default();
    let whole = files("POST", "/up")
        .http_body_first("", "image/png", b"\x89PNG", &options, &mut Vec::new())
        .unwrap();
    assert_eq!(whole, b"\x0a\x09image/png\x12\x04\x89PNG");
    let call = files("POST", "/in/a");
    let first = call
        .http_body_first("part=2", "t/x", b"one", &options, &mut Vec::new())
        .unwrap();
    assert_eq!(first, b"\x12\x01a\x18\x02\x0a\x0a\x0a\x03t/x\x12\x03one");
    let later = call.http_body_later("", b"two", &options).unwrap();
    assert_eq!(later, b"\x0a\x05\x12\x03two");
    let refusal = call
        .http_body_first("name=b", "t/x", b"", &options, &mut Vec::new())
        .unwrap_err();
    assert_eq!((refusal.http, refusal.field.as_deref()), (400, Some("name")));
    let refusal = files("GET", "/down")
        .http_body_later("t/x", b"", &options)
        .unwrap_err();
    assert_eq!(refusal.http, 415);
}

#[test]
fn a_body_over_the_limit_is_refused_and_not_wrapped() {
    let mut options = Options::default();
    options.limits.message_bytes = 10;
    let refusal = files("POST", "/up")
        .http_body_later("", &[0; 9], &options)
        .unwrap_err();
    assert_eq!(refusal.http, 413);
}

#[test]
fn an_answered_body_is_unwrapped_and_the_last_of_each_field_counts() {
    let options = Options::default();
    let down = files("GET", "/down");
    let body = down
        .http_body(b"\x0a\x01a\x12\x02xy\x0a\x01b\x50\x05", &options)
        .unwrap();
    assert_eq!((body.content_type, body.data), ("b", &b"xy"[..]));
    let out = files("GET", "/out");
    let body = out
        .http_body(b"\x0a\x03\x0a\x01a\x12\x01n\x0a\x03\x12\x01z", &options)
        .unwrap();
    assert_eq!((body.content_type, body.data), ("a", &b"z"[..]));
    assert_eq!(out.http_body(b"", &options).unwrap().data, b"");
    for bad in [&b"\x0a\x05a"[..], b"\x0a\x01\xff", b"\x07"] {
        assert_eq!(down.http_body(bad, &options).unwrap_err().http, 500, "{bad:?}");
    }
}
