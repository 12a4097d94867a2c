//! Templates as OpenAPI has them, and the operations of each path.
//!
//! ```text
//!  /v1/{name=shelves/*/books/*}:check  ─►  /v1/shelves/{name_1}/books/{name_2}:check
//!  /v1/{rest=**}                       ─►  /v1/{rest}, which may hold slashes
//!  /v1/{a} of one rule, /v1/{b} of another  ─►  one path, with the names of the first
//! ```

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::operation::Operation;
use super::types::Types;
use crate::schema::Rule;
use crate::template::Segment;

/// HTTP methods a path item can have. A rule for any method is described under those that callers use.
const METHODS: [&str; 8] = [
    "GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE",
];
const ANY_METHOD: [&str; 5] = ["GET", "PUT", "POST", "PATCH", "DELETE"];

/// All paths in the making.
#[derive(Default)]
pub(super) struct Paths {
    /// By pattern without names, `/v1/{}`: the path as it is written, and its operations by HTTP method.
    items: BTreeMap<String, Item>,
    ids: BTreeSet<String>,
    operations: usize,
}

struct Item {
    path: String,
    names: Vec<String>,
    operations: BTreeMap<String, Value>,
}

/// One variable part of a path.
pub(super) struct Part {
    /// As it is called in the path.
    pub(super) name: String,
    /// The position of the rule's variable it belongs to.
    pub(super) variable: Option<usize>,
    /// Whether it is `**`.
    pub(super) rest: bool,
    /// Whether the variable has other parts or literals beside this.
    pub(super) partial: bool,
}

impl Paths {
    /// How many operations there are.
    pub(super) fn operations(&self) -> usize {
        self.operations
    }

    /// Describes a rule, unless one before it has the same requests, or OpenAPI has no word for its HTTP method.
    pub(super) fn add(&mut self, operation: &Operation<'_>, types: &mut Types) {
        let rule = &operation.route.rule;
        let mut parts = parts(rule);
        let (pattern, path) = (
            render(rule, |_| ""),
            render(rule, |at| parts.get(at).map_or("", |part| &part.name)),
        );
        let item = self.items.entry(pattern).or_insert_with(|| Item {
            path,
            names: parts.iter().map(|part| part.name.clone()).collect(),
            operations: BTreeMap::new(),
        });
        // A path has one name for each part, whatever a later rule calls it.
        for (part, name) in parts.iter_mut().zip(&item.names) {
            part.name.clone_from(name);
        }
        let any = rule.http_method == "*";
        let own = [rule.http_method.as_str()];
        for http_method in if any { &ANY_METHOD[..] } else { &own[..] } {
            let key = http_method.to_ascii_lowercase();
            if !METHODS.contains(http_method) || item.operations.contains_key(&key) {
                continue;
            }
            let id = unused(&mut self.ids, operation.route.method.name());
            let operation = Operation {
                http_method,
                ..*operation
            };
            item.operations.insert(key, operation.write(&id, &parts, types));
            self.operations += 1;
        }
    }

    /// The `paths` of the document.
    pub(super) fn finish(self) -> Map<String, Value> {
        let items = self
            .items
            .into_values()
            .filter(|item| !item.operations.is_empty());
        items.map(|item| (item.path, json!(item.operations))).collect()
    }
}

/// `market.v1.Quotes.GetQuote`, with a number where a method has several rules.
fn unused(ids: &mut BTreeSet<String>, rpc: &str) -> String {
    let plain = rpc.replace('/', ".");
    let numbered = (2..).map(|number| format!("{plain}_{number}"));
    let id = std::iter::once(plain.clone())
        .chain(numbered)
        .find(|id| !ids.contains(id))
        .unwrap_or(plain);
    ids.insert(id.clone());
    id
}

/// The variable parts of a rule's path, in order.
pub(super) fn parts(rule: &Rule) -> Vec<Part> {
    let wild = |segment: &Segment| !matches!(segment, Segment::Literal(_));
    let mut parts = Vec::new();
    for (at, segment) in rule.template.segments.iter().enumerate() {
        if !wild(segment) {
            continue;
        }
        let variable = rule
            .variables
            .iter()
            .position(|variable| variable.segments.contains(&at));
        let found = variable.and_then(|index| rule.variables.get(index));
        let (name, partial) = match found {
            None => (format!("segment_{}", at + 1), false),
            Some(found) => {
                let own = rule
                    .template
                    .segments
                    .get(found.segments.clone())
                    .unwrap_or_default();
                let before = rule
                    .template
                    .segments
                    .get(found.segments.start..at)
                    .unwrap_or_default();
                let several = own.iter().filter(|segment| wild(segment)).count() > 1;
                let number = before.iter().filter(|segment| wild(segment)).count() + 1;
                let name = if several {
                    format!("{}_{number}", found.name)
                } else {
                    found.name.clone()
                };
                (name, own.len() > 1)
            }
        };
        parts.push(Part {
            name,
            variable,
            rest: *segment == Segment::Rest,
            partial,
        });
    }
    parts
}

/// The path with `{name}` for each variable part.
fn render<'a>(rule: &'a Rule, name: impl Fn(usize) -> &'a str) -> String {
    let mut path = String::new();
    let mut number = 0;
    for segment in &rule.template.segments {
        path.push('/');
        match segment {
            Segment::Literal(text) => path.push_str(text),
            Segment::Any | Segment::Rest => {
                path.push('{');
                path.push_str(name(number));
                path.push('}');
                number += 1;
            }
        }
    }
    if path.is_empty() {
        path.push('/');
    }
    if let Some(verb) = &rule.template.verb {
        path.push(':');
        path.push_str(verb);
    }
    path
}
