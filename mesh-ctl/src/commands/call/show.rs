//! What there is to call, and what a method takes and gives.

use std::sync::Arc;

use mesh_transcode::{Method, Schema};
use serde_json::{Value, json};

use crate::cli::{Format, Global};
use crate::failure::Failure;
use crate::output;

/// Every method, with the HTTP rules that reach it.
pub(super) fn list(global: &Global, schema: &Schema) -> Result<(), Failure> {
    if global.output != Format::Table {
        let methods: Vec<Value> = schema.methods().map(value).collect();
        return output::print_value(global.output, &json!({"methods": methods}));
    }
    let mut table = output::table(&["METHOD", "TAKES", "GIVES", "HTTP"]);
    for method in schema.methods() {
        let kind = |stream: bool, name: &str| {
            if stream {
                format!("stream {name}")
            } else {
                name.to_owned()
            }
        };
        let rules: Vec<String> = method
            .http_rules()
            .map(|(verb, path)| format!("{verb} {path}"))
            .collect();
        table.add_row([
            output::cell(method.name()),
            output::cell(kind(method.client_streaming(), method.input().full_name())),
            output::cell(kind(method.server_streaming(), method.output().full_name())),
            output::cell(rules.join(", ")),
        ]);
    }
    output::print_table(&table)
}

/// One method and every message it leans on, as a .proto file would have them.
pub(super) fn describe(global: &Global, schema: &Schema, method: &Arc<Method>) -> Result<(), Failure> {
    let text = schema.describe(method);
    if global.output != Format::Table {
        let mut told = value(method);
        if let Value::Object(entries) = &mut told {
            entries.insert("definition".into(), text.into());
        }
        return output::print_value(global.output, &told);
    }
    let lines: Vec<String> = text.lines().map(output::safe).collect();
    output::print(&format!("{}\n", lines.join("\n")))
}

fn value(method: &Arc<Method>) -> Value {
    let rules: Vec<Value> = method
        .http_rules()
        .map(|(verb, path)| json!({"method": verb, "path": path}))
        .collect();
    json!({
        "name": method.name(),
        "input": method.input().full_name(),
        "output": method.output().full_name(),
        "clientStreaming": method.client_streaming(),
        "serverStreaming": method.server_streaming(),
        "http": rules,
    })
}
