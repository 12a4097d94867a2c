//! The load: closed loop (every stream calls again as soon as it was answered) or open loop (calls begin when their time has
//! come, and are measured from that time, whether or not the one before was answered: nothing is left out when it gets slow).

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use hdrhistogram::Histogram;
use mesh_bench_kit::message;
use mesh_bench_kit::net::Outcome;
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};

use crate::client::{Call, Target};

/// Longest latency that is told apart, in microseconds.
const LATENCY_MAX_US: u64 = 60_000_000;
/// Calls of an open loop that may be under way; more than any target should ever hold, and a bound on memory.
const OPEN_MAX: usize = 20_000;
/// After the measured time, calls under way have this long.
const END_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(clap::Args)]
pub struct Options {
    /// Whom to call.
    #[arg(long)]
    target: SocketAddr,
    /// Connections.
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Streams on each.
    #[arg(long, default_value_t = 32)]
    streams: usize,
    /// Calls a second, offered whether or not they are answered; 0 for a closed loop.
    #[arg(long, default_value_t = 0)]
    rate: u32,
    /// Measured seconds.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Seconds before that.
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    /// Ask for a stream of so many ticks instead of an echo.
    #[arg(long)]
    ticks: Option<u32>,
    /// Folder of certificates, for mutual TLS.
    #[arg(long)]
    certificates: Option<PathBuf>,
    /// Processes whose CPU time is read at begin and end of the measured time.
    #[arg(long, value_delimiter = ',')]
    pid: Vec<u32>,
}

struct Seen {
    measuring: Cell<bool>,
    stop: Cell<bool>,
    latency: RefCell<Histogram<u64>>,
    errors: Cell<u64>,
    first_error: RefCell<Option<String>>,
}

impl Seen {
    fn take(&self, began: Instant, outcome: Outcome<usize>) {
        match outcome {
            Err(_) if self.stop.get() => {}
            Err(why) => {
                self.errors.set(self.errors.get() + 1);
                self.first_error.borrow_mut().get_or_insert(why);
            }
            Ok(_) if self.measuring.get() => {
                let took = u64::try_from(began.elapsed().as_nanos() / 100).unwrap_or(u64::MAX);
                self.latency.borrow_mut().saturating_record(took.max(1));
            }
            Ok(_) => {}
        }
    }
}

/// Loads, and prints what was seen.
pub async fn run(options: Options) -> Outcome<()> {
    let target = Target::new(options.target, options.certificates.as_deref(), true)?;
    let call = Rc::new(match options.ticks {
        Some(count) => Call::new(message::WATCH, message::frame(&message::watch_ticks(count))),
        None => Call::new(message::ECHO, message::frame(&message::order())),
    });
    let mut senders = Vec::new();
    for _ in 0..options.connections {
        senders.push(target.connect(None).await?);
    }
    let latency = Histogram::new_with_bounds(1, LATENCY_MAX_US * 10, 3).map_err(|error| error.to_string())?;
    let seen = Rc::new(Seen {
        measuring: Cell::new(false),
        stop: Cell::new(false),
        latency: RefCell::new(latency),
        errors: Cell::new(0),
        first_error: RefCell::default(),
    });
    // The first call tells whether anything works at all.
    let bytes = call.make(&senders[0]).await?;
    let workers = if options.rate == 0 {
        closed_loop(&senders, options.streams, &call, &seen)
    } else {
        open_loop(senders, options.rate, &call, &seen)
    };
    tokio::time::sleep(Duration::from_secs_f64(options.warmup)).await;
    let before = cpu_seconds(&options.pid)?;
    let own_before = cpu_seconds(&[std::process::id()])?;
    let began = Instant::now();
    seen.measuring.set(true);
    tokio::time::sleep(Duration::from_secs_f64(options.seconds)).await;
    seen.measuring.set(false);
    let took = began.elapsed().as_secs_f64();
    let after = cpu_seconds(&options.pid)?;
    let own_after = cpu_seconds(&[std::process::id()])?;
    seen.stop.set(true);
    let _ = tokio::time::timeout(END_TIMEOUT, async {
        for worker in workers {
            let _ = worker.await;
        }
    })
    .await;
    report(
        &options,
        &seen,
        bytes,
        took,
        after - before,
        own_after - own_before,
    );
    Ok(())
}

