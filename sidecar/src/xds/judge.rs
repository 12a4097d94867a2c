//! Judges one pushed resource: from bytes to a value that cannot be wrong, or one line that says where it is.
//!
//! It is the same `TryFrom` that judged the document when a person applied it, and then what only a sidecar can see:
//! whether descriptors compile, whether authorities can be used, whether the mesh is the one it belongs to.

use std::sync::Arc;

use mesh_link::Credentials;
use mesh_proto::domain::{
    AccessPolicy, Instance, JwtProvider, Mesh, Schema, SchemaHash, SchemaSource, Service, TrustBundle,
};
use mesh_proto::fault::{Check, Faults};
use mesh_proto::kind::Kind;
use mesh_proto::name::TrustDomain;
use mesh_proto::v1::document::Resource;
use rustls::pki_types::CertificateDer;

/// Longest line about one refused resource, in bytes: it travels to whoever applied it.
const LINE_BYTES_MAX: usize = 2 << 10;

/// A resource as what it means.
#[derive(Clone)]
pub enum Value {
    /// What holds for the whole mesh.
    Mesh(Arc<Mesh>),
    /// Authorities of a trust domain.
    TrustBundle(Arc<TrustBundle>),
    /// An issuer.
    JwtProvider(Arc<JwtProvider>),
    /// Compiled.
    Schema(SchemaHash, Arc<mesh_transcode::Schema>),
    /// A service; its schema is by hash.
    Service(Arc<Service>),
    /// One running copy.
    Instance(Arc<Instance>),
    /// Who may call.
    AccessPolicy(Arc<AccessPolicy>),
}

/// Judges the bytes of a resource that was pushed under `name`. With `trust_domain`, a mesh of another one is refused.
///
/// # Errors
/// `<name>: <place>: <reason>`, all faults of the resource in one line.
pub fn judge(
    kind: Kind,
    name: &str,
    bytes: &[u8],
    trust_domain: Option<&TrustDomain>,
) -> Result<Value, String> {
    read(kind, name, bytes, trust_domain).map_err(|faults| line(name, &faults))
}

/// All faults of a resource in the one line that answers it.
#[must_use]
pub fn line(name: &str, faults: &Faults) -> String {
    let told: Vec<String> = faults.0.iter().map(ToString::to_string).collect();
    let mut line = format!("{name}: {}", told.join("; ")).replace(['\n', '\r'], " ");
    if line.len() > LINE_BYTES_MAX {
        let mut end = LINE_BYTES_MAX;
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        line.truncate(end);
        line.push('…');
    }
    line
}

/// Judges as [`judge`] does, with every fault for itself.
///
/// # Errors
/// Every fault at its place.
pub fn read(
    kind: Kind,
    name: &str,
    bytes: &[u8],
    trust_domain: Option<&TrustDomain>,
) -> Result<Value, Faults> {
    let resource = Resource::decode(kind, bytes)
        .map_err(|_| Faults::one("", format!("is not an encoded {}", kind.message_name())))?;
    // What a newer control plane knows and we do not would be lost without a word; of who may get in, that must not be.
    let decides_who = matches!(resource, Resource::AccessPolicy(_) | Resource::JwtProvider(_));
    if decides_who && resource.encode_to_vec().len() != bytes.len() {
        return Err(Faults::one(
            "",
            "has a part that this version of the sidecar does not know, and is not followed without it; upgrade the sidecar",
        ));
    }
    let written = resource.resource_name();
    if written != name {
        // The faults of the resource itself say more than that the names differ, if it has any.
        mesh_proto::domain::check(&resource).map_err(without_label)?;
        return Err(Faults::one(
            "metadata.name",
            format!("the resource is {written:?} inside, but was pushed as {name:?}"),
        ));
    }
    match resource {
        Resource::Mesh(message) => read_mesh(Mesh::try_from(message)?, trust_domain),
        Resource::TrustBundle(message) => read_bundle(TrustBundle::try_from(message)?),
        Resource::JwtProvider(message) => {
            JwtProvider::try_from(message).map(|v| Value::JwtProvider(v.into()))
        }
        Resource::Schema(message) => read_schema(&Schema::try_from(message)?),
        Resource::Service(message) => read_service(Service::try_from(message)?),
        Resource::Instance(message) => Instance::try_from(message).map(|v| Value::Instance(v.into())),
        Resource::AccessPolicy(message) => {
            AccessPolicy::try_from(message).map(|v| Value::AccessPolicy(v.into()))
        }
    }
}

