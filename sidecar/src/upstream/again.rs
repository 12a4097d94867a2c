//! What is kept of a request's body until its answer begins, so that one which no service looked at can be sent again.
//!
//! ```text
//!  body ── piece ──► stream            refused unseen ──► Again: the kept pieces, then what was not read yet
//!             └────► Kept              over 64 KiB, or answered ──► forgotten
//! ```

use std::collections::VecDeque;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};

use crate::body::{BoxError, RequestBody};

/// Most that is kept of one request. Whoever sends more is told, and sends it again itself.
pub(crate) const KEPT_BYTES_MAX: usize = 64 << 10;

/// A piece under this is copied behind those before it: many small ones would hold much more than their bytes.
const SMALL_BYTES: usize = 4 << 10;

/// The pieces of a body that were sent.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pieces: VecDeque<Bytes>,
    /// Small ones behind them.
    gathered: BytesMut,
    bytes: usize,
}

impl Kept {
    /// Keeps a piece; false once there are too many bytes to keep.
    pub(crate) fn keep(&mut self, piece: &Bytes) -> bool {
        self.bytes += piece.len();
        if self.bytes > KEPT_BYTES_MAX {
            return false;
        }
        // Most bodies are one piece, which needs no copy.
        if piece.len() < SMALL_BYTES && !self.pieces.is_empty() {
            self.gathered.extend_from_slice(piece);
        } else {
            self.take_gathered();
            self.pieces.push_back(piece.clone());
        }
        true
    }

    fn take_gathered(&mut self) {
        if !self.gathered.is_empty() {
            self.pieces.push_back(self.gathered.split().freeze());
        }
    }

    /// The whole body once more; `rest` is what was not read of it.
    pub(crate) fn again(mut self, rest: Option<RequestBody>) -> RequestBody {
        self.take_gathered();
        let rest = rest.filter(|rest| !rest.is_end_stream());
        if self.pieces.is_empty() {
            return rest.unwrap_or(RequestBody::Empty);
        }
        RequestBody::Again(Box::new(Again {
            pieces: self.pieces,
            rest,
        }))
    }
}

/// A body that is sent another time.
pub(crate) struct Again {
    pieces: VecDeque<Bytes>,
    rest: Option<RequestBody>,
}

impl Again {
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(piece) = self.pieces.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match &mut self.rest {
            Some(rest) => std::pin::Pin::new(rest).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.pieces.is_empty() && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn whole(body: RequestBody) -> Bytes {
        let mut whole = std::pin::pin!(body.collect());
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        match whole.as_mut().poll(cx) {
            Poll::Ready(Ok(whole)) => whole.to_bytes(),
            _ => Bytes::new(),
        }
    }

    fn keep(pieces: &[&'static str]) -> Kept {
        let mut kept = Kept::default();
        assert!(
            pieces
                .iter()
                .all(|piece| kept.keep(&Bytes::from_static(piece.as_bytes())))
        );
        kept
    }

    #[test]
    fn a_body_that_was_sent_in_part_is_whole_again() {
        let rest = || RequestBody::Full(Bytes::from_static(b"c"), Bytes::from_static(b"d"));
        assert_eq!(whole(keep(&["a", "b"]).again(Some(rest()))), "abcd");
        assert_eq!(whole(keep(&["a", "b"]).again(None)), "ab");
        assert_eq!(whole(keep(&[]).again(Some(rest()))), "cd");
        assert!(keep(&[]).again(None).is_end_stream());
        let sent = RequestBody::Full(Bytes::new(), Bytes::new());
        assert!(keep(&[]).again(Some(sent)).is_end_stream());
    }

    #[test]
    fn many_small_pieces_are_kept_in_few() {
        let mut kept = Kept::default();
        let (large, small) = (Bytes::from(vec![b'l'; SMALL_BYTES]), Bytes::from_static(b"s"));
        let parts = [&small, &large, &small, &small, &small, &large, &small, &small];
        assert!(parts.iter().all(|piece| kept.keep(piece)));
        for _ in 0..10_000 {
            assert!(kept.keep(&small));
        }
        let RequestBody::Again(again) = kept.again(None) else {
            panic!()
        };
        assert_eq!(again.pieces.len(), 5);
        let whole = parts.iter().map(|piece| piece.len()).sum::<usize>() + 10_000;
        assert_eq!(again.pieces.iter().map(Bytes::len).sum::<usize>(), whole);
    }

    #[test]
    fn a_body_over_its_bound_is_not_kept() {
        let mut kept = Kept::default();
        assert!(kept.keep(&Bytes::from(vec![0; KEPT_BYTES_MAX])));
        assert!(!kept.keep(&Bytes::from_static(b"x")));
    }
}
