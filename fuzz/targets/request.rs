//! Paths, queries and bodies of a request: method, target and body, each on a line of its own.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_transcode::Recognised;

fuzz_target!(|data: &[u8]| {
    let [switches, rest @ ..] = data else { return };
    let mut lines = rest.splitn(3, |byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let (method, target, body) = (line(), line(), line());
    let (Ok(method), Ok(target)) = (std::str::from_utf8(method), std::str::from_utf8(target)) else {
        return;
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let options = mesh_fuzz::options(*switches);
    if let Recognised::Found(found) = mesh_fuzz::router().recognise(method, path) {
        if let Ok(wire) = found.request(query, None, body, &options) {
            mesh_fuzz::round_trip(&wire);
            let _ = found.response(&wire, &options);
        }
        if let Ok(wire) = found.first_message(query, body, &options) {
            mesh_fuzz::round_trip(&wire);
        }
    }
});
