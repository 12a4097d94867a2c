//! Where things stand in ZooKeeper. Pure: names to paths and back.
//!
//! ```text
//!  PATH/documents/<Kind>/<name>        persistent; JSON text, a schema is a bare FileDescriptorSet
//!  PATH/instances/<service>/<id>       ephemeral; JSON text of the Instance
//!  PATH/replicas/<id>                  ephemeral; host:port of the replica, and what the edges connected to it expose
//! ```
//!
//! Names are escaped by [`codec::escape`], which leaves all but a few of them as they are.

use mesh_proto::Kind;

use crate::registry::Key;
use crate::registry::codec;

/// What a path stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A document.
    Document(Key),
    /// An instance, `<service>/<id>`.
    Instance(String),
    /// A replica's id.
    Replica(String),
    /// One of the nodes between these; holds nothing itself.
    Directory,
    /// Nothing we know; the reason in words.
    Strange(String),
}

/// The paths under one root.
#[derive(Debug, Clone)]
pub struct Layout {
    root: String,
}

impl Layout {
    /// The layout under `root`, such as `/mesh`.
    #[must_use]
    pub fn new(root: &str) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// The node everything is under.
    #[must_use]
    pub fn root(&self) -> &str {
        &self.root
    }

    /// The nodes that must be there before anything else.
    #[must_use]
    pub fn directories(&self) -> Vec<String> {
        let documents = Kind::ALL.map(|kind| self.documents(kind));
        documents
            .into_iter()
            .chain([self.instances(), self.replicas()])
            .collect()
    }

    /// The nodes that hold nothing but other directories.
    #[must_use]
    pub fn above(&self) -> [String; 2] {
        [self.root.clone(), format!("{}/documents", self.root)]
    }

    /// The parent of the documents of a kind.
    #[must_use]
    pub fn documents(&self, kind: Kind) -> String {
        format!("{}/documents/{kind}", self.root)
    }

    /// The parent of the services that have instances.
    #[must_use]
    pub fn instances(&self) -> String {
        format!("{}/instances", self.root)
    }

    /// The parent of the replicas.
    #[must_use]
    pub fn replicas(&self) -> String {
        format!("{}/replicas", self.root)
    }

    /// The node of a document.
    #[must_use]
    pub fn document(&self, key: &Key) -> String {
        format!("{}/{}", self.documents(key.kind), codec::escape(&key.name))
    }

    /// The node of an instance, `<service>/<id>`.
    #[must_use]
    pub fn instance(&self, name: &str) -> String {
        let (service, id) = name.split_once('/').unwrap_or((name, ""));
        format!(
            "{}/{}/{}",
            self.instances(),
            codec::escape(service),
            codec::escape(id)
        )
    }

    /// The node of a replica.
    #[must_use]
    pub fn replica(&self, id: &str) -> String {
        format!("{}/{}", self.replicas(), codec::escape(id))
    }

    /// The node of a place that has one.
    #[must_use]
    pub fn path(&self, place: &Place) -> Option<String> {
        match place {
            Place::Document(key) => Some(self.document(key)),
            Place::Instance(name) => Some(self.instance(name)),
            Place::Replica(id) => Some(self.replica(id)),
            Place::Directory | Place::Strange(_) => None,
        }
    }

    /// What a path stands for.
    #[must_use]
    pub fn place(&self, path: &str) -> Place {
        let Some(rest) = path.strip_prefix(&self.root) else {
            return Place::Strange("is outside of the registry".into());
        };
        let strange = |why: &str| Place::Strange(why.to_owned());
        let named = |segment: &str, place: &dyn Fn(String) -> Place| match codec::unescape(segment) {
            Some(name) => place(name),
            None => strange("is not a name as this registry writes them; what is not plain is written %XX"),
        };
        let segments: Vec<&str> = rest.split('/').skip(1).collect();
        match segments.as_slice() {
            [] | ["documents" | "instances" | "replicas"] | ["instances", _] => Place::Directory,
            ["documents", kind] => match kind_of(kind) {
                Some(_) => Place::Directory,
                None => strange("is not a kind of document"),
            },
            ["documents", kind, name] => match kind_of(kind) {
                Some(kind) => named(name, &|name| Place::Document(Key { kind, name })),
                None => strange("is under a kind that is not known"),
            },
            ["instances", service, id] => named(service, &|service| {
                named(id, &|id| Place::Instance(format!("{service}/{id}")))
            }),
            ["replicas", id] => named(id, &Place::Replica),
            _ => strange("is nothing this registry holds"),
        }
    }
}

fn kind_of(segment: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| kind.as_str() == segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_found_again_from_its_path() {
        let layout = Layout::new("/mesh/prod");
        let places = [
            Place::Document(Key {
                kind: Kind::Service,
                name: "market.quotes".into(),
            }),
            Place::Document(Key {
                kind: Kind::Instance,
                name: "market.quotes/a".into(),
            }),
            Place::Document(Key {
                kind: Kind::TrustBundle,
                name: "..".into(),
            }),
            Place::Instance("market.quotes/10.0.0.1:9000".into()),
            Place::Replica("127.0.0.1:18000".into()),
        ];
        for place in places {
            let path = layout.path(&place).unwrap();
            assert_eq!(layout.place(&path), place, "{path}");
        }
    }

    #[test]
    fn directories_hold_nothing_and_strangers_are_told() {
        let layout = Layout::new("/mesh");
        for path in [
            "/mesh",
            "/mesh/documents",
            "/mesh/documents/Service",
            "/mesh/instances/a",
            "/mesh/replicas",
        ] {
            assert_eq!(layout.place(path), Place::Directory, "{path}");
        }
        for path in [
            "/other",
            "/mesh/x",
            "/mesh/documents/Pod/a",
            "/mesh/instances/a/b/c",
            "/mesh/documents/Service/a b",
        ] {
            assert!(matches!(layout.place(path), Place::Strange(_)), "{path}");
        }
    }
}
