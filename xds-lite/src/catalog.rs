//! One view of all that is to be pushed: documents and instances together, and what the certificate authority adds.
//!
//! Where two sources name the same thing, one wins and the other is told as a fault; nothing is dropped in silence.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_proto::Kind;
use mesh_proto::v1::{self, document::Resource};

use crate::registry::{Item, State};

/// Most instances that are served.
pub const INSTANCES_MAX: usize = 100_000;
/// Most documents that are served.
pub const DOCUMENTS_MAX: usize = 20_000;

/// What the mesh's own certificate authority brings in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// Whom it signs for.
    pub trust_domain: String,
    /// Its certificates, in PEM.
    pub bundle_pem: String,
}

/// The view.
#[derive(Debug, Default)]
pub struct Catalog {
    /// By stream name, in the order of [`Kind::ALL`].
    pub items: [BTreeMap<String, Arc<Item>>; Kind::ALL.len()],
    /// What lost against something else.
    pub faults: Vec<String>,
}

impl Catalog {
    /// Puts everything together.
    #[must_use]
    pub fn of(state: &State, authority: &Authority) -> Self {
        let mut catalog = Self::default();
        for stored in state.documents.values().take(DOCUMENTS_MAX) {
            // A schema that was written with its service is stored once, and the same by its name.
            if let Some(schema) = &stored.schema {
                catalog.add(schema);
            }
            catalog.add(&stored.item);
        }
        for (name, stored) in state.instances.iter().take(INSTANCES_MAX) {
            if catalog.add(&stored.item).is_some() {
                catalog.faults.push(format!(
                    "Instance/{name}: is both registered and a document; the registered one is used, delete the document"
                ));
            }
        }
        for (what, there, most) in [
            ("documents", state.documents.len(), DOCUMENTS_MAX),
            ("instances", state.instances.len(), INSTANCES_MAX),
        ] {
            if there > most {
                catalog.faults.push(format!(
                    "{there} {what} are stored, {most} are served; remove some"
                ));
            }
        }
        let applied = catalog.get(Kind::TrustBundle, &authority.trust_domain).cloned();
        catalog.add(&Arc::new(own_bundle(authority, applied.as_deref())));
        catalog
    }

    /// A resource by its name on the stream.
    #[must_use]
    pub fn get(&self, kind: Kind, name: &str) -> Option<&Arc<Item>> {
        self.items[kind as usize].get(name)
    }

    fn add(&mut self, item: &Arc<Item>) -> Option<Arc<Item>> {
        self.items[item.kind as usize].insert(item.name.clone(), Arc::clone(item))
    }
}

/// The version that sidecars report once they have applied a stored document.
#[must_use]
pub fn pushed_version(item: &Item, authority: &Authority) -> String {
    if item.kind == Kind::TrustBundle && item.name == authority.trust_domain {
        own_bundle(authority, Some(item)).version
    } else {
        item.version.clone()
    }
}

/// The authority's own certificates first, then those that were applied for the same trust domain.
fn own_bundle(authority: &Authority, applied: Option<&Item>) -> Item {
    let mut certificates = authority.bundle_pem.trim_end().to_owned() + "\n";
    let mut metadata = v1::Metadata {
        name: authority.trust_domain.clone(),
        ..Default::default()
    };
    if let Some(Resource::TrustBundle(bundle)) = applied.map(|item| &item.resource) {
        let more = bundle.spec.as_ref().map_or("", |spec| spec.certificates.as_str());
        if more.trim() != certificates.trim() {
            certificates.push_str(more.trim_end());
            certificates.push('\n');
        }
        metadata = bundle.metadata.clone().unwrap_or(metadata);
    }
    Item::new(Resource::TrustBundle(v1::TrustBundle {
        metadata: Some(metadata),
        spec: Some(v1::TrustBundleSpec { certificates }),
    }))
}
