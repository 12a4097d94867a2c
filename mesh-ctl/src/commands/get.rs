//! `get`: what is stored, as a table or as documents that can be applied again.

use std::time::SystemTime;

use mesh_proto::v1::{StoredDocument, document::Resource, jwks_source, schema_source};
use mesh_proto::{Kind, document};

use super::{name_of, parse_kind, resource_of};
use crate::cli::{Format, Global};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, cell, note};
use crate::words;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Service, Instance, Schema, JwtProvider, AccessPolicy, Mesh or TrustBundle; in any case, plurals too.
    #[arg(value_parser = parse_kind)]
    kind: Kind,
    /// Only this one.
    name: Option<String>,
}

pub(crate) async fn run(global: &Global, args: Args) -> Result<(), Failure> {
    let client = Client::open(global)?;
    let mut stored = match &args.name {
        None => client.list(args.kind).await?,
        Some(name) => match client.get(args.kind, name).await? {
            Some(found) => vec![found],
            None => return Err(client.not_found(args.kind, name).await),
        },
    };
    stored.sort_by(|a, b| name_of(a).cmp(name_of(b)));
    if global.output != Format::Table {
        let documents: Vec<_> = stored
            .iter()
            .filter_map(resource_of)
            .map(document::to_value)
            .collect();
        return output::print_documents(global.output, &documents);
    }
    if stored.is_empty() {
        note(&format!(
            "there is no {} yet; `mesh-ctl apply -f FILE` stores documents",
            args.kind
        ));
        return Ok(());
    }
    let now = SystemTime::now();
    let mut table = output::table(&["NAME", "VERSION", "REVISION", "MODIFIED", "WHAT"]);
    for stored in &stored {
        let what = resource_of(stored).map(summary).unwrap_or_default();
        table.add_row([
            cell(name_of(stored)),
            cell(version(stored)),
            cell(&stored.revision),
            cell(words::ago(stored.modified, now)),
            cell(what),
        ]);
    }
    output::print_table(&table)
}

fn version(stored: &StoredDocument) -> &str {
    &stored.version
}

/// What tells one document from its siblings, in a few words. Never bytes: of a schema its size.
fn summary(resource: &Resource) -> String {
    match resource {
        Resource::Service(service) => {
            let spec = service.spec.clone().unwrap_or_default();
            let protocol = match spec.protocol() {
                mesh_proto::v1::Protocol::Grpc => "grpc",
                mesh_proto::v1::Protocol::HttpJson => "http-json",
                mesh_proto::v1::Protocol::Unspecified => "?",
            };
            let schema = match spec.schema.and_then(|schema| schema.source) {
                None => "no schema".into(),
                Some(schema_source::Source::Inline(bytes)) => {
                    format!("schema of {}", words::size(bytes.len()))
                }
                Some(schema_source::Source::Hash(hash)) => format!("schema {}", short_hash(&hash)),
                Some(schema_source::Source::File(file)) => format!("schema in {file}"),
                Some(schema_source::Source::Reflection(_)) => "schema by reflection".into(),
            };
            format!("{protocol}, {schema}")
        }
        Resource::Instance(instance) => instance
            .spec
            .as_ref()
            .map_or_else(String::new, |spec| format!("{}:{}", spec.address, spec.port)),
        Resource::Schema(schema) => schema
            .spec
            .as_ref()
            .map_or_else(String::new, |spec| words::size(spec.descriptor_set.len())),
        Resource::JwtProvider(provider) => {
            let spec = provider.spec.clone().unwrap_or_default();
            let keys = match spec.jwks.and_then(|jwks| jwks.source) {
                Some(jwks_source::Source::Uri(uri)) => format!("keys at {uri}"),
                Some(jwks_source::Source::Inline(text)) => {
                    format!("keys inline, {}", words::size(text.len()))
                }
                Some(jwks_source::Source::File(file)) => format!("keys in {file}"),
                None => "no keys".into(),
            };
            format!("{}, {keys}", spec.issuer)
        }
        Resource::AccessPolicy(policy) => {
            let spec = policy.spec.clone().unwrap_or_default();
            format!("{}, {}", spec.service, words::count(spec.allow.len(), "rule"))
        }
        Resource::Mesh(mesh) => mesh
            .spec
            .as_ref()
            .map_or_else(String::new, |spec| spec.trust_domain.clone()),
        Resource::TrustBundle(bundle) => {
            let certificates = bundle
                .spec
                .as_ref()
                .map_or(0, |spec| spec.certificates.matches("-----BEGIN").count());
            words::count(certificates, "certificate")
        }
    }
}

/// `sha256:` and the first digits: enough to see that two differ.
fn short_hash(hash: &str) -> String {
    const SHOWN: usize = "sha256:".len() + 12;
    match hash.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &hash[..at]),
        None => hash.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_proto::v1::{self, SchemaSpec};

    #[test]
    fn a_schema_is_shown_by_its_size_and_never_as_bytes() {
        let spec = SchemaSpec {
            descriptor_set: vec![0x1b; 3482],
        };
        let schema = Resource::Schema(v1::Schema {
            metadata: None,
            spec: Some(spec),
        });
        assert_eq!(summary(&schema), "3.4 KiB");
    }

    #[test]
    fn hashes_are_shortened_wherever_they_are_cut() {
        assert_eq!(short_hash("sha256:0123456789abcdef"), "sha256:0123456789ab…");
        assert_eq!(short_hash("sha256:01"), "sha256:01");
        assert_eq!(short_hash(&"é".repeat(30)).chars().count(), 20);
    }
}
