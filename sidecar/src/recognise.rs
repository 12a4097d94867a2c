//! Recognise early: the head alone names the service and the RPC, whatever the caller speaks.
//!
//! ```text
//!  content-type application/grpc, application/grpc-web ─► the path is package.Service/Method
//!  otherwise ─► the REST rules of the schemas ─► a prefix of a plain HTTP service ─► nothing
//! ```

mod get;

use std::sync::Arc;

use http::Method;
use http::header::ALLOW;
use http::request::Parts;
use mesh_proto::domain::Protocol;
use mesh_transcode::{Match, Recognised};

use crate::call::{Call, Speaks};
use crate::gates::framing::check_canonical;
use crate::reason::{Reason, Rejection};
use crate::snapshot::{ServiceEntry, ServiceIndex, Snapshot};
use crate::translate::caller::{connect, grpc, grpc_web, rest as rest_caller};
use crate::translate::service::rest as rest_service;
use crate::translate::{Caller, Codec};

/// What a call turned out to be.
pub(crate) enum Door {
    /// gRPC, passed through.
    Grpc,
    /// In other words than the service's.
    Translated(Caller),
    /// OPTIONS: answered here.
    Options(String),
    /// Plain HTTP, passed through; the prefix that was taken off the path.
    Http(Option<Arc<str>>),
}

/// A recognised call.
pub(crate) struct Recognition {
    pub(crate) service: ServiceIndex,
    pub(crate) door: Door,
    /// Whether it is known to have one request and one answer.
    pub(crate) unary: bool,
}

/// Recognises a call to one known service.
///
/// # Errors
/// It has no such method or path.
pub(crate) fn within(
    snapshot: &Snapshot,
    service: ServiceIndex,
    head: &Parts,
    call: &mut Call,
) -> Result<Recognition, Rejection> {
    let entry = &snapshot.services[service];
    call.service = Some(entry.name.clone());
    if let Some(recognised) = by_name(entry, service, head, call) {
        return recognised;
    }
    let recognised = entry.router.recognise(head.method.as_str(), head.uri.path());
    match recognised {
        Recognised::Found(found) => by_rule(snapshot, found, head, call),
        // Of a plain HTTP service a schema may know less than all.
        _ if entry.protocol == Protocol::HttpJson => plain(service, head, None),
        other => {
            if matches!(other, Recognised::NotFound) {
                get::check_method(entry, head, call)?;
                look_again(snapshot, &[service], call)?;
            }
            no_rule(other)
        }
    }
}

/// Nobody knows what was asked for: services that tell their schemas themselves may by now.
///
/// # Errors
/// One of them has not told it yet.
fn look_again(snapshot: &Snapshot, services: &[ServiceIndex], call: &Call) -> Result<(), Rejection> {
    let mut unknown = None;
    for entry in services.iter().filter_map(|index| snapshot.services.get(*index)) {
        if entry.tells_schema {
            call.worker.shared.schema_is_stale(&entry.name);
            if entry.schema.is_none() {
                unknown = Some(&entry.name);
            }
        }
    }
    unknown.map_or(Ok(()), |name| {
        let message = format!("{name} has not told its schema yet; try again shortly");
        Err(Rejection::new(Reason::SchemaUnknown, message))
    })
}

/// Recognises a call from the world among all exposed services.
///
/// # Errors
/// Nothing exposed has such a method or path.
pub(crate) fn at_edge(snapshot: &Snapshot, head: &Parts, call: &mut Call) -> Result<Recognition, Rejection> {
    if (call.speaks.names_its_rpc() || get::query(head).is_some())
        && let Some(service) = named(snapshot, head)
    {
        let entry = &snapshot.services[service];
        if let Some(recognised) = by_name(entry, service, head, call) {
            call.service = Some(entry.name.clone());
            return recognised;
        }
    }
    let recognised = snapshot
        .edge
        .rest
        .recognise(head.method.as_str(), head.uri.path());
    if let Recognised::Found(found) = recognised {
        return by_rule(snapshot, found, head, call);
    }
    let by_name = call.speaks.names_its_rpc();
    if (by_name || matches!(recognised, Recognised::NotFound))
        && let Some(found) = under_prefix(snapshot, head, call)
    {
        return found;
    }
    if matches!(recognised, Recognised::NotFound) {
        if let Some(service) = named(snapshot, head) {
            get::check_method(&snapshot.services[service], head, call)?;
        }
        look_again(snapshot, &snapshot.edge.exposed, call)?;
    }
    if by_name {
        return Err(unknown_method(head.uri.path()));
    }
    no_rule(recognised)
}

