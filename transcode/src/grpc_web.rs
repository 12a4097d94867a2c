//! gRPC-Web: gRPC's frames with the trailers as a last frame of their own, and all of it in base64 where a caller asks.
//!
//! ```text
//!  0 length message  0 length message  …  0x80 length "grpc-status: 0\r\ngrpc-message: …\r\n"
//! ```
//!
//! The messages themselves are gRPC's own, so between a gRPC-Web caller and a gRPC service bytes pass as they are; a
//! [`Walker`] sees to it that they are frames.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::frame::{FrameError, HEADER_BYTES};

/// The flag of the frame that holds the trailers.
const TRAILERS: u8 = 0x80;
/// Letters of one group of base64.
const GROUP: usize = 4;

/// The frame that ends an answer: the trailers, as lines of HTTP/1.1 headers.
///
/// # Errors
/// The trailers are over 4 GiB.
pub fn trailers<'a>(trailers: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![TRAILERS, 0, 0, 0, 0];
    for (name, value) in trailers {
        frame.extend_from_slice(name.as_bytes());
        frame.extend_from_slice(b": ");
        frame.extend_from_slice(value);
        frame.extend_from_slice(b"\r\n");
    }
    let bytes = frame.len() - HEADER_BYTES;
    let length = u32::try_from(bytes).map_err(|_| FrameError::TooLarge {
        bytes,
        bytes_max: u32::MAX as usize,
    })?;
    frame[1..HEADER_BYTES].copy_from_slice(&length.to_be_bytes());
    Ok(frame)
}

/// One piece of an answer in base64. Each piece is padded on its own, so that the caller can read it at once; that is
/// allowed anywhere in a body.
#[must_use]
pub fn encode_text(piece: &[u8]) -> String {
    BASE64_STANDARD.encode(piece)
}

/// Why a body is not base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextError {
    /// Something that is no letter of base64, or padding in a wrong place.
    Malformed,
    /// The body ended inside a group of four letters.
    Truncated,
}

impl std::fmt::Display for TextError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            TextError::Malformed => "the body is not base64",
            TextError::Truncated => "the body ended inside a group of base64",
        })
    }
}

impl std::error::Error for TextError {}

/// Reads a request body in base64, in whatever pieces it comes, with padding wherever a sender flushed.
#[derive(Debug, Default)]
pub struct TextDecoder {
    /// Letters of a group that is not whole yet.
    kept: Vec<u8>,
}

impl TextDecoder {
    /// Takes the next piece and gives what can be read of it.
    ///
    /// # Errors
    /// The body is not base64.
    pub fn push(&mut self, piece: &[u8]) -> Result<Vec<u8>, TextError> {
        let mut read = Vec::with_capacity(piece.len() / GROUP * 3 + 3);
        let mut rest = piece;
        if !self.kept.is_empty() {
            let (begin, after) = rest.split_at((GROUP - self.kept.len()).min(rest.len()));
            self.kept.extend_from_slice(begin);
            rest = after;
            if self.kept.len() < GROUP {
                return Ok(read);
            }
            decode(&self.kept, &mut read)?;
            self.kept.clear();
        }
        let (whole, part) = rest.split_at(rest.len() - rest.len() % GROUP);
        decode(whole, &mut read)?;
        self.kept.extend_from_slice(part);
        Ok(read)
    }

    /// Called when the body has ended.
    ///
    /// # Errors
    /// It ended inside a group.
    pub fn finish(&self) -> Result<(), TextError> {
        if self.kept.is_empty() {
            Ok(())
        } else {
            Err(TextError::Truncated)
        }
    }
}

/// Decodes whole groups; padding may end any of them.
fn decode(groups: &[u8], read: &mut Vec<u8>) -> Result<(), TextError> {
    let mut rest = groups;
    while !rest.is_empty() {
        let end = match rest.iter().position(|letter| *letter == b'=') {
            Some(padding) => (padding / GROUP + 1) * GROUP,
            None => rest.len(),
        };
        let (run, after) = rest.split_at(end.min(rest.len()));
        BASE64_STANDARD
            .decode_vec(run, read)
            .map_err(|_| TextError::Malformed)?;
        rest = after;
    }
    Ok(())
}

/// Watches frames go by without holding them: every flag is 0 or 1, every message within the limit, and the body ends
/// where a frame ends.
#[derive(Debug)]
pub struct Walker {
    bytes_max: usize,
    /// What has been seen of the header being read.
    header: [u8; HEADER_BYTES],
    header_bytes: usize,
    /// Bytes of the message that are still to come.
    left: usize,
}

