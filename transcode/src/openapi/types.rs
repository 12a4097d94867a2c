//! Messages, enums and fields as JSON Schema, in their ProtoJSON form.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use prost_reflect::{
    DescriptorPool, EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor,
};
use serde_json::{Map, Value, json};

use super::comments::{Comments, summary};
use crate::Options;
use crate::schema::{Method, Schema};
use crate::table::without_prefix;

/// The name of the error body among the components.
pub(super) const STATUS: &str = "google.rpc.Status";
/// The body that is no JSON.
const HTTP_BODY: &str = "google.api.HttpBody";

/// Components in the making, and the schema whose types are looked at.
#[derive(Default)]
pub(super) struct Types {
    pool: DescriptorPool,
    options: Options,
    comments: Comments,
    /// By component name.
    written: BTreeMap<String, Value>,
    /// Component names of types, by their full name and the file that has this version of them.
    names: HashMap<String, Vec<(FileDescriptor, String)>>,
    waiting: Vec<(String, Kind)>,
}

impl Types {
    /// Goes on with the types of another schema.
    pub(super) fn enter(&mut self, schema: &Schema, options: &Options) {
        self.settle();
        self.pool = schema.pool();
        self.options = options.clone();
        self.comments.clear();
    }

    /// Every component.
    pub(super) fn finish(mut self) -> Map<String, Value> {
        self.settle();
        self.written.into_iter().collect()
    }

    /// The error body, in the words of this document.
    pub(super) fn add_status(&mut self) {
        self.settle();
        let status = json!({
            "type": "object",
            "description": "Why a call failed.",
            "required": ["code", "message", "details"],
            "properties": {
                "code": {"type": "integer", "format": "int32", "minimum": 0, "description": "A gRPC status code."},
                "message": {"type": "string"},
                "details": {"type": "array", "items": any(), "description":
                    "More about it. A detail of a type that is not known here has its bytes as base64 under value."},
            },
        });
        self.written.insert(STATUS.to_owned(), status);
    }

    /// A service as a tag.
    pub(super) fn tag(&mut self, service: &str) -> Value {
        let found = self.pool.get_service_by_name(service);
        let comment = found.and_then(|found| self.comments.at(&found.parent_file(), found.path()));
        match comment {
            Some(text) => json!({"name": service, "description": text}),
            None => json!({"name": service}),
        }
    }

    /// What a method's comment says, and whether it is deprecated.
    pub(super) fn method(&mut self, method: &Method) -> (Option<String>, bool) {
        let found = method.name().split_once('/').and_then(|(service, name)| {
            let service = self.pool.get_service_by_name(service)?;
            service.methods().find(|method| method.name() == name)
        });
        let Some(found) = found else { return (None, false) };
        let options = found.method_descriptor_proto().options.as_ref();
        let deprecated = options.is_some_and(prost_reflect::prost_types::MethodOptions::deprecated);
        (self.comments.at(&found.parent_file(), found.path()), deprecated)
    }

    /// A message of the present schema.
    pub(super) fn descriptor(&self, full_name: &str) -> Option<MessageDescriptor> {
        self.pool.get_message_by_name(full_name)
    }

    /// The field at a path of proto names, `a.b`.
    pub(super) fn field_at(&self, message: &str, path: &str) -> Option<FieldDescriptor> {
        let mut within = self.descriptor(message)?;
        let mut names = path.split('.').peekable();
        while let Some(name) = names.next() {
            let field = within.get_field_by_name(name)?;
            if names.peek().is_none() {
                return Some(field);
            }
            match field.kind() {
                Kind::Message(inner) => within = inner,
                _ => return None,
            }
        }
        None
    }

