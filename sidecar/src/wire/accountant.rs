//! Counts the frames a caller sends and says when it is a flood: an engine.
//!
//! Frames that cost us an answer or a look, and the caller nothing, are measured against the work that is done on the
//! connection. The bounds are those Envoy and gRPC servers have (gRFC A8 for pings; Envoy's flood and abuse checks).

use super::frames::{DATA, HEADERS, Head, PING, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE};
use super::pulse::Tick;

/// PING and SETTINGS in one period without a HEADERS or DATA frame in either direction.
const CONTROL_FRAMES_MAX: u32 = 100;
/// That period, in seconds.
const CONTROL_PERIOD: Tick = 10;
/// PRIORITY frames for each stream that was opened, and for none.
const PRIORITY_PER_STREAM_MAX: u64 = 100;
/// WINDOW_UPDATE frames that are always allowed, and for each stream and DATA frame: `5 + 2 x (streams + 10 x DATA sent)`.
const WINDOW_UPDATES_FREE: u64 = 5;
const WINDOW_UPDATES_PER_STREAM: u64 = 2;
const WINDOW_UPDATES_PER_DATA: u64 = 20;
/// Requests on a connection before resets are judged.
const RESETS_JUDGED_FROM: u32 = 200;

/// What a caller did too often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flood {
    Control,
    Priority,
    WindowUpdate,
    Resets,
}

impl Flood {
    /// In the GOAWAY frame, the log and metrics.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Flood::Control => "too_many_pings",
            Flood::Priority => "too_many_priorities",
            Flood::WindowUpdate => "too_many_window_updates",
            Flood::Resets => "too_many_resets",
        }
    }
}

/// The counts of one connection.
#[derive(Debug, Default)]
pub(crate) struct Accountant {
    period: Tick,
    control: u32,
    priorities: u64,
    window_updates: u64,
    data_sent: u64,
    streams: u64,
    requests: u32,
    resets: u32,
    /// The newest stream, and the newest one before the present second and the one before.
    newest: u32,
    second: Tick,
    before: [u32; 2],
}

impl Accountant {
    /// Highest stream the caller opened.
    pub(crate) fn newest_stream(&self) -> u32 {
        self.newest
    }

    /// We sent a frame.
    pub(crate) fn sent(&mut self, head: Head) {
        match head.kind {
            DATA => {
                self.data_sent += 1;
                self.control = 0;
            }
            HEADERS => self.control = 0,
            _ => {}
        }
    }

    /// The caller sent a frame.
    ///
    /// # Errors
    /// It was one too many.
    pub(crate) fn received(&mut self, head: Head, now: Tick) -> Result<(), Flood> {
        match head.kind {
            DATA => self.control = 0,
            HEADERS => {
                self.control = 0;
                self.opened(head.stream, now);
            }
            PING | SETTINGS => {
                if now.saturating_sub(self.period) >= CONTROL_PERIOD {
                    self.period = now;
                    self.control = 0;
                }
                self.control += 1;
                if self.control > CONTROL_FRAMES_MAX {
                    return Err(Flood::Control);
                }
            }
            PRIORITY => {
                self.priorities += 1;
                if self.priorities > PRIORITY_PER_STREAM_MAX * (1 + self.streams) {
                    return Err(Flood::Priority);
                }
            }
            WINDOW_UPDATE => {
                self.window_updates += 1;
                let earned =
                    WINDOW_UPDATES_PER_STREAM * self.streams + WINDOW_UPDATES_PER_DATA * self.data_sent;
                if self.window_updates > WINDOW_UPDATES_FREE + earned {
                    return Err(Flood::WindowUpdate);
                }
            }
            RST_STREAM => return self.reset(head.stream, now),
            _ => {}
        }
        Ok(())
    }

    fn opened(&mut self, stream: u32, now: Tick) {
        if stream <= self.newest {
            return;
        }
        self.pass_time(now);
        self.newest = stream;
        self.streams += 1;
        self.requests = self.requests.saturating_add(1);
    }

    /// Resets of streams that lived less than a second, give or take one, count.
    fn reset(&mut self, stream: u32, now: Tick) -> Result<(), Flood> {
        self.pass_time(now);
        if stream <= self.newest && stream > self.before[1] {
            self.resets += 1;
        }
        if self.requests >= RESETS_JUDGED_FROM && self.resets > self.requests / 2 {
            return Err(Flood::Resets);
        }
        Ok(())
    }

