//! What is pushed at one moment, and how it differs from the moment before. Pure.
//!
//! ```text
//!  catalog ──build──► Snapshot (immutable, shared by every stream) ──diff──► names that changed, names that went
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_proto::Kind;

use crate::catalog::Catalog;
use crate::registry::Item;

const KINDS: usize = Kind::ALL.len();

/// Everything that can be subscribed to.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Counts the snapshots of this process; for telling whether a diff fits.
    pub number: u64,
    /// Hash of all names and versions: equal content, equal version, on every replica.
    pub version: String,
    /// This process has started a moment ago: sidecars may not have had the time to register here again. An instance that a
    /// sidecar knows from before, and that is not here, may be there all the same: it is not called removed yet.
    pub settling: bool,
    items: [BTreeMap<String, Arc<Item>>; KINDS],
}

impl Snapshot {
    /// A resource by its name on the stream.
    #[must_use]
    pub fn get(&self, kind: Kind, name: &str) -> Option<&Arc<Item>> {
        self.items[kind as usize].get(name)
    }

    /// All resources of a kind, by name.
    #[must_use]
    pub fn all(&self, kind: Kind) -> &BTreeMap<String, Arc<Item>> {
        &self.items[kind as usize]
    }

    /// The resources named `<service>/...`.
    pub fn under<'a>(&'a self, kind: Kind, service: &str) -> impl Iterator<Item = &'a Arc<Item>> + use<'a> {
        let prefix = format!("{service}/");
        self.items[kind as usize]
            .range(prefix.clone()..)
            .take_while(move |(name, _)| name.starts_with(&prefix))
            .map(|(_, item)| item)
    }
}

/// Makes the snapshot that follows `previous`.
#[must_use]
pub fn build(catalog: Catalog, previous: u64, settling: bool) -> Snapshot {
    let mut text = String::new();
    for item in catalog.items.iter().flat_map(BTreeMap::values) {
        text.push_str(item.kind.as_str());
        text.push('/');
        text.push_str(&item.name);
        text.push('=');
        text.push_str(&item.version);
        text.push('\n');
    }
    Snapshot {
        number: previous + 1,
        version: mesh_proto::version_of(text.as_bytes()),
        settling,
        items: catalog.items,
    }
}

/// From one snapshot to the next.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// Names of new and changed resources, by kind.
    pub changed: [Vec<String>; KINDS],
    /// Names that are there no more, by kind.
    pub removed: [Vec<String>; KINDS],
}

impl Diff {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changed.iter().chain(&self.removed).all(Vec::is_empty)
    }
}

/// What differs.
#[must_use]
pub fn diff(old: &Snapshot, new: &Snapshot) -> Diff {
    let mut diff = Diff::default();
    for kind in Kind::ALL {
        let (before, after) = (old.all(kind), new.all(kind));
        let differs = |name: &String, item: &Arc<Item>| {
            before
                .get(name)
                .is_none_or(|old| !Arc::ptr_eq(old, item) && old.version != item.version)
        };
        let changed = after.iter().filter(|(name, item)| differs(name, item));
        diff.changed[kind as usize] = changed.map(|(name, _)| name.clone()).collect();
        let removed = before.keys().filter(|name| !after.contains_key(*name));
        diff.removed[kind as usize] = removed.cloned().collect();
    }
    diff
}

/// A snapshot as it is handed to the streams: with the way from the one before it.
#[derive(Debug)]
pub struct Published {
    /// The snapshot.
    pub snapshot: Arc<Snapshot>,
    /// From snapshot `number - 1`.
    pub diff: Diff,
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::catalog::Authority;
    use crate::registry::{Key, State, Stored, codec};

    fn authority() -> Authority {
        Authority {
            trust_domain: "mesh.local".into(),
            bundle_pem: "OWN\n".into(),
        }
    }

    fn state(texts: &[&str]) -> State {
        let mut state = State::default();
        for text in texts {
            let resource = codec::parse(text.as_bytes()).unwrap();
            let key = Key::of(&resource);
            let stored = Stored {
                item: Arc::new(Item::new(resource)),
                schema: None,
                revision: "1".into(),
                modified: SystemTime::UNIX_EPOCH,
            };
            state.documents.insert(key, Arc::new(stored));
        }
        state
    }

    fn service(name: &str, timeout: &str) -> String {
        format!(
            "apiVersion: mesh/v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{protocol: grpc, timeout: {timeout}}}\n"
        )
    }

    fn policy(name: &str, service: &str) -> String {
        format!(
            "apiVersion: mesh/v1\nkind: AccessPolicy\nmetadata: {{name: {name}}}\nspec: {{service: {service}}}\n"
        )
    }

    fn snapshot(texts: &[&str], previous: u64) -> Snapshot {
        build(Catalog::of(&state(texts), &authority()), previous, false)
    }

    #[test]
    fn equal_content_has_an_equal_version_whatever_came_before() {
        let (a, b) = (service("a", "1s"), service("b", "1s"));
        assert_eq!(snapshot(&[&a, &b], 0).version, snapshot(&[&b, &a], 7).version);
        assert_ne!(snapshot(&[&a], 0).version, snapshot(&[&b], 0).version);
    }

    #[test]
    fn a_diff_names_what_changed_and_what_went_and_nothing_else() {
        let old = snapshot(
            &[&service("a", "1s"), &service("b", "1s"), &service("c", "1s")],
            0,
        );
        let new = snapshot(
            &[&service("a", "1s"), &service("b", "2s"), &service("d", "1s")],
            1,
        );
        let diff = diff(&old, &new);
        assert_eq!(diff.changed[Kind::Service as usize], ["b", "d"]);
        assert_eq!(diff.removed[Kind::Service as usize], ["c"]);
        assert!(diff.changed[Kind::TrustBundle as usize].is_empty());
        assert!(super::diff(&old, &old).is_empty());
    }

    #[test]
    fn a_policy_that_moves_to_another_service_goes_there_and_comes_here() {
        let old = snapshot(&[&policy("p", "a")], 0);
        let new = snapshot(&[&policy("p", "b")], 1);
        let diff = diff(&old, &new);
        assert_eq!(diff.changed[Kind::AccessPolicy as usize], ["b/p"]);
        assert_eq!(diff.removed[Kind::AccessPolicy as usize], ["a/p"]);
    }

    #[test]
    fn a_service_whose_name_begins_like_another_is_not_under_it() {
        let snapshot = snapshot(&[&policy("p", "a"), &policy("q", "a.b"), &policy("r", "a-b")], 0);
        let names: Vec<_> = snapshot
            .under(Kind::AccessPolicy, "a")
            .map(|item| item.name.as_str())
            .collect();
        assert_eq!(names, ["a/p"]);
    }

    #[test]
    fn the_own_authority_is_believed_and_applied_ones_are_added_to_it() {
        let alone = snapshot(&[], 0);
        let text = "apiVersion: mesh/v1\nkind: TrustBundle\nmetadata: {name: mesh.local}\nspec: {certificates: MORE}\n";
        let both = snapshot(&[text], 0);
        let certificates =
            |snapshot: &Snapshot| match &snapshot.get(Kind::TrustBundle, "mesh.local").unwrap().resource {
                mesh_proto::v1::document::Resource::TrustBundle(bundle) => {
                    bundle.spec.clone().unwrap().certificates
                }
                _ => panic!(),
            };
        assert_eq!(certificates(&alone), "OWN\n");
        assert_eq!(certificates(&both), "OWN\nMORE\n");
    }
}
