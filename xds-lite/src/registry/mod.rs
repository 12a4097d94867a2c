//! Where documents and instances are kept: one trait, two adapters, one view.
//!
//! ```text
//!  file:DIR ──► file ─┐
//!                     ├─► State (watch channel: the newest whole view) ──► catalog
//!  zk://... ──► zk  ──┘        ▲ last good while contact is lost
//!                              └─ write, register, release, leave
//! ```
//!
//! An adapter owns nothing but contact with its store. What a document means is judged before it is stored and again when
//! it is read, by the same code, so that a hand-edited file or node cannot bring in what `apply` would refuse.

pub mod codec;
pub mod exposures;
pub mod file;
pub mod grace;
pub mod state;
pub mod url;
pub mod zk;

use std::sync::Arc;
use std::time::Duration;

use mesh_proto::v1::{self, document::Resource};
use tokio::sync::watch;

pub use exposures::Exposures;
pub use state::{Item, Key, State, Stored};
pub use url::RegistryUrl;

/// How long a write may take before it is told as failed.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// A store of documents and instances.
#[tonic::async_trait]
pub trait Registry: Send + Sync + 'static {
    /// The newest view. `loaded` is false until the first full read is done; on loss of contact the last good view stays.
    fn state(&self) -> watch::Receiver<Arc<State>>;

    /// Stores and deletes all of this or nothing. When it returns, the view holds it.
    ///
    /// # Errors
    /// [`WriteError`]; nothing was stored, unless it is [`WriteError::OutcomeUnknown`].
    async fn write(&self, writes: Vec<Write>) -> Result<Vec<Revision>, WriteError>;

    /// Adds an instance, or replaces it, or takes it over from whoever held it. When it returns, the view holds it.
    ///
    /// # Errors
    /// The store is out of reach, or refuses.
    async fn register(&self, instance: v1::Instance) -> Result<(), WriteError>;

    /// The one who registered it here is gone: the instance is removed after the registration grace, unless it is
    /// registered again, here or at another replica.
    async fn release(&self, name: &str);

    /// Removes an instance now, if it is registered here.
    ///
    /// # Errors
    /// The store is out of reach, or refuses.
    async fn leave(&self, name: &str) -> Result<(), WriteError>;

    /// Tells every replica what the edges that are connected here expose.
    ///
    /// # Errors
    /// The store is out of reach, or refuses.
    async fn announce(&self, edges: Exposures) -> Result<(), WriteError>;

    /// This replica goes. Its instances stay, so that their sidecars can move to another replica.
    async fn close(&self);
}

/// What a stored copy is called for compare-and-set; empty for a deletion.
pub type Revision = String;

/// One document to store, or to delete.
#[derive(Debug, Clone)]
pub struct Write {
    /// Which document.
    pub key: Key,
    /// The document, already judged; `None` deletes.
    pub content: Option<Resource>,
    /// What must be stored for the write to happen.
    pub expect: Expect,
}

/// The condition of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// Whatever is stored.
    Anything,
    /// Nothing of this name.
    Nothing,
    /// Exactly this copy.
    Revision(Revision),
}

/// Why a write did not happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteError {
    /// Somebody else was faster: one line for each condition that did not hold.
    Lost(Vec<String>),
    /// More than the store can hold; says what to do.
    TooLarge(String),
    /// No contact with the store; nothing was stored.
    Unavailable(String),
    /// Contact was lost on the way: whether it was stored is not known.
    OutcomeUnknown(String),
    /// The store refused.
    Failed(String),
}

impl std::fmt::Display for WriteError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            WriteError::Lost(lines) => f.write_str(&lines.join("; ")),
            WriteError::TooLarge(why)
            | WriteError::Unavailable(why)
            | WriteError::OutcomeUnknown(why)
            | WriteError::Failed(why) => f.write_str(why),
        }
    }
}

impl From<WriteError> for tonic::Status {
    fn from(error: WriteError) -> Self {
        let text = error.to_string();
        match error {
            WriteError::Lost(_) => tonic::Status::aborted(text),
            WriteError::TooLarge(_) => tonic::Status::resource_exhausted(text),
            WriteError::Unavailable(_) => tonic::Status::unavailable(text),
            // Not UNAVAILABLE: clients would send the write again, elsewhere.
            WriteError::OutcomeUnknown(_) => tonic::Status::deadline_exceeded(text),
            WriteError::Failed(_) => tonic::Status::internal(text),
        }
    }
}

/// What an adapter needs to know about the replica that runs it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its id, unique among replicas.
    pub replica: String,
    /// host:port of its gRPC listener, as others reach it.
    pub advertise: String,
    /// How long an instance outlives the one who registered it.
    pub grace: Duration,
    /// Asked of ZooKeeper, which may shorten or lengthen it.
    pub zk_session_timeout: Duration,
}

/// Opens the registry a URL names. A directory must be there and writable; ZooKeeper may come later.
///
/// # Errors
/// The directory cannot be used; the message says why and what to do.
pub async fn open(url: &RegistryUrl, settings: Settings) -> Result<Arc<dyn Registry>, String> {
    match url {
        RegistryUrl::File(directory) => {
            let registry = file::FileRegistry::open(directory.clone(), &settings).await?;
            Ok(Arc::new(registry))
        }
        RegistryUrl::ZooKeeper(address) => Ok(Arc::new(zk::ZkRegistry::open(address.clone(), settings))),
    }
}
