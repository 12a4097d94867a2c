//! Leaves: plain values, and the well-known types that are one string in JSON.

use base64::alphabet;
use base64::engine::{DecodePaddingMode, Engine, GeneralPurpose, GeneralPurposeConfig};
use prost_reflect::{EnumDescriptor, Kind, Syntax, Value};

use super::scan::number_length;
use crate::quote;

/// Largest absolute value of a Duration, in seconds: about 10,000 years.
pub(crate) const DURATION_SECONDS_MAX: i64 = 315_576_000_000;
/// 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z, in seconds since 1970.
pub(crate) const TIMESTAMP_SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// A plain value from text: of a path or query, a quoted JSON number, or a map's key.
///
/// # Errors
/// What it should have been.
pub(crate) fn from_text(kind: &Kind, text: &str) -> Result<Value, String> {
    match kind {
        Kind::String => Ok(Value::String(text.to_owned())),
        Kind::Bool => match text {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => Err("must be true or false".into()),
        },
        Kind::Bytes => bytes(text),
        Kind::Enum(words) => match number_from(words, text) {
            Some(number) => Ok(number),
            None => enum_name(words, text),
        },
        Kind::Float | Kind::Double => match text {
            "NaN" => Ok(float(kind, f64::NAN)),
            "Infinity" => Ok(float(kind, f64::INFINITY)),
            "-Infinity" => Ok(float(kind, f64::NEG_INFINITY)),
            _ => number(kind, text),
        },
        Kind::Message(message) => Err(format!("is a {} and takes no plain value", message.full_name())),
        _ => number(kind, text),
    }
}

/// A number field's value from the text of a JSON number.
///
/// # Errors
/// It is no number, has a fraction where none may be, or is out of range. Nothing is ever rounded into an integer.
pub(crate) fn number(kind: &Kind, text: &str) -> Result<Value, String> {
    if text.is_empty() || number_length(text.as_bytes()) != text.len() {
        return Err("must be a number".into());
    }
    let out_of_range = || format!("is out of the range of {kind:?}").to_lowercase();
    match kind {
        Kind::Double => text.parse().ok().filter(|v: &f64| v.is_finite()).map(Value::F64),
        Kind::Float => text.parse().ok().filter(|v: &f32| v.is_finite()).map(Value::F32),
        _ => {
            let integer = integer(text)?;
            match kind {
                Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => i32::try_from(integer).ok().map(Value::I32),
                Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => i64::try_from(integer).ok().map(Value::I64),
                Kind::Uint32 | Kind::Fixed32 => u32::try_from(integer).ok().map(Value::U32),
                Kind::Uint64 | Kind::Fixed64 => u64::try_from(integer).ok().map(Value::U64),
                Kind::Enum(_) => i32::try_from(integer).ok().map(Value::EnumNumber),
                _ => return Err("takes no number".into()),
            }
        }
    }
    .ok_or_else(out_of_range)
}

/// The exact integer a JSON number stands for: `5`, `1.0` and `1e2` do, `0.5` does not.
fn integer(text: &str) -> Result<i128, String> {
    const DIGITS_MAX: i64 = 20; // of u64
    let too_large = || Err("is out of range".into());
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    let significant = digits.trim_start_matches('0').trim_end_matches('0');
    if significant.is_empty() {
        return Ok(0);
    }
    let dropped = digits.len() - digits.trim_end_matches('0').len();
    let Ok(exponent) = exponent.parse::<i64>() else {
        return too_large();
    };
    let length = |text: &str| i64::try_from(text.len()).unwrap_or(i64::MAX);
    let scale = exponent
        .saturating_sub(length(fraction))
        .saturating_add(i64::try_from(dropped).unwrap_or(i64::MAX));
    if scale < 0 {
        return Err("must be a whole number".into());
    }
    if length(significant).saturating_add(scale) > DIGITS_MAX {
        return too_large();
    }
    let power = u32::try_from(scale).unwrap_or(u32::MAX);
    let magnitude = significant
        .parse::<i128>()
        .ok()
        .zip(10_i128.checked_pow(power))
        .and_then(|(value, power)| value.checked_mul(power));
    match magnitude {
        Some(value) if negative => Ok(-value),
        Some(value) => Ok(value),
        None => too_large(),
    }
}

/// An enum's value from its name.
pub(crate) fn enum_name(words: &EnumDescriptor, text: &str) -> Result<Value, String> {
    words
        .get_value_by_name(text)
        .map(|value| Value::EnumNumber(value.number()))
        .ok_or_else(|| format!("{} is no value of {}", quote(text), words.full_name()))
}

/// An enum's value from its number; a proto2 enum takes only numbers it names.
pub(crate) fn enum_number(words: &EnumDescriptor, text: &str) -> Result<Value, String> {
    let value = number(&Kind::Enum(words.clone()), text)?;
    let closed = words.parent_file().syntax() == Syntax::Proto2;
    match value {
        Value::EnumNumber(number) if closed && words.get_value(number).is_none() => {
            Err(format!("{number} is no value of {}", words.full_name()))
        }
        value => Ok(value),
    }
}

