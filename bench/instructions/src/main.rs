//! The engines of the hot path, each run so many times: `engines DESCRIPTORS NAME TIMES`. Nothing is timed here; callgrind
//! counts from outside, twice with different times, so that the making of things falls out (`run` in this folder).

mod gates;
mod json;

use std::hint::black_box;
use std::process::ExitCode;

/// One engine: makes what it needs, then runs it so many times.
type Engine = fn(&[u8], usize);

const ENGINES: &[(&str, Engine)] = &[
    ("jwt-first-seen", gates::jwt_first_seen),
    ("jwt-remembered", gates::jwt_remembered),
    ("access-decide", gates::access_decide),
    ("headers-clean", gates::headers_clean),
    ("deadline-read", gates::deadline_read),
    ("trace-begin", gates::trace_begin),
    ("metrics-call-ended", gates::metrics_call_ended),
    ("balance-choose", gates::balance_choose),
    ("route-grpc", gates::route_grpc),
    ("route-rest", json::route_rest),
    ("json-to-wire", json::json_to_wire),
    ("wire-to-json", json::wire_to_json),
    ("json-to-wire-prost-reflect", json::json_to_wire_reflect),
    ("wire-to-json-prost-reflect", json::wire_to_json_reflect),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [descriptors, name, times] = arguments.as_slice() else {
        for (name, _) in ENGINES {
            println!("{name}");
        }
        return ExitCode::SUCCESS;
    };
    let engine = ENGINES.iter().find(|(known, _)| known == name);
    match (engine, times.parse(), std::fs::read(descriptors)) {
        (Some((_, engine)), Ok(times), Ok(descriptors)) => {
            engine(&descriptors, times);
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("engines DESCRIPTORS NAME TIMES; without arguments, the names are told");
            ExitCode::FAILURE
        }
    }
}

/// Runs it so many times, and lets nothing be optimised away.
fn repeat<T>(times: usize, mut run: impl FnMut() -> T) {
    for _ in 0..times {
        black_box(run());
    }
}
