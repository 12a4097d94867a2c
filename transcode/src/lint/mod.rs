//! Rules in each other's way, told before anybody calls: ambiguous, unreachable, overlapping, shadowed.
//!
//! ```text
//!  rules of all schemas ─► Router ─► its conflicts                               ambiguous    error
//!                            └────── a path made for each rule: who gets it?     unreachable  error
//!  pairs of rules of one verb and HTTP method ─► which paths have both?          overlapping, shadowed
//! ```
//!
//! What decides is the router itself, so lint and live calls cannot disagree.

mod patterns;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::router::{Conflict, Recognised, Router, Routing};
use crate::schema::{Rule, Schema};
use crate::template::Segment;
use patterns::{comes_first, common_path, is_within, overlaps, paths_of};

/// Most findings that are told; what is over is counted.
pub const FINDINGS_MAX: usize = 1000;
/// An HTTP method nobody asks for, to try rules that take any.
const ODD_METHOD: &str = "MESH-LINT";
/// Services of gRPC itself are in many schemas; that one of them hides another is nobody's mistake.
const OWN_PACKAGE: &str = "grpc.";

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// A rule that is never in force.
    Error,
    /// Probably not meant.
    Warning,
    /// As the rules of matching have it: the more specific rule comes first.
    Info,
}

/// What it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// The same HTTP method and pattern twice.
    Ambiguous,
    /// No request can get to it.
    Unreachable,
    /// Both have some paths that the other has, and others that it does not have.
    Overlapping,
    /// A more specific rule takes some of its paths.
    Shadowed,
    /// Two services have a gRPC service of the same name.
    SameName,
}

/// A rule by its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named<T> {
    /// Whose rule.
    pub target: T,
    /// `package.Service/Method`.
    pub rpc: String,
    /// `GET /v1/quotes/{symbol}`.
    pub rule: String,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding<T> {
    /// How bad.
    pub level: Level,
    /// What.
    pub what: What,
    /// The rule that loses.
    pub rule: Named<T>,
    /// The rule that wins, if it is one rule.
    pub by: Option<Named<T>>,
    /// In words, without the names.
    pub message: String,
}

/// Everything that was found.
#[derive(Debug, Clone)]
pub struct Report<T> {
    /// The worst first, then as the rules come.
    pub findings: Vec<Finding<T>>,
    /// How many more there are, over [`FINDINGS_MAX`].
    pub more: usize,
    /// How many rules were looked at.
    pub rules: usize,
}

impl Level {
    /// In reports.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Info => "info",
        }
    }
}

impl What {
    /// In reports.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            What::Ambiguous => "ambiguous",
            What::Unreachable => "unreachable",
            What::Overlapping => "overlapping",
            What::Shadowed => "shadowed",
            What::SameName => "same name",
        }
    }
}

/// Looks at the rules of several schemas as one edge would serve them: of equals, the first is in force. The third of an
/// entry is whether methods without a rule are mapped by their names.
#[must_use]
pub fn lint<T: Clone>(entries: &[(T, Arc<Schema>, bool)]) -> Report<T> {
    let mut lint = Lint::of(entries);
    lint.ambiguous(entries);
    lint.unreachable();
    lint.pairs();
    lint.same_names(entries);
    lint.findings.sort_by_key(|finding| finding.level);
    let more = lint.findings.len().saturating_sub(FINDINGS_MAX) + lint.more;
    lint.findings.truncate(FINDINGS_MAX);
    Report {
        findings: lint.findings,
        more,
        rules: lint.rules.len(),
    }
}

struct Lint<T> {
    router: Router<usize>,
    conflicts: Vec<Conflict<usize>>,
    rules: Vec<(Named<T>, Arc<Rule>)>,
    /// Rules, by position, that get no request at all; what else is in their way is of no matter.
    lost: Vec<bool>,
    findings: Vec<Finding<T>>,
    more: usize,
}

