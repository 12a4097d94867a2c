//! Reading the files of a registry, and seeing without reading whether one changed.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use mesh_proto::{Kind, document};

use crate::registry::{Key, Stored, codec};

/// The largest file that is read, in bytes: a schema of 8 MiB in base64, and some.
const FILE_BYTES_MAX: u64 = document::FILE_BYTES_MAX;

/// Enough to see that a file changed without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Print {
    inode: u64,
    length: u64,
    modified_ns: i128,
}

pub(super) fn print_of(path: &Path) -> Option<Print> {
    let metadata = fs::metadata(path).ok()?;
    Some(Print {
        inode: metadata.ino(),
        length: metadata.len(),
        modified_ns: i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec()),
    })
}

pub(super) fn prints_of(path: &Path, refers_to: &[PathBuf]) -> Vec<Option<Print>> {
    std::iter::once(print_of(path))
        .chain(refers_to.iter().map(|path| print_of(path)))
        .collect()
}

/// Reads a document, and tells which other files it refers to even when it is bad.
pub(super) fn read_document(path: &Path, key: &Key) -> (Vec<PathBuf>, Result<Stored, String>) {
    let base = path.parent().unwrap_or_else(|| Path::new("."));
    let (bytes, modified) = match read_bytes(path) {
        Ok(read) => read,
        Err(why) => return (Vec::new(), Err(why)),
    };
    let refers_to = match key.kind {
        Kind::Schema => Vec::new(),
        _ => codec::parse(&bytes)
            .map(|resource| {
                document::referred_files(&resource)
                    .iter()
                    .map(|file| base.join(file))
                    .collect()
            })
            .unwrap_or_default(),
    };
    let stored = codec::decode(key, &bytes, Some(base))
        .map(|decoded| decoded.stored(revision_of(modified, &bytes), modified));
    (refers_to, stored)
}

pub(super) fn read_instance(path: &Path) -> Result<(String, Stored), String> {
    let (bytes, modified) = read_bytes(path)?;
    let name = codec::parse(&bytes)?.name().to_owned();
    let key = Key {
        kind: Kind::Instance,
        name: name.clone(),
    };
    let decoded = codec::decode(&key, &bytes, None)?;
    Ok((name, decoded.stored(revision_of(modified, &bytes), modified)))
}

pub(super) fn read_bytes(path: &Path) -> Result<(Vec<u8>, SystemTime), String> {
    use io::Read;
    let fail = |error: io::Error| format!("cannot be read: {error}");
    let file = fs::File::open(path).map_err(fail)?;
    let modified = file.metadata().and_then(|m| m.modified()).map_err(fail)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(fail)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("is larger than {FILE_BYTES_MAX} bytes"));
    }
    Ok((bytes, modified))
}

/// Changes with every write: the time, and the content for clocks that are coarse.
pub(super) fn revision_of(modified: SystemTime, bytes: &[u8]) -> String {
    let since = modified
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    format!("{:x}-{}", since.as_nanos(), mesh_proto::version_of(bytes))
}
