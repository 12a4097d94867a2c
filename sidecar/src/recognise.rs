//! Recognise early: the head alone names the service and the RPC, whatever the caller speaks.
//!
//! ```text
//!  content-type application/grpc ─► the path is package.Service/Method
//!  otherwise ─► the REST rules of the schemas ─► a prefix of a plain HTTP service ─► nothing
//! ```

use std::sync::Arc;

use http::Method;
use http::request::Parts;
use mesh_proto::domain::Protocol;
use mesh_transcode::{Match, Recognised};

use crate::call::{Call, Speaks};
use crate::reason::{Reason, Rejection};
use crate::snapshot::{ServiceEntry, ServiceIndex, Snapshot};

/// What a call turned out to be.
pub(crate) enum Door {
    /// gRPC, passed through.
    Grpc,
    /// REST, by a rule.
    Rest(Match<ServiceIndex>),
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
    if call.speaks == Speaks::Grpc {
        return grpc(entry, service, head, call);
    }
    let recognised = entry.router.recognise(head.method.as_str(), head.uri.path());
    if entry.protocol == Protocol::HttpJson {
        return plain(service, head, None);
    }
    rest(recognised, call)
}

/// Recognises a call from the world among all exposed services.
///
/// # Errors
/// Nothing exposed has such a method or path.
pub(crate) fn at_edge(snapshot: &Snapshot, head: &Parts, call: &mut Call) -> Result<Recognition, Rejection> {
    let routes = &snapshot.edge;
    if call.speaks == Speaks::Grpc {
        let name = head.uri.path()[1..].split('/').next().unwrap_or("");
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
        let service = routes.grpc.get(name).copied().or_else(by_authority).or_else(only);
        let service = service.ok_or_else(|| unknown_method(head.uri.path()))?;
        call.service = Some(snapshot.services[service].name.clone());
        return grpc(&snapshot.services[service], service, head, call);
    }
    let recognised = routes.rest.recognise(head.method.as_str(), head.uri.path());
    if matches!(recognised, Recognised::NotFound) {
        let path = head.uri.path();
        let under = |prefix: &str| {
            path.strip_prefix(prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if let Some((prefix, service)) = routes.prefixes.iter().find(|(prefix, _)| under(prefix)) {
            call.service = Some(snapshot.services[*service].name.clone());
            return plain(*service, head, Some(prefix.clone()));
        }
    }
    let recognition = rest(recognised, call)?;
    call.service = Some(snapshot.services[recognition.service].name.clone());
    Ok(recognition)
}

fn grpc(
    entry: &ServiceEntry,
    service: ServiceIndex,
    head: &Parts,
    call: &mut Call,
) -> Result<Recognition, Rejection> {
    if head.method != Method::POST {
        return Err(Rejection {
            allow: Some("POST".into()),
            ..Rejection::new(Reason::MethodNotAllowed, "gRPC calls are POST requests")
        });
    }
    if head.version < http::Version::HTTP_2 {
        return Err(Rejection::new(Reason::RequestMalformed, "gRPC needs HTTP/2"));
    }
    let rpc = &head.uri.path()[1..];
    let well_formed = rpc.split_once('/').is_some_and(|(service, method)| {
        let name_ok = |name: &str| {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"_.".contains(&b))
        };
        name_ok(service) && name_ok(method)
    });
    if !well_formed || head.uri.query().is_some() {
        return Err(unknown_method(head.uri.path()));
    }
    let Some(schema) = &entry.schema else {
        call.rpc = Some(rpc.into());
        return Ok(Recognition {
            service,
            door: Door::Grpc,
            unary: false,
        });
    };
    match schema.method(rpc) {
        Some(method) => {
            call.rpc = Some(method.shared_name());
            call.rpc_known = true;
            let unary = !method.client_streaming() && !method.server_streaming();
            Ok(Recognition {
                service,
                door: Door::Grpc,
                unary,
            })
        }
        // Not in the schema we have: reflection, health, or a newer method. The policy judges it by name all the same.
        None => {
            call.rpc = Some(rpc.into());
            Ok(Recognition {
                service,
                door: Door::Grpc,
                unary: false,
            })
        }
    }
}

fn rest(recognised: Recognised<ServiceIndex>, call: &mut Call) -> Result<Recognition, Rejection> {
    match recognised {
        Recognised::Found(found) => {
            call.speaks = Speaks::Rest;
            call.rpc = Some(found.method.shared_name());
            call.rpc_known = true;
            let unary = !found.method.server_streaming();
            Ok(Recognition {
                service: found.target,
                door: Door::Rest(found),
                unary,
            })
        }
        Recognised::Options { allow } => Ok(Recognition {
            service: 0,
            door: Door::Options(allow),
            unary: true,
        }),
        Recognised::MethodNotAllowed { allow } => Err(Rejection {
            message: format!("this path takes {allow}"),
            allow: Some(allow),
            ..Rejection::new(Reason::MethodNotAllowed, "")
        }),
        Recognised::NotFound => Err(Rejection::new(Reason::RouteUnknown, "no method has this path")),
        Recognised::Malformed(refusal) => Err(Rejection {
            reason: Reason::RequestMalformed,
            ..refusal.into()
        }),
    }
}

fn plain(service: ServiceIndex, head: &Parts, prefix: Option<Arc<str>>) -> Result<Recognition, Rejection> {
    // One canonical form for everybody: what others may fold differently is refused, not guessed at.
    let path = head.uri.path().to_ascii_lowercase();
    let odd = path.split('/').any(|segment| {
        let plain = segment.replace("%2e", ".");
        plain == "." || plain == ".."
    }) || ["//", "%2f", "%5c", "\\", "%00", ";"]
        .iter()
        .any(|form| path.contains(form));
    if odd {
        let message =
            "the path holds dot segments, empty segments or encoded slashes, which servers read differently";
        return Err(Rejection::new(Reason::RequestMalformed, message));
    }
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
