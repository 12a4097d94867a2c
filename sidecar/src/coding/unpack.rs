//! Reads a compressed body in chunks of a bounded size.

use std::io::{self, Read};

use bytes::{Buf, Bytes, BytesMut};
use flate2::{Crc, Decompress, FlushDecompress, Status};
use ruzstd::decoding::errors::FrameDecoderError;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::{CHUNK_BYTES, Coding};

/// Longest head of a gzip member, with the file name and comment nobody needs, in bytes.
const GZIP_HEAD_BYTES_MAX: usize = 4 << 10;
const GZIP_TAIL_BYTES: usize = 8;
/// What a reader of zstd over HTTP must allow, and the most that one may demand (RFC 9659), in bytes.
const ZSTD_WINDOW_BYTES_MAX: u64 = 8 << 20;
const ZSTD_HEAD_BYTES_MAX: usize = 18;
const ZSTD_BLOCK_HEAD_BYTES: usize = 3;
const ZSTD_BLOCK_BYTES_MAX: usize = 128 << 10;
const BROTLI_BUFFER_BYTES: usize = 4 << 10;

/// What is wrong with a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// It is not what its coding says.
    Broken(&'static str),
    /// It asks for more memory than it may.
    TooLarge,
}

const BROKEN: Wrong = Wrong::Broken("the compressed body is broken");
const TRUNCATED: Wrong = Wrong::Broken("the compressed body ends too early");
const TRAILING: Wrong = Wrong::Broken("there is more behind the compressed body");

/// Reads one compressed body: [`Unpacker::push`] what came, take chunks with [`Unpacker::next`] until there is none; say
/// [`Unpacker::end`] at the end of the body, and take the rest.
pub(crate) struct Unpacker(Inner);

enum Inner {
    Gzip(Gzip),
    Deflate(Deflate),
    Brotli(Box<brotli::Decompressor<Queue>>),
    Zstd(Box<Zstd>),
}

impl Unpacker {
    pub(crate) fn new(coding: Coding) -> Self {
        Self(match coding {
            Coding::Gzip => Inner::Gzip(Gzip::default()),
            Coding::Deflate => Inner::Deflate(Deflate::default()),
            Coding::Brotli => Inner::Brotli(Box::new(brotli::Decompressor::new(
                Queue::default(),
                BROTLI_BUFFER_BYTES,
            ))),
            Coding::Zstd => Inner::Zstd(Box::default()),
        })
    }

    fn queue(&mut self) -> &mut Queue {
        match &mut self.0 {
            Inner::Gzip(gzip) => &mut gzip.queue,
            Inner::Deflate(deflate) => &mut deflate.queue,
            Inner::Brotli(brotli) => brotli.get_mut(),
            Inner::Zstd(zstd) => &mut zstd.queue,
        }
    }

    /// More of the body.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.queue().bytes.extend_from_slice(bytes);
    }

    /// The body has ended.
    pub(crate) fn end(&mut self) {
        self.queue().ended = true;
    }

    /// The next chunk, never empty, of at most [`CHUNK_BYTES`]. `None`: more of the body is needed, or, after its end,
    /// everything was given.
    ///
    /// # Errors
    /// It is not what its coding says.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, Wrong> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let count = match &mut self.0 {
            Inner::Gzip(gzip) => gzip.next(&mut chunk)?,
            Inner::Deflate(deflate) => deflate.next(&mut chunk)?,
            Inner::Brotli(brotli) => next_brotli(brotli, &mut chunk)?,
            Inner::Zstd(zstd) => zstd.next(&mut chunk)?,
        };
        chunk.truncate(count);
        Ok((count > 0).then(|| chunk.into()))
    }
}

/// What came and was not used yet.
#[derive(Default)]
struct Queue {
    bytes: BytesMut,
    ended: bool,
}

impl Queue {
    /// Nothing can be made of what is there: there must be more.
    fn wants_more(&self) -> Result<usize, Wrong> {
        if self.ended { Err(TRUNCATED) } else { Ok(0) }
    }

    /// The whole is read: there must not be more.
    fn is_over(&self) -> Result<usize, Wrong> {
        if self.bytes.is_empty() {
            Ok(0)
        } else {
            Err(TRAILING)
        }
    }
}

impl Read for Queue {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.bytes.is_empty() {
            return if self.ended {
                Ok(0)
            } else {
                Err(io::ErrorKind::WouldBlock.into())
            };
        }
        let count = into.len().min(self.bytes.len());
        self.bytes
            .split_to(count)
            .copy_to_slice(into.get_mut(..count).unwrap_or_default());
        Ok(count)
    }
}

