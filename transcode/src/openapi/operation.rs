//! One rule as an operation: what callers send, and all that they may be answered.

use prost_reflect::Kind;
use serde_json::{Map, Value, json};

use super::comments::summary;
use super::paths::Part;
use super::query;
use super::types::{STATUS, Types, is_http_body};
use crate::schema::{Body, Rule};
use crate::{HeaderField, MessageType, MethodHeaders, Route};

const ETAG: &str = "etag";

/// See the module.
pub(super) struct Operation<'a> {
    pub(super) route: &'a Route,
    pub(super) bearer: bool,
    pub(super) headers: Option<&'a MethodHeaders>,
    /// Of the methods of a rule for any, the one that is described.
    pub(super) http_method: &'a str,
}

impl Operation<'_> {
    pub(super) fn write(&self, id: &str, parts: &[Part], types: &mut Types) -> Value {
        let method = &self.route.method;
        let (comment, deprecated) = types.method(method);
        let mut operation = Map::new();
        operation.insert("operationId".into(), id.into());
        if let Some((service, _)) = method.name().split_once('/') {
            operation.insert("tags".into(), json!([service]));
        }
        let mut description = comment.unwrap_or_default();
        if !description.is_empty() {
            operation.insert("summary".into(), summary(&description).into());
        }
        if let Some(note) = stream_note(self.route) {
            if !description.is_empty() {
                description.push_str("\n\n");
            }
            description.push_str(note);
        }
        if !description.is_empty() {
            operation.insert("description".into(), description.into());
        }
        if deprecated {
            operation.insert("deprecated".into(), true.into());
        }
        let parameters = self.parameters(parts, types);
        if !parameters.is_empty() {
            operation.insert("parameters".into(), parameters.into());
        }
        if let Some(body) = self.request_body(types) {
            operation.insert("requestBody".into(), body);
        }
        operation.insert("responses".into(), self.responses(types));
        if self.bearer {
            // Whether a token is needed is for the policies to say, call by call.
            operation.insert("security".into(), json!([{"bearer": []}, {}]));
        }
        operation.into()
    }

    fn parameters(&self, parts: &[Part], types: &mut Types) -> Vec<Value> {
        let rule = &self.route.rule;
        let input_name = self.route.method.input().full_name();
        let mut parameters: Vec<Value> = parts
            .iter()
            .map(|part| path_parameter(rule, part, input_name, types))
            .collect();
        let body = match &rule.body {
            Body::Field(index) => Some(self.route.method.input().tables.field(*index).number),
            Body::None | Body::Whole => None,
        };
        if let Some(input) = types.descriptor(input_name)
            && !matches!(rule.body, Body::Whole)
            && !is_http_body(&Kind::Message(input.clone()))
        {
            parameters.append(&mut query::parameters(&input, rule, body, types));
        }
        for one in self.headers.map(MethodHeaders::request).unwrap_or_default() {
            parameters.push(header_parameter(one, input_name, types));
        }
        if self.may_be_known() && self.has_tag() {
            parameters.push(json!({
                "name": "If-None-Match",
                "in": "header",
                "description": "Entity tags that the caller has the answers of.",
                "schema": {"type": "string"},
            }));
        }
        parameters
    }

    fn request_body(&self, types: &mut Types) -> Option<Value> {
        let method = &self.route.method;
        let (schema, http_body) = match &self.route.rule.body {
            Body::None => return None,
            Body::Whole => whole(method.input(), types)?,
            Body::Field(index) => part(method.input(), *index, types)?,
        };
        let mut content = Map::new();
        if http_body {
            content.insert("*/*".into(), json!({"schema": {"format": "binary"}}));
            let file =
                json!({"format": "binary", "description": "The file; other parts are query parameters."});
            content.insert(
                "multipart/form-data".into(),
                json!({"schema": {"type": "object", "properties": {"file": file}}}),
            );
        } else if method.client_streaming() {
            content.insert(
                "application/json".into(),
                json!({"schema": {"type": "array", "items": schema}}),
            );
            let line = json!({"schema": schema, "description": "One message a line."});
            content.insert("application/x-ndjson".into(), without_description(line));
        } else {
            content.insert("application/json".into(), json!({"schema": schema}));
        }
        Some(json!({"content": content, "required": false}))
    }

    fn responses(&self, types: &mut Types) -> Value {
        let method = &self.route.method;
        let described = match self.route.rule.response_body {
            None => whole(method.output(), types),
            Some(index) => part(method.output(), index, types),
        };
        let (schema, http_body) = described.unwrap_or((json!({}), false));
        let mut content = Map::new();
        let description = if http_body {
            content.insert("*/*".into(), json!({"schema": {"format": "binary"}}));
            "The bytes as they are, with the content type the service says."
        } else if method.server_streaming() {
            let error = json!({"type": "object", "required": ["error"], "properties": {"error": status()}});
            let line = json!({"anyOf": [schema, error]});
            content.insert(
                "application/json".into(),
                json!({"schema": {"type": "array", "items": schema}}),
            );
            content.insert("application/x-ndjson".into(), json!({"schema": line}));
            let events = "Events whose data is one message each; one named error, with a google.rpc.Status, if it breaks off.";
            content.insert(
                "text/event-stream".into(),
                json!({"schema": {"type": "string", "description": events}}),
            );
            "A stream, framed by Accept: a JSON array, Server-Sent Events, or one JSON value a line; a last line with error says \
             that it broke off."
        } else {
            content.insert("application/json".into(), json!({"schema": schema}));
            "The answer."
        };
        let mut good = json!({"description": description, "content": content});
        let unary = !method.server_streaming();
        if unary {
            let headers = self.answer_headers(types);
            if !headers.is_empty() {
                good["headers"] = headers.into();
            }
        }
        let mut another = good.clone();
        another["description"] = "The same, where the service says another success.".into();
        let mut responses = json!({
            "200": good,
            "2XX": another,
            "default": {"$ref": "#/components/responses/Error"},
        });
        if unary {
            // The head of a stream is out before it is known whether there is something to say.
            for code in ["204", "205"] {
                responses[code] = json!({"$ref": "#/components/responses/Nothing"});
            }
        }
        if self.may_be_known() {
            responses["304"] = json!({"$ref": "#/components/responses/NotModified"});
        }
        responses
    }

    /// What a unary answer says in headers.
    fn answer_headers(&self, types: &mut Types) -> Map<String, Value> {
        let output = self.route.method.output().full_name();
        let mut headers = Map::new();
        if self.has_tag() {
            headers.insert("ETag".into(), json!({"$ref": "#/components/headers/ETag"}));
        }
        for one in self.headers.map_or(&[][..], |headers| &headers.response) {
            if one.header() != ETAG {
                let schema = schema_of(one, output, types);
                let told = format!("The field {}, where it is there.", one.field());
                headers.insert(
                    one.header().into(),
                    json!({"description": told, "schema": schema}),
                );
            }
        }
        headers
    }

    /// Whether the answer has a field that is its entity tag.
    fn has_tag(&self) -> bool {
        let told = self.headers.map_or(&[][..], |headers| &headers.response);
        self.route.method.etag.is_some() || told.iter().any(|one| one.header() == ETAG)
    }

    /// Whether the caller may have the answer already, and be told just that: a tag may come as metadata, too.
    fn may_be_known(&self) -> bool {
        self.http_method == "GET" && !self.route.method.server_streaming()
    }
}

