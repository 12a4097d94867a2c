//! Rules in reverse: a message becomes the HTTP request its rule describes, and the JSON that comes back a message.
//!
//! ```text
//!  GET /v1/{name=shelves/*}/books        message { name: "shelves/7", page_size: 10 }
//!        └────────────────────────────►  GET /v1/shelves/7/books?pageSize=10
//! ```
//!
//! Each field is said once: those of the path in the path, those of `body` in the body, the rest in the query. Of several
//! rules the first is taken whose path the message can fill. Whoever reads what is written here by the same rule has the
//! same message, but for messages without content in a query, which nothing can say there.

mod path;
mod query;
mod status;
mod stream;

use std::sync::Arc;

use mesh_proto::google::rpc;
use serde_json::{Map, Value};

pub use status::status;
pub use stream::{Said, Stream};

use crate::http_body::{self, field_is_http_body, is_http_body};
use crate::schema::{Body, Method, Rule};
use crate::table::{Field, Kind, Shape, Special, Tables};
use crate::{Options, Refusal};

/// An HTTP request in the making.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// `GET`
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The body, which is JSON; `None` where the rule has none.
    pub body: Option<Vec<u8>>,
}

/// The rule one call went by, which its answer is read by.
#[derive(Clone)]
pub struct Reverse {
    method: Arc<Method>,
    rule: Arc<Rule>,
}

impl Reverse {
    /// Whether a method can be called this way at all.
    ///
    /// # Errors
    /// 501: it has no rule, takes a stream, or carries bodies that are not JSON.
    pub fn check(method: &Method) -> Result<(), Refusal> {
        let refuse = |why: &str| Err(Refusal::unimplemented(format!("{} {why}", method.name())));
        if method.rules.is_empty() {
            return refuse("has no HTTP rule, and its service speaks HTTP");
        }
        if method.client_streaming() {
            return refuse("takes a stream, which its HTTP service does not");
        }
        Ok(())
    }

    /// The request for a message.
    ///
    /// # Errors
    /// 501 as [`Reverse::check`]; 400: the bytes are not the method's message, or no rule's path can be filled; 413: more
    /// than the limit would have to be said.
    pub fn request(
        method: &Arc<Method>,
        message: &[u8],
        options: &Options,
    ) -> Result<(Self, HttpRequest), Refusal> {
        Self::check(method)?;
        let input = &method.input;
        let plain = Options {
            limits: options.limits,
            ..Options::default()
        };
        let mut json = Vec::new();
        input.to_json(message, &plain, &mut json).map_err(|_| {
            let why = format!("the request is no {}, or has no JSON form", input.full_name());
            Refusal::bad_request(why)
        })?;
        let root: Value = serde_json::from_slice(&json)
            .map_err(|_| Refusal::bad_request("the request nests too deep for JSON"))?;
        let t = &input.tables;
        let found = method
            .rules
            .iter()
            .find_map(|rule| Some((rule, path::of(t, rule, &root)?)));
        let Some((rule, mut target)) = found else {
            return Err(unfilled(method));
        };
        let mut rest = root;
        for variable in &rule.variables {
            take_out(t, &mut rest, &variable.fields);
        }
        let body = body(t, input.index, rule, &mut rest)?;
        if let Value::Object(rest) = &rest {
            let query = query::of(t, input.index, rest)?;
            if !query.is_empty() {
                target.push('?');
                target.push_str(&query);
            }
        }
        let bytes = target.len() + body.as_ref().map_or(0, Vec::len);
        if bytes > options.limits.message_bytes {
            return Err(Refusal::too_large(options.limits.message_bytes));
        }
        let request = HttpRequest {
            method: match rule.http_method.as_str() {
                "*" => "POST".to_owned(),
                other => other.to_owned(),
            },
            target,
            body,
        };
        let reverse = Self {
            method: method.clone(),
            rule: rule.clone(),
        };
        Ok((reverse, request))
    }

    /// Whether the answer is a `google.api.HttpBody`, so that it may be of any type.
    #[must_use]
    pub fn takes_any_body(&self) -> bool {
        let output = &self.method.output;
        match self.rule.response_body {
            None => is_http_body(&output.tables, output.index),
            Some(field) => field_is_http_body(&output.tables, field),
        }
    }

    /// An answer's whole body as the method's message: as it is where [`Reverse::takes_any_body`], or else JSON.
    ///
    /// # Errors
    /// 500: it is not what the schema says, or over the limit.
    pub fn whole(&self, content_type: &str, body: &[u8], options: &Options) -> Result<Vec<u8>, Refusal> {
        if !self.takes_any_body() {
            return self.response(body, options);
        }
        let field = self.rule.response_body;
        let field = field.map(|field| self.method.output.tables.field(field).number);
        let message = http_body::message(field, content_type, body);
        crate::message::check_reply_length(&message, options)?;
        Ok(message)
    }

