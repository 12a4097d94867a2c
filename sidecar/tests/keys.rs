//! Keys fetched from a server in this process, which answers well, badly, or not at all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::HeaderMap;
use mesh_sidecar::config::Source;
use mesh_sidecar::keys::{self, Fetcher};
use mesh_sidecar::standalone::Standalone;
use mesh_sidecar::xds::numbers::Numbers;
use mesh_sidecar::{Config, Shared};
use opentelemetry::metrics::MeterProvider;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::json;
use support::{Folder, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Answers every request with the newest of these bytes, and counts.
struct Server {
    address: SocketAddr,
    answer: Arc<Mutex<Option<Vec<u8>>>>,
    asked: Arc<Mutex<usize>>,
}

impl Server {
    async fn start(answer: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            answer: Arc::new(Mutex::new(Some(answer))),
            asked: Arc::default(),
        };
        let (answer, asked) = (server.answer.clone(), server.asked.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (answer, asked) = (answer.clone(), asked.clone());
                tokio::spawn(async move {
                    let mut head = [0; 4096];
                    let _ = stream.read(&mut head).await;
                    *asked.lock().unwrap() += 1;
                    let bytes = answer.lock().unwrap().clone();
                    match bytes {
                        Some(bytes) => {
                            let _ = stream.write_all(&bytes).await;
                        }
                        // Says nothing, and holds the line.
                        None => std::future::pending().await,
                    }
                });
            }
        });
        server
    }

    fn uri(&self) -> String {
        format!("http://{}/keys", self.address)
    }

    fn now_answers(&self, bytes: Vec<u8>) {
        *self.answer.lock().unwrap() = Some(bytes);
    }

    async fn refused(&self, bytes: Vec<u8>) -> String {
        self.now_answers(bytes);
        Fetcher::default().get(&self.uri()).await.unwrap_err()
    }
}

fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

fn good(body: &str) -> Vec<u8> {
    answer("200 OK", "content-type: application/json\r\n", body)
}

struct Key {
    pair: KeyPair,
    id: &'static str,
}

impl Key {
    fn new(id: &'static str) -> Self {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        Self { pair, id }
    }

    fn jwk(&self) -> serde_json::Value {
        let point = self.pair.public_key_raw();
        let part = |range: std::ops::Range<usize>| BASE64_URL_SAFE_NO_PAD.encode(&point[range]);
        json!({"kty": "EC", "crv": "P-256", "kid": self.id, "x": part(1..33), "y": part(33..65)})
    }

    fn headers(&self) -> HeaderMap {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let claims = json!({"iss": "https://login", "aud": "market", "sub": "alice", "exp": now + 60});
        let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256);
        header.kid = Some(self.id.into());
        let key = jsonwebtoken::EncodingKey::from_ec_pem(self.pair.serialize_pem().as_bytes()).unwrap();
        let token = jsonwebtoken::encode(&header, &claims, &key).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
        headers
    }
}

