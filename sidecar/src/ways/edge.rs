//! Edge: from the world to the mesh.

use std::rc::Rc;

use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use hyper::body::Incoming;

use super::{Answered, Connection, bound_time, forward, judge, room};
use crate::answer::refuse;
use crate::body::AnswerBody;
use crate::call::Call;
use crate::gates::cors::Policy;
use crate::gates::framing;
use crate::headers::clean_request;
use crate::openapi;
use crate::reason::{Reason, Rejection};
use crate::recognise::{self, Door, Recognition};
use crate::snapshot::{ServiceEntry, Snapshot};
use crate::translate;
use crate::websocket::{self, Handshake, Session};
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
    if websocket::is_asked(&head) {
        return open(connection, view, call, head);
    }
    // 1 to 3 are done: whatever is refused below is answered and measured.
    if openapi::is_asked(&connection.worker.shared.config, &head) {
        return match framing::check_outside(&head) {
            Ok(_) => openapi::answer(&view.snapshot, &head, call).await,
            Err(rejection) => Err((call, rejection)),
        };
    }
    let recognition = match decide(&view, &mut call, &mut head, recognise::at_edge) {
        Ok(recognition) => recognition,
        Err(rejection) => return Err((call, rejection)),
    };
    // 10, 11 translate, and to an instance.
    let cluster = connection.worker.cluster(&view, recognition.service);
    forward(&cluster, &view.snapshot, recognition, head, body, call).await
}

/// Answers a browser that asks whether a page may call. No gate is asked, for a preflight carries no token, and no service is
/// called.
pub(crate) fn preflight(
    connection: &Connection,
    policy: &Policy,
    call: Box<Call>,
    head: &Parts,
) -> Response<AnswerBody> {
    let view = connection.worker.view();
    let methods = framing::check_outside(head).and_then(|()| {
        let methods = recognise::methods_at_edge(&view.snapshot, head);
        methods.ok_or_else(|| Rejection::new(Reason::RouteUnknown, "no method has this path"))
    });
    let grant = policy.grant(&head.headers);
    match methods {
        Ok(methods) => {
            let mut response = translate::options(&methods, call);
            policy.mark_preflight(&grant, &head.headers, &methods, response.headers_mut());
            response
        }
        Err(rejection) => {
            let mut response = refuse(call, &rejection);
            policy.mark(&grant, response.headers_mut());
            response
        }
    }
}

/// Opens a WebSocket: judged as every call is, and where its page comes from besides. The call goes on when the handshake
/// is out.
fn open(connection: &Connection, view: Rc<View>, mut call: Box<Call>, mut head: Parts) -> Answered {
    let policy = connection.worker.shared.cors.as_deref();
    let judged = Handshake::judge(&head, policy).and_then(|handshake| {
        websocket::strip(&mut head.headers);
        let recognition = decide(&view, &mut call, &mut head, recognise::socket_at_edge)?;
        Ok((handshake, recognition))
    });
    let (handshake, recognition) = match judged {
        Ok(judged) => judged,
        Err(rejection) => return Err((call, rejection)),
    };
    // A socket is answered before anything was said on it.
    if let Some(conditions) = call.conditions.take() {
        return Err((call, conditions.refuse()));
    }
    let Door::Translated(caller) = recognition.door else {
        let why = "only methods with a rule for JSON are called over a WebSocket";
        return Err((call, Rejection::new(Reason::NotTranslatable, why)));
    };
    let session = Session {
        cluster: connection.worker.cluster(&view, recognition.service),
        service: recognition.service,
        view,
        head,
        caller,
        call,
    };
    *connection.session.borrow_mut() = Some(Box::new(session));
    let mut response = Response::new(AnswerBody::none());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = handshake.headers();
    Ok(response)
}

fn decide(
    view: &View,
    call: &mut Call,
    head: &mut Parts,
    recognise: impl FnOnce(&Snapshot, &Parts, &mut Call) -> Result<Recognition, Rejection>,
) -> Result<Recognition, Rejection> {
    // 4 recognise: framing first, then what the world may not say is taken off, then service and RPC.
    framing::check_outside(head)?;
    clean_request(&mut head.headers, true);
    let recognition = recognise(&view.snapshot, head, call)?;
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