fn next_brotli(brotli: &mut brotli::Decompressor<Queue>, chunk: &mut [u8]) -> Result<usize, Wrong> {
    match brotli.read(chunk) {
        Ok(0) => brotli.get_ref().is_over(),
        Ok(count) => Ok(count),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        Err(_) if brotli.get_ref().ended && brotli.get_ref().bytes.is_empty() => Err(TRUNCATED),
        Err(_) => Err(BROKEN),
    }
}

/// One step of inflating: how many bytes came out, and whether the stream is over.
fn inflate(state: &mut Decompress, queue: &mut Queue, chunk: &mut [u8]) -> Result<(usize, bool), Wrong> {
    let (before_in, before_out) = (state.total_in(), state.total_out());
    let status = state
        .decompress(&queue.bytes, chunk, FlushDecompress::None)
        .map_err(|_| BROKEN)?;
    let used = usize::try_from(state.total_in() - before_in).unwrap_or(0);
    queue.bytes.advance(used.min(queue.bytes.len()));
    let made = usize::try_from(state.total_out() - before_out).unwrap_or(0);
    Ok((made, status == Status::StreamEnd))
}

/// `deflate` means zlib (RFC 9110 8.4.1.2); some send bare deflate under this name, and everybody reads both.
#[derive(Default)]
struct Deflate {
    queue: Queue,
    state: Option<Decompress>,
    over: bool,
}

impl Deflate {
    fn next(&mut self, chunk: &mut [u8]) -> Result<usize, Wrong> {
        if self.over {
            return self.queue.is_over();
        }
        let state = match &mut self.state {
            Some(state) => state,
            empty => {
                let Some([first, second]) = self.queue.bytes.first_chunk::<2>() else {
                    return self.queue.wants_more();
                };
                let zlib = first & 0x0f == 8 && (u16::from(*first) << 8 | u16::from(*second)) % 31 == 0;
                empty.insert(Decompress::new(zlib))
            }
        };
        let (made, over) = inflate(state, &mut self.queue, chunk)?;
        self.over = over;
        match (made, over) {
            (0, true) => self.queue.is_over(),
            (0, false) => self.queue.wants_more(),
            (made, _) => Ok(made),
        }
    }
}

/// One member after the other (RFC 1952 2.2).
#[derive(Default)]
struct Gzip {
    queue: Queue,
    at: GzipAt,
    members: u64,
}

#[derive(Default)]
enum GzipAt {
    #[default]
    Head,
    Body(Box<(Decompress, Crc)>),
    Tail(Crc),
}

impl Gzip {
    fn next(&mut self, chunk: &mut [u8]) -> Result<usize, Wrong> {
        loop {
            match &mut self.at {
                GzipAt::Head if self.queue.bytes.is_empty() && self.members > 0 => return Ok(0),
                GzipAt::Head => {
                    let Some(length) = gzip_head(&self.queue.bytes)? else {
                        return self.queue.wants_more();
                    };
                    self.queue.bytes.advance(length);
                    self.members += 1;
                    self.at = GzipAt::Body(Box::new((Decompress::new(false), Crc::new())));
                }
                GzipAt::Body(body) => {
                    let (made, over) = inflate(&mut body.0, &mut self.queue, chunk)?;
                    body.1.update(chunk.get(..made).unwrap_or_default());
                    if over {
                        let crc = std::mem::take(&mut body.1);
                        self.at = GzipAt::Tail(crc);
                    }
                    if made > 0 {
                        return Ok(made);
                    }
                    if !over {
                        return self.queue.wants_more();
                    }
                }
                GzipAt::Tail(crc) => {
                    let Some(tail) = self.queue.bytes.first_chunk::<GZIP_TAIL_BYTES>() else {
                        return self.queue.wants_more();
                    };
                    let told = [crc.sum().to_le_bytes(), crc.amount().to_le_bytes()].concat();
                    if told != tail {
                        return Err(BROKEN);
                    }
                    self.queue.bytes.advance(GZIP_TAIL_BYTES);
                    self.at = GzipAt::Head;
                }
            }
        }
    }
}

