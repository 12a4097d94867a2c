//! Which RPC is this? Answered from the HTTP method and the raw path alone.
//!
//! ```text
//!  /v1/quotes/ACME:stream      split on raw "/", never decoded before
//!   │   │      └─ "*"  ─ ends: { verb "stream": GET ─► StreamQuotes, no verb: GET ─► GetQuote }
//!   │   └─ "quotes"
//!   └─ "v1"                    at each node: exact child, then "*", then "**"; a dead end goes back and tries the next
//! ```
//!
//! What follows the last `:` of the last segment is a verb where some rule at that place has this verb; else it is part of
//! the segment. Verbs belong to nodes, so a verb of one rule never changes how another rule's paths are read.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::json::read::Woven;
use crate::percent::{self, Decode};
use crate::refusal::Refusal;
use crate::route::Route;
use crate::schema::{Method, Rule, Schema};
use crate::template::Segment;

/// Most segments a path may have.
const PATH_SEGMENTS_MAX: usize = 256;

/// The rules of many schemas in one trie. `T` says whose rule it is, such as a service's name.
#[derive(Debug)]
pub struct Router<T> {
    root: Node,
    entries: Vec<Entry<T>>,
}

/// Switches of one schema's rules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Routing {
    /// Methods without a rule are reached by `POST /package.Service/Method`.
    pub unannotated: bool,
    /// Variables of several segments are decoded but for `%2F`; otherwise reserved characters in them stay encoded.
    pub decode_reserved: bool,
}

/// What a request's head is.
#[derive(Debug)]
pub enum Recognised<T> {
    /// A call of this RPC. A HEAD by a GET rule too: the caller of this crate leaves out the body of the answer.
    Found(Match<T>),
    /// OPTIONS on a path that takes these methods; answered without a call: 204 and `Allow`.
    Options {
        /// The value of `Allow`.
        allow: String,
    },
    /// 405: the path takes other methods.
    MethodNotAllowed {
        /// The value of `Allow`.
        allow: String,
    },
    /// 404: no rule has this path.
    NotFound,
    /// 400: this is no path.
    Malformed(Refusal),
}

/// A recognised call: the RPC, and the fields its path fills.
#[derive(Debug)]
pub struct Match<T> {
    /// Whose rule matched.
    pub target: T,
    /// The RPC.
    pub method: Arc<Method>,
    pub(crate) rule: Arc<Rule>,
    /// Values of the rule's variables, decoded.
    pub(crate) values: Vec<String>,
    /// What headers fill, in the types of their fields.
    pub(crate) headers: Vec<Woven>,
}

impl<T> Match<T> {
    /// The rule that matched, and its RPC.
    #[must_use]
    pub fn route(&self) -> Route {
        Route {
            method: self.method.clone(),
            rule: self.rule.clone(),
        }
    }
}

/// Two rules for the same HTTP method and paths. The first is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict<T> {
    /// Whose rule is in force, and its RPC.
    pub first: (T, String),
    /// Whose rule is not, and its RPC.
    pub second: (T, String),
    /// `GET /v1/quotes/{symbol}` as the second wrote it.
    pub rule: String,
    /// The same as the first wrote it: variables may have other names.
    pub first_rule: String,
}

#[derive(Debug)]
struct Entry<T> {
    target: T,
    method: Arc<Method>,
    rule: Arc<Rule>,
    /// How variables of several segments are decoded.
    several: Decode,
}

#[derive(Debug, Default)]
struct Node {
    exact: HashMap<String, Node>,
    any: Option<Box<Node>>,
    /// Rules that end here.
    ends: Ends,
    /// Rules that end in `**` here.
    rest: Ends,
}

/// By verb (`""` for none), then by HTTP method, the index of an entry.
type Ends = HashMap<String, HashMap<String, usize>>;

impl std::fmt::Debug for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.http_method, self.text)
    }
}

impl<T: Clone> Router<T> {
    /// Builds a router. Of rules for the same method and paths the first in the order of `entries`, then of method names,
    /// is in force; the others are reported.
    pub fn build(entries: impl IntoIterator<Item = (T, Arc<Schema>)>) -> (Router<T>, Vec<Conflict<T>>) {
        Self::build_with(
            entries
                .into_iter()
                .map(|(target, schema)| (target, schema, Routing::default())),
        )
    }

