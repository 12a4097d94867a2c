//! The form of a golden file.
//!
//! ```yaml
//! from: transcoding.md 4              # where the rule stands
//! rpcs:                               # what the service has, and by which rules; types are those of `schema`
//!   Echo(All) returns (All): {get: "/v1/{text}"}
//! ask: GET /v1/a%2Fb                  # the request; $SERVICE is the gRPC name of the service
//! reply: {text: ok}                   # what the service says; by default an empty message and OK
//! expect:                             # always the last part: it can be written anew
//!   seen: {text: a/b}                 # the message that reached the service
//!   status: 200
//!   json: {text: ok}
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::process::repository;

/// Which way a case is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// A JSON caller, a gRPC service.
    Forward,
    /// A gRPC caller, a REST service: what was asked is what the service must see.
    Reverse,
}

/// One golden file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Its path below `tests/golden`.
    #[serde(skip)]
    pub file: PathBuf,
    /// Where the rule stands.
    pub from: String,
    /// The proto file of `tests/golden/schemas` whose messages it speaks of.
    #[serde(default = "all")]
    pub schema: String,
    /// `Name(In) returns (stream Out)` and its `google.api.http` rule; `null` for none.
    pub rpcs: BTreeMap<String, Value>,
    /// More of the Service document's `spec`.
    #[serde(default)]
    pub service: Map<String, Value>,
    /// `false`: paths are not put below a prefix of the case's own.
    #[serde(default = "yes")]
    pub mount: bool,
    /// Method and target. A case that is refused when it is loaded asks nothing.
    #[serde(default)]
    pub ask: String,
    /// Header lines of the request; a list stands for several lines of a name.
    #[serde(default)]
    pub headers: BTreeMap<String, Value>,
    /// The body as JSON, with its content type.
    #[serde(default, deserialize_with = "some")]
    pub json: Option<Value>,
    /// The body as text.
    pub body: Option<String>,
    /// The body as bytes in base64.
    pub base64: Option<String>,
    /// The body as messages with gRPC's five bytes before each.
    pub frames: Option<Vec<Value>>,
    /// The body as one message in protobuf.
    pub message: Option<Value>,
    /// The body as pieces of text, each so many times.
    pub pieces: Option<Vec<Piece>>,
    /// Sends the body in chunks of so many bytes.
    pub chunks: Option<usize>,
    /// 1 or 2: plays it over this version of HTTP only.
    pub http: Option<u8>,
    /// The one message it says.
    pub reply: Option<Value>,
    /// All messages it says.
    pub replies: Option<Vec<Value>>,
    /// The raw bytes of messages it says, in base64.
    pub reply_bytes: Option<Vec<String>>,
    /// The raw bytes of its body, in base64: frames and all.
    pub reply_raw: Option<String>,
    /// How it ends.
    pub end: Option<End>,
    /// Headers before the first message.
    #[serde(default)]
    pub head: BTreeMap<String, Value>,
    /// Trailers beside the status.
    #[serde(default)]
    pub trailers: BTreeMap<String, Value>,
    /// An answer that is none of gRPC.
    pub answer: Option<RawAnswer>,
    /// After what it says it neither ends nor says more.
    #[serde(default)]
    pub hold: bool,
    /// After what it says the stream is reset.
    #[serde(default)]
    pub reset: bool,
    /// Why it cannot hold yet: for all directions, or by direction.
    pub pending: Option<Value>,
    /// Which ways it is played.
    #[serde(default = "forward")]
    pub directions: Vec<Direction>,
    /// What is different when it is played in reverse.
    #[serde(default)]
    pub reverse: ReversePlan,
    /// Envoy is not asked: why.
    pub no_envoy: Option<String>,
    /// What must come of it.
    #[serde(default)]
    pub expect: Expect,
}

/// Text, again and again.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Piece {
    /// The text.
    pub text: String,
    /// How often it stands there.
    #[serde(default = "once")]
    pub times: usize,
}

/// The end of a call.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// The gRPC code.
    #[serde(default)]
    pub code: i32,
    /// Its message, before it is percent-encoded.
    #[serde(default)]
    pub message: String,
    /// It is all there is: the status stands in the headers.
    #[serde(default)]
    pub only: bool,
    /// `google.rpc.Status.details`, as JSON of `Any`; of an unknown type, with its bytes as `value`.
    #[serde(default)]
    pub details: Vec<Value>,
    /// Trailers to be sent as they stand here instead.
    pub raw: Option<BTreeMap<String, Value>>,
}

/// An HTTP answer as it is.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawAnswer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    #[serde(default)]
    pub headers: BTreeMap<String, Value>,
    /// Its body.
    #[serde(default)]
    pub body: String,
}

