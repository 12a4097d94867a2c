//! Text between quotes: where it ends, what its escapes stand for, whether it is UTF-8. Eight bytes at a time.

/// Where the first byte stands that is a quote, a backslash or a control character, from `from` on (the length, if there is
/// none), and whether a byte before it is not ASCII.
#[inline]
pub(crate) fn special(bytes: &[u8], from: usize) -> (usize, bool) {
    let mut at = from;
    let mut high = 0;
    while let Some(word) = word_at(bytes, at) {
        let marks = marks(word);
        if marks != 0 {
            return found(at, word, marks, high);
        }
        high |= word;
        at += WORD;
    }
    // The last word may reach back over bytes that were looked at and are not special.
    let last = bytes.len().wrapping_sub(WORD);
    if at < bytes.len()
        && at > from
        && let Some(word) = word_at(bytes, last)
    {
        let marks = marks(word);
        if marks != 0 {
            return found(last, word, marks, high);
        }
        return (bytes.len(), (high | word) & HIGH != 0);
    }
    let mut high = high & HIGH != 0;
    while let Some(byte) = bytes.get(at) {
        if *byte == b'"' || *byte == b'\\' || *byte < 0x20 {
            break;
        }
        high |= *byte >= 0x80;
        at += 1;
    }
    (at, high)
}

const WORD: usize = 8;
/// The high bit of each byte.
const HIGH: u64 = eight(0x80);

#[inline]
fn word_at(bytes: &[u8], at: usize) -> Option<u64> {
    let word = bytes.get(at..)?.first_chunk::<WORD>()?;
    Some(u64::from_le_bytes(*word))
}

/// The first mark of the word that begins at `at`; of the word only what lies before that counts.
#[inline]
fn found(at: usize, word: u64, marks: u64, high: u64) -> (usize, bool) {
    let before = marks.trailing_zeros() / 8;
    let high = high | word & !u64::MAX.wrapping_shl(before * 8);
    (at + before as usize, high & HIGH != 0)
}

/// Eight times the same byte.
const fn eight(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// The high bit of each byte that is special. Bits above the lowest one set may be wrong: a borrow reaches upwards.
#[inline]
const fn marks(word: u64) -> u64 {
    const LOW: u64 = eight(1);
    let quote = word ^ eight(b'"');
    let backslash = word ^ eight(b'\\');
    let quote = quote.wrapping_sub(LOW) & !quote;
    let backslash = backslash.wrapping_sub(LOW) & !backslash;
    let control = word.wrapping_sub(eight(0x20)) & !word;
    (quote | backslash | control) & eight(0x80)
}

/// What the escape at the start of `text` stands for, and its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Escape {
    Char(char, usize),
    /// The text ends before the escape does.
    Unfinished,
    Bad(&'static str),
}

/// Reads the escape that `text` starts with.
pub(crate) fn escape(text: &[u8]) -> Escape {
    let character = match text.get(1) {
        None => return Escape::Unfinished,
        Some(b'u') => return unicode(text),
        Some(b'"') => '"',
        Some(b'\\') => '\\',
        Some(b'/') => '/',
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(_) => return Escape::Bad("a string holds an escape that does not exist"),
    };
    Escape::Char(character, 2)
}

fn unicode(text: &[u8]) -> Escape {
    const MALFORMED: Escape = Escape::Bad("a string holds a malformed \\u escape");
    const LONE: Escape = Escape::Bad("a string holds a lone surrogate");
    let first = match unit(text) {
        Ok(Some(unit)) => unit,
        Ok(None) => return Escape::Unfinished,
        Err(()) => return MALFORMED,
    };
    if !(0xd800..0xdc00).contains(&first) {
        return char::from_u32(u32::from(first)).map_or(LONE, |character| Escape::Char(character, 6));
    }
    let second = match unit(text.get(6..).unwrap_or_default()) {
        Ok(Some(unit)) => unit,
        Ok(None) => return Escape::Unfinished,
        Err(()) => return LONE,
    };
    match char::decode_utf16([first, second]).next() {
        Some(Ok(character)) => Escape::Char(character, 12),
        _ => LONE,
    }
}

/// The four digits after `\u`. `None`: the text is a beginning of that.
fn unit(text: &[u8]) -> Result<Option<u16>, ()> {
    let shape = |at: usize, byte: u8| match at {
        0 => byte == b'\\',
        1 => byte == b'u',
        _ => byte.is_ascii_hexdigit(),
    };
    let text = text.get(..6).unwrap_or(text);
    if !text.iter().enumerate().all(|(at, byte)| shape(at, *byte)) {
        return Err(());
    }
    if text.len() < 6 {
        return Ok(None);
    }
    let digits = |at: usize| crate::percent::hex_pair(text.get(at..).unwrap_or_default());
    match (digits(2), digits(4)) {
        (Some(high), Some(low)) => Ok(Some(u16::from_be_bytes([high, low]))),
        _ => Err(()),
    }
}

/// A whole string without its quotes, unescaped.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn unescaped(mut text: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut plain = Vec::with_capacity(text.len());
    loop {
        let (at, _) = special(text, 0);
        let (before, rest) = text.split_at(at);
        plain.extend_from_slice(before);
        if rest.is_empty() {
            return match std::str::from_utf8(&plain) {
                Ok(_) => Ok(plain),
                Err(_) => Err("is not UTF-8"),
            };
        }
        match escape(rest) {
            Escape::Char(character, length) => {
                push_char(&mut plain, character);
                text = rest.get(length..).unwrap_or_default();
            }
            Escape::Unfinished => return Err("a string is not closed"),
            Escape::Bad(why) => return Err(why),
        }
    }
}