    /// The same, where each schema has switches of its own. Every rule that was written comes before those that stand for
    /// methods without one.
    pub fn build_with(
        entries: impl IntoIterator<Item = (T, Arc<Schema>, Routing)>,
    ) -> (Router<T>, Vec<Conflict<T>>) {
        let mut router = Router {
            root: Node::default(),
            entries: Vec::new(),
        };
        let mut conflicts = Vec::new();
        let mut mapped = Vec::new();
        for (target, schema, routing) in entries {
            for method in schema.methods() {
                let entry = |rule: &Arc<Rule>| Entry {
                    target: target.clone(),
                    method: method.clone(),
                    rule: rule.clone(),
                    several: if routing.decode_reserved {
                        Decode::KeepSlash
                    } else {
                        Decode::KeepReserved
                    },
                };
                for rule in &method.rules {
                    conflicts.extend(router.insert(entry(rule)));
                }
                let without = method.unannotated.iter().filter(|_| routing.unannotated);
                mapped.extend(without.map(entry));
            }
        }
        conflicts.extend(mapped.into_iter().filter_map(|entry| router.insert(entry)));
        (router, conflicts)
    }

    /// Recognises a call by its HTTP method and its raw, still encoded path without the query.
    #[must_use]
    pub fn recognise(&self, http_method: &str, raw_path: &str) -> Recognised<T> {
        let segments = match split(raw_path) {
            Ok(Some(segments)) => segments,
            Ok(None) => return Recognised::NotFound,
            Err(refusal) => return Recognised::Malformed(refusal),
        };
        let mut search = Search {
            http_method,
            allowed: BTreeSet::new(),
        };
        if let Some(index) = search.path(&self.root, &segments) {
            return match self.entries.get(index.entry) {
                Some(entry) => entry.found(&segments, index.with_verb),
                None => Recognised::NotFound,
            };
        }
        if search.allowed.is_empty() {
            return Recognised::NotFound;
        }
        if search.allowed.contains("GET") {
            search.allowed.insert("HEAD");
        }
        search.allowed.insert("OPTIONS");
        let allow = search.allowed.into_iter().collect::<Vec<_>>().join(", ");
        if http_method == "OPTIONS" {
            Recognised::Options { allow }
        } else {
            Recognised::MethodNotAllowed { allow }
        }
    }

    fn insert(&mut self, entry: Entry<T>) -> Option<Conflict<T>> {
        let mut node = &mut self.root;
        let mut rest = false;
        for segment in &entry.rule.template.segments {
            match segment {
                Segment::Literal(text) => node = node.exact.entry(text.clone()).or_default(),
                Segment::Any => node = node.any.get_or_insert_default(),
                Segment::Rest => rest = true,
            }
        }
        let ends = if rest { &mut node.rest } else { &mut node.ends };
        let verb = entry.rule.template.verb.clone().unwrap_or_default();
        let methods = ends.entry(verb).or_default();
        if let Some(first) = methods
            .get(&entry.rule.http_method)
            .and_then(|index| self.entries.get(*index))
        {
            return Some(Conflict {
                first: (first.target.clone(), first.method.name().to_owned()),
                second: (entry.target, entry.method.name().to_owned()),
                rule: format!("{} {}", entry.rule.http_method, entry.rule.text),
                first_rule: format!("{} {}", first.rule.http_method, first.rule.text),
            });
        }
        methods.insert(entry.rule.http_method.clone(), self.entries.len());
        self.entries.push(entry);
        None
    }
}

impl<T> Recognised<T> {
    /// The refusal this is answered with, if it is one.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Recognised::Found(_) | Recognised::Options { .. } => None,
            Recognised::MethodNotAllowed { allow } => Some(Refusal::method_not_allowed(allow)),
            Recognised::NotFound => Some(Refusal::not_found()),
            Recognised::Malformed(refusal) => Some(refusal.clone()),
        }
    }
}

impl<T> Match<T> {
    /// The template that matched, as it was written: `/v1/quotes/{symbol}`.
    #[must_use]
    pub fn template(&self) -> &str {
        &self.rule.text
    }

    /// The fields the path fills, by their path in proto names, with their decoded text.
    pub fn bindings(&self) -> impl Iterator<Item = (&str, &str)> {
        let names = self.rule.variables.iter().map(|variable| variable.name.as_str());
        names.zip(self.values.iter().map(String::as_str))
    }
}