impl<T: Clone> Lint<T> {
    fn of(entries: &[(T, Arc<Schema>, bool)]) -> Self {
        let mut rules = Vec::new();
        for (target, schema, unannotated) in entries {
            rules.extend(schema.routes(*unannotated).into_iter().map(|route| {
                let named = Named {
                    target: target.clone(),
                    rpc: route.method.name().to_owned(),
                    rule: format!("{} {}", route.http_method(), route.template()),
                };
                (named, route.rule)
            }));
        }
        let indexed = entries.iter().enumerate();
        let (router, conflicts) = Router::build_with(indexed.map(|(index, (_, schema, unannotated))| {
            let routing = Routing {
                unannotated: *unannotated,
                ..Routing::default()
            };
            (index, schema.clone(), routing)
        }));
        Self {
            router,
            conflicts,
            lost: vec![false; rules.len()],
            rules,
            findings: Vec::new(),
            more: 0,
        }
    }

    fn find(&mut self, finding: Finding<T>) {
        // A few more than are told, so that the worst of a kind are not cut for being found late.
        if self.findings.len() < 4 * FINDINGS_MAX {
            self.findings.push(finding);
        } else {
            self.more += 1;
        }
    }

    fn ambiguous(&mut self, entries: &[(T, Arc<Schema>, bool)]) {
        for conflict in std::mem::take(&mut self.conflicts) {
            let named = |(index, rpc): &(usize, String), rule: &str| {
                entries.get(*index).map(|(target, ..)| Named {
                    target: target.clone(),
                    rpc: rpc.clone(),
                    rule: rule.to_owned(),
                })
            };
            let (first, second) = (
                named(&conflict.first, &conflict.first_rule),
                named(&conflict.second, &conflict.rule),
            );
            let Some(rule) = second else { continue };
            let level = if rule.rpc.starts_with(OWN_PACKAGE) {
                Level::Info
            } else {
                Level::Error
            };
            self.find(Finding {
                level,
                what: What::Ambiguous,
                rule,
                by: first,
                message: "the same HTTP method and pattern; only one can be in force".into(),
            });
        }
    }

    /// A rule that gets none of the paths made for it gets none at all: made-up segments are what is taken by the fewest
    /// others.
    fn unreachable(&mut self) {
        let longest = self
            .rules
            .iter()
            .map(|(_, rule)| rule.template.segments.len())
            .max();
        for index in 0..self.rules.len() {
            let Some((named, rule)) = self.rules.get(index).cloned() else {
                continue;
            };
            let http_method = if rule.http_method == "*" {
                ODD_METHOD
            } else {
                &rule.http_method
            };
            let (mut taken_by, mut reached) = (None, false);
            for path in paths_of(&rule, longest.unwrap_or(0)) {
                match self.router.recognise(http_method, &path) {
                    Recognised::Found(found)
                        if Arc::ptr_eq(&found.rule, &rule) || is_same(&found.rule, &rule) =>
                    {
                        // An equal rule of somebody else in its place was told as ambiguous.
                        reached = true;
                        break;
                    }
                    Recognised::Found(found) => taken_by = taken_by.or(Some(found.rule)),
                    _ => {}
                }
            }
            if reached {
                continue;
            }
            if let Some(lost) = self.lost.get_mut(index) {
                *lost = true;
            }
            let by = taken_by.and_then(|taker| self.name_of(&taker));
            let message = match &by {
                Some(_) => "every path it has belongs to more specific rules".into(),
                None => "no request can have such a path: segments of one or two dots are refused".into(),
            };
            self.find(Finding {
                level: Level::Error,
                what: What::Unreachable,
                rule: named,
                by,
                message,
            });
        }
    }

    fn name_of(&self, rule: &Arc<Rule>) -> Option<Named<T>> {
        let found = self
            .rules
            .iter()
            .find(|(_, other)| Arc::ptr_eq(other, rule) || is_same(other, rule));
        found.map(|(named, _)| named.clone())
    }