    /// An answer's JSON, or one of a stream, as the method's message. Nothing at all is an empty message. Fields that are
    /// not known are passed over: services grow.
    ///
    /// # Errors
    /// 500: it is not what the schema says.
    pub fn response(&self, json: &[u8], options: &Options) -> Result<Vec<u8>, Refusal> {
        let options = Options {
            unknown_fields: crate::UnknownInput::Ignore,
            unknown_enums: crate::UnknownInput::Ignore,
            ..options.clone()
        };
        let output = &self.method.output;
        if json.iter().all(u8::is_ascii_whitespace) {
            return Ok(Vec::new());
        }
        let read = match self.rule.response_body {
            None => output.to_wire(json, &options),
            Some(field) => {
                // The answer is one field of the message: one value, and nothing that would make it more.
                serde_json::from_slice::<Value>(json)
                    .map_err(|_| Refusal::bad_reply("the service's answer is not one JSON value"))?;
                let name = Value::from(&*output.tables.field(field).json_name).to_string();
                let mut reader = output.reader(&options);
                [&b"{"[..], name.as_bytes(), b":", json, b"}"]
                    .into_iter()
                    .try_for_each(|piece| reader.push(piece))
                    .and_then(|()| reader.finish())
            }
        };
        read.map_err(|refusal| {
            let place = refusal
                .field
                .map(|field| format!(" ({field})"))
                .unwrap_or_default();
            Refusal::bad_reply(format!("the service's answer{place}: {}", refusal.message))
        })
    }
}

impl Reverse {
    /// A line of a stream that tells a failure, as we write it ourselves: `{"error": status}`, where no message of the
    /// method could look like that.
    fn error_line(&self, json: &[u8]) -> Option<rpc::Status> {
        let error: Value = serde_json::from_slice(self.wrapped("error", json)?).ok()?;
        let error = Some(error).filter(Value::is_object)?;
        let whole = Value::Object(Map::from_iter([("error".to_owned(), error)]));
        status::of_value(&whole, None, crate::Code::Unknown)
    }

    /// A line of a stream that has a message in an object of its own, as grpc-gateway writes them: `{"result": message}`.
    fn result_line<'j>(&self, json: &'j [u8]) -> Option<&'j [u8]> {
        self.wrapped("result", json)
    }

    /// What stands under the only name of an object, where no message of the method has a field of that name.
    fn wrapped<'j>(&self, name: &str, json: &'j [u8]) -> Option<&'j [u8]> {
        let begin = json.trim_ascii().strip_prefix(b"{")?.trim_ascii_start();
        let behind = begin.strip_prefix(b"\"")?.strip_prefix(name.as_bytes())?;
        let behind = behind.strip_prefix(b"\"")?.trim_ascii_start();
        let inner = behind.strip_prefix(b":")?.strip_suffix(b"}")?;
        // One value, so that nothing stands beside it.
        let one = self.lacks(name) && serde_json::from_slice::<Value>(inner).is_ok();
        one.then_some(inner)
    }

    /// Whether nothing the method says is an object with a member of this name.
    fn lacks(&self, name: &str) -> bool {
        let output = &self.method.output;
        let t = &output.tables;
        let message = match self.rule.response_body.map(|field| t.field(field)) {
            None => output.index,
            Some(field) if field.shape == Shape::Map => return false,
            Some(field) if field.shape == Shape::List || !field.is_message() => return true,
            Some(field) => field.of,
        };
        let message = t.message(message);
        match message.special {
            Special::None | Special::Empty => t.by_any_name(message, name.as_bytes()).is_none(),
            // The names in it are anybody's.
            Special::Struct | Special::Value | Special::Any => false,
            _ => true,
        }
    }
}

impl std::fmt::Debug for Reverse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reverse({:?})", self.rule)
    }
}

fn unfilled(method: &Method) -> Refusal {
    let rules: Vec<&str> = method.rules.iter().map(|rule| rule.text.as_str()).collect();
    let fields = method.rules.first().map_or("", |rule| {
        rule.variables
            .first()
            .map_or("", |variable| variable.name.as_str())
    });
    let why = format!("does not fill the path of {}", rules.join(" or "));
    Refusal::bad_request(why).at_field(fields)
}

/// Takes a field out, and messages that have nothing else with it.
fn take_out(t: &Tables, value: &mut Value, fields: &[u32]) {
    let (Some((first, others)), Value::Object(members)) = (fields.split_first(), value) else {
        return;
    };
    let name = &*t.field(*first).json_name;
    let emptied = match members.get_mut(name) {
        Some(inner) if !others.is_empty() => {
            take_out(t, inner, others);
            inner.as_object().is_some_and(Map::is_empty)
        }
        Some(_) => true,
        None => false,
    };
    if emptied {
        members.remove(name);
    }
}

/// The body of a rule, taken out of the message.
fn body(t: &Tables, input: u32, rule: &Rule, rest: &mut Value) -> Result<Option<Vec<u8>>, Refusal> {
    let not_json =
        || Refusal::unimplemented("a google.api.HttpBody is not sent to a service that speaks JSON");
    match rule.body {
        Body::None => Ok(None),
        Body::Whole if is_http_body(t, input) => Err(not_json()),
        Body::Whole => {
            let whole = std::mem::take(rest);
            Ok(Some(whole.to_string().into_bytes()))
        }
        Body::Field(index) => {
            let field = t.field(index);
            if field.is_message() && is_http_body(t, field.of) {
                return Err(not_json());
            }
            let said = rest
                .as_object_mut()
                .and_then(|members| members.remove(&*field.json_name));
            let said = said.unwrap_or_else(|| default(field));
            Ok(Some(said.to_string().into_bytes()))
        }
    }
}

/// What a field that is not there says.
fn default(field: &Field) -> Value {
    match (field.shape, field.kind) {
        (Shape::List, _) => Value::Array(Vec::new()),
        (Shape::Map, _) => Value::Object(Map::new()),
        (Shape::Singular, Kind::String | Kind::Bytes) => Value::from(""),
        (Shape::Singular, Kind::Bool) => Value::from(false),
        (Shape::Singular, Kind::Message) if field.special == Special::None => Value::Object(Map::new()),
        (Shape::Singular, Kind::Message) => Value::Null,
        (Shape::Singular, _) => Value::from(0),
    }
}
