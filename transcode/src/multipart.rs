//! Reads `multipart/form-data` (RFC 7578) piece by piece: what a form in a browser sends.
//!
//! ```text
//!  --b\r\n headers \r\n\r\n  data  \r\n--b\r\n headers \r\n\r\n  data  \r\n--b--
//!         Event::Part       Data…   End       Event::Part      Data…   End
//! ```
//!
//! Data is handed out as it comes; of a part no more is held back than could be the beginning of a boundary.

use bytes::{Bytes, BytesMut};

use crate::refusal::Refusal;

/// Longest boundary (RFC 2046 5.1.1), in bytes.
const BOUNDARY_BYTES_MAX: usize = 70;
/// Most that may stand before the first boundary, and most headers of one part, in bytes.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// Most parts of one body.
pub const PARTS_MAX: usize = 1_000;

/// What a part says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The field of the form.
    pub name: String,
    /// The file's name, for files.
    pub file_name: Option<String>,
    /// What is in it, where it says so.
    pub content_type: Option<String>,
}

/// What comes next in a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A part begins.
    Part(Part),
    /// More of its data; never empty.
    Data(Bytes),
    /// It is complete.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Before the first boundary.
    Preamble,
    /// Behind a boundary: another part, or the end.
    Boundary,
    Headers,
    Data,
    Over,
}

/// Reads one body. Feed it with [`Multipart::push`], take events with [`Multipart::next`] until there is none, and say
/// [`Multipart::finish`] at the end of the body.
#[derive(Debug)]
pub struct Multipart {
    /// `\r\n--boundary`
    delimiter: Vec<u8>,
    buffer: BytesMut,
    at: At,
    parts: usize,
}

/// The boundary of a content type, if it is `multipart/form-data`.
///
/// # Errors
/// 415: it is, and has no boundary or an impossible one.
pub fn boundary(content_type: &str) -> Result<Option<String>, Refusal> {
    let (media, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    if !media.trim().eq_ignore_ascii_case("multipart/form-data") {
        return Ok(None);
    }
    let boundary = parameter(parameters, "boundary").filter(|boundary| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&b);
        (1..=BOUNDARY_BYTES_MAX).contains(&boundary.len())
            && boundary.bytes().all(allowed)
            && !boundary.ends_with(' ')
    });
    boundary.map(Some).ok_or_else(|| Refusal {
        message: "multipart/form-data needs a boundary of 1 to 70 plain characters".into(),
        ..Refusal::unsupported_media_type()
    })
}

impl Multipart {
    /// With this boundary.
    #[must_use]
    pub fn new(boundary: &str) -> Self {
        Self {
            delimiter: format!("\r\n--{boundary}").into_bytes(),
            // The first boundary may stand at the very beginning: as if a line had ended before.
            buffer: BytesMut::from(&b"\r\n"[..]),
            at: At::Preamble,
            parts: 0,
        }
    }

    /// More of the body.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.at != At::Over {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next event, if it is there.
    ///
    /// # Errors
    /// 400: this is no form. 413: it has too many parts.
    #[allow(
        clippy::should_implement_trait,
        reason = "an iterator would end where this only waits"
    )]
    pub fn next(&mut self) -> Result<Option<Event>, Refusal> {
        loop {
            match self.at {
                At::Preamble => match find(&self.buffer, &self.delimiter) {
                    Found::At(at) => {
                        self.cut(at + self.delimiter.len());
                        self.at = At::Boundary;
                    }
                    Found::Perhaps(_) if self.buffer.len() > HEAD_BYTES_MAX => {
                        return malformed("does not begin with its boundary");
                    }
                    Found::Perhaps(_) => return Ok(None),
                },
                At::Boundary => {
                    let padding = self
                        .buffer
                        .iter()
                        .take_while(|b| matches!(b, b' ' | b'\t'))
                        .count();
                    match self.buffer.get(padding..padding + 2) {
                        None if padding > HEAD_BYTES_MAX => return malformed("has a boundary without end"),
                        None => return Ok(None),
                        Some(b"\r\n") => {
                            self.cut(padding + 2);
                            self.at = At::Headers;
                        }
                        Some(b"--") if padding == 0 => {
                            self.buffer.clear();
                            self.at = At::Over;
                        }
                        Some(_) => return malformed("has a boundary that more follows on the same line"),
                    }
                }
                At::Headers => return self.headers(),
                At::Data => return Ok(self.data()),
                At::Over => return Ok(None),
            }
        }
    }

    /// Whether the body was complete where it ended.
    ///
    /// # Errors
    /// 400: it was not.
    pub fn finish(&self) -> Result<(), Refusal> {
        match self.at {
            At::Over => Ok(()),
            _ => malformed("ends before its last boundary"),
        }
    }

    fn headers(&mut self) -> Result<Option<Event>, Refusal> {
        let end = if self.buffer.starts_with(b"\r\n") {
            Some(0)
        } else {
            match find(&self.buffer, b"\r\n\r\n") {
                Found::At(at) => Some(at + 2),
                Found::Perhaps(_) => None,
            }
        };
        let Some(end) = end.filter(|end| *end <= HEAD_BYTES_MAX) else {
            if self.buffer.len() > HEAD_BYTES_MAX {
                return malformed("has a part with more than 8 KiB of headers");
            }
            return Ok(None);
        };
        self.parts += 1;
        if self.parts > PARTS_MAX {
            return Err(Refusal {
                message: format!("the form has more than {PARTS_MAX} parts"),
                ..Refusal::too_large(0)
            });
        }
        let head = self.buffer.split_to(end);
        self.cut(2);
        let part = read_part(&head)?;
        self.at = At::Data;
        // An empty part is followed by its boundary at once, whose line end is the one that closed the headers.
        Ok(Some(Event::Part(part)))
    }

    fn data(&mut self) -> Option<Event> {
        match find(&self.buffer, &self.delimiter) {
            Found::At(0) => {
                self.cut(self.delimiter.len());
                self.at = At::Boundary;
                Some(Event::End)
            }
            Found::At(at) | Found::Perhaps(at) if at > 0 => {
                Some(Event::Data(self.buffer.split_to(at).freeze()))
            }
            Found::At(_) | Found::Perhaps(_) => None,
        }
    }

    fn cut(&mut self, bytes: usize) {
        let _ = self.buffer.split_to(bytes.min(self.buffer.len()));
    }
}