    fn pass_time(&mut self, now: Tick) {
        match now.saturating_sub(self.second) {
            0 => return,
            1 => self.before = [self.newest, self.before[0]],
            _ => self.before = [self.newest; 2],
        }
        self.second = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(kind: u8, stream: u32) -> Head {
        Head { kind, stream }
    }

    /// How many of these pass before the connection is cut.
    fn passed(accountant: &mut Accountant, kind: u8, most: u32) -> u32 {
        (0..most)
            .position(|_| accountant.received(head(kind, 0), 1).is_err())
            .map_or(most, |at| u32::try_from(at).unwrap())
    }

    #[test]
    fn a_flood_of_pings_or_settings_is_cut_after_a_hundred() {
        for kind in [PING, SETTINGS] {
            assert_eq!(passed(&mut Accountant::default(), kind, 1_000), 100);
        }
        let mut mixed = Accountant::default();
        assert_eq!(
            passed(&mut mixed, PING, 60) + passed(&mut mixed, SETTINGS, 60),
            100
        );
    }

    #[test]
    fn pings_between_calls_and_a_keep_alive_over_days_are_fine() {
        let mut accountant = Accountant::default();
        for number in 0..10_000u32 {
            accountant.received(head(HEADERS, 2 * number + 1), 1).unwrap();
            for _ in 0..50 {
                accountant.received(head(PING, 0), 1).unwrap();
            }
        }
        // A client that measures the bandwidth pings for what we send it, and sends nothing else.
        for _ in 0..10_000 {
            accountant.sent(head(DATA, 1));
            accountant.received(head(PING, 0), 1).unwrap();
        }
        for second in 0..100_000 {
            accountant.received(head(PING, 0), second * 10).unwrap();
        }
    }

    #[test]
    fn priorities_and_window_updates_are_measured_against_the_work_that_is_done() {
        assert_eq!(passed(&mut Accountant::default(), PRIORITY, 1_000), 100);
        assert_eq!(passed(&mut Accountant::default(), WINDOW_UPDATE, 1_000), 5);
        let mut busy = Accountant::default();
        for stream in 0..10 {
            busy.received(head(HEADERS, 2 * stream + 1), 1).unwrap();
        }
        for _ in 0..100 {
            busy.sent(head(DATA, 1));
        }
        assert_eq!(passed(&mut busy, PRIORITY, 10_000), 1_100);
        assert_eq!(passed(&mut busy, WINDOW_UPDATE, 10_000), 5 + 2 * (10 + 10 * 100));
    }

    #[test]
    fn whoever_opens_and_resets_is_cut_but_not_whoever_cancels_old_calls() {
        // Fifty calls at a time, which are cancelled after so many seconds.
        let open_and_reset = |lives: Tick| {
            let mut accountant = Accountant::default();
            (0..200u32).find_map(|batch| {
                let (streams, now) = (
                    (50 * batch..50 * (batch + 1)).map(|call| 2 * call + 1),
                    batch * (lives + 1),
                );
                for stream in streams.clone() {
                    accountant.received(head(HEADERS, stream), now).unwrap();
                }
                streams
                    .clone()
                    .find_map(|stream| accountant.received(head(RST_STREAM, stream), now + lives).err())
                    .map(|flood| (batch, flood))
            })
        };
        assert_eq!(open_and_reset(0), Some((3, Flood::Resets)));
        assert_eq!(open_and_reset(3), None);
    }

    #[test]
    fn a_few_cancelled_calls_among_many_are_fine() {
        let mut accountant = Accountant::default();
        for number in 0..10_000u32 {
            accountant.received(head(HEADERS, 2 * number + 1), 1).unwrap();
            if number % 3 == 0 {
                accountant.received(head(RST_STREAM, 2 * number + 1), 1).unwrap();
            }
        }
    }

    #[test]
    fn trailers_are_not_another_request() {
        let mut accountant = Accountant::default();
        for _ in 0..50 {
            accountant.received(head(HEADERS, 1), 1).unwrap();
        }
        assert_eq!((accountant.requests, accountant.newest_stream()), (1, 1));
    }
}
