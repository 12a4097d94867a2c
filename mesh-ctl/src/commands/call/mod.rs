//! `call`: any method by its name, with JSON, streams too; or a list of what there is to call.
//!
//! ```text
//!  -d JSON ─► messages ─► gRPC ─► the server          schema: --schema FILE, or the server's own reflection
//!  stdout ◄── JSON, a message as it comes ◄──┘        stderr ◄── the status, if it is an error
//! ```

mod data;
mod show;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mesh_link::{messages, reflection};
use mesh_transcode::{Method, Options, Schema};
use serde_json::{Map, Value, json};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, Binary, KeyAndValueRef, MetadataKey, MetadataMap, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::cli::{Format, Global};
use crate::client::CALL_TIMEOUT;
use crate::dial::Dial;
use crate::failure::{Exit, Failure};
use crate::{output, schemas, words};

/// Largest message either way.
const MESSAGE_BYTES_MAX: usize = mesh_transcode::MESSAGE_BYTES_MAX;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The server, then the method: HOST:PORT package.Service/Method. Without a method, lists what there is; with
    /// --through, there is no server to name.
    #[arg(value_name = "HOST:PORT] [METHOD", num_args = 0..=2)]
    words: Vec<String>,
    /// The request as JSON: itself, @FILE, or - for stdin. For a method that takes a stream, one message a line, each sent
    /// as soon as it is read.
    #[arg(short, long, value_name = "JSON|@FILE|-")]
    data: Option<String>,
    /// A header line, such as 'authorization: Bearer …'. Values of names in -bin are base64.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// How long the whole call may take. Default: 20s, and no end for a method that answers with a stream.
    #[arg(long, value_name = "DURATION", value_parser = words::duration)]
    deadline: Option<Duration>,
    /// A serialized FileDescriptorSet; without one the server is asked by reflection.
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
    /// Show what a method takes and gives, and call nothing.
    #[arg(long)]
    describe: bool,
    #[command(flatten)]
    dial: Dial,
}

pub(crate) async fn run(global: &Global, args: Args) -> Result<(), Failure> {
    let (target, method) = split(&args)?;
    let channel = args.dial.channel(global, target)?;
    let schema = schema(&args, &channel).await?;
    let Some(method) = method else {
        return show::list(global, &schema);
    };
    let found = schema.method(method.trim_start_matches('/'));
    let method = found.ok_or_else(|| unknown(method, &schema))?.clone();
    if args.describe {
        return show::describe(global, &schema, &method);
    }
    let request = request(&args, &method)?;
    let limit = args
        .deadline
        .or((!method.server_streaming()).then_some(CALL_TIMEOUT));
    let call = call(global, channel, &schema, &method, request);
    match limit {
        None => call.await,
        Some(limit) => tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
            let status = Status::deadline_exceeded(format!("no end within {}", words::span(limit)));
            ended(global, &schema, &status)
        }),
    }
}

/// What the words of the command line are.
fn split(args: &Args) -> Result<(Option<&str>, Option<&str>), Failure> {
    let words: Vec<&str> = args.words.iter().map(String::as_str).collect();
    match (args.dial.through.is_some(), words.as_slice()) {
        (true, []) => Ok((None, None)),
        (true, [method]) => Ok((None, Some(method))),
        (true, _) => Err(Failure::usage(
            "with --through there is no server to name; write the method only",
        )),
        (false, []) => {
            Err(Failure::usage("no server is named").hint("write HOST:PORT package.Service/Method"))
        }
        (false, [target]) => Ok((Some(target), None)),
        (false, [target, method, ..]) => Ok((Some(target), Some(method))),
    }
}

async fn schema(args: &Args, channel: &Channel) -> Result<Schema, Failure> {
    let (bytes, from) = match &args.schema {
        Some(file) => (schemas::read(file)?, file.display().to_string()),
        None => {
            let reflected = reflection::collect(channel.clone()).await.map_err(|why| {
                Failure::new(Exit::Unreachable, why).hint("--schema FILE names compiled descriptors instead")
            })?;
            (reflected.descriptor_set, "reflection".to_owned())
        }
    };
    Schema::compile(&bytes)
        .map_err(|faults| Failure::faults("the schema cannot be used", &faults.under(&format!("{from}:"))))
}

fn unknown(method: &str, schema: &Schema) -> Failure {
    let names: Vec<&str> = schema.methods().map(|method| method.name()).collect();
    let close = similar::get_close_matches(method, &names, 3, 0.5);
    let failure = Failure::refused(format!("there is no method {method:?}"));
    let list = "without a method, `mesh-ctl call` lists what there is";
    if close.is_empty() {
        failure.hint(list)
    } else {
        failure.hint(format!("did you mean {}? {list}", close.join(" or ")))
    }
}

/// The request: its messages as they will be read, and its headers.
fn request(args: &Args, method: &Arc<Method>) -> Result<Outgoing, Failure> {
    let (messages, trouble) = data::messages(args.data.as_deref(), method)?;
    let mut request = Request::new(messages);
    if let Some(deadline) = args.deadline {
        request.set_timeout(deadline);
    }
    for header in &args.headers {
        add_header(request.metadata_mut(), header)
            .map_err(|why| Failure::usage(format!("-H {header:?}: {why}")))?;
    }
    Ok(Outgoing { request, trouble })
}

struct Outgoing {
    request: Request<ReceiverStream<bytes::Bytes>>,
    /// Why the messages ended before their end.
    trouble: data::Trouble,
}

