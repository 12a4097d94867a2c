//! A compiled set of descriptors, named by its hash.

use std::fmt;
use std::sync::Arc;

use super::metadata;
use crate::fault::{Check, Faults};
use crate::name::quote;
use crate::v1;

/// Largest set of descriptors, in bytes.
pub const SCHEMA_BYTES_MAX: u64 = 8 << 20;

/// [`v1::Schema`]
#[derive(Debug, Clone, PartialEq)]
pub struct Schema {
    /// The hash of the bytes.
    pub hash: SchemaHash,
    /// A serialized `FileDescriptorSet`.
    pub descriptor_set: Vec<u8>,
}

/// `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SchemaHash(Arc<str>);

impl SchemaHash {
    /// Reads a hash.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("sha256:").unwrap_or("");
        if digits.len() == 64
            && digits
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        {
            Ok(Self(text.into()))
        } else if text.is_empty() {
            Err("is missing".into())
        } else {
            Err(format!(
                "{} is not a schema's hash: sha256: and 64 hexadecimal digits",
                quote(text)
            ))
        }
    }

    /// The hash of a descriptor set.
    #[must_use]
    pub fn of(descriptor_set: &[u8]) -> Self {
        Self(format!("sha256:{}", crate::hex_sha256(descriptor_set)).into())
    }

    /// The hash as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SchemaHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<v1::Schema> for Schema {
    type Error = Faults;

    fn try_from(message: v1::Schema) -> Result<Self, Faults> {
        let mut check = Check::default();
        let name = metadata(message.metadata, &mut check, SchemaHash::parse);
        let bytes = message.spec.unwrap_or_default().descriptor_set;
        check.leaf("spec.descriptorSet", check_bytes(&bytes));
        if let Some((hash, _)) = &name
            && !bytes.is_empty()
            && *hash != SchemaHash::of(&bytes)
        {
            check.fault(
                "metadata.name",
                format!("is not the hash of the descriptors, {}", SchemaHash::of(&bytes)),
            );
        }
        check.finish(name.map(|(hash, _)| Schema {
            hash,
            descriptor_set: bytes,
        }))
    }
}

/// Judges the size of a descriptor set, and that it is one at all. Whether it links is the transcoder's to say.
pub(super) fn check_bytes(bytes: &[u8]) -> Result<(), String> {
    if bytes.is_empty() {
        return Err("is missing".into());
    }
    if bytes.len() as u64 > SCHEMA_BYTES_MAX {
        return Err(format!(
            "is {} bytes; at most {SCHEMA_BYTES_MAX} are allowed",
            bytes.len()
        ));
    }
    let set: prost_types::FileDescriptorSet = prost::Message::decode(bytes)
        .map_err(|_| "is not a serialized google.protobuf.FileDescriptorSet".to_owned())?;
    if set.file.is_empty() {
        return Err("holds no files; was it compiled with --include_imports?".into());
    }
    Ok(())
}
