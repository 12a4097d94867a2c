//! One running copy of a service.

use std::sync::Arc;

use super::metadata;
use crate::fault::{Check, Faults};
use crate::name::{InstanceName, quote};
use crate::v1::{self, instance_spec};

/// Weight of an instance that does not say.
pub const WEIGHT_DEFAULT: u32 = 100;
const WEIGHT_MAX: u32 = 1000;

/// [`v1::Instance`]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// `<service>/<id>`
    pub name: InstanceName,
    /// IP address or host name.
    pub address: Arc<str>,
    /// Port, never 0.
    pub port: u16,
    /// Where it stands.
    pub locality: Locality,
    /// Share of calls against its siblings, 1 to 1000.
    pub weight: u32,
    /// Whether it takes new calls.
    pub health: Health,
    /// How it is reached.
    pub transport: Transport,
    /// Free-form.
    pub labels: Vec<(String, String)>,
}

/// Region, zone, sub-zone; empty where unknown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Locality {
    /// Data centre.
    pub region: Arc<str>,
    /// Part of it.
    pub zone: Arc<str>,
    /// Part of that.
    pub sub_zone: Arc<str>,
}

/// Whether an instance takes new calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Serving,
    /// It ends those it has.
    Draining,
}

/// How an instance is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Its sidecar, by mutual TLS.
    Mtls,
    /// The service itself, without TLS.
    Plaintext,
}

impl TryFrom<v1::Instance> for Instance {
    type Error = Faults;

    fn try_from(message: v1::Instance) -> Result<Self, Faults> {
        let mut check = Check::default();
        let name = metadata(message.metadata, &mut check, InstanceName::parse);
        let spec = message.spec.unwrap_or_default();
        check.leaf("spec.address", check_address(&spec.address));
        let port = match u16::try_from(spec.port) {
            Ok(0) => {
                check.fault("spec.port", "is missing; write 1 to 65535");
                None
            }
            Ok(port) => Some(port),
            Err(_) => {
                check.fault("spec.port", format!("{} is over 65535", spec.port));
                None
            }
        };
        let weight = if spec.weight == 0 {
            WEIGHT_DEFAULT
        } else {
            spec.weight
        };
        if weight > WEIGHT_MAX {
            check.fault("spec.weight", format!("{weight} is over {WEIGHT_MAX}"));
        }
        let health = match instance_spec::Health::try_from(spec.health) {
            Ok(instance_spec::Health::Unspecified | instance_spec::Health::Serving) => Some(Health::Serving),
            Ok(instance_spec::Health::Draining) => Some(Health::Draining),
            Err(_) => {
                check.fault(
                    "spec.health",
                    format!("{} is not known; write serving or draining", spec.health),
                );
                None
            }
        };
        let transport = match instance_spec::Transport::try_from(spec.transport) {
            Ok(instance_spec::Transport::Unspecified | instance_spec::Transport::Mtls) => {
                Some(Transport::Mtls)
            }
            Ok(instance_spec::Transport::Plaintext) => Some(Transport::Plaintext),
            Err(_) => {
                check.fault(
                    "spec.transport",
                    format!("{} is not known; write mtls or plaintext", spec.transport),
                );
                None
            }
        };
        let locality = spec.locality.unwrap_or_default();
        let value = (|| {
            let (name, labels) = name?;
            Some(Self {
                name,
                address: spec.address.as_str().into(),
                port: port?,
                locality: locality.into(),
                weight,
                health: health?,
                transport: transport?,
                labels,
            })
        })();
        check.finish(value)
    }
}

impl From<v1::Locality> for Locality {
    fn from(message: v1::Locality) -> Self {
        Self {
            region: message.region.into(),
            zone: message.zone.into(),
            sub_zone: message.sub_zone.into(),
        }
    }
}

fn check_address(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("is missing; write an IP address or a host name".into());
    }
    let is_host = text.len() <= 253
        && text.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        });
    // A name whose last label is a number is read as an address by some resolvers, in forms that differ (RFC 3696 2).
    let looks_numeric = text
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    if text.parse::<std::net::IpAddr>().is_ok() || (is_host && !looks_numeric) {
        Ok(())
    } else {
        Err(format!(
            "{} is neither an IP address nor a host name",
            quote(text)
        ))
    }
}
