//! The directory as a value: scan it, write to it, look at it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mesh_proto::Kind;
use mesh_proto::v1::{self, document::Resource};

use super::journal::{self, Change};
use super::read::{Print, prints_of, read_document, read_instance, revision_of};
use crate::registry::codec::{self, Form};
use crate::registry::grace::Grace;
use crate::registry::{Expect, Exposures, Item, Key, Revision, State, Stored, Write, WriteError};

pub(super) struct Store {
    directory: PathBuf,
    /// What stands in each file.
    files: BTreeMap<PathBuf, Entry>,
    instances: BTreeMap<String, Arc<Stored>>,
    grace: Grace,
    instance_faults: Vec<String>,
    /// Why the directory cannot be read at the moment.
    trouble: Option<String>,
    last_read: Option<SystemTime>,
    pub(super) replicas: BTreeMap<String, String>,
    /// What edges expose; there is one replica.
    pub(super) edges: Exposures,
    _lock: fs::File,
}

/// A file of one document, as last seen.
#[derive(Debug)]
struct Entry {
    key: Key,
    /// Of the file itself and of the files it refers to; `None` where one is missing.
    prints: Vec<Option<Print>>,
    refers_to: Vec<PathBuf>,
    /// The last good content.
    stored: Option<Arc<Stored>>,
    fault: Option<String>,
}

impl Store {
    /// Takes the directory and reads the instances of a former run; each has the grace to be registered again.
    pub(super) fn open(directory: &Path, grace: Duration, now: Instant) -> Result<Self, String> {
        let fail = |what: &str, error: io::Error| format!("cannot {what} {}: {error}", directory.display());
        for part in ["documents", "instances"] {
            fs::create_dir_all(directory.join(part)).map_err(|error| fail("make the registry", error))?;
        }
        let lock = fs::File::create(directory.join("lock")).map_err(|error| fail("write to", error))?;
        if lock.try_lock().is_err() {
            return Err(format!(
                "{} is used by another xds-lite; stop that one, or use zk:// to run several",
                directory.display()
            ));
        }
        journal::recover(directory).map_err(|error| fail("finish the last change of", error))?;
        let mut store = Self {
            directory: directory.to_owned(),
            files: BTreeMap::new(),
            instances: BTreeMap::new(),
            grace: Grace::new(grace),
            instance_faults: Vec::new(),
            trouble: None,
            last_read: None,
            replicas: BTreeMap::new(),
            edges: Exposures::new(),
            _lock: lock,
        };
        store.load_instances(now).map_err(|error| fail("read", error))?;
        Ok(store)
    }

    /// Looks at every file, reads those that changed, and says whether any did.
    pub(super) fn scan(&mut self) -> bool {
        match self.list() {
            Ok(found) => {
                self.last_read = Some(SystemTime::now());
                let mut changed = self.trouble.take().is_some();
                let known: BTreeSet<PathBuf> = self.files.keys().cloned().collect();
                for gone in known.iter().filter(|path| !found.contains_key(*path)) {
                    self.files.remove(gone);
                    changed = true;
                }
                for (path, key) in found {
                    changed |= self.look_at(path, key);
                }
                changed
            }
            Err(error) => {
                let trouble = format!("{}: cannot be read: {error}", self.directory.display());
                let changed = self.trouble.as_ref() != Some(&trouble);
                self.trouble = Some(trouble);
                changed
            }
        }
    }