    /// The name a field has in JSON.
    pub(super) fn json_name<'a>(&self, field: &'a FieldDescriptor) -> &'a str {
        if self.options.proto_names {
            field.name()
        } else {
            field.json_name()
        }
    }

    /// The comment at a field.
    pub(super) fn field_comment(&mut self, field: &FieldDescriptor) -> Option<String> {
        self.comments.at(&field.parent_file(), field.path())
    }

    /// A message, by reference where it has no JSON form of its own.
    pub(super) fn message(&mut self, message: &MessageDescriptor) -> Value {
        match well_known(message.full_name()) {
            Some(schema) => schema,
            None => self.reference(
                message.full_name(),
                message.parent_file(),
                Kind::Message(message.clone()),
            ),
        }
    }

    /// A field with all it holds: a list, a map or one value.
    pub(super) fn field(&mut self, field: &FieldDescriptor) -> Value {
        if field.is_map()
            && let Kind::Message(entry) = field.kind()
        {
            let value = self.kind(&entry.map_entry_value_field().kind());
            let mut map = json!({"type": "object", "additionalProperties": value});
            if let Some(pattern) = key_pattern(&entry.map_entry_key_field().kind()) {
                map["propertyNames"] = json!({"pattern": pattern});
            }
            return map;
        }
        let one = self.kind(&field.kind());
        if field.is_list() {
            json!({"type": "array", "items": one})
        } else {
            one
        }
    }

    /// One value.
    pub(super) fn kind(&mut self, kind: &Kind) -> Value {
        match kind {
            Kind::Message(message) => self.message(message),
            Kind::Enum(words) if words.full_name() == "google.protobuf.NullValue" => json!({"type": "null"}),
            Kind::Enum(words) => self.reference(words.full_name(), words.parent_file(), kind.clone()),
            plain => scalar(plain),
        }
    }

    fn reference(&mut self, full_name: &str, file: FileDescriptor, kind: Kind) -> Value {
        let versions = self.names.entry(full_name.to_owned()).or_default();
        let same = |(other, _): &&(FileDescriptor, String)| {
            *other == file || other.file_descriptor_proto() == file.file_descriptor_proto()
        };
        let name = match versions.iter().find(same) {
            Some((_, name)) => name.clone(),
            None => {
                // Two services may have different versions of one type.
                let name = match versions.len() {
                    0 => full_name.to_owned(),
                    earlier => format!("{full_name}.{}", earlier + 1),
                };
                versions.push((file, name.clone()));
                self.waiting.push((name.clone(), kind));
                name
            }
        };
        json!({"$ref": format!("#/components/schemas/{name}")})
    }

    /// Writes what has been referred to, and what that refers to.
    fn settle(&mut self) {
        while let Some((name, kind)) = self.waiting.pop() {
            let value = match &kind {
                Kind::Message(message) => self.write_message(message),
                Kind::Enum(words) => self.write_enum(words),
                _ => continue,
            };
            self.written.insert(name, value);
        }
    }

    fn write_message(&mut self, message: &MessageDescriptor) -> Value {
        let mut properties = Map::new();
        let mut required = Vec::new();
        for field in message.fields() {
            let value = self.field(&field);
            let value = self.described(value, &field);
            let name = self.json_name(&field).to_owned();
            if field.is_required() {
                required.push(name.clone());
            }
            properties.insert(name, value);
        }
        let mut schema = json!({"type": "object", "properties": properties});
        if !required.is_empty() {
            schema["required"] = required.into();
        }
        let mut text = self
            .comments
            .at(&message.parent_file(), message.path())
            .unwrap_or_default();
        for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic()) {
            let members: Vec<String> = oneof
                .fields()
                .map(|field| self.json_name(&field).to_owned())
                .collect();
            let blank = if text.is_empty() { "" } else { "\n\n" };
            let _ = write!(text, "{blank}At most one of: {}.", members.join(", "));
        }
        if !text.is_empty() {
            schema["description"] = text.into();
        }
        let options = message.descriptor_proto().options.as_ref();
        if options.is_some_and(prost_reflect::prost_types::MessageOptions::deprecated) {
            schema["deprecated"] = true.into();
        }
        schema
    }

    /// With the field's comment and whether it is deprecated. Beside a reference both are allowed since 3.1.
    pub(super) fn described(&mut self, mut value: Value, field: &FieldDescriptor) -> Value {
        if let Some(text) = self.field_comment(field) {
            value["description"] = text.into();
        }
        let options = field.field_descriptor_proto().options.as_ref();
        if options.is_some_and(prost_reflect::prost_types::FieldOptions::deprecated) {
            value["deprecated"] = true.into();
        }
        value
    }

    fn write_enum(&mut self, words: &EnumDescriptor) -> Value {
        let file = words.parent_file();
        let mut text = self.comments.at(&file, words.path()).unwrap_or_default();
        let mut names: Vec<Value> = Vec::new();
        for value in words.values() {
            let stripped = without_prefix(words, value.name()).filter(|_| self.options.enum_strip_prefix);
            let name = stripped.unwrap_or_else(|| value.name()).to_owned();
            names.push(if self.options.enum_numbers {
                value.number().into()
            } else {
                name.clone().into()
            });
            if let Some(comment) = self.comments.at(&file, value.path()) {
                let blank = if text.is_empty() { "" } else { "\n\n" };
                let _ = write!(text, "{blank}{name}: {}.", summary(&comment));
            }
        }
        names.dedup();
        // A number that has no name in this version stands for itself.
        let known = json!({"enum": names});
        let mut schema = json!({"anyOf": [known, {"type": "integer", "format": "int32"}]});
        if !text.is_empty() {
            schema["description"] = text.into();
        }
        schema
    }
}

