//! Headers that stand for fields: `x-tenant` fills `tenant` of a request, `total_size` of an answer is `x-total-count` too.
//!
//! ```text
//!  rest.requestHeaders, responseHeaders + schema ── compile ──► by method: header ⇄ way to a field      once, not per call
//!  x-tenant: a ── Match::bind_header ──► bound, as a value of the path is: query and body may repeat it, not contradict it
//!  answer ── MethodHeaders::told ──► x-total-count: 7
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use mesh_proto::Faults;
use mesh_proto::domain::{self, MethodMatch, Rest};
use mesh_proto::fault::Check;

use crate::field::{self, Found, Miss, resolve};
use crate::json::leaf;
use crate::json::read::Woven;
use crate::message::MessageType;
use crate::schema::{Method, Schema};
use crate::table::Special;
use crate::{Match, Options, Refusal, quote};

/// Longest value of a field that becomes a header, in bytes: clients refuse heads of some 16 KiB and more.
const VALUE_BYTES_MAX: usize = 4 << 10;

/// The headers of one service that stand for fields, by method.
#[derive(Debug, Default)]
pub struct HeaderFields {
    methods: HashMap<Arc<str>, Arc<MethodHeaders>>,
}

/// Those of one method.
#[derive(Debug, Default)]
pub struct MethodHeaders {
    pub(crate) request: Vec<HeaderField>,
    pub(crate) response: Vec<HeaderField>,
}

/// A header, and the field it stands for.
#[derive(Debug, Clone)]
pub struct HeaderField {
    header: Arc<str>,
    /// The way in proto names.
    pub(crate) name: Arc<str>,
    /// The way from the message; never empty.
    fields: Vec<u32>,
}

impl HeaderField {
    /// The header's name, in lower case.
    #[must_use]
    pub fn header(&self) -> &str {
        &self.header
    }

    /// The way to the field, in proto names.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.name
    }
}

impl MethodHeaders {
    /// Those that fill fields of a request.
    #[must_use]
    pub fn request(&self) -> &[HeaderField] {
        &self.request
    }

    /// What a response message says in headers: name and value, as JSON writes it, without quotes. A field that is not
    /// there, or has its default value and no presence, says nothing; nor does what may not stand in a header.
    #[must_use]
    pub fn told(&self, method: &Method, message: &[u8], options: &Options) -> Vec<(&str, String)> {
        let output = &method.output;
        let fields = self.response.iter();
        fields
            .filter_map(|one| Some((one.header(), value(output, one, message, options)?)))
            .collect()
    }
}

impl HeaderFields {
    /// Finds the fields in a schema. What is wrong is told, by its place below `rest`, and left out: a schema that a service
    /// tells itself may change under a document that was right.
    #[must_use]
    pub fn compile(rest: &Rest, schema: &Schema) -> (Option<Self>, Option<Faults>) {
        let mut methods: HashMap<Arc<str>, MethodHeaders> = HashMap::new();
        let mut check = Check::default();
        for (side, fields) in rest.header_fields() {
            let request = side == "requestHeaders";
            for (index, one) in fields.iter().enumerate() {
                let place = format!("{side}[{index}]");
                for (method, found) in find(one, request, schema, &place, &mut check) {
                    let all = methods.entry(method).or_default();
                    let all = if request {
                        &mut all.request
                    } else {
                        &mut all.response
                    };
                    all.push(found);
                }
            }
        }
        let methods: HashMap<_, _> = methods
            .into_iter()
            .map(|(method, headers)| (method, Arc::new(headers)))
            .collect();
        let faults = check.finish(Some(())).err();
        ((!methods.is_empty()).then_some(Self { methods }), faults)
    }

    /// As [`HeaderFields::compile`], to judge a document.
    ///
    /// # Errors
    /// Every fault, by its place below `rest`.
    pub fn check(rest: &Rest, schema: &Schema) -> Result<(), Faults> {
        Self::compile(rest, schema).1.map_or(Ok(()), Err)
    }

    /// Those of a method, if it has any.
    #[must_use]
    pub fn of(&self, method: &Method) -> Option<&Arc<MethodHeaders>> {
        self.methods.get(method.name())
    }
}

