//! The engines of the hot path, each run so many times: `engines DESCRIPTORS NAME TIMES`. Nothing is timed here; callgrind
//! counts from outside what happens within [`repeat`], twice with different times, so that the making of things and the first
//! time fall out (`run` in this folder).

mod gates;
mod json;

use std::hint::black_box;
use std::process::ExitCode;

/// Makes what it needs of descriptors, then runs so many times.
type Run = dyn Fn(&[u8], usize);
/// The same, for those that need nothing else.
type Plain = fn(&[u8], usize);

/// One engine.
struct Engine {
    name: String,
    /// How many routes its schema has; `None` for the bench's own.
    routes: Option<usize>,
    /// Both times it is counted with.
    times: (usize, usize),
    run: Box<Run>,
}

/// Numbers of routes and bytes of JSON over which growth is shown: `rest-routes` and `rest-sizes` of `bench/run` have the same.
const ROUTES: [usize; 4] = [10, 100, 1_000, 10_000];
const JSON_BYTES: [usize; 6] = [100, 1_000, 10_000, 100_000, 1_000_000, 4_000_000];
const TIMES: (usize, usize) = (50, 150);
/// About how much JSON is counted: callgrind takes a second for some megabytes.
const JSON_BYTES_COUNTED: usize = 1_000_000;

/// All of them, in the order in which they are shown.
fn engines() -> Vec<Engine> {
    let plain: [(&str, Plain); 14] = [
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
    let plain = plain.into_iter().map(|(name, run)| Engine {
        name: name.into(),
        routes: None,
        times: TIMES,
        run: Box::new(run),
    });
    let routes = ROUTES.into_iter().map(|routes| Engine {
        name: format!("route-rest-of-{routes}"),
        routes: Some(routes),
        times: TIMES,
        run: Box::new(move |descriptors, times| json::route_rest_of(descriptors, routes, times)),
    });
    let sized = |name: &str, run: fn(&[u8], usize, usize)| {
        JSON_BYTES.map(|bytes| Engine {
            name: format!("{name}-of-{bytes}"),
            routes: None,
            times: match JSON_BYTES_COUNTED / bytes {
                0 => (1, 2),
                times => (1 + times.min(TIMES.0), 1 + 2 * times.min(TIMES.0)),
            },
            run: Box::new(move |descriptors, times| run(descriptors, bytes, times)),
        })
    };
    let read = sized("json-to-wire", json::json_to_wire_of);
    let write = sized("wire-to-json", json::wire_to_json_of);
    plain.chain(routes).chain(read).chain(write).collect()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let engines = engines();
    let [descriptors, name, times] = arguments.as_slice() else {
        for engine in engines {
            let (few, many) = engine.times;
            println!("{} {} {few} {many}", engine.name, engine.routes.unwrap_or(0));
        }
        return ExitCode::SUCCESS;
    };
    let engine = engines.iter().find(|known| known.name == *name);
    match (engine, times.parse(), std::fs::read(descriptors)) {
        (Some(engine), Ok(times), Ok(descriptors)) => {
            (engine.run)(&descriptors, times);
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!(
                "engines DESCRIPTORS NAME TIMES; without arguments, names are told, with their routes (0: as they are) and times"
            );
            ExitCode::FAILURE
        }
    }
}

/// Runs it so many times, and lets nothing be optimised away. Never inlined: callgrind counts what happens within, by name.
#[inline(never)]
fn repeat<T>(times: usize, mut run: impl FnMut() -> T) {
    for _ in 0..times {
        black_box(run());
    }
}
