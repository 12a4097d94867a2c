//! The charset of a content type: JSON is UTF-8 (RFC 8259 8.1), and whoever says otherwise is refused rather than misread.

/// Whether a content type names no other charset than UTF-8. Other parameters do not count.
#[must_use]
pub fn is_utf8(content_type: &str) -> bool {
    content_type.split(';').skip(1).all(|parameter| {
        parameter.split_once('=').is_none_or(|(name, value)| {
            !name.trim().eq_ignore_ascii_case("charset")
                || value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_charset_counts() {
        for told in [
            "application/json",
            "application/json;",
            "application/json; charset=utf-8",
            "application/json; Charset=\"UTF-8\"; version=2",
            "application/json; charset",
        ] {
            assert!(is_utf8(told), "{told}");
        }
        for told in [
            "application/json; charset=utf-16",
            "application/json;a=b;CHARSET = latin1",
        ] {
            assert!(!is_utf8(told), "{told}");
        }
    }
}
