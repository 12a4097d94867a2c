//! Status: who is connected, and what each has applied or refused.

use std::sync::Arc;
use std::time::Duration;

use mesh_proto::Kind;
use mesh_proto::v1::status_server::Status as StatusApi;
use mesh_proto::v1::{
    GetStatusRequest, GetStatusResponse, Nack, RegistryStatus, Replica, ResourceStatus, SidecarStatus,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::ads::book::Sidecar;
use crate::ads::types;
use crate::caller;
use crate::control::Control;
use crate::registry::State;

/// Between two messages of a watch at least this passes.
const WATCH_INTERVAL: Duration = Duration::from_millis(50);

/// The service.
#[derive(Clone)]
pub struct StatusService(pub Arc<Control>);

#[tonic::async_trait]
impl StatusApi for StatusService {
    async fn get_status(
        &self,
        request: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        caller::operator(request.extensions(), self.0.ca.trust_domain())?;
        let filter = Filter::read(&request.into_inner())?;
        Ok(Response::new(look(&self.0, &filter)))
    }

    type WatchStatusStream = ReceiverStream<Result<GetStatusResponse, Status>>;

    async fn watch_status(
        &self,
        request: Request<GetStatusRequest>,
    ) -> Result<Response<Self::WatchStatusStream>, Status> {
        caller::operator(request.extensions(), self.0.ca.trust_domain())?;
        let filter = Filter::read(&request.into_inner())?;
        let (answers, receiver) = mpsc::channel(1);
        tokio::spawn(watch(Arc::clone(&self.0), filter, answers));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// Sends the state now and after every change that passes the filter.
async fn watch(
    control: Arc<Control>,
    filter: Filter,
    answers: mpsc::Sender<Result<GetStatusResponse, Status>>,
) {
    let mut book = control.book.watch();
    let mut state = control.state.clone();
    let mut last: Option<GetStatusResponse> = None;
    loop {
        book.mark_unchanged();
        state.mark_unchanged();
        let shown = look(&control, &filter);
        let mut now = shown.clone();
        // When the registry was last read is no change.
        if let Some(registry) = &mut now.registry {
            registry.last_read = None;
        }
        if last.as_ref() != Some(&now) {
            last = Some(now);
            if answers.send(Ok(shown)).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(WATCH_INTERVAL).await;
        tokio::select! {
            changed = book.changed() => if changed.is_err() { return },
            changed = state.changed() => if changed.is_err() { return },
            () = answers.closed() => return,
            () = control.stop.cancelled() => {
                let _ = answers.try_send(Err(Status::unavailable("this xds-lite stops")));
                return;
            }
        }
    }
}

/// What is asked for.
#[derive(Debug, Default)]
struct Filter {
    kind: Option<Kind>,
    name: Option<String>,
}

impl Filter {
    fn read(request: &GetStatusRequest) -> Result<Self, Status> {
        let kind = match request.type_url.as_str() {
            "" => None,
            url => Some(Kind::from_type_url(url).ok_or_else(|| {
                Status::invalid_argument(format!(
                    "type_url: {url:?} is not known; write for example {}",
                    Kind::Service.type_url()
                ))
            })?),
        };
        let name = Some(request.resource_name.clone()).filter(|name| !name.is_empty());
        if name.is_some() && kind.is_none() {
            return Err(Status::invalid_argument(
                "resource_name: needs a type_url beside it",
            ));
        }
        Ok(Self { kind, name })
    }

    fn wants_sidecar(&self, sidecar: &Sidecar) -> bool {
        let stream = sidecar.stream();
        match (self.kind, &self.name) {
            (Some(kind), Some(name)) => stream.subscribes(kind, name),
            (Some(kind), None) => stream.progress().any(|(found, _, _)| found == kind),
            _ => true,
        }
    }

    fn wants_resource(&self, kind: Kind, name: &str) -> bool {
        self.kind.is_none_or(|wanted| wanted == kind)
            && self.name.as_ref().is_none_or(|wanted| wanted == name)
    }
}

fn look(control: &Control, filter: &Filter) -> GetStatusResponse {
    let state = Arc::clone(&control.state.borrow());
    let sidecars = control.book.all();
    let wanted = sidecars
        .iter()
        .filter(|(sidecar, _)| filter.wants_sidecar(sidecar));
    let replicas = state.replicas.iter().map(|(id, address)| Replica {
        id: id.clone(),
        address: address.clone(),
    });
    GetStatusResponse {
        replica: control.replica.clone(),
        replicas: replicas.collect(),
        sidecars: wanted
            .map(|(sidecar, kept)| sidecar_status(sidecar, kept.as_ref(), filter))
            .collect(),
        registry: Some(registry_status(control, &state)),
    }
}

fn registry_status(control: &Control, state: &State) -> RegistryStatus {
    RegistryStatus {
        registry: control.registry_name.clone(),
        connected: state.connected,
        last_read: state.last_read.map(Into::into),
        documents: u64::try_from(state.documents.len()).unwrap_or(u64::MAX),
        instances: u64::try_from(state.instances.len()).unwrap_or(u64::MAX),
        faults: state.faults.clone(),
    }
}

fn sidecar_status(sidecar: &Sidecar, kept: Option<&types::Nack>, filter: &Filter) -> SidecarStatus {
    let stream = sidecar.stream();
    let resources = stream
        .progress()
        .filter(|(kind, name, _)| filter.wants_resource(*kind, name));
    let resources = resources.map(|(kind, name, progress)| ResourceStatus {
        type_url: kind.type_url().to_owned(),
        name: name.clone(),
        version_sent: progress.sent.clone(),
        version_applied: progress
            .applied
            .as_ref()
            .map(|(version, _)| version.clone())
            .unwrap_or_default(),
        applied: progress.applied.as_ref().map(|(_, at)| (*at).into()),
        nack: progress.nack.as_ref().map(nack),
    });
    SidecarStatus {
        node: sidecar.node.clone(),
        service: sidecar.service.clone(),
        connected_since: Some(sidecar.since.into()),
        version: sidecar.version.clone(),
        peer: sidecar.peer.clone(),
        resources: resources.collect(),
        last_nack: stream.last_nack().or(kept).map(nack),
    }
}

fn nack(nack: &types::Nack) -> Nack {
    Nack {
        type_url: nack.kind.type_url().to_owned(),
        name: nack.name.clone(),
        version: nack.version.clone(),
        reason: nack.reason.clone(),
        at: Some(nack.at.into()),
    }
}