impl<T: Clone> Entry<T> {
    fn found(&self, segments: &[&str], with_verb: bool) -> Recognised<T> {
        let mut segments = Cow::Borrowed(segments);
        if with_verb && let Some(last) = segments.to_mut().last_mut() {
            *last = last.rsplit_once(':').map_or(*last, |(before, _)| before);
        }
        let mut values = Vec::with_capacity(self.rule.variables.len());
        for variable in &self.rule.variables {
            let open = self.rule.template.segments.get(variable.segments.end - 1) == Some(&Segment::Rest);
            let end = if open {
                segments.len()
            } else {
                variable.segments.end
            };
            let text = segments
                .get(variable.segments.start..end)
                .unwrap_or_default()
                .join("/");
            let decode = if variable.several {
                self.several
            } else {
                Decode::All
            };
            match percent::decode(&text, decode) {
                Ok(value) => values.push(value.into_owned()),
                Err(why) => {
                    let refusal = Refusal::bad_request(format!("the path {why}"));
                    return Recognised::Malformed(refusal.at_field(&variable.name));
                }
            }
        }
        Recognised::Found(Match {
            target: self.target.clone(),
            method: self.method.clone(),
            rule: self.rule.clone(),
            values,
            headers: Vec::new(),
        })
    }
}

/// Splits a raw path. `None`: an empty segment, which nothing matches.
///
/// # Errors
/// It does not start with a slash, has a malformed escape, an encoded NUL, or a `.` or `..` segment in whatever spelling:
/// such a path means one thing here and another one elsewhere.
fn split(raw_path: &str) -> Result<Option<Vec<&str>>, Refusal> {
    let malformed = |why: &str| Err(Refusal::bad_request(format!("the path {why}")));
    let Some(rest) = raw_path.strip_prefix('/') else {
        return malformed("does not start with a slash");
    };
    if rest.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let segments: Vec<&str> = rest.split('/').collect();
    if segments.len() > PATH_SEGMENTS_MAX {
        return malformed(&format!("has more than {PATH_SEGMENTS_MAX} segments"));
    }
    for segment in &segments {
        match percent::decode(segment, Decode::All) {
            Err(why) => return malformed(why),
            Ok(text) if text == "." || text == ".." => return malformed("has a dot segment"),
            Ok(text) if text.contains('\0') => return malformed("holds a NUL"),
            Ok(_) => {}
        }
    }
    Ok((!segments.contains(&"")).then_some(segments))
}

struct Search<'r> {
    http_method: &'r str,
    /// Methods of rules that have the path.
    allowed: BTreeSet<&'r str>,
}

struct Hit {
    entry: usize,
    with_verb: bool,
}

impl<'r> Search<'r> {
    /// The most specific rule: with the verb first, then with the whole last segment as text.
    fn path(&mut self, root: &'r Node, segments: &[&str]) -> Option<Hit> {
        if let Some((last, before)) = segments.split_last()
            && let Some((text, verb)) = last.rsplit_once(':')
            && !text.is_empty()
            && !verb.is_empty()
        {
            let mut cut = before.to_vec();
            cut.push(text);
            if let Some(entry) = self.node(root, &cut, verb) {
                return Some(Hit {
                    entry,
                    with_verb: true,
                });
            }
        }
        let entry = self.node(root, segments, "")?;
        Some(Hit {
            entry,
            with_verb: false,
        })
    }

    fn node(&mut self, node: &'r Node, segments: &[&str], verb: &str) -> Option<usize> {
        let deeper = match segments {
            [] => self.ends(&node.ends, verb),
            [first, others @ ..] => node
                .exact
                .get(*first)
                .and_then(|exact| self.node(exact, others, verb))
                .or_else(|| self.node(node.any.as_deref()?, others, verb)),
        };
        deeper.or_else(|| self.ends(&node.rest, verb))
    }

    fn ends(&mut self, ends: &'r Ends, verb: &str) -> Option<usize> {
        let methods = ends.get(verb)?;
        let exact = methods.get(self.http_method);
        let head = || (self.http_method == "HEAD").then(|| methods.get("GET")).flatten();
        let found = exact.or_else(head).or_else(|| methods.get("*")).copied();
        if found.is_none() {
            self.allowed.extend(methods.keys().map(String::as_str));
        }
        found
    }
}
