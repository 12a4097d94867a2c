//! Content codings: what callers compress, and what is compressed for them. Pure: bytes in, bytes out.
//!
//! ```text
//!  Content-Encoding ─► Coding ─► Unpacker: push(bytes) ─► next() ─► at most CHUNK_BYTES at a time
//!  Accept-Encoding ─► Coding::choose ─► Packer: pack(bytes), each flushed ─► finish()
//! ```
//!
//! | coding | read | written | library |
//! |---|---|---|---|
//! | gzip, deflate | yes | yes | flate2 on miniz_oxide: Rust throughout |
//! | br | yes | yes | brotli: Rust throughout |
//! | zstd | yes | yes | ruzstd reads, in Rust; zstd's own library writes, in C ([decision](../../../docs/decisions/0006-zstd.md)) |
//!
//! An unpacker never makes more than one chunk before it is asked again, so whoever counts decoded bytes counts before they
//! are there: a bomb is over where the limit is, not where memory is.

mod pack;
#[cfg(test)]
mod tests;
mod unpack;

pub(crate) use pack::Packer;
pub(crate) use unpack::{Unpacker, Wrong};

/// Most that is unpacked at once, in bytes.
pub(crate) const CHUNK_BYTES: usize = 16 << 10;
/// Answers below this are sent as they are: what a coding saves, its own head costs.
pub(crate) const PACK_BYTES_MIN: usize = 1 << 10;

/// A way to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

impl Coding {
    /// Those that are read, as in `Accept-Encoding`.
    pub(crate) const READ: &str = "gzip, deflate, br, zstd";

    /// The one named by `Content-Encoding`; `identity` is none.
    ///
    /// # Errors
    /// What is wrong with it: it is not known, or there are several.
    pub(crate) fn of_content(text: &str) -> Result<Option<Self>, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "identity" => Ok(None),
            "gzip" | "x-gzip" => Ok(Some(Coding::Gzip)),
            "deflate" => Ok(Some(Coding::Deflate)),
            "br" => Ok(Some(Coding::Brotli)),
            "zstd" => Ok(Some(Coding::Zstd)),
            _ => Err("the content encoding must be one of gzip, deflate, br and zstd, once".into()),
        }
    }

    /// The one to write by `Accept-Encoding`, several of them joined by commas; `None` to send as it is. Of equals the
    /// cheaper one is taken; `*` stands for those that everybody had before zstd.
    pub(crate) fn choose(accept: &str) -> Option<Self> {
        let mut any = None;
        let mut said = [None; 4];
        let offers = [Coding::Zstd, Coding::Gzip, Coding::Brotli, Coding::Deflate];
        let mut identity = None;
        for entry in accept.split(',') {
            let mut parts = entry.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default().to_ascii_lowercase();
            let quality = parts
                .find_map(|part| {
                    let (name, value) = part.split_once('=')?;
                    name.trim().eq_ignore_ascii_case("q").then(|| value.trim())
                })
                .map_or(1.0, |value| {
                    value
                        .parse()
                        .ok()
                        .filter(|q| (0.0..=1.0).contains(q))
                        .unwrap_or(0.0)
                });
            match name.as_str() {
                "*" => any = Some(quality),
                "identity" => identity = Some(quality),
                name => {
                    let at = offers.iter().position(|offer| {
                        offer.name() == name || (name == "x-gzip" && *offer == Coding::Gzip)
                    });
                    if let Some(slot) = at.and_then(|at| said.get_mut(at)) {
                        *slot = Some(quality);
                    }
                }
            }
        }
        let mut best: Option<(f32, Coding)> = None;
        for (offer, said) in offers.into_iter().zip(said) {
            let any = any.filter(|_| offer != Coding::Zstd);
            let quality: f32 = said.or(any).unwrap_or(0.0);
            if quality > 0.0 && best.is_none_or(|(best, _)| quality > best) {
                best = Some((quality, offer));
            }
        }
        // Who would rather have it plain gets it plain.
        best.filter(|(quality, _)| identity.is_none_or(|identity: f32| *quality >= identity))
            .map(|(_, coding)| coding)
    }

    /// As in `Content-Encoding`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Deflate => "deflate",
            Coding::Brotli => "br",
            Coding::Zstd => "zstd",
        }
    }
}

/// Whether a body of this content type gains by being compressed: text in whatever form, and messages. Pictures, films and archives are
/// compressed already.
pub(crate) fn is_worthwhile(content_type: &str) -> bool {
    let media = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    media.starts_with("text/")
        || media.ends_with("+json")
        || media.ends_with("+xml")
        || matches!(
            media.as_str(),
            "application/json"
                | "application/proto"
                | "application/x-ndjson"
                | "application/javascript"
                | "application/xml"
                | "application/wasm"
        )
}
