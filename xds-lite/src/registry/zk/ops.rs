//! Changes to ZooKeeper: documents with compare-and-set, instances with take-over.

use std::sync::Arc;

use mesh_proto::Kind;
use zookeeper::{Acls, Client, CreateMode, CreateOptions, Error, MultiWriteError};

use super::Shared;
use super::tree::Seen;
use crate::registry::codec::{self, Form};
use crate::registry::exposures;
use crate::registry::{Expect, Revision, WRITE_TIMEOUT, Write, WriteError};

/// The largest content of one node, in bytes. ZooKeeper refuses packets over 1 MiB (`jute.maxbuffer`).
pub(super) const NODE_BYTES_MAX: usize = 900 << 10;
/// The largest sum of contents in one transaction, in bytes; the same limit holds for the whole packet.
const TRANSACTION_BYTES_MAX: usize = 960 << 10;
/// Room for the path and the framing of one operation, in bytes.
const OPERATION_BYTES: usize = 512;
/// How often a change is tried again when others change the same nodes at the same time.
const TRIES: usize = 5;

/// How nodes are made.
pub(super) fn options(shared: &Shared, mode: CreateMode) -> CreateOptions<'static> {
    mode.with_acls(match shared.address.digest {
        Some(_) => Acls::creator_all(),
        None => Acls::anyone_all(),
    })
}

/// See [`crate::registry::Registry::write`].
pub(super) async fn write(shared: &Shared, writes: &[Write]) -> Result<Vec<Revision>, WriteError> {
    let contents = encode(writes)?;
    bounded(shared, async |client| {
        let mut contents = contents.clone();
        // Schemas are named by their content: one that nobody refers to yet does no harm, and need not fit in with the rest.
        for (write, content) in writes.iter().zip(&mut contents) {
            if write.key.kind == Kind::Schema && write.expect == Expect::Anything && content.is_some() {
                put_schema(shared, client, write, content.as_deref().unwrap_or_default()).await?;
                *content = None;
            }
        }
        for _ in 0..TRIES {
            match transaction(shared, client, writes, &contents).await {
                Err(Step::Again) => {}
                Err(Step::Stop(error)) => return Err(error),
                Ok(()) => return revisions(shared, client, writes).await,
            }
        }
        Err(WriteError::Failed(
            "the documents are changed by others all the time; try again".into(),
        ))
    })
    .await
}

enum Step {
    /// Somebody changed a node in between.
    Again,
    Stop(WriteError),
}

impl From<Error> for Step {
    fn from(error: Error) -> Self {
        Step::Stop(failed(&error))
    }
}

/// Checks every condition and changes all nodes in one transaction.
async fn transaction(
    shared: &Shared,
    client: &Client,
    writes: &[Write],
    contents: &[Option<Vec<u8>>],
) -> Result<(), Step> {
    let mut lost = Vec::new();
    let mut multi = client.new_multi_writer();
    let make = options(shared, CreateMode::Persistent);
    for (write, content) in writes.iter().zip(contents) {
        let path = shared.layout.document(&write.key);
        let seen = client.check_stat(&path).await?.map(Seen::from);
        lost.extend(unmet(write, seen));
        match (content, seen) {
            (Some(data), None) => multi.add_create(&path, data, &make)?,
            (Some(data), Some(seen)) => multi.add_set_data(&path, data, Some(seen.version))?,
            (None, Some(seen)) if write.content.is_none() => multi.add_delete(&path, Some(seen.version))?,
            (None, _) => {}
        }
    }
    if !lost.is_empty() {
        return Err(Step::Stop(WriteError::Lost(lost)));
    }
    match multi.commit().await {
        Ok(_) => Ok(()),
        Err(MultiWriteError::OperationFailed {
            source: Error::BadVersion | Error::NodeExists | Error::NoNode,
            ..
        }) => Err(Step::Again),
        Err(error) => Err(Error::from(error).into()),
    }
}

/// Why a write's condition does not hold, if it does not.
fn unmet(write: &Write, seen: Option<Seen>) -> Option<String> {
    let key = &write.key;
    let stored = seen.map(|seen| seen.revision());
    match (&write.expect, stored) {
        (Expect::Nothing, Some(revision)) => Some(format!("{key} is there already, at revision {revision}")),
        (Expect::Revision(wanted), Some(revision)) if *wanted != revision => Some(format!(
            "{key} was changed meanwhile: revision {wanted} was expected, {revision} is stored; get it and apply again"
        )),
        (Expect::Revision(_), None) => Some(format!("{key} was deleted meanwhile")),
        _ => None,
    }
}

/// The contents of the nodes, `None` where one is deleted.
fn encode(writes: &[Write]) -> Result<Vec<Option<Vec<u8>>>, WriteError> {
    let mut contents = Vec::new();
    let mut sum = 0;
    for write in writes {
        let content = write
            .content
            .as_ref()
            .map(|resource| codec::encode(resource, Form::Json));
        let length = content.as_ref().map_or(0, Vec::len);
        if length > NODE_BYTES_MAX {
            return Err(WriteError::TooLarge(format!(
                "{} is {length} bytes; a ZooKeeper node holds at most {NODE_BYTES_MAX}. Make it smaller (a schema: \
                 compile only the files the service needs, without source info), or use --registry file:DIR",
                write.key
            )));
        }
        if write.key.kind != Kind::Schema {
            sum += length + OPERATION_BYTES;
        }
        contents.push(content);
    }
    if sum > TRANSACTION_BYTES_MAX {
        return Err(WriteError::TooLarge(format!(
            "the documents are {sum} bytes together; one ZooKeeper transaction holds at most {TRANSACTION_BYTES_MAX}. \
             Apply them in several steps"
        )));
    }
    Ok(contents)
}