fn add_header(metadata: &mut MetadataMap, header: &str) -> Result<(), &'static str> {
    let (name, value) = header.split_once(':').ok_or("is not NAME: VALUE")?;
    let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
    if name.ends_with("-bin") {
        use base64::Engine;
        let bytes = base64::prelude::BASE64_STANDARD
            .decode(value)
            .or_else(|_| base64::prelude::BASE64_STANDARD_NO_PAD.decode(value))
            .map_err(|_| "its value is not base64")?;
        let key = MetadataKey::<Binary>::from_bytes(name.as_bytes()).map_err(|_| "is no header name")?;
        metadata.append_bin(key, MetadataValue::from_bytes(&bytes));
    } else {
        let key = MetadataKey::<Ascii>::from_bytes(name.as_bytes()).map_err(|_| "is no header name")?;
        metadata.append(key, value.parse().map_err(|_| "its value is not plain text")?);
    }
    Ok(())
}

async fn call(
    global: &Global,
    channel: Channel,
    schema: &Schema,
    method: &Arc<Method>,
    outgoing: Outgoing,
) -> Result<(), Failure> {
    let called = messages::call(channel, method.name(), outgoing.request, MESSAGE_BYTES_MAX).await;
    let mut answers = match called {
        Ok(response) => {
            let (head, answers, _) = response.into_parts();
            event(global, "headers", || metadata(&head))?;
            answers
        }
        Err(status) => return ended_or(&outgoing.trouble, global, schema, &status),
    };
    loop {
        match answers.message().await {
            Ok(Some(bytes)) => print_message(global, method, &bytes)?,
            Ok(None) => break,
            Err(status) => return ended_or(&outgoing.trouble, global, schema, &status),
        }
    }
    if let Some(failure) = outgoing.trouble.take() {
        return Err(failure);
    }
    let trailers = answers.trailers().await.ok().flatten();
    event(
        global,
        "status",
        || json!({"code": 0, "name": "OK", "trailers": trailers.as_ref().map(metadata)}),
    )
}

/// For programs, everything that happens is a line of its own.
fn event(global: &Global, name: &str, value: impl FnOnce() -> Value) -> Result<(), Failure> {
    if global.output == Format::Table {
        return Ok(());
    }
    let mut object = Map::new();
    object.insert(name.to_owned(), value());
    output::print(&format!("{}\n", output::json_line(&object.into())))
}

fn print_message(global: &Global, method: &Arc<Method>, bytes: &[u8]) -> Result<(), Failure> {
    let mut text = Vec::new();
    let written = method.output().to_json(bytes, &Options::default(), &mut text);
    written.map_err(|refusal| Failure::refused(refusal.message))?;
    let value: Value = serde_json::from_slice(&text)
        .map_err(|error| Failure::refused(format!("the answer is no JSON: {error}")))?;
    if global.output != Format::Table {
        return event(global, "message", || value);
    }
    let text = if method.server_streaming() {
        output::json_line(&value)
    } else {
        output::json(&value)
    };
    output::print(&format!("{text}\n"))
}

/// What was wrong with our own messages says more than how the server took their end.
fn ended_or(
    trouble: &data::Trouble,
    global: &Global,
    schema: &Schema,
    status: &Status,
) -> Result<(), Failure> {
    match trouble.take() {
        Some(failure) => Err(failure),
        None => ended(global, schema, status),
    }
}

/// The call ended with an error: told as JSON, with its details.
fn ended(global: &Global, schema: &Schema, status: &Status) -> Result<(), Failure> {
    let exit = match (status.code(), messages::cause(status)) {
        (Code::DeadlineExceeded, _) => Exit::TimedOut,
        (_, Some(_)) => Exit::Unreachable,
        (_, None) => Exit::Refused,
    };
    let mut told = status_value(schema, status);
    if let (Some(cause), Value::Object(entries)) = (messages::cause(status), &mut told) {
        entries.insert("cause".into(), cause.into());
    }
    if global.output == Format::Table {
        output::note(&output::json(&told));
    } else {
        event(global, "status", || told)?;
    }
    Err(Failure::silent(exit))
}

/// `{"code", "name", "message", "details", "trailers"}`.
fn status_value(schema: &Schema, status: &Status) -> Value {
    let code = status.code() as i32;
    let details = base64_unpadded(status.details());
    let parsed = mesh_transcode::status::from_trailers(
        Some(code.to_string().as_bytes()),
        None,
        Some(details.as_bytes()).filter(|details| !details.is_empty()),
    );
    let body: Value =
        serde_json::from_slice(&mesh_transcode::status::body(&parsed, Some(schema))).unwrap_or_default();
    let mut metadata = metadata(status.metadata());
    if let Value::Object(entries) = &mut metadata {
        entries.remove("grpc-status-details-bin");
    }
    json!({
        "code": code,
        "name": mesh_transcode::Code::from_number(code).name(),
        "message": status.message(),
        "details": body.get("details").cloned().unwrap_or_else(|| json!([])),
        "trailers": metadata,
    })
}

fn base64_unpadded(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::prelude::BASE64_STANDARD_NO_PAD.encode(bytes)
}

fn metadata(map: &MetadataMap) -> Value {
    let mut shown: Map<String, Value> = Map::new();
    for pair in map.iter() {
        let (name, value) = match pair {
            KeyAndValueRef::Ascii(name, value) => (
                name.as_str(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            ),
            KeyAndValueRef::Binary(name, value) => (
                name.as_str(),
                base64_unpadded(&value.to_bytes().unwrap_or_default()),
            ),
        };
        match shown.get_mut(name) {
            Some(Value::Array(several)) => several.push(value.into()),
            Some(one) => *one = json!([one.take(), value]),
            None => drop(shown.insert(name.to_owned(), value.into())),
        }
    }
    shown.into()
}
