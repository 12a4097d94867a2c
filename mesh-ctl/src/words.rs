//! Times, spans and sizes, as people write and read them.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The last second that RFC 3339 can write, 9999-12-31T23:59:59Z.
const SECONDS_MAX: i64 = 253_402_300_799;

/// Reads `1h`, `1h30m`, `500ms`.
///
/// # Errors
/// What would be right.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration; write for example 30s, 5m or 1h30m");
    let mut total = Duration::ZERO;
    let mut rest = text;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(letters);
        let milliseconds: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        let part = number
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(milliseconds))
            .ok_or_else(wrong)?;
        total = total.checked_add(Duration::from_millis(part)).ok_or_else(wrong)?;
        rest = tail;
    }
    Ok(total)
}

/// Reads a span that may lie in the past, `-5m`, in whole seconds.
///
/// # Errors
/// What would be right.
pub(crate) fn signed_seconds(text: &str) -> Result<i64, String> {
    let (sign, plain) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let seconds = duration(plain)
        .map_err(|_| format!("{text:?} is not a span of time; write for example 1h, or -5m for the past"))?;
    i64::try_from(seconds.as_secs())
        .ok()
        .filter(|seconds| *seconds <= SECONDS_MAX)
        .map(|seconds| sign * seconds)
        .ok_or_else(|| format!("{text:?} is too far away"))
}

/// A span, coarsely: `2h 5m`, `340ms`.
pub(crate) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let two = |big: u64, unit: &str, small: u64, lower: &str| match small {
        0 => format!("{big}{unit}"),
        _ => format!("{big}{unit} {small}{lower}"),
    };
    match seconds {
        0 => format!("{}ms", span.as_millis()),
        1..10 if span.subsec_millis() > 0 => format!("{:.1}s", span.as_secs_f64()),
        1..60 => format!("{seconds}s"),
        60..3_600 => two(seconds / 60, "m", seconds % 60, "s"),
        3_600..86_400 => two(seconds / 3_600, "h", seconds % 3_600 / 60, "m"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

/// How long ago, or how far ahead: `5m ago`, `in 2h`.
pub(crate) fn relative(seconds: i64, now: i64) -> String {
    let distance = span(Duration::from_secs(seconds.abs_diff(now)));
    match seconds.cmp(&now) {
        std::cmp::Ordering::Less => format!("{distance} ago"),
        std::cmp::Ordering::Equal => "now".into(),
        std::cmp::Ordering::Greater => format!("in {distance}"),
    }
}

/// How long ago something happened; empty when it is not known.
pub(crate) fn ago(time: Option<prost_types::Timestamp>, now: SystemTime) -> String {
    time.map_or_else(String::new, |time| {
        relative(time.seconds, unix_seconds(now)).replace("0ms ago", "now")
    })
}

/// RFC 3339, to the second; `None` for times it cannot write.
pub(crate) fn rfc3339(seconds: i64) -> Option<String> {
    (0..=SECONDS_MAX)
        .contains(&seconds)
        .then(|| prost_types::Timestamp { seconds, nanos: 0 }.to_string())
}

/// RFC 3339 of what a server sent; `None` when it is not known.
pub(crate) fn timestamp(time: Option<prost_types::Timestamp>) -> Option<String> {
    time.and_then(|time| rfc3339(time.seconds))
}

/// Seconds since 1970.
pub(crate) fn unix_seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(SECONDS_MAX)
}

/// `3.4 KiB`
pub(crate) fn size(bytes: usize) -> String {
    const UNITS: [&str; 3] = ["KiB", "MiB", "GiB"];
    if bytes < 1 << 10 {
        return format!("{bytes} B");
    }
    let mut number =
        f64::from(u32::try_from(bytes >> 10).unwrap_or(u32::MAX)) + (bytes & 1023) as f64 / 1024.0;
    let mut unit = 0;
    while number >= 1024.0 && unit + 1 < UNITS.len() {
        number /= 1024.0;
        unit += 1;
    }
    format!("{number:.1} {}", UNITS[unit])
}

/// `1 document`, `2 documents`.
pub(crate) fn count(number: usize, thing: &str) -> String {
    let mut text = format!("{number} {thing}");
    if number != 1 {
        let _ = write!(text, "s");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_units_and_nothing_else() {
        assert_eq!(duration("30s").unwrap(), Duration::from_secs(30));
        assert_eq!(duration("1h30m").unwrap(), Duration::from_secs(5400));
        assert_eq!(duration("500ms").unwrap(), Duration::from_millis(500));
        for bad in [
            "",
            "30",
            "s",
            "-5m",
            "1x",
            "1.5h",
            "1h ",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn spans_may_lie_in_the_past() {
        assert_eq!(signed_seconds("1h"), Ok(3600));
        assert_eq!(signed_seconds("-5m"), Ok(-300));
        for bad in ["--5m", "-", "5", "999999999999d"] {
            assert!(signed_seconds(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times_are_told_in_words() {
        assert_eq!(relative(1000, 1300), "5m ago");
        assert_eq!(relative(1300, 1000), "in 5m");
        assert_eq!(relative(7, 7), "now");
        assert_eq!(span(Duration::from_secs(7500)), "2h 5m");
        assert_eq!(span(Duration::from_millis(340)), "340ms");
        assert_eq!(span(Duration::from_millis(1_900)), "1.9s");
        assert_eq!(relative(4, 10), "6s ago");
        assert_eq!(rfc3339(0).unwrap(), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(i64::MAX), None);
        assert_eq!(relative(i64::MIN, i64::MAX).split(' ').next_back(), Some("ago"));
    }

    #[test]
    fn sizes_and_counts_are_told_in_words() {
        assert_eq!(size(12), "12 B");
        assert_eq!(size(3482), "3.4 KiB");
        assert_eq!(size(8 << 20), "8.0 MiB");
        assert_eq!(count(1, "fault"), "1 fault");
        assert_eq!(count(0, "fault"), "0 faults");
    }
}
