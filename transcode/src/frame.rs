//! gRPC framing: one flag byte, four bytes of length, the message; again and again.
//!
//! The decoder takes the body in whatever pieces it comes in and gives messages back, without copying those that lie in
//! one piece.

use bytes::{Buf, Bytes, BytesMut};

use crate::status::Code;

/// Flag and length.
pub const HEADER_BYTES: usize = 5;

/// One message as it was framed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Whether `grpc-encoding` applies to the message.
    pub compressed: bool,
    /// The message.
    pub message: Bytes,
}

/// Why a body is not made of frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FrameError {
    /// A message is over the limit; it was not read.
    TooLarge {
        /// Its length, in bytes.
        bytes: usize,
        /// The limit, in bytes.
        bytes_max: usize,
    },
    /// The flag byte is neither 0 nor 1.
    BadFlag(u8),
    /// The body ended inside a frame.
    Truncated,
}

impl FrameError {
    /// The code a call ends with.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            FrameError::TooLarge { .. } => Code::ResourceExhausted,
            FrameError::BadFlag(_) | FrameError::Truncated => Code::Internal,
        }
    }
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FrameError::TooLarge { bytes, bytes_max } => {
                write!(f, "a message of {bytes} bytes is over the limit of {bytes_max}")
            }
            FrameError::BadFlag(flag) => write!(f, "{flag} is not a gRPC frame's flag"),
            FrameError::Truncated => f.write_str("the body ended inside a message"),
        }
    }
}

impl std::error::Error for FrameError {}

/// Cuts a body into frames.
///
/// ```text
///  push(piece) ─► next() ─► frame, frame, … None ─► push(piece) … ─► finish()
/// ```
#[derive(Debug)]
pub struct Decoder {
    bytes_max: usize,
    /// The header of the frame being read.
    header: Option<(bool, usize)>,
    /// What was gathered of the item (header or message) being read, where it came in several pieces.
    gathered: BytesMut,
    /// What was not looked at yet.
    rest: Bytes,
}

impl Decoder {
    /// A decoder that refuses messages of more than `bytes_max` bytes.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            header: None,
            gathered: BytesMut::new(),
            rest: Bytes::new(),
        }
    }

    /// Takes the next piece of the body. Best called once [`Decoder::next`] has given `None`.
    pub fn push(&mut self, piece: Bytes) {
        if self.rest.is_empty() {
            self.rest = piece;
        } else {
            let mut joined = BytesMut::with_capacity(self.rest.len() + piece.len());
            joined.extend_from_slice(&self.rest);
            joined.extend_from_slice(&piece);
            self.rest = joined.freeze();
        }
    }

    /// The next frame, or `None` until more is pushed.
    ///
    /// # Errors
    /// The frame is too large or is none. The body cannot be read further.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        let (compressed, length) = match self.header {
            Some(header) => header,
            None => match self.take(HEADER_BYTES) {
                Some(bytes) => *self.header.insert(read_header(bytes, self.bytes_max)?),
                None => return Ok(None),
            },
        };
        let Some(message) = self.take(length) else {
            return Ok(None);
        };
        self.header = None;
        Ok(Some(Frame { compressed, message }))
    }

    /// Called when the body has ended.
    ///
    /// # Errors
    /// It ended inside a frame.
    pub fn finish(&self) -> Result<(), FrameError> {
        if self.header.is_none() && self.gathered.is_empty() && self.rest.is_empty() {
            Ok(())
        } else {
            Err(FrameError::Truncated)
        }
    }

    /// The next `length` bytes: a slice of the piece they came in, or a copy where they came in several.
    fn take(&mut self, length: usize) -> Option<Bytes> {
        if self.gathered.is_empty() && self.rest.len() >= length {
            return Some(self.rest.split_to(length));
        }
        let more = (length - self.gathered.len()).min(self.rest.len());
        // Exactly as long as the item is: growing by doubling would hold a large message twice.
        if self.gathered.is_empty() && more > 0 {
            self.gathered.reserve(length);
        }
        self.gathered.extend_from_slice(&self.rest.split_to(more));
        (self.gathered.len() == length).then(|| self.gathered.split().freeze())
    }
}

fn read_header(mut header: Bytes, bytes_max: usize) -> Result<(bool, usize), FrameError> {
    let compressed = match header.get_u8() {
        0 => false,
        1 => true,
        flag => return Err(FrameError::BadFlag(flag)),
    };
    let bytes = usize::try_from(header.get_u32()).unwrap_or(usize::MAX);
    if bytes > bytes_max {
        return Err(FrameError::TooLarge { bytes, bytes_max });
    }
    Ok((compressed, bytes))
}

/// A message of this size is worth a piece of its own rather than a copy behind its header.
const LARGE_BYTES: usize = 16 << 10;