/// Recognises a call that asks for a WebSocket. Such a call is a GET whatever the rule says: the path's rules are tried, and
/// the first whose method streams is meant.
///
/// # Errors
/// Nothing exposed has such a path, or none of its methods streams.
pub(crate) fn socket_at_edge(
    snapshot: &Snapshot,
    head: &Parts,
    call: &mut Call,
) -> Result<Recognition, Rejection> {
    let of = |method: &str| snapshot.edge.rest.recognise(method, head.uri.path());
    let streams = |recognised: &Recognised<ServiceIndex>| {
        matches!(recognised, Recognised::Found(found)
            if found.method.client_streaming() || found.method.server_streaming())
    };
    let recognised = ["POST", "GET", "PUT", "PATCH", "DELETE"]
        .into_iter()
        .map(of)
        .find(streams)
        .unwrap_or_else(|| of("GET"));
    let recognition = match recognised {
        Recognised::Found(found) => by_rule(snapshot, found, head, call)?,
        other => no_rule(other)?,
    };
    Ok(match recognition.door {
        Door::Translated(Caller::Rest(caller)) => Recognition {
            door: Door::Translated(Caller::Rest(Box::new(caller.over_socket()?))),
            ..recognition
        },
        door => Recognition { door, ..recognition },
    })
}

/// A call that names its RPC in the path, to a service that may have it; nothing where rules for paths must say more.
fn by_name(
    entry: &ServiceEntry,
    service: ServiceIndex,
    head: &Parts,
    call: &mut Call,
) -> Option<Result<Recognition, Rejection>> {
    // A service that takes HTTP of any kind takes this too, and nothing is known that could be translated.
    if entry.protocol == Protocol::HttpJson && entry.schema.is_none() && call.speaks != Speaks::Grpc {
        call.speaks = Speaks::Http;
        return None;
    }
    if let Some(query) = get::query(head)
        && let Some(method) = entry.schema.as_ref()?.method(rpc_name(head))
    {
        return Some(get::call(method, service, query, call));
    }
    call.speaks
        .names_its_rpc()
        .then(|| rpc(entry, service, head, call))
}

/// The exposed service that a path `package.Service/Method` names.
fn named(snapshot: &Snapshot, head: &Parts) -> Option<ServiceIndex> {
    let routes = &snapshot.edge;
    let name = rpc_name(head).split('/').next().unwrap_or("");
    // A service without a schema is found by the authority, or by being the only one exposed.
    let by_authority = || {
        head.uri
            .authority()
            .and_then(|authority| snapshot.find(authority.host()))
            .filter(|at| routes.exposed.contains(at))
    };
    let only = || match routes.exposed.as_slice() {
        [only] if snapshot.services[*only].schema.is_none() => Some(*only),
        _ => None,
    };
    routes.grpc.get(name).copied().or_else(by_authority).or_else(only)
}

/// `package.Service/Method`, where the path is one.
fn rpc_name(head: &Parts) -> &str {
    head.uri.path().strip_prefix('/').unwrap_or_default()
}

/// The plain HTTP service under whose prefix a path is. gRPC itself is never passed through there.
fn under_prefix(
    snapshot: &Snapshot,
    head: &Parts,
    call: &mut Call,
) -> Option<Result<Recognition, Rejection>> {
    let (prefix, service) = prefix_of(snapshot, head.uri.path())?;
    if call.speaks == Speaks::Grpc {
        return None;
    }
    call.speaks = Speaks::Http;
    call.service = Some(snapshot.services[*service].name.clone());
    Some(plain(*service, head, Some(prefix.clone())))
}

fn prefix_of<'s>(snapshot: &'s Snapshot, path: &str) -> Option<&'s (Arc<str>, ServiceIndex)> {
    let under = |prefix: &str| {
        path.strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    snapshot.edge.prefixes.iter().find(|(prefix, _)| under(prefix))
}

/// The HTTP methods that a path of the edge takes, as the value of `Allow`; nothing where nothing has the path.
pub(crate) fn methods_at_edge(snapshot: &Snapshot, head: &Parts) -> Option<String> {
    let path = head.uri.path();
    let any = || Some("DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT".to_owned());
    let rest = match snapshot.edge.rest.recognise("OPTIONS", path) {
        Recognised::Options { allow } | Recognised::MethodNotAllowed { allow } => Some(allow),
        // A rule for every method, or for OPTIONS itself.
        Recognised::Found(_) => return any(),
        Recognised::NotFound | Recognised::Malformed(_) => None,
    };
    if rest.is_none() && prefix_of(snapshot, path).is_some() {
        return any();
    }
    // gRPC-Web and Connect call by the method's own path.
    let rpc = named(snapshot, head).map(|_| "GET, OPTIONS, POST".to_owned());
    match (rest, rpc) {
        (Some(rest), Some(_)) if !rest.contains("POST") => Some(format!("{rest}, POST")),
        (rest, rpc) => rest.or(rpc),
    }
}

