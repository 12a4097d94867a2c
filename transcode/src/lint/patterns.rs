//! How the patterns of two rules lie to each other, and paths made for one.

use crate::schema::Rule;
use crate::template::Segment;

/// A segment that no template spells out, since it is no literal of one.
const FRESH: &str = "~lint~";
/// Paths that only this rule should have, as far as a path can be that.
pub(super) fn paths_of(rule: &Rule, longest: usize) -> Vec<String> {
    let mut segments: Vec<&str> = Vec::new();
    let mut open = false;
    for segment in &rule.template.segments {
        match segment {
            Segment::Literal(text) => segments.push(text),
            Segment::Any => segments.push(FRESH),
            Segment::Rest => open = true,
        }
    }
    let verb = rule
        .template
        .verb
        .as_ref()
        .map(|verb| format!(":{verb}"))
        .unwrap_or_default();
    let most = if open { longest + 1 } else { 0 };
    (0..=most)
        .map(|more| {
            let all: Vec<&str> = segments
                .iter()
                .copied()
                .chain(std::iter::repeat_n(FRESH, more))
                .collect();
            format!("/{}{verb}", all.join("/"))
        })
        .collect()
}

/// Whether some path has both patterns.
pub(super) fn overlaps(a: &[Segment], b: &[Segment]) -> bool {
    match (a, b) {
        ([Segment::Rest], _) | (_, [Segment::Rest]) | ([], []) => true,
        ([Segment::Literal(x), a @ ..], [Segment::Literal(y), b @ ..]) => x == y && overlaps(a, b),
        ([_, a @ ..], [_, b @ ..]) => overlaps(a, b),
        ([], _) | (_, []) => false,
    }
}

/// Whether every path of `a` is one of `b`.
pub(super) fn is_within(a: &[Segment], b: &[Segment]) -> bool {
    match (a, b) {
        (_, [Segment::Rest]) | ([], []) => true,
        ([Segment::Rest] | [], _) | (_, []) => false,
        ([Segment::Literal(x), a @ ..], [Segment::Literal(y), b @ ..]) => x == y && is_within(a, b),
        ([_, a @ ..], [Segment::Any, b @ ..]) => is_within(a, b),
        _ => false,
    }
}

/// Whether the router comes to `a` before `b` where a path has both: the first difference decides.
pub(super) fn comes_first(a: &[Segment], b: &[Segment]) -> bool {
    let rank = |segment: Option<&Segment>| match segment {
        Some(Segment::Literal(_)) | None => 0,
        Some(Segment::Any) => 1,
        Some(Segment::Rest) => 2,
    };
    let longest = a.len().max(b.len());
    let differing = (0..longest)
        .map(|at| (rank(a.get(at)), rank(b.get(at))))
        .find(|(x, y)| x != y);
    differing.is_none_or(|(x, y)| x < y)
}

pub(super) fn common_path(a: &[Segment], b: &[Segment]) -> String {
    let mut path = String::new();
    for at in 0..a.len().max(b.len()) {
        match (a.get(at), b.get(at)) {
            (Some(Segment::Literal(text)), _) | (_, Some(Segment::Literal(text))) => {
                path.push('/');
                path.push_str(text);
            }
            (Some(Segment::Any), _) | (_, Some(Segment::Any)) => path.push_str("/x"),
            _ => {}
        }
    }
    if path.is_empty() { "/".into() } else { path }
}
