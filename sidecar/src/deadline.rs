//! Deadlines: `grpc-timeout` in, a smaller one out.

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue};

use crate::headers::{CONNECT_TIMEOUT, GRPC_TIMEOUT, single};
use crate::reason::{Reason, Rejection};

/// Longest time a caller may ask for; more counts as this.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// When a call must have ended: what the caller asks for, or `otherwise` where it asks for nothing.
///
/// # Errors
/// [`Reason::TimeoutMalformed`], or [`Reason::DeadlinePassed`] for a caller that gives no time at all.
pub fn of(
    headers: &HeaderMap,
    otherwise: Option<Duration>,
    now: Instant,
) -> Result<Option<Instant>, Rejection> {
    if !headers.contains_key(&GRPC_TIMEOUT) {
        return Ok(otherwise.map(|timeout| now + timeout));
    }
    let timeout = single(headers, &GRPC_TIMEOUT).and_then(parse).ok_or_else(|| {
        Rejection::new(
            Reason::TimeoutMalformed,
            "grpc-timeout must be one number of up to 8 digits with a unit of H, M, S, m, u or n",
        )
    })?;
    until(timeout, now).map(Some)
}

fn until(timeout: Duration, now: Instant) -> Result<Instant, Rejection> {
    if timeout.is_zero() {
        return Err(Rejection::new(
            Reason::DeadlinePassed,
            "the caller gave no time for this call",
        ));
    }
    Ok(now + timeout.min(TIMEOUT_MAX))
}

/// The same for callers who say it the way Connect does, in `connect-timeout-ms`.
///
/// # Errors
/// As [`of`].
pub fn of_connect(
    headers: &HeaderMap,
    otherwise: Option<Duration>,
    now: Instant,
) -> Result<Option<Instant>, Rejection> {
    if !headers.contains_key(&CONNECT_TIMEOUT) {
        return Ok(otherwise.map(|timeout| now + timeout));
    }
    let timeout = single(headers, &CONNECT_TIMEOUT).and_then(mesh_transcode::connect::timeout);
    let timeout = timeout.ok_or_else(|| {
        Rejection::new(
            Reason::TimeoutMalformed,
            "connect-timeout-ms must be one whole number of milliseconds with up to 10 digits",
        )
    })?;
    until(timeout, now).map(Some)
}

/// The next hop has so much less than we have, so that its refusal arrives before ours is due. Where little is left, half.
const HOP_MARGIN: Duration = Duration::from_millis(5);

/// What is left of a deadline, as a header for the next hop.
#[must_use]
pub fn header(deadline: Instant, now: Instant) -> HeaderValue {
    let left = deadline.saturating_duration_since(now);
    let left = left.saturating_sub(HOP_MARGIN).max(left / 2);
    let text = match (u32::try_from(left.as_micros()), left.as_millis()) {
        (Ok(micros), _) if micros < 100_000_000 => format!("{micros}u"),
        (_, millis) => format!("{millis}m"),
    };
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("1m"))
}

/// Reads `<digits><unit>`: at most eight digits (gRPC over HTTP/2, "Timeout").
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(GRPC_TIMEOUT, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn a_callers_deadline_wins_over_the_services_bound() {
        let now = Instant::now();
        let bound = Some(Duration::from_secs(15));
        assert_eq!(
            of(&with("250m"), bound, now).unwrap(),
            Some(now + Duration::from_millis(250))
        );
        assert_eq!(
            of(&HeaderMap::new(), bound, now).unwrap(),
            Some(now + Duration::from_secs(15))
        );
        assert_eq!(of(&HeaderMap::new(), None, now).unwrap(), None);
        assert_eq!(
            of(&with("99999999H"), None, now).unwrap(),
            Some(now + TIMEOUT_MAX)
        );
    }

    #[test]
    fn timeouts_that_cannot_be_read_or_met_are_refused() {
        let now = Instant::now();
        for bad in ["", "S", "1", "1s", "-1S", "1.5S", "123456789S", " 1S", "1Sm"] {
            assert_eq!(
                of(&with(bad), None, now).unwrap_err().reason,
                Reason::TimeoutMalformed,
                "{bad:?}"
            );
        }
        assert_eq!(
            of(&with("0m"), None, now).unwrap_err().reason,
            Reason::DeadlinePassed
        );
    }

    #[test]
    fn connect_says_its_time_in_milliseconds() {
        let now = Instant::now();
        let with =
            |value: &str| HeaderMap::from_iter([(CONNECT_TIMEOUT, HeaderValue::from_str(value).unwrap())]);
        let bound = Some(Duration::from_secs(15));
        assert_eq!(
            of_connect(&with("250"), bound, now).unwrap(),
            Some(now + Duration::from_millis(250))
        );
        assert_eq!(
            of_connect(&HeaderMap::new(), bound, now).unwrap(),
            Some(now + Duration::from_secs(15))
        );
        assert_eq!(
            of_connect(&with("9999999999"), None, now).unwrap(),
            Some(now + TIMEOUT_MAX)
        );
        assert_eq!(
            of_connect(&with("0"), None, now).unwrap_err().reason,
            Reason::DeadlinePassed
        );
        for bad in ["", "1s", "-1", "12345678901"] {
            assert_eq!(
                of_connect(&with(bad), None, now).unwrap_err().reason,
                Reason::TimeoutMalformed,
                "{bad:?}"
            );
        }
    }

    #[test]
    fn the_next_hop_gets_what_is_left() {
        let now = Instant::now();
        assert_eq!(header(now + Duration::from_millis(250), now), "245000u");
        assert_eq!(header(now + Duration::from_secs(3600), now), "3599995m");
        assert_eq!(header(now + Duration::from_millis(4), now), "2000u");
        assert_eq!(header(now, now + Duration::from_secs(1)), "0u");
    }
}
