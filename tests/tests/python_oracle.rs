//! Google's own library for Python as the oracle of JSON: random messages of every type, both ways, and spoiled JSON.
//!
//! ```text
//!  oracle.py make ──► wire, JSON ──► ours: JSON ─► wire, wire ─► JSON ──► oracle.py judge ──► what differs
//!  oracle.py spoil ─► JSON, and whether it is taken ──► ours: taken or not ──► oracle.py judge ──► what differs
//! ```
//!
//! Every run has new messages. A run is repeated with the seed it prints: `MESH_ORACLE_SEED=5`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests"
)]

use std::time::{SystemTime, UNIX_EPOCH};

use mesh_tests::Folder;
use mesh_tests::golden::answer::{from_base64, to_base64};
use mesh_tests::golden::schema::protoc;
use mesh_tests::process::finish;
use mesh_tests::python::script;
use mesh_transcode::{Options, Schema, UnknownInput};
use serde_json::{Value, json};

/// Messages a run.
const MESSAGES: usize = 10_000;
/// Spoiled texts a run.
const SPOILED: usize = 10_000;
/// Where all types stand.
const FILES: [&str; 4] = ["all.proto", "library.proto", "legacy.proto", "modern.proto"];

/// What the other takes and we refuse, or the other way round: the word it is known by, and why that is right.
struct Known {
    /// Part of what we say, or of what the text holds.
    holds: fn(&Value) -> bool,
    /// The reason; printed with how often it was seen.
    why: &'static str,
}

struct Oracle {
    folder: Folder,
    schema: Schema,
    seed: String,
}

impl Oracle {
    fn new() -> Self {
        let folder = Folder::new();
        let set = protoc(&folder, &FILES.map(str::to_owned));
        let seed = std::env::var("MESH_ORACLE_SEED").unwrap_or_else(|_| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            now.as_secs().to_string()
        });
        Self {
            schema: Schema::compile(&set).unwrap(),
            folder,
            seed,
        }
    }

    fn ask(&self, what: &[&str], input: &str) -> Vec<Value> {
        let mut command = script("oracle.py");
        command
            .arg(what[0])
            .arg(self.folder.join("all.binpb"))
            .args(&what[1..]);
        let said = finish(&mut command, input).ok().stdout;
        said.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn judge(&self, lines: &[Value]) -> Vec<Value> {
        let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
        self.ask(&["judge"], &lines.join("\n"))
    }

    fn to_wire(&self, given: &Value) -> Result<Vec<u8>, String> {
        let message = self.schema.message(given["type"].as_str().unwrap()).unwrap();
        let text = given["json"].as_str().unwrap();
        message
            .to_wire(text.as_bytes(), &strict())
            .map_err(|refusal| refusal.to_string())
    }

    fn to_json(&self, given: &Value) -> Result<String, String> {
        let message = self.schema.message(given["type"].as_str().unwrap()).unwrap();
        let wire = from_base64(given["wire"].as_str().unwrap()).unwrap();
        let mut told = Vec::new();
        message
            .to_json(&wire, &strict(), &mut told)
            .map_err(|refusal| refusal.to_string())?;
        String::from_utf8(told).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn is_content(&self, differences: &[Value]) {
        let shown: Vec<String> = differences
            .iter()
            .take(12)
            .map(|value| value.to_string().chars().take(1_500).collect())
            .collect();
        assert!(
            differences.is_empty(),
            "seed {}: {} differ, among them:\n{}",
            self.seed,
            differences.len(),
            shown.join("\n")
        );
    }
}

/// As the other reads: unknown fields are refused.
fn strict() -> Options {
    Options {
        unknown_fields: UnknownInput::Reject,
        ..Options::default()
    }
}

#[test]
fn ten_thousand_random_messages_are_the_same_json_and_the_same_bytes() {
    let oracle = Oracle::new();
    let mut lines = oracle.ask(&["make", &oracle.seed, &MESSAGES.to_string()], "");
    assert_eq!(lines.len(), MESSAGES);
    for given in &mut lines {
        match oracle.to_wire(given) {
            Ok(wire) => given["made"] = json!(to_base64(&wire)),
            Err(why) => given["refused"] = json!(why),
        }
        match oracle.to_json(given) {
            Ok(told) => given["told"] = json!(told),
            Err(why) => given["refused"] = json!(format!("telling it: {why}")),
        }
    }
    oracle.is_content(&oracle.judge(&lines));
}

#[test]
fn what_the_other_refuses_is_refused_and_what_it_takes_is_taken_alike() {
    let oracle = Oracle::new();
    let mut lines = oracle.ask(&["spoil", &oracle.seed, &SPOILED.to_string()], "");
    let refused = lines.iter().filter(|given| given["wire"].is_null()).count();
    assert!(
        refused > SPOILED / 4 && refused < SPOILED,
        "{refused} of {SPOILED} are spoiled"
    );
    for given in &mut lines {
        match oracle.to_wire(given) {
            Ok(wire) => given["made"] = json!(to_base64(&wire)),
            Err(why) => given["refused"] = json!(why),
        }
    }
    let mut unknown = oracle.judge(&lines);
    for known in KNOWN {
        let before = unknown.len();
        unknown.retain(|difference| !(known.holds)(difference));
        eprintln!("{} times: {}", before - unknown.len(), known.why);
    }
    oracle.is_content(&unknown);
}

fn says(difference: &Value, words: &[&str]) -> bool {
    let said = difference["refused"].as_str().unwrap_or_default();
    difference["why"] == "refused there, accepted here" && words.iter().any(|word| said.contains(word))
}

fn holds(difference: &Value, parts: &[&str]) -> bool {
    let text = difference["json"].as_str().unwrap_or_default();
    parts.iter().any(|part| text.contains(part))
}

/// Where we differ, and why.
const KNOWN: &[Known] = &[
    Known {
        holds: |difference| {
            let ours = [
                "must be a value of",
                "must be the name or number of an enum",
                "out of the range of enum",
            ];
            says(difference, &ours)
        },
        why: "an enum is a name or a number of 32 bits; Python takes numbers in strings, booleans and any size",
    },
    Known {
        holds: |difference| says(difference, &["must be base64"]),
        why: "base64 is all base64; Python skips what is none",
    },
    Known {
        holds: |difference| says(difference, &["must be field paths"]),
        why: "a path of a field mask is made of names; Python takes any text",
    },
    Known {
        holds: |difference| says(difference, &["must be a number", "must be a whole number"]),
        why: "a number is one of JSON, in a string too, and whole where it must be; Python takes what int() and float() take",
    },
    Known {
        holds: |difference| says(difference, &["is not JSON"]) && holds(difference, &["NaN"]),
        why: "NaN without quotes is no JSON; Python's parser takes it for a Value",
    },
    Known {
        holds: |difference| {
            says(difference, &["out of the range of double"]) && holds(difference, &["1e400"])
        },
        why: "a number of a Value is a double; Python makes an infinity of one that is too large, which has no JSON",
    },
    Known {
        holds: |difference| {
            says(
                difference,
                &["must be an RFC 3339 timestamp", "must be a duration in seconds"],
            )
        },
        why: "a day has two digits and a fraction of a second nine; Python takes one, and cuts ten",
    },
];
