//! What is packed is unpacked the same, in whatever pieces; what is broken, cut short or a bomb is refused.

use std::io::Write;

use bytes::Bytes;

use super::*;

/// Text that compresses, and has parts that do not.
fn text(bytes: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut all = Vec::with_capacity(bytes);
    while all.len() < bytes {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let line = format!("{{\"symbol\":\"S{}\",\"price\":{}}}\n", state >> 28, state >> 12);
        all.extend_from_slice(line.as_bytes());
    }
    all.truncate(bytes);
    all
}

fn packed(coding: Coding, plain: &[u8]) -> Vec<u8> {
    let mut packer = Packer::new(coding).unwrap();
    let mut all = packer.pack(plain, false).unwrap().to_vec();
    all.extend(packer.finish().unwrap());
    all
}

/// Unpacks pieces of this size, and says how much could be read before the end was told.
fn unpacked(coding: Coding, packed: &[u8], size: usize) -> Result<(Vec<u8>, usize), Wrong> {
    let mut unpacker = Unpacker::new(coding);
    let mut all = Vec::new();
    let take = |unpacker: &mut Unpacker, all: &mut Vec<u8>| -> Result<(), Wrong> {
        while let Some(chunk) = unpacker.next()? {
            assert!(!chunk.is_empty() && chunk.len() <= CHUNK_BYTES);
            all.extend_from_slice(&chunk);
        }
        Ok(())
    };
    for piece in packed.chunks(size) {
        unpacker.push(piece);
        take(&mut unpacker, &mut all)?;
    }
    let before = all.len();
    unpacker.end();
    take(&mut unpacker, &mut all)?;
    Ok((all, before))
}

const ALL: [Coding; 4] = [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd];

#[test]
fn what_was_packed_is_unpacked_from_pieces_of_any_size() {
    for coding in ALL {
        for bytes in [0, 1, 100, 50_000, 300_000] {
            let plain = text(bytes);
            let packed = packed(coding, &plain);
            for size in [1, 2, 7, 1000, 1 << 20] {
                let (unpacked, _) = unpacked(coding, &packed, size).unwrap();
                assert!(unpacked == plain, "{coding:?} {bytes} in pieces of {size}");
            }
        }
    }
}

#[test]
fn a_body_that_is_cut_short_is_refused_wherever_it_is_cut() {
    for coding in ALL {
        let packed = packed(coding, &text(3_000));
        for end in 0..packed.len() {
            let told = unpacked(coding, &packed[..end], 64).map(|(all, _)| all.len());
            assert!(
                matches!(told, Err(Wrong::Broken(_))),
                "{coding:?} at {end}: {told:?}"
            );
        }
    }
}

#[test]
fn a_body_that_is_changed_or_followed_by_more_is_refused() {
    for coding in [Coding::Gzip, Coding::Deflate, Coding::Brotli] {
        let mut longer = packed(coding, b"plain");
        longer.push(7);
        assert!(unpacked(coding, &longer, 64).is_err(), "{coding:?}");
    }
    // What others write has checksums.
    let zstd =
        ruzstd::encoding::compress_to_vec(&text(3_000)[..], ruzstd::encoding::CompressionLevel::Fastest);
    assert_eq!(unpacked(Coding::Zstd, &zstd, 64).unwrap().0, text(3_000));
    let gzip = packed(Coding::Gzip, &text(3_000));
    for (coding, mut changed) in [(Coding::Gzip, gzip), (Coding::Zstd, zstd)] {
        let middle = changed.len() / 2;
        changed[middle] ^= 0x55;
        assert!(unpacked(coding, &changed, 64).is_err(), "{coding:?}");
    }
    for coding in ALL {
        assert!(
            unpacked(coding, b"this is not compressed at all, not in any way", 64).is_err(),
            "{coding:?}"
        );
    }
}

#[test]
fn bare_deflate_and_several_members_are_read_too() {
    let mut bare = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    bare.write_all(b"plain").unwrap();
    let bare = bare.finish().unwrap();
    assert_eq!(unpacked(Coding::Deflate, &bare, 1).unwrap().0, b"plain");
    for coding in [Coding::Gzip, Coding::Zstd] {
        let two = [packed(coding, b"one "), packed(coding, b"two")].concat();
        assert_eq!(unpacked(coding, &two, 3).unwrap().0, b"one two", "{coding:?}");
    }
}

