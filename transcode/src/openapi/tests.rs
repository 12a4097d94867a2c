//! What the document says, place by place. That it is OpenAPI at all is for others to judge: see the end-to-end tests.

use super::*;
use crate::tests::compile;

mod said;

const SHOP: &str = r#"syntax = "proto3"; package shop.v1;
import "google/api/annotations.proto";
import "google/protobuf/timestamp.proto"; import "google/protobuf/duration.proto"; import "google/protobuf/wrappers.proto";
import "google/protobuf/any.proto"; import "google/protobuf/struct.proto"; import "google/protobuf/field_mask.proto";
// Things to buy.
service Items {
  // Finds one. By its name.
  rpc Get(GetRequest) returns (Item) {
    option (google.api.http) = { get: "/v1/{name=shelves/*/items/*}" additional_bindings { get: "/v1/i/{name}" } };
  }
  rpc Put(Item) returns (Item) {
    option (google.api.http) = { put: "/v1/i/{other}" body: "inner" response_body: "prices" };
    option deprecated = true;
  }
  rpc Any(Item) returns (Item) { option (google.api.http) = { custom { kind: "*" path: "/any/{name=**}" } body: "*" }; }
  rpc Lock(Item) returns (Item) { option (google.api.http) = { custom { kind: "LOCK" path: "/v1/lock" } }; }
  rpc Watch(GetRequest) returns (stream Item) { option (google.api.http) = { get: "/v1/items:watch" }; }
  rpc Load(stream Item) returns (Item) { option (google.api.http) = { post: "/v1/items:load" body: "*" }; }
  rpc Plain(Item) returns (Item);
}
message GetRequest {
  // Which one.
  string name = 1;
  repeated int32 sizes = 2; Inner inner = 3; Kind kind = 4; google.protobuf.Timestamp since = 5;
  google.protobuf.StringValue label = 6; map<string, string> tags = 7; google.protobuf.Struct extra = 8; repeated Inner many = 9;
}
message Inner { int64 size = 1 [deprecated = true]; Inner deeper = 2; bytes raw = 3; oneof choice { string a = 4; bool b = 5; } }
enum Kind {
  KIND_UNSPECIFIED = 0;
  // Sold by the piece.
  KIND_PIECE = 1;
}
message Item {
  string name = 1; Inner inner = 2; map<int32, double> prices = 3; google.protobuf.Any any = 4; optional uint32 count = 5;
  google.protobuf.Duration age = 6; google.protobuf.Value value = 7; google.protobuf.FieldMask mask = 8; string other = 9;
  google.protobuf.Int64Value big = 10; google.protobuf.DoubleValue part = 11;
}
"#;

fn about() -> About {
    About {
        title: "Shop".into(),
        version: "1".into(),
        servers: vec!["http://shop.example".into()],
    }
}

fn entry(text: &str) -> Entry {
    Entry {
        schema: Arc::new(Schema::compile(&compile("shop.proto", text)).unwrap()),
        unannotated: false,
        options: crate::Options::default(),
        bearer: false,
        headers: None,
    }
}

fn shop() -> Value {
    document(&about(), &[entry(SHOP)])
}

fn parameter<'a>(operation: &'a Value, name: &str) -> &'a Value {
    let found = operation["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .find(|p| p["name"] == name);
    found.unwrap_or_else(|| panic!("{name} is missing in {operation}"))
}