enum Found {
    /// It stands here.
    At(usize),
    /// It does not, and cannot before here.
    Perhaps(usize),
}

fn find(text: &[u8], wanted: &[u8]) -> Found {
    let mut from = 0;
    while let Some(at) = text
        .get(from..)
        .and_then(|rest| rest.iter().position(|b| *b == b'\r'))
    {
        let at = from + at;
        let rest = text.get(at..).unwrap_or_default();
        if rest.starts_with(wanted) {
            return Found::At(at);
        }
        if wanted.starts_with(rest) {
            return Found::Perhaps(at);
        }
        from = at + 1;
    }
    Found::Perhaps(text.len())
}

fn malformed<T>(why: &str) -> Result<T, Refusal> {
    Err(Refusal::bad_request(format!("the form {why}")))
}

fn read_part(head: &[u8]) -> Result<Part, Refusal> {
    let Ok(head) = std::str::from_utf8(head) else {
        return malformed("has headers that are not UTF-8");
    };
    let mut disposition = None;
    let mut content_type = None;
    for line in head.split("\r\n").filter(|line| !line.is_empty()) {
        let Some((name, value)) = line.split_once(':') else {
            return malformed("has a part with a header that is none");
        };
        let slot = match name.trim().to_ascii_lowercase().as_str() {
            "content-disposition" => &mut disposition,
            "content-type" => &mut content_type,
            // A coding would make the data other bytes than it stands for; RFC 7578 4.7 does away with it.
            "content-transfer-encoding"
                if !["7bit", "8bit", "binary"].contains(&value.trim().to_ascii_lowercase().as_str()) =>
            {
                return malformed("has a part with a transfer encoding");
            }
            _ => continue,
        };
        if slot.replace(value.trim().to_owned()).is_some() {
            return malformed("has a part with a header that stands twice");
        }
    }
    let disposition = disposition.unwrap_or_default();
    let (kind, parameters) = disposition.split_once(';').unwrap_or((&disposition, ""));
    let name = parameter(parameters, "name").filter(|_| kind.trim().eq_ignore_ascii_case("form-data"));
    let Some(name) = name else {
        return malformed("has a part without a name");
    };
    Ok(Part {
        name,
        file_name: parameter(parameters, "filename"),
        content_type,
    })
}

/// One parameter of a header value: a token, or a quoted text as browsers write it (`%22` for a quote, and nothing escaped
/// but the backslash that some clients put before one).
fn parameter(parameters: &str, wanted: &str) -> Option<String> {
    let mut rest = parameters;
    loop {
        rest = rest.trim_start_matches([';', ' ', '\t']);
        let (name, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted_text(quoted)?,
            None => {
                let end = after.find(';').unwrap_or(after.len());
                let (value, next) = after.split_at(end);
                (value.trim().to_owned(), next)
            }
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = next;
    }
}

fn quoted_text(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices().peekable();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Some((value.replace("%22", "\""), text.get(at + 1..)?)),
            '\\' if matches!(characters.peek(), Some((_, '"' | '\\'))) => {
                value.extend(characters.next().map(|(_, escaped)| escaped));
            }
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests;