impl Walker {
    /// A walker that refuses messages of more than `bytes_max` bytes.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            header: [0; HEADER_BYTES],
            header_bytes: 0,
            left: 0,
        }
    }

    /// Looks at the next piece of the body.
    ///
    /// # Errors
    /// It is no frame, or holds one that is too large. Nothing of this piece should go on.
    pub fn pass(&mut self, piece: &[u8]) -> Result<(), FrameError> {
        let mut rest = piece;
        while !rest.is_empty() {
            if self.left > 0 {
                let skipped = self.left.min(rest.len());
                self.left -= skipped;
                rest = rest.get(skipped..).unwrap_or_default();
                continue;
            }
            let (taken, after) = rest.split_at((HEADER_BYTES - self.header_bytes).min(rest.len()));
            for (at, byte) in self.header.iter_mut().skip(self.header_bytes).zip(taken) {
                *at = *byte;
            }
            self.header_bytes += taken.len();
            rest = after;
            if self.header_bytes == HEADER_BYTES {
                self.left = self.read_header()?;
                self.header_bytes = 0;
            }
        }
        Ok(())
    }

    /// Called when the body has ended.
    ///
    /// # Errors
    /// It ended inside a frame.
    pub fn finish(&self) -> Result<(), FrameError> {
        if self.left == 0 && self.header_bytes == 0 {
            Ok(())
        } else {
            Err(FrameError::Truncated)
        }
    }

    fn read_header(&self) -> Result<usize, FrameError> {
        let [flag, length @ ..] = self.header;
        if flag > 1 {
            return Err(FrameError::BadFlag(flag));
        }
        let bytes = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if bytes > self.bytes_max {
            return Err(FrameError::TooLarge {
                bytes,
                bytes_max: self.bytes_max,
            });
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::encode;

    #[test]
    fn trailers_are_lines_in_a_frame_of_their_own() {
        let frame = trailers([("grpc-status", &b"5"[..]), ("x-a", b"b c")]).unwrap();
        let lines = b"grpc-status: 5\r\nx-a: b c\r\n";
        let header = [0x80, 0, 0, 0, u8::try_from(lines.len()).unwrap()];
        assert_eq!(frame, [&header[..], lines].concat());
        assert_eq!(trailers([]).unwrap(), [0x80, 0, 0, 0, 0]);
    }

    #[test]
    fn any_way_of_cutting_and_padding_a_text_gives_the_same_bytes() {
        let bytes: Vec<u8> = (0..=255).collect();
        for flush in [1, 2, 3, 5, 100, 256] {
            let text: String = bytes.chunks(flush).map(encode_text).collect();
            for size in [1, 2, 3, 4, 5, 7, text.len()] {
                let mut decoder = TextDecoder::default();
                let mut read = Vec::new();
                for piece in text.as_bytes().chunks(size) {
                    read.extend(decoder.push(piece).unwrap());
                }
                decoder.finish().unwrap();
                assert_eq!(read, bytes, "flushed every {flush}, pieces of {size}");
            }
        }
    }

    #[test]
    fn what_is_not_base64_is_refused() {
        for bad in ["AA==A===", "A=AA", "====", "AA*A", "AA A", "AB==", "_-__"] {
            let mut decoder = TextDecoder::default();
            assert_eq!(decoder.push(bad.as_bytes()), Err(TextError::Malformed), "{bad}");
        }
        let mut decoder = TextDecoder::default();
        decoder.push(b"AAAAA").unwrap();
        assert_eq!(decoder.finish(), Err(TextError::Truncated));
    }

    #[test]
    fn a_walker_sees_frames_however_they_are_cut() {
        let body: Vec<u8> = [&b"first"[..], b"", b"a third one"]
            .iter()
            .flat_map(|message| encode(message).unwrap())
            .collect();
        for size in 1..=body.len() {
            let mut walker = Walker::new(11);
            for piece in body.chunks(size) {
                walker.pass(piece).unwrap();
            }
            walker.finish().unwrap();
        }
        for end in (1..body.len()).filter(|end| ![10, 15].contains(end)) {
            let mut walker = Walker::new(11);
            walker.pass(&body[..end]).unwrap();
            assert_eq!(walker.finish(), Err(FrameError::Truncated), "{end}");
        }
    }

    #[test]
    fn a_walker_refuses_what_no_request_holds() {
        for flag in [2, 0x80, 0xff] {
            assert_eq!(
                Walker::new(100).pass(&[flag, 0, 0, 0, 0]),
                Err(FrameError::BadFlag(flag))
            );
        }
        let too_large = FrameError::TooLarge {
            bytes: 101,
            bytes_max: 100,
        };
        assert_eq!(Walker::new(100).pass(&[0, 0, 0, 0, 101]), Err(too_large));
    }
}
