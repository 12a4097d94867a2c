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

#[test]
fn http_body_is_refused_and_never_mistranslated() {
    let text = r#"syntax = "proto3"; package google.api; import "google/api/annotations.proto";
        service S {
            rpc Up(HttpBody) returns (M) { option (google.api.http) = { post: "/up" body: "*" }; }
            rpc In(M) returns (M) { option (google.api.http) = { post: "/in" body: "raw" }; }
            rpc Down(M) returns (HttpBody) { option (google.api.http) = { get: "/down" }; }
            rpc Out(M) returns (M) { option (google.api.http) = { get: "/out" response_body: "raw" }; }
            rpc Grpc(HttpBody) returns (HttpBody);
        }
        message M { HttpBody raw = 1; }
        message HttpBody { bytes data = 1; }"#;
    let told = Schema::compile(&compile("body.proto", text))
        .unwrap_err()
        .to_string();
    assert_eq!(told.matches("HttpBody is not supported yet").count(), 4, "{told}");
}
