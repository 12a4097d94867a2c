//! What still has to come before a sidecar is ready. Being not ready says why.

use std::collections::BTreeSet;

use tokio::sync::watch;

/// Something that has to be there first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// The ports are bound and served.
    Listeners,
    /// The own certificate.
    Certificate,
    /// The first answer to everything that was asked for, or the last good copy.
    Resources,
    /// What the one service of [`crate::config::Source::Documents`] tells about itself.
    Schema,
}

impl Need {
    /// For people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Need::Listeners => "listeners: the ports are not served yet",
            Need::Certificate => "certificate: xds-lite has not signed one yet, and none is kept",
            Need::Resources => {
                "resources: not everything has come from xds-lite yet, and there is no last good copy"
            }
            Need::Schema => "schema: the service has not told what it speaks yet",
        }
    }
}

/// What is missing.
#[derive(Debug)]
pub struct Readiness {
    missing: watch::Sender<BTreeSet<Need>>,
}

impl Readiness {
    /// All of these are missing.
    #[must_use]
    pub fn new(needs: impl IntoIterator<Item = Need>) -> Self {
        Self {
            missing: watch::Sender::new(needs.into_iter().collect()),
        }
    }

    /// It is there now. It never counts as missing again: what was served once goes on being served.
    pub fn met(&self, need: Need) {
        self.missing.send_if_modified(|missing| missing.remove(&need));
    }

    /// What is missing now.
    #[must_use]
    pub fn missing(&self) -> Vec<Need> {
        self.missing.borrow().iter().copied().collect()
    }

    /// Waits until nothing is.
    pub async fn wait(&self) {
        // The sender lives as long as this, so the wait cannot fail.
        let _ = self.missing.subscribe().wait_for(BTreeSet::is_empty).await;
    }
}
