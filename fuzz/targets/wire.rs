//! Wire → JSON: any bytes, any switches; what can be written is read back, and policies see what it says.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [switches, wire @ ..] = data else { return };
    let mut json = b"[".to_vec();
    let written = mesh_fuzz::message().to_json(wire, &mesh_fuzz::options(*switches), &mut json);
    assert!(written.is_ok() || json == b"[", "a failure leaves nothing behind");
    mesh_fuzz::round_trip(wire);
    mesh_fuzz::fields_agree(wire);
});
