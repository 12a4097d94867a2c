//! Deadlines: `grpc-timeout` in, a smaller one out.

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue};

use crate::headers::{GRPC_TIMEOUT, single};
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
    if timeout.is_zero() {
        return Err(Rejection::new(
            Reason::DeadlinePassed,
            "the caller gave no time for this call",
        ));
    }
    Ok(Some(now + timeout.min(TIMEOUT_MAX)))
}

/// What is left of a deadline, as a header for the next hop.
#[must_use]
pub fn header(deadline: Instant, now: Instant) -> HeaderValue {
    let left = deadline.saturating_duration_since(now);
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
    fn the_next_hop_gets_what_is_left() {
        let now = Instant::now();
        assert_eq!(header(now + Duration::from_millis(250), now), "250000u");
        assert_eq!(header(now + Duration::from_secs(3600), now), "3600000m");
        assert_eq!(header(now, now + Duration::from_secs(1)), "0u");
    }
}
