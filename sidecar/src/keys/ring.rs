//! When to fetch which keys, and how long to keep those there are. Knows no socket and no clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_proto::domain::KeySet;

use crate::xds::backoff::Backoff;

/// Keys are fetched again this long after a success.
pub(super) const REFRESH: Duration = Duration::from_secs(300);
/// And not sooner than this after any fetch, whatever callers send.
pub(super) const REFRESH_LEAST: Duration = Duration::from_secs(10);
/// Keys that could not be refreshed for this long are let go.
pub(super) const AGE_MAX: Duration = Duration::from_secs(24 * 3600);
/// First and longest wait after a failure.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(60);

/// Keys to put into force; empty ones refuse every token.
#[derive(Debug, PartialEq)]
pub struct Change {
    /// Name of the `JwtProvider`.
    pub provider: Arc<str>,
    /// Its keys from now on.
    pub keys: KeySet,
}

/// All providers whose keys are elsewhere.
#[derive(Default)]
pub struct Ring {
    entries: BTreeMap<Arc<str>, Entry>,
}

struct Entry {
    uri: Arc<str>,
    due: Instant,
    tried: Option<Instant>,
    fetching: bool,
    /// The keys in force, and when they were fetched.
    keys: Option<(KeySet, Instant)>,
    backoff: Backoff,
    /// The newest failure that was told; the same again is not news.
    told: String,
}

impl Ring {
    /// Takes up new providers, due at once, and lets those go that are no more. Keys from another place are others.
    pub fn follow(&mut self, now: Instant, wanted: &[(Arc<str>, Arc<str>)]) -> Vec<Change> {
        let stays =
            |name: &Arc<str>, entry: &Entry| wanted.iter().any(|(n, uri)| n == name && *uri == entry.uri);
        let gone: Vec<Arc<str>> = self
            .entries
            .iter()
            .filter(|(name, entry)| !stays(name, entry))
            .map(|(name, _)| name.clone())
            .collect();
        let mut changes = Vec::new();
        for name in gone {
            let held = self
                .entries
                .remove(&name)
                .is_some_and(|entry| entry.keys.is_some());
            if held {
                changes.push(nothing(name));
            }
        }
        for (name, uri) in wanted {
            self.entries.entry(name.clone()).or_insert_with(|| Entry {
                uri: uri.clone(),
                due: now,
                tried: None,
                fetching: false,
                keys: None,
                backoff: Backoff::new(RETRY_FIRST, RETRY_MOST),
                told: String::new(),
            });
        }
        changes
    }

    /// A token named a key that is not among them.
    pub fn stale(&mut self, now: Instant, provider: &str) {
        if let Some(entry) = self.entries.get_mut(provider) {
            let soonest = entry.tried.map_or(now, |tried| tried + REFRESH_LEAST);
            entry.due = entry.due.min(soonest.max(now));
        }
    }

    /// What to fetch now; each provider once at a time.
    pub fn due(&mut self, now: Instant) -> Vec<(Arc<str>, Arc<str>)> {
        let mut due = Vec::new();
        for (name, entry) in &mut self.entries {
            if !entry.fetching && entry.due <= now {
                entry.fetching = true;
                entry.tried = Some(now);
                due.push((name.clone(), entry.uri.clone()));
            }
        }
        due
    }

    /// What came of a fetch. `random` is between 0 and 1.
    pub fn fetched(
        &mut self,
        now: Instant,
        random: f64,
        provider: &Arc<str>,
        uri: &Arc<str>,
        result: Result<KeySet, String>,
    ) -> Option<Change> {
        let entry = self.entries.get_mut(provider).filter(|entry| entry.uri == *uri)?;
        entry.fetching = false;
        match result {
            Ok(keys) => {
                entry.due = now + REFRESH;
                entry.backoff.reset();
                entry.told.clear();
                let fresh = entry.keys.as_ref().is_none_or(|(held, _)| *held != keys);
                entry.keys = Some((keys.clone(), now));
                if fresh {
                    tracing::info!("keys of JwtProvider {provider} in force: {}", keys.keys.len());
                }
                fresh.then(|| Change {
                    provider: provider.clone(),
                    keys,
                })
            }
            Err(why) => {
                entry.due = now + entry.backoff.next(random);
                if why != entry.told {
                    let left = match &entry.keys {
                        Some(_) => "those before stay in force",
                        None => "there are none, so its tokens are refused",
                    };
                    tracing::warn!("keys of JwtProvider {provider} were not fetched: {why}; {left}");
                    entry.told = why;
                }
                None
            }
        }
    }

    /// Lets keys go that have grown too old.
    pub fn expire(&mut self, now: Instant) -> Vec<Change> {
        let mut changes = Vec::new();
        for (name, entry) in &mut self.entries {
            let old = entry
                .keys
                .as_ref()
                .is_some_and(|(_, at)| now.saturating_duration_since(*at) >= AGE_MAX);
            if old {
                entry.keys = None;
                tracing::error!("keys of JwtProvider {name} could not be refreshed for a day and are let go");
                changes.push(nothing(name.clone()));
            }
        }
        changes
    }

