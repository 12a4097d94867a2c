//! What a schema offers over HTTP, as a list: for tables, lint and documentation. The router's own rules, in its own order.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::schema::{Body, Method, Rule, Schema};
use crate::table::Kind;
use crate::template::Segment;

/// One way to reach an RPC over HTTP.
#[derive(Debug, Clone)]
pub struct Route {
    /// The RPC.
    pub method: Arc<Method>,
    pub(crate) rule: Arc<Rule>,
}

impl Schema {
    /// Every rule of every method; with `unannotated`, also `POST /package.Service/Method` of methods without one.
    #[must_use]
    pub fn routes(&self, unannotated: bool) -> Vec<Route> {
        let mut routes = Vec::new();
        for method in self.methods() {
            let without = method.unannotated.iter().filter(|_| unannotated);
            routes.extend(method.rules.iter().chain(without).map(|rule| Route {
                method: method.clone(),
                rule: rule.clone(),
            }));
        }
        routes
    }
}

impl Route {
    /// `GET`; `*` stands for every method.
    #[must_use]
    pub fn http_method(&self) -> &str {
        &self.rule.http_method
    }

    /// The template as it was written: `/v1/quotes/{symbol}`.
    #[must_use]
    pub fn template(&self) -> &str {
        &self.rule.text
    }

    /// Whether a request has a body.
    #[must_use]
    pub fn takes_body(&self) -> bool {
        !matches!(self.rule.body, Body::None)
    }

    /// A path that this rule matches, with made-up values of the right types in it.
    #[must_use]
    pub fn example_path(&self) -> String {
        let mut path = String::new();
        for (index, segment) in self.rule.template.segments.iter().enumerate() {
            let _ = match segment {
                Segment::Literal(text) => write!(path, "/{text}"),
                Segment::Any | Segment::Rest => write!(path, "/{}", self.example_value(index)),
            };
        }
        if path.is_empty() {
            path.push('/');
        }
        if let Some(verb) = &self.rule.template.verb {
            let _ = write!(path, ":{verb}");
        }
        path
    }

    /// What a variable segment may hold.
    fn example_value(&self, segment: usize) -> String {
        let of_segment = |range: &std::ops::Range<usize>| range.contains(&segment);
        let variable = self
            .rule
            .variables
            .iter()
            .find(|variable| of_segment(&variable.segments));
        let tables = &self.method.input().tables;
        let field = variable
            .and_then(|variable| variable.fields.last())
            .map(|index| tables.field(*index));
        match field.map(|field| field.kind) {
            None | Some(Kind::String | Kind::Bytes | Kind::Message) => "abcd".into(),
            Some(Kind::Bool) => "true".into(),
            // A number that every enum may have in a request.
            Some(_) => "1".into(),
        }
    }
}
