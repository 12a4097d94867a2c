//! The gRPC side of identities.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mesh_proto::name::{ServiceName, SpiffeId};
use mesh_proto::v1::identity_server::Identity;
use mesh_proto::v1::{
    CreateJoinTokenRequest, CreateJoinTokenResponse, SignCertificateRequest, SignCertificateResponse,
};
use tonic::{Request, Response, Status};
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509CertificationRequest};

use super::token;
use crate::caller;
use crate::control::Control;

/// The service.
#[derive(Clone)]
pub struct IdentityService(pub Arc<Control>);

#[tonic::async_trait]
impl Identity for IdentityService {
    async fn sign_certificate(
        &self,
        request: Request<SignCertificateRequest>,
    ) -> Result<Response<SignCertificateResponse>, Status> {
        let ca = &self.0.ca;
        let message = request.get_ref();
        let service = if message.join_token.is_empty() {
            caller::service(request.extensions(), ca.trust_domain())?
        } else {
            token::verify(ca, message.join_token.trim(), SystemTime::now())
                .map_err(|error| Status::unauthenticated(error.to_string()))?
        };
        let id = SpiffeId::service(ca.trust_domain(), &service);
        check_wish(&message.csr, &service, &id)?;
        let signed = ca
            .sign(&message.csr, &id, self.0.certificate_lifetime)
            .map_err(Status::invalid_argument)?;
        self.0.metrics.signed();
        let peer = caller::address(request.extensions());
        tracing::info!(%service, ?peer, renewal = message.join_token.is_empty(), "a certificate is signed");
        Ok(Response::new(SignCertificateResponse {
            certificate_chain: signed.chain_der,
            trust_bundle: ca.bundle_pem().to_owned(),
            trust_domain: ca.trust_domain().to_string(),
            not_after: Some(signed.not_after.into()),
        }))
    }

    async fn create_join_token(
        &self,
        request: Request<CreateJoinTokenRequest>,
    ) -> Result<Response<CreateJoinTokenResponse>, Status> {
        let ca = &self.0.ca;
        let operator = caller::operator(request.extensions(), ca.trust_domain())?;
        let message = request.into_inner();
        let service = ServiceName::parse(&message.service)
            .map_err(|why| Status::invalid_argument(format!("service: {why}")))?;
        let lifetime = match message.lifetime {
            None => token::LIFETIME_DEFAULT,
            Some(lifetime) => Duration::try_from(lifetime)
                .ok()
                .filter(|lifetime| (token::LIFETIME_MIN..=token::LIFETIME_MAX).contains(lifetime))
                .ok_or_else(|| Status::invalid_argument("lifetime: write 1s to 168h"))?,
        };
        let (token, expires) =
            token::create(ca, &service, lifetime, SystemTime::now()).map_err(Status::internal)?;
        tracing::info!(operator, %service, lifetime_s = lifetime.as_secs(), "a join token is made");
        Ok(Response::new(CreateJoinTokenResponse {
            token,
            expires: Some(expires.into()),
        }))
    }
}

/// A request may say who it wants to be. If it does and that is somebody else, the wrong token was handed out, and saying
/// so now saves a search later.
fn check_wish(csr: &[u8], service: &ServiceName, id: &SpiffeId) -> Result<(), Status> {
    let Ok((_, request)) = X509CertificationRequest::from_der(csr) else {
        return Err(Status::invalid_argument("csr: is not a PKCS#10 request in DER"));
    };
    let names =
        request
            .requested_extensions()
            .into_iter()
            .flatten()
            .filter_map(|extension| match extension {
                ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
                _ => None,
            });
    for name in names.flatten() {
        if let GeneralName::URI(wished) = name
            && *wished != id.as_str()
        {
            let wished: String = wished.chars().take(200).filter(|c| !c.is_control()).collect();
            return Err(Status::permission_denied(format!(
                "the join token or certificate is for {service} ({id}), but {wished} is asked for; make a token with \
                 `mesh-ctl token create` for that service, or correct node.service"
            )));
        }
    }
    Ok(())
}
