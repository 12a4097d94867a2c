//! JSON → wire: whole and in pieces the same; what is read survives the round trip.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [switches, cut, json @ ..] = data else { return };
    let options = mesh_fuzz::options(*switches);
    let message = mesh_fuzz::message();
    let whole = message.to_wire(json, &options);
    let mut reader = message.reader(&options);
    let pieces = json
        .chunks(usize::from(*cut) + 1)
        .try_for_each(|piece| reader.push(piece))
        .and_then(|()| reader.finish());
    match (&whole, &pieces) {
        (Ok(whole), Ok(pieces)) => assert!(whole == pieces),
        (Err(whole), Err(pieces)) => assert_eq!(whole, pieces),
        _ => panic!("whole {whole:?}, in pieces {pieces:?}"),
    }
    if let Ok(wire) = whole {
        mesh_fuzz::round_trip(&wire);
    }
});
