//! Unary calls of Connect that are a GET, and calls that are almost one of Connect's.

use std::sync::Arc;

use http::Method;
use http::header::ALLOW;
use http::request::Parts;
use mesh_transcode::connect::Get;

use super::{Door, Recognition, rpc_name};
use crate::call::{Call, Speaks};
use crate::reason::{Reason, Rejection};
use crate::snapshot::{ServiceEntry, ServiceIndex};
use crate::translate::caller::connect;
use crate::translate::{Caller, Codec};

type Rpc = mesh_transcode::Method;

/// The query of a unary Connect call, where it may be one.
pub(super) fn query(head: &Parts) -> Option<&str> {
    head.uri
        .query()
        .filter(|query| head.method == Method::GET && Get::is(query))
}

/// A unary Connect call as a GET.
pub(super) fn call(
    method: &Arc<Rpc>,
    service: ServiceIndex,
    query: &str,
    call: &mut Call,
) -> Result<Recognition, Rejection> {
    call.speaks = Speaks::Connect(connect::Form::GET);
    call.rpc = Some(method.shared_name());
    call.rpc_known = true;
    if !takes_get(method) {
        let message = format!(
            "{} is not called with GET: its schema does not say that it has no side effects",
            method.name()
        );
        return Err(Rejection::new(Reason::MethodNotAllowed, message).or_instead(ALLOW, "POST"));
    }
    let get = Get::parse(query)?;
    let codec = if get.json {
        Codec::Json(method.clone())
    } else {
        Codec::Proto
    };
    Ok(Recognition {
        service,
        door: Door::Translated(Caller::Connect(Box::new(connect::Caller::get(get, codec)))),
        unary: true,
    })
}

/// A path that nothing answers may be the name of a method, in a call that is almost one of Connect.
///
/// # Errors
/// It is, and what the method takes.
pub(super) fn check_method(entry: &ServiceEntry, head: &Parts, call: &mut Call) -> Result<(), Rejection> {
    let form = connect::Form::named(head);
    let almost = head.method == Method::GET || (head.method != Method::POST && form.is_some());
    let method = entry
        .schema
        .as_ref()
        .and_then(|schema| schema.method(rpc_name(head)));
    let Some(method) = method.filter(|_| almost) else {
        return Ok(());
    };
    if let Some(form) = form {
        call.speaks = Speaks::Connect(form);
    }
    call.service = Some(entry.name.clone());
    call.rpc = Some(method.shared_name());
    call.rpc_known = true;
    let (allow, how) = if takes_get(method) {
        (
            "GET, POST",
            "POST, or with GET and Connect's query (encoding, message)",
        )
    } else {
        ("POST", "POST")
    };
    let message = format!("{} is called with {how}", method.name());
    Err(Rejection::new(Reason::MethodNotAllowed, message).or_instead(ALLOW, allow))
}

fn takes_get(method: &Rpc) -> bool {
    method.no_side_effects() && !method.client_streaming() && !method.server_streaming()
}
