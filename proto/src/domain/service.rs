//! A service as the mesh sees it: what it speaks, and how calls to it are bounded, retried and balanced.

use std::time::Duration;

use super::{Rest, SchemaHash, duration, metadata};
use crate::fault::{Check, Faults};
use crate::name::{ServiceName, quote};
use crate::v1::{self, balance_policy, schema_source};

/// Bounds a unary call that brings no deadline, where neither service nor mesh say otherwise.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(15);
const TIMEOUT_MIN: Duration = Duration::from_millis(1);
const TIMEOUT_MAX: Duration = Duration::from_secs(3600);
/// Longest time nothing may move on a stream.
const STREAM_IDLE_MAX: Duration = Duration::from_secs(24 * 3600);
const ATTEMPTS_MAX: u32 = 5;

/// [`v1::Service`]
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// What it speaks.
    pub protocol: Protocol,
    /// Its compiled descriptors, if it has any.
    pub schema: Option<SchemaSource>,
    /// How HTTP/JSON callers are read and answered.
    pub rest: Rest,
    /// Bound of a unary call without a deadline; `None` leaves it to the mesh's default.
    pub timeout: Option<Duration>,
    /// How long nothing may move on a stream, zero for no bound; `None` leaves it to the default.
    pub stream_idle: Option<Duration>,
    /// Further tries; `None` leaves them to the mesh's default.
    pub retry: Option<Retry>,
    /// How an instance is chosen.
    pub balance: Balance,
}

/// What a service speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC over HTTP/2.
    Grpc,
    /// HTTP/1.1 with JSON.
    HttpJson,
}

/// Where the descriptors are.
#[derive(Debug, Clone, PartialEq)]
pub enum SchemaSource {
    /// In the document, not yet stored.
    Inline(Vec<u8>),
    /// In a stored schema.
    Hash(SchemaHash),
    /// With the service itself, which is asked by gRPC reflection.
    Reflection,
}

/// How often, and how much in all, a call that never reached the service is tried again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retry {
    /// Tries in all, 1 to 5.
    pub attempts: u32,
    /// Extra tries as a share of live calls, 0.0 to 1.0.
    pub budget: f64,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 2,
            budget: 0.2,
        }
    }
}

/// How an instance is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Balance {
    /// Among those that may be chosen.
    pub algorithm: BalanceAlgorithm,
    /// Which may be chosen.
    pub locality: LocalityPreference,
}

/// How one of several is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BalanceAlgorithm {
    /// The less busy of two random ones.
    LeastRequest,
    /// One after the other.
    RoundRobin,
}

/// Which instances may be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalityPreference {
    /// All.
    Any,
    /// Those of the caller's region while there are any.
    PreferLocal,
}

impl TryFrom<v1::Service> for Service {
    type Error = Faults;

    fn try_from(message: v1::Service) -> Result<Self, Faults> {
        let mut check = Check::default();
        let name = metadata(message.metadata, &mut check, ServiceName::parse);
        let spec = message.spec.unwrap_or_default();
        let protocol = match v1::Protocol::try_from(spec.protocol) {
            Ok(v1::Protocol::Grpc) => Some(Protocol::Grpc),
            Ok(v1::Protocol::HttpJson) => Some(Protocol::HttpJson),
            Ok(v1::Protocol::Unspecified) => {
                check.fault("spec.protocol", "is missing; write grpc or http-json");
                None
            }
            Err(_) => {
                check.fault(
                    "spec.protocol",
                    format!("{} is not known; write grpc or http-json", spec.protocol),
                );
                None
            }
        };
        let schema = spec
            .schema
            .and_then(|source| check.part("spec.schema", read_schema(source)));
        let rest = check.part("spec.rest", Rest::try_from(spec.rest.unwrap_or_default()));
        if protocol == Some(Protocol::HttpJson) {
            for (place, fields) in rest.iter().flat_map(Rest::header_fields) {
                if !fields.is_empty() {
                    let why = "says nothing of a service that speaks http-json: its callers' headers reach it as they are";
                    check.fault(format!("spec.rest.{place}"), why);
                }
            }
        }
        let timeout = timeout("spec.timeout", spec.timeout, &mut check);
        let stream_idle = duration(
            "spec.streamIdle",
            spec.stream_idle,
            Duration::ZERO,
            STREAM_IDLE_MAX,
            &mut check,
        );
        let retry = spec
            .retry
            .and_then(|retry| check.part("spec.retry", Retry::try_from(retry)));
        let balance = check.part(
            "spec.balance",
            Balance::try_from(spec.balance.unwrap_or_default()),
        );
        let value = (|| {
            Some(Self {
                name: name?.0,
                protocol: protocol?,
                schema,
                rest: rest?,
                timeout,
                stream_idle,
                retry,
                balance: balance?,
            })
        })();
        check.finish(value)
    }
}

