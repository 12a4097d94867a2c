//! Schemas: a descriptor set, its services, and the HTTP rules on their methods, all judged at once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use mesh_proto::Faults;
use mesh_proto::fault::Check;
use mesh_proto::google::api::{HttpRule, http_rule::Pattern};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};

use self::places::{exclude, mask_field, path_fields, read_body, response_field};
use crate::message::MessageType;
use crate::quote;
use crate::table::{self, Kind, Shape, Tables, editions};
use crate::template::Template;

mod places;

/// Most rules in one schema.
const RULES_MAX: usize = 10_000;
/// Most rules on one method.
const METHOD_RULES_MAX: usize = 100;

/// A compiled set of descriptors. Cheap to share in an `Arc`.
pub struct Schema {
    tables: Arc<Tables>,
    /// What it was made from, with editions written as they were before there were any: for those who read it to people.
    descriptors: Box<[u8]>,
    services: Vec<String>,
    methods: BTreeMap<String, Arc<Method>>,
}

/// One RPC.
pub struct Method {
    name: Arc<str>,
    client_streaming: bool,
    server_streaming: bool,
    no_side_effects: bool,
    pub(crate) input: MessageType,
    pub(crate) output: MessageType,
    pub(crate) rules: Vec<Arc<Rule>>,
    /// `POST /package.Service/Method` with the message as the body, for a method that has no rule.
    pub(crate) unannotated: Option<Arc<Rule>>,
    /// The number of the output's field `etag`, where it has one that is a text.
    pub(crate) etag: Option<u32>,
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
    pub(crate) response_body: Option<u32>,
    /// Of a PATCH whose body is one message: the one field mask of the request.
    pub(crate) mask: Option<u32>,
}

/// A field the path fills.
pub(crate) struct PathField {
    /// `a.b` in proto names.
    pub(crate) name: String,
    /// The way to it from the request message; never empty.
    pub(crate) fields: Vec<u32>,
    pub(crate) segments: Range<usize>,
    pub(crate) several: bool,
}

/// What the HTTP body fills.
pub(crate) enum Body {
    None,
    Whole,
    Field(u32),
}

