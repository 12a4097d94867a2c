//! Who is let in by TLS, and who is not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::Duration;

use mesh_link::ca::{CertificateAuthority, Issued};
use mesh_link::tls::{ClientAuth, client_config, peer_id, server_config};
use mesh_link::{Credentials, credentials};
use mesh_proto::name::{ServiceName, SpiffeId, TrustDomain};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

fn authority(domain: &str) -> CertificateAuthority {
    CertificateAuthority::create(&TrustDomain::parse(domain).unwrap()).unwrap()
}

fn service(name: &str) -> SpiffeId {
    SpiffeId::service(
        &TrustDomain::parse("mesh.local").unwrap(),
        &ServiceName::parse(name).unwrap(),
    )
}

fn issue(ca: &CertificateAuthority, id: &SpiffeId, believed: &CertificateAuthority) -> Credentials {
    let Issued {
        chain_pem, key_pem, ..
    } = ca.issue(id, Duration::from_secs(60)).unwrap();
    Credentials::from_pem(&chain_pem, &key_pem, believed.bundle_pem()).unwrap()
}

/// One connection; the server says who it saw, which the client hears.
async fn meet(
    server: Arc<rustls::ServerConfig>,
    client: Arc<rustls::ClientConfig>,
) -> Result<String, String> {
    let (near, far) = tokio::io::duplex(64 << 10);
    let serving = tokio::spawn(async move {
        let mut stream = TlsAcceptor::from(server)
            .accept(far)
            .await
            .map_err(|e| e.to_string())?;
        let seen =
            peer_id(stream.get_ref().1.peer_certificates()).map_or("nobody".to_owned(), |id| id.to_string());
        stream
            .write_all(seen.as_bytes())
            .await
            .map_err(|e| e.to_string())?;
        stream.shutdown().await.map_err(|e| e.to_string())
    });
    let name = ServerName::try_from("mesh").unwrap();
    let mut stream = TlsConnector::from(client)
        .connect(name, near)
        .await
        .map_err(|e| format!("client: {e}"))?;
    let mut heard = String::new();
    let read = stream.read_to_string(&mut heard).await;
    serving.await.unwrap().map_err(|e| format!("server: {e}"))?;
    read.map_err(|e| e.to_string())?;
    Ok(heard)
}

#[tokio::test]
async fn both_sides_know_each_other_after_the_handshake() {
    let ca = authority("mesh.local");
    let (quotes, web) = (
        issue(&ca, &service("market.quotes"), &ca),
        issue(&ca, &service("web.portfolio"), &ca),
    );
    let server = server_config(&quotes, ClientAuth::Required).unwrap();
    let client = client_config(Some(&web), &web.authorities, service("market.quotes")).unwrap();
    assert_eq!(
        meet(server, client).await.unwrap(),
        "spiffe://mesh.local/service/web.portfolio"
    );
}

