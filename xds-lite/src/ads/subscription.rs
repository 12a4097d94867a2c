//! Which resources of one type a sidecar asked for. Pure.

use std::collections::BTreeSet;

use mesh_proto::Kind;

/// Most names and patterns of one type on one stream.
pub const PATTERNS_MAX: usize = 10_000;
/// Longest name, in bytes.
pub const PATTERN_BYTES_MAX: usize = 512;

/// One thing that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pattern {
    /// `*`
    All,
    /// `<service>/*`
    Under(String),
    /// Exactly this name.
    Name(String),
}

impl Pattern {
    /// Reads a subscribed name. `<service>/*` is a pattern for the kinds that are named under a service.
    #[must_use]
    pub fn parse(kind: Kind, text: &str) -> Self {
        match text.strip_suffix("/*") {
            Some(service) if matches!(kind, Kind::Instance | Kind::AccessPolicy) => {
                Pattern::Under(service.to_owned())
            }
            _ if text == "*" => Pattern::All,
            _ => Pattern::Name(text.to_owned()),
        }
    }

    /// As it was asked for.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Pattern::All => "*".to_owned(),
            Pattern::Under(service) => format!("{service}/*"),
            Pattern::Name(name) => name.clone(),
        }
    }
}

/// Everything that was asked for.
#[derive(Debug, Default)]
pub struct Subscription {
    patterns: BTreeSet<Pattern>,
}

impl Subscription {
    /// Asks for more.
    ///
    /// # Errors
    /// That is more than anybody needs.
    pub fn add(&mut self, pattern: Pattern) -> Result<(), String> {
        if self.patterns.len() >= PATTERNS_MAX && !self.patterns.contains(&pattern) {
            return Err(format!(
                "more than {PATTERNS_MAX} names of one type are subscribed"
            ));
        }
        self.patterns.insert(pattern);
        Ok(())
    }

    /// Asks for less, and says whether that had been asked for.
    pub fn remove(&mut self, pattern: &Pattern) -> bool {
        self.patterns.remove(pattern)
    }

    /// Whether a resource of this name was asked for, in any way.
    #[must_use]
    pub fn covers(&self, name: &str) -> bool {
        let has = |pattern: &Pattern| self.patterns.contains(pattern);
        has(&Pattern::All)
            || has(&Pattern::Name(name.to_owned()))
            || name
                .split_once('/')
                .is_some_and(|(service, _)| has(&Pattern::Under(service.to_owned())))
    }

    /// Each thing that was asked for.
    pub fn patterns(&self) -> impl Iterator<Item = &Pattern> {
        self.patterns.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_is_one_only_where_names_stand_under_a_service() {
        assert_eq!(Pattern::parse(Kind::Instance, "a/*"), Pattern::Under("a".into()));
        assert_eq!(Pattern::parse(Kind::Service, "a/*"), Pattern::Name("a/*".into()));
        assert_eq!(Pattern::parse(Kind::Mesh, "*"), Pattern::All);
    }

    #[test]
    fn a_glob_covers_its_service_and_no_other() {
        let mut subscription = Subscription::default();
        subscription.add(Pattern::parse(Kind::Instance, "a/*")).unwrap();
        assert!(subscription.covers("a/1"));
        for name in ["a", "b/1", "ab/1", "a.b/1"] {
            assert!(!subscription.covers(name), "{name}");
        }
    }

    #[test]
    fn subscriptions_have_an_end() {
        let mut subscription = Subscription::default();
        for index in 0..PATTERNS_MAX {
            subscription.add(Pattern::Name(index.to_string())).unwrap();
        }
        assert!(subscription.add(Pattern::Name("0".into())).is_ok());
        assert!(subscription.add(Pattern::Name("one more".into())).is_err());
    }
}
