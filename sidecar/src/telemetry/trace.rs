//! W3C trace context: carried on as it came, begun where a call brings none, so that log lines of one call can be joined.

use http::{HeaderMap, HeaderValue};

use crate::headers::{TRACEPARENT, single};
use crate::upstream::balance::Dice;

/// Completes the trace context of a request: one without a valid `traceparent` gets a new one, not sampled.
pub fn carry_on(headers: &mut HeaderMap, dice: &mut Dice) {
    if of(headers).is_some() {
        return;
    }
    // `00-<32 digits>-<16 digits>-00`, written in place: this is done for most calls.
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
    write_hex(&mut text[3..19], dice.number());
    write_hex(&mut text[19..35], dice.number() | 1);
    write_hex(&mut text[36..52], dice.number() | 1);
    if let Ok(value) = HeaderValue::from_bytes(&text) {
        // A broken context may not be carried on, nor what belongs to it (Trace Context 3.2.2, 3.3).
        headers.insert(TRACEPARENT, value);
        headers.remove("tracestate");
    }
}

/// The trace id of a request, 32 hexadecimal digits.
#[must_use]
pub fn of(headers: &HeaderMap) -> Option<&str> {
    single(headers, &TRACEPARENT).and_then(trace_id)
}

fn write_hex(into: &mut [u8], number: u64) {
    for (place, digit) in into.iter_mut().rev().enumerate() {
        *digit = b"0123456789abcdef"[(number >> (4 * place) & 15) as usize];
    }
}

/// Takes the trace id out of `version-traceid-parentid-flags`.
fn trace_id(text: &str) -> Option<&str> {
    let hex = |part: &str, length: usize| {
        part.len() == length
            && part
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let mut parts = text.split('-');
    let (version, id, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let well_formed = hex(version, 2)
        && version != "ff"
        && hex(id, 32)
        && id.bytes().any(|b| b != b'0')
        && hex(parent, 16)
        && parent.bytes().any(|b| b != b'0')
        && hex(flags, 2)
        && (version != "00" || parts.next().is_none());
    well_formed.then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn carried(value: Option<&str>) -> (String, HeaderMap) {
        let mut headers = HeaderMap::new();
        if let Some(value) = value {
            headers.insert(TRACEPARENT, HeaderValue::from_str(value).unwrap());
        }
        carry_on(&mut headers, &mut Dice::new(1));
        (of(&headers).unwrap_or_default().to_owned(), headers)
    }

    #[test]
    fn a_valid_context_is_carried_on_untouched() {
        let value = format!("00-{ID}-00f067aa0ba902b7-01");
        let (id, headers) = carried(Some(&value));
        assert_eq!(
            (id.as_str(), headers[TRACEPARENT].to_str().unwrap()),
            (ID, value.as_str())
        );
        assert_eq!(
            carried(Some(&format!("cc-{ID}-00f067aa0ba902b7-01-future"))).0,
            ID
        );
    }

    #[test]
    fn a_missing_or_broken_context_is_begun_anew() {
        for bad in [
            None,
            Some(format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32))),
            Some(format!("00-{ID}-0000000000000000-01")),
            Some(format!("ff-{ID}-00f067aa0ba902b7-01")),
            Some(format!("00-{}-00f067aa0ba902b7-01", ID.to_uppercase())),
            Some(format!("00-{ID}-00f067aa0ba902b7-01-more")),
            Some("x".into()),
        ] {
            let (id, headers) = carried(bad.as_deref());
            assert_ne!(id, ID);
            assert_eq!(
                trace_id(headers[TRACEPARENT].to_str().unwrap()),
                Some(id.as_str()),
                "{bad:?}"
            );
        }
    }
}
