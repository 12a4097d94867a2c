//! gRPC frames: however a body is cut, the same frames come out.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use mesh_transcode::frame::{Decoder, Frame, FrameError};

fn frames(body: &[u8], cut: usize) -> (Vec<Frame>, Result<(), FrameError>) {
    let mut decoder = Decoder::new(1 << 16);
    let mut frames = Vec::new();
    for piece in body.chunks(cut) {
        decoder.push(Bytes::copy_from_slice(piece));
        loop {
            match decoder.next() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Err(error)),
            }
        }
    }
    (frames, decoder.finish())
}

fuzz_target!(|data: &[u8]| {
    let [cut, body @ ..] = data else { return };
    let whole = frames(body, body.len().max(1));
    assert_eq!(whole, frames(body, usize::from(*cut) + 1));
    let again: Vec<u8> = whole
        .0
        .iter()
        .filter(|frame| !frame.compressed)
        .flat_map(|frame| mesh_transcode::frame::encode(&frame.message).unwrap_or_default())
        .collect();
    let plain: Vec<Frame> = whole.0.into_iter().filter(|frame| !frame.compressed).collect();
    assert_eq!(frames(&again, again.len().max(1)).0, plain);
});
