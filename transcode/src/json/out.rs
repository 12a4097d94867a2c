//! The message being written, in one pass, though the length of a nested message stands before it and is known after it.
//!
//! ```text
//!  open: one byte is kept free       close, under 128: the length goes there       close, longer: a hole, widened at the end
//!  … key ␣ content                   … key 5 content                               … key ␣ content ……   holes: (at, length)
//! ```
//!
//! Widening all holes is one pass from the end, in place, so the cost stays linear however deep messages nest.

use crate::wire;

/// The message so far.
#[derive(Debug, Default)]
pub(crate) struct Out {
    pub(crate) bytes: Vec<u8>,
    /// Lengths that do not fit in the byte kept free.
    holes: Vec<Hole>,
    /// What was written and does not count.
    cuts: Vec<Cut>,
    /// How many bytes longer than `bytes` the message will be (modulo 2^64, since cuts make it shorter).
    shift: usize,
}

#[derive(Debug, Clone, Copy)]
struct Hole {
    at: usize,
    length: usize,
}

#[derive(Debug, Clone, Copy)]
struct Cut {
    from: usize,
    to: usize,
}

/// A place in the message to come back to: the start of a nested one, or of something that may not stay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) at: usize,
    holes: usize,
    cuts: usize,
    shift: usize,
}

impl Mark {
    /// The same, seen from another place; nothing between them was long or cut.
    pub(crate) fn moved_to(self, at: usize) -> Self {
        Self { at, ..self }
    }
}

