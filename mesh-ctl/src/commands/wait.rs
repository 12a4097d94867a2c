//! `apply --wait`: the thin shell around [`Rollout`]. One watch a replica, one loop that listens to them all.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use mesh_proto::v1::{GetStatusRequest, GetStatusResponse, Replica};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::Status;

use crate::client::{Client, Server, bounded};
use crate::failure::{Exit, Failure};
use crate::output::safe;
use crate::rollout::{Event, Progress, Rollout, SETTLE, Target, Verdict};
use crate::words::{count, span};

/// Between two tries to watch a replica.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Most replicas that are watched.
const REPLICAS_MAX: usize = 64;
/// News that may wait to be looked at.
const NEWS_MAX: usize = 64;
/// The state of a rollout that went well.
const APPLIED: &str = "applied";
/// Of the spinner.
const TICK: Duration = Duration::from_millis(100);

/// How the waiting ended, for people and for programs.
#[derive(Debug)]
pub(super) struct Outcome {
    state: &'static str,
    took: Duration,
    sidecars: usize,
    unused: Vec<String>,
    /// Refusals, and who is behind.
    open: Vec<String>,
}

impl Outcome {
    /// What went well, a line each; what did not is told by the failure.
    pub(super) fn words(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .unused
            .iter()
            .map(|label| format!("no connected sidecar uses {}; it is stored", safe(label)))
            .collect();
        if self.state == APPLIED && self.sidecars > 0 {
            lines.push(format!(
                "applied by {} in {}",
                count(self.sidecars, "sidecar"),
                span(self.took)
            ));
        }
        lines
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "state": self.state,
            "tookMs": u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
            "sidecars": self.sidecars,
            "unused": self.unused,
            "open": self.open,
        })
    }
}

/// Follows documents that were just stored, until all who use them have them, somebody refuses, or the time is over.
pub(super) async fn follow(
    client: &Client,
    server: &Server,
    started: Instant,
    targets: Vec<Target>,
    timeout: Duration,
) -> (Outcome, Option<Failure>) {
    let mut rollout = Rollout::new(started, targets);
    let (news_in, mut news) = mpsc::channel(NEWS_MAX);
    let mut watches = Watches {
        client,
        server,
        filter: rollout.filter(),
        news: news_in,
        running: BTreeMap::new(),
        tasks: JoinSet::new(),
    };
    let events = match bounded(server.status().get_status(watches.filter.clone())).await {
        Ok(first) => {
            let own = first.replica.clone();
            watches.cover(&own, &first.replicas);
            rollout.on_status(Instant::now(), &own, first)
        }
        Err(status) => {
            let failure = crate::client::refusal(&server.address, &status);
            return (outcome(&rollout, "unknown", started.elapsed()), Some(failure));
        }
    };
    let display = Display::new();
    display.tell(&rollout, &events, started);
    let deadline = tokio::time::Instant::now() + timeout.saturating_sub(started.elapsed());
    let settled = tokio::time::Instant::now() + SETTLE.saturating_sub(started.elapsed());
    let mut settling = true;
    loop {
        match rollout.verdict(Instant::now()) {
            Verdict::Waiting => {}
            Verdict::Done { took } => {
                display.finish();
                return (outcome(&rollout, APPLIED, took), None);
            }
            Verdict::Refused => {
                display.finish();
                return (
                    outcome(&rollout, "refused", started.elapsed()),
                    Some(refused(&rollout)),
                );
            }
        }
        tokio::select! {
            Some((replica, told)) = news.recv() => {
                let now = Instant::now();
                let events = match told {
                    Ok(status) => {
                        watches.cover(&status.replica, &status.replicas);
                        rollout.on_status(now, &replica, status)
                    }
                    Err(why) => rollout.on_trouble(now, &replica, why),
                };
                display.tell(&rollout, &events, started);
            }
            () = tokio::time::sleep_until(settled), if settling => settling = false,
            () = tokio::time::sleep_until(deadline) => {
                display.finish();
                return (outcome(&rollout, "timed out", timeout), Some(timed_out(&rollout, timeout)));
            }
        }
    }
}

