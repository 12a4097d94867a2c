//! The gRPC side of the delta streams: one task each, a bounded queue, the newest snapshot wins.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mesh_proto::Kind;
use mesh_proto::discovery::aggregated_discovery_service_server::AggregatedDiscoveryService;
use mesh_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};
use mesh_proto::name::{InstanceName, ServiceName};
use prost_types::value::Kind as Value;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::book::{Entered, Sidecar};
use crate::caller;
use crate::control::Control;
use crate::registry::exposures;

/// Responses that wait for the connection. More wait in nobody's memory: the newest snapshot wins.
const QUEUE: usize = 4;
/// A sidecar that reads nothing for so long is let go.
const SLOW_READER: Duration = Duration::from_secs(60);
/// A stream must say who it belongs to within this.
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// What is shown of the program's version, in characters.
const VERSION_CHARS_MAX: usize = 64;

/// The service.
#[derive(Clone)]
pub struct Ads(pub Arc<Control>);

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type DeltaAggregatedResourcesStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let service = caller::service(request.extensions(), self.0.ca.trust_domain())?;
        let peer = caller::address(request.extensions()).map(|address| address.to_string());
        let (responses, receiver) = mpsc::channel(QUEUE);
        let control = Arc::clone(&self.0);
        tokio::spawn(async move {
            let requests = request.into_inner();
            if let Err(status) =
                serve(&control, &service, peer.unwrap_or_default(), requests, &responses).await
            {
                tracing::debug!(%service, code = ?status.code(), reason = status.message(), "a stream ended");
                // Who does not read does not hear this either.
                let _ = responses.try_send(Err(status));
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

type Responses = mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>;

async fn serve(
    control: &Control,
    service: &ServiceName,
    peer: String,
    mut requests: Streaming<DeltaDiscoveryRequest>,
    responses: &Responses,
) -> Result<(), Status> {
    let first = tokio::time::timeout(FIRST_REQUEST, requests.message())
        .await
        .map_err(|_| Status::deadline_exceeded("the stream did not say whose it is"))??;
    let Some(first) = first else { return Ok(()) };
    let entered = enter(control, service, peer, first.node.as_ref())?;
    let mut shell = Shell {
        control,
        entered,
        responses,
        sent: HashMap::new(),
    };
    let mut published = control.published.clone();
    shell.snapshot(&mut published).await?;
    shell.request(first).await?;
    loop {
        tokio::select! {
            () = control.stop.cancelled() => {
                return Err(Status::unavailable("this xds-lite stops; another replica goes on"));
            }
            () = responses.closed() => return Ok(()),
            request = requests.message() => match request? {
                Some(request) => shell.request(request).await?,
                None => return Ok(()),
            },
            changed = published.changed() => match changed {
                Ok(()) => shell.snapshot(&mut published).await?,
                Err(_) => return Err(Status::unavailable("this xds-lite stops; another replica goes on")),
            },
        }
    }
}

/// Holds the node that the stream names against the certificate.
fn enter(
    control: &Control,
    service: &ServiceName,
    peer: String,
    node: Option<&Node>,
) -> Result<Entered, Status> {
    let node = node.ok_or_else(|| Status::invalid_argument("the first request names no node"))?;
    let name =
        InstanceName::parse(&node.id).map_err(|why| Status::invalid_argument(format!("node.id {why}")))?;
    if name.service != *service || node.cluster != service.as_str() {
        return Err(Status::permission_denied(format!(
            "the certificate is that of {service}, but the node is {} of cluster {:?}; both must be of {service}",
            name, node.cluster
        )));
    }
    let version = node.user_agent_version.chars().take(VERSION_CHARS_MAX).collect();
    let exposes = exposed(node);
    let sidecar = Sidecar::new(name.to_string(), service.to_string(), version, peer, exposes);
    tracing::info!(node = sidecar.node, peer = sidecar.peer, "a sidecar is connected");
    Ok(control.book.enter(sidecar))
}

/// What the node's edge exposes, by what it says of itself.
fn exposed(node: &Node) -> BTreeSet<String> {
    let told = node
        .metadata
        .as_ref()
        .and_then(|metadata| metadata.fields.get(mesh_proto::NODE_EXPOSES));
    let Some(Value::ListValue(names)) = told.and_then(|value| value.kind.as_ref()) else {
        return BTreeSet::new();
    };
    exposures::services(names.values.iter().filter_map(|name| match &name.kind {
        Some(Value::StringValue(name)) => Some(name.as_str()),
        _ => None,
    }))
}

/// A stream and its connection.
struct Shell<'a> {
    control: &'a Control,
    entered: Entered,
    responses: &'a Responses,
    /// When each unanswered response went out, by nonce.
    sent: HashMap<String, Instant>,
}

impl Shell<'_> {
    async fn request(&mut self, request: DeltaDiscoveryRequest) -> Result<(), Status> {
        let kind = Kind::from_type_url(&request.type_url);
        let refused = request.error_detail.is_some();
        if let (Some(kind), Some(since)) = (kind, self.sent.remove(&request.response_nonce)) {
            self.control.metrics.answered(kind, refused, since.elapsed());
            if refused {
                let message = request
                    .error_detail
                    .as_ref()
                    .map_or("", |detail| detail.message.as_str());
                let reason: String = message.chars().take(1000).collect();
                tracing::warn!(node = self.entered.sidecar.node, %kind, reason, "a sidecar refused");
            }
        }
        let responses = self
            .entered
            .sidecar
            .stream()
            .on_request(SystemTime::now(), &request);
        self.control.book.touch();
        self.send(responses.map_err(Status::resource_exhausted)?).await
    }

    async fn snapshot(
        &mut self,
        published: &mut tokio::sync::watch::Receiver<Option<Arc<crate::snapshot::Published>>>,
    ) -> Result<(), Status> {
        let Some(newest) = published.borrow_and_update().clone() else {
            return Ok(());
        };
        let responses = self.entered.sidecar.stream().on_snapshot(&newest);
        if !responses.is_empty() {
            self.control.book.touch();
        }
        self.send(responses).await
    }

    async fn send(&mut self, responses: Vec<DeltaDiscoveryResponse>) -> Result<(), Status> {
        for response in responses {
            if let Some(kind) = Kind::from_type_url(&response.type_url) {
                self.control
                    .metrics
                    .pushed(kind, response.resources.len() + response.removed_resources.len());
                self.sent.insert(response.nonce.clone(), Instant::now());
            }
            match self.responses.send_timeout(Ok(response), SLOW_READER).await {
                Ok(()) => {}
                Err(mpsc::error::SendTimeoutError::Closed(_)) => return Err(Status::cancelled("it went")),
                Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                    tracing::warn!(
                        node = self.entered.sidecar.node,
                        "a sidecar reads nothing; its stream is ended"
                    );
                    return Err(Status::deadline_exceeded("nothing was read for too long"));
                }
            }
        }
        Ok(())
    }
}

impl Drop for Shell<'_> {
    fn drop(&mut self) {
        tracing::info!(node = self.entered.sidecar.node, "a sidecar is gone");
    }
}
