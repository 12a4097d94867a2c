//! Times JSON to protobuf and back of the bench message, ours beside prost-reflect's: `json-library DESCRIPTORS SECONDS`.
//!
//! ```text
//!  block:  ours theirs ours theirs …        each a batch of calls, timed as one
//!          └ median of ours over median of theirs: one ratio; the median of all blocks' is told, the least and the most
//! ```
//!
//! Both take turns in one process, so that whatever slows the machine slows both. The allocator is the product's.

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_bench_kit::message;
use mesh_bench_kit::net::Outcome;
use mesh_transcode::{Options, Recognised, Router, Schema};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Ratios that are taken, of each direction.
const BLOCKS: u32 = 15;
/// Turns a block has at least, however short of time it is.
const TURNS_MIN: usize = 3;
/// How long one batch of calls shall take: far above what a clock costs, far below what a scheduler gives.
const BATCH: Duration = Duration::from_micros(400);

/// One way of doing it.
type Way<'a> = &'a dyn Fn() -> Vec<u8>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.as_slice() {
        [descriptors, seconds] => run(descriptors, seconds),
        _ => Err("json-library DESCRIPTORS SECONDS".into()),
    };
    match done {
        Ok(seen) => {
            println!("{seen}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("json-library: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(descriptors: &str, seconds: &str) -> Outcome<Value> {
    let descriptors = std::fs::read(descriptors).map_err(|error| format!("{descriptors}: {error}"))?;
    let seconds: f64 = seconds
        .parse()
        .map_err(|_| format!("{seconds}: no number of seconds"))?;
    let whole = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
    let schema = Schema::compile(&descriptors).map_err(|faults| format!("{faults:?}"))?;
    let router = Router::build([((), Arc::new(schema))]).0;
    let Recognised::Found(echo) = router.recognise("POST", "/v1/orders:echo") else {
        return Err("the schema has no echo".into());
    };
    let pool = DescriptorPool::decode(descriptors.as_slice()).map_err(|error| error.to_string())?;
    let order = pool
        .get_message_by_name("bench.v1.Order")
        .ok_or("the schema has no order")?;
    let options = Options::default();
    let wire = message::order();
    let json = reflect_write(&order, &wire);
    let ours_read = || {
        echo.request("", Some("application/json"), black_box(&json), &options)
            .unwrap_or_default()
    };
    let ours_write = || echo.response(black_box(&wire), &options).unwrap_or_default();
    let theirs_read = || reflect_read(&order, black_box(&json));
    let theirs_write = || reflect_write(&order, black_box(&wire));
    // What is compared does the same.
    let parsed = |text: Vec<u8>| serde_json::from_slice::<Value>(&text).ok();
    if parsed(ours_write()).is_none() || parsed(ours_write()) != parsed(theirs_write()) {
        return Err("the JSON of both differs".into());
    }
    // A map's entries come in any order.
    if parsed(reflect_write(&order, &ours_read())) != parsed(reflect_write(&order, &theirs_read())) {
        return Err("the messages of both differ".into());
    }
    let each = whole / (2 * BLOCKS);
    let (read, write) = (
        Compared::of(&ours_read, &theirs_read, each),
        Compared::of(&ours_write, &theirs_write, each),
    );
    let mut seen = serde_json::Map::new();
    read.tell("read", &mut seen);
    write.tell("write", &mut seen);
    Ok(json!(seen))
}

fn reflect_read(order: &MessageDescriptor, json: &[u8]) -> Vec<u8> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    DynamicMessage::deserialize(order.clone(), &mut reader)
        .map_or_else(|_| Vec::new(), |message| message.encode_to_vec())
}

fn reflect_write(order: &MessageDescriptor, wire: &[u8]) -> Vec<u8> {
    DynamicMessage::decode(order.clone(), wire)
        .ok()
        .and_then(|message| serde_json::to_vec(&message).ok())
        .unwrap_or_default()
}

/// Nanoseconds of one call and ratios, one of each block.
struct Compared {
    ours: Vec<f64>,
    theirs: Vec<f64>,
    ratios: Vec<f64>,
}

impl Compared {
    fn of(ours: Way<'_>, theirs: Way<'_>, each: Duration) -> Self {
        let (of_ours, of_theirs) = (calls_of_a_batch(ours), calls_of_a_batch(theirs));
        let mut all = Compared {
            ours: Vec::new(),
            theirs: Vec::new(),
            ratios: Vec::new(),
        };
        for _ in 0..BLOCKS {
            let began = Instant::now();
            let (mut own, mut other) = (Vec::new(), Vec::new());
            while own.len() < TURNS_MIN || began.elapsed() < each {
                own.push(batch(ours, of_ours));
                other.push(batch(theirs, of_theirs));
            }
            let (own, other) = (median(&mut own), median(&mut other));
            all.ours.push(own);
            all.theirs.push(other);
            all.ratios.push(own / other);
        }
        all
    }

    fn tell(mut self, direction: &str, seen: &mut serde_json::Map<String, Value>) {
        let mut put = |name: &str, value: f64| seen.insert(format!("{direction}_{name}"), json!(value));
        put("ns", median(&mut self.ours));
        put("reflect_ns", median(&mut self.theirs));
        put("ratio", median(&mut self.ratios));
        put(
            "ratio_least",
            self.ratios.iter().copied().fold(f64::INFINITY, f64::min),
        );
        put("ratio_most", self.ratios.iter().copied().fold(0.0, f64::max));
    }
}

/// How many calls make a batch; also warms up.
fn calls_of_a_batch(way: Way<'_>) -> u32 {
    let (began, mut calls) = (Instant::now(), 0u32);
    while began.elapsed() < BATCH * 50 {
        black_box(way());
        calls += 1;
    }
    (calls / 50).max(1)
}

/// Nanoseconds of one call.
fn batch(way: Way<'_>, calls: u32) -> f64 {
    let began = Instant::now();
    for _ in 0..calls {
        black_box(way());
    }
    began.elapsed().as_secs_f64() * 1e9 / f64::from(calls)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
