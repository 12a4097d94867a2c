//! What came back over HTTP, and how its body is read.

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};

/// An answer, as far as it came.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// The HTTP status; 0 where none came.
    pub status: u16,
    /// In order; names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, without its transfer coding.
    pub body: Vec<u8>,
    /// In order; names in lower case.
    pub trailers: Vec<(String, String)>,
    /// Why the body has no proper end, if it has none.
    pub broken: Option<String>,
    /// The caller went away, having seen enough.
    pub left: bool,
    /// The end of a Connect stream, as it stood in the body.
    pub end: Option<Vec<u8>>,
}

impl Answer {
    /// All values of a header.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<&str> {
        values(&self.headers, name)
    }

    /// The same, the trailers of gRPC-Web and the end of a Connect stream taken out of the body.
    #[must_use]
    pub fn unfolded(&self) -> Answer {
        let mut answer = self.clone();
        let content_type = self
            .all("content-type")
            .first()
            .copied()
            .unwrap_or_default()
            .to_owned();
        let web = content_type.starts_with("application/grpc-web");
        if !web && !content_type.starts_with("application/connect+") {
            return answer;
        }
        if content_type.starts_with("application/grpc-web-text") {
            answer.body = padded_pieces(&self.text());
        }
        let Ok(read) = frames(&answer.body) else {
            return answer;
        };
        let mut body = Vec::new();
        for (flags, bytes) in read {
            match flags {
                0x80 if web => answer.trailers.extend(trailer_lines(bytes)),
                0x02 if !web => answer.end = Some(bytes.to_vec()),
                flags => body.extend(frame(flags, bytes)),
            }
        }
        answer.body = body;
        answer
    }

    /// As much of it as helps people.
    #[must_use]
    pub fn told(&self) -> String {
        let body: String = self.text().chars().take(400).collect();
        let broken = self.broken.as_deref().unwrap_or("whole");
        format!("{} {:?} {body} ({broken})", self.status, self.headers)
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// All values of a name.
#[must_use]
pub fn values<'h>(headers: &'h [(String, String)], name: &str) -> Vec<&'h str> {
    let of_name = headers
        .iter()
        .filter(|(other, _)| other.eq_ignore_ascii_case(name));
    of_name.map(|(_, value)| value.as_str()).collect()
}

/// Base64 of which each piece was padded for itself, as servers do that flush.
fn padded_pieces(text: &str) -> Vec<u8> {
    let four = text.as_bytes().chunks(4);
    let read = |piece: &[u8]| from_base64(&String::from_utf8_lossy(piece)).unwrap_or_default();
    four.flat_map(read).collect()
}

fn trailer_lines(bytes: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        .collect()
}

/// Splits a body into the messages gRPC's five bytes stand before, flags included.
///
/// # Errors
/// It is not made of these.
pub fn frames(mut bytes: &[u8]) -> Result<Vec<(u8, &[u8])>, String> {
    let mut found = Vec::new();
    while let [flags, a, b, c, d, rest @ ..] = bytes {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        if rest.len() < length {
            return Err(format!("a frame of {length} bytes has {}", rest.len()));
        }
        let (message, rest) = rest.split_at(length);
        found.push((*flags, message));
        bytes = rest;
    }
    if bytes.is_empty() {
        Ok(found)
    } else {
        Err(format!("{} bytes are left over", bytes.len()))
    }
}

/// Puts gRPC's five bytes before a message.
///
/// # Panics
/// It is over 4 GiB.
#[must_use]
pub fn frame(flags: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[flags], &length[..], message].concat()
}

/// Base64, with or without its padding.
///
/// # Errors
/// It is none.
pub fn from_base64(text: &str) -> Result<Vec<u8>, String> {
    let text: String = text
        .chars()
        .filter(|character| !character.is_whitespace())
        .collect();
    BASE64_STANDARD_NO_PAD
        .decode(text.trim_end_matches('='))
        .map_err(|error| error.to_string())
}

/// Padded base64.
#[must_use]
pub fn to_base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}