/// A message, and whether it is a body as it is.
fn whole(message: &MessageType, types: &mut Types) -> Option<(Value, bool)> {
    let kind = Kind::Message(types.descriptor(message.full_name())?);
    Some((types.kind(&kind), is_http_body(&kind)))
}

/// A field of a message, and whether it is a body as it is.
fn part(message: &MessageType, index: u32, types: &mut Types) -> Option<(Value, bool)> {
    let number = message.tables.field(index).number;
    let field = types.descriptor(message.full_name())?.get_field(number)?;
    let http_body = is_http_body(&field.kind()) && !field.is_list();
    Some((types.field(&field), http_body))
}

/// The answers every operation has.
pub(super) fn shared_responses() -> Value {
    let content = |kind: &str| json!({kind: {"schema": status()}});
    let mut both = content("application/json");
    both["application/problem+json"] = json!({"schema": {
        "type": "object",
        "description": "RFC 9457, where the service asks for it.",
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
        },
    }});
    json!({
        "Error": {
            "description": "The call failed: refused on the way, with the reason in x-mesh-reason, or by the service.",
            "content": both,
        },
        "Nothing": {"description": "Done, where the service says so; there is nothing to tell."},
        "NotModified": {
            "description": "The caller has the answer: If-None-Match names its tag.",
            "headers": {"ETag": {"$ref": "#/components/headers/ETag"}},
        },
    })
}

