//! JSON text as tokens, with offsets, strictly by RFC 8259: no byte order mark, no trailing comma, no lone surrogate.

use std::borrow::Cow;

/// What is wrong with the text, and where.
#[derive(Debug)]
pub(crate) struct ScanError {
    pub(crate) message: &'static str,
    pub(crate) offset: usize,
}

pub(crate) type Scan<T> = Result<T, ScanError>;

/// Walks one JSON text.
#[derive(Debug, Clone)]
pub(crate) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Scan<Self> {
        let text = std::str::from_utf8(bytes).map_err(|error| ScanError {
            message: "is not UTF-8",
            offset: error.valid_up_to(),
        })?;
        Ok(Self { text, at: 0 })
    }

    pub(crate) fn offset(&self) -> usize {
        self.at
    }

    pub(crate) fn go_to(&mut self, offset: usize) {
        self.at = offset;
    }

    pub(crate) fn error<T>(&self, message: &'static str) -> Scan<T> {
        let offset = self.at;
        Err(ScanError { message, offset })
    }

    /// The first byte of the next token.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    /// Takes one structural byte if it is next.
    pub(crate) fn eat(&mut self, expected: u8) -> bool {
        let found = self.peek() == Some(expected);
        self.at += usize::from(found);
        found
    }

    pub(crate) fn expect(&mut self, expected: u8, otherwise: &'static str) -> Scan<()> {
        if self.eat(expected) {
            Ok(())
        } else {
            self.error(otherwise)
        }
    }

    /// Nothing but space may be left.
    pub(crate) fn end(&mut self) -> Scan<()> {
        match self.peek() {
            None => Ok(()),
            Some(_) => self.error("something follows the JSON value"),
        }
    }

    /// Takes `null`, `true` or `false` if it is next.
    pub(crate) fn word(&mut self, word: &str) -> bool {
        self.peek();
        let found = self.text.as_bytes()[self.at..].starts_with(word.as_bytes());
        self.at += if found { word.len() } else { 0 };
        found
    }

    /// A number, as it is written.
    pub(crate) fn number(&mut self) -> Scan<&'a str> {
        self.peek();
        let rest = &self.text[self.at..];
        let length = number_length(rest.as_bytes());
        if length == 0 {
            return self.error("is not JSON: a value is missing or badly written");
        }
        let follows = rest.as_bytes().get(length);
        if follows
            .is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'+' | b'-' | b'_'))
        {
            return self.error("is not a JSON number");
        }
        self.at += length;
        Ok(&rest[..length])
    }

    /// A string, unescaped.
    pub(crate) fn string(&mut self) -> Scan<Cow<'a, str>> {
        self.expect(b'"', "a string is missing")?;
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut unescaped: Option<String> = None;
        let mut plain_from = start;
        loop {
            match bytes.get(self.at) {
                None => return self.error("a string is not closed"),
                Some(b'"') => {
                    let tail = &self.text[plain_from..self.at];
                    self.at += 1;
                    return Ok(match unescaped {
                        None => Cow::Borrowed(tail),
                        Some(text) => Cow::Owned(text + tail),
                    });
                }
                Some(b'\\') => {
                    let plain = &self.text[plain_from..self.at];
                    let character = self.escape()?;
                    let text = unescaped.get_or_insert_default();
                    text.push_str(plain);
                    text.push(character);
                    plain_from = self.at;
                }
                Some(0..=0x1f) => return self.error("a string holds a bare control character"),
                Some(_) => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Scan<char> {
        let letter = self.text.as_bytes().get(self.at + 1).copied();
        let character = match letter {
            Some(b'u') => return self.unicode_escape(),
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            _ => return self.error("a string holds an escape that does not exist"),
        };
        self.at += 2;
        Ok(character)
    }

    fn unicode_escape(&mut self) -> Scan<char> {
        let unit = |at: usize| {
            let digits = self.text.as_bytes().get(at..at + 6)?.strip_prefix(b"\\u")?;
            let high = crate::percent::hex_pair(digits)?;
            let low = crate::percent::hex_pair(&digits[2..])?;
            Some(u16::from_be_bytes([high, low]))
        };
        let Some(first) = unit(self.at) else {
            return self.error("a string holds a malformed \\u escape");
        };
        let units = [first, unit(self.at + 6).unwrap_or_default()];
        let wide = (0xd800..0xdc00).contains(&first);
        let taken = if wide { &units[..] } else { &units[..1] };
        match char::decode_utf16(taken.iter().copied()).next() {
            Some(Ok(character)) => {
                self.at += 6 * taken.len();
                Ok(character)
            }
            _ => self.error("a string holds a lone surrogate"),
        }
    }

    /// Passes over one value of whatever shape, which must be well-formed and nest at most `depth_max` deep.
    pub(crate) fn skip(&mut self, depth_max: usize) -> Scan<()> {
        self.pass(depth_max, &mut |_| {})
    }

    /// As [`Scanner::skip`], and shows every entry of every object on the way.
    pub(crate) fn pass(&mut self, depth_max: usize, show: &mut impl FnMut(Entry<'_>)) -> Scan<()> {
        match self.peek() {
            Some(b'{' | b'[') if depth_max == 0 => self.error("nests too deep"),
            Some(b'{') => {
                let object = self.at;
                self.at += 1;
                if self.eat(b'}') {
                    return Ok(());
                }
                loop {
                    let key = self.string()?;
                    self.expect(b':', "a colon is missing")?;
                    let value = self.at;
                    show(Entry {
                        object,
                        key: &key,
                        value,
                    });
                    self.pass(depth_max - 1, show)?;
                    if !self.eat(b',') {
                        return self.expect(b'}', "an object is not closed");
                    }
                }
            }
            Some(b'[') => {
                self.at += 1;
                if self.eat(b']') {
                    return Ok(());
                }
                loop {
                    self.pass(depth_max - 1, show)?;
                    if !self.eat(b',') {
                        return self.expect(b']', "an array is not closed");
                    }
                }
            }
            Some(b'"') => self.string().map(drop),
            _ if self.word("null") || self.word("true") || self.word("false") => Ok(()),
            _ => self.number().map(drop),
        }
    }
}

/// One entry of an object: where the object starts, the key, and where its value starts.
pub(crate) struct Entry<'e> {
    pub(crate) object: usize,
    pub(crate) key: &'e str,
    pub(crate) value: usize,
}

/// How many bytes at the start of `text` are a JSON number; 0 if there is none.
pub(crate) fn number_length(text: &[u8]) -> usize {
    let digits = |from: usize| {
        text[from..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count()
    };
    let start = usize::from(text.first() == Some(&b'-'));
    let whole = digits(start);
    if whole == 0 || (whole > 1 && text[start] == b'0') {
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
        match digits((end + 1 + sign).min(text.len())) {
            0 => return 0,
            exponent => end += 1 + sign + exponent,
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn well_formed(text: &[u8]) -> bool {
        let Ok(mut scanner) = Scanner::new(text) else {
            return false;
        };
        scanner.skip(64).and_then(|()| scanner.end()).is_ok()
    }

    #[test]
    fn what_is_json_is_taken() {
        for good in [
            "null",
            " true ",
            "[]",
            "{}",
            "[1,-0,0.5,1e2,1E-2,12.50e+7]",
            r#"{"a":{"b":[null]},"c":""}"#,
            r#""\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00""#,
        ] {
            assert!(well_formed(good.as_bytes()), "{good}");
        }
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for bad in [
            "",
            "nul",
            "nullx",
            "[1,]",
            "[,]",
            "{,}",
            r#"{"a":1,}"#,
            r#"{"a"}"#,
            r#"{a:1}"#,
            "01",
            "+1",
            "1.",
            ".5",
            "1e",
            "0x10",
            "NaN",
            "Infinity",
            "1 2",
            "[1",
            "{",
            r#"{"a":1"#,
            "\"",
            r#""\x""#,
            r#""\u12""#,
            r#""\u+123""#,
            r#""\ud800""#,
            r#""\ud800\u0041""#,
            r#""\udc00""#,
            "\"\u{1}\"",
            "\"\0\"",
            "'a'",
            "\u{feff}{}",
            "[1]]",
            "// a",
        ] {
            assert!(!well_formed(bad.as_bytes()), "{bad}");
        }
        for bad in [
            &b"\"\xff\""[..],
            b"\"\xc0\xaf\"",
            b"\"\xed\xa0\x80\"",
            b"\xff\xfe{}",
        ] {
            assert!(!well_formed(bad), "{bad:?}");
        }
    }

    #[test]
    fn nesting_is_taken_up_to_the_limit_and_not_beyond() {
        let nested =
            |open: &str, close: &str, depth| format!("{}{}", open.repeat(depth), close.repeat(depth));
        assert!(well_formed(nested("[", "]", 64).as_bytes()));
        assert!(!well_formed(nested("[", "]", 65).as_bytes()));
        assert!(!well_formed("[".repeat(100_000).as_bytes()));
        assert!(!well_formed(r#"{"a":"#.repeat(100_000).as_bytes()));
    }
}
