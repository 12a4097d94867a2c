//! gzip, as gRPC's frames and Connect's bodies use it: whole messages, counted as they come out.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;

/// Its name in headers.
pub const NAME: &str = "gzip";

/// Why bytes were not decompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GzipError {
    /// They are no gzip, or something follows it.
    Malformed,
    /// More would come out than the limit, in bytes.
    TooLarge(usize),
}

impl std::fmt::Display for GzipError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            GzipError::Malformed => f.write_str("a message is not the gzip it says it is"),
            GzipError::TooLarge(bytes_max) => {
                write!(f, "a decompressed message is over the limit of {bytes_max} bytes")
            }
        }
    }
}

impl std::error::Error for GzipError {}

/// Decompresses one message; never makes more than `bytes_max` bytes of it.
///
/// # Errors
/// It is no gzip, or too large.
pub fn decompress(bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, GzipError> {
    let mut decoder = GzDecoder::new(bytes);
    let mut message = Vec::new();
    let one_more = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    (&mut decoder)
        .take(one_more)
        .read_to_end(&mut message)
        .map_err(|_| GzipError::Malformed)?;
    if message.len() > bytes_max {
        return Err(GzipError::TooLarge(bytes_max));
    }
    if !decoder.into_inner().is_empty() {
        return Err(GzipError::Malformed);
    }
    Ok(message)
}

/// Compresses one message, quickly rather than well.
#[must_use]
pub fn compress(message: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(message.len() / 2), Compression::fast());
    // Writing into memory does not fail.
    let _ = encoder.write_all(message);
    encoder.finish().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_compressed_comes_back() {
        for message in [&b""[..], b"a", &[7; 100_000]] {
            assert_eq!(decompress(&compress(message), 100_000).unwrap(), message);
        }
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit() {
        let bomb = compress(&vec![0; 10 << 20]);
        assert!(bomb.len() < 100 << 10);
        assert_eq!(decompress(&bomb, 1 << 20), Err(GzipError::TooLarge(1 << 20)));
        assert_eq!(decompress(&compress(&[0; 11]), 10), Err(GzipError::TooLarge(10)));
        assert_eq!(decompress(&compress(&[0; 10]), 10).unwrap().len(), 10);
    }

    #[test]
    fn what_is_no_gzip_is_refused() {
        let good = compress(b"a message");
        let mut followed = good.clone();
        followed.push(0);
        let mut changed = good.clone();
        let checksum = changed.len() - 8;
        changed[checksum] ^= 1;
        for bad in [&b""[..], b"plain", &good[..good.len() - 1], &followed, &changed] {
            assert_eq!(decompress(bad, 1000), Err(GzipError::Malformed), "{bad:?}");
        }
    }
}
