//! Percent-encoding, decoded exactly once.

use std::borrow::Cow;

/// What to decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decode {
    /// Everything: a variable of one segment, and both sides of a query parameter.
    All,
    /// Everything but the reserved characters of RFC 6570, which stay as they were sent: a variable of several segments.
    KeepReserved,
    /// Everything but the slash, which stays as it was sent: a variable of several segments, where a switch says so
    /// (`fully_decode_reserved_expansion`).
    KeepSlash,
}

/// Decodes one piece of a path or query.
///
/// # Errors
/// An escape is malformed, or what it stands for is not UTF-8.
pub(crate) fn decode(text: &str, decode: Decode) -> Result<Cow<'_, str>, &'static str> {
    if !text.contains('%') {
        return Ok(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first != b'%' {
            bytes.push(*first);
            rest = tail;
            continue;
        }
        let byte = hex_pair(tail).ok_or("has a malformed percent escape")?;
        let keep = match decode {
            Decode::All => false,
            Decode::KeepReserved => is_reserved(byte),
            Decode::KeepSlash => byte == b'/',
        };
        if keep {
            bytes.extend_from_slice(&rest[..3]);
        } else {
            bytes.push(byte);
        }
        rest = &tail[2..];
    }
    String::from_utf8(bytes)
        .map(Cow::Owned)
        .map_err(|_| "is not UTF-8 once it is percent-decoded")
}

/// The byte that two hexadecimal digits at the start of `text` stand for.
pub(crate) fn hex_pair(text: &[u8]) -> Option<u8> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    match text {
        [high, low, ..] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    }
}

fn is_reserved(byte: u8) -> bool {
    b"!#$&'()*+,/:;=?@[]".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_segment_is_decoded_whole_and_once() {
        let all = |text| decode(text, Decode::All).map(Cow::into_owned);
        assert_eq!(all("a%2Fb+c%20d").unwrap(), "a/b+c d");
        assert_eq!(all("%252F").unwrap(), "%2F");
        assert_eq!(all("%C3%A9").unwrap(), "é");
    }

    #[test]
    fn several_segments_keep_reserved_characters_exactly_as_sent() {
        let kept = decode("%2f%23/%20%2523", Decode::KeepReserved).unwrap();
        assert_eq!(kept, "%2f%23/ %23");
        let kept = decode("%2f%23/%20%2523", Decode::KeepSlash).unwrap();
        assert_eq!(kept, "%2f#/ %23");
    }

    #[test]
    fn malformed_escapes_and_bytes_that_are_not_utf8_are_refused() {
        for bad in [
            "%",
            "%2",
            "%zz",
            "a%",
            "%g0",
            "%+1",
            "%ff",
            "%C3",
            "%C0%AF",
            "%ED%A0%80",
        ] {
            assert!(decode(bad, Decode::All).is_err(), "{bad}");
            assert!(decode(bad, Decode::KeepReserved).is_err(), "{bad}");
        }
    }
}
