//! The messages of an answer in gRPC's frames, compressed for callers that say they read it. Only what is made here is:
//! frames that pass are as the service made them.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use mesh_transcode::{frame, gzip};

use crate::coding::PACK_BYTES_MIN;
use crate::headers;
use crate::reason::Rejection;
use crate::translate::Context;
use crate::translate::message::bad_answer_frame;

/// The flag of a frame whose message is compressed.
const COMPRESSED: u8 = 1;

/// Frames messages.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Framer {
    gzip: bool,
}

impl Framer {
    /// For a caller that names what it reads in this header, commas between.
    pub(super) fn of(headers: &HeaderMap, accept: &HeaderName, context: &Context) -> Self {
        let named = |accept: &str| {
            let mut names = accept.split(',').map(str::trim);
            names.any(|name| name.eq_ignore_ascii_case(gzip::NAME))
        };
        Self {
            gzip: context.rest.compress
                && headers::joined(headers, accept).is_some_and(|accept| named(&accept)),
        }
    }

    /// What is to be said of the answer's frames.
    pub(super) fn encoding(self) -> Option<HeaderValue> {
        self.gzip.then(|| HeaderValue::from_static(gzip::NAME))
    }

    /// One message in its frame, compressed where that is worth it.
    ///
    /// # Errors
    /// It is over 4 GiB.
    pub(super) fn frame(self, message: &[u8]) -> Result<Bytes, Rejection> {
        match self.packed(message) {
            Some(framed) => Ok(framed),
            None => frame::encode(message).map_err(|error| bad_answer_frame(&error)),
        }
    }

    fn packed(self, message: &[u8]) -> Option<Bytes> {
        if !self.gzip || message.len() < PACK_BYTES_MIN {
            return None;
        }
        let packed = gzip::compress(message);
        let length = u32::try_from(packed.len()).ok()?;
        // What is compressed already gains nothing.
        (packed.len() < message.len()).then(|| {
            [&[COMPRESSED][..], &length.to_be_bytes(), &packed]
                .concat()
                .into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_compressed_where_that_is_asked_for_and_makes_them_smaller() {
        let framer = Framer { gzip: true };
        let large = [b'x'; PACK_BYTES_MIN];
        let framed = framer.frame(&large).unwrap();
        let (head, packed) = framed.split_at(frame::HEADER_BYTES);
        let length = u32::try_from(packed.len()).unwrap();
        assert_eq!(head, [&[1][..], &length.to_be_bytes()].concat());
        assert_eq!(gzip::decompress(packed, PACK_BYTES_MIN).unwrap(), large);
        let small = &large[1..];
        let noise = gzip::compress(
            &(0u32..2000)
                .flat_map(|n| n.wrapping_mul(n).to_be_bytes())
                .collect::<Vec<_>>(),
        );
        assert!(noise.len() >= PACK_BYTES_MIN);
        for plain in [small, &noise] {
            assert_eq!(framer.frame(plain).unwrap(), frame::encode(plain).unwrap());
        }
        let never = Framer::default();
        assert_eq!(never.frame(&large).unwrap(), frame::encode(&large).unwrap());
        assert_eq!(
            (never.encoding(), framer.encoding().unwrap()),
            (None, "gzip".parse().unwrap())
        );
    }
}
