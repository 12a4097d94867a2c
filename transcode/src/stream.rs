//! How a server stream is framed for a JSON caller: chosen by `Accept`, and never so that a failure can pass for success.
//!
//! | format | message | end | failure after the first message |
//! |---|---|---|---|
//! | JSON array | `[`m, then `,`m | `]` | the connection is broken off: the array cannot parse |
//! | NDJSON | m`\n` | | `{"error": status}\n` |
//! | Server-Sent Events | `data: `m`\n\n` | | `event: error\ndata: `status`\n\n` |
//!
//! A failure before the first message is an ordinary error with its own HTTP status: see [`StreamWriter::started`].

/// The framings there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamFormat {
    /// `application/json`
    JsonArray,
    /// `application/x-ndjson`, the default.
    Ndjson,
    /// `text/event-stream`
    Sse,
}

impl StreamFormat {
    /// Chooses by the `Accept` header: the first of the highest quality that names a framing; NDJSON where none does.
    #[must_use]
    pub fn choose(accept: Option<&str>) -> Self {
        let mut best = (0.0, StreamFormat::Ndjson);
        for range in accept.unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let format = match parts.next().unwrap_or_default().to_ascii_lowercase().as_str() {
                "application/json" => StreamFormat::JsonArray,
                "text/event-stream" => StreamFormat::Sse,
                "application/x-ndjson" | "application/*" | "*/*" => StreamFormat::Ndjson,
                _ => continue,
            };
            let quality = parts
                .find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")))
                .map_or(1.0, |q| q.parse::<f32>().unwrap_or(0.0));
            if quality > best.0 {
                best = (quality, format);
            }
        }
        best.1
    }

    /// The reply's content type.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            StreamFormat::JsonArray => "application/json",
            StreamFormat::Ndjson => "application/x-ndjson",
            StreamFormat::Sse => "text/event-stream",
        }
    }
}

/// What closes a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// These bytes, then the regular end of the body.
    Bytes(Vec<u8>),
    /// The body must be broken off: a truncated chunked coding on HTTP/1.1, RST_STREAM on HTTP/2.
    Abort,
}

/// Frames the messages of one reply. What it returns is sent, and flushed, at once.
#[derive(Debug, Clone)]
pub struct StreamWriter {
    format: StreamFormat,
    started: bool,
}

impl StreamWriter {
    /// A reply in this framing.
    #[must_use]
    pub fn new(format: StreamFormat) -> Self {
        Self {
            format,
            started: false,
        }
    }

    /// Whether a message was written. Until then an error is answered with its own HTTP status and body.
    #[must_use]
    pub fn started(&self) -> bool {
        self.started
    }

    /// Frames one message, which is JSON without line ends.
    #[must_use]
    pub fn message(&mut self, json: &[u8]) -> Vec<u8> {
        let first = !std::mem::replace(&mut self.started, true);
        let (before, after): (&[u8], &[u8]) = match self.format {
            StreamFormat::JsonArray if first => (b"[", b""),
            StreamFormat::JsonArray => (b",", b""),
            StreamFormat::Ndjson => (b"", b"\n"),
            StreamFormat::Sse => (b"data: ", b"\n\n"),
        };
        [before, json, after].concat()
    }

    /// Ends a reply that is complete.
    #[must_use]
    pub fn end(&mut self) -> Ending {
        Ending::Bytes(match self.format {
            StreamFormat::JsonArray if self.started => b"]".to_vec(),
            StreamFormat::JsonArray => b"[]".to_vec(),
            StreamFormat::Ndjson | StreamFormat::Sse => Vec::new(),
        })
    }

    /// Ends a reply that failed after its first message, with the body of [`crate::status::body`].
    #[must_use]
    pub fn error(&mut self, status_json: &[u8]) -> Ending {
        match self.format {
            StreamFormat::JsonArray => Ending::Abort,
            StreamFormat::Ndjson => Ending::Bytes([b"{\"error\":", status_json, b"}\n"].concat()),
            StreamFormat::Sse => Ending::Bytes([b"event: error\ndata: ", status_json, b"\n\n"].concat()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(format: StreamFormat, messages: &[&str]) -> String {
        let mut writer = StreamWriter::new(format);
        let mut all = Vec::new();
        for message in messages {
            all.extend(writer.message(message.as_bytes()));
        }
        let Ending::Bytes(end) = writer.end() else {
            panic!("a complete reply ends regularly")
        };
        all.extend(end);
        String::from_utf8(all).unwrap()
    }

    fn failed(format: StreamFormat) -> Ending {
        let mut writer = StreamWriter::new(format);
        assert!(!writer.started());
        let _ = writer.message(b"{}");
        assert!(writer.started());
        writer.error(b"{\"code\":14}")
    }

    #[test]
    fn the_framing_is_what_accept_asks_for() {
        use StreamFormat::{JsonArray, Ndjson, Sse};
        for (accept, format) in [
            (None, Ndjson),
            (Some(""), Ndjson),
            (Some("*/*"), Ndjson),
            (Some("text/html"), Ndjson),
            (Some("application/json"), JsonArray),
            (Some("Application/JSON; charset=utf-8"), JsonArray),
            (Some("application/x-ndjson"), Ndjson),
            (Some("text/event-stream"), Sse),
            (Some("text/html, application/json;q=0.9, */*;q=0.1"), JsonArray),
            (Some("application/json;q=0.1, text/event-stream"), Sse),
            (Some("application/json;q=0"), Ndjson),
            (Some("application/json, application/x-ndjson"), JsonArray),
        ] {
            assert_eq!(StreamFormat::choose(accept), format, "{accept:?}");
        }
    }

    #[test]
    fn a_json_array_opens_with_its_first_message_and_an_empty_one_is_whole() {
        assert_eq!(whole(StreamFormat::JsonArray, &[]), "[]");
        assert_eq!(whole(StreamFormat::JsonArray, &["1"]), "[1]");
        assert_eq!(whole(StreamFormat::JsonArray, &["1", "2"]), "[1,2]");
    }

    #[test]
    fn ndjson_and_events_close_each_message() {
        assert_eq!(whole(StreamFormat::Ndjson, &["1", "2"]), "1\n2\n");
        assert_eq!(whole(StreamFormat::Sse, &["1", "2"]), "data: 1\n\ndata: 2\n\n");
    }

    #[test]
    fn a_failure_after_the_first_message_is_never_hidden() {
        assert_eq!(failed(StreamFormat::JsonArray), Ending::Abort);
        let line = b"{\"error\":{\"code\":14}}\n".to_vec();
        assert_eq!(failed(StreamFormat::Ndjson), Ending::Bytes(line));
        let event = b"event: error\ndata: {\"code\":14}\n\n".to_vec();
        assert_eq!(failed(StreamFormat::Sse), Ending::Bytes(event));
    }
}
