//! Who calls: always from the connection, never from the message.

use std::net::SocketAddr;

use mesh_link::Peer;
use mesh_proto::name::{ServiceName, TrustDomain};
use tonic::{Extensions, Status};

/// The caller's address, for logs and status.
#[must_use]
pub fn address(extensions: &Extensions) -> Option<SocketAddr> {
    extensions.get::<Peer>().map(|peer| peer.address)
}

/// The service whose sidecar calls.
///
/// # Errors
/// UNAUTHENTICATED without a certificate, PERMISSION_DENIED with one of somebody else.
pub fn service(extensions: &Extensions, domain: &TrustDomain) -> Result<ServiceName, Status> {
    let id = identity(
        extensions,
        domain,
        "a sidecar's certificate; join with a token first",
    )?;
    id.as_service().ok_or_else(|| {
        Status::permission_denied(format!("{id} is no service; this call is for sidecars only"))
    })
}

/// The person who calls, by name.
///
/// # Errors
/// As [`service`].
pub fn operator(extensions: &Extensions, domain: &TrustDomain) -> Result<String, Status> {
    let needed = "an operator's certificate; point mesh-ctl --credentials at the directory that `mesh-ctl ca init` made";
    let id = identity(extensions, domain, needed)?;
    id.as_operator().map(ToOwned::to_owned).ok_or_else(|| {
        Status::permission_denied(format!("{id} is no operator; this call is for operators only"))
    })
}

fn identity<'a>(
    extensions: &'a Extensions,
    domain: &TrustDomain,
    needed: &str,
) -> Result<&'a mesh_proto::name::SpiffeId, Status> {
    let id = extensions.get::<Peer>().and_then(|peer| peer.id.as_ref());
    let id = id.ok_or_else(|| Status::unauthenticated(format!("this call needs {needed}")))?;
    if id.trust_domain() == domain.as_str() {
        Ok(id)
    } else {
        Err(Status::permission_denied(format!(
            "{id} is not of the trust domain {domain}"
        )))
    }
}

#[cfg(test)]
mod tests {
    use mesh_proto::name::SpiffeId;
    use tonic::Code;

    use super::*;

    fn caller(id: Option<&str>) -> Extensions {
        let mut extensions = Extensions::new();
        extensions.insert(Peer {
            address: "127.0.0.1:1".parse().unwrap(),
            id: id.map(|id| SpiffeId::parse(id).unwrap()),
        });
        extensions
    }

    #[test]
    fn nobody_gets_more_than_the_certificate_says() {
        let domain = TrustDomain::parse("mesh.local").unwrap();
        let service_id = "spiffe://mesh.local/service/a";
        let operator_id = "spiffe://mesh.local/operator/admin";
        assert_eq!(service(&caller(Some(service_id)), &domain).unwrap().as_str(), "a");
        assert_eq!(operator(&caller(Some(operator_id)), &domain).unwrap(), "admin");
        let service_code = |id| service(&caller(id), &domain).unwrap_err().code();
        let operator_code = |id| operator(&caller(id), &domain).unwrap_err().code();
        assert_eq!(service_code(None), Code::Unauthenticated);
        assert_eq!(operator_code(None), Code::Unauthenticated);
        assert_eq!(service_code(Some(operator_id)), Code::PermissionDenied);
        assert_eq!(operator_code(Some(service_id)), Code::PermissionDenied);
        assert_eq!(
            service_code(Some("spiffe://mesh.local/xds-lite")),
            Code::PermissionDenied
        );
        assert_eq!(
            service_code(Some("spiffe://other/service/a")),
            Code::PermissionDenied
        );
        assert_eq!(
            operator_code(Some("spiffe://other/operator/admin")),
            Code::PermissionDenied
        );
        assert!(service(&Extensions::new(), &domain).is_err());
    }
}
