//! Exact look-up of a name: one multiplication, one probe, one comparison.

/// Names and what they stand for. Made once; a name given first is kept.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// By hash, one more than the index of an entry; 0 is free. At most half are taken.
    slots: Box<[u32]>,
    entries: Box<[(Box<[u8]>, u32)]>,
}

impl Names {
    pub(crate) fn new<'a>(names: impl IntoIterator<Item = (&'a str, u32)>) -> Self {
        let mut names: Vec<(Box<[u8]>, u32)> = names
            .into_iter()
            .map(|(name, value)| (name.as_bytes().into(), value))
            .collect();
        let mut slots = vec![0u32; (names.len() * 2).next_power_of_two().max(2)].into_boxed_slice();
        let mut kept: Vec<(Box<[u8]>, u32)> = Vec::with_capacity(names.len());
        for (name, value) in names.drain(..) {
            let free = probe(&slots, &kept, &name);
            if let Err(Some(free)) = free
                && let (Some(slot), Ok(index)) = (slots.get_mut(free), u32::try_from(kept.len() + 1))
            {
                *slot = index;
                kept.push((name, value));
            }
        }
        Self {
            slots,
            entries: kept.into_boxed_slice(),
        }
    }

    /// What this name stands for.
    pub(crate) fn get(&self, name: &[u8]) -> Option<u32> {
        probe(&self.slots, &self.entries, name).ok()
    }
}

/// The value of a name, or the free slot where it would stand.
fn probe(slots: &[u32], entries: &[(Box<[u8]>, u32)], name: &[u8]) -> Result<u32, Option<usize>> {
    let mask = slots.len().wrapping_sub(1);
    let mut at = hash(name) & mask;
    loop {
        match slots.get(at) {
            None => return Err(None),
            Some(0) => return Err(Some(at)),
            Some(index) => {
                if let Some((known, value)) = entries.get(*index as usize - 1)
                    && **known == *name
                {
                    return Ok(*value);
                }
            }
        }
        at = (at + 1) & mask;
    }
}

/// Mixes the length and the first, middle and last eight bytes. Schemas choose the names in the table, callers only what is
/// looked up, so nobody gains by collisions.
fn hash(name: &[u8]) -> usize {
    let word = |from: usize| -> u64 {
        match name.get(from..from + 8).and_then(|bytes| bytes.try_into().ok()) {
            Some(bytes) => u64::from_le_bytes(bytes),
            None => name.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)),
        }
    };
    let length = name.len();
    let (first, middle, last) = match length {
        0..=7 => (word(0), 0, 0),
        8..=16 => (word(0), 0, word(length - 8)),
        _ => (word(0), word(length / 2 - 4), word(length - 8)),
    };
    let mixed = (first ^ last.rotate_left(23) ^ middle.rotate_left(41) ^ length as u64)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    usize::try_from(mixed >> 40).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_and_no_other() {
        let all: Vec<String> = (0..2000)
            .map(|number| format!("a_name_that_is_long_{number}_x"))
            .collect();
        let names = Names::new((0..).zip(&all).map(|(number, name)| (name.as_str(), number)));
        for (number, name) in (0..).zip(&all) {
            assert_eq!(names.get(name.as_bytes()), Some(number));
            assert_eq!(names.get(format!("{name}y").as_bytes()), None);
        }
        assert_eq!(names.get(b""), None);
        assert_eq!(Names::default().get(b"a"), None);
        assert_eq!(Names::new([]).get(b""), None);
    }

    #[test]
    fn the_first_of_two_equal_names_is_kept() {
        let names = Names::new([("a", 1), ("", 7), ("a", 2)]);
        assert_eq!((names.get(b"a"), names.get(b"")), (Some(1), Some(7)));
    }
}
