//! Leaves: plain values, and field masks.

use base64::alphabet;
use base64::engine::{DecodePaddingMode, Engine, GeneralPurpose, GeneralPurposeConfig};
use prost_reflect::{EnumDescriptor, Kind, Syntax, Value};

use super::scan::number_length;

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
        .ok_or_else(|| format!("must be a value of {}", words.full_name()))
}

/// An enum's value from its number; a proto2 enum takes only numbers it names.
pub(crate) fn enum_number(words: &EnumDescriptor, text: &str) -> Result<Value, String> {
    let value = number(&Kind::Enum(words.clone()), text)?;
    let closed = words.parent_file().syntax() == Syntax::Proto2;
    match value {
        Value::EnumNumber(number) if closed && words.get_value(number).is_none() => {
            Err(format!("must be a value of {}", words.full_name()))
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
    fn field_masks_are_lower_camel_case_only() {
        assert_eq!(field_mask("fooBar,a.bC").unwrap(), ["foo_bar", "a.b_c"]);
        assert!(field_mask("").unwrap().is_empty());
        for bad in ["foo_bar", "Foo", "a,", ",", "a..b", ".a", "a b", "a.B"] {
            assert!(field_mask(bad).is_err(), "{bad}");
        }
    }
}