/// A call whose path is `package.Service/Method`.
fn rpc(
    entry: &ServiceEntry,
    service: ServiceIndex,
    head: &Parts,
    call: &mut Call,
) -> Result<Recognition, Rejection> {
    if head.method != Method::POST {
        let why = "calls by the name of a method are POST requests";
        return Err(Rejection::new(Reason::MethodNotAllowed, why).or_instead(ALLOW, "POST"));
    }
    let rpc = rpc_name(head);
    let well_formed = rpc.split_once('/').is_some_and(|(service, method)| {
        let name_ok = |name: &str| {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"_.".contains(&b))
        };
        name_ok(service) && name_ok(method)
    });
    if !well_formed {
        return Err(unknown_method(head.uri.path()));
    }
    if head.uri.query().is_some() {
        let why = "calls by the name of a method take no query; leave off the ? and what follows it";
        return Err(Rejection::new(Reason::NotTranslatable, why));
    }
    // What is not in the schema we have is reflection, health, or a newer method. The policy judges it by name all the same.
    let method = entry.schema.as_ref().and_then(|schema| schema.method(rpc));
    call.rpc = Some(method.map_or_else(|| rpc.into(), |method| method.shared_name()));
    call.rpc_known = method.is_some();
    if method.is_none() && entry.tells_schema {
        call.worker.shared.schema_is_stale(&entry.name);
    }
    if entry.protocol == Protocol::HttpJson && entry.schema.is_some() {
        let method = method.ok_or_else(|| unknown_method(head.uri.path()))?;
        rest_service::check(method)?;
    }
    let codec = |json: bool| match (json, method) {
        (false, _) => Ok(Codec::Proto),
        (true, Some(method)) => Ok(Codec::Json(method.clone())),
        (true, None) => Err(Rejection::new(
            Reason::NotTranslatable,
            "the method is in no schema that is known here, so JSON cannot be read for it",
        )),
    };
    let door = match call.speaks {
        Speaks::GrpcWeb(form) => {
            Door::Translated(Caller::GrpcWeb(grpc_web::Caller::new(form, codec(form.json)?)))
        }
        Speaks::Connect(form) => {
            connect::check_version(head)?;
            connect::check_charset(form, head)?;
            if let Some(method) = method {
                connect::check_form(form, method)?;
            }
            let caller = connect::Caller::new(form, codec(form.json)?);
            Door::Translated(Caller::Connect(Box::new(caller)))
        }
        Speaks::Grpc if entry.protocol == Protocol::HttpJson && entry.schema.is_some() => {
            let json = grpc::Caller::is_json(head);
            Door::Translated(Caller::Grpc(grpc::Caller::new(codec(json)?)))
        }
        Speaks::Grpc | Speaks::Rest | Speaks::Http => Door::Grpc,
    };
    Ok(Recognition {
        service,
        door,
        unary: method.is_some_and(|method| !method.client_streaming() && !method.server_streaming()),
    })
}

/// A call by a rule. A service that speaks HTTP gets it as it is; that the rule is known names the RPC all the same.
fn by_rule(
    snapshot: &Snapshot,
    found: Match<ServiceIndex>,
    head: &Parts,
    call: &mut Call,
) -> Result<Recognition, Rejection> {
    call.rpc = Some(found.method.shared_name());
    call.rpc_known = true;
    call.log_route(|| found.route());
    let service = found.target;
    let entry = &snapshot.services[service];
    call.service = Some(entry.name.clone());
    let unary = !found.method.server_streaming() && !found.method.client_streaming();
    if entry.protocol == Protocol::HttpJson {
        call.speaks = Speaks::Http;
        return Ok(Recognition {
            unary,
            ..plain(service, head, None)?
        });
    }
    call.speaks = Speaks::Rest;
    let caller = rest_caller::Caller::new(found, head, entry, call.reads_trailers);
    call.problem = caller.tells_problems();
    Ok(Recognition {
        service,
        door: Door::Translated(Caller::Rest(Box::new(caller))),
        unary,
    })
}

/// What is answered where no rule is found.
fn no_rule(recognised: Recognised<ServiceIndex>) -> Result<Recognition, Rejection> {
    match recognised {
        Recognised::Options { allow } => Ok(Recognition {
            service: 0,
            door: Door::Options(allow),
            unary: true,
        }),
        Recognised::MethodNotAllowed { allow } => {
            let message = format!("this path takes {allow}");
            Err(Rejection::new(Reason::MethodNotAllowed, message).or_instead(ALLOW, &allow))
        }
        Recognised::Malformed(refusal) => Err(Rejection {
            reason: Reason::RequestMalformed,
            ..refusal.into()
        }),
        Recognised::NotFound | Recognised::Found(_) => {
            Err(Rejection::new(Reason::RouteUnknown, "no method has this path"))
        }
    }
}

fn plain(service: ServiceIndex, head: &Parts, prefix: Option<Arc<str>>) -> Result<Recognition, Rejection> {
    check_canonical(head.uri.path())?;
    Ok(Recognition {
        service,
        door: Door::Http(prefix),
        unary: true,
    })
}

fn unknown_method(path: &str) -> Rejection {
    let shown: String = path.chars().take(200).collect();
    Rejection::new(
        Reason::MethodUnknown,
        format!("no service here has the method {shown}"),
    )
}
