//! Domain types: each message as what it means, where it cannot be wrong.
//!
//! ```text
//!  mesh.v1 message (everything optional)  ──TryFrom──►  domain type  or  every fault with its place
//! ```
//!
//! One file a kind; each reads top-down: the type, then how it is read.

mod access_policy;
mod header_field;
mod instance;
mod jwt_provider;
mod mesh;
mod rest;
mod schema;
mod service;
mod trust_bundle;

use std::time::Duration;

pub use access_policy::{
    AccessPolicy, AccessRule, CallerMatch, ClaimValue, FieldIs, FieldRequirement, JwtRequirement, MethodMatch,
};
pub use header_field::{HEADER_FIELDS_MAX, HeaderField};
pub use instance::{Health, Instance, Locality, Transport, WEIGHT_DEFAULT};
pub use jwt_provider::{
    JWKS_BYTES_MAX, JWKS_KEYS_MAX, Jwk, JwkMaterial, JwtAlgorithm, JwtProvider, KeySet, KeySource,
};
pub use mesh::{MESH_NAME, Mesh};
pub use rest::{ErrorForm, Rest, Sse, UnknownInput};
pub use schema::{SCHEMA_BYTES_MAX, Schema, SchemaHash};
pub use service::{
    Balance, BalanceAlgorithm, LocalityPreference, Protocol, Retry, SchemaSource, Service, TIMEOUT_DEFAULT,
};
pub use trust_bundle::{TRUST_ANCHORS_MAX, TrustBundle};

use crate::fault::{Check, Faults};
use crate::v1::{self, document::Resource};

/// Judges a document: the `TryFrom` of its kind, with `Kind/name:` in front of every fault.
///
/// # Errors
/// Every fault.
pub fn check(resource: &Resource) -> Result<(), Faults> {
    let judged = match resource.clone() {
        Resource::Service(m) => Service::try_from(m).map(drop),
        Resource::Instance(m) => Instance::try_from(m).map(drop),
        Resource::Schema(m) => Schema::try_from(m).map(drop),
        Resource::JwtProvider(m) => JwtProvider::try_from(m).map(drop),
        Resource::AccessPolicy(m) => AccessPolicy::try_from(m).map(drop),
        Resource::Mesh(m) => Mesh::try_from(m).map(drop),
        Resource::TrustBundle(m) => TrustBundle::try_from(m).map(drop),
    };
    judged.map_err(|faults| {
        faults.under(&format!(
            "{}/{}:",
            resource.kind(),
            crate::name::printable(resource.name())
        ))
    })
}

/// Longest label name and value, in bytes.
pub const LABEL_BYTES_MAX: usize = 256;
/// Most labels on one thing.
pub const LABELS_MAX: usize = 64;

/// Reads `metadata`: the name by `read`, and the labels.
fn metadata<T>(
    metadata: Option<v1::Metadata>,
    check: &mut Check,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Option<(T, Vec<(String, String)>)> {
    let metadata = metadata.unwrap_or_default();
    if metadata.labels.len() > LABELS_MAX {
        check.fault(
            "metadata.labels",
            format!(
                "has {} labels; at most {LABELS_MAX} are allowed",
                metadata.labels.len()
            ),
        );
    }
    for (key, value) in &metadata.labels {
        if key.is_empty() || key.len() > LABEL_BYTES_MAX || value.len() > LABEL_BYTES_MAX {
            let place = format!("metadata.labels.{}", crate::name::printable(key));
            check.fault(
                place,
                format!("names are 1 to {LABEL_BYTES_MAX} bytes, values at most {LABEL_BYTES_MAX}"),
            );
        }
    }
    let name = check.leaf("metadata.name", read(&metadata.name))?;
    Some((name, metadata.labels.into_iter().collect()))
}

/// Reads an optional duration and holds it between two bounds.
fn duration(
    place: &str,
    value: Option<prost_types::Duration>,
    least: Duration,
    most: Duration,
    check: &mut Check,
) -> Option<Duration> {
    let value = value?;
    match Duration::try_from(value) {
        Ok(value) if value < least => {
            check.fault(place, format!("{value:?} is under {least:?}"));
            None
        }
        Ok(value) if value > most => {
            check.fault(place, format!("{value:?} is over {most:?}"));
            None
        }
        Ok(value) => Some(value),
        Err(_) => {
            check.fault(place, "is negative or not a duration");
            None
        }
    }
}

#[cfg(test)]
mod tests;