fn closed_loop(
    senders: &[SendRequest<Bytes>],
    streams: usize,
    call: &Rc<Call>,
    seen: &Rc<Seen>,
) -> Vec<tokio::task::JoinHandle<()>> {
    let each = senders
        .iter()
        .flat_map(|sender| std::iter::repeat_n(sender, streams));
    each.map(|sender| {
        let (sender, call, seen) = (sender.clone(), call.clone(), seen.clone());
        tokio::task::spawn_local(async move {
            while !seen.stop.get() {
                let began = Instant::now();
                let outcome = call.make(&sender).await;
                let failed = outcome.is_err();
                seen.take(began, outcome);
                if failed {
                    // A target that refuses at once must not be hammered.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        })
    })
    .collect()
}

/// A thread of its own keeps the time, since the timer of the runtime only knows milliseconds.
fn open_loop(
    senders: Vec<SendRequest<Bytes>>,
    rate: u32,
    call: &Rc<Call>,
    seen: &Rc<Seen>,
) -> Vec<tokio::task::JoinHandle<()>> {
    let (due, mut dues) = mpsc::unbounded_channel::<Instant>();
    std::thread::spawn(move || {
        let begin = Instant::now();
        for number in 0u64.. {
            let at = begin + Duration::from_nanos(number * 1_000_000_000 / u64::from(rate));
            if let Some(wait) = at.checked_duration_since(Instant::now()) {
                std::thread::sleep(wait);
            }
            if due.send(at).is_err() {
                return;
            }
        }
    });
    let (call, seen) = (call.clone(), seen.clone());
    let room = Arc::new(Semaphore::new(OPEN_MAX));
    vec![tokio::task::spawn_local(async move {
        for turn in 0.. {
            let Some(at) = dues.recv().await.filter(|_| !seen.stop.get()) else {
                break;
            };
            let Ok(permit) = room.clone().try_acquire_owned() else {
                seen.take(at, Err("too many calls are under way".into()));
                continue;
            };
            let sender = senders[turn % senders.len()].clone();
            let (call, seen) = (call.clone(), seen.clone());
            tokio::task::spawn_local(async move {
                let outcome = call.make(&sender).await;
                seen.take(at, outcome);
                drop(permit);
            });
        }
    })]
}

fn report(options: &Options, seen: &Seen, bytes: usize, took: f64, cpu: f64, own_cpu: f64) {
    let latency = seen.latency.borrow();
    let requests = latency.len();
    let us = |quantile: f64| latency.value_at_quantile(quantile) as f64 / 10.0;
    let messages = requests * u64::from(options.ticks.unwrap_or(1));
    let told = json!({
        "requests": requests,
        "messages": messages,
        "errors": seen.errors.get(),
        "first_error": *seen.first_error.borrow(),
        "answer_bytes": bytes,
        "seconds": took,
        "per_second": requests as f64 / took,
        "cpu_seconds": cpu,
        "cpu_us_per_request": if requests > 0 { cpu * 1e6 / requests as f64 } else { 0.0 },
        "cpu_us_per_message": if messages > 0 { cpu * 1e6 / messages as f64 } else { 0.0 },
        "cpu_share": cpu / took,
        "load_cpu_share": own_cpu / took,
        "p50_us": us(0.5),
        "p90_us": us(0.9),
        "p99_us": us(0.99),
        "p999_us": us(0.999),
        "max_us": latency.max() as f64 / 10.0,
    });
    println!("{told}");
}

/// User and system time of processes, in seconds, all their threads included.
fn cpu_seconds(pids: &[u32]) -> Outcome<f64> {
    /// The kernel tells in hundredths of a second, whatever its own clock.
    const TICKS_PER_SECOND: f64 = 100.0;
    let mut ticks = 0u64;
    for pid in pids {
        let path = format!("/proc/{pid}/stat");
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        // The name, in parentheses, may hold anything; user and system time are the 12th and 13th after it.
        let rest = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
        ticks += rest
            .split(' ')
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum::<u64>();
    }
    Ok(ticks as f64 / TICKS_PER_SECOND)
}