fn set(keys: &[&Key]) -> String {
    json!({"keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>()}).to_string()
}

#[tokio::test]
async fn a_good_key_set_is_taken() {
    let server = Server::start(good(&set(&[&Key::new("a"), &Key::new("b")]))).await;
    let keys = Fetcher::default().get(&server.uri()).await.unwrap();
    assert_eq!(keys.keys.len(), 2);
}

#[tokio::test]
async fn whatever_is_not_a_plain_key_set_is_refused_whole_with_what_came_instead() {
    let (one, two) = (Key::new("a"), Key::new("b"));
    let mut private = one.jwk();
    private["d"] = "c2VjcmV0".into();
    let private = json!({"keys": [two.jwk(), private]}).to_string();
    let twice = set(&[&one, &one]);
    let mixed = json!({"keys": [one.jwk(), {"kty": "oct", "kid": "h"}]}).to_string();
    let big = format!("{{\"keys\":[],\"pad\":\"{}\"}}", "x".repeat(300 << 10));
    let mut chunked = b"HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..20 {
        chunked.extend_from_slice(format!("4000\r\n{}\r\n", "x".repeat(0x4000)).as_bytes());
    }
    let server = Server::start(Vec::new()).await;
    let elsewhere = answer("302 Found", &format!("location: {}\r\n", server.uri()), "");
    for (bytes, expected) in [
        (
            answer("500 Internal Server Error", "", "{}"),
            "the answer is 500 Internal Server Error",
        ),
        (answer("404 Not Found", "", &set(&[&one])), "the answer is 404"),
        (answer("204 No Content", "", ""), "the answer is 204"),
        (elsewhere, "302 Found: redirects are not followed"),
        (
            good("<html><body>Please log in</body></html>"),
            "the key set is refused: is not JSON",
        ),
        (good(""), "the key set is refused: is not JSON"),
        (good("{\"keys\":[]}"), "the key set is refused: keys: is empty"),
        (good(&private), "the key set is refused: keys[1].d: is secret"),
        (good(&twice), "the key set is refused: keys[1].kid: stands twice"),
        (good(&mixed), "the key set is refused: keys[1].kty: "),
        (good(&big), "the answer is over 262144 bytes"),
        (chunked, "the answer is over 262144 bytes"),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{".to_vec(),
            "the answer broke off",
        ),
        (b"SSH-2.0-OpenSSH\r\n".to_vec(), "cannot fetch: "),
    ] {
        let told = server.refused(bytes).await;
        assert!(told.starts_with(expected), "{expected}\n{told}");
        assert!(!told.contains("c2VjcmV0"), "{told}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_or_says_nothing_is_told() {
    let told = Fetcher::default()
        .get("http://127.0.0.1:1/keys")
        .await
        .unwrap_err();
    assert!(told.starts_with("cannot fetch: Connection refused"), "{told}");
    let server = Server::start(Vec::new()).await;
    *server.answer.lock().unwrap() = None;
    let told = Fetcher::default().get(&server.uri()).await.unwrap_err();
    assert_eq!(told, "no answer within 2s");
}

fn sidecar(folder: &Folder, uri: &str) -> (Arc<Shared>, CancellationToken) {
    folder.write(
        "provider.yaml",
        &format!(
            "apiVersion: mesh/v1\nkind: JwtProvider\nmetadata: {{name: login}}\nspec: {{issuer: 'https://login', \
             audiences: [market], jwks: {{uri: '{uri}'}}}}\n"
        ),
    );
    let text =
        "node: {service: web.portfolio, id: a}\nresources: {file: .}\noutbound: {listen: '127.0.0.1:0'}\n";
    let config = Config::parse(text, &folder.0, []).unwrap();
    let (shared, requests) = Shared::new(config);
    Standalone::begin(shared.clone(), Source::Files(folder.0.clone())).unwrap();
    let meter = opentelemetry_sdk::metrics::SdkMeterProvider::default().meter("test");
    let stop = CancellationToken::new();
    tokio::spawn(keys::run(
        shared.clone(),
        requests.stale_keys,
        Numbers::new(&meter),
        stop.clone(),
    ));
    (shared, stop)
}

fn accepts(shared: &Shared, key: &Key) -> bool {
    let verifier = &shared.snapshot().verifier;
    verifier.verify(&key.headers(), SystemTime::now()).is_ok()
}

#[tokio::test]
async fn tokens_are_accepted_once_the_keys_came_and_failures_afterwards_change_nothing() {
    let key = Key::new("a");
    let server = Server::start(answer("500 Internal Server Error", "", "")).await;
    let folder = Folder::new("keys");
    let (shared, stop) = sidecar(&folder, &server.uri());
    eventually("asked", || *server.asked.lock().unwrap() > 0).await;
    assert!(!accepts(&shared, &key), "missing keys deny");
    server.now_answers(good(&set(&[&key])));
    eventually("accepted", || accepts(&shared, &key)).await;
    server.now_answers(good("<html>"));
    shared.keys_are_stale(&"login".into());
    assert!(accepts(&shared, &key));
    stop.cancel();
}

#[tokio::test]
async fn callers_cannot_make_a_sidecar_fetch_more_often_than_every_ten_seconds() {
    let key = Key::new("a");
    let server = Server::start(good(&set(&[&key]))).await;
    let folder = Folder::new("keys-often");
    let (shared, stop) = sidecar(&folder, &server.uri());
    eventually("accepted", || accepts(&shared, &key)).await;
    for _ in 0..1000 {
        shared.keys_are_stale(&"login".into());
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert_eq!(*server.asked.lock().unwrap(), 1);
    stop.cancel();
}

#[tokio::test]
async fn rotated_keys_are_found_through_a_token_that_names_one() {
    let (old, new) = (Key::new("old"), Key::new("new"));
    let server = Server::start(good(&set(&[&old]))).await;
    let folder = Folder::new("keys-rotated");
    let (shared, stop) = sidecar(&folder, &server.uri());
    eventually("accepted", || accepts(&shared, &old)).await;
    server.now_answers(good(&set(&[&new])));
    assert!(!accepts(&shared, &new));
    // As the gate does when a token names a key that is not there.
    shared.keys_are_stale(&"login".into());
    eventually("rotated", || accepts(&shared, &new)).await;
    assert!(!accepts(&shared, &old), "a key that is gone is refused");
    stop.cancel();
}