    fn pairs(&mut self) {
        let mut by_verb: BTreeMap<Option<String>, Vec<usize>> = BTreeMap::new();
        for (index, (_, rule)) in self.rules.iter().enumerate() {
            if !self.lost.get(index).copied().unwrap_or(true) {
                by_verb.entry(rule.template.verb.clone()).or_default().push(index);
            }
        }
        for indices in by_verb.values() {
            for (at, first) in indices.iter().enumerate() {
                for second in indices.iter().skip(at + 1) {
                    let finding = match (self.rules.get(*first), self.rules.get(*second)) {
                        (Some(first), Some(second)) => pair(first, second),
                        _ => None,
                    };
                    if let Some(finding) = finding {
                        self.find(finding);
                    }
                }
            }
        }
    }

    fn same_names(&mut self, entries: &[(T, Arc<Schema>, bool)]) {
        let mut seen: BTreeMap<&str, &T> = BTreeMap::new();
        let mut twice = Vec::new();
        for (target, schema, _) in entries {
            for service in schema.services().filter(|name| !name.starts_with(OWN_PACKAGE)) {
                match seen.get(service) {
                    None => drop(seen.insert(service, target)),
                    Some(first) => twice.push((service, (*first).clone(), target.clone())),
                }
            }
        }
        for (service, first, second) in twice {
            let named = |target: T| Named {
                target,
                rpc: format!("{service}/*"),
                rule: format!("POST /{service}/…"),
            };
            self.find(Finding {
                level: Level::Warning,
                what: What::SameName,
                rule: named(second),
                by: Some(named(first)),
                message: "gRPC callers of an edge that exposes both reach one of them only".into(),
            });
        }
    }
}

/// The same HTTP method and pattern.
fn is_same(one: &Rule, other: &Rule) -> bool {
    one.http_method == other.http_method
        && one.template.segments == other.template.segments
        && one.template.verb == other.template.verb
}

type Placed<T> = (Named<T>, Arc<Rule>);

fn pair<T: Clone>(first: &Placed<T>, second: &Placed<T>) -> Option<Finding<T>> {
    let (one, other) = (&first.1, &second.1);
    let methods_meet =
        one.http_method == other.http_method || one.http_method == "*" || other.http_method == "*";
    let (a, b) = (&one.template.segments, &other.template.segments);
    if !methods_meet || !overlaps(a, b) {
        return None;
    }
    let finding = |level, what, rule: &Placed<T>, by: &Placed<T>, message: String| {
        Some(Finding {
            level,
            what,
            rule: rule.0.clone(),
            by: Some(by.0.clone()),
            message,
        })
    };
    let shadowed = |rule: &Placed<T>, by: &Placed<T>| {
        let open = rule.1.template.segments.last() == Some(&Segment::Rest);
        // One RPC by several patterns is what additional bindings are for.
        let level = if open && rule.0.rpc != by.0.rpc {
            Level::Warning
        } else {
            Level::Info
        };
        finding(
            level,
            What::Shadowed,
            rule,
            by,
            "the more specific rule takes some of its paths".into(),
        )
    };
    match (is_within(a, b), is_within(b, a)) {
        // The same pattern: one of them takes any HTTP method, or it was told as ambiguous.
        (true, true) if one.http_method == other.http_method => None,
        (true, true) if one.http_method != "*" => shadowed(second, first),
        (_, true) => shadowed(first, second),
        (true, false) => shadowed(second, first),
        (false, false) => {
            let path = common_path(a, b);
            let (winner, loser) = if comes_first(a, b) {
                (first, second)
            } else {
                (second, first)
            };
            let message = format!(
                "both have {path}, and neither is the more specific rule there: it goes to the other one"
            );
            finding(Level::Warning, What::Overlapping, loser, winner, message)
        }
    }
}

#[cfg(test)]
mod tests;