/// The headers that several answers have.
pub(super) fn shared_headers() -> Value {
    json!({"ETag": {
        "description": "What the answer says of itself in its field etag, as an entity tag; weak where it is compressed.",
        "schema": {"type": "string"},
    }})
}

fn status() -> Value {
    json!({"$ref": format!("#/components/schemas/{STATUS}")})
}

/// Media types have no description of their own.
fn without_description(mut media: Value) -> Value {
    if let Value::Object(entries) = &mut media {
        entries.remove("description");
    }
    media
}

fn stream_note(route: &Route) -> Option<&'static str> {
    match (route.method.client_streaming(), route.method.server_streaming()) {
        (false, _) => None,
        (true, false) => Some(
            "Takes a stream of messages: a JSON array, or one message a line. Path and query belong to the first message.",
        ),
        (true, true) => Some(
            "Takes a stream of messages, a JSON array or one message a line, and answers while it is sent, over HTTP/2 or a \
             WebSocket. Path and query belong to the first message.",
        ),
    }
}

fn path_parameter(rule: &Rule, part: &Part, input: &str, types: &mut Types) -> Value {
    let variable = part.variable.and_then(|index| rule.variables.get(index));
    let field = variable.and_then(|variable| types.field_at(input, &variable.name));
    let mut text = field
        .as_ref()
        .and_then(|field| types.field_comment(field))
        .unwrap_or_default();
    let mut note = |sentence: String| {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&sentence);
    };
    if let Some(variable) = variable
        && (part.partial || part.name != variable.name)
    {
        note(format!(
            "Part of {}; the whole is matched by {}.",
            variable.name, rule.text
        ));
    }
    if part.rest {
        note("May be empty, and may hold slashes: several segments.".into());
    }
    let schema = match field {
        // A part of a longer text has no form of its own.
        Some(field) if !part.partial && !part.rest => types.kind(&field.kind()),
        _ => json!({"type": "string"}),
    };
    let mut parameter =
        json!({"name": part.name, "in": "path", "required": true, "schema": not_empty(schema)});
    if !text.is_empty() {
        parameter["description"] = text.into();
    }
    parameter
}

fn header_parameter(one: &HeaderField, input: &str, types: &mut Types) -> Value {
    let schema = schema_of(one, input, types);
    let told = format!(
        "Fills the field {}: a different second value is refused.",
        one.field()
    );
    json!({"name": one.header(), "in": "header", "description": told, "schema": schema})
}

/// A header's value: its field's.
fn schema_of(one: &HeaderField, message: &str, types: &mut Types) -> Value {
    match types.field_at(message, one.field()) {
        Some(field) => types.kind(&field.kind()),
        None => json!({"type": "string"}),
    }
}

/// An empty segment matches nothing.
fn not_empty(mut schema: Value) -> Value {
    if schema["type"] == "string" && schema.get("format").is_none() && schema.get("pattern").is_none() {
        schema["minLength"] = 1.into();
    }
    schema
}
