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
    /// Chooses by the `Accept` header, several of them joined by commas: the framing of the highest quality, where for each
    /// the most specific range that covers it counts (RFC 9110 12.5.1). Of equals the one that is named first is taken, and
    /// one that is named before one that only a wildcard covers; NDJSON where none is acceptable.
    #[must_use]
    pub fn choose(accept: Option<&str>) -> Self {
        let ranges: Vec<Range<'_>> = accept.unwrap_or_default().split(',').map(Range::read).collect();
        let offers = [StreamFormat::Ndjson, StreamFormat::JsonArray, StreamFormat::Sse];
        let mut best: Option<(f32, std::cmp::Reverse<usize>, StreamFormat)> = None;
        for offer in offers {
            let covering = ranges
                .iter()
                .enumerate()
                .filter_map(|(at, range)| Some((range.covers(offer)?, at, range.quality)))
                .max_by_key(|(specific, at, _)| (*specific, std::cmp::Reverse(*at)));
            let Some((specific, at, quality)) = covering.filter(|(_, _, quality)| *quality > 0.0) else {
                continue;
            };
            // What only a wildcard covers stands behind all that is named, in the order of the offers.
            let place = if specific == EXACT { at } else { usize::MAX };
            let better = best.as_ref().is_none_or(|(best_quality, best_place, _)| {
                quality > *best_quality
                    || (quality >= *best_quality && std::cmp::Reverse(place) > *best_place)
            });
            if better {
                best = Some((quality, std::cmp::Reverse(place), offer));
            }
        }
        best.map_or(StreamFormat::Ndjson, |(_, _, format)| format)
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

/// How much of a media type a range names; more wins.
const EXACT: u8 = 2;

/// One entry of `Accept`.
struct Range<'a> {
    kind: &'a str,
    subtype: &'a str,
    quality: f32,
}

impl<'a> Range<'a> {
    fn read(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let (kind, subtype) = parts
            .next()
            .and_then(|media| media.split_once('/'))
            .unwrap_or_default();
        let quality = parts.find_map(|part| {
            let (name, value) = part.split_once('=')?;
            name.trim().eq_ignore_ascii_case("q").then(|| value.trim())
        });
        Self {
            kind,
            subtype,
            quality: quality.map_or(1.0, weight),
        }
    }

    /// How specifically it covers a framing, if it does.
    fn covers(&self, format: StreamFormat) -> Option<u8> {
        let (kind, subtype) = format.content_type().split_once('/')?;
        let same = |own: &str, other: &str| own.eq_ignore_ascii_case(other);
        match (self.kind, self.subtype) {
            ("*", "*") => Some(0),
            (own, "*") if same(own, kind) => Some(1),
            (own, sub) if same(own, kind) && same(sub, subtype) => Some(EXACT),
            _ => None,
        }
    }
}

/// A quality value; what is none is not acceptable.
fn weight(text: &str) -> f32 {
    text.parse()
        .ok()
        .filter(|q| (0.0..=1.0).contains(q))
        .unwrap_or(0.0)
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
    /// The number of the last event, where events have ids.
    event: Option<u64>,
}

impl StreamWriter {
    /// A reply in this framing.
    #[must_use]
    pub fn new(format: StreamFormat) -> Self {
        Self {
            format,
            started: false,
            event: None,
        }
    }

    /// The same, with an `id:` for each event: its number in the stream, from 1. Other framings have no place for one.
    #[must_use]
    pub fn with_ids(mut self) -> Self {
        self.event = (self.format == StreamFormat::Sse).then_some(0);
        self
    }

    /// What says that the stream lives while it has nothing to say: a comment, which Server-Sent Events alone have. It
    /// does not count as a message.
    #[must_use]
    pub fn heartbeat(&self) -> Option<&'static [u8]> {
        (self.format == StreamFormat::Sse).then_some(b":\n\n")
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
        if let Some(event) = &mut self.event {
            *event += 1;
            return [format!("id: {event}\ndata: ").as_bytes(), json, b"\n\n"].concat();
        }
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
            (Some("application/x-ndjson, application/json"), Ndjson),
            (Some("application/json, text/plain, */*"), JsonArray),
            (Some("*/*, application/json;q=0.5"), Ndjson),
            (
                Some("*/*;q=0.5, application/json;q=0.1, text/event-stream;q=0.5"),
                Sse,
            ),
            (Some("application/json;q=0, */*"), Ndjson),
            (Some("application/x-ndjson;q=0, application/*"), JsonArray),
            (Some("text/*"), Sse),
            (Some("TEXT/EVENT-STREAM ; Q=0.3 , application/json; q=0.2"), Sse),
            (Some("text/event-stream;q=2, application/json;q=0.1"), JsonArray),
            (Some("text/event-stream;q=NaN"), Ndjson),
            (Some(",,;q=1,/,"), Ndjson),
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
    fn events_are_numbered_where_asked_and_nothing_else_is() {
        let numbered = |format| {
            let mut writer = StreamWriter::new(format).with_ids();
            [writer.message(b"1"), writer.message(b"2")].concat()
        };
        assert_eq!(
            numbered(StreamFormat::Sse),
            b"id: 1\ndata: 1\n\nid: 2\ndata: 2\n\n"
        );
        assert_eq!(numbered(StreamFormat::Ndjson), b"1\n2\n");
    }

    #[test]
    fn a_heartbeat_is_a_comment_and_no_message() {
        let writer = StreamWriter::new(StreamFormat::Sse);
        assert_eq!(writer.heartbeat(), Some(&b":\n\n"[..]));
        assert!(!writer.started());
        for format in [StreamFormat::JsonArray, StreamFormat::Ndjson] {
            assert_eq!(StreamWriter::new(format).heartbeat(), None);
        }
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
