//! Schemas: a descriptor set, its services, and the HTTP rules on their methods, all judged at once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use mesh_proto::Faults;
use mesh_proto::fault::Check;
use mesh_proto::google::api::{HttpRule, http_rule::Pattern};
use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor,
};

use crate::quote;
use crate::template::Template;

/// Most rules in one schema.
const RULES_MAX: usize = 10_000;
/// Most rules on one method.
const METHOD_RULES_MAX: usize = 100;
const HTTP_BODY: &str = "google.api.HttpBody";

/// A compiled set of descriptors. Cheap to share in an `Arc`.
pub struct Schema {
    pool: DescriptorPool,
    services: Vec<String>,
    methods: BTreeMap<String, Arc<Method>>,
}

/// One RPC.
pub struct Method {
    name: Arc<str>,
    client_streaming: bool,
    server_streaming: bool,
    pub(crate) input: MessageDescriptor,
    pub(crate) output: MessageDescriptor,
    pub(crate) rules: Vec<Arc<Rule>>,
}

/// One way to reach an RPC over HTTP.
pub(crate) struct Rule {
    /// `GET`; `*` stands for every method.
    pub(crate) http_method: String,
    /// The template as it was written.
    pub(crate) text: String,
    pub(crate) template: Template,
    pub(crate) variables: Vec<PathField>,
    pub(crate) body: Body,
    pub(crate) response_body: Option<FieldDescriptor>,
}

/// A field the path fills.
pub(crate) struct PathField {
    /// `a.b` in proto names.
    pub(crate) name: String,
    /// The way to it from the request message; never empty.
    pub(crate) fields: Vec<FieldDescriptor>,
    pub(crate) segments: Range<usize>,
    pub(crate) several: bool,
}

/// What the HTTP body fills.
pub(crate) enum Body {
    None,
    Whole,
    Field(FieldDescriptor),
}

impl Schema {
    /// Compiles a serialized `FileDescriptorSet`.
    ///
    /// # Errors
    /// The set does not link, or HTTP rules are wrong: every fault, with the method and the part of the rule it is in.
    pub fn compile(descriptor_set: &[u8]) -> Result<Schema, Faults> {
        let pool = DescriptorPool::decode(descriptor_set).map_err(|error| {
            let hint = "compile with all imports (--include_imports)";
            Faults::one("", format!("the descriptors do not link: {error}; {hint}"))
        })?;
        let mut check = Check::default();
        crate::sound::check_sound(&pool, &mut check);
        let mut methods = BTreeMap::new();
        let mut rules = 0;
        for method in pool
            .services()
            .flat_map(|service| service.methods().collect::<Vec<_>>())
        {
            let name = format!("{}/{}", method.parent_service().full_name(), method.name());
            if let Some(compiled) = check.part(&format!("{name}:"), Method::compile(&name, &method)) {
                rules += compiled.rules.len();
                methods.insert(name, Arc::new(compiled));
            }
        }
        if rules > RULES_MAX {
            check.fault(
                "",
                format!("there are {rules} HTTP rules; at most {RULES_MAX} are allowed"),
            );
        }
        check_unique(&methods, &mut check);
        let services = pool
            .services()
            .map(|service| service.full_name().to_owned())
            .collect();
        check.finish(Some(Schema {
            pool,
            services,
            methods,
        }))
    }

    /// The services there are: `package.Service`.
    pub fn services(&self) -> impl Iterator<Item = &str> {
        self.services.iter().map(String::as_str)
    }

    /// The methods of all services, by name.
    pub fn methods(&self) -> impl Iterator<Item = &Arc<Method>> {
        self.methods.values()
    }

    /// The method `package.Service/Method`.
    #[must_use]
    pub fn method(&self, path: &str) -> Option<&Arc<Method>> {
        self.methods.get(path)
    }

    pub(crate) fn pool(&self) -> &DescriptorPool {
        &self.pool
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema")
            .field("services", &self.services)
            .finish_non_exhaustive()
    }
}

impl Method {
    /// `package.Service/Method`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same, to be kept without a copy.
    #[must_use]
    pub fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    /// Whether the caller sends a stream.
    #[must_use]
    pub fn client_streaming(&self) -> bool {
        self.client_streaming
    }

    /// Whether the service answers with a stream.
    #[must_use]
    pub fn server_streaming(&self) -> bool {
        self.server_streaming
    }

    /// The HTTP methods and templates that reach it, as they were written: `("GET", "/v1/quotes/{symbol}")`.
    pub fn http_rules(&self) -> impl Iterator<Item = (&str, &str)> {
        self.rules
            .iter()
            .map(|rule| (rule.http_method.as_str(), rule.text.as_str()))
    }

