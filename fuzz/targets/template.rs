//! Path templates: any text as a rule, and the text itself as a path.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use mesh_proto::google::api::{HttpRule, http_rule::Pattern};
use mesh_transcode::{Recognised, Router, Schema};
use prost::Message;

/// A file descriptor, as far as it is needed here.
#[derive(Clone, PartialEq, Message)]
struct Set {
    #[prost(message, repeated, tag = "1")]
    file: Vec<File>,
}

#[derive(Clone, PartialEq, Message)]
struct File {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "4")]
    message: Vec<Descriptor>,
    #[prost(message, repeated, tag = "6")]
    service: Vec<Service>,
    #[prost(string, tag = "12")]
    syntax: String,
}

#[derive(Clone, PartialEq, Message)]
struct Descriptor {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    field: Vec<Field>,
}

#[derive(Clone, PartialEq, Message)]
struct Field {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int32, tag = "3")]
    number: i32,
    #[prost(int32, tag = "4")]
    label: i32,
    #[prost(int32, tag = "5")]
    kind: i32,
    #[prost(string, tag = "6")]
    type_name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Service {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    method: Vec<Method>,
}

#[derive(Clone, PartialEq, Message)]
struct Method {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    input: String,
    #[prost(string, tag = "3")]
    output: String,
    #[prost(message, optional, tag = "4")]
    options: Option<MethodOptions>,
}

#[derive(Clone, PartialEq, Message)]
struct MethodOptions {
    #[prost(message, optional, tag = "72295728")]
    http: Option<HttpRule>,
}

fn schema(template: &str) -> Vec<u8> {
    let field = |name: &str, number, kind, type_name: &str| Field {
        name: name.into(),
        number,
        label: 1,
        kind,
        type_name: type_name.into(),
    };
    let rule = HttpRule {
        pattern: Some(Pattern::Get(template.into())),
        ..HttpRule::default()
    };
    let method = Method {
        name: "R".into(),
        input: ".M".into(),
        output: ".M".into(),
        options: Some(MethodOptions { http: Some(rule) }),
    };
    let file = File {
        name: "m.proto".into(),
        message: vec![Descriptor {
            name: "M".into(),
            field: vec![
                field("a", 1, 9, ""),
                field("b", 2, 11, ".M"),
                field("c", 3, 5, ""),
            ],
        }],
        service: vec![Service {
            name: "S".into(),
            method: vec![method],
        }],
        syntax: "proto3".into(),
    };
    Set { file: vec![file] }.encode_to_vec()
}

fuzz_target!(|data: &str| {
    let (template, path) = data.split_once('\n').unwrap_or((data, data));
    let Ok(schema) = Schema::compile(&schema(template)) else {
        return;
    };
    let (router, conflicts) = Router::build([((), Arc::new(schema))]);
    assert!(conflicts.is_empty(), "one rule has no conflict");
    if let Recognised::Found(found) = router.recognise("GET", path) {
        assert_eq!(found.template(), template);
        assert!(found.bindings().all(|(_, value)| !value.contains('\0')));
    }
});
