//! Where the schemas of `lint` and `openapi` come from.
//!
//! ```text
//!  --schema FILE | -f DOCUMENTS | --from HOST:PORT (reflection) | what xds-lite has stored  ─►  services with their schemas
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mesh_link::{grpc, reflection};
use mesh_proto::domain::{self, SCHEMA_BYTES_MAX};
use mesh_proto::v1::{self, document::Resource, schema_source::Source};
use mesh_proto::{Faults, Kind};
use mesh_transcode::{HeaderFields, Options, Schema};

use crate::cli::Global;
use crate::client::Client;
use crate::commands::resource_of;
use crate::failure::{Exit, Failure};
use crate::{output, sources};

/// The options that name them.
#[derive(Debug, clap::Args)]
#[group(multiple = true)]
pub(crate) struct Origin {
    /// A serialized FileDescriptorSet, such as `protoc --include_imports --descriptor_set_out` writes.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["files", "server_address"])]
    schema: Option<PathBuf>,
    /// A file of documents, a folder of such files, or `-` for stdin. May be given more than once.
    #[arg(
        short = 'f',
        long = "file",
        value_name = "FILE|DIR|-",
        conflicts_with = "server_address"
    )]
    files: Vec<PathBuf>,
    /// A gRPC server that has reflection, plaintext.
    #[arg(long = "from", value_name = "HOST:PORT")]
    server_address: Option<String>,
    /// With --schema and --from: methods without an HTTP rule are reached by POST /package.Service/Method.
    #[arg(long)]
    unannotated: bool,
    /// Only these services: those that one edge exposes, in its order.
    #[arg(long, value_name = "SERVICE,…", value_delimiter = ',')]
    expose: Vec<String>,
}

/// A service with its schema.
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) schema: Arc<Schema>,
    pub(crate) unannotated: bool,
    /// How its callers are read and answered.
    pub(crate) options: Options,
    /// Headers that stand for fields, if there are any.
    pub(crate) headers: Option<HeaderFields>,
}

impl Origin {
    /// Loads them. Services without a schema are left out.
    ///
    /// # Errors
    /// The outer: something cannot be read or reached. The inner: every fault of what was read.
    pub(crate) async fn load(&self, global: &Global) -> Result<Result<Vec<Named>, Faults>, Failure> {
        let loaded = if let Some(file) = &self.schema {
            self.one(&file.display().to_string(), &read(file)?)
        } else if let Some(server) = &self.server_address {
            let channel = grpc::plain_channel(server).map_err(Failure::usage)?;
            let reflected = reflection::collect(channel)
                .await
                .map_err(|why| Failure::new(Exit::Unreachable, format!("{server}: {why}")))?;
            self.one(server, &reflected.descriptor_set)
        } else if !self.files.is_empty() {
            sources::load(&self.files)?.and_then(|documents| {
                let resources: Vec<Resource> = documents.into_iter().map(|loaded| loaded.resource).collect();
                of_documents(&resources)
            })
        } else {
            of_documents(&stored(global).await?)
        };
        let Ok(mut all) = loaded else { return Ok(loaded) };
        if !self.expose.is_empty() {
            let mut chosen = Vec::new();
            for name in &self.expose {
                let at = all.iter().position(|named| named.name == *name).ok_or_else(|| {
                    Failure::usage(format!(
                        "there is no schema of a service {name:?} in what was read"
                    ))
                })?;
                chosen.push(all.remove(at));
            }
            all = chosen;
        }
        Ok(Ok(all))
    }

    fn one(&self, name: &str, bytes: &[u8]) -> Result<Vec<Named>, Faults> {
        let schema = Schema::compile(bytes).map_err(|faults| faults.under(&format!("{name}:")))?;
        Ok(vec![Named {
            name: name.to_owned(),
            schema: schema.into(),
            unannotated: self.unannotated,
            options: Options::default(),
            headers: None,
        }])
    }
}

/// Reads a descriptor set.
///
/// # Errors
/// It cannot be read, or is too large.
pub(crate) fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    use std::io::Read;
    let fail = |error: std::io::Error| Failure::usage(format!("cannot read {}: {error}", file.display()));
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file).map_err(fail)?;
    opened
        .take(SCHEMA_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(fail)?;
    if bytes.len() as u64 > SCHEMA_BYTES_MAX {
        let told = format!("{} is larger than {SCHEMA_BYTES_MAX} bytes", file.display());
        return Err(Failure::usage(told));
    }
    Ok(bytes)
}

/// Services and schemas as xds-lite has them.
async fn stored(global: &Global) -> Result<Vec<Resource>, Failure> {
    let client = Client::open(global)?;
    let mut resources = Vec::new();
    for kind in [Kind::Schema, Kind::Service] {
        let listed = client.list(kind).await?;
        resources.extend(listed.iter().filter_map(resource_of).cloned());
    }
    Ok(resources)
}

fn of_documents(resources: &[Resource]) -> Result<Vec<Named>, Faults> {
    let mut check = mesh_proto::fault::Check::default();
    let mut named = Vec::new();
    for resource in resources {
        let Resource::Service(service) = resource else {
            continue;
        };
        let name = resource.name();
        let Some(spec) = &service.spec else { continue };
        let bytes = match spec.schema.as_ref().and_then(|schema| schema.source.as_ref()) {
            Some(Source::Inline(bytes)) => Some(bytes.as_slice()),
            Some(Source::Hash(hash)) => descriptors(resources, hash),
            Some(Source::Reflection(_)) => {
                let line = format!(
                    "Service/{name} tells its schema itself, and is left out; ask it with --from HOST:PORT"
                );
                output::note(&output::safe(&line));
                None
            }
            Some(Source::File(_)) | None => None,
        };
        let Some(bytes) = bytes else { continue };
        let label = format!("Service/{name}:");
        let Some(judged) = check.part(&label, domain::Service::try_from(service.clone())) else {
            continue;
        };
        let compiled = Schema::compile(bytes).map_err(|faults| faults.under("spec.schema"));
        if let Some(schema) = check.part(&label, compiled) {
            let (headers, faults) = HeaderFields::compile(&judged.rest, &schema);
            let wrong = faults.map_or(Ok(()), |faults| Err(faults.under("spec.rest")));
            check.part(&label, wrong);
            named.push(Named {
                name: name.to_owned(),
                schema: schema.into(),
                unannotated: judged.rest.unannotated,
                options: (&judged.rest).into(),
                headers,
            });
        }
    }
    check.finish(Some(named))
}

fn descriptors<'a>(resources: &'a [Resource], hash: &str) -> Option<&'a [u8]> {
    resources.iter().find_map(|resource| match resource {
        Resource::Schema(v1::Schema { spec: Some(spec), .. }) if resource.name() == hash => {
            Some(spec.descriptor_set.as_slice())
        }
        _ => None,
    })
}