#[tokio::test]
async fn a_server_that_is_somebody_else_is_refused() {
    let ca = authority("mesh.local");
    let (other, web) = (
        issue(&ca, &service("market.orders"), &ca),
        issue(&ca, &service("web.portfolio"), &ca),
    );
    let server = server_config(&other, ClientAuth::Required).unwrap();
    let client = client_config(Some(&web), &web.authorities, service("market.quotes")).unwrap();
    let told = meet(server, client).await.unwrap_err();
    assert!(
        told.contains("the server is spiffe://mesh.local/service/market.orders, not"),
        "{told}"
    );
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused_where_one_is_required() {
    let ca = authority("mesh.local");
    let quotes = issue(&ca, &service("market.quotes"), &ca);
    let client = || client_config(None, &quotes.authorities, service("market.quotes")).unwrap();
    assert!(
        meet(server_config(&quotes, ClientAuth::Required).unwrap(), client())
            .await
            .is_err()
    );
    assert_eq!(
        meet(server_config(&quotes, ClientAuth::Optional).unwrap(), client())
            .await
            .unwrap(),
        "nobody"
    );
}

#[tokio::test]
async fn certificates_of_another_authority_are_refused_on_either_side() {
    let (ours, theirs) = (authority("mesh.local"), authority("mesh.local"));
    let quotes = issue(&ours, &service("market.quotes"), &ours);
    let stranger = issue(&theirs, &service("web.portfolio"), &ours);
    let server = || server_config(&quotes, ClientAuth::Optional).unwrap();
    let client = client_config(Some(&stranger), &stranger.authorities, service("market.quotes")).unwrap();
    assert!(meet(server(), client).await.is_err());
    let believer = issue(&ours, &service("web.portfolio"), &theirs);
    let client = client_config(Some(&believer), &believer.authorities, service("market.quotes")).unwrap();
    let told = meet(server(), client).await.unwrap_err();
    assert!(
        told.contains("UnknownIssuer") || told.contains("BadSignature"),
        "{told}"
    );
}

#[tokio::test]
async fn an_authority_speaks_for_its_own_trust_domain_only() {
    let ca = authority("mesh.local");
    let foreign = SpiffeId::parse("spiffe://other.local/service/web.portfolio").unwrap();
    let (quotes, web) = (
        issue(&ca, &service("market.quotes"), &ca),
        issue(&ca, &foreign, &ca),
    );
    let client = client_config(Some(&web), &web.authorities, service("market.quotes")).unwrap();
    assert!(
        meet(server_config(&quotes, ClientAuth::Optional).unwrap(), client)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let ca = authority("mesh.local");
    let quotes = issue(&ca, &service("market.quotes"), &ca);
    let Issued {
        chain_pem, key_pem, ..
    } = ca.issue(&service("web.portfolio"), Duration::ZERO).unwrap();
    let expired = Credentials::from_pem(&chain_pem, &key_pem, ca.bundle_pem()).unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let client = client_config(Some(&expired), &expired.authorities, service("market.quotes")).unwrap();
    assert!(
        meet(server_config(&quotes, ClientAuth::Required).unwrap(), client)
            .await
            .is_err()
    );
}

#[test]
fn a_key_that_belongs_to_another_certificate_is_told() {
    let ca = authority("mesh.local");
    let one = ca.issue(&service("a"), Duration::from_secs(60)).unwrap();
    let two = ca.issue(&service("a"), Duration::from_secs(60)).unwrap();
    let told = Credentials::from_pem(&one.chain_pem, &two.key_pem, ca.bundle_pem())
        .unwrap_err()
        .to_string();
    assert_eq!(told, "key: does not belong to the certificate");
}

#[test]
fn a_leaf_is_no_authority() {
    let ca = authority("mesh.local");
    let leaf = ca.issue(&service("a"), Duration::from_secs(60)).unwrap();
    assert!(
        credentials::read_authorities(&leaf.chain_pem)
            .unwrap_err()
            .contains("no authority")
    );
}

#[test]
fn an_authority_is_saved_loaded_and_never_overwritten() {
    let dir = std::env::temp_dir().join(format!("mesh-ca-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    assert!(
        CertificateAuthority::load(&dir)
            .unwrap_err()
            .to_string()
            .contains("mesh-ctl ca init --dir")
    );
    let made = authority("mesh.local");
    made.save(&dir).unwrap();
    assert!(made.save(&dir).unwrap_err().contains("is already there"));
    let loaded = CertificateAuthority::load(&dir).unwrap();
    assert_eq!(
        (loaded.trust_domain(), loaded.bundle_pem()),
        (made.trust_domain(), made.bundle_pem())
    );
    std::fs::write(dir.join("ca-key.pem"), authority("mesh.local").key_pem_pkcs8()).unwrap();
    assert!(
        CertificateAuthority::load(&dir)
            .unwrap_err()
            .to_string()
            .contains("does not belong to ca.pem")
    );
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_request_is_signed_for_the_identity_it_is_granted_not_the_one_it_asks_for() {
    let ca = authority("mesh.local");
    let key = rcgen::KeyPair::generate().unwrap();
    let request = rcgen::CertificateParams::new(vec!["evil.example.com".to_owned()])
        .unwrap()
        .serialize_request(&key)
        .unwrap();
    let signed = ca
        .sign(request.der(), &service("market.quotes"), Duration::from_secs(60))
        .unwrap();
    let leaf = rustls::pki_types::CertificateDer::from(signed.chain_der[0].clone());
    assert_eq!(
        mesh_link::svid::identity(&leaf).unwrap(),
        service("market.quotes")
    );
    assert!(!String::from_utf8_lossy(&leaf).contains("evil"));
    let mut broken = request.der().to_vec();
    *broken.last_mut().unwrap() ^= 1;
    assert!(
        ca.sign(&broken, &service("market.quotes"), Duration::from_secs(60))
            .is_err()
    );
    assert!(
        ca.sign(b"junk", &service("market.quotes"), Duration::from_secs(60))
            .is_err()
    );
}