    /// See [`crate::registry::Registry::write`].
    pub(super) fn write(&mut self, writes: &[Write]) -> Result<Vec<Revision>, WriteError> {
        // A hand edit that was not seen yet counts.
        self.scan();
        if let Some(trouble) = &self.trouble {
            return Err(WriteError::Unavailable(trouble.clone()));
        }
        let current = self.documents();
        let lost: Vec<String> = writes
            .iter()
            .filter_map(|write| {
                unmet(
                    write,
                    current.get(&write.key).map(|stored| stored.revision.as_str()),
                )
            })
            .collect();
        if !lost.is_empty() {
            return Err(WriteError::Lost(lost));
        }
        let mut changes = Vec::new();
        for write in writes {
            let target = relative_path(&write.key);
            let old = self.files.iter().filter(|(_, entry)| entry.key == write.key);
            for (path, _) in old {
                if write.content.is_none() || *path != target {
                    changes.push(Change {
                        path: path.clone(),
                        content: None,
                    });
                }
            }
            if let Some(resource) = &write.content {
                changes.push(Change {
                    path: target,
                    content: Some(codec::encode(resource, Form::Yaml)),
                });
            }
        }
        journal::commit(&self.directory, &changes).map_err(|error| {
            WriteError::Failed(format!("cannot write to {}: {error}", self.directory.display()))
        })?;
        self.scan();
        let now_stored = self.documents();
        let revision = |write: &Write| now_stored.get(&write.key).map(|stored| stored.revision.clone());
        Ok(writes
            .iter()
            .map(|write| revision(write).unwrap_or_default())
            .collect())
    }

    /// See [`crate::registry::Registry::register`].
    pub(super) fn register(&mut self, instance: v1::Instance) -> Result<(), WriteError> {
        let resource = Resource::Instance(instance);
        let name = resource.name().to_owned();
        let path = self.instance_path(&name)?;
        let bytes = codec::encode(&resource, Form::Json);
        let fail = |error: io::Error| WriteError::Failed(format!("cannot write {}: {error}", path.display()));
        journal::replace(&path, &bytes).map_err(fail)?;
        let now = SystemTime::now();
        self.grace.cancel(&name);
        let stored = Stored {
            item: Arc::new(Item::new(resource)),
            schema: None,
            revision: revision_of(now, &bytes),
            modified: now,
        };
        self.instances.insert(name, Arc::new(stored));
        Ok(())
    }

    /// See [`crate::registry::Registry::release`].
    pub(super) fn release(&mut self, now: Instant, name: &str) {
        if self.instances.contains_key(name) {
            self.grace.start(now, name);
        }
    }

