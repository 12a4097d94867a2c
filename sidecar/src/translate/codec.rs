//! How messages are written inside of frames and bodies, and how they are compressed there.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use mesh_transcode::frame::Frame;
use mesh_transcode::gzip::{self, GzipError};
use mesh_transcode::{Method, Options};

use crate::headers::GRPC_ACCEPT_ENCODING;
use crate::reason::{Reason, Rejection};

/// Encodings of messages that are read here.
pub(crate) const READ: &str = "identity,gzip";

/// How a caller writes messages.
#[derive(Clone)]
pub(crate) enum Codec {
    /// As protobuf.
    Proto,
    /// As the JSON of this method's messages.
    Json(Arc<Method>),
}

impl Codec {
    pub(crate) fn is_json(&self) -> bool {
        matches!(self, Codec::Json(_))
    }

    /// A caller's message as protobuf.
    ///
    /// # Errors
    /// It does not fit the method.
    pub(crate) fn read(&self, message: Bytes, options: &Options) -> Result<Bytes, Rejection> {
        match self {
            Codec::Proto => Ok(message),
            Codec::Json(method) => Ok(method.input().to_wire(&message, options)?.into()),
        }
    }

    /// A service's message as the caller reads it.
    ///
    /// # Errors
    /// It is not what the method says.
    pub(crate) fn write(&self, message: Bytes, options: &Options) -> Result<Bytes, Rejection> {
        match self {
            Codec::Proto => Ok(message),
            Codec::Json(method) => {
                let mut json = Vec::new();
                method.output().to_json(&message, options, &mut json)?;
                Ok(json.into())
            }
        }
    }
}

/// How messages are compressed, where they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    Gzip,
    /// Something we cannot read.
    Unknown,
}

impl Encoding {
    /// What a header names.
    pub(crate) fn of(headers: &HeaderMap, name: &HeaderName) -> Self {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Encoding::Identity,
            (Some(value), None) => match value.as_bytes() {
                b"" | b"identity" => Encoding::Identity,
                name if name == gzip::NAME.as_bytes() => Encoding::Gzip,
                _ => Encoding::Unknown,
            },
            (Some(_), Some(_)) => Encoding::Unknown,
        }
    }

    /// A message out of a frame, decompressed.
    ///
    /// # Errors
    /// The frame is compressed, and not in a way that was named and that we can read; or too much comes out.
    pub(crate) fn open(self, frame: Frame, bytes_max: usize) -> Result<Bytes, Unopened> {
        match self {
            _ if !frame.compressed => Ok(frame.message),
            Encoding::Gzip if frame.message.is_empty() => Ok(frame.message),
            Encoding::Gzip => gzip::decompress(&frame.message, bytes_max)
                .map(Bytes::from)
                .map_err(Unopened::Gzip),
            Encoding::Identity | Encoding::Unknown => Err(Unopened::Unknown),
        }
    }
}

/// Why a message was not decompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unopened {
    Unknown,
    Gzip(GzipError),
}

impl Unopened {
    /// As a caller's fault.
    pub(crate) fn of_request(self) -> Rejection {
        match self {
            Unopened::Unknown => Rejection::new(
                Reason::NotTranslatable,
                "a message is compressed in a way that is not read here; gzip and identity are",
            )
            .or_instead(GRPC_ACCEPT_ENCODING, READ),
            Unopened::Gzip(error @ GzipError::TooLarge(_)) => {
                Rejection::new(Reason::RequestTooLarge, error.to_string())
            }
            Unopened::Gzip(error @ GzipError::Malformed) => {
                Rejection::new(Reason::RequestUnreadable, error.to_string())
            }
        }
    }

    /// As a service's fault.
    pub(crate) fn of_answer(self) -> Rejection {
        match self {
            Unopened::Unknown => Rejection::new(
                Reason::ResponseUnreadable,
                "the service compressed its answer in a way that was not asked for",
            ),
            Unopened::Gzip(error @ GzipError::TooLarge(_)) => {
                Rejection::new(Reason::ResponseTooLarge, error.to_string())
            }
            Unopened::Gzip(error @ GzipError::Malformed) => {
                Rejection::new(Reason::ResponseUnreadable, error.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(compressed: bool, message: &[u8]) -> Frame {
        Frame {
            compressed,
            message: Bytes::copy_from_slice(message),
        }
    }

    #[test]
    fn a_frame_is_opened_as_its_header_says() {
        let gzipped = gzip::compress(b"message");
        for encoding in [Encoding::Identity, Encoding::Gzip, Encoding::Unknown] {
            assert_eq!(
                encoding.open(frame(false, b"message"), 100).unwrap(),
                &b"message"[..]
            );
        }
        assert_eq!(
            Encoding::Gzip.open(frame(true, &gzipped), 100).unwrap(),
            &b"message"[..]
        );
        for encoding in [Encoding::Identity, Encoding::Unknown] {
            assert_eq!(encoding.open(frame(true, &gzipped), 100), Err(Unopened::Unknown));
        }
        let too_large = Encoding::Gzip.open(frame(true, &gzipped), 6).unwrap_err();
        assert_eq!(too_large.of_request().reason, Reason::RequestTooLarge);
        assert_eq!(too_large.of_answer().reason, Reason::ResponseTooLarge);
        let malformed = Encoding::Gzip.open(frame(true, b"x"), 6).unwrap_err();
        assert_eq!(malformed.of_request().reason, Reason::RequestUnreadable);
        assert_eq!(malformed.of_answer().reason, Reason::ResponseUnreadable);
    }

    #[test]
    fn encodings_are_told_by_exactly_one_header() {
        let name = HeaderName::from_static("grpc-encoding");
        let with = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(&name, http::HeaderValue::from_static(value));
            }
            Encoding::of(&headers, &name)
        };
        assert_eq!(with(&[]), Encoding::Identity);
        assert_eq!(with(&["identity"]), Encoding::Identity);
        assert_eq!(with(&["gzip"]), Encoding::Gzip);
        assert_eq!(with(&["zstd"]), Encoding::Unknown);
        assert_eq!(with(&["gzip", "gzip"]), Encoding::Unknown);
    }
}
