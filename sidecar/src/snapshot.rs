//! The immutable, compiled form of all resources, which data threads read.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_proto::domain::KeySet;

use crate::{Config, Resources};

/// What the ways decide on.
pub struct Snapshot {
    /// What it was built from.
    pub resources: Arc<Resources>,
}

impl Snapshot {
    /// Compiles resources. `keys` are those fetched for providers whose keys are elsewhere, by provider.
    #[must_use]
    pub fn build(
        _config: &Config,
        resources: Arc<Resources>,
        _keys: &BTreeMap<Arc<str>, Arc<KeySet>>,
    ) -> Self {
        Self { resources }
    }
}
