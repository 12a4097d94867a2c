//! Numbers: JSON text to the bits of a field, exactly or not at all.

use super::leaf::Leaf;
use crate::table::Kind;

/// Longest number that is read, in bytes; the exact decimal form of every double is shorter.
pub(crate) const NUMBER_BYTES_MAX: usize = 1100;

/// How many bytes at the start of `text` are a JSON number; 0 if there is none.
pub(crate) fn number_length(text: &[u8]) -> usize {
    let digits = |from: usize| {
        let rest = text.get(from..).unwrap_or_default();
        rest.iter().take_while(|byte| byte.is_ascii_digit()).count()
    };
    let start = usize::from(text.first() == Some(&b'-'));
    let whole = digits(start);
    if whole == 0 || (whole > 1 && text.get(start) == Some(&b'0')) {
        return 0;
    }
    let mut end = start + whole;
    if text.get(end) == Some(&b'.') {
        match digits(end + 1) {
            0 => return 0,
            fraction => end += 1 + fraction,
        }
    }
    if matches!(text.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(text.get(end + 1), Some(b'+' | b'-')));
        match digits(end + 1 + sign) {
            0 => return 0,
            exponent => end += 1 + sign + exponent,
        }
    }
    end
}

/// A number field's value from the text of a JSON number.
///
/// # Errors
/// It is no number, has a fraction where none may be, or is out of range. Nothing is ever rounded into an integer.
pub(crate) fn number(kind: Kind, text: &[u8]) -> Result<Leaf<'static>, String> {
    if text.is_empty() || text.len() > NUMBER_BYTES_MAX || number_length(text) != text.len() {
        return Err("must be a number".into());
    }
    let out_of_range = || format!("is out of the range of {}", kind.name());
    match kind {
        Kind::Double => double(text).map(|value| Leaf::Fixed64(value.to_bits())),
        Kind::Float => as_str(text)
            .parse()
            .ok()
            .filter(|value: &f32| value.is_finite())
            .map(|value| Leaf::Fixed32(value.to_bits())),
        Kind::Bool | Kind::String | Kind::Bytes | Kind::Message => return Err("takes no number".into()),
        _ => {
            let (negative, magnitude) = integer(text)?;
            whole(kind, negative, magnitude)
        }
    }
    .ok_or_else(out_of_range)
}

/// An integer in the form of a field of this kind, if it fits.
#[inline]
pub(crate) fn whole(kind: Kind, negative: bool, magnitude: u64) -> Option<Leaf<'static>> {
    let signed = || {
        if negative {
            0i64.checked_sub_unsigned(magnitude)
        } else {
            i64::try_from(magnitude).ok()
        }
    };
    let small = || signed().and_then(|value| i32::try_from(value).ok());
    let unsigned = || (!negative || magnitude == 0).then_some(magnitude);
    let zigzag = |value: i64| ((value << 1) ^ (value >> 63)).cast_unsigned();
    Some(match kind {
        Kind::Int32 | Kind::Enum => Leaf::Varint(i64::from(small()?).cast_unsigned()),
        Kind::Int64 => Leaf::Varint(signed()?.cast_unsigned()),
        Kind::Sint32 => Leaf::Varint(zigzag(i64::from(small()?))),
        Kind::Sint64 => Leaf::Varint(zigzag(signed()?)),
        Kind::Uint32 => Leaf::Varint(u64::from(u32::try_from(unsigned()?).ok()?)),
        Kind::Uint64 => Leaf::Varint(unsigned()?),
        Kind::Fixed32 => Leaf::Fixed32(u32::try_from(unsigned()?).ok()?),
        Kind::Fixed64 => Leaf::Fixed64(unsigned()?),
        Kind::Sfixed32 => Leaf::Fixed32(small()?.cast_unsigned()),
        Kind::Sfixed64 => Leaf::Fixed64(signed()?.cast_unsigned()),
        _ => return None,
    })
}

