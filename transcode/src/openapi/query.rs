//! The fields that a query may fill, as parameters.
//!
//! | a field | is written |
//! |---|---|
//! | with one value, also of a message below, `order.size` | as its text |
//! | a list of such | once for each |
//! | a map | `labels[key]=value` |
//! | a `Struct`, `Value` or `ListValue` | as JSON |
//! | a list of messages, an `Any` | not at all |

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Value, json};

use super::types::{Types, well_known};
use crate::schema::Rule;

/// Most query parameters of one operation.
const PARAMETERS_MAX: usize = 500;
/// Deepest field that is described as a query parameter; deeper ones are taken all the same.
const PARAMETER_DEPTH_MAX: usize = 4;

/// The parameters of a request message that neither path nor body fills; `body`: the number of the field that is the body.
pub(super) fn parameters(
    input: &MessageDescriptor,
    rule: &Rule,
    body: Option<u32>,
    types: &mut Types,
) -> Vec<Value> {
    let mut query = Query {
        rule,
        body,
        types,
        found: Vec::new(),
        above: vec![input.full_name().to_owned()],
    };
    query.fields(input, "", "");
    query.found
}

struct Query<'a> {
    rule: &'a Rule,
    /// The number of the field that the body fills.
    body: Option<u32>,
    types: &'a mut Types,
    found: Vec<Value>,
    /// The messages around, so that one that holds itself has an end.
    above: Vec<String>,
}

impl Query<'_> {
    fn fields(&mut self, message: &MessageDescriptor, names: &str, json_names: &str) {
        for field in message.fields() {
            if self.found.len() >= PARAMETERS_MAX {
                return;
            }
            let name = join(names, field.name());
            let json_name = join(json_names, self.types.json_name(&field));
            if self.is_taken(&name, names.is_empty(), &field) {
                continue;
            }
            if let Kind::Message(inner) = field.kind()
                && !field.is_list()
                && !field.is_map()
                && well_known(inner.full_name()).is_none()
            {
                let known = self.above.iter().any(|above| above == inner.full_name());
                if !known && self.above.len() < PARAMETER_DEPTH_MAX {
                    self.above.push(inner.full_name().to_owned());
                    self.fields(&inner, &name, &json_name);
                    self.above.pop();
                }
                continue;
            }
            let mut parameter = json!({"name": json_name, "in": "query"});
            if let Value::Object(form) = &mut parameter
                && let Some(Value::Object(written)) = self.form(&field)
            {
                form.extend(written);
                let described = self.types.described(parameter, &field);
                self.found.push(described);
            }
        }
    }

    /// How a field that is no message of others is written, if it can be.
    fn form(&mut self, field: &FieldDescriptor) -> Option<Value> {
        if field.is_map() {
            let Kind::Message(entry) = field.kind() else {
                return None;
            };
            let value = entry.map_entry_value_field().kind();
            let one = if is_json(&value) {
                json!({"type": "string", "contentMediaType": "application/json"})
            } else {
                self.text(&value)?
            };
            let mut schema = self.types.field(field);
            schema["additionalProperties"] = one;
            return Some(json!({"style": "deepObject", "explode": true, "schema": schema}));
        }
        let kind = field.kind();
        if field.is_list() {
            let items = self.text(&kind).filter(|_| !matches!(kind, Kind::Message(_)))?;
            let schema = json!({"type": "array", "items": items});
            return Some(json!({"style": "form", "explode": true, "schema": schema}));
        }
        if is_json(&kind) {
            return Some(json!({"content": {"application/json": {"schema": self.types.kind(&kind)}}}));
        }
        Some(json!({"schema": self.text(&kind)?}))
    }

    /// What is one text.
    fn text(&mut self, kind: &Kind) -> Option<Value> {
        let told = match kind {
            Kind::Message(message) => well_known(message.full_name()).is_some() && is_one_text(message),
            _ => true,
        };
        told.then(|| plain(self.types.kind(kind)))
    }

    fn is_taken(&self, name: &str, top: bool, field: &FieldDescriptor) -> bool {
        let by_path = self.rule.variables.iter().any(|variable| variable.name == name);
        let by_body = top && self.body == Some(field.number());
        by_path || by_body
    }
}

fn join(above: &str, name: &str) -> String {
    if above.is_empty() {
        name.to_owned()
    } else {
        format!("{above}.{name}")
    }
}

/// Whether a well-known message is one text in a query.
fn is_one_text(message: &MessageDescriptor) -> bool {
    !matches!(
        message.full_name().strip_prefix("google.protobuf."),
        Some("Any" | "Struct" | "Value" | "ListValue" | "Empty")
    )
}

/// Whether it is JSON of any form.
fn is_json(kind: &Kind) -> bool {
    matches!(kind, Kind::Message(message) if matches!(
        message.full_name(),
        "google.protobuf.Struct" | "google.protobuf.Value" | "google.protobuf.ListValue"
    ))
}

/// There is no null in a query: the text would be taken as it is.
fn plain(mut schema: Value) -> Value {
    if let Some(Value::Array(kinds)) = schema.get("type").cloned()
        && let Some(first) = kinds.into_iter().next()
    {
        schema["type"] = first;
    }
    if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
        choices.retain(|choice| choice["type"] != "null");
    }
    schema
}