/// Appends `b[from..to]`: a short part by one copy of a length that is known beforehand, which costs less.
#[inline]
pub(crate) fn append(out: &mut Vec<u8>, b: &[u8], from: usize, to: usize) {
    const SHORT: usize = 32;
    let length = to.saturating_sub(from);
    if length <= SHORT
        && let Some(wide) = b.get(from..).and_then(<[u8]>::first_chunk::<SHORT>)
    {
        let end = out.len() + length;
        out.extend_from_slice(wide);
        out.truncate(end);
    } else {
        out.extend_from_slice(b.get(from..to).unwrap_or_default());
    }
}

/// Appends a character in UTF-8.
pub(crate) fn push_char(out: &mut Vec<u8>, character: char) {
    if character.is_ascii() {
        out.push(u8::try_from(character).unwrap_or_default());
        return;
    }
    let mut bytes = [0; 4];
    out.extend_from_slice(character.encode_utf8(&mut bytes).as_bytes());
}

/// How long the part of `bytes` is that is UTF-8 for sure, where more may follow.
///
/// # Errors
/// Where the first byte stands that never can be.
pub(crate) fn utf8_prefix(bytes: &[u8]) -> Result<usize, usize> {
    match std::str::from_utf8(bytes) {
        Ok(_) => Ok(bytes.len()),
        Err(error) if error.error_len().is_none() => Ok(error.valid_up_to()),
        Err(error) => Err(error.valid_up_to()),
    }
}

/// Appends `text` as a JSON string, on one line.
///
/// # Errors
/// It is not UTF-8.
pub(crate) fn put_string(out: &mut Vec<u8>, text: &[u8]) -> Result<(), ()> {
    out.push(b'"');
    let (at, mut high) = special(text, 0);
    out.extend_from_slice(text.get(..at).unwrap_or_default());
    let mut from = at;
    while from < text.len() {
        let (at, not_ascii) = special(text, from);
        high |= not_ascii;
        out.extend_from_slice(text.get(from..at).unwrap_or_default());
        let Some(byte) = text.get(at) else { break };
        put_escape(out, *byte);
        from = at + 1;
    }
    out.push(b'"');
    if high && std::str::from_utf8(text).is_err() {
        return Err(());
    }
    Ok(())
}

fn put_escape(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        b'"' => b'"',
        b'\\' => b'\\',
        0x8 => b'b',
        0xc => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        _ => {
            let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
            out.extend_from_slice(b"\\u00");
            out.extend([HEX[high & 15], HEX[low]]);
            return;
        }
    };
    out.extend([b'\\', short]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_special_byte_is_found_wherever_it_stands() {
        for special_byte in [b'"', b'\\', 0, 0x1f] {
            for length in 0..40 {
                for at in 0..length {
                    let mut text = vec![b'a'; length];
                    text[at] = special_byte;
                    assert_eq!(special(&text, 0), (at, false), "{length} {at}");
                    if at + 1 < length {
                        text[at + 1] = 0xff;
                        assert_eq!(special(&text, 0), (at, false));
                    }
                    if at > 0 {
                        text[at - 1] = 0x80;
                        assert_eq!(special(&text, 0), (at, true));
                    }
                }
            }
        }
        for byte in 0x20..=0xff {
            let text = [byte; 17];
            let plain = !matches!(byte, b'"' | b'\\');
            assert_eq!(
                special(&text, 0),
                (if plain { 17 } else { 0 }, plain && byte >= 0x80)
            );
        }
    }

    #[test]
    fn what_lies_before_the_start_does_not_count() {
        let mut text = *b"\"\xff ordinary text ";
        for from in 2..text.len() {
            assert_eq!(special(&text, from), (text.len(), false), "{from}");
        }
        for at in 2..text.len() {
            text[at] = b'"';
            for from in 2..=at {
                assert_eq!(special(&text, from), (at, false), "{from} {at}");
            }
            text[at] = b'.';
        }
    }

    #[test]
    fn escapes_are_read_whole_or_told_to_be_unfinished() {
        for (text, read) in [
            (r"\n", Escape::Char('\n', 2)),
            (r"\u00e9x", Escape::Char('é', 6)),
            (r"\ud83d\ude00", Escape::Char('😀', 12)),
            (r"\", Escape::Unfinished),
            (r"\u", Escape::Unfinished),
            (r"\u12", Escape::Unfinished),
            (r"\ud83d", Escape::Unfinished),
            (r"\ud83d\u", Escape::Unfinished),
            (r"\ud83d\ude0", Escape::Unfinished),
        ] {
            assert_eq!(escape(text.as_bytes()), read, "{text}");
        }
        for bad in [
            r"\x",
            r"\u+123",
            r"\u12G4",
            r"\ud800a",
            r"\ud800\n",
            r"\ud800\u0041",
            r"\udc00",
            r"\ud83d\ud83d",
        ] {
            assert!(matches!(escape(bad.as_bytes()), Escape::Bad(_)), "{bad}");
        }
    }

    #[test]
    fn what_is_written_is_what_was_read() {
        for text in ["", "plain", "a\"\\/\u{8}\u{c}\n\r\t\u{1}\u{1f}\u{7f}é😀\u{2028}"] {
            let mut out = Vec::new();
            put_string(&mut out, text.as_bytes()).unwrap();
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
            assert_eq!(out, serde_json::to_vec(text).unwrap());
            assert_eq!(unescaped(&out[1..out.len() - 1]).unwrap(), text.as_bytes());
        }
        assert!(put_string(&mut Vec::new(), b"a\xff").is_err());
        assert!(unescaped(b"\xff").is_err());
        assert!(unescaped(b"\\u12").is_err());
    }
}
