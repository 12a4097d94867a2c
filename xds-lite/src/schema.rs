//! Schemas: taken out of the services that bring them, named by their hash, and judged before they are stored.

use mesh_proto::Faults;
use mesh_proto::domain::{Rest, SchemaHash};
use mesh_proto::v1::{self, document::Resource, schema_source::Source};
use mesh_transcode::HeaderFields;

/// Takes an inline schema out of a service and leaves its hash there.
pub fn split(resource: &mut Resource) -> Option<Resource> {
    let Resource::Service(service) = resource else {
        return None;
    };
    let source = service.spec.as_mut()?.schema.as_mut()?.source.as_mut()?;
    let Source::Inline(bytes) = source else {
        return None;
    };
    let bytes = std::mem::take(bytes);
    let hash = SchemaHash::of(&bytes);
    *source = Source::Hash(hash.as_str().to_owned());
    Some(of_bytes(bytes))
}

/// The schema a set of descriptors is.
#[must_use]
pub fn of_bytes(descriptor_set: Vec<u8>) -> Resource {
    Resource::Schema(v1::Schema {
        metadata: Some(v1::Metadata {
            name: SchemaHash::of(&descriptor_set).as_str().to_owned(),
            ..Default::default()
        }),
        spec: Some(v1::SchemaSpec { descriptor_set }),
    })
}

/// The hash a service refers to.
#[must_use]
pub fn referred(resource: &Resource) -> Option<&str> {
    let Resource::Service(service) = resource else {
        return None;
    };
    match service.spec.as_ref()?.schema.as_ref()?.source.as_ref()? {
        Source::Hash(hash) => Some(hash),
        _ => None,
    }
}

/// Whether headers that stand for fields find them in the schema of their service. What has none, or no schema here, has
/// nothing to say.
///
/// # Errors
/// Every fault, by its place in the document.
pub fn check_headers(service: &Resource, schema: &Resource) -> Result<(), Faults> {
    let (
        Resource::Service(service),
        Resource::Schema(v1::Schema {
            spec: Some(schema), ..
        }),
    ) = (service, schema)
    else {
        return Ok(());
    };
    let options = service.spec.as_ref().and_then(|spec| spec.rest.clone());
    let Some(options) =
        options.filter(|options| !options.request_headers.is_empty() || !options.response_headers.is_empty())
    else {
        return Ok(());
    };
    // What is wrong with the schema itself is told elsewhere.
    let (Ok(rest), Ok(schema)) = (
        Rest::try_from(options),
        mesh_transcode::Schema::compile(&schema.descriptor_set),
    ) else {
        return Ok(());
    };
    HeaderFields::check(&rest, &schema).map_err(|faults| faults.under("spec.rest"))
}

/// Whether a schema links and translates, as every sidecar will find it. Anything else has nothing to say here.
///
/// # Errors
/// Why not, in one line.
pub fn compile(resource: &Resource) -> Result<(), String> {
    let Resource::Schema(v1::Schema { spec: Some(spec), .. }) = resource else {
        return Ok(());
    };
    match mesh_transcode::Schema::compile(&spec.descriptor_set) {
        Ok(_) => Ok(()),
        Err(faults) => Err(crate::registry::codec::one_line(&faults)),
    }
}