/// A double from the text of a JSON number.
fn double(text: &[u8]) -> Option<f64> {
    as_str(text).parse().ok().filter(|value: &f64| value.is_finite())
}

/// A double of few digits and no exponent, with what ends it behind it, and where it ends.
///
/// Both the digits and the power of ten are exact doubles, so one division rounds once, and right.
#[inline]
pub(crate) fn short_double(b: &[u8], at: usize) -> Option<(f64, usize)> {
    const POWERS: [f64; 16] = [
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
    ];
    let negative = b.get(at) == Some(&b'-');
    let start = at + usize::from(negative);
    let (mut value, point) = digits(b, start, 0)?;
    let mut end = point;
    let mut scale = 0;
    if b.get(point) == Some(&b'.') {
        (value, end) = digits(b, point + 1, value)?;
        scale = end - point - 1;
    }
    let leading_zero = b.get(start) == Some(&b'0') && point - start > 1;
    // At most 15 digits are below 2^53.
    if leading_zero || point - start + scale > 15 || !ends_number(b, end) {
        return None;
    }
    #[allow(clippy::cast_precision_loss)] // not above 2^53
    let value = value as f64 / POWERS.get(scale)?;
    Some((if negative { -value } else { value }, end))
}

/// At least one digit and at most 18, after those of `value`: the number they make, and where they end.
#[inline]
fn digits(b: &[u8], start: usize, mut value: u64) -> Option<(u64, usize)> {
    let mut end = start;
    while let Some(byte @ b'0'..=b'9') = b.get(end) {
        if end - start == 18 {
            return None;
        }
        value = value.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
        end += 1;
    }
    (end > start).then_some((value, end))
}

