//! Outbound: from the app to the mesh. The authority names the service.

use std::rc::Rc;
use std::time::{Duration, Instant};

use http::header::HOST;
use http::request::Parts;
use hyper::body::Incoming;
use mesh_proto::name::ServiceName;

use super::{Answered, Connection, bound_time, forward, room};
use crate::call::Call;
use crate::gates::framing;
use crate::headers::{clean_request, single};
use crate::reason::{Reason, Rejection};
use crate::recognise::{self, Recognition};
use crate::snapshot::ServiceIndex;
use crate::worker::{View, Worker};

/// A service called for the first time may take this long to be learnt.
const FIRST_USE_WAIT: Duration = Duration::from_secs(2);

/// Serves one call.
pub(crate) async fn serve(
    connection: &Rc<Connection>,
    mut call: Box<Call>,
    mut head: Parts,
    body: Incoming,
) -> Answered {
    // 1 to 3 are done. 4 recognise: the service, learnt now if it is new here.
    let found = match named_service(&mut head) {
        Ok(service) => find(&connection.worker, &service).await,
        Err(rejection) => Err(rejection),
    };
    let decided = found.and_then(|(view, service)| {
        let recognition = decide(&view, service, &mut call, &mut head)?;
        Ok((view, recognition))
    });
    let (view, recognition) = match decided {
        Ok(decided) => decided,
        Err(rejection) => return Err((call, rejection)),
    };
    // 6, 7 jwt and access are the called side's to judge: its sidecar has the verdict that counts.
    // 10, 11 translate, and to an instance.
    let cluster = connection.worker.cluster(&view, recognition.service);
    forward(&cluster, &view.snapshot, recognition, head, body, call).await
}

fn decide(
    view: &View,
    service: ServiceIndex,
    call: &mut Call,
    head: &mut Parts,
) -> Result<Recognition, Rejection> {
    // 4 recognise, on: the RPC.
    clean_request(&mut head.headers, false);
    let recognition = recognise::within(&view.snapshot, service, head, call)?;
    // 5 deadline
    bound_time(call, head, &view.snapshot.services[service], recognition.unary)?;
    // 9 room
    room(call)?;
    Ok(recognition)
}

fn named_service(head: &mut Parts) -> Result<ServiceName, Rejection> {
    framing::check(head)?;
    let authority = head.uri.authority().map(http::uri::Authority::host);
    let name = authority.or_else(|| single(&head.headers, &HOST)).unwrap_or("");
    let name = name.split(':').next().unwrap_or("");
    ServiceName::parse(name).map_err(|why| {
        let message = format!("the authority must name a service, such as market.quotes: it {why}");
        Rejection::new(Reason::ServiceUnknown, message)
    })
}

/// Finds a service; one that is not known yet is asked for and waited for, boundedly.
async fn find(worker: &Rc<Worker>, service: &ServiceName) -> Result<(Rc<View>, ServiceIndex), Rejection> {
    let view = worker.view();
    match look_up(&view, service) {
        LookUp::Found(index) => Ok((view, index)),
        LookUp::Nowhere => Err(unknown(format!("there is no service {service}"))),
        LookUp::NotYet(_) => Box::pin(learn(worker, service)).await,
    }
}

/// Asks the control thread for a service and waits for what there is to know about it.
async fn learn(worker: &Rc<Worker>, service: &ServiceName) -> Result<(Rc<View>, ServiceIndex), Rejection> {
    let deadline = Instant::now() + FIRST_USE_WAIT;
    let mut changes = worker.shared.changes();
    worker.shared.want(service);
    loop {
        let view = worker.view();
        let partly = match look_up(&view, service) {
            LookUp::Found(index) => return Ok((view, index)),
            LookUp::Nowhere => return Err(unknown(format!("there is no service {service}"))),
            LookUp::NotYet(partly) => partly,
        };
        if tokio::time::timeout_at(deadline.into(), changes.changed())
            .await
            .is_err()
        {
            let nothing = || unknown(format!("nothing is known of {service} yet; try again shortly"));
            return partly.map(|index| (view, index)).ok_or_else(nothing);
        }
    }
}

enum LookUp {
    /// All there is to know is known.
    Found(ServiceIndex),
    /// There is no such service.
    Nowhere,
    /// Not everything has been heard of; what there is, if there is something.
    NotYet(Option<ServiceIndex>),
}

fn look_up(view: &View, service: &ServiceName) -> LookUp {
    let snapshot = &view.snapshot;
    let index = snapshot.find(service.as_str());
    if let Some(index) = index.filter(|index| snapshot.services[*index].complete) {
        return LookUp::Found(index);
    }
    let heard_of = snapshot.resources.services_known.contains(service);
    let documented = snapshot.resources.services.contains_key(service);
    match index.filter(|index| !snapshot.services[*index].endpoints.is_empty()) {
        // What was written as instances only, without a Service, can be called as it is.
        Some(index) if heard_of && !documented => LookUp::Found(index),
        None if heard_of && !documented => LookUp::Nowhere,
        _ => LookUp::NotYet(index.filter(|_| documented)),
    }
}

fn unknown(message: String) -> Rejection {
    Rejection::new(Reason::ServiceUnknown, message)
}
