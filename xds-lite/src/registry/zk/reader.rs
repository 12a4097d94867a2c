//! Reads what is dirty into the tree. Requests are sent in batches, and answers awaited in their order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use mesh_proto::Kind;
use zookeeper::{Client, Error};

use super::dirty::Marks;
use super::layout::Place;
use super::tree::{Birth, Seen, Tree};
use super::{Shared, ops};

/// Most requests under way at once.
const BATCH: usize = 256;

/// Reads again what is marked, judges it, and holds our own registrations against it.
///
/// # Errors
/// Contact was lost; the tree is as far as it was read, and a full read is due.
pub(super) async fn refresh(
    shared: &Shared,
    client: &Client,
    tree: &mut Tree,
    marks: Marks,
) -> Result<(), Error> {
    let places: BTreeSet<Place> = marks.paths.iter().map(|path| shared.layout.place(path)).collect();
    let strange = places.iter().any(|place| matches!(place, Place::Strange(_)));
    if marks.full || strange {
        let listed = list(shared, client).await?;
        tree.listed(&listed.places, listed.strange, listed.born);
        let leaves: Vec<Place> = listed.places.into_iter().collect();
        read_changed(shared, client, tree, &leaves).await?;
    } else {
        let leaves: Vec<Place> = places.into_iter().collect();
        read(shared, client, tree, &leaves).await?;
    }
    keep_own(shared, client, tree).await?;
    // Replicas last: an expired session takes its replica's node and its instances with it, though not at one moment.
    read_replicas(shared, client, tree).await?;
    tree.settle(Instant::now());
    Ok(())
}

struct Listed {
    places: BTreeSet<Place>,
    strange: BTreeMap<String, String>,
    born: Birth,
}

/// Every node that should hold something.
async fn list(shared: &Shared, client: &Client) -> Result<Listed, Error> {
    let layout = &shared.layout;
    let root = client.check_stat(layout.root()).await?.ok_or(Error::NoNode)?;
    let mut parents: Vec<String> = Kind::ALL.map(|kind| layout.documents(kind)).into();
    parents.push(layout.replicas());
    let services = children(client, &[layout.instances()]).await?;
    parents.extend(services);
    let mut listed = Listed {
        places: BTreeSet::new(),
        strange: BTreeMap::new(),
        born: (root.czxid, root.ctime),
    };
    // Above those, only what should not be there counts: a kind that was misspelt is told, not passed over.
    let mut paths = children(client, &layout.above()).await?;
    paths.extend(children(client, &parents).await?);
    for path in paths {
        match layout.place(&path) {
            Place::Strange(why) => {
                listed.strange.insert(path, why);
            }
            Place::Directory => {}
            place => {
                listed.places.insert(place);
            }
        }
    }
    Ok(listed)
}

/// The paths of all children of these nodes.
async fn children(client: &Client, parents: &[String]) -> Result<Vec<String>, Error> {
    let mut paths = Vec::new();
    for batch in parents.chunks(BATCH) {
        let requests: Vec<_> = batch.iter().map(|parent| client.get_children(parent)).collect();
        for (parent, request) in batch.iter().zip(requests) {
            match request.await {
                Ok((names, _)) => paths.extend(names.iter().map(|name| format!("{parent}/{name}"))),
                Err(Error::NoNode) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(paths)
}

/// Reads those of these nodes that were written since they were last read.
async fn read_changed(
    shared: &Shared,
    client: &Client,
    tree: &mut Tree,
    places: &[Place],
) -> Result<(), Error> {
    let mut changed = Vec::new();
    for batch in places.chunks(BATCH) {
        let paths: Vec<_> = batch
            .iter()
            .filter_map(|place| Some((place, shared.layout.path(place)?)))
            .collect();
        let requests: Vec<_> = paths.iter().map(|(_, path)| client.check_stat(path)).collect();
        for ((place, _), request) in paths.iter().zip(requests) {
            match request.await? {
                Some(stat) if tree.is_current(place, stat.mzxid) => {}
                _ => changed.push((*place).clone()),
            }
        }
    }
    read(shared, client, tree, &changed).await
}

/// Reads these nodes.
async fn read(shared: &Shared, client: &Client, tree: &mut Tree, places: &[Place]) -> Result<(), Error> {
    for batch in places.chunks(BATCH) {
        let paths: Vec<_> = batch
            .iter()
            .filter_map(|place| Some((place, shared.layout.path(place)?)))
            .collect();
        let requests: Vec<_> = paths.iter().map(|(_, path)| client.get_data(path)).collect();
        for ((place, _), request) in paths.iter().zip(requests) {
            match request.await {
                Ok((data, stat)) => tree.put(place, &data, Seen::from(stat)),
                Err(Error::NoNode) => tree.remove(place),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

async fn read_replicas(shared: &Shared, client: &Client, tree: &mut Tree) -> Result<(), Error> {
    let found = children(client, &[shared.layout.replicas()]).await?;
    let places: BTreeSet<Place> = found.iter().map(|path| shared.layout.place(path)).collect();
    for id in tree.state(true).replicas.into_keys() {
        let place = Place::Replica(id);
        if !places.contains(&place) {
            tree.remove(&place);
        }
    }
    let places: Vec<Place> = places
        .into_iter()
        .filter(|place| matches!(place, Place::Replica(_)))
        .collect();
    read_changed(shared, client, tree, &places).await
}

/// Holds what is registered here against what is there: makes again what is missing or belongs to a dead session, and
/// lets go of what was registered elsewhere since.
async fn keep_own(shared: &Shared, client: &Client, tree: &mut Tree) -> Result<(), Error> {
    for (name, data) in not_ours(shared, client, tree) {
        let place = Place::Instance(name.clone());
        if let Some(seen) = tree.seen(&place)
            && !shared.own().sessions.contains(&seen.owner)
            && (tree.is_live(seen.owner) || !tree.was_replica(seen.owner))
        {
            tracing::info!(instance = name, "was registered elsewhere since");
            let mut own = shared.own();
            own.instances.remove(&name);
            own.released.cancel(&name);
            continue;
        }
        // It may have left since we looked.
        if shared.own().instances.contains_key(&name) {
            ops::hold(shared, client, &name, &data).await?;
            read(shared, client, tree, &[place]).await?;
        }
    }
    Ok(())
}

/// What is registered here, and whose node is not there or belongs to another session.
fn not_ours(shared: &Shared, client: &Client, tree: &Tree) -> Vec<(String, Vec<u8>)> {
    let session = client.session_id().0;
    let is_ours = |name: &str| {
        let seen = tree.seen(&Place::Instance(name.to_owned()));
        seen.is_some_and(|seen| seen.owner == session)
    };
    let own = shared.own();
    let others = own.instances.iter().filter(|(name, _)| !is_ours(name));
    others.map(|(name, data)| (name.clone(), data.clone())).collect()
}
