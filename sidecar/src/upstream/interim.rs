//! Interim answers (1xx, RFC 9110 15.2): a service may send some before its answer, and nobody waits for it to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use http::Request;
use tokio::sync::Notify;

/// Interim answers before one answer. Those that there are, 100, 102 and 103, come once or a few times.
pub(super) const INTERIM_MAX: u32 = 10;

/// A service went over [`INTERIM_MAX`].
#[derive(Debug)]
pub(super) struct TooMany;

impl std::fmt::Display for TooMany {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "the service sent more than {INTERIM_MAX} interim answers and no other"
        )
    }
}

impl std::error::Error for TooMany {}

/// Counts those of a call over HTTP/1.1, where the connection reads them and the call sleeps.
#[derive(Default)]
pub(super) struct Watch {
    seen: AtomicU32,
    over: Notify,
}

impl Watch {
    /// Watches what comes before the answer to this request.
    pub(super) fn over<B>(request: &mut Request<B>) -> Arc<Self> {
        let watch = Arc::<Self>::default();
        let counting = watch.clone();
        hyper::ext::on_informational(request, move |_| {
            if counting.seen.fetch_add(1, Ordering::Relaxed) >= INTERIM_MAX {
                counting.over.notify_one();
            }
        });
        watch
    }

    /// Waits for the answer, unless there are too many before it.
    ///
    /// # Errors
    /// There are; the connection is not to be used again.
    pub(super) async fn wait<T>(&self, answered: impl Future<Output = T>) -> Result<T, TooMany> {
        tokio::select! {
            biased;
            answered = answered => Ok(answered),
            () = self.over.notified() => Err(TooMany),
        }
    }
}