/// Whether a message is a body as it is, when it is all there is.
pub(super) fn is_http_body(kind: &Kind) -> bool {
    matches!(kind, Kind::Message(message) if message.full_name() == HTTP_BODY)
}

fn any() -> Value {
    json!({
        "type": "object",
        "required": ["@type"],
        "properties": {"@type": {"type": "string", "description": "The full name of the message, as a URL."}},
        "additionalProperties": true,
    })
}

/// Messages whose JSON is not an object of their fields.
pub(super) fn well_known(name: &str) -> Option<Value> {
    let nullable = |mut schema: Value| {
        let kind = schema["type"].take();
        schema["type"] = json!([kind, "null"]);
        schema
    };
    Some(match name.strip_prefix("google.protobuf.")? {
        "Timestamp" => json!({"type": "string", "format": "date-time"}),
        "Duration" => {
            json!({"type": "string", "pattern": r"^-?[0-9]{1,12}(\.[0-9]{1,9})?s$", "examples": ["1.5s"]})
        }
        "FieldMask" => {
            json!({"type": "string", "description": "Field paths in lowerCamel, with commas between."})
        }
        "Empty" => json!({"type": "object"}),
        "Any" => any(),
        "Struct" => json!({"type": "object", "additionalProperties": true}),
        "ListValue" => json!({"type": "array", "items": true}),
        "Value" => json!({"description": "Any JSON value."}),
        "BoolValue" => nullable(scalar(&Kind::Bool)),
        "StringValue" => nullable(scalar(&Kind::String)),
        "BytesValue" => nullable(scalar(&Kind::Bytes)),
        "Int32Value" => nullable(scalar(&Kind::Int32)),
        "UInt32Value" => nullable(scalar(&Kind::Uint32)),
        "Int64Value" => nullable(scalar(&Kind::Int64)),
        "UInt64Value" => nullable(scalar(&Kind::Uint64)),
        "FloatValue" | "DoubleValue" => {
            let format = if name.ends_with("FloatValue") {
                Kind::Float
            } else {
                Kind::Double
            };
            json!({"anyOf": [scalar(&format), {"type": "null"}]})
        }
        _ => return None,
    })
}

fn scalar(kind: &Kind) -> Value {
    let number = |format: &str| {
        json!({"anyOf": [
            {"type": "number", "format": format},
            {"type": "string", "enum": ["NaN", "Infinity", "-Infinity"]},
        ]})
    };
    match kind {
        Kind::Double => number("double"),
        Kind::Float => number("float"),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            json!({"type": "integer", "format": "int32", "minimum": i32::MIN, "maximum": i32::MAX})
        }
        Kind::Uint32 | Kind::Fixed32 => {
            json!({"type": "integer", "format": "uint32", "minimum": 0, "maximum": u32::MAX})
        }
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            json!({"type": "string", "format": "int64", "pattern": "^-?[0-9]{1,18}$"})
        }
        Kind::Uint64 | Kind::Fixed64 => {
            json!({"type": "string", "format": "uint64", "pattern": "^[0-9]{1,19}$"})
        }
        Kind::Bool => json!({"type": "boolean"}),
        Kind::String => json!({"type": "string"}),
        Kind::Bytes => json!({"type": "string", "format": "byte", "contentEncoding": "base64"}),
        Kind::Enum(_) | Kind::Message(_) => json!({}),
    }
}

/// What the keys of a map look like, where not any text will do.
fn key_pattern(kind: &Kind) -> Option<&'static str> {
    match kind {
        Kind::String => None,
        Kind::Bool => Some("^(true|false)$"),
        Kind::Uint32 | Kind::Uint64 | Kind::Fixed32 | Kind::Fixed64 => Some("^[0-9]{1,10}$"),
        _ => Some("^-?[0-9]{1,10}$"),
    }
}