/// The length of a member's head, once all of it is there (RFC 1952 2.3).
fn gzip_head(bytes: &[u8]) -> Result<Option<usize>, Wrong> {
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    const CHECK: u8 = 2;
    if !b"\x1f\x8b\x08".starts_with(bytes.get(..3).unwrap_or(bytes)) {
        return Err(BROKEN);
    }
    let Some(flags) = bytes.get(3).copied().filter(|_| bytes.len() >= 10) else {
        return Ok(None);
    };
    if flags & 0xe0 != 0 {
        return Err(BROKEN);
    }
    let mut length = 10;
    let missing = |length: usize| {
        if length > GZIP_HEAD_BYTES_MAX || bytes.len() > GZIP_HEAD_BYTES_MAX {
            Err(BROKEN)
        } else {
            Ok(None)
        }
    };
    if flags & EXTRA != 0 {
        let Some([low, high]) = bytes.get(length..).and_then(|rest| rest.first_chunk::<2>()) else {
            return missing(length);
        };
        length += 2 + usize::from(u16::from_le_bytes([*low, *high]));
    }
    for flag in [NAME, COMMENT] {
        if flags & flag != 0 {
            let text = bytes.get(length..).unwrap_or_default();
            let Some(end) = text.iter().position(|byte| *byte == 0) else {
                return missing(length);
            };
            length += end + 1;
        }
    }
    if flags & CHECK != 0 {
        length += 2;
    }
    if bytes.len() < length {
        return missing(length);
    }
    Ok(Some(length))
}

/// One frame after the other (RFC 8878 3.1), one block at a time: a block of four bytes can stand for 128 KiB.
#[derive(Default)]
struct Zstd {
    queue: Queue,
    decoder: Option<FrameDecoder>,
    /// Four bytes stand behind the last block of this frame.
    checksum: bool,
    frames: u64,
}

impl Zstd {
    fn next(&mut self, chunk: &mut [u8]) -> Result<usize, Wrong> {
        loop {
            let Some(decoder) = &mut self.decoder else {
                if self.queue.bytes.is_empty() && self.frames > 0 {
                    return Ok(0);
                }
                // The longest head there is; a frame that is shorter is not worth the wait for more of it.
                if self.queue.bytes.len() < ZSTD_HEAD_BYTES_MAX && !self.queue.ended {
                    return Ok(0);
                }
                if self.queue.bytes.is_empty() {
                    return Err(TRUNCATED);
                }
                self.decoder = Some(self.begin()?);
                continue;
            };
            let made = decoder.read(chunk).map_err(|_| BROKEN)?;
            if made > 0 {
                return Ok(made);
            }
            if decoder.is_finished() {
                // Only now is everything counted in.
                if self.checksum && decoder.get_checksum_from_data() != decoder.get_calculated_checksum() {
                    return Err(BROKEN);
                }
                self.decoder = None;
                continue;
            }
            let Some(block) = self.block() else {
                return self.queue.wants_more();
            };
            self.decode(block)?;
        }
    }

    fn begin(&mut self) -> Result<FrameDecoder, Wrong> {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(ZSTD_WINDOW_BYTES_MAX);
        let mut rest: &[u8] = &self.queue.bytes;
        decoder.init(&mut rest).map_err(|error| match error {
            FrameDecoderError::WindowSizeTooBig { .. } => Wrong::TooLarge,
            _ => BROKEN,
        })?;
        self.checksum = self
            .queue
            .bytes
            .get(4)
            .is_some_and(|descriptor| descriptor & 4 != 0);
        let used = self.queue.bytes.len() - rest.len();
        self.queue.bytes.advance(used);
        self.frames += 1;
        Ok(decoder)
    }

    /// The length of the next block with its head, and with the checksum behind the last one, once all of it is there.
    fn block(&self) -> Option<usize> {
        let [a, b, c] = *self.queue.bytes.first_chunk::<ZSTD_BLOCK_HEAD_BYTES>()?;
        let head = u32::from_le_bytes([a, b, c, 0]);
        let size = match (head >> 1) & 3 {
            // One byte, repeated.
            1 => 1,
            _ => usize::try_from(head >> 3)
                .unwrap_or(usize::MAX)
                .min(ZSTD_BLOCK_BYTES_MAX),
        };
        let last = head & 1 == 1;
        let tail = if last && self.checksum { 4 } else { 0 };
        let length = ZSTD_BLOCK_HEAD_BYTES + size + tail;
        (self.queue.bytes.len() >= length).then_some(length)
    }

    fn decode(&mut self, block: usize) -> Result<(), Wrong> {
        let bytes = self.queue.bytes.split_to(block);
        let mut source: &[u8] = &bytes;
        let Some(decoder) = &mut self.decoder else {
            return Err(BROKEN);
        };
        decoder
            .decode_blocks(&mut source, BlockDecodingStrategy::UptoBlocks(1))
            .map_err(|_| BROKEN)?;
        if !source.is_empty() {
            return Err(BROKEN);
        }
        Ok(())
    }
}
