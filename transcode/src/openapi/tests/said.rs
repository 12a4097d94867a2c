//! What callers may say in a query, and what they may be answered.

use super::*;

#[test]
fn maps_are_described_by_what_their_values_are_as_text_and_lists_of_messages_are_not_there() {
    let text = r#"syntax = "proto3"; package maps.v1; import "google/api/annotations.proto";
import "google/protobuf/struct.proto"; import "google/protobuf/duration.proto";
service S { rpc Get(In) returns (Out) { option (google.api.http) = { get: "/v1" }; } }
message In {
  map<bool, Kind> kinds = 1; map<string, google.protobuf.Value> free = 2; map<int32, google.protobuf.Duration> ages = 3;
  map<string, Out> outs = 4; repeated google.protobuf.Duration all = 5; repeated google.protobuf.Value values = 6; Low low = 7;
}
message Low { map<string, int32> counts = 1; google.protobuf.ListValue list = 2; }
message Out {}
enum Kind { KIND_UNSPECIFIED = 0; }
"#;
    let document = document(&about(), &[entry(text)]);
    let get = &document["paths"]["/v1"]["get"];
    assert_eq!(
        names(get, "query"),
        ["kinds", "free", "ages", "low.counts", "low.list"]
    );
    let values = |name: &str| &parameter(get, name)["schema"]["additionalProperties"];
    assert_eq!(values("kinds")["$ref"], "#/components/schemas/maps.v1.Kind");
    assert_eq!(
        parameter(get, "kinds")["schema"]["propertyNames"]["pattern"],
        "^(true|false)$"
    );
    assert_eq!(values("free")["contentMediaType"], "application/json");
    assert_eq!(values("ages")["type"], "string");
    assert_eq!(values("low.counts")["type"], "integer");
}

#[test]
fn every_success_is_declared_and_tags_where_the_message_has_one() {
    let text = r#"syntax = "proto3"; package tags.v1; import "google/api/annotations.proto";
service S {
  rpc Get(In) returns (Tagged) { option (google.api.http) = { get: "/v1/a" additional_bindings { custom { kind: "*" path: "/any" } } }; }
  rpc Put(In) returns (Tagged) { option (google.api.http) = { put: "/v1/a" body: "*" }; }
  rpc Bare(In) returns (In) { option (google.api.http) = { get: "/v1/b" }; }
  rpc Watch(In) returns (stream Tagged) { option (google.api.http) = { get: "/v1/c" }; }
}
message In { string name = 1; } message Tagged { string etag = 1; }
"#;
    let document = document(&about(), &[entry(text)]);
    let codes = |path: &str, verb: &str| -> Vec<String> {
        let operation = &document["paths"][path][verb];
        operation["responses"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect()
    };
    let sorted = |codes: &[&str]| -> Vec<String> {
        let mut codes: Vec<String> = codes.iter().map(|code| (*code).to_owned()).collect();
        codes.sort_unstable();
        codes
    };
    let told = |path, verb| {
        let mut told = codes(path, verb);
        told.sort_unstable();
        told
    };
    let unary = ["200", "204", "205", "2XX", "default"];
    let read = ["200", "204", "205", "2XX", "304", "default"];
    assert_eq!(told("/v1/a", "get"), sorted(&read));
    assert_eq!(told("/any", "get"), sorted(&read));
    assert_eq!(told("/v1/b", "get"), sorted(&read));
    assert_eq!(told("/any", "post"), sorted(&unary));
    assert_eq!(told("/v1/a", "put"), sorted(&unary));
    assert_eq!(told("/v1/c", "get"), sorted(&["200", "2XX", "default"]));
    let of = |path: &str, verb: &str, code: &str| &document["paths"][path][verb]["responses"][code];
    for code in ["200", "2XX"] {
        assert!(of("/v1/a", "put", code)["headers"]["ETag"].is_object());
        assert_eq!(of("/v1/b", "get", code).get("headers"), None);
        assert_eq!(of("/v1/c", "get", code).get("headers"), None);
        assert_eq!(
            of("/v1/a", "get", code)["content"],
            of("/v1/a", "get", "200")["content"]
        );
    }
    assert!(
        document["components"]["responses"]["Nothing"]
            .get("content")
            .is_none()
    );
    assert_eq!(
        names(&document["paths"]["/v1/a"]["get"], "header"),
        ["If-None-Match"]
    );
    assert_eq!(names(&document["paths"]["/v1/b"]["get"], "header"), [""; 0]);
}

#[test]
fn headers_that_stand_for_fields_are_parameters_and_headers_of_the_good_answer() {
    use mesh_proto::domain::{HeaderField, Rest};
    let text = r#"
syntax = "proto3"; package shop;
import "google/api/annotations.proto";
service Items {
  rpc Get(In) returns (Page) { option (google.api.http) = { get: "/v1/a" }; }
  rpc Bare(Page) returns (In) { option (google.api.http) = { get: "/v1/b" }; }
  rpc Watch(In) returns (stream Page) { option (google.api.http) = { get: "/v1/c" }; }
}
message In { Who who = 1; } message Who { int32 tenant = 1; } message Page { int64 total = 1; string version = 2; }
"#;
    let field = |header: &str, field: &str| HeaderField {
        header: header.into(),
        field: field.into(),
        methods: Vec::new(),
    };
    let rest = Rest {
        request_headers: vec![field("x-tenant", "who.tenant")],
        response_headers: vec![field("x-total-count", "total"), field("etag", "version")],
        ..Rest::default()
    };
    let mut entry = entry(text);
    entry.headers = HeaderFields::compile(&rest, &entry.schema).0.map(Arc::new);
    let document = document(&about(), &[entry]);
    let get = |path: &str| &document["paths"][path]["get"];
    assert_eq!(names(get("/v1/a"), "header"), ["x-tenant", "If-None-Match"]);
    assert_eq!(parameter(get("/v1/a"), "x-tenant")["schema"]["format"], "int32");
    let headers = &get("/v1/a")["responses"]["200"]["headers"];
    assert_eq!(headers["x-total-count"]["schema"]["format"], "int64");
    assert!(
        headers["ETag"].is_object() && headers.get("etag").is_none(),
        "{headers}"
    );
    assert_eq!(names(get("/v1/b"), "header"), [""; 0]);
    assert_eq!(get("/v1/b")["responses"]["200"].get("headers"), None);
    assert_eq!(names(get("/v1/c"), "header"), ["x-tenant"]);
    assert_eq!(get("/v1/c")["responses"]["200"].get("headers"), None);
}