impl Out {
    /// Here.
    #[inline]
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            at: self.bytes.len(),
            holes: self.holes.len(),
            cuts: self.cuts.len(),
            shift: self.shift,
        }
    }

    /// Takes back everything since `mark`.
    pub(crate) fn rewind(&mut self, mark: Mark) {
        self.bytes.truncate(mark.at);
        self.holes.truncate(mark.holes);
        self.cuts.truncate(mark.cuts);
        self.shift = mark.shift;
    }

    /// Keeps a byte free for a length; what follows is measured from the mark.
    #[inline]
    pub(crate) fn open(&mut self) -> Mark {
        self.bytes.push(0);
        self.mark()
    }

    /// Fills in the length of what was written since `open`.
    #[inline]
    pub(crate) fn close(&mut self, mark: Mark) {
        let length = self.length_since(mark);
        if let Ok(short) = u8::try_from(length)
            && short < 0x80
        {
            if let Some(byte) = self.bytes.get_mut(mark.at.wrapping_sub(1)) {
                *byte = short;
            }
            return;
        }
        self.holes.push(Hole {
            at: mark.at.wrapping_sub(1),
            length,
        });
        self.shift = self.shift.wrapping_add(wire::varint_len(length as u64) - 1);
    }

    fn length_since(&self, mark: Mark) -> usize {
        (self.bytes.len() - mark.at).wrapping_add(self.shift.wrapping_sub(mark.shift))
    }

    /// What stands between two marks does not count any more. The marks lie in one nested message, and nothing between them
    /// is open.
    pub(crate) fn cut(&mut self, from: Mark, to: Mark) {
        self.cuts.push(Cut {
            from: from.at,
            to: to.at,
        });
        let widened = to.shift.wrapping_sub(from.shift);
        let gone = (to.at - from.at).wrapping_add(widened);
        self.shift = self.shift.wrapping_sub(gone);
    }

    /// How long the message will be at least.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.bytes.len().wrapping_add(self.shift)
    }

    /// The message, with every length in its place.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.holes.sort_unstable_by_key(|hole| hole.at);
        if !self.cuts.is_empty() {
            return self.rebuilt();
        }
        let mut from_end = self.bytes.len();
        let mut to_end = self.len();
        self.bytes.resize(to_end, 0);
        for hole in self.holes.iter().rev() {
            let content = hole.at + 1..from_end;
            let to = to_end - content.len();
            self.bytes.copy_within(content, to);
            let width = wire::varint_len(hole.length as u64);
            if let Some(place) = self.bytes.get_mut(to - width..to) {
                wire::fill_varint(place, hole.length as u64);
            }
            from_end = hole.at;
            to_end = to - width;
        }
        self.bytes
    }

    /// The same where parts are left out: rare, and by a copy.
    fn rebuilt(mut self) -> Vec<u8> {
        self.cuts
            .sort_unstable_by_key(|cut| (cut.from, std::cmp::Reverse(cut.to)));
        let mut whole = Vec::with_capacity(self.len());
        let mut at = 0;
        let mut cuts = self.cuts.iter().peekable();
        let mut holes = self.holes.iter().peekable();
        loop {
            // The next thing to happen; a cut that lies in one already made is none.
            let cut = cuts.peek().map_or(usize::MAX, |cut| cut.from);
            let hole = holes.peek().map_or(usize::MAX, |hole| hole.at);
            let next = cut.min(hole);
            if next == usize::MAX {
                break;
            }
            if next >= at {
                whole.extend_from_slice(self.bytes.get(at..next).unwrap_or_default());
            }
            if cut <= hole {
                at = at.max(cuts.next().map_or(at, |cut| cut.to));
            } else if let Some(hole) = holes.next()
                && hole.at >= at
            {
                wire::put_varint(&mut whole, hole.length as u64);
                at = hole.at + 1;
            }
        }
        whole.extend_from_slice(self.bytes.get(at..).unwrap_or_default());
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nested lengths of every width, against the obvious way of writing them.
    #[test]
    fn lengths_of_every_width_come_out_right_at_every_depth() {
        for size in [0, 1, 100, 126, 127, 128, 129, 16_380, 16_384, 70_000, 2_100_000] {
            let mut out = Out::default();
            let mut expected = vec![7u8; size];
            let marks: Vec<Mark> = (0..5)
                .map(|depth| {
                    out.bytes.push(depth);
                    out.open()
                })
                .collect();
            out.bytes.resize(out.bytes.len() + size, 7);
            for (depth, mark) in (0u8..5).zip(marks).rev() {
                out.bytes.push(9);
                out.close(mark);
                expected.push(9);
                let mut whole = vec![depth];
                wire::put_varint(&mut whole, expected.len() as u64);
                whole.extend_from_slice(&expected);
                expected = whole;
            }
            assert_eq!(out.len(), expected.len());
            assert!(out.finish() == expected, "{size}");
        }
    }

    #[test]
    fn siblings_are_widened_each_in_its_place() {
        let mut out = Out::default();
        let mut expected = Vec::new();
        for size in [200, 3, 300, 0, 20_000] {
            out.bytes.push(1);
            let mark = out.open();
            out.bytes.resize(out.bytes.len() + size, 5);
            out.close(mark);
            expected.push(1);
            wire::put_varint(&mut expected, size as u64);
            expected.resize(expected.len() + size, 5);
        }
        assert!(out.finish() == expected);
    }

    #[test]
    fn what_is_taken_back_or_cut_leaves_no_trace() {
        let mut out = Out::default();
        out.bytes.push(1);
        let whole = out.open();
        let put = |out: &mut Out, size: usize| {
            let from = out.mark();
            out.bytes.push(2);
            let mark = out.open();
            out.bytes.resize(out.bytes.len() + size, 5);
            out.close(mark);
            (from, out.mark())
        };
        let first = put(&mut out, 300);
        put(&mut out, 200);
        let third = put(&mut out, 2);
        out.cut(first.0, first.1);
        out.cut(third.0, third.1);
        let (from, _) = put(&mut out, 999);
        out.rewind(from);
        out.close(whole);
        let mut expected = vec![1];
        wire::put_varint(&mut expected, 203);
        expected.push(2);
        wire::put_varint(&mut expected, 200);
        expected.resize(expected.len() + 200, 5);
        assert_eq!(out.finish(), expected);
    }
}
