//! Every golden file holds, against the running sidecar.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests"
)]

use std::sync::OnceLock;

use mesh_tests::Sidecar;
use mesh_tests::call::block_on;
use mesh_tests::golden::answer::Answer;
use mesh_tests::golden::case::Direction;
use mesh_tests::golden::judge::{Difference, judge};
use mesh_tests::golden::play::VERSIONS;
use mesh_tests::golden::reverse::judge_reverse;
use mesh_tests::golden::stage::Stage;
use mesh_tests::golden::update;
use tokio::task::JoinSet;

/// Cases at the same time.
const AT_ONCE: usize = 8;
/// What a sidecar may hold after all of them, in bytes: bodies of 4 MiB were among them.
const RESIDENT_MAX: u64 = 200 << 20;

fn stage() -> &'static Stage {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    STAGE.get_or_init(Stage::set)
}

/// Longest line of the access log: what a caller says is cut.
const LINE_MAX: usize = 8 << 10;
/// Beside differences, the answer they were seen in: for people.
const ANSWER: &str = "answer";

/// What is told of one case.
#[derive(Default)]
struct Report {
    failures: Vec<String>,
    held: usize,
    pending: usize,
}

impl Report {
    fn case(&mut self, number: usize, direction: Direction, outcome: &Result<Vec<Difference>, String>) {
        let case = &stage().cases[number];
        let holds = matches!(outcome, Ok(differences) if differences.is_empty());
        match (case.pending(direction), holds) {
            (None, true) => self.held += 1,
            (Some(_), false) => self.pending += 1,
            (Some(why), true) => {
                if update::wanted() {
                    update::unmark(case);
                }
                self.failures.push(format!(
                    "{}: holds, and is still marked as pending: {why}",
                    case.file.display()
                ));
            }
            (None, false) => {
                if let Ok(differences) = outcome
                    && direction == Direction::Forward
                    && update::wanted()
                {
                    let differences: Vec<_> = differences
                        .iter()
                        .filter(|difference| difference.key != ANSWER)
                        .cloned()
                        .collect();
                    update::write(case, &differences);
                }
                self.failures
                    .push(told(&case.file.display().to_string(), outcome));
            }
        }
    }

    #[track_caller]
    fn is_clean(&self, what: &str) {
        eprintln!("{what}: {} hold, {} are pending", self.held, self.pending);
        assert!(
            self.failures.is_empty(),
            "{} of {} golden files do not hold:\n{}",
            self.failures.len(),
            self.failures.len() + self.held + self.pending,
            self.failures.join("\n")
        );
    }
}

fn told(file: &str, outcome: &Result<Vec<Difference>, String>) -> String {
    let differences = match outcome {
        Err(why) => return format!("{file}\n    {why}"),
        Ok(differences) => differences,
    };
    let mut text = file.to_owned();
    for Difference { key, expected, seen } in differences {
        let cut = |value: &serde_json::Value| value.to_string().chars().take(1_500).collect::<String>();
        text.push_str(&format!(
            "\n    {key}\n      expected {}\n      seen     {}",
            cut(expected),
            cut(seen)
        ));
    }
    text
}

/// What was not as expected, with the answer it was seen in.
async fn play(number: usize, direction: Direction, address: &str) -> Result<Vec<Difference>, String> {
    let scene = stage().scene(number, direction, address)?;
    let saw = |name: &str| stage().backend.saw(name);
    let with_answer = |mut differences: Vec<Difference>, how: String, answer: &Answer| {
        differences.push(Difference {
            key: ANSWER.into(),
            expected: how.into(),
            seen: answer.told().into(),
        });
        differences
    };
    if direction == Direction::Reverse {
        let (name, answer) = scene.perform_in_reverse().await?;
        let differences = judge_reverse(&scene, &answer, &saw(&name));
        return Ok(match differences.is_empty() {
            true => differences,
            false => with_answer(differences, "gRPC".into(), &answer),
        });
    }
    for version in VERSIONS {
        let Some((name, answer)) = scene.perform(version).await? else {
            continue;
        };
        let differences = judge(&scene, &answer, &saw(&name));
        if !differences.is_empty() {
            return Ok(with_answer(differences, format!("HTTP/{version}"), &answer));
        }
    }
    Ok(Vec::new())
}

/// Plays all cases there are for a direction, some at a time.
fn play_all(direction: Direction) {
    let stage = stage();
    let mut edge = stage.edge(direction);
    let address = edge.as_ref().map(|edge| edge.edge.clone()).unwrap_or_default();
    let mut report = Report::default();
    block_on(async {
        let mut waiting = stage.played(direction);
        let mut playing = JoinSet::new();
        loop {
            while playing.len() < AT_ONCE
                && let Some(number) = waiting.next()
            {
                let address = address.clone();
                playing.spawn(async move { (number, play(number, direction, &address).await) });
            }
            let Some(played) = playing.join_next().await else {
                break;
            };
            let (number, outcome) = played.unwrap();
            report.case(number, direction, &outcome);
        }
    });
    let strays = stage.backend.strays();
    assert!(
        strays.is_empty(),
        "requests of no case reached the service: {strays:#?}"
    );
    if let Some(edge) = &mut edge {
        is_well(edge);
    }
    report.is_clean(&format!("{direction:?}"));
}

/// After all that was done to it, it lives, holds little, and every line of its access log is one JSON value.
fn is_well(edge: &mut Sidecar) {
    assert!(edge.process().is_running());
    let (resident, _) = edge.process().usage();
    assert!(
        resident < RESIDENT_MAX,
        "the sidecar holds {} MiB",
        resident >> 20
    );
    let lines = edge.process().lines();
    for line in lines.iter().filter(|line| line.starts_with("{\"time\"")) {
        let clean = line.chars().all(|character| !character.is_control());
        let parsed = serde_json::from_str::<serde_json::Value>(line);
        assert!(
            clean && parsed.is_ok(),
            "a line of the access log is none: {line:?}"
        );
        assert!(
            line.len() < LINE_MAX,
            "a line of the access log is {} bytes",
            line.len()
        );
    }
}

#[test]
fn every_golden_file_holds_for_a_json_caller_of_a_grpc_service() {
    play_all(Direction::Forward);
}

#[test]
fn every_golden_file_with_a_reverse_holds_for_a_grpc_caller_of_a_rest_service() {
    play_all(Direction::Reverse);
}

#[test]
fn every_schema_that_must_be_refused_is_refused_with_its_place() {
    let stage = stage();
    let mut report = Report::default();
    for (number, case) in stage.cases.iter().enumerate() {
        let Some(words) = &case.expect.refused else {
            continue;
        };
        let outcome = match stage.load(number) {
            Ok(()) => Err("it is taken".to_owned()),
            Err(said) => match words.iter().find(|word| !said.contains(word.as_str())) {
                None => Ok(Vec::new()),
                Some(word) => Err(format!("{word:?} is not said: {said}")),
            },
        };
        report.case(number, Direction::Forward, &outcome);
    }
    report.is_clean("refused");
}
