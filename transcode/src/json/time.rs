//! Timestamps and durations as text, and dates as days.

/// Largest absolute value of a Duration, in seconds: about 10,000 years.
pub(crate) const DURATION_SECONDS_MAX: i64 = 315_576_000_000;
/// 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z, in seconds since 1970.
pub(crate) const TIMESTAMP_SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// Seconds and nanoseconds since 1970 of an RFC 3339 timestamp, from year 1 to 9999.
///
/// # Errors
/// It is none.
pub(crate) fn timestamp(text: &str) -> Result<(i64, i32), String> {
    parse_timestamp(text).ok_or_else(|| "must be an RFC 3339 timestamp like 2024-05-01T12:00:00Z".into())
}

fn parse_timestamp(text: &str) -> Option<(i64, i32)> {
    let shape = text.as_bytes().get(..19)?;
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separators.iter().any(|(at, byte)| shape[*at] != *byte) {
        return None;
    }
    let field = |range: std::ops::Range<usize>| digits(text.get(range)?);
    let (year, month, day) = (field(0..4)?, field(5..7)?, field(8..10)?);
    let (hour, minute, second) = (field(11..13)?, field(14..16)?, field(17..19)?);
    if year == 0 || day == 0 || day > days_in(year, month)? || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (nanos, zone) = match text.get(19..)?.strip_prefix('.') {
        Some(rest) => {
            let end = rest.find(|c: char| !c.is_ascii_digit())?;
            (fraction(&rest[..end])?, &rest[end..])
        }
        None => (0, text.get(19..)?),
    };
    let seconds = days_before(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset(zone)?;
    TIMESTAMP_SECONDS.contains(&seconds).then_some((seconds, nanos))
}

fn offset(zone: &str) -> Option<i64> {
    if zone == "Z" {
        return Some(0);
    }
    let (sign, rest) = match zone.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let (hours, minutes) = (two_digits(hours)?, two_digits(minutes)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

/// Seconds and nanoseconds, of equal sign, of a duration like `1.5s`.
///
/// # Errors
/// It is none, or is over 10,000 years.
pub(crate) fn duration(text: &str) -> Result<(i64, i32), String> {
    let parse = || {
        let number = text.strip_suffix('s')?;
        let (sign, number) = match number.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, number),
        };
        let (seconds, nanos) = match number.split_once('.') {
            Some((seconds, rest)) => (seconds, fraction(rest)?),
            None => (number, 0),
        };
        let seconds = digits(seconds)?;
        let over = seconds > DURATION_SECONDS_MAX || (seconds == DURATION_SECONDS_MAX && nanos > 0);
        (!over).then_some((sign * seconds, i32::try_from(sign).ok()? * nanos))
    };
    parse().ok_or_else(|| "must be a duration in seconds like 1.5s, of at most 315576000000s".into())
}

/// Digits only: no sign, no space.
fn digits(text: &str) -> Option<i64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

fn two_digits(text: &str) -> Option<i64> {
    digits(text).filter(|_| text.len() == 2)
}

/// 1 to 9 digits after the point, as nanoseconds.
fn fraction(text: &str) -> Option<i32> {
    if text.len() > 9 {
        return None;
    }
    i32::try_from(digits(&format!("{text:0<9}")).filter(|_| !text.is_empty())?).ok()
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> Option<i64> {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 => Some(28 + i64::from(is_leap(year))),
        _ => None,
    }
}

/// Days from 1970-01-01 to this date: years begin in March, so that the leap day is the last of its year.
fn days_before(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day of a day counted from 1970-01-01: the way back from [`days_before`].
pub(crate) fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_rfc_3339_within_years_1_to_9999() {
        for (text, seconds, nanos) in [
            ("1970-01-01T00:00:00Z", 0, 0),
            ("1969-12-31T23:59:59.5Z", -1, 500_000_000),
            ("2024-02-29T12:00:00.123456789+01:30", 1_709_202_600, 123_456_789),
            ("0001-01-01T00:00:00Z", *TIMESTAMP_SECONDS.start(), 0),
            (
                "9999-12-31T23:59:59.999999999Z",
                *TIMESTAMP_SECONDS.end(),
                999_999_999,
            ),
        ] {
            assert_eq!(timestamp(text), Ok((seconds, nanos)), "{text}");
        }
        for bad in [
            "",
            "null",
            "2024-05-01",
            "2024-05-01T12:00:00",
            "2024-05-01t12:00:00Z",
            "2024-05-01T12:00:00z",
            "2023-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-00-01T00:00:00Z",
            "2024-01-00T00:00:00Z",
            "2024-05-01T24:00:00Z",
            "2024-05-01T12:60:00Z",
            "2024-05-01T12:00:60Z",
            "0000-01-01T00:00:00Z",
            "0001-01-01T00:00:00+01:00",
            "9999-12-31T23:59:59-01:00",
            "2024-05-01T12:00:00.Z",
            "2024-05-01T12:00:00.1234567890Z",
            "2024-05-01T12:00:00+24:00",
            "2024-05-01T12:00:00+1:00",
            "2024-05-01T12:00:00+0100",
            " 2024-05-01T12:00:00Z",
            "2024-05-01T12:00:00Z ",
            "+024-05-01T12:00:00Z",
            "2024-05-01T12:00:00ZZ",
            "éé24-05-01T12:00:0",
        ] {
            assert!(timestamp(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_day_is_found_again_from_its_number() {
        for days in (-719_162..2_932_897).step_by(13) {
            let (year, month, day) = date(days);
            assert_eq!(days_before(year, month, day), days);
        }
    }

    #[test]
    fn durations_need_their_s_and_have_a_limit() {
        assert_eq!(duration("1.5s"), Ok((1, 500_000_000)));
        assert_eq!(duration("-0.25s"), Ok((0, -250_000_000)));
        assert_eq!(duration("-315576000000s"), Ok((-DURATION_SECONDS_MAX, 0)));
        for bad in [
            "",
            "s",
            "1",
            "1m",
            "1.s",
            ".5s",
            "+1s",
            "--1s",
            "1.0000000001s",
            "315576000001s",
            "315576000000.1s",
            "1e3s",
            "null",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