async fn put_schema(shared: &Shared, client: &Client, write: &Write, data: &[u8]) -> Result<(), WriteError> {
    let path = shared.layout.document(&write.key);
    match client
        .create(&path, data, &options(shared, CreateMode::Persistent))
        .await
    {
        Ok(_) | Err(Error::NodeExists) => Ok(()),
        Err(error) => Err(failed(&error)),
    }
}

async fn revisions(shared: &Shared, client: &Client, writes: &[Write]) -> Result<Vec<Revision>, WriteError> {
    let mut revisions = Vec::new();
    for write in writes {
        let stat = client.check_stat(&shared.layout.document(&write.key)).await;
        let seen = stat.map_err(|error| failed(&error))?.map(Seen::from);
        revisions.push(
            seen.filter(|_| write.content.is_some())
                .map(|seen| seen.revision())
                .unwrap_or_default(),
        );
    }
    Ok(revisions)
}

/// See [`crate::registry::Registry::register`].
pub(super) async fn register(shared: &Shared, name: &str, data: &[u8]) -> Result<(), WriteError> {
    bounded(shared, async |client| {
        hold(shared, client, name, data)
            .await
            .map_err(|error| failed(&error))
    })
    .await
}

/// Makes the instance's node ours. One that belongs to another session is deleted and made again in one transaction, so
/// that it never vanishes in between and does not go with that session.
pub(super) async fn hold(shared: &Shared, client: &Client, name: &str, data: &[u8]) -> Result<(), Error> {
    let path = shared.layout.instance(name);
    hold_path(shared, client, &path, data).await
}

/// As [`hold`], for any ephemeral node.
pub(super) async fn hold_path(
    shared: &Shared,
    client: &Client,
    path: &str,
    data: &[u8],
) -> Result<(), Error> {
    let make = options(shared, CreateMode::Ephemeral);
    for _ in 0..TRIES {
        let done = match client.check_stat(path).await? {
            None => client.create(path, data, &make).await.map(drop),
            Some(stat) if stat.ephemeral_owner == client.session_id().0 => {
                client.set_data(path, data, Some(stat.version)).await.map(drop)
            }
            Some(stat) => {
                let mut multi = client.new_multi_writer();
                multi.add_delete(path, Some(stat.version))?;
                multi.add_create(path, data, &make)?;
                multi.commit().await.map(drop).map_err(Error::from)
            }
        };
        match done {
            // Also: the service's directory is missing.
            Err(Error::NoNode) => {
                if let Some((parent, _)) = path.rsplit_once('/') {
                    client
                        .mkdir(parent, &options(shared, CreateMode::Persistent))
                        .await?;
                }
            }
            Err(Error::NodeExists | Error::BadVersion | Error::RuntimeInconsistent) => {}
            other => return other,
        }
    }
    Err(Error::BadVersion)
}

/// Makes this replica's node say where it is and what its edges expose.
pub(super) async fn hold_replica(shared: &Shared, client: &Client) -> Result<(), Error> {
    let path = shared.layout.replica(&shared.settings.replica);
    let told = exposures::encode(&shared.settings.advertise, &shared.own().edges);
    hold_path(shared, client, &path, told.as_bytes()).await
}

/// See [`crate::registry::Registry::announce`].
pub(super) async fn announce(shared: &Shared) -> Result<(), WriteError> {
    bounded(shared, async |client| {
        hold_replica(shared, client).await.map_err(|error| failed(&error))
    })
    .await
}

/// See [`crate::registry::Registry::leave`].
pub(super) async fn leave(shared: &Shared, name: &str) -> Result<(), WriteError> {
    bounded(shared, async |client| {
        drop_own(shared, client, name)
            .await
            .map_err(|error| failed(&error))
    })
    .await
}

/// Deletes the instance's node if it is still ours.
pub(super) async fn drop_own(shared: &Shared, client: &Client, name: &str) -> Result<(), Error> {
    let path = shared.layout.instance(name);
    match client.check_stat(&path).await? {
        Some(stat) if stat.ephemeral_owner == client.session_id().0 => {
            match client.delete(&path, Some(stat.version)).await {
                Err(Error::NoNode | Error::BadVersion) => Ok(()),
                other => other,
            }
        }
        _ => Ok(()),
    }
}

/// Runs a change with a time limit, or says at once that there is no contact.
async fn bounded<T>(
    shared: &Shared,
    work: impl AsyncFnOnce(&Client) -> Result<T, WriteError>,
) -> Result<T, WriteError> {
    let Some(client): Option<Arc<Client>> = shared.client.load_full() else {
        return Err(WriteError::Unavailable(format!(
            "{} is out of reach; nothing was changed, and what is served stays as it is",
            shared.address
        )));
    };
    match tokio::time::timeout(WRITE_TIMEOUT, work(&client)).await {
        Ok(result) => result,
        Err(_) => Err(WriteError::OutcomeUnknown(format!(
            "{} did not answer within {WRITE_TIMEOUT:?}; look whether the change was made before trying again",
            shared.address
        ))),
    }
}

fn failed(error: &Error) -> WriteError {
    match error {
        Error::ConnectionLoss
        | Error::SessionExpired
        | Error::Timeout
        | Error::ClientClosed
        | Error::NoHosts => WriteError::OutcomeUnknown(format!(
            "contact with ZooKeeper was lost ({error}); look whether the change was made before trying again"
        )),
        Error::NoAuth | Error::AuthFailed => WriteError::Failed(format!(
            "ZooKeeper refused ({error}); the nodes belong to another user: write zk://USER:PASSWORD@..."
        )),
        other => WriteError::Failed(format!("ZooKeeper refused: {other}")),
    }
}