fn number_from(words: &EnumDescriptor, text: &str) -> Option<Value> {
    enum_number(words, text).ok()
}

fn float(kind: &Kind, value: f64) -> Value {
    match kind {
        // NaN and the infinities have their counterparts: nothing is lost.
        #[allow(clippy::cast_possible_truncation)]
        Kind::Float => Value::F32(value as f32),
        _ => Value::F64(value),
    }
}

/// Base64 of either alphabet, padded or not.
fn bytes(text: &str) -> Result<Value, String> {
    const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);
    const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CONFIG);
    let engine = if text.contains(['-', '_']) {
        URL_SAFE
    } else {
        STANDARD
    };
    engine
        .decode(text)
        .map(|bytes| Value::Bytes(bytes.into()))
        .map_err(|_| "must be base64".into())
}

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

/// The paths of a field mask in proto names, from `fooBar,baz.quxQuux`.
///
/// # Errors
/// A path is not in lowerCamelCase.
pub(crate) fn field_mask(text: &str) -> Result<Vec<String>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let snake = |path: &str| {
        let mut snake = String::with_capacity(path.len() + 4);
        for character in path.chars() {
            match character {
                'A'..='Z' => {
                    snake.push('_');
                    snake.push(character.to_ascii_lowercase());
                }
                'a'..='z' | '0'..='9' | '.' => snake.push(character),
                _ => return None,
            }
        }
        let sound = !path.is_empty()
            && path
                .split('.')
                .all(|name| name.starts_with(|c: char| c.is_ascii_lowercase()));
        sound.then_some(snake)
    };
    let paths: Option<Vec<String>> = text.split(',').map(snake).collect();
    paths.ok_or_else(|| "must be field paths in lowerCamelCase, separated by commas".into())
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
    fn integers_are_exact_or_refused() {
        let int32 = |text| number(&Kind::Int32, text).ok();
        for (text, value) in [
            ("5", 5),
            ("-7", -7),
            ("1.0", 1),
            ("1e2", 100),
            ("1.5e1", 15),
            ("100e-2", 1),
            ("-0", 0),
        ] {
            assert_eq!(int32(text), Some(Value::I32(value)), "{text}");
        }
        assert_eq!(int32("0e999999999999999999999"), Some(Value::I32(0)));
        for bad in [
            "",
            "0.5",
            "01",
            "2147483648",
            "-2147483649",
            "1e400",
            "0x10",
            "+5",
            " 5",
            "5 ",
            "1e-1",
            "NaN",
            "1e99999999999999999999",
        ] {
            assert_eq!(int32(bad), None, "{bad}");
        }
    }

    #[test]
    fn sixty_four_bits_are_neither_wrapped_nor_rounded() {
        let int64 = |text| number(&Kind::Int64, text).ok();
        let uint64 = |text| number(&Kind::Uint64, text).ok();
        assert_eq!(int64("9007199254740993"), Some(Value::I64(9_007_199_254_740_993)));
        assert_eq!(int64("9223372036854775807"), Some(Value::I64(i64::MAX)));
        assert_eq!(int64("-9223372036854775808"), Some(Value::I64(i64::MIN)));
        assert_eq!(int64("9223372036854775808"), None);
        assert_eq!(uint64("18446744073709551615"), Some(Value::U64(u64::MAX)));
        assert_eq!(uint64("18446744073709551616"), None);
        assert_eq!(uint64("1.8446744073709551615e19"), Some(Value::U64(u64::MAX)));
        assert_eq!(uint64("-1"), None);
    }

    #[test]
    fn floats_that_do_not_fit_are_refused_and_not_made_infinite() {
        assert_eq!(number(&Kind::Double, "1e400").ok(), None);
        assert_eq!(number(&Kind::Float, "1e39").ok(), None);
        assert_eq!(number(&Kind::Float, "3.5").ok(), Some(Value::F32(3.5)));
        assert_eq!(
            from_text(&Kind::Double, "-Infinity").ok(),
            Some(Value::F64(f64::NEG_INFINITY))
        );
        for bad in ["inf", "nan", "infinity", "+1", "1.", ".5", ""] {
            assert!(from_text(&Kind::Double, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn base64_comes_in_both_alphabets_padded_or_not() {
        for text in ["-_8=", "-_8", "+/8=", "+/8"] {
            assert_eq!(
                bytes(text).ok(),
                Some(Value::Bytes(vec![0xfb, 0xff].into())),
                "{text}"
            );
        }
        for bad in ["a", "+_8=", "a b=", "?", "====", "YQ==YQ=="] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

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

    #[test]
    fn field_masks_are_lower_camel_case_only() {
        assert_eq!(field_mask("fooBar,a.bC").unwrap(), ["foo_bar", "a.b_c"]);
        assert!(field_mask("").unwrap().is_empty());
        for bad in ["foo_bar", "Foo", "a,", ",", "a..b", ".a", "a b", "a.B"] {
            assert!(field_mask(bad).is_err(), "{bad}");
        }
    }
}