#[test]
fn a_bomb_gives_one_chunk_at_a_time() {
    for coding in ALL {
        let bomb = packed(coding, &vec![0; 8 << 20]);
        assert!(bomb.len() < 64 << 10, "{coding:?}: {}", bomb.len());
        let mut unpacker = Unpacker::new(coding);
        unpacker.push(&bomb);
        let mut seen = 0;
        while seen < 100_000 {
            let chunk = unpacker.next().unwrap().unwrap();
            assert!(chunk.len() <= CHUNK_BYTES);
            seen += chunk.len();
        }
    }
}

#[test]
fn a_frame_that_asks_for_a_large_window_is_refused_before_it_gets_one() {
    // Magic, a descriptor with a window of its own, and a window of 2^31 bytes.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00];
    assert_eq!(unpacked(Coding::Zstd, &frame, 64).unwrap_err(), Wrong::TooLarge);
}

#[test]
fn what_was_flushed_can_be_read_at_once() {
    for coding in [Coding::Gzip, Coding::Deflate, Coding::Brotli] {
        let mut packer = Packer::new(coding).unwrap();
        let mut unpacker = Unpacker::new(coding);
        for number in 0..100 {
            let message = format!("{{\"number\":{number}}}\n");
            unpacker.push(&packer.pack(message.as_bytes(), true).unwrap());
            let mut seen = Vec::new();
            while let Some(chunk) = unpacker.next().unwrap() {
                seen.extend_from_slice(&chunk);
            }
            assert_eq!(Bytes::from(seen), message, "{coding:?}");
        }
        unpacker.push(&packer.finish().unwrap());
        unpacker.end();
        assert_eq!(unpacker.next(), Ok(None));
    }
}

#[test]
fn what_was_flushed_as_zstd_can_be_read_at_once_and_asks_for_a_small_window() {
    let mut packer = Packer::new(Coding::Zstd).unwrap();
    // Our own reader keeps a window's worth back, as it may for requests.
    let mut reader = zstd::stream::write::Decoder::new(Vec::new()).unwrap();
    reader.window_log_max(17).unwrap();
    for number in 0..10_000 {
        let message = format!("{{\"number\":{number},\"more\":\"{}\"}}\n", number * 7_919);
        reader
            .write_all(&packer.pack(message.as_bytes(), true).unwrap())
            .unwrap();
        reader.flush().unwrap();
        assert_eq!(std::mem::take(reader.get_mut()), message.as_bytes());
    }
    reader.write_all(&packer.finish().unwrap()).unwrap();
    reader.flush().unwrap();
    assert!(reader.get_ref().is_empty());
}

#[test]
fn the_coding_of_an_answer_is_what_accept_encoding_asks_for() {
    for (accept, coding) in [
        ("", None),
        ("gzip", Some(Coding::Gzip)),
        ("gzip, deflate, br", Some(Coding::Gzip)),
        ("gzip, deflate, br, zstd", Some(Coding::Zstd)),
        ("gzip, zstd;q=0.9", Some(Coding::Gzip)),
        ("zstd;q=0, gzip;q=0.1", Some(Coding::Gzip)),
        ("br;q=1.0, gzip;q=0.5", Some(Coding::Brotli)),
        ("BR", Some(Coding::Brotli)),
        ("x-gzip", Some(Coding::Gzip)),
        ("deflate", Some(Coding::Deflate)),
        ("zstd", Some(Coding::Zstd)),
        ("identity;q=0, zstd;q=0.1", Some(Coding::Zstd)),
        ("*", Some(Coding::Gzip)),
        ("identity;q=0, *;q=0.1", Some(Coding::Gzip)),
        ("gzip;q=0, *", Some(Coding::Brotli)),
        ("gzip;q=0", None),
        ("identity, gzip;q=0.5", None),
        ("identity;q=0.5, gzip;q=0.5", Some(Coding::Gzip)),
        ("gzip;q=nonsense", None),
    ] {
        assert_eq!(Coding::choose(accept), coding, "{accept}");
    }
}

#[test]
fn only_one_coding_that_is_known_is_read() {
    assert_eq!(Coding::of_content("identity"), Ok(None));
    assert_eq!(Coding::of_content(" GZIP "), Ok(Some(Coding::Gzip)));
    for bad in ["", "gzip, gzip", "compress", "aes128gcm", "gzip;q=1"] {
        assert!(Coding::of_content(bad).is_err(), "{bad}");
    }
}
