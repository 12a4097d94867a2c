//! The gRPC side of documents.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_proto::Kind;
use mesh_proto::google::rpc::bad_request::FieldViolation;
use mesh_proto::v1::documents_server::Documents;
use mesh_proto::v1::watch_response::Event;
use mesh_proto::v1::{
    ApplyRequest, ApplyResponse, ApplyResult, DeleteRequest, DeleteResponse, Document, GetRequest,
    ListRequest, ListResponse, StoredDocument, WatchRequest, WatchResponse,
};
use tokio::sync::{Mutex, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::judge::{self, Outcome, Refusal};
use crate::caller;
use crate::catalog;
use crate::control::Control;
use crate::registry::{Expect, Key, State, Stored, Write};

/// Messages of a watch that wait for their reader.
const QUEUE: usize = 16;
/// What a refusal's message shows of its faults; the details hold more.
const MESSAGE_FAULTS_MAX: usize = 20;
/// Faults in the details, which travel in a header.
const DETAIL_FAULTS_MAX: usize = 40;
/// Bytes of faults in the details. Clients refuse headers over some 16 KiB, and details travel in base64.
const DETAIL_BYTES_MAX: usize = 6 << 10;

/// The service.
pub struct DocumentsService {
    control: Arc<Control>,
    /// One change after the other, so that each is judged against what the one before it left.
    turn: Mutex<()>,
}

impl DocumentsService {
    /// For this process.
    #[must_use]
    pub fn new(control: Arc<Control>) -> Self {
        Self {
            control,
            turn: Mutex::default(),
        }
    }

    fn operator<T>(&self, request: &Request<T>) -> Result<String, Status> {
        caller::operator(request.extensions(), self.control.ca.trust_domain())
    }

    async fn apply_judged(&self, operator: &str, request: ApplyRequest) -> Result<ApplyResponse, Status> {
        let _turn = self.turn.lock().await;
        let state = self.control.loaded()?;
        let plan =
            judge::apply(request.items, &state, &self.control.authority.trust_domain).map_err(refused)?;
        let mut revisions = BTreeMap::new();
        if !request.dry_run && !plan.writes.is_empty() {
            let keys: Vec<Key> = plan.writes.iter().map(|write| write.key.clone()).collect();
            let written = self.control.registry.write(plan.writes).await?;
            for key in &keys {
                tracing::info!(operator, document = %key, "stored");
            }
            revisions = keys.into_iter().zip(written).collect();
        }
        let result = |outcome: Outcome| self.result(outcome, &state, &revisions);
        Ok(ApplyResponse {
            results: plan.outcomes.into_iter().map(result).collect(),
        })
    }

    fn result(&self, outcome: Outcome, state: &State, revisions: &BTreeMap<Key, String>) -> ApplyResult {
        let item = &outcome.item;
        let key = Key::of(&item.resource);
        let stored = state.documents.get(&key).map(|stored| stored.revision.clone());
        ApplyResult {
            kind: item.kind.as_str().to_owned(),
            name: key.name.clone(),
            action: outcome.action.into(),
            version: catalog::pushed_version(item, &self.control.authority),
            type_url: item.kind.type_url().to_owned(),
            resource_name: item.name.clone(),
            revision: revisions.get(&key).cloned().or(stored).unwrap_or_default(),
            warnings: outcome.warnings,
        }
    }

    async fn delete_judged(&self, operator: &str, request: DeleteRequest) -> Result<DeleteResponse, Status> {
        let _turn = self.turn.lock().await;
        let state = self.control.loaded()?;
        let key = Key {
            kind: kind(&request.kind)?,
            name: request.name,
        };
        let Some(stored) = state.documents.get(&key) else {
            if key.kind == Kind::Instance && state.instances.contains_key(&key.name) {
                return Err(Status::failed_precondition(format!(
                    "{key} is registered by its sidecar, not a document; stop that sidecar"
                )));
            }
            return Err(not_found(&key, &state));
        };
        let unneeded = judge::delete(&key, &state).map_err(|referring| {
            Status::failed_precondition(format!(
                "{key} is referred to by {}; delete those first",
                referring.join(", ")
            ))
        })?;
        let expect = match request.if_revision.as_str() {
            "" => Expect::Anything,
            revision => Expect::Revision(revision.to_owned()),
        };
        let mut writes = vec![Write {
            key: key.clone(),
            content: None,
            expect,
        }];
        writes.extend(unneeded.into_iter().map(|key| Write {
            key,
            content: None,
            expect: Expect::Anything,
        }));
        self.control.registry.write(writes).await?;
        tracing::info!(operator, document = %key, "deleted");
        Ok(DeleteResponse {
            deleted: Some(message(stored)),
        })
    }
}

#[tonic::async_trait]
impl Documents for DocumentsService {
    async fn apply(&self, request: Request<ApplyRequest>) -> Result<Response<ApplyResponse>, Status> {
        let operator = self.operator(&request)?;
        let result = self.apply_judged(&operator, request.into_inner()).await;
        self.control.metrics.wrote(outcome_word(&result));
        result.map(Response::new)
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<StoredDocument>, Status> {
        self.operator(&request)?;
        let state = self.control.loaded()?;
        let request = request.into_inner();
        let key = Key {
            kind: kind(&request.kind)?,
            name: request.name,
        };
        match find(&state, &key) {
            Some(stored) => Ok(Response::new(message(&stored))),
            None => Err(not_found(&key, &state)),
        }
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        self.operator(&request)?;
        let state = self.control.loaded()?;
        let wanted = wanted(&request.get_ref().kind, "")?;
        let documents = everything(&state);
        let documents = documents.iter().filter(|(key, _)| wanted(key));
        Ok(Response::new(ListResponse {
            documents: documents.map(|(_, stored)| message(stored)).collect(),
        }))
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Result<Response<DeleteResponse>, Status> {
        let operator = self.operator(&request)?;
        let result = self.delete_judged(&operator, request.into_inner()).await;
        self.control.metrics.wrote(outcome_word(&result));
        result.map(Response::new)
    }

    type WatchStream = ReceiverStream<Result<WatchResponse, Status>>;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        self.operator(&request)?;
        let request = request.get_ref();
        let wanted = wanted(&request.kind, &request.name)?;
        let (events, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(watch(Arc::clone(&self.control), wanted, events));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

type Wanted = Box<dyn Fn(&Key) -> bool + Send + Sync>;

/// What there is, then every change.
async fn watch(control: Arc<Control>, wanted: Wanted, events: mpsc::Sender<Result<WatchResponse, Status>>) {
    let mut view = control.state.clone();
    let mut told: BTreeMap<Key, Arc<Stored>> = BTreeMap::new();
    let mut synced = false;
    loop {
        let state = Arc::clone(&view.borrow_and_update());
        if state.loaded {
            let mut now = everything(&state);
            now.retain(|key, _| wanted(key));
            let mut changes = changes(&told, &now);
            if !synced {
                synced = true;
                changes.push(event(Event::Synced, None));
            }
            told = now;
            for change in changes {
                if events.send(Ok(change)).await.is_err() {
                    return;
                }
            }
        }
        tokio::select! {
            changed = view.changed() => if changed.is_err() { return },
            () = events.closed() => return,
            () = control.stop.cancelled() => {
                let _ = events.try_send(Err(Status::unavailable("this xds-lite stops")));
                return;
            }
        }
    }
}

fn changes(before: &BTreeMap<Key, Arc<Stored>>, now: &BTreeMap<Key, Arc<Stored>>) -> Vec<WatchResponse> {
    let stored = now.iter().filter(|(key, stored)| {
        before
            .get(key)
            .is_none_or(|old| !Arc::ptr_eq(old, stored) && old != *stored)
    });
    let gone = before.iter().filter(|(key, _)| !now.contains_key(key));
    let stored = stored.map(|(_, stored)| event(Event::Stored, Some(message(stored))));
    stored
        .chain(gone.map(|(_, stored)| event(Event::Deleted, Some(message(stored)))))
        .collect()
}

fn event(event: Event, document: Option<StoredDocument>) -> WatchResponse {
    WatchResponse {
        event: event.into(),
        document,
    }
}

/// Documents, and the instances that sidecars registered.
fn everything(state: &State) -> BTreeMap<Key, Arc<Stored>> {
    let mut all = state.documents.clone();
    for (name, stored) in &state.instances {
        all.insert(
            Key {
                kind: Kind::Instance,
                name: name.clone(),
            },
            registered(stored),
        );
    }
    all
}

/// An instance as its sidecar registered it: nobody wrote it, so it has no revision that could be written against.
fn registered(stored: &Stored) -> Arc<Stored> {
    Arc::new(Stored {
        item: Arc::clone(&stored.item),
        schema: stored.schema.clone(),
        revision: String::new(),
        modified: stored.modified,
    })
}

fn find(state: &State, key: &Key) -> Option<Arc<Stored>> {
    let instance = match key.kind {
        Kind::Instance => state.instances.get(&key.name),
        _ => None,
    };
    let document = || state.documents.get(key).map(Arc::clone);
    instance.map(|stored| registered(stored)).or_else(document)
}

fn wanted(kind_text: &str, name: &str) -> Result<Wanted, Status> {
    let kind = match kind_text {
        "" => None,
        text => Some(kind(text)?),
    };
    let name = name.to_owned();
    Ok(Box::new(move |key: &Key| {
        kind.is_none_or(|kind| kind == key.kind) && (name.is_empty() || name == key.name)
    }))
}

fn kind(text: &str) -> Result<Kind, Status> {
    Kind::parse(text).ok_or_else(|| {
        let known = Kind::ALL.map(Kind::as_str).join(", ");
        let text: String = text.chars().take(80).collect();
        Status::invalid_argument(format!("kind: {text:?} is not one of {known}"))
    })
}

fn message(stored: &Arc<Stored>) -> StoredDocument {
    StoredDocument {
        document: Some(Document {
            resource: Some(stored.item.resource.clone()),
        }),
        version: stored.item.version.clone(),
        revision: stored.revision.clone(),
        modified: Some(stored.modified.into()),
    }
}

fn not_found(key: &Key, state: &State) -> Status {
    let all = everything(state);
    let known: Vec<&str> = all
        .keys()
        .filter(|k| k.kind == key.kind)
        .map(|k| k.name.as_str())
        .take(10)
        .collect();
    let name: String = key.name.chars().take(200).filter(|c| !c.is_control()).collect();
    let known = match known.as_slice() {
        [] => format!("there is no {} at all", key.kind),
        names => format!("there is {}", names.join(", ")),
    };
    Status::not_found(format!("there is no {}/{name}; {known}", key.kind))
}

fn refused(refusal: Refusal) -> Status {
    match refusal {
        Refusal::Lost(lines) => Status::aborted(lines.join("; ")),
        Refusal::Faults(faults) => {
            let shown: Vec<String> = faults.iter().take(MESSAGE_FAULTS_MAX).map(line).collect();
            let rest = faults.len() - shown.len();
            let mut message = shown.join("\n");
            if rest > 0 {
                message.push_str(&format!("\nand {rest} more"));
            }
            let mut details = ErrorDetails::new();
            let mut bytes = 0;
            for fault in faults.iter().take(DETAIL_FAULTS_MAX) {
                bytes += fault.field.len() + fault.description.len();
                if bytes > DETAIL_BYTES_MAX {
                    break;
                }
                details.add_bad_request_violation(&fault.field, &fault.description);
            }
            Status::with_error_details(Code::InvalidArgument, bounded(message), details)
        }
    }
}

/// The message travels in a header too.
fn bounded(mut message: String) -> String {
    let mut end = message.len().min(DETAIL_BYTES_MAX / 2);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message.truncate(end);
    message
}

fn line(fault: &FieldViolation) -> String {
    format!("{}: {}", fault.field, fault.description)
}

fn outcome_word<T>(result: &Result<T, Status>) -> &'static str {
    match result.as_ref().map_err(Status::code) {
        Ok(_) => "ok",
        Err(Code::InvalidArgument | Code::FailedPrecondition | Code::NotFound) => "refused",
        Err(Code::Aborted) => "lost",
        Err(_) => "failed",
    }
}
