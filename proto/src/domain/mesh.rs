//! What holds for the whole mesh.

use std::time::Duration;

use super::{Retry, metadata, service};
use crate::fault::{Check, Faults};
use crate::name::{TrustDomain, quote};
use crate::v1;

/// The one name a `Mesh` document may have.
pub const MESH_NAME: &str = "default";

/// [`v1::Mesh`]
#[derive(Debug, Clone, PartialEq)]
pub struct Mesh {
    /// Where identities of this mesh live.
    pub trust_domain: TrustDomain,
    /// Bound of a unary call without a deadline, where its service does not say.
    pub timeout: Option<Duration>,
    /// Further tries, where the service does not say.
    pub retry: Option<Retry>,
}

impl TryFrom<v1::Mesh> for Mesh {
    type Error = Faults;

    fn try_from(message: v1::Mesh) -> Result<Self, Faults> {
        let mut check = Check::default();
        metadata(message.metadata, &mut check, |name| match name {
            MESH_NAME => Ok(()),
            "" => Err(format!("is missing; write {MESH_NAME}")),
            other => Err(format!(
                "{} is not {MESH_NAME}; there is one Mesh, and that is its name",
                quote(other)
            )),
        });
        let spec = message.spec.unwrap_or_default();
        let trust_domain = check.leaf("spec.trustDomain", TrustDomain::parse(&spec.trust_domain));
        let defaults = spec.defaults.unwrap_or_default();
        let timeout = service::timeout("spec.defaults.timeout", defaults.timeout, &mut check);
        let retry = defaults
            .retry
            .and_then(|retry| check.part("spec.defaults.retry", Retry::try_from(retry)));
        check.finish(trust_domain.map(|trust_domain| Self {
            trust_domain,
            timeout,
            retry,
        }))
    }
}