#[inline]
fn ends_number(b: &[u8], at: usize) -> bool {
    matches!(b.get(at), Some(b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t'))
}

/// A whole number of at most 18 digits with what ends it behind it, as nearly all are, and where it ends.
#[inline]
pub(crate) fn short_integer(kind: Kind, b: &[u8], at: usize) -> Option<(Leaf<'static>, usize)> {
    let negative = b.get(at) == Some(&b'-');
    let start = at + usize::from(negative);
    let (value, end) = digits(b, start, 0)?;
    let leading_zero = b.get(start) == Some(&b'0') && end - start > 1;
    if leading_zero || !ends_number(b, end) {
        return None;
    }
    Some((whole(kind, negative, value)?, end))
}

/// The exact integer a JSON number stands for, as sign and magnitude: `5`, `1.0` and `1e2` do, `0.5` does not.
fn integer(text: &[u8]) -> Result<(bool, u64), String> {
    const DIGITS_MAX: i64 = 20; // of u64
    let too_large = || Err("is out of range".into());
    let text = as_str(text);
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    let significant = digits.trim_start_matches('0').trim_end_matches('0');
    if significant.is_empty() {
        return Ok((negative, 0));
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
        .parse::<u64>()
        .ok()
        .zip(10_u64.checked_pow(power))
        .and_then(|(value, power)| value.checked_mul(power));
    match magnitude {
        Some(magnitude) => Ok((negative, magnitude)),
        None => too_large(),
    }
}

/// What was found to be a number is ASCII.
fn as_str(text: &[u8]) -> &str {
    std::str::from_utf8(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int32(text: &str) -> Option<i32> {
        match number(Kind::Int32, text.as_bytes()) {
            Ok(Leaf::Varint(bits)) => i32::try_from(bits.cast_signed()).ok(),
            _ => None,
        }
    }

    #[test]
    fn integers_are_exact_or_refused() {
        for (text, value) in [
            ("5", 5),
            ("-7", -7),
            ("1.0", 1),
            ("1e2", 100),
            ("1.5e1", 15),
            ("100e-2", 1),
            ("-0", 0),
            ("2147483647", i32::MAX),
            ("-2147483648", i32::MIN),
            ("0e999999999999999999999", 0),
        ] {
            assert_eq!(int32(text), Some(value), "{text}");
        }
        for bad in [
            "",
            "-",
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
            "1.",
            ".5",
            "1e",
            "1e+",
            "NaN",
            "1e99999999999999999999",
        ] {
            assert_eq!(int32(bad), None, "{bad}");
        }
    }

    #[test]
    fn sixty_four_bits_are_neither_wrapped_nor_rounded() {
        let bits = |kind, text: &str| match number(kind, text.as_bytes()) {
            Ok(Leaf::Varint(bits) | Leaf::Fixed64(bits)) => Some(bits),
            _ => None,
        };
        let int64 = |text| bits(Kind::Int64, text).map(u64::cast_signed);
        let uint64 = |text| bits(Kind::Uint64, text);
        assert_eq!(int64("9007199254740993"), Some(9_007_199_254_740_993));
        assert_eq!(int64("9223372036854775807"), Some(i64::MAX));
        assert_eq!(int64("-9223372036854775808"), Some(i64::MIN));
        assert_eq!(int64("9223372036854775808"), None);
        assert_eq!(int64("-9223372036854775809"), None);
        assert_eq!(uint64("18446744073709551615"), Some(u64::MAX));
        assert_eq!(uint64("18446744073709551616"), None);
        assert_eq!(uint64("1.8446744073709551615e19"), Some(u64::MAX));
        assert_eq!((uint64("-1"), uint64("-0")), (None, Some(0)));
        assert_eq!(bits(Kind::Sint64, "-9223372036854775808"), Some(u64::MAX));
        assert_eq!(bits(Kind::Sint32, "-1"), Some(1));
    }

    #[test]
    fn floats_that_do_not_fit_are_refused_and_not_made_infinite() {
        for bad in ["1e400", "-1e400"] {
            assert!(number(Kind::Double, bad.as_bytes()).is_err());
        }
        assert!(number(Kind::Float, b"1e39").is_err());
        assert_eq!(
            number(Kind::Float, b"3.5").ok(),
            Some(Leaf::Fixed32(3.5f32.to_bits()))
        );
    }

    #[test]
    fn doubles_are_read_as_the_standard_library_reads_them() {
        let mut short = 0;
        for text in [
            "0",
            "-0",
            "0.1",
            "49.95",
            "612.35",
            "-1.5",
            "9007199254740993",
            "900719925474.0993",
            "0.000000000000001",
            "123456789012345",
            "1e22",
            "1.7976931348623157e308",
            "5e-324",
            "0.30000000000000004",
            "999999999999999.9",
        ] {
            let expected: f64 = text.parse().unwrap();
            assert_eq!(
                number(Kind::Double, text.as_bytes()).ok(),
                Some(Leaf::Fixed64(expected.to_bits())),
                "{text}"
            );
            if let Some((value, end)) = short_double(format!("{text},").as_bytes(), 0) {
                assert_eq!((value.to_bits(), end), (expected.to_bits(), text.len()), "{text}");
                short += 1;
            }
        }
        assert_eq!(short, 7);
        for left in ["1", "1.", "1.,", "01,", "-,", ".5,", "1e5,", "1a", "+1,", "00.5,"] {
            assert_eq!(short_double(left.as_bytes(), 0), None, "{left}");
            assert_eq!(
                short_integer(Kind::Int64, left.trim_end_matches(',').as_bytes(), 0),
                None
            );
        }
    }

    #[test]
    fn a_number_of_a_thousand_digits_is_read_and_one_without_end_is_not() {
        let long = format!("0.{}", "1".repeat(1000));
        assert!(number(Kind::Double, long.as_bytes()).is_ok());
        let endless = "1".repeat(NUMBER_BYTES_MAX + 1);
        assert!(number(Kind::Double, endless.as_bytes()).is_err());
    }
}
