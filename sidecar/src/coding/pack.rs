//! Compresses an answer as it goes out.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};

use super::Coding;

/// The fast end: half of the work is done while others wait for this thread.
const DEFLATE_LEVEL: u32 = 3;
/// About as dear as the above, and a little smaller.
const BROTLI_QUALITY: u32 = 3;
/// 512 KiB: what a stream of messages gains by looking back further is little, and each stream holds a window.
const BROTLI_WINDOW: u32 = 19;
const BROTLI_BUFFER_BYTES: usize = 4 << 10;
/// The fast end here too; it is smaller than the others' fast end for less.
const ZSTD_LEVEL: i32 = 1;
/// 128 KiB, as a power of two, for the same reason. A reader over HTTP has to have 8 MiB (RFC 9659).
const ZSTD_WINDOW_LOG: u32 = 17;

/// Compresses one body.
pub(crate) struct Packer(Option<Inner>);

enum Inner {
    Gzip(GzEncoder<Vec<u8>>),
    Deflate(ZlibEncoder<Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Packer {
    /// `None` where the library has no memory for it.
    pub(crate) fn new(coding: Coding) -> Option<Self> {
        let level = Compression::new(DEFLATE_LEVEL);
        Some(Self(Some(match coding {
            Coding::Gzip => Inner::Gzip(GzEncoder::new(Vec::new(), level)),
            Coding::Deflate => Inner::Deflate(ZlibEncoder::new(Vec::new(), level)),
            Coding::Brotli => Inner::Brotli(Box::new(brotli::CompressorWriter::new(
                Vec::new(),
                BROTLI_BUFFER_BYTES,
                BROTLI_QUALITY,
                BROTLI_WINDOW,
            ))),
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL).ok()?;
                encoder.window_log(ZSTD_WINDOW_LOG).ok()?;
                Inner::Zstd(encoder)
            }
        })))
    }

    /// Compresses more of the body. `flush`: all that was given so far can be read from what is given back.
    ///
    /// # Errors
    /// The library's own; writing into memory has none.
    pub(crate) fn pack(&mut self, bytes: &[u8], flush: bool) -> io::Result<Bytes> {
        let Some(inner) = &mut self.0 else {
            return Err(io::ErrorKind::WriteZero.into());
        };
        match inner {
            Inner::Gzip(encoder) => write(encoder, bytes, flush)?,
            Inner::Deflate(encoder) => write(encoder, bytes, flush)?,
            Inner::Brotli(encoder) => write(encoder.as_mut(), bytes, flush)?,
            Inner::Zstd(encoder) => write(encoder, bytes, flush)?,
        }
        let out = match inner {
            Inner::Gzip(encoder) => encoder.get_mut(),
            Inner::Deflate(encoder) => encoder.get_mut(),
            Inner::Brotli(encoder) => encoder.get_mut(),
            Inner::Zstd(encoder) => encoder.get_mut(),
        };
        Ok(std::mem::take(out).into())
    }

    /// What ends the body. Nothing after the first time.
    ///
    /// # Errors
    /// As [`Packer::pack`].
    pub(crate) fn finish(&mut self) -> io::Result<Bytes> {
        Ok(match self.0.take() {
            None => Bytes::new(),
            Some(Inner::Gzip(encoder)) => encoder.finish()?.into(),
            Some(Inner::Deflate(encoder)) => encoder.finish()?.into(),
            Some(Inner::Brotli(encoder)) => encoder.into_inner().into(),
            Some(Inner::Zstd(encoder)) => encoder.finish()?.into(),
        })
    }
}

fn write(encoder: &mut impl Write, bytes: &[u8], flush: bool) -> io::Result<()> {
    encoder.write_all(bytes)?;
    if flush { encoder.flush() } else { Ok(()) }
}
