//! Follows HTTP/2 frames in the bytes of a connection: the nine-byte heads only, no copy, no HPACK.

/// Length of the preface a client begins with (RFC 9113 3.4).
const PREFACE_BYTES: u8 = 24;
const HEAD_BYTES: usize = 9;

/// Types of frames that are counted (RFC 9113 6).
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;

/// What the head of a frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: u8,
    pub(crate) stream: u32,
}

/// Where in a run of frames one direction of a connection is.
#[derive(Debug)]
pub(crate) struct Walker {
    /// Bytes of the preface that have not come.
    preface: u8,
    /// The head under way, as far as it has come.
    head: [u8; HEAD_BYTES],
    have: u8,
    /// Bytes of the payload that have not come.
    payload: u32,
}

impl Walker {
    /// For what a client sends, which begins with the preface.
    pub(crate) fn of_client() -> Self {
        Self {
            preface: PREFACE_BYTES,
            ..Self::of_server()
        }
    }

    /// For what a server sends.
    pub(crate) fn of_server() -> Self {
        Self {
            preface: 0,
            head: [0; HEAD_BYTES],
            have: 0,
            payload: 0,
        }
    }

    /// Whether the last frame is complete, so that another one may follow.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.preface == 0 && self.have == 0 && self.payload == 0
    }

    /// Goes over bytes, wherever they are cut, and tells of every frame whose head is complete.
    pub(crate) fn walk(&mut self, mut bytes: &[u8], mut tell: impl FnMut(Head)) {
        loop {
            if self.preface > 0 {
                let skipped = bytes.len().min(usize::from(self.preface));
                self.preface -= u8::try_from(skipped).unwrap_or(self.preface);
                bytes = bytes.get(skipped..).unwrap_or_default();
            }
            if self.payload > 0 {
                let skipped = bytes.len().min(self.payload as usize);
                self.payload -= u32::try_from(skipped).unwrap_or(self.payload);
                bytes = bytes.get(skipped..).unwrap_or_default();
            }
            if bytes.is_empty() {
                return;
            }
            let have = usize::from(self.have);
            let taken = bytes.len().min(HEAD_BYTES - have);
            let (part, rest) = bytes.split_at(taken);
            self.head[have..have + taken].copy_from_slice(part);
            bytes = rest;
            if have + taken < HEAD_BYTES {
                self.have += u8::try_from(taken).unwrap_or(0);
                return;
            }
            let [a, b, c, kind, _, d, e, f, g] = self.head;
            self.have = 0;
            self.payload = u32::from_be_bytes([0, a, b, c]);
            tell(Head {
                kind,
                stream: u32::from_be_bytes([d & 0x7f, e, f, g]),
            });
        }
    }
}

/// A GOAWAY frame that asks the peer to calm down, with a word for those who read captures (RFC 9113 6.8, 7).
pub(crate) fn enhance_your_calm(last_stream: u32, word: &str) -> Vec<u8> {
    const ENHANCE_YOUR_CALM: u32 = 0xb;
    let length = u32::try_from(8 + word.len()).unwrap_or(8).to_be_bytes();
    let mut frame = Vec::with_capacity(HEAD_BYTES + 8 + word.len());
    frame.extend_from_slice(&length[1..]);
    frame.extend_from_slice(&[GOAWAY, 0, 0, 0, 0, 0]);
    frame.extend_from_slice(&last_stream.to_be_bytes());
    frame.extend_from_slice(&ENHANCE_YOUR_CALM.to_be_bytes());
    frame.extend_from_slice(word.as_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, stream: u32, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, 0];
        bytes.extend_from_slice(&stream.to_be_bytes());
        bytes.extend(std::iter::repeat_n(0xff, payload));
        bytes
    }

    #[test]
    fn frames_are_seen_wherever_the_bytes_are_cut() {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let wanted = [
            (SETTINGS, 0, 18),
            (HEADERS, 1, 300),
            (DATA, 1, 0),
            (PING, 0, 8),
            (DATA, 3, 16_384),
        ];
        for (kind, stream, payload) in wanted {
            bytes.extend(frame(kind, stream, payload));
        }
        for size in (1..40).chain([100, 1_000, bytes.len()]) {
            let mut walker = Walker::of_client();
            let mut seen = Vec::new();
            for part in bytes.chunks(size) {
                walker.walk(part, |head| seen.push((head.kind, head.stream)));
            }
            assert_eq!(
                seen,
                wanted.map(|(kind, stream, _)| (kind, stream)),
                "cut every {size}"
            );
            assert!(walker.is_between_frames());
        }
    }

    #[test]
    fn a_frame_that_is_not_complete_is_told_from_one_that_is() {
        let mut walker = Walker::of_server();
        let bytes = frame(DATA, 1, 10);
        for (at, byte) in bytes.iter().enumerate() {
            walker.walk(&[*byte], |_| {});
            assert_eq!(walker.is_between_frames(), at + 1 == bytes.len(), "after {at}");
        }
    }

    #[test]
    fn the_reserved_bit_is_no_part_of_a_stream() {
        let mut seen = None;
        Walker::of_server().walk(&frame(RST_STREAM, 0x8000_0005, 4), |head| {
            seen = Some(head.stream);
        });
        assert_eq!(seen, Some(5));
    }

    #[test]
    fn the_goodbye_is_one_whole_frame() {
        let mut walker = Walker::of_server();
        let mut seen = Vec::new();
        walker.walk(&enhance_your_calm(7, "too_many_pings"), |head| {
            seen.push(head.kind);
        });
        assert_eq!(seen, [GOAWAY]);
        assert!(walker.is_between_frames());
    }
}
