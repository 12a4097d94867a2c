//! Inbound: from the mesh to the app.

use std::rc::Rc;

use http::header::AUTHORIZATION;
use http::request::Parts;
use hyper::body::Incoming;

use super::{Answered, Connection, bound_time, forward, judge, room};
use crate::call::Call;
use crate::gates::framing;
use crate::headers::{CALLER, clean_request};
use crate::reason::{Reason, Rejection};
use crate::recognise::{self, Recognition};
use crate::worker::View;

/// Serves one call.
pub(crate) async fn serve(
    connection: &Rc<Connection>,
    mut call: Box<Call>,
    mut head: Parts,
    body: Incoming,
) -> Answered {
    let view = connection.worker.view();
    // 1 to 3 are done: the peer is known, and whatever is refused below is answered and measured.
    let recognition = match decide(&view, &mut call, &mut head) {
        Ok(recognition) => recognition,
        Err(rejection) => return Err((call, rejection)),
    };
    // 10, 11 translate, and to the app.
    let protocol = view.snapshot.services[recognition.service].protocol;
    let Some(app) = connection.worker.app(protocol) else {
        return Err((
            call,
            Rejection::new(Reason::NoInstance, "no app is configured behind this sidecar"),
        ));
    };
    forward(&app, &view.snapshot, recognition, head, body, call).await
}

fn decide(view: &View, call: &mut Call, head: &mut Parts) -> Result<Recognition, Rejection> {
    // 4 recognise: framing first, then what only the mesh may say is taken off, then the RPC.
    framing::check(head)?;
    clean_request(&mut head.headers, false);
    let own = view
        .snapshot
        .own
        .ok_or_else(|| Rejection::new(Reason::ServiceUnknown, "this sidecar's own service is not known"))?;
    let recognition = recognise::within(&view.snapshot, own, head, call)?;
    let entry = &view.snapshot.services[own];
    // 5 deadline
    bound_time(call, head, entry, recognition.unary)?;
    // 6, 7 jwt and access: this sidecar's verdict is the one that counts for its app.
    let judged = judge(call, head, view, entry)?;
    if judged.strip_token {
        head.headers.remove(AUTHORIZATION);
    }
    // 9 room
    room(call)?;
    if let Some(header) = call.caller.as_ref().and_then(|caller| caller.header.clone()) {
        head.headers.insert(CALLER, header);
    }
    Ok(recognition)
}
