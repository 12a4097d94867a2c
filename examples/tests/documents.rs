//! The documents and the descriptors of the examples, against what the mesh accepts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test file outside of `cfg(test)`

use std::path::Path;
use std::sync::Arc;

use mesh_examples::DESCRIPTORS;
use mesh_transcode::{Options, Recognised, Router, Schema};

fn called(http_method: &str, target: &str, body: &str) -> (String, Vec<u8>) {
    let schema = Arc::new(Schema::compile(DESCRIPTORS).unwrap());
    let (router, conflicts) = Router::build([("market.quotes", schema)]);
    assert!(conflicts.is_empty());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let Recognised::Found(found) = router.recognise(http_method, path) else {
        panic!("{http_method} {path}")
    };
    let message = found
        .request(query, None, body.as_bytes(), &Options::default())
        .unwrap();
    (found.method.name().to_owned(), message)
}

#[test]
fn the_quotes_service_is_reached_over_http() {
    use mesh_examples::market::{ListQuotesRequest, PlaceOrderRequest, Side, StreamQuotesRequest};
    use prost::Message;

    let (name, message) = called("GET", "/v1/quotes/ACME:stream?count=3&interval=0.5s", "");
    assert_eq!(name, "market.v1.Quotes/StreamQuotes");
    let request = StreamQuotesRequest::decode(message.as_slice()).unwrap();
    assert_eq!((request.symbol.as_str(), request.count), ("ACME", 3));
    assert_eq!(request.interval.unwrap().nanos, 500_000_000);

    let (name, message) = called("GET", "/v1/quotes?symbols=A&symbols=B&pageSize=2", "");
    assert_eq!(name, "market.v1.Quotes/ListQuotes");
    let request = ListQuotesRequest::decode(message.as_slice()).unwrap();
    assert_eq!(
        (request.symbols, request.page_size),
        (vec!["A".into(), "B".into()], 2)
    );

    let body = r#"{"symbol": "ACME", "side": "SIDE_SELL", "quantity": "9007199254740993", "limitPrice": "1.10",
        "validUntil": "2030-01-01T00:00:00Z", "account": {"owner": "ann"}}"#;
    let (name, message) = called("POST", "/v1/orders", body);
    assert_eq!(name, "market.v1.Quotes/PlaceOrder");
    let request = PlaceOrderRequest::decode(message.as_slice()).unwrap();
    assert_eq!(
        (request.side(), request.quantity),
        (Side::Sell, 9_007_199_254_740_993)
    );
    assert_eq!(
        (
            request.limit_price.as_str(),
            request.account.unwrap().owner.as_str()
        ),
        ("1.10", "ann")
    );
}

#[test]
fn the_documents_are_accepted_once_their_files_are_made() {
    let folder = tempdir();
    let documents = Path::new(env!("CARGO_MANIFEST_DIR")).join("documents");
    for name in ["services.yaml", "login.yaml", "access.yaml"] {
        std::fs::copy(documents.join(name), folder.join(name)).unwrap();
    }
    std::fs::write(folder.join("quotes.binpb"), DESCRIPTORS).unwrap();
    // The public key of RFC 7517, appendix A.1.
    let keys = r#"{"keys": [{"kty": "EC", "crv": "P-256", "kid": "1", "alg": "ES256", "use": "sig",
        "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#;
    std::fs::write(folder.join("login.jwks"), keys).unwrap();
    let loaded = mesh_proto::document::load(&folder);
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(loaded.unwrap_or_else(|faults| panic!("{faults}")).len(), 5);
}

fn tempdir() -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("mesh-documents-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
