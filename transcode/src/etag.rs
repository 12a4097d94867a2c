//! Entity tags (RFC 9110 8.8.3): what a message says of itself, and what a caller already has.

use std::ops::ControlFlow;

use crate::schema::Method;
use crate::wire::{self, Value};

impl Method {
    /// What the response message holds in its field `etag`, if it has one that is a text and not blank. The last counts.
    #[must_use]
    pub fn etag<'a>(&self, response: &'a [u8]) -> Option<&'a str> {
        let wanted = self.etag?;
        let mut found: &[u8] = b"";
        wire::each(response, |number, value| {
            if let Value::Bytes(text) = value
                && number == wanted
            {
                found = text;
            }
            ControlFlow::Continue(())
        })?;
        std::str::from_utf8(found).ok().filter(|text| !text.is_empty())
    }
}

/// A text as an entity tag: as it is where it is one, else in quotes. `None`: it holds what may not stand in one.
#[must_use]
pub fn quoted(text: &str) -> Option<String> {
    if opaque(text).is_some() {
        return Some(text.to_owned());
    }
    is_plain(text).then(|| format!("\"{text}\""))
}

/// The same tag, weak: for an answer whose bytes differ while it means the same, such as a compressed one.
#[must_use]
pub fn weak(tag: &str) -> String {
    if tag.starts_with("W/") {
        tag.to_owned()
    } else {
        format!("W/{tag}")
    }
}

/// Whether `If-None-Match` names this tag, by weak comparison (RFC 9110 13.1.2).
#[must_use]
pub fn none_match_names(condition: &str, tag: &str) -> bool {
    let Some(own) = opaque(tag) else { return false };
    if condition.trim() == "*" {
        return true;
    }
    let mut rest = condition;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let text = rest.strip_prefix("W/").unwrap_or(rest);
        let Some((other, after)) = text.strip_prefix('"').and_then(|text| text.split_once('"')) else {
            return false;
        };
        if other == own {
            return true;
        }
        rest = after;
    }
}

/// What is between the quotes of an entity tag.
fn opaque(tag: &str) -> Option<&str> {
    let text = tag.strip_prefix("W/").unwrap_or(tag);
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    is_plain(inner).then_some(inner)
}

fn is_plain(text: &str) -> bool {
    text.bytes().all(|b| b == 0x21 || (0x23..=0x7e).contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_becomes_a_tag_and_a_tag_stays_one() {
        for (text, tag) in [
            ("abc", Some("\"abc\"")),
            ("\"abc\"", Some("\"abc\"")),
            ("W/\"abc\"", Some("W/\"abc\"")),
            ("a b", None),
            ("a\"b", None),
            ("ä", None),
            ("a\r\nSet-Cookie: x", None),
        ] {
            assert_eq!(quoted(text).as_deref(), tag, "{text}");
        }
    }

    #[test]
    fn a_condition_names_a_tag_whether_weak_or_strong_and_among_others() {
        for (condition, named) in [
            ("\"abc\"", true),
            ("W/\"abc\"", true),
            ("\"x\", W/\"y,\" , \"abc\"", true),
            (" * ", true),
            ("\"ab\"", false),
            ("abc", false),
            ("\"x\" abc", false),
            ("", false),
        ] {
            assert_eq!(none_match_names(condition, "\"abc\""), named, "{condition}");
            assert_eq!(none_match_names(condition, "W/\"abc\""), named, "{condition}");
        }
    }
}
