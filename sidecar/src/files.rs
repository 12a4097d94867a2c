//! Small files: read whole with a bound, written whole or not at all, watched by content.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

/// How often watched files are looked at.
pub const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// A file whose times are older than this, and unchanged, has not changed: times of files tick more coarsely than writes.
const SETTLED: Duration = Duration::from_secs(3);
/// Largest file whose content is compared; more is compared by its times alone.
const COMPARED_BYTES_MAX: u64 = 32 << 20;

/// Reads a text file.
///
/// # Errors
/// One line with the path.
pub fn read_text(path: &Path, bytes_max: u64) -> Result<String, String> {
    let bytes = read_bytes(path, bytes_max)?;
    String::from_utf8(bytes).map_err(|_| format!("{} is not UTF-8 text", path.display()))
}

/// Reads a file.
///
/// # Errors
/// One line with the path.
pub fn read_bytes(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let fail = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(fail)?;
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > bytes_max {
        return Err(format!("{} is larger than {bytes_max} bytes", path.display()));
    }
    Ok(bytes)
}

/// Reads a file that only this user may have written: a stranger's would be obeyed.
///
/// # Errors
/// One line with the path. A file that is not there is `Ok(None)`.
pub fn read_own(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, String> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    };
    if !metadata.is_file() {
        return Err(format!("{} is not a plain file", path.display()));
    }
    let ours = fs::metadata("/proc/self").map_or(metadata.uid(), |process| process.uid());
    if metadata.uid() != ours {
        return Err(format!(
            "{} belongs to another user ({}, not {ours})",
            path.display(),
            metadata.uid()
        ));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(format!("{} may be written by others", path.display()));
    }
    read_bytes(path, bytes_max).map(Some)
}

/// Writes a file for this user only: whole or not at all, and on the disk when this returns.
///
/// # Errors
/// One line with the path.
pub fn write_own(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let fail = |error: std::io::Error| format!("cannot write {}: {error}", path.display());
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(fail)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = folder.join(name);
    // A half-written one of an earlier life must not decide the mode of this one.
    let _ = fs::remove_file(&temporary);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(fail)?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(fail)?;
    fs::rename(&temporary, path).map_err(fail)?;
    fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(fail)
}

/// Remembers what files held, and tells when that changes.
#[derive(Debug, Default)]
pub struct Watch {
    seen: BTreeMap<PathBuf, Option<Seen>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    stamp: Stamp,
    digest: [u8; 32],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Watch {
    /// Whether any of these holds something else than last time, or they are others. The first time that is so.
    pub fn changed(&mut self, paths: impl IntoIterator<Item = PathBuf>) -> bool {
        let mut now = BTreeMap::new();
        for path in paths {
            let before = self.seen.get(&path).cloned().flatten();
            let seen = look(&path, before);
            now.insert(path, seen);
        }
        let digests = |seen: &BTreeMap<PathBuf, Option<Seen>>| {
            let digest = |(path, seen): (&PathBuf, &Option<Seen>)| {
                (path.clone(), seen.as_ref().map(|seen| seen.digest))
            };
            seen.iter().map(digest).collect::<Vec<_>>()
        };
        let changed = digests(&self.seen) != digests(&now);
        self.seen = now;
        changed
    }
}

fn look(path: &Path, before: Option<Seen>) -> Option<Seen> {
    let metadata = fs::metadata(path).ok()?;
    let stamp = Stamp {
        inode: (metadata.dev(), metadata.ino()),
        size: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    };
    let settled = metadata
        .modified()
        .ok()
        .and_then(|at| SystemTime::now().duration_since(at).ok())
        .is_some_and(|age| age > SETTLED);
    match before {
        Some(before) if settled && before.stamp == stamp => Some(before),
        _ => {
            let bytes = read_bytes(path, COMPARED_BYTES_MAX).ok()?;
            Some(Seen {
                stamp,
                digest: Sha256::digest(&bytes).into(),
            })
        }
    }
}

/// A folder of its own for a test, removed at the end.
#[cfg(test)]
pub(crate) struct TestFolder(pub PathBuf);

#[cfg(test)]
impl TestFolder {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mesh-sidecar-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

#[cfg(test)]
impl Drop for TestFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_by_content_even_when_size_and_second_are_the_same() {
        let folder = TestFolder::new("watch");
        let path = folder.write("a", "one");
        let mut watch = Watch::default();
        assert!(watch.changed([path.clone()]));
        assert!(!watch.changed([path.clone()]));
        folder.write("a", "two");
        assert!(watch.changed([path.clone()]));
        folder.write("a", "two");
        assert!(!watch.changed([path.clone()]));
        fs::remove_file(&path).unwrap();
        assert!(watch.changed([path.clone()]));
        assert!(!watch.changed([path]));
    }

    #[test]
    fn a_secret_is_readable_by_its_owner_only_and_replaces_what_was_there() {
        let folder = TestFolder::new("secret");
        let path = folder.0.join("deep/secret");
        write_own(&path, b"one").unwrap();
        write_own(&path, b"two").unwrap();
        assert_eq!(read_own(&path, 10).unwrap().as_deref(), Some(&b"two"[..]));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.0.join("deep")).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_others_may_write_is_not_obeyed() {
        use std::os::unix::fs::PermissionsExt;
        let folder = TestFolder::new("others");
        let path = folder.write("a", "text");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(
            read_own(&path, 10)
                .unwrap_err()
                .contains("may be written by others")
        );
        assert_eq!(read_own(&folder.0.join("none"), 10).unwrap(), None);
        assert!(read_own(&folder.0, 10).unwrap_err().contains("not a plain file"));
    }
}