    /// When there is something to do next, if nothing happens before.
    #[must_use]
    pub fn next_wake(&self) -> Option<Instant> {
        let due = self
            .entries
            .values()
            .filter(|entry| !entry.fetching)
            .map(|entry| entry.due);
        let old = self
            .entries
            .values()
            .filter_map(|entry| Some(entry.keys.as_ref()?.1 + AGE_MAX));
        due.chain(old).min()
    }
}

fn nothing(provider: Arc<str>) -> Change {
    Change {
        provider,
        keys: KeySet::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(uri: &str) -> Vec<(Arc<str>, Arc<str>)> {
        vec![("login".into(), uri.into())]
    }

    fn keys(fill: char) -> KeySet {
        let part: String = std::iter::repeat_n(fill, 43).collect();
        let json = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","x":"{part}"}}]}}"#);
        KeySet::parse(json.as_bytes()).unwrap()
    }

    fn ring(now: Instant) -> Ring {
        let mut ring = Ring::default();
        assert!(ring.follow(now, &wanted("u")).is_empty());
        ring
    }

    fn fetch(ring: &mut Ring, now: Instant, result: Result<KeySet, String>) -> Option<Change> {
        assert_eq!(ring.due(now).len(), 1, "nothing is due");
        ring.fetched(now, 0.5, &"login".into(), &"u".into(), result)
    }

    #[test]
    fn a_new_provider_is_fetched_at_once_and_again_after_five_minutes() {
        let now = Instant::now();
        let mut ring = ring(now);
        assert!(fetch(&mut ring, now, Ok(keys('A'))).is_some());
        assert!(ring.due(now + REFRESH - Duration::from_secs(1)).is_empty());
        assert_eq!(ring.next_wake(), Some(now + REFRESH));
        // The same keys again are no change.
        assert!(fetch(&mut ring, now + REFRESH, Ok(keys('A'))).is_none());
        assert!(fetch(&mut ring, now + REFRESH * 2, Ok(keys('E'))).is_some());
    }

    #[test]
    fn unknown_keys_cause_one_fetch_in_ten_seconds_and_never_two_at_a_time() {
        let now = Instant::now();
        let mut ring = ring(now);
        fetch(&mut ring, now, Ok(keys('A')));
        for _ in 0..1000 {
            ring.stale(now + Duration::from_secs(1), "login");
        }
        assert!(ring.due(now + Duration::from_secs(9)).is_empty());
        let later = now + REFRESH_LEAST;
        assert_eq!(ring.due(later).len(), 1);
        ring.stale(later, "login");
        assert!(ring.due(later + REFRESH_LEAST).is_empty(), "two at a time");
        ring.fetched(later, 0.5, &"login".into(), &"u".into(), Ok(keys('A')));
        assert!(
            ring.due(later + REFRESH_LEAST - Duration::from_secs(1))
                .is_empty()
        );
        ring.stale(now, "nobody");
    }

    #[test]
    fn an_unknown_key_long_after_the_last_fetch_is_looked_for_at_once() {
        let now = Instant::now();
        let mut ring = ring(now);
        fetch(&mut ring, now, Ok(keys('A')));
        let later = now + Duration::from_secs(60);
        ring.stale(later, "login");
        assert_eq!(ring.due(later).len(), 1);
    }

    #[test]
    fn a_failure_keeps_the_keys_for_a_day_and_then_lets_them_go() {
        let now = Instant::now();
        let mut ring = ring(now);
        fetch(&mut ring, now, Ok(keys('A')));
        let mut at = now;
        while at < now + AGE_MAX {
            assert!(ring.expire(at).is_empty());
            at = ring.next_wake().unwrap();
            if !ring.due(at).is_empty() {
                let change = ring.fetched(at, 0.5, &"login".into(), &"u".into(), Err("500".into()));
                assert_eq!(change, None);
            }
        }
        let changes = ring.expire(now + AGE_MAX);
        assert_eq!(changes, [nothing("login".into())]);
        assert!(ring.expire(now + AGE_MAX * 2).is_empty());
    }

    #[test]
    fn failures_are_retried_ever_more_slowly() {
        let now = Instant::now();
        let mut ring = ring(now);
        let (mut at, mut waits) = (now, Vec::new());
        for _ in 0..12 {
            fetch(&mut ring, at, Err("down".into()));
            let next = ring.next_wake().unwrap();
            waits.push(next - at);
            at = next;
        }
        assert_eq!(waits[0], RETRY_FIRST);
        assert_eq!(waits[11], RETRY_MOST);
    }

    #[test]
    fn keys_of_another_place_are_others_and_a_late_answer_of_the_old_place_is_nobodys() {
        let now = Instant::now();
        let mut ring = ring(now);
        fetch(&mut ring, now, Ok(keys('A')));
        ring.stale(now + REFRESH_LEAST, "login");
        ring.due(now + REFRESH_LEAST);
        assert_eq!(ring.follow(now, &wanted("v")), [nothing("login".into())]);
        let late = ring.fetched(now, 0.5, &"login".into(), &"u".into(), Ok(keys('A')));
        assert_eq!(late, None);
        assert_eq!(ring.due(now).len(), 1);
        assert!(ring.follow(now, &[]).is_empty());
        assert_eq!(ring.next_wake(), None);
    }
}
