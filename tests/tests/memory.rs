//! What the worst body costs in memory: never more than a small multiple of its own size, whatever its shape.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use mesh_tests::documents::instance;
use mesh_tests::golden::schema::protoc;
use mesh_tests::{Folder, Sidecar, SidecarPlan};
use serde_json::json;

/// Of each hostile body, in bytes.
const BODY_BYTES: usize = 2 << 20;
/// Bytes that may be held for each byte of a body.
const BYTES_A_BYTE: u64 = 16;

const SCHEMA: &str = r#"
syntax = "proto3";
package memory;
import "all.proto";
import "google/api/annotations.proto";
service Memory {
  rpc Echo(golden.All) returns (golden.All) { option (google.api.http) = {post: "/v1/echo" body: "*"}; }
}
"#;

/// An edge before a service that nobody runs: bodies are read and judged before anybody is asked.
fn edge(folder: &Folder) -> Sidecar {
    folder.write("memory.proto", SCHEMA);
    folder.write("memory.binpb", protoc(folder, &["memory.proto".into()]));
    let service = json!({
        "apiVersion": "mesh/v1",
        "kind": "Service",
        "metadata": {"name": "memory"},
        "spec": {"protocol": "grpc", "schema": {"file": "../memory.binpb"}},
    });
    folder.write("documents/memory.yaml", service.to_string());
    folder.write(
        "documents/instances.yaml",
        instance("memory/a", "127.0.0.1:1", "plaintext"),
    );
    SidecarPlan::new("web.edge", "edge")
        .standalone(&folder.join("documents"))
        .edge(&json!([{"service": "memory"}]))
        .start()
}

/// So many bytes of `before`, `each` again and again, and `after`; `#` in `each` is its number.
fn body(before: &str, each: &str, after: &str) -> String {
    let mut text = before.to_owned();
    for number in 0_usize.. {
        let piece = each.replace('#', &number.to_string());
        if text.len() + piece.len() + after.len() > BODY_BYTES {
            break;
        }
        if number > 0 {
            text.push(',');
        }
        text.push_str(&piece);
    }
    text + after
}

#[test]
fn no_shape_of_a_body_costs_more_than_sixteen_times_its_size() {
    let folder = Folder::new();
    let mut edge = edge(&folder);
    let shapes = [
        ("empty messages", body(r#"{"inners":["#, "{}", "]}")),
        ("empty strings", body(r#"{"texts":["#, r#""""#, "]}")),
        ("zeros", body(r#"{"numbers":["#, "0", "]}")),
        ("short numbers as text", body(r#"{"longs":["#, r#""7""#, "]}")),
        ("zeros of a Value", body(r#"{"value":["#, "0", "]}")),
        ("empty objects of a Value", body(r#"{"value":["#, "{}", "]}")),
        ("keys of a Struct", body(r#"{"struct":{"#, r##""#":0"##, "}}")),
        ("keys of a map", body(r#"{"labels":{"#, r##""#":"""##, "}}")),
        (
            "numbers as keys of a map",
            body(r#"{"byNumber":{"#, r##""#":{}"##, "}}"),
        ),
        ("unknown members", body("{", r##""x#":0"##, "}")),
        (
            "unknown members within lists",
            body(r#"{"inners":["#, r#"{"a":0}"#, "]}"),
        ),
        ("one member again and again", body("{", r#""text":"""#, "}")),
        (
            "empty objects that are skipped",
            body(r#"{"nobody":["#, "{}", "]}"),
        ),
        (
            "lists of a Value",
            body(r#"{"value":["#, "[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]", "]}"),
        ),
        (
            "Structs within a list",
            body(
                r#"{"values":["#,
                r#"{"a":0,"b":0,"c":0,"d":0,"e":0,"f":0,"g":0,"h":0,"i":0,"j":0,"k":0,"l":0}"#,
                "]}",
            ),
        ),
        (
            "messages with unknown members",
            body(
                r#"{"inners":["#,
                r#"{"a":0,"b":0,"c":0,"d":0,"e":0,"f":0,"g":0,"h":0,"i":0,"j":0,"k":0,"l":0}"#,
                "]}",
            ),
        ),
        (
            "messages within messages",
            body(
                r#"{"child":{"child":{"inners":["#,
                r#"{"name":"aaaaaaaaaaaaaaaaaa","deeper":{"deeper":{}}}"#,
                "]}}}",
            ),
        ),
        (
            "an Any whose type comes last",
            body(
                r#"{"any":{"value":["#,
                "0",
                r#"],"@type":"type.googleapis.com/google.protobuf.Value"}}"#,
            ),
        ),
        (
            "an Any whose type never comes",
            body(r#"{"any":{"value":["#, "0", "]}}"),
        ),
        ("paths of a mask", body(r#"{"mask":""#, "a", r#""}"#)),
        ("escapes", body(r#"{"text":""#, r"\u0041", r#""}"#)),
        (
            "one long number",
            body(r#"{"doubleValue":1"#, "0", "}").replace("0,", "00"),
        ),
        ("white space", body("{ ", "    ", "}").replace(',', " ")),
        ("a string that is not closed", body(r#"{"text":""#, "aaaa", "")),
    ];
    for (shape, text) in shapes {
        folder.write("body", &text);
        let process = edge.process();
        process.forget_peak();
        let (before, _) = process.usage();
        let answer = edge
            .get("/v1/echo")
            .with(&["--data-binary", &format!("@{}", folder.join("body").display())])
            .header("content-type: application/json")
            .call();
        // Refused, or read whole and then told that nobody is there.
        assert!(matches!(answer.status, 400 | 413 | 503), "{shape}: {answer:?}");
        let peak = edge.process().peak();
        let taken = peak.saturating_sub(before);
        assert!(
            taken <= BYTES_A_BYTE * text.len() as u64,
            "{shape}: {} KiB for {} KiB of body",
            taken >> 10,
            text.len() >> 10
        );
    }
}