    /// See [`crate::registry::Registry::leave`].
    pub(super) fn leave(&mut self, name: &str) -> Result<(), WriteError> {
        self.grace.cancel(name);
        if self.instances.remove(name).is_none() {
            return Ok(());
        }
        let path = self.instance_path(name)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(WriteError::Failed(format!(
                "cannot remove {}: {error}",
                path.display()
            ))),
            _ => Ok(()),
        }
    }

    /// Removes the instances whose grace has ended, and says whether there were any.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let due = self.grace.due(now);
        for name in &due {
            tracing::info!(
                instance = name,
                "nobody registered it again within the grace; removed"
            );
            if let Err(error) = self.leave(name) {
                tracing::warn!(instance = name, %error, "cannot remove an instance");
            }
        }
        !due.is_empty()
    }

    /// What there is now.
    pub(super) fn view(&self) -> State {
        let mut faults: Vec<String> = self.trouble.iter().cloned().collect();
        let mut seen = BTreeMap::new();
        for (path, entry) in &self.files {
            faults.extend(entry.fault.iter().map(|why| format!("{}: {why}", path.display())));
            if let Some(first) = seen.insert(entry.key.clone(), path) {
                faults.push(format!(
                    "{}: holds {} like {}; only the first is used, remove one",
                    path.display(),
                    entry.key,
                    first.display()
                ));
            }
        }
        faults.extend(self.instance_faults.iter().cloned());
        State {
            loaded: self.last_read.is_some(),
            connected: self.trouble.is_none(),
            last_read: self.last_read,
            documents: self.documents(),
            instances: self.instances.clone(),
            replicas: self.replicas.clone(),
            edges: self.edges.clone(),
            faults,
        }
    }

    fn documents(&self) -> BTreeMap<Key, Arc<Stored>> {
        let mut documents = BTreeMap::new();
        for entry in self.files.values() {
            if let Some(stored) = &entry.stored {
                documents
                    .entry(entry.key.clone())
                    .or_insert_with(|| Arc::clone(stored));
            }
        }
        documents
    }

    /// Every file that should hold a document, with the document it should hold.
    fn list(&self) -> io::Result<BTreeMap<PathBuf, Key>> {
        let mut found = BTreeMap::new();
        fs::read_dir(self.directory.join("documents"))?;
        for kind in Kind::ALL {
            let relative = Path::new("documents").join(kind.as_str());
            let entries = match fs::read_dir(self.directory.join(&relative)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            for entry in entries {
                let file_name = entry?.file_name();
                let path = relative.join(&file_name);
                let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
                let wanted = match kind {
                    Kind::Schema => extension == "binpb",
                    _ => matches!(extension, "yaml" | "yml" | "json"),
                };
                let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
                if wanted && !stem.starts_with('.') {
                    let name = codec::unescape(stem).unwrap_or_else(|| stem.to_owned());
                    found.insert(path, Key { kind, name });
                }
            }
        }
        Ok(found)
    }

    /// Reads one file if it, or a file it refers to, changed.
    fn look_at(&mut self, path: PathBuf, key: Key) -> bool {
        let absolute = self.directory.join(&path);
        let old = self.files.get(&path);
        let refers_to = old.map(|entry| entry.refers_to.clone()).unwrap_or_default();
        let prints = prints_of(&absolute, &refers_to);
        if old.is_some_and(|entry| entry.prints == prints) {
            return false;
        }
        let (refers_to, read) = read_document(&absolute, &key);
        let (stored, fault) = match read {
            Ok(stored) => (Some(Arc::new(stored)), None),
            Err(why) => {
                tracing::warn!(file = %absolute.display(), reason = why, "a bad document; its last good content stays");
                (old.and_then(|entry| entry.stored.clone()), Some(why))
            }
        };
        let prints = prints_of(&absolute, &refers_to);
        self.files.insert(
            path,
            Entry {
                key,
                prints,
                refers_to,
                stored,
                fault,
            },
        );
        true
    }

    fn load_instances(&mut self, now: Instant) -> io::Result<()> {
        for service in fs::read_dir(self.directory.join("instances"))? {
            let service = service?.path();
            if !service.is_dir() {
                continue;
            }
            for file in fs::read_dir(&service)? {
                let path = file?.path();
                if path.extension().is_none_or(|extension| extension != "json") {
                    continue;
                }
                match read_instance(&path) {
                    Ok((name, stored)) => {
                        self.grace.start(now, &name);
                        self.instances.insert(name, Arc::new(stored));
                    }
                    Err(why) => self.instance_faults.push(format!("{}: {why}", path.display())),
                }
            }
        }
        Ok(())
    }

    fn instance_path(&self, name: &str) -> Result<PathBuf, WriteError> {
        let (service, id) = name
            .split_once('/')
            .ok_or_else(|| WriteError::Failed(format!("{name} is not <service>/<id>")))?;
        let file = format!("{}.json", codec::escape(id));
        Ok(self
            .directory
            .join("instances")
            .join(codec::escape(service))
            .join(file))
    }
}

/// Why a write's condition does not hold, if it does not.
fn unmet(write: &Write, stored: Option<&str>) -> Option<String> {
    let key = &write.key;
    match (&write.expect, stored) {
        (Expect::Nothing, Some(revision)) => Some(format!("{key} is there already, at revision {revision}")),
        (Expect::Revision(wanted), Some(revision)) if wanted != revision => Some(format!(
            "{key} was changed meanwhile: revision {wanted} was expected, {revision} is stored; get it and apply again"
        )),
        (Expect::Revision(_), None) => Some(format!("{key} was deleted meanwhile")),
        _ => None,
    }
}

fn relative_path(key: &Key) -> PathBuf {
    let extension = if key.kind == Kind::Schema { "binpb" } else { "yaml" };
    let file = format!("{}.{extension}", codec::escape(&key.name));
    Path::new("documents").join(key.kind.as_str()).join(file)
}