fn outcome(rollout: &Rollout, state: &'static str, took: Duration) -> Outcome {
    let unused = (0..rollout.targets().len())
        .filter(|index| state == APPLIED && rollout.users(*index) == 0)
        .map(|index| rollout.label(index))
        .collect();
    let mut open = rollout.refusals();
    open.extend(rollout.behind());
    Outcome {
        state,
        took,
        sidecars: rollout.sidecars(),
        unused,
        open,
    }
}

fn refused(rollout: &Rollout) -> Failure {
    let refusals = rollout.refusals();
    Failure::refused(format!(
        "{} of what was stored; the sidecar keeps what it had",
        count(refusals.len(), "refusal")
    ))
    .lines(refusals)
    .hint("mend the document and apply it again; `mesh-ctl status --verbose` shows who has what")
}

fn timed_out(rollout: &Rollout, timeout: Duration) -> Failure {
    let (yes, of) = rollout.tally();
    Failure::new(
        Exit::TimedOut,
        format!("after {} only {yes} of {of} answers are there", span(timeout)),
    )
    .lines(rollout.behind())
    .hint("the documents are stored; `mesh-ctl status --verbose` shows who has what")
}

type News = (String, Result<GetStatusResponse, String>);

/// The running watches. They end when this is dropped.
struct Watches<'a> {
    client: &'a Client,
    /// The replica that took the documents: reached already, so its own connection serves.
    server: &'a Server,
    filter: GetStatusRequest,
    news: mpsc::Sender<News>,
    /// Replica id to address.
    running: BTreeMap<String, String>,
    tasks: JoinSet<()>,
}

impl Watches<'_> {
    /// Watches every replica of a list that is not watched yet. `own` is the one that told the list.
    fn cover(&mut self, own: &str, replicas: &[Replica]) {
        if self.running.is_empty() {
            self.watch(own, Ok(self.server.clone()), self.server.address.clone());
        }
        for replica in replicas {
            if !self.running.contains_key(&replica.id) && self.running.len() < REPLICAS_MAX {
                self.watch(
                    &replica.id,
                    self.client.replica(&replica.address),
                    replica.address.clone(),
                );
            }
        }
    }

    fn watch(&mut self, id: &str, server: Result<Server, String>, address: String) {
        self.running.insert(id.to_owned(), address);
        let (id, filter, news) = (id.to_owned(), self.filter.clone(), self.news.clone());
        self.tasks.spawn(async move {
            match server {
                Ok(server) => watch(id, server, filter, news).await,
                Err(why) => drop(news.send((id, Err(why))).await),
            }
        });
    }
}

/// Passes on everything one replica tells, and opens the watch again when it breaks.
async fn watch(id: String, server: Server, filter: GetStatusRequest, news: mpsc::Sender<News>) {
    loop {
        let broken = match bounded(server.status().watch_status(filter.clone())).await {
            Ok(mut stream) => loop {
                match stream.message().await {
                    Ok(Some(status)) => {
                        if news.send((id.clone(), Ok(status))).await.is_err() {
                            return;
                        }
                    }
                    Ok(None) => break Status::unavailable("the watch ended"),
                    Err(status) => break status,
                }
            },
            Err(status) => status,
        };
        let why = mesh_link::grpc::explain(&server.address, &broken);
        if news.send((id.clone(), Err(why))).await.is_err() {
            return;
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// A spinner where a person looks on, plain lines where a log is written. On stderr: stdout carries the answer.
struct Display {
    spinner: ProgressBar,
}

impl Display {
    fn new() -> Self {
        let spinner = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            spinner.set_style(style);
        }
        spinner.enable_steady_tick(TICK);
        Self { spinner }
    }

    fn show(&self, rollout: &Rollout) {
        let (yes, of) = rollout.tally();
        self.spinner.set_message(format!("{yes} of {of} answers are yes"));
    }

    fn tell(&self, rollout: &Rollout, events: &[Event], started: Instant) {
        for event in events {
            let what = match &event.progress {
                Progress::Applied => "applied",
                Progress::Refused { .. } => "refused",
                Progress::Behind { .. } => continue,
            };
            let line = format!(
                "{what} {} by {} after {}",
                safe(&rollout.label(event.target)),
                safe(&event.node),
                span(started.elapsed())
            );
            if self.spinner.is_hidden() {
                crate::output::note(&line);
            } else {
                self.spinner.println(line);
            }
        }
        self.show(rollout);
    }

    fn finish(&self) {
        self.spinner.finish_and_clear();
    }
}
