//! The accept loop: bounded in connections, in connections of one source and in handshakes, and never spinning.
//!
//! The loops of the libraries retry at once when the process is out of file descriptors and bound nothing; ours sleeps,
//! counts and refuses.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mesh_proto::name::SpiffeId;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// How long the loop rests after the system refused to accept.
const ERROR_PAUSE: Duration = Duration::from_millis(50);
const BACKLOG: i32 = 4096;

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its address as the kernel tells it.
    pub address: SocketAddr,
    /// Its proven identity, if it proved one.
    pub id: Option<SpiffeId>,
}

/// Bounds of a listener.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Open connections.
    pub connections: usize,
    /// Open connections of one source address; loopback is exempt, since everything local shares it.
    pub connections_per_source: usize,
    /// TLS handshakes under way.
    pub handshakes: usize,
    /// From accept to the end of the TLS handshake.
    pub handshake_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_source: 1_000,
            handshakes: 256,
            handshake_timeout: Duration::from_secs(5),
        }
    }
}

/// Counts the connections of one listener, over all threads that serve it.
#[derive(Clone)]
pub struct Gatekeeper {
    limits: Limits,
    connections: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    sources: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// Held as long as a connection is open.
pub struct Pass {
    _connection: OwnedSemaphorePermit,
    source: IpAddr,
    sources: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Gatekeeper {
    /// With these bounds.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            connections: Arc::new(Semaphore::new(limits.connections)),
            handshakes: Arc::new(Semaphore::new(limits.handshakes)),
            sources: Arc::default(),
        }
    }

    /// The bounds.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Room for one handshake, or nothing while too many are under way.
    #[must_use]
    pub fn handshake(&self) -> Option<OwnedSemaphorePermit> {
        self.handshakes.clone().try_acquire_owned().ok()
    }

    fn admit(&self, source: IpAddr) -> Option<Pass> {
        let connection = self.connections.clone().try_acquire_owned().ok()?;
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let open = sources.entry(source).or_insert(0);
        if *open >= self.limits.connections_per_source && !source.is_loopback() {
            return None;
        }
        *open += 1;
        drop(sources);
        Some(Pass {
            _connection: connection,
            source,
            sources: self.sources.clone(),
        })
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = sources.get_mut(&self.source) {
            *open -= 1;
            if *open == 0 {
                sources.remove(&self.source);
            }
        }
    }
}

/// Listens.
///
/// # Errors
/// The system's refusal as one line with the fix.
pub fn bind(address: SocketAddr, reuse_port: bool) -> Result<TcpListener, String> {
    let listen = || -> std::io::Result<TcpListener> {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if reuse_port {
            socket.set_reuse_port(true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    listen().map_err(|error| {
        let fix = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                "the port is in use; stop the program that has it, or choose another"
            }
            std::io::ErrorKind::PermissionDenied => "ports under 1024 need a privilege; choose another",
            std::io::ErrorKind::AddrNotAvailable => "this host does not have that address; choose one it has",
            _ => return format!("cannot listen on {address}: {error}"),
        };
        format!("cannot listen on {address}: {fix}")
    })
}

/// Accepts until told to stop. `serve` is called with every connection that there is room for and must not block: it spawns.
pub async fn run(
    listener: TcpListener,
    gate: Gatekeeper,
    stop: CancellationToken,
    mut serve: impl FnMut(TcpStream, SocketAddr, Pass),
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, address)) => {
                // Small frames must not wait for each other; a socket without the option still works.
                let _ = stream.set_nodelay(true);
                match gate.admit(address.ip()) {
                    Some(pass) => serve(stream, address, pass),
                    None => tracing::warn!(peer = %address, "connection refused: too many are open"),
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(ERROR_PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_refuses_the_connection_over_its_limit_and_admits_again_after_one_closed() {
        let gate = Gatekeeper::new(Limits {
            connections: 2,
            connections_per_source: 9,
            ..Limits::default()
        });
        let source = IpAddr::from([192, 0, 2, 1]);
        let first = gate.admit(source);
        let _second = gate.admit(source);
        assert!(gate.admit(source).is_none());
        drop(first);
        assert!(gate.admit(source).is_some());
    }

    #[test]
    fn one_source_cannot_take_all_connections_but_loopback_may() {
        let gate = Gatekeeper::new(Limits {
            connections: 9,
            connections_per_source: 1,
            ..Limits::default()
        });
        let _one = gate.admit(IpAddr::from([192, 0, 2, 1]));
        assert!(gate.admit(IpAddr::from([192, 0, 2, 1])).is_none());
        assert!(gate.admit(IpAddr::from([192, 0, 2, 2])).is_some());
        let local: Vec<_> = (0..3).map(|_| gate.admit(IpAddr::from([127, 0, 0, 1]))).collect();
        assert!(local.iter().all(Option::is_some));
    }

    #[test]
    fn sources_without_connections_are_forgotten() {
        let gate = Gatekeeper::new(Limits::default());
        drop(gate.admit(IpAddr::from([192, 0, 2, 1])));
        assert!(gate.sources.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_port_in_use_is_told_with_the_fix() {
        let held = bind(SocketAddr::from(([127, 0, 0, 1], 0)), false).unwrap();
        let told = bind(held.local_addr().unwrap(), false).unwrap_err();
        assert!(told.contains("the port is in use; stop the program"), "{told}");
    }
}
