//! Waiting for what must come true; how long it takes is nobody's business, as long as it comes.

use std::time::{Duration, Instant};

/// Nothing a test waits for may take longer, on a machine that does other things too.
pub const PATIENCE: Duration = Duration::from_secs(40);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Looks again and again until `look` finds something, and gives it back.
///
/// # Panics
/// It never does; `what` says what was waited for.
#[track_caller]
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            begin.elapsed() < PATIENCE,
            "waited {PATIENCE:?} in vain until {what}"
        );
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Looks again and again for some time: `holds` must be true each time.
///
/// # Panics
/// It is not; `what` says what should have gone on.
#[track_caller]
pub fn for_a_while(time: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while begin.elapsed() < time {
        assert!(holds(), "after {:?} no longer: {what}", begin.elapsed());
        std::thread::sleep(LOOK_AGAIN);
    }
}
