//! Base64 of either alphabet, padded or not, but of one alphabet at a time.

/// By byte: its six bits, and above them whether it is of the standard alphabet only, of the url-safe one only, or of none.
const TABLE: [u16; 256] = table();
const STANDARD: u16 = 1 << 8;
const URL_SAFE: u16 = 1 << 9;
const NEITHER: u16 = 1 << 10;

const fn table() -> [u16; 256] {
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut table = [NEITHER; 256];
    let mut bits = 0;
    while bits < letters.len() {
        table[letters[bits] as usize] = letters_bits(bits);
        bits += 1;
    }
    table[b'+' as usize] = 62 | STANDARD;
    table[b'/' as usize] = 63 | STANDARD;
    table[b'-' as usize] = 62 | URL_SAFE;
    table[b'_' as usize] = 63 | URL_SAFE;
    table
}

#[allow(clippy::cast_possible_truncation)] // below 62
const fn letters_bits(bits: usize) -> u16 {
    bits as u16
}

/// The bytes.
///
/// # Errors
/// It is not base64.
pub(crate) fn decode(text: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 3);
    decode_into(text, &mut out)?;
    Ok(out)
}

/// Appends the bytes. On an error, some may have been appended.
///
/// # Errors
/// It is not base64.
pub(crate) fn decode_into(text: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    let digits = match text {
        [digits @ .., b'=', b'='] if digits.len() % 4 == 2 => digits,
        [digits @ .., b'='] if digits.len() % 4 == 3 => digits,
        _ => text,
    };
    let mut seen = 0;
    let mut groups = digits.chunks_exact(4);
    for group in &mut groups {
        let word = |at: usize| TABLE[usize::from(group[at])];
        let (a, b, c, d) = (word(0), word(1), word(2), word(3));
        seen |= a | b | c | d;
        let bits = [a, b, c, d]
            .iter()
            .fold(0u32, |bits, word| bits << 6 | u32::from(word & 63));
        let [_, first, second, third] = bits.to_be_bytes();
        out.extend_from_slice(&[first, second, third]);
    }
    let rest = groups.remainder();
    let mut bits = 0u32;
    for byte in rest {
        let word = TABLE[usize::from(*byte)];
        seen |= word;
        bits = bits << 6 | u32::from(word & 63);
    }
    let [_, first, second, _] = (bits << (24 - 6 * rest.len())).to_be_bytes();
    match rest.len() {
        2 => out.push(first),
        3 => out.extend_from_slice(&[first, second]),
        1 => seen |= NEITHER,
        _ => {}
    }
    let mixed = seen & STANDARD != 0 && seen & URL_SAFE != 0;
    if mixed || seen & NEITHER != 0 {
        return Err("must be base64".into());
    }
    Ok(())
}

/// Appends padded standard base64.
pub(crate) fn encode_into(bytes: &[u8], out: &mut Vec<u8>) {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;

    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    // The room is exactly what padded base64 takes.
    if let Some(room) = out.get_mut(start..) {
        let _ = BASE64_STANDARD.encode_slice(bytes, room);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_comes_in_both_alphabets_padded_or_not() {
        for text in ["-_8=", "-_8", "+/8=", "+/8"] {
            assert_eq!(decode(text.as_bytes()).unwrap(), [0xfb, 0xff], "{text}");
        }
        for bad in [
            "a", "+_8=", "+/+/-_8=", "a b=", "?", "====", "=", "YQ==YQ==", "YQ=", "YWJj=", "YWJjZ", "YQ===",
            "é",
        ] {
            assert!(decode(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_encoded_is_decoded_the_same() {
        for length in 0..100u8 {
            let bytes: Vec<u8> = (0..length).map(|byte| byte.wrapping_mul(7) ^ 0x5a).collect();
            let mut text = Vec::new();
            encode_into(&bytes, &mut text);
            assert_eq!(decode(&text).unwrap(), bytes);
            let unpadded: Vec<u8> = text.iter().copied().filter(|byte| *byte != b'=').collect();
            assert_eq!(decode(&unpadded).unwrap(), bytes);
        }
    }
}
