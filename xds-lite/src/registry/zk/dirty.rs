//! What has to be read again: filled by the watch, emptied by the reader. Never grows without bound, never loses a mark.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// More paths than this are read as one full read.
const PATHS_MAX: usize = 10_000;

/// The marks.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    marks: Mutex<Marks>,
    notify: Notify,
}

/// What was marked since the last look.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// Everything.
    pub(super) full: bool,
    /// Somebody waits for it: no time to gather more.
    pub(super) urgent: bool,
    /// These.
    pub(super) paths: BTreeSet<String>,
}

impl Dirty {
    /// A node changed.
    pub(super) fn mark(&self, path: String) {
        self.change(|marks| {
            if marks.paths.len() < PATHS_MAX {
                marks.paths.insert(path);
            } else {
                marks.full = true;
            }
        });
    }

    /// We changed nodes ourselves and wait for the view to hold that.
    pub(super) fn mark_urgent(&self, paths: impl IntoIterator<Item = String>) {
        self.change(|marks| {
            marks.urgent = true;
            marks.paths.extend(paths);
        });
    }

    /// Anything may have changed.
    pub(super) fn mark_full(&self) {
        self.change(|marks| marks.full = true);
    }

    /// Whether somebody waits.
    pub(super) fn is_urgent(&self) -> bool {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner).urgent
    }

    /// Takes all marks.
    pub(super) fn take(&self) -> Marks {
        std::mem::take(&mut *self.marks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for a mark. One that was set before counts.
    pub(super) async fn marked(&self) {
        self.notify.notified().await;
    }

    fn change(&self, change: impl FnOnce(&mut Marks)) {
        change(&mut self.marks.lock().unwrap_or_else(PoisonError::into_inner));
        self.notify.notify_one();
    }
}
