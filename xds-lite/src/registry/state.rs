//! The view of a registry: immutable entries behind `Arc`, so that a new view costs pointers only.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use mesh_proto::Kind;
use mesh_proto::v1::document::Resource;

use super::Exposures;

/// Which document.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Its kind.
    pub kind: Kind,
    /// `metadata.name`.
    pub name: String,
}

impl Key {
    /// The key of a document.
    #[must_use]
    pub fn of(resource: &Resource) -> Self {
        Self {
            kind: resource.kind(),
            name: resource.name().to_owned(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

/// A resource ready to be pushed: encoded and versioned once, shared by every stream.
#[derive(Debug, PartialEq)]
pub struct Item {
    /// The message.
    pub resource: Resource,
    /// Its kind.
    pub kind: Kind,
    /// Its name on the stream.
    pub name: String,
    /// Hash of its bytes.
    pub version: String,
    /// As it goes on the wire.
    pub any: prost_types::Any,
}

impl Item {
    /// Encodes a resource.
    #[must_use]
    pub fn new(resource: Resource) -> Self {
        let kind = resource.kind();
        let value = resource.encode_to_vec();
        Self {
            kind,
            name: resource.resource_name(),
            version: mesh_proto::version_of(&value),
            any: prost_types::Any {
                type_url: kind.type_url().to_owned(),
                value,
            },
            resource,
        }
    }
}

/// One stored copy.
#[derive(Debug, PartialEq)]
pub struct Stored {
    /// The document; a service's schema is a hash here, whatever was written.
    pub item: Arc<Item>,
    /// The schema that stood inline in it.
    pub schema: Option<Arc<Item>>,
    /// Changes with every write.
    pub revision: String,
    /// When it was written.
    pub modified: SystemTime,
}

/// Everything a registry holds, at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    /// The first full read is done. Nothing is pushed before.
    pub loaded: bool,
    /// False while the last good view is served without contact.
    pub connected: bool,
    /// When the store was last read in full.
    pub last_read: Option<SystemTime>,
    /// What people wrote.
    pub documents: BTreeMap<Key, Arc<Stored>>,
    /// What sidecars registered, by `<service>/<id>`.
    pub instances: BTreeMap<String, Arc<Stored>>,
    /// Replica ids and the addresses of their gRPC listeners.
    pub replicas: BTreeMap<String, String>,
    /// What the edges expose that are connected to any replica.
    pub edges: Exposures,
    /// Entries that could not be read: place and reason.
    pub faults: Vec<String>,
}
