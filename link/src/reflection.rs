//! What a gRPC server says about itself: its descriptors, asked for by server reflection.
//!
//! ```text
//!  list services ─► the file of each ─► the files those import, until none is missing ─► one FileDescriptorSet
//! ```
//!
//! `grpc.reflection.v1` is asked first, `v1alpha` where a server knows only that; their messages are the same on the wire.
//! Files are kept as the bytes that came, so custom options such as `google.api.http` survive. Equal answers make equal
//! bytes, whatever their order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use mesh_proto::domain::SCHEMA_BYTES_MAX;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use crate::messages;

/// Most services one server may have.
pub const SERVICES_MAX: usize = 1000;
/// Most files they may be spread over.
pub const FILES_MAX: usize = 4000;
/// From the first question to the last answer.
pub const TIME_MAX: Duration = Duration::from_secs(10);
/// Largest single answer: a server may send every file at once.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Services whose descriptors a server may keep to itself: those that are no business of its own.
const OWN_PACKAGE: &str = "grpc.";

/// The methods, newest first.
const METHODS: [&str; 2] = [
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// What a server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reflected {
    /// A serialized `FileDescriptorSet`, imports before those who import them.
    pub descriptor_set: Vec<u8>,
    /// The services it has: `package.Service`, sorted.
    pub services: Vec<String>,
    /// `v1` or `v1alpha`.
    pub version: &'static str,
}

/// Asks the server at the other end of a channel for everything it serves.
///
/// # Errors
/// One line: it cannot be reached, has no reflection, or its answers do not make a whole within the limits.
pub async fn collect(channel: Channel) -> Result<Reflected, String> {
    tokio::time::timeout(TIME_MAX, collect_unbounded(channel))
        .await
        .unwrap_or_else(|_| Err(format!("reflection took longer than {TIME_MAX:?}")))
}

async fn collect_unbounded(channel: Channel) -> Result<Reflected, String> {
    let mut unimplemented = None;
    for method in METHODS {
        match Conversation::open(channel.clone(), method).await {
            Ok((conversation, services)) => return gather(conversation, services, version(method)).await,
            Err(status) if status.code() == Code::Unimplemented => unimplemented = Some(status),
            Err(status) => return Err(explain(&status)),
        }
    }
    Err(explain(
        &unimplemented.unwrap_or_else(|| Status::unimplemented("")),
    ))
}

fn version(method: &str) -> &'static str {
    if method.contains("v1alpha") {
        "v1alpha"
    } else {
        "v1"
    }
}

/// A failed question, in one line with the likely fix.
fn explain(status: &Status) -> String {
    if let Some(cause) = messages::cause(status) {
        return format!("the server cannot be asked: {cause}");
    }
    match status.code() {
        Code::Unimplemented => {
            "the server has no gRPC reflection (grpc.reflection.v1 or v1alpha); switch it on there, or \
                                write its schema as a file"
                .into()
        }
        Code::PermissionDenied | Code::Unauthenticated => format!(
            "the server refuses reflection ({}); allow {} to this caller, or write its schema as a file",
            status.message(),
            METHODS[0],
        ),
        code => format!(
            "the server answers reflection with {code:?}: {}",
            status.message()
        ),
    }
}

/// One stream of questions, each answered before the next is asked.
struct Conversation {
    questions: mpsc::Sender<Bytes>,
    answers: Streaming<Bytes>,
}

impl Conversation {
    /// Begins with the list of services, since some servers say nothing at all before the first question.
    async fn open(channel: Channel, method: &str) -> Result<(Self, Vec<String>), Status> {
        let (questions, asked) = mpsc::channel(1);
        let first = encoded(MessageRequest::ListServices(String::new()));
        // There is room for one, and it is the first.
        let _ = questions.try_send(first);
        let request = Request::new(ReceiverStream::new(asked));
        let answers = messages::call(channel, method, request, ANSWER_BYTES_MAX).await?;
        let mut conversation = Self {
            questions,
            answers: answers.into_inner(),
        };
        match conversation.answer().await? {
            MessageResponse::ListServicesResponse(list) => {
                let services = list.service.into_iter().map(|service| service.name);
                Ok((conversation, services.collect()))
            }
            MessageResponse::ErrorResponse(error) => Err(status_of(error.error_code, error.error_message)),
            _ => Err(Status::internal("the answer is not a list of services")),
        }
    }

    async fn answer(&mut self) -> Result<MessageResponse, Status> {
        let bytes = self.answers.message().await?;
        let bytes = bytes.ok_or_else(|| Status::internal("the stream ended before the answer"))?;
        ServerReflectionResponse::decode(bytes)
            .map_err(|_| Status::internal("the answer is no reflection answer"))?
            .message_response
            .ok_or_else(|| Status::internal("the answer is empty"))
    }

    /// The files an answer brings.
    async fn files(&mut self, question: MessageRequest) -> Result<Vec<Vec<u8>>, Status> {
        let gone = || Status::internal("the stream ended before the question");
        self.questions.send(encoded(question)).await.map_err(|_| gone())?;
        match self.answer().await? {
            MessageResponse::FileDescriptorResponse(files) => Ok(files.file_descriptor_proto),
            MessageResponse::ErrorResponse(error) => Err(status_of(error.error_code, error.error_message)),
            _ => Err(Status::internal("the answer holds no files")),
        }
    }
}

fn encoded(question: MessageRequest) -> Bytes {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(question),
    };
    request.encode_to_vec().into()
}