fn read_mesh(mesh: Mesh, trust_domain: Option<&TrustDomain>) -> Result<Value, Faults> {
    match trust_domain {
        Some(ours) if *ours != mesh.trust_domain => Err(Faults::one(
            "spec.trustDomain",
            format!("is {}, but this sidecar is of {ours}", mesh.trust_domain),
        )),
        _ => Ok(Value::Mesh(mesh.into())),
    }
}

/// Whether each authority is a certificate at all is for those who verify with it to say: us.
fn read_bundle(bundle: TrustBundle) -> Result<Value, Faults> {
    let mut check = Check::default();
    for (index, der) in bundle.authorities.iter().enumerate() {
        let usable = rustls::RootCertStore::empty().add(CertificateDer::from(der.as_slice()));
        if usable.is_err() {
            check.fault(
                "spec.certificates",
                format!("certificate {} is not an authority's certificate", index + 1),
            );
        }
    }
    check.finish(Some(Value::TrustBundle(bundle.into())))
}

fn read_schema(schema: &Schema) -> Result<Value, Faults> {
    let compiled = mesh_transcode::Schema::compile(&schema.descriptor_set)
        .map_err(|faults| faults.under("spec.descriptorSet"))?;
    Ok(Value::Schema(schema.hash.clone(), compiled.into()))
}

fn read_service(service: Service) -> Result<Value, Faults> {
    match service.schema {
        Some(SchemaSource::Inline(_)) => Err(Faults::one(
            "spec.schema.inline",
            "is not pushed in place; a schema is a resource of its own, named by hash",
        )),
        _ => Ok(Value::Service(service.into())),
    }
}

/// `domain::check` puts `Kind/name:` in front, which the line has already.
fn without_label(mut faults: Faults) -> Faults {
    for fault in &mut faults.0 {
        if let Some((_, place)) = fault.place.split_once(": ") {
            fault.place = place.to_owned();
        } else if fault.place.ends_with(':') {
            fault.place.clear();
        }
    }
    faults
}

/// Authorities of a bundle, as credentials want them.
#[must_use]
pub fn authorities(bundle: &TrustBundle) -> Vec<CertificateDer<'static>> {
    bundle
        .authorities
        .iter()
        .map(|der| CertificateDer::from(der.clone()))
        .collect()
}

/// The same credentials, believing other authorities.
///
/// # Errors
/// Certificate and key no longer fit, which cannot happen to credentials that were made once.
pub fn with_authorities(
    credentials: &Credentials,
    authorities: Vec<CertificateDer<'static>>,
) -> Result<Credentials, Faults> {
    Credentials::new(credentials.chain.clone(), credentials.key(), authorities)
}

#[cfg(test)]
mod tests {
    use mesh_proto::v1;
    use prost::Message;

    use super::*;

    #[test]
    fn what_decides_who_gets_in_is_not_followed_in_part() {
        let rule = v1::AccessRule {
            methods: vec!["*".into()],
            ..v1::AccessRule::default()
        };
        let policy = |unknown: &[u8]| {
            // `spec.allow[0]`, and behind it what a later version may write there.
            let rule = [&rule.encode_to_vec(), unknown].concat();
            let length = |bytes: &[u8]| u8::try_from(bytes.len()).unwrap();
            let spec = [&[0x0a, 1, b'a', 0x12, length(&rule)], &rule[..]].concat();
            [&[0x0a, 3, 0x0a, 1, b'p', 0x12, length(&spec)], &spec[..]].concat()
        };
        let judge = |bytes: &[u8]| judge(Kind::AccessPolicy, "a/p", bytes, None);
        assert!(judge(&policy(b"")).is_ok());
        let told = judge(&policy(b"\x9a\x06\x01x")).err().unwrap();
        assert!(told.contains("upgrade the sidecar"), "{told}");
    }
}
