//! Sockets and TLS, as the mesh uses them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mesh_link::Credentials;
use mesh_link::ca::CertificateAuthority;
use mesh_link::tls::{ClientAuth, client_config, server_config};
use mesh_proto::name::{ServiceName, SpiffeId, TrustDomain};
use rustls::{ClientConfig, ServerConfig};

/// The trust domain of the bench.
pub const TRUST_DOMAIN: &str = "bench.local";
/// Who is called.
pub const SERVICE: &str = "bench.orders";
/// Who calls.
pub const CALLER: &str = "bench.caller";
const LIFETIME: Duration = Duration::from_secs(24 * 3600);
const BACKLOG: u32 = 4_096;

/// Any failure, in words.
pub type Outcome<T> = Result<T, String>;

/// The SPIFFE ID of a service of the bench.
pub fn id_of(service: &str) -> Outcome<SpiffeId> {
    let domain = TrustDomain::parse(TRUST_DOMAIN)?;
    Ok(SpiffeId::service(&domain, &ServiceName::parse(service)?))
}

/// Writes an authority and the certificates of both sides into a folder: `ca.pem`, `<service>.pem`, `<service>-key.pem`, and
/// `<service>-both.pem` for programs that want chain and key in one file.
pub fn write_certificates(dir: &Path) -> Outcome<()> {
    let authority = CertificateAuthority::create(&TrustDomain::parse(TRUST_DOMAIN)?)?;
    authority.save(dir)?;
    for service in [SERVICE, CALLER] {
        let issued = authority.issue(&id_of(service)?, LIFETIME)?;
        let files = [
            (format!("{service}.pem"), issued.chain_pem.clone()),
            (format!("{service}-key.pem"), issued.key_pem.clone()),
            (format!("{service}-both.pem"), issued.chain_pem + &issued.key_pem),
        ];
        for (name, text) in files {
            std::fs::write(dir.join(&name), text).map_err(|error| format!("{name}: {error}"))?;
        }
    }
    Ok(())
}

fn credentials(dir: &Path, service: &str) -> Outcome<Credentials> {
    Credentials::from_files(
        &dir.join(format!("{service}.pem")),
        &dir.join(format!("{service}-key.pem")),
        &dir.join("ca.pem"),
    )
    .map_err(|faults| faults.to_string())
}

/// The called side: certificates of callers are required.
pub fn server_tls(dir: &Path) -> Outcome<Arc<ServerConfig>> {
    server_config(&credentials(dir, SERVICE)?, ClientAuth::Required)
}

/// The calling side.
pub fn client_tls(dir: &Path) -> Outcome<Arc<ClientConfig>> {
    let own = credentials(dir, CALLER)?;
    client_config(Some(&own), &own.authorities, id_of(SERVICE)?)
}

/// A listener with a long queue; the ports of the bench are its own.
pub fn listen(address: SocketAddr) -> Outcome<tokio::net::TcpListener> {
    let bind = || {
        let socket = match address {
            SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4(),
            SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6(),
        }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bind().map_err(|error| format!("cannot listen on {address}: {error}"))
}