fn status_of(code: i32, message: String) -> Status {
    Status::new(Code::from_i32(code), message)
}

async fn gather(
    mut conversation: Conversation,
    mut services: Vec<String>,
    version: &'static str,
) -> Result<Reflected, String> {
    services.sort();
    services.dedup();
    if services.len() > SERVICES_MAX {
        return Err(format!(
            "the server has {} services; at most {SERVICES_MAX} are allowed",
            services.len()
        ));
    }
    let mut files = Files::default();
    for service in &services {
        if files.services.contains(service) {
            continue;
        }
        let question = MessageRequest::FileContainingSymbol(service.clone());
        match conversation.files(question).await {
            Ok(came) => files.take(came)?,
            // A server may list these without having their descriptors at hand; nobody needs them to call the others.
            Err(status) if service.starts_with(OWN_PACKAGE) && messages::cause(&status).is_none() => {}
            Err(status) => return Err(format!("{service}: {}", explain(&status))),
        }
    }
    while let Some(name) = files.missing() {
        match conversation
            .files(MessageRequest::FileByFilename(name.clone()))
            .await
        {
            Ok(came) => files.take(came)?,
            Err(status) if status.code() == Code::NotFound => match well_known(&name) {
                Some(bytes) => files.take(vec![bytes])?,
                None => return Err(format!("the server imports {name:?}, but does not have it")),
            },
            Err(status) => return Err(format!("{name}: {}", explain(&status))),
        }
        if files.is_missing(&name) {
            return Err(format!(
                "the server was asked for {name:?} and answered with other files"
            ));
        }
    }
    services.retain(|service| files.services.contains(service));
    if services.is_empty() {
        return Err("the server lists no service of its own".into());
    }
    Ok(Reflected {
        descriptor_set: files.in_order(),
        services,
        version,
    })
}

/// As much of a `FileDescriptorProto` as is needed to find what is missing.
#[derive(Clone, PartialEq, Message)]
struct FileHead {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    package: Option<String>,
    #[prost(string, repeated, tag = "3")]
    imports: Vec<String>,
    #[prost(message, repeated, tag = "6")]
    services: Vec<Named>,
}

#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
}

/// A `FileDescriptorSet` whose files are left as they are.
#[derive(Clone, PartialEq, Message)]
struct FileSet {
    #[prost(bytes = "vec", repeated, tag = "1")]
    files: Vec<Vec<u8>>,
}

/// The files that came, by name.
#[derive(Default)]
struct Files {
    held: BTreeMap<String, (Vec<u8>, Vec<String>)>,
    services: BTreeSet<String>,
    wanted: BTreeSet<String>,
    bytes: usize,
}

impl Files {
    fn take(&mut self, came: Vec<Vec<u8>>) -> Result<(), String> {
        for bytes in came {
            let head = FileHead::decode(bytes.as_slice())
                .map_err(|_| "the server sent a file that is no FileDescriptorProto".to_owned())?;
            let name = head.name.unwrap_or_default();
            if self.held.contains_key(&name) {
                continue;
            }
            self.bytes += bytes.len();
            if self.held.len() >= FILES_MAX {
                return Err(format!("the server's descriptors are over {FILES_MAX} files"));
            }
            if self.bytes as u64 > SCHEMA_BYTES_MAX {
                return Err(format!(
                    "the server's descriptors are over {SCHEMA_BYTES_MAX} bytes"
                ));
            }
            let package = head.package.unwrap_or_default();
            let full_name = |service: Named| match (package.as_str(), service.name.unwrap_or_default()) {
                ("", name) => name,
                (package, name) => format!("{package}.{name}"),
            };
            self.services.extend(head.services.into_iter().map(full_name));
            self.wanted.extend(head.imports.iter().cloned());
            self.held.insert(name, (bytes, head.imports));
        }
        Ok(())
    }

    fn is_missing(&self, name: &str) -> bool {
        !self.held.contains_key(name)
    }

    /// A file that is imported and has not come.
    fn missing(&mut self) -> Option<String> {
        let held = &self.held;
        self.wanted.retain(|name| !held.contains_key(name));
        self.wanted.first().cloned()
    }

    /// Every file after those it imports; among equals, by name.
    fn in_order(mut self) -> Vec<u8> {
        let mut set = FileSet::default();
        let names: Vec<String> = self.held.keys().cloned().collect();
        // A stack of our own: a chain of imports may be as long as there are files.
        let mut waiting: Vec<(String, bool)> = names.into_iter().rev().map(|name| (name, false)).collect();
        let mut seen = BTreeSet::new();
        while let Some((name, imports_are_placed)) = waiting.pop() {
            if imports_are_placed {
                set.files.extend(self.held.remove(&name).map(|(bytes, _)| bytes));
                continue;
            }
            if !seen.insert(name.clone()) {
                continue;
            }
            let Some((_, imports)) = self.held.get(&name) else {
                continue;
            };
            waiting.push((name, true));
            waiting.extend(imports.iter().rev().map(|import| (import.clone(), false)));
        }
        set.encode_to_vec()
    }
}

/// A file that servers import and often do not have at hand: `google/protobuf/…` and the annotations.
fn well_known(name: &str) -> Option<Vec<u8>> {
    let own = FileSet::decode(mesh_proto::DESCRIPTORS).ok()?;
    own.files.into_iter().find(|bytes| {
        name.starts_with("google/")
            && FileHead::decode(bytes.as_slice()).is_ok_and(|head| head.name.as_deref() == Some(name))
    })
}

#[cfg(test)]
mod tests;