/// One uncompressed message as a body's two pieces, of which the second is empty unless the message is so large that it
/// would not be copied behind its header.
///
/// # Errors
/// The message is over 4 GiB.
pub fn pieces(message: Bytes) -> Result<(Bytes, Bytes), FrameError> {
    let compressed = false;
    Frame { compressed, message }.into_pieces()
}

impl Frame {
    /// As [`pieces`].
    ///
    /// # Errors
    /// The message is over 4 GiB.
    pub fn into_pieces(self) -> Result<(Bytes, Bytes), FrameError> {
        let header = header(self.compressed, self.message.len())?;
        if self.message.len() < LARGE_BYTES {
            return Ok((framed(header, &self.message), Bytes::new()));
        }
        Ok((Bytes::copy_from_slice(&header), self.message))
    }
}

fn header(compressed: bool, bytes: usize) -> Result<[u8; HEADER_BYTES], FrameError> {
    let length = u32::try_from(bytes).map_err(|_| FrameError::TooLarge {
        bytes,
        bytes_max: u32::MAX as usize,
    })?;
    let [a, b, c, d] = length.to_be_bytes();
    Ok([u8::from(compressed), a, b, c, d])
}

fn framed(header: [u8; HEADER_BYTES], message: &[u8]) -> Bytes {
    let mut framed = Vec::with_capacity(HEADER_BYTES + message.len());
    framed.extend_from_slice(&header);
    framed.extend_from_slice(message);
    framed.into()
}

/// Frames one uncompressed message.
///
/// # Errors
/// The message is over 4 GiB.
pub fn encode(message: &[u8]) -> Result<Bytes, FrameError> {
    Ok(framed(header(false, message.len())?, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(decoder: &mut Decoder) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(frame) = decoder.next().unwrap() {
            all.push(frame.message.to_vec());
        }
        all
    }

    #[test]
    fn any_way_of_cutting_a_body_gives_the_same_messages() {
        let messages: [&[u8]; 3] = [b"first", b"", b"a third one"];
        let body: Vec<u8> = messages.iter().flat_map(|m| encode(m).unwrap()).collect();
        for size in 1..=body.len() {
            let mut decoder = Decoder::new(100);
            let mut seen = Vec::new();
            for piece in body.chunks(size) {
                decoder.push(Bytes::copy_from_slice(piece));
                seen.extend(drain(&mut decoder));
            }
            assert_eq!(seen, messages, "pieces of {size}");
            decoder.finish().unwrap();
        }
    }

    #[test]
    fn a_message_that_lies_in_one_piece_is_not_copied() {
        let body = encode(&[7; 64]).unwrap();
        let place = body[HEADER_BYTES..].as_ptr();
        let mut decoder = Decoder::new(100);
        decoder.push(body);
        assert_eq!(decoder.next().unwrap().unwrap().message.as_ptr(), place);
    }

    #[test]
    fn a_large_message_is_a_piece_of_its_own_and_not_copied() {
        let small = pieces(Bytes::from_static(b"abc")).unwrap();
        assert_eq!(small, (encode(b"abc").unwrap(), Bytes::new()));
        let message = Bytes::from(vec![7; LARGE_BYTES]);
        let (head, rest) = pieces(message.clone()).unwrap();
        assert_eq!(rest.as_ptr(), message.as_ptr());
        assert_eq!([head, rest].concat(), encode(&message).unwrap());
    }

    #[test]
    fn a_message_over_the_limit_is_refused_by_its_header_alone() {
        let mut decoder = Decoder::new(4 << 20);
        decoder.push(Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff]));
        let error = decoder.next().unwrap_err();
        assert_eq!(error.code(), Code::ResourceExhausted);
    }

    #[test]
    fn a_flag_that_is_neither_0_nor_1_is_refused() {
        let mut decoder = Decoder::new(100);
        decoder.push(Bytes::from_static(&[2, 0, 0, 0, 0]));
        assert_eq!(decoder.next(), Err(FrameError::BadFlag(2)));
    }

    #[test]
    fn a_body_that_ends_inside_a_frame_is_seen() {
        let body = encode(b"abc").unwrap();
        for end in 1..body.len() {
            let mut decoder = Decoder::new(100);
            decoder.push(body.slice(..end));
            assert_eq!(decoder.next().unwrap(), None);
            assert_eq!(decoder.finish(), Err(FrameError::Truncated), "{end}");
        }
    }

    #[test]
    fn the_compressed_flag_is_handed_on() {
        let mut decoder = Decoder::new(100);
        decoder.push(Bytes::from_static(&[1, 0, 0, 0, 1, 9]));
        assert!(decoder.next().unwrap().unwrap().compressed);
    }
}