/// Reads a call's time bound; also the mesh's default.
pub(super) fn timeout(
    place: &str,
    value: Option<prost_types::Duration>,
    check: &mut Check,
) -> Option<Duration> {
    duration(place, value, TIMEOUT_MIN, TIMEOUT_MAX, check)
}

fn read_schema(source: v1::SchemaSource) -> Result<SchemaSource, Faults> {
    match source.source {
        None => Err(Faults::one(
            "",
            "is blank; write file, inline, hash or reflection, or leave it out",
        )),
        Some(schema_source::Source::File(file)) => Err(Faults::one(
            "file",
            format!(
                "{} was not read in; documents are sent with their files inlined",
                quote(&file)
            ),
        )),
        Some(schema_source::Source::Inline(bytes)) => {
            super::schema::check_bytes(&bytes).map_err(|why| Faults::one("inline", why))?;
            Ok(SchemaSource::Inline(bytes))
        }
        Some(schema_source::Source::Hash(hash)) => SchemaHash::parse(&hash)
            .map(SchemaSource::Hash)
            .map_err(|why| Faults::one("hash", why)),
        Some(schema_source::Source::Reflection(true)) => Ok(SchemaSource::Reflection),
        Some(schema_source::Source::Reflection(false)) => Err(Faults::one(
            "reflection",
            "is false; write true, or leave schema out",
        )),
    }
}

impl TryFrom<v1::RetryPolicy> for Retry {
    type Error = Faults;

    fn try_from(message: v1::RetryPolicy) -> Result<Self, Faults> {
        let mut check = Check::default();
        let default = Retry::default();
        let attempts = match message.attempts {
            0 => default.attempts,
            some if some <= ATTEMPTS_MAX => some,
            many => {
                check.fault("attempts", format!("{many} is over {ATTEMPTS_MAX}"));
                default.attempts
            }
        };
        let budget = match message.budget.as_str() {
            "" => Some(default.budget),
            text => check.leaf("budget", percentage(text)),
        };
        check.finish(budget.map(|budget| Retry { attempts, budget }))
    }
}

fn percentage(text: &str) -> Result<f64, String> {
    let digits = text
        .strip_suffix('%')
        .filter(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit() || b == b'.'));
    let number: f64 = digits
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| format!("{} is not a percentage; write for example 20%", quote(text)))?;
    if number > 100.0 {
        Err(format!("{text} is over 100%"))
    } else {
        Ok(number / 100.0)
    }
}

impl TryFrom<v1::BalancePolicy> for Balance {
    type Error = Faults;

    fn try_from(message: v1::BalancePolicy) -> Result<Self, Faults> {
        let mut check = Check::default();
        let algorithm = match balance_policy::Algorithm::try_from(message.policy) {
            Ok(balance_policy::Algorithm::Unspecified | balance_policy::Algorithm::LeastRequest) => {
                Some(BalanceAlgorithm::LeastRequest)
            }
            Ok(balance_policy::Algorithm::RoundRobin) => Some(BalanceAlgorithm::RoundRobin),
            Err(_) => {
                check.fault(
                    "policy",
                    format!(
                        "{} is not known; write least-request or round-robin",
                        message.policy
                    ),
                );
                None
            }
        };
        let locality = match balance_policy::LocalityPreference::try_from(message.locality) {
            Ok(balance_policy::LocalityPreference::Unspecified | balance_policy::LocalityPreference::Any) => {
                Some(LocalityPreference::Any)
            }
            Ok(balance_policy::LocalityPreference::PreferLocal) => Some(LocalityPreference::PreferLocal),
            Err(_) => {
                check.fault(
                    "locality",
                    format!("{} is not known; write any or prefer-local", message.locality),
                );
                None
            }
        };
        let value = algorithm
            .zip(locality)
            .map(|(algorithm, locality)| Balance { algorithm, locality });
        check.finish(value)
    }
}