/// The methods one header is for, with the way to its field.
fn find(
    one: &domain::HeaderField,
    request: bool,
    schema: &Schema,
    at: &str,
    check: &mut Check,
) -> Vec<(Arc<str>, HeaderField)> {
    let mut found: Vec<(Arc<str>, HeaderField)> = Vec::new();
    let any = [MethodMatch::Any];
    let wanted = if one.for_all() { &any[..] } else { &one.methods[..] };
    for (index, wanted) in wanted.iter().enumerate() {
        let (mut missing, mut hit, mut told) = (false, false, false);
        let methods = schema
            .methods()
            .filter(|method| wanted.matches(Some(method.name())));
        for method in methods {
            let named = matches!(wanted, MethodMatch::Method(_));
            match way(one, request, method) {
                Ok(fields) => {
                    hit = true;
                    let header = HeaderField {
                        header: one.header.as_str().into(),
                        name: one.field.as_str().into(),
                        fields,
                    };
                    if found.iter().all(|(known, _)| **known != *method.name()) {
                        found.push((method.shared_name(), header));
                    }
                }
                Err(Miss::Absent(_)) if !named => missing = true,
                // What is wrong in a thousand methods is told of one.
                Err(_) if told => {}
                Err(Miss::Absent(why) | Miss::Unfit(why)) => {
                    (hit, told) = (true, true);
                    check.fault(format!("{at}.field"), format!("{}: {why}", method.name()));
                }
            }
        }
        if hit {
            continue;
        }
        let (place, why) = miss(one, request, wanted, missing, index);
        check.fault(format!("{at}.{place}"), why);
    }
    found
}

/// Where it is wrong that no method was found, and why.
fn miss(
    one: &domain::HeaderField,
    request: bool,
    wanted: &MethodMatch,
    lacking: bool,
    index: usize,
) -> (String, String) {
    let methods = match wanted {
        MethodMatch::Any => "the schema".to_owned(),
        MethodMatch::Service(service) => format!("{service}/*"),
        MethodMatch::Method(rpc) => rpc.to_string(),
    };
    if !lacking && !one.for_all() {
        let why = format!("the schema has no method {methods}");
        return (format!("methods[{index}]"), why);
    }
    let message = if request {
        "request"
    } else {
        "answer that is no stream"
    };
    let field = quote(&one.field);
    let why = format!("no {message} in {methods} has a field {field}; write the names of the .proto file");
    ("field".to_owned(), why)
}

/// The way to the field of one method.
fn way(one: &domain::HeaderField, request: bool, method: &Method) -> Result<Vec<u32>, Miss> {
    if !request && method.server_streaming() {
        let why = "answers with a stream, whose headers are out before its messages are known";
        return Err(Miss::Absent(why.into()));
    }
    let message = if request { &method.input } else { &method.output };
    let mut fields = resolve(message, &one.field)?;
    if !request {
        return Ok(fields);
    }
    let t = &*message.tables;
    let way = fields.clone();
    // The text of a wrapper is its value's.
    if let Some(last) = fields.last().map(|last| t.field(*last))
        && last.special == Special::Wrapper
    {
        fields.push(t.message(last.of).first);
    }
    for rule in &method.rules {
        for variable in &rule.variables {
            if variable.fields != fields
                && variable.fields.len() > way.len()
                && variable.fields.starts_with(&way)
            {
                let (http_method, text) = (&rule.http_method, quote(&rule.text));
                return Err(Miss::Unfit(format!(
                    "the path of {http_method} {text} fills a part of it; leave it to the path"
                )));
            }
        }
    }
    Ok(fields)
}

impl<T> Match<T> {
    /// Takes a header of the request as a value of the field it stands for: bound, as a value of the path is.
    ///
    /// # Errors
    /// 400: it is not of the field's type.
    pub fn bind_header(&mut self, one: &HeaderField, text: &str, options: &Options) -> Result<(), Refusal> {
        let t = &*self.method.input.tables;
        let Some(last) = one.fields.last() else {
            return Ok(());
        };
        let content =
            leaf::content_from_text(t, t.field(*last), text.as_bytes(), options.strict()).map_err(|why| {
                Refusal::bad_request(format!("the header {} {why}", one.header)).at_field(&*one.name)
            })?;
        self.headers.push(Woven {
            fields: one.fields.clone(),
            content,
            name: one.name.to_string(),
            header: Some(Arc::clone(&one.header)),
        });
        Ok(())
    }
}

/// One field of an answer as the value of a header.
fn value(output: &MessageType, one: &HeaderField, message: &[u8], options: &Options) -> Option<String> {
    match field::text(output, &one.fields, message, options) {
        Found::Said(text) => is_header_value(&text).then_some(text),
        Found::Default(_) | Found::Absent | Found::Unwritable => None,
    }
}

/// Printable ASCII that no peer would cut or trim (RFC 9110 5.5).
fn is_header_value(text: &str) -> bool {
    text.len() <= VALUE_BYTES_MAX
        && text.bytes().all(|byte| (0x20..=0x7e).contains(&byte))
        && text.trim().len() == text.len()
}