/// How the reverse differs.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReversePlan {
    /// What the gRPC caller says, where it is not what `expect.seen` says.
    pub say: Option<Value>,
    /// The request the REST service must see, where it is not what `ask` says.
    pub ask: Option<String>,
    /// Its JSON body, where it is not what `json` says.
    #[serde(default, deserialize_with = "some")]
    pub json: Option<Value>,
    /// What the REST service answers, where it is not `expect.status` with `expect.json`.
    pub answer: Option<RawAnswer>,
    /// Metadata of the gRPC caller.
    #[serde(default)]
    pub metadata: BTreeMap<String, Value>,
    /// The REST service is not asked at all.
    #[serde(default)]
    pub unsaid: bool,
    /// The status the gRPC caller must get; 0 by default.
    pub code: Option<i32>,
    /// The message the gRPC caller must get, where it is not `reply`.
    pub reply: Option<Value>,
}

/// What must come of it. What is not named is not looked at, but for the content type of JSON.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The schema is refused when it is loaded, with these words.
    pub refused: Option<Vec<String>>,
    /// The RPC that was called.
    pub rpc: Option<String>,
    /// The message the service saw, a list of them, `nothing`, or `any`.
    pub seen: Option<Value>,
    /// Metadata the service saw; `null`: it is not there.
    #[serde(default)]
    pub metadata: BTreeMap<String, Value>,
    /// The HTTP status.
    pub status: Option<u16>,
    /// Headers of the answer; `null`: it is not there.
    #[serde(default)]
    pub headers: BTreeMap<String, Value>,
    /// Trailers of the answer.
    #[serde(default)]
    pub trailers: BTreeMap<String, Value>,
    /// The body as JSON.
    #[serde(default, deserialize_with = "some")]
    pub json: Option<Value>,
    /// The body as text.
    pub text: Option<String>,
    /// The body as bytes in base64.
    pub base64: Option<String>,
    /// The body as lines of JSON.
    pub lines: Option<Vec<Value>>,
    /// The body as framed messages.
    pub frames: Option<Vec<Value>>,
    /// The body as one message in protobuf.
    pub message: Option<Value>,
    /// The end of a Connect stream, as JSON.
    pub end: Option<Value>,
    /// The body is an error.
    pub error: Option<ErrorExpect>,
    /// The body is broken off after what is named here.
    #[serde(default)]
    pub broken: bool,
}

/// An error of the sidecar's own: what it says is its own affair, what it names is not.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorExpect {
    /// `code` of the body.
    pub code: i32,
    /// The field the violation names.
    pub field: Option<String>,
    /// Words the message holds.
    #[serde(default)]
    pub says: Vec<String>,
    /// The byte of the body the description names.
    pub offset: Option<usize>,
}

impl Case {
    /// Reads every golden file below `tests/golden`, in the order of their names.
    ///
    /// # Panics
    /// One of them is none.
    #[must_use]
    pub fn all() -> Vec<Case> {
        let mut cases = Vec::new();
        let root = folder();
        let mut folders: Vec<_> = list(&root).into_iter().filter(|path| path.is_dir()).collect();
        folders.retain(|path| !path.ends_with("schemas"));
        for file in folders.iter().flat_map(|folder| list(folder)) {
            let text = std::fs::read_to_string(&file).unwrap();
            let case = Case::read(&text).unwrap_or_else(|why| panic!("{}: {why}", file.display()));
            let file = file.strip_prefix(&root).unwrap().to_owned();
            cases.push(Case { file, ..case });
        }
        // While one behaviour is worked on, the others need not be played.
        if let Ok(only) = std::env::var("MESH_GOLDEN_ONLY") {
            cases.retain(|case| case.name().contains(&only));
        }
        cases
    }

    /// Reads one.
    ///
    /// # Errors
    /// It is none.
    pub fn read(text: &str) -> Result<Case, String> {
        let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
        let value: Value =
            serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())?;
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    /// `topic/sentence`
    #[must_use]
    pub fn name(&self) -> String {
        self.file.with_extension("").display().to_string()
    }

    /// Why it is not expected to hold in this direction, if it is not.
    #[must_use]
    pub fn pending(&self, direction: Direction) -> Option<String> {
        let key = match direction {
            Direction::Forward => "forward",
            Direction::Reverse => "reverse",
        };
        match self.pending.as_ref()? {
            Value::String(why) => Some(why.clone()),
            by_direction => by_direction.get(key)?.as_str().map(str::to_owned),
        }
    }

    /// Whether it says what the service does.
    #[must_use]
    pub fn is_scripted(&self) -> bool {
        let says = self.reply.is_some()
            || self.replies.is_some()
            || self.reply_bytes.is_some()
            || self.reply_raw.is_some();
        says || self.end.is_some() || self.answer.is_some() || self.reset || self.hold
    }

    /// The method and the target of what is asked.
    #[must_use]
    pub fn line(&self) -> (&str, &str) {
        self.ask.split_once(' ').unwrap_or((&self.ask, ""))
    }
}

/// The folder of all golden files.
#[must_use]
pub fn folder() -> PathBuf {
    repository().join("tests/golden")
}

fn list(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// A `null` that is written is a value.
fn some<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

fn all() -> String {
    "all".into()
}

fn yes() -> bool {
    true
}

fn once() -> usize {
    1
}

fn forward() -> Vec<Direction> {
    vec![Direction::Forward]
}
