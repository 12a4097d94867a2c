//! Edge: from the world to the mesh.

use std::rc::Rc;

use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderName, HeaderValue};
use hyper::body::Incoming;

use super::{Answered, Connection, bound_time, forward, judge, room};
use crate::call::Call;
use crate::gates::framing;
use crate::headers::clean_request;
use crate::reason::Rejection;
use crate::recognise::{self, Door, Recognition};
use crate::snapshot::ServiceEntry;
use crate::worker::View;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Serves one call.
pub(crate) async fn serve(
    connection: &Rc<Connection>,
    mut call: Box<Call>,
    mut head: Parts,
    body: Incoming,
) -> Answered {
    let view = connection.worker.view();
    // Services judge what comes through the edge as coming from the edge.
    call.caller = connection.worker.own_identity(&view);
    // 1 to 3 are done: whatever is refused below is answered and measured.
    let recognition = match decide(&view, &mut call, &mut head) {
        Ok(recognition) => recognition,
        Err(rejection) => return Err((call, rejection)),
    };
    // 10, 11 translate, and to an instance.
    let cluster = connection.worker.cluster(&view, recognition.service);
    forward(&cluster, &view.snapshot, recognition, head, body, call).await
}

fn decide(view: &View, call: &mut Call, head: &mut Parts) -> Result<Recognition, Rejection> {
    // 4 recognise: framing first, then what the world may not say is taken off, then service and RPC.
    framing::check(head)?;
    clean_request(&mut head.headers, true);
    let recognition = recognise::at_edge(&view.snapshot, head, call)?;
    if matches!(recognition.door, Door::Options(_)) {
        return Ok(recognition);
    }
    let entry = &view.snapshot.services[recognition.service];
    // 5 deadline
    bound_time(call, head, entry, recognition.unary)?;
    // 6, 7 jwt and access, as the called side will judge: the edge is the caller it sees. A refusal here costs it nothing.
    let judged = judge(call, head, view, entry)?;
    // The next sidecar verifies the token again. Where there is none, this is the last place that may see it.
    let next_is_sidecar = entry
        .endpoints
        .first()
        .is_none_or(|endpoint| ServiceEntry::is_meshed(endpoint));
    if judged.strip_token && !next_is_sidecar {
        head.headers.remove(AUTHORIZATION);
    }
    // 9 room
    room(call)?;
    if let Ok(value) = HeaderValue::from_str(&call.peer.address.ip().to_string()) {
        head.headers.insert(FORWARDED_FOR, value);
    }
    Ok(recognition)
}
