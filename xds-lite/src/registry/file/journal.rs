//! Several files changed together, or not at all, even if the machine stops in between.
//!
//! ```text
//!  write every new content to a temporary file, fsync ──► write the journal, fsync, rename   <- the moment of commit
//!      ──► rename the temporary files, delete the others, fsync ──► remove the journal
//! ```
//!
//! A journal found at start is carried out again: every step of it may be repeated.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// One file to replace (`content`) or to delete. Paths are relative to the directory.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) path: PathBuf,
    pub(super) content: Option<Vec<u8>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Journal {
    renames: Vec<(PathBuf, PathBuf)>,
    deletes: Vec<PathBuf>,
}

const NAME: &str = ".journal";

/// Carries out all changes. On an error before the commit nothing has happened.
pub(super) fn commit(directory: &Path, changes: &[Change]) -> io::Result<()> {
    let mut journal = Journal {
        renames: Vec::new(),
        deletes: Vec::new(),
    };
    let staged = changes.iter().try_for_each(|change| {
        match &change.content {
            Some(content) => {
                let temporary = temporary_of(&change.path);
                journal.renames.push((temporary.clone(), change.path.clone()));
                write_synced(&directory.join(temporary), content)?;
            }
            None => journal.deletes.push(change.path.clone()),
        }
        Ok(())
    });
    let committed = staged.and_then(|()| {
        let text = serde_json::to_vec(&journal).map_err(io::Error::other)?;
        let temporary = directory.join(".journal.tmp");
        write_synced(&temporary, &text)?;
        fs::rename(temporary, directory.join(NAME))?;
        sync_directory(directory)
    });
    if let Err(error) = committed {
        for (temporary, _) in &journal.renames {
            let _ = fs::remove_file(directory.join(temporary));
        }
        let _ = fs::remove_file(directory.join(NAME));
        return Err(error);
    }
    carry_out(directory, &journal)
}

/// Finishes what a stopped process had committed.
pub(super) fn recover(directory: &Path) -> io::Result<()> {
    let text = match fs::read(directory.join(NAME)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let journal: Journal = serde_json::from_slice(&text).map_err(io::Error::other)?;
    carry_out(directory, &journal)
}

fn carry_out(directory: &Path, journal: &Journal) -> io::Result<()> {
    let gone_is_done = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    let mut touched = Vec::new();
    for (temporary, path) in &journal.renames {
        gone_is_done(fs::rename(directory.join(temporary), directory.join(path)))?;
        touched.extend(path.parent());
    }
    for path in &journal.deletes {
        gone_is_done(fs::remove_file(directory.join(path)))?;
        touched.extend(path.parent());
    }
    touched.sort_unstable();
    touched.dedup();
    for parent in touched {
        gone_is_done(sync_directory(&directory.join(parent)))?;
    }
    gone_is_done(fs::remove_file(directory.join(NAME)))
}

/// Replaces one file: temporary file, fsync, rename.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = temporary_of(path);
    write_synced(&temporary, content)?;
    fs::rename(&temporary, path)
}

/// Hidden, so that no reader takes it for a document.
fn temporary_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.tmp"))
}

fn write_synced(path: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("xds-lite-journal-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn change(path: &str, content: Option<&str>) -> Change {
        Change {
            path: path.into(),
            content: content.map(|text| text.as_bytes().to_vec()),
        }
    }

    #[test]
    fn all_files_change_together() {
        let directory = directory("together");
        fs::write(directory.join("old"), "x").unwrap();
        commit(
            &directory,
            &[
                change("a/one", Some("1")),
                change("b/two", Some("2")),
                change("old", None),
            ],
        )
        .unwrap();
        assert_eq!(fs::read_to_string(directory.join("a/one")).unwrap(), "1");
        assert_eq!(fs::read_to_string(directory.join("b/two")).unwrap(), "2");
        assert!(!directory.join("old").exists() && !directory.join(NAME).exists());
    }

    #[test]
    fn what_cannot_be_staged_changes_nothing() {
        let directory = directory("nothing");
        fs::write(directory.join("file"), "x").unwrap();
        let told = commit(
            &directory,
            &[change("one", Some("1")), change("file/two", Some("2"))],
        );
        assert!(told.is_err());
        assert!(!directory.join("one").exists() && !directory.join(".one.tmp").exists());
    }

    #[test]
    fn a_commit_that_was_cut_short_is_finished_at_the_next_start() {
        let directory = directory("recover");
        fs::write(directory.join(".one.tmp"), "1").unwrap();
        fs::write(directory.join("two"), "2").unwrap();
        let journal = Journal {
            renames: vec![
                (".one.tmp".into(), "one".into()),
                (".done.tmp".into(), "done".into()),
            ],
            deletes: vec!["two".into(), "three".into()],
        };
        fs::write(directory.join(NAME), serde_json::to_vec(&journal).unwrap()).unwrap();
        recover(&directory).unwrap();
        assert_eq!(fs::read_to_string(directory.join("one")).unwrap(), "1");
        assert!(!directory.join("two").exists() && !directory.join(NAME).exists());
        recover(&directory).unwrap();
    }
}