impl Schema {
    /// Compiles a serialized `FileDescriptorSet`.
    ///
    /// # Errors
    /// The set does not link, or HTTP rules are wrong: every fault, with the method and the part of the rule it is in.
    pub fn compile(descriptor_set: &[u8]) -> Result<Schema, Faults> {
        let lowered = editions::lower(descriptor_set);
        let (descriptor_set, features) = match &lowered {
            Some((lowered, features)) => (lowered.as_slice(), features),
            None => (descriptor_set, &editions::Features::default()),
        };
        let pool = DescriptorPool::decode(descriptor_set).map_err(|error| {
            let hint = "compile with all imports (--include_imports)";
            Faults::one("", format!("the descriptors do not link: {error}; {hint}"))
        })?;
        let mut check = Check::default();
        crate::sound::check_sound(&pool, &mut check);
        check.finish(Some(()))?;
        let mut check = Check::default();
        let tables = Arc::new(table::tables(&pool, features));
        let mut methods = BTreeMap::new();
        let mut rules = 0;
        for method in pool
            .services()
            .flat_map(|service| service.methods().collect::<Vec<_>>())
        {
            let name = format!("{}/{}", method.parent_service().full_name(), method.name());
            if let Some(compiled) = check.part(&format!("{name}:"), Method::compile(&name, &method, &tables))
            {
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
            tables,
            descriptors: descriptor_set.into(),
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

    /// The message type `package.Message`.
    #[must_use]
    pub fn message(&self, full_name: &str) -> Option<MessageType> {
        message_type(&self.tables, full_name)
    }

    /// The descriptors, linked anew at each call: calls never need them, and they take many times the room of the tables.
    pub(crate) fn pool(&self) -> DescriptorPool {
        // They were linked before.
        DescriptorPool::decode(&*self.descriptors).unwrap_or_default()
    }

    pub(crate) fn tables(&self) -> &Tables {
        &self.tables
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

    /// Whether its author says that calling it changes nothing (`idempotency_level = NO_SIDE_EFFECTS`).
    #[must_use]
    pub fn no_side_effects(&self) -> bool {
        self.no_side_effects
    }

    /// What the caller sends.
    #[must_use]
    pub fn input(&self) -> &MessageType {
        &self.input
    }

    /// What the service answers with.
    #[must_use]
    pub fn output(&self) -> &MessageType {
        &self.output
    }

    /// The HTTP methods and templates that reach it, as they were written: `("GET", "/v1/quotes/{symbol}")`.
    pub fn http_rules(&self) -> impl Iterator<Item = (&str, &str)> {
        self.rules
            .iter()
            .map(|rule| (rule.http_method.as_str(), rule.text.as_str()))
    }

    fn compile(name: &str, method: &MethodDescriptor, tables: &Arc<Tables>) -> Result<Method, Faults> {
        let mut check = Check::default();
        let input = message_type(tables, method.input().full_name());
        let output = message_type(tables, method.output().full_name());
        let Some((input, output)) = input.zip(output) else {
            return Err(Faults::one(
                "",
                "the messages of the method are not in the schema",
            ));
        };
        let mut rules = Vec::new();
        if let Some(annotation) = check.leaf("google.api.http", annotation(method)).flatten() {
            let more = &annotation.additional_bindings;
            if more.len() >= METHOD_RULES_MAX {
                check.fault(
                    "additional_bindings",
                    format!("at most {METHOD_RULES_MAX} are allowed"),
                );
            }
            rules.extend(check.part("", Rule::compile(&input, &output, &annotation)));
            for (index, rule) in more.iter().enumerate().take(METHOD_RULES_MAX) {
                let place = format!("additional_bindings[{index}]");
                if !rule.additional_bindings.is_empty() {
                    check.fault(&place, "additional bindings cannot have additional bindings");
                }
                rules.extend(check.part(&place, Rule::compile(&input, &output, rule)));
            }
        }
        check.finish(Some(Method {
            name: name.into(),
            client_streaming: method.is_client_streaming(),
            server_streaming: method.is_server_streaming(),
            no_side_effects: has_no_side_effects(method),
            etag: etag_of(&output),
            input,
            output,
            unannotated: rules
                .is_empty()
                .then(|| Rule::unannotated(name).map(Arc::new))
                .flatten(),
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

/// The number of a message's field `etag`, where it is one text.
fn etag_of(message: &MessageType) -> Option<u32> {
    let t = &message.tables;
    let field = t.field(t.by_proto_name(t.message(message.index), "etag")?);
    (field.kind == Kind::String && field.shape == Shape::Singular).then_some(field.number)
}

/// Reads the `idempotency_level` option of a method.
fn has_no_side_effects(method: &MethodDescriptor) -> bool {
    use prost_reflect::prost_types::method_options::IdempotencyLevel;
    method
        .method_descriptor_proto()
        .options
        .as_ref()
        .is_some_and(|options| options.idempotency_level() == IdempotencyLevel::NoSideEffects)
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
    /// The rule for methods without one, where that is switched on.
    fn unannotated(name: &str) -> Option<Rule> {
        let text = format!("/{name}");
        Some(Rule {
            http_method: "POST".to_owned(),
            template: Template::parse(&text).ok()?,
            text,
            variables: Vec::new(),
            body: Body::Whole,
            response_body: None,
            mask: None,
        })
    }

    fn compile(input: &MessageType, output: &MessageType, rule: &HttpRule) -> Result<Rule, Faults> {
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
            let fields = check.leaf(place, path_fields(input, &variable.field_path));
            let other = fields.as_deref().and_then(|fields| {
                variables
                    .iter()
                    .find(|other: &&PathField| exclude(&input.tables, &other.fields, fields))
            });
            if let Some(other) = other {
                let (one, other) = (quote(&variable.field_path), quote(&other.name));
                check.fault(
                    place,
                    format!("{one} and {other} are of one oneof; a path fills only one of them"),
                );
            }
            variables.extend(fields.map(|fields| PathField {
                name: variable.field_path.clone(),
                fields,
                segments: variable.segments.clone(),
                several: variable.several,
            }));
        }
        let body = check.leaf("body", read_body(input, &rule.body));
        let response_body = check.leaf("response_body", response_field(output, &rule.response_body));
        check.finish((|| {
            Some(Rule {
                http_method: http_method.to_owned(),
                text: text.clone(),
                template: template?,
                mask: (http_method == "PATCH")
                    .then(|| mask_field(input, &variables, body.as_ref()))
                    .flatten(),
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

fn message_type(tables: &Arc<Tables>, full_name: &str) -> Option<MessageType> {
    Some(MessageType {
        index: tables.message_named(full_name)?,
        tables: Arc::clone(tables),
    })
}

/// One rule, one RPC: the same HTTP method and shape twice is a fault.
fn check_unique(methods: &BTreeMap<String, Arc<Method>>, check: &mut Check) {
    let mut seen: HashMap<(&str, String), (&str, &Rule)> = HashMap::new();
    for method in methods.values() {
        for rule in &method.rules {
            let key = (rule.http_method.as_str(), rule.template.shape());
            let Some((other, earlier)) = seen.insert(key, (&method.name, rule)) else {
                continue;
            };
            let (http_method, text) = (&rule.http_method, quote(&rule.text));
            let same = if earlier.text == rule.text {
                String::new()
            } else {
                format!(", as {}", quote(&earlier.text))
            };
            let told = format!("{http_method} {text} is taken already, by {other}{same}");
            check.fault(format!("{}:", method.name), told);
        }
    }
}