    fn compile(name: &str, method: &MethodDescriptor) -> Result<Method, Faults> {
        let mut check = Check::default();
        let mut rules = Vec::new();
        if let Some(annotation) = check.leaf("google.api.http", annotation(method)).flatten() {
            let more = &annotation.additional_bindings;
            if more.len() >= METHOD_RULES_MAX {
                check.fault(
                    "additional_bindings",
                    format!("at most {METHOD_RULES_MAX} are allowed"),
                );
            }
            rules.extend(check.part("", Rule::compile(method, &annotation)));
            for (index, rule) in more.iter().enumerate().take(METHOD_RULES_MAX) {
                let place = format!("additional_bindings[{index}]");
                if !rule.additional_bindings.is_empty() {
                    check.fault(&place, "additional bindings cannot have additional bindings");
                }
                rules.extend(check.part(&place, Rule::compile(method, rule)));
            }
        }
        check.finish(Some(Method {
            name: name.into(),
            client_streaming: method.is_client_streaming(),
            server_streaming: method.is_server_streaming(),
            input: method.input(),
            output: method.output(),
            rules: rules.into_iter().map(Arc::new).collect(),
        }))
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Method")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Reads the `google.api.http` option by its number, so that it is found whether or not the schema brings its definition.
fn annotation(method: &MethodDescriptor) -> Result<Option<HttpRule>, String> {
    #[derive(Clone, PartialEq, Message)]
    struct Options {
        #[prost(message, optional, tag = "72295728")]
        http: Option<HttpRule>,
    }
    let options: DynamicMessage = method.options();
    Options::decode(options.encode_to_vec().as_slice())
        .map(|options| options.http)
        .map_err(|_| "is not a google.api.HttpRule".into())
}

impl Rule {
    fn compile(method: &MethodDescriptor, rule: &HttpRule) -> Result<Rule, Faults> {
        let mut check = Check::default();
        let (place, http_method, text) = match &rule.pattern {
            Some(Pattern::Get(path)) => ("get", "GET", path),
            Some(Pattern::Put(path)) => ("put", "PUT", path),
            Some(Pattern::Post(path)) => ("post", "POST", path),
            Some(Pattern::Delete(path)) => ("delete", "DELETE", path),
            Some(Pattern::Patch(path)) => ("patch", "PATCH", path),
            Some(Pattern::Custom(custom)) => ("custom.path", custom.kind.as_str(), &custom.path),
            None => {
                return Err(Faults::one(
                    "",
                    "the HTTP rule has no method and path; write for example get",
                ));
            }
        };
        if http_method != "*" && !is_http_method(http_method) {
            check.fault(
                "custom.kind",
                format!("{} is not an HTTP method", quote(http_method)),
            );
        }
        let template = check.leaf(place, Template::parse(text));
        let mut variables = Vec::new();
        let mut seen = HashSet::new();
        for variable in template.iter().flat_map(|template| &template.variables) {
            if !seen.insert(&variable.field_path) {
                check.fault(
                    place,
                    format!("{} stands twice in the path", quote(&variable.field_path)),
                );
            }
            let fields = check.leaf(place, path_fields(&method.input(), &variable.field_path));
            variables.extend(fields.map(|fields| PathField {
                name: variable.field_path.clone(),
                fields,
                segments: variable.segments.clone(),
                several: variable.several,
            }));
        }
        let body = check.leaf("body", read_body(&method.input(), &rule.body));
        let response_body = check.leaf(
            "response_body",
            response_field(&method.output(), &rule.response_body),
        );
        check.finish((|| {
            Some(Rule {
                http_method: http_method.to_owned(),
                text: text.clone(),
                template: template?,
                variables,
                body: body?,
                response_body: response_body?,
            })
        })())
    }
}

fn is_http_method(text: &str) -> bool {
    !text.is_empty() && text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-')
}

/// The way to a singular field that is no message.
fn path_fields(message: &MessageDescriptor, path: &str) -> Result<Vec<FieldDescriptor>, String> {
    let mut fields: Vec<FieldDescriptor> = Vec::new();
    for name in path.split('.') {
        let parent = match fields.last().map(FieldDescriptor::kind) {
            None => message.clone(),
            Some(Kind::Message(parent)) => parent,
            Some(_) => {
                return Err(format!(
                    "{}: {} is no field of a message",
                    quote(path),
                    quote(name)
                ));
            }
        };
        let field = parent.get_field_by_name(name).ok_or_else(|| {
            format!(
                "{}: {} has no field {}",
                quote(path),
                parent.full_name(),
                quote(name)
            )
        })?;
        if field.is_list() || field.is_map() {
            return Err(format!(
                "{}: {} is repeated; a path has one value",
                quote(path),
                quote(name)
            ));
        }
        fields.push(field);
    }
    match fields.last().map(FieldDescriptor::kind) {
        Some(Kind::Message(_)) | None => {
            Err(format!("{} is a message; a path fills plain fields", quote(path)))
        }
        Some(_) => Ok(fields),
    }
}

fn read_body(input: &MessageDescriptor, body: &str) -> Result<Body, String> {
    let body = match body {
        "" => Body::None,
        "*" => {
            refuse_http_body(input)?;
            Body::Whole
        }
        name => Body::Field(top_field(input, name)?),
    };
    Ok(body)
}

fn response_field(output: &MessageDescriptor, name: &str) -> Result<Option<FieldDescriptor>, String> {
    if name.is_empty() {
        refuse_http_body(output)?;
        return Ok(None);
    }
    top_field(output, name).map(Some)
}

fn top_field(message: &MessageDescriptor, name: &str) -> Result<FieldDescriptor, String> {
    let field = message
        .get_field_by_name(name)
        .ok_or_else(|| format!("{} has no field {}", message.full_name(), quote(name)))?;
    if let Kind::Message(message) = field.kind() {
        refuse_http_body(&message)?;
    }
    Ok(field)
}

fn refuse_http_body(message: &MessageDescriptor) -> Result<(), String> {
    if message.full_name() == HTTP_BODY {
        return Err(format!("{HTTP_BODY} is not supported yet; remove the HTTP rule"));
    }
    Ok(())
}

/// One rule, one RPC: the same HTTP method and shape twice is a fault.
fn check_unique(methods: &BTreeMap<String, Arc<Method>>, check: &mut Check) {
    let mut seen: HashMap<(&str, String), &str> = HashMap::new();
    for method in methods.values() {
        for rule in &method.rules {
            let key = (rule.http_method.as_str(), rule.template.shape());
            if let Some(other) = seen.insert(key, &method.name) {
                check.fault(
                    format!("{}:", method.name),
                    format!(
                        "{} {} is taken already, by {other}",
                        rule.http_method,
                        quote(&rule.text)
                    ),
                );
            }
        }
    }
}