fn names(operation: &Value, place: &str) -> Vec<String> {
    let all = operation["parameters"].as_array().unwrap().iter();
    all.filter(|p| p["in"] == place)
        .map(|p| p["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn every_rule_is_an_operation_with_a_name_of_its_own_and_equal_input_makes_equal_bytes() {
    let document = shop();
    let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    assert_eq!(
        paths,
        [
            "/any/{name}",
            "/v1/i/{name}",
            "/v1/items:load",
            "/v1/items:watch",
            "/v1/shelves/{name_1}/items/{name_2}",
        ]
    );
    let any = document["paths"]["/any/{name}"].as_object().unwrap();
    assert_eq!(
        any.keys().collect::<Vec<_>>(),
        ["delete", "get", "patch", "post", "put"]
    );
    assert_eq!(
        document["paths"]["/v1/i/{name}"]["get"]["operationId"],
        "shop.v1.Items.Get_2"
    );
    assert_eq!(
        (&document["openapi"], &document["info"]["title"]),
        (&json!("3.1.0"), &json!("Shop"))
    );
    assert_eq!(document["servers"], json!([{"url": "http://shop.example"}]));
    assert_eq!(document.to_string(), shop().to_string());
    let mut mapped = entry(SHOP);
    mapped.unannotated = true;
    let mapped = super::document(&about(), &[mapped]);
    assert_eq!(
        mapped["paths"]["/shop.v1.Items/Plain"]["post"]["operationId"],
        "shop.v1.Items.Plain"
    );
}

#[test]
fn variables_of_several_segments_are_told_part_by_part_and_a_path_has_one_name_for_each() {
    let document = shop();
    let get = &document["paths"]["/v1/shelves/{name_1}/items/{name_2}"]["get"];
    assert_eq!(names(get, "path"), ["name_1", "name_2"]);
    let told = parameter(get, "name_2")["description"].as_str().unwrap();
    assert!(
        told.contains("Part of name") && told.contains("{name=shelves/*/items/*}"),
        "{told}"
    );
    let any = parameter(&document["paths"]["/any/{name}"]["get"], "name")["description"].clone();
    assert!(any.as_str().unwrap().contains("may hold slashes"), "{any}");
    // GET calls it name, PUT calls it other.
    let put = &document["paths"]["/v1/i/{name}"]["put"];
    assert_eq!(names(put, "path"), ["name"]);
    assert!(
        parameter(put, "name")["description"]
            .as_str()
            .unwrap()
            .contains("Part of other"),
        "{put}"
    );
}

#[test]
fn a_query_holds_what_neither_path_nor_body_has_nested_and_repeated_too() {
    let document = shop();
    let get = &document["paths"]["/v1/i/{name}"]["get"];
    assert_eq!(
        names(get, "query"),
        [
            "sizes",
            "inner.size",
            "inner.raw",
            "inner.a",
            "inner.b",
            "kind",
            "since",
            "label",
            "tags",
            "extra"
        ]
    );
    let tags = parameter(get, "tags");
    assert_eq!(
        (&tags["style"], &tags["explode"]),
        (&json!("deepObject"), &json!(true))
    );
    assert_eq!(tags["schema"]["additionalProperties"], json!({"type": "string"}));
    // A parameter has a schema or a content.
    let extra = parameter(get, "extra");
    assert_eq!(extra["content"]["application/json"]["schema"]["type"], "object");
    assert!(extra.get("schema").is_none(), "{extra}");
    assert_eq!(parameter(get, "sizes")["schema"]["type"], "array");
    assert_eq!(parameter(get, "sizes")["explode"], true);
    assert_eq!(parameter(get, "since")["schema"]["format"], "date-time");
    assert_eq!(parameter(get, "label")["schema"]["type"], "string");
    assert_eq!(parameter(get, "inner.size")["deprecated"], true);
    assert_eq!(parameter(get, "name")["description"], "Which one.");
    let put = &document["paths"]["/v1/i/{name}"]["put"];
    assert!(
        !names(put, "query").iter().any(|name| name.starts_with("inner")),
        "{put}"
    );
    assert!(
        document["paths"]["/any/{name}"]["post"]["parameters"]
            .as_array()
            .unwrap()
            .len()
            == 1
    );
}

#[test]
fn types_are_in_their_protojson_form() {
    let document = shop();
    let schemas = &document["components"]["schemas"];
    let item = &schemas["shop.v1.Item"]["properties"];
    assert_eq!(item["inner"]["$ref"], "#/components/schemas/shop.v1.Inner");
    assert_eq!(schemas["shop.v1.Inner"]["properties"]["size"]["type"], "string");
    assert_eq!(
        schemas["shop.v1.Inner"]["properties"]["deeper"]["$ref"],
        "#/components/schemas/shop.v1.Inner"
    );
    assert_eq!(
        schemas["shop.v1.Inner"]["properties"]["raw"]["contentEncoding"],
        "base64"
    );
    assert_eq!(schemas["shop.v1.Inner"]["description"], "At most one of: a, b.");
    assert_eq!(
        item["prices"]["additionalProperties"]["anyOf"][0]["format"],
        "double"
    );
    assert!(item["prices"]["propertyNames"]["pattern"].is_string());
    assert_eq!(item["any"]["required"], json!(["@type"]));
    assert_eq!(
        item["count"],
        json!({"type": "integer", "format": "uint32", "minimum": 0, "maximum": u32::MAX})
    );
    assert_eq!(item["big"]["type"], json!(["string", "null"]));
    assert_eq!(item["part"]["anyOf"][1]["type"], "null");
    assert!(item["age"]["pattern"].as_str().unwrap().ends_with("s$"));
    assert_eq!(
        schemas["shop.v1.Kind"]["anyOf"][0]["enum"],
        json!(["KIND_UNSPECIFIED", "KIND_PIECE"])
    );
    assert!(schemas.get("google.protobuf.Timestamp").is_none());
    assert_eq!(
        schemas["google.rpc.Status"]["required"],
        json!(["code", "message", "details"])
    );
}

#[test]
fn names_and_numbers_follow_the_switches_of_the_service() {
    let mut stripped = entry(SHOP);
    stripped.options.enum_strip_prefix = true;
    let stripped = document(&about(), &[stripped]);
    let kind = &stripped["components"]["schemas"]["shop.v1.Kind"];
    assert_eq!(kind["anyOf"][0]["enum"], json!(["UNSPECIFIED", "PIECE"]));
    let mut entry = entry(
        &SHOP
            .replace("string other = 9;", "string other_name = 9;")
            .replace("{other}", "{name}"),
    );
    entry.options.proto_names = true;
    entry.options.enum_numbers = true;
    entry.bearer = true;
    let document = document(&about(), &[entry]);
    let schemas = &document["components"]["schemas"];
    assert!(schemas["shop.v1.Item"]["properties"]["other_name"].is_object());
    assert_eq!(schemas["shop.v1.Kind"]["anyOf"][0]["enum"], json!([0, 1]));
    assert_eq!(
        document["components"]["securitySchemes"]["bearer"]["scheme"],
        "bearer"
    );
    assert_eq!(
        document["paths"]["/v1/i/{name}"]["get"]["security"],
        json!([{"bearer": []}, {}])
    );
}

#[test]
fn streams_and_errors_are_described_as_they_really_are() {
    let document = shop();
    let watch = &document["paths"]["/v1/items:watch"]["get"]["responses"];
    let content = watch["200"]["content"].as_object().unwrap();
    assert_eq!(
        content.keys().collect::<Vec<_>>(),
        ["application/json", "application/x-ndjson", "text/event-stream"]
    );
    assert_eq!(content["application/json"]["schema"]["type"], "array");
    let line = &content["application/x-ndjson"]["schema"]["anyOf"];
    assert_eq!(line[0]["$ref"], "#/components/schemas/shop.v1.Item");
    assert_eq!(
        line[1]["properties"]["error"]["$ref"],
        "#/components/schemas/google.rpc.Status"
    );
    assert_eq!(watch["default"]["$ref"], "#/components/responses/Error");
    let load = &document["paths"]["/v1/items:load"]["post"]["requestBody"]["content"];
    assert_eq!(load["application/json"]["schema"]["type"], "array");
    assert_eq!(
        load["application/x-ndjson"]["schema"]["$ref"],
        "#/components/schemas/shop.v1.Item"
    );
    let put = &document["paths"]["/v1/i/{name}"]["put"];
    assert_eq!(
        put["requestBody"]["content"]["application/json"]["schema"]["$ref"],
        "#/components/schemas/shop.v1.Inner"
    );
    assert_eq!(
        put["responses"]["200"]["content"]["application/json"]["schema"]["type"],
        "object"
    );
    assert_eq!(put["deprecated"], true);
}

#[test]
fn bytes_are_bytes_where_the_whole_body_is_one() {
    let text = r#"syntax = "proto3"; package f; import "google/api/annotations.proto"; import "google/api/httpbody.proto";
        service Files { rpc Swap(google.api.HttpBody) returns (google.api.HttpBody) {
            option (google.api.http) = { post: "/f" body: "*" }; } }"#;
    let body = r#"syntax = "proto3"; package google.api; message HttpBody { string content_type = 1; bytes data = 2; }"#;
    let text = text.replace("import \"google/api/httpbody.proto\";", "");
    // One file, since the definition is not among those that everybody has.
    let text = text
        .replace("google.api.HttpBody", "HttpBody")
        .replace("package f;", "package google.api;")
        + body.split_once("api;").unwrap().1;
    let document = document(&about(), &[entry(&text)]);
    let post = &document["paths"]["/f"]["post"];
    assert_eq!(
        post["requestBody"]["content"]["*/*"]["schema"]["format"],
        "binary"
    );
    assert_eq!(
        post["responses"]["200"]["content"]["*/*"]["schema"]["format"],
        "binary"
    );
}

#[test]
fn two_services_share_the_types_they_have_in_common_and_keep_the_others_apart() {
    let one = entry(SHOP);
    let mut grown = entry(
        &SHOP
            .replace("bytes raw = 3;", "bytes raw = 3; string more = 9;")
            .replace("/v1/", "/v2/"),
    );
    grown.unannotated = true;
    let document = document(&about(), &[one.clone(), one, grown]);
    let schemas = document["components"]["schemas"].as_object().unwrap();
    assert!(schemas["shop.v1.Inner"]["properties"].get("more").is_none());
    assert!(schemas["shop.v1.Inner.2"]["properties"].get("more").is_some());
    assert_eq!(
        schemas["shop.v1.Item.2"]["properties"]["inner"]["$ref"],
        "#/components/schemas/shop.v1.Inner.2"
    );
    assert!(!schemas.contains_key("shop.v1.Item.3"));
    let references = document.to_string();
    for name in references.split("#/components/schemas/").skip(1) {
        let name = name.split('"').next().unwrap();
        assert!(schemas.contains_key(name), "{name} is referred to and not there");
    }
}

#[test]
fn comments_become_descriptions_where_the_descriptors_have_them() {
    let document = shop();
    assert_eq!(
        document["tags"][0],
        json!({"name": "shop.v1.Items", "description": "Things to buy."})
    );
    let get = &document["paths"]["/v1/i/{name}"]["get"];
    assert_eq!(
        (&get["summary"], &get["description"]),
        (&json!("Finds one"), &json!("Finds one. By its name."))
    );
    let kind = &document["components"]["schemas"]["shop.v1.Kind"]["description"];
    assert_eq!(kind, "KIND_PIECE: Sold by the piece.");
    assert_eq!(comments::summary("Finds\none.\n\nMore."), "Finds one");
    // Servers that are asked by reflection rarely have any.
    let bare = {
        use prost::Message;
        let mut set = prost_reflect::prost_types::FileDescriptorSet::default();
        let schema = Schema::compile(&compile("shop.proto", SHOP)).unwrap();
        set.file
            .extend(schema.pool().file_descriptor_protos().cloned().map(|mut file| {
                file.source_code_info = None;
                file
            }));
        Schema::compile(&set.encode_to_vec()).unwrap()
    };
    let bare = Entry {
        schema: Arc::new(bare),
        unannotated: true,
        ..entry(SHOP)
    };
    assert_eq!(
        super::document(&about(), &[bare])["tags"][0],
        json!({"name": "shop.v1.Items"})
    );
}
