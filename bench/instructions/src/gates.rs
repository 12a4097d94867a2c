//! What every call passes on its way.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, HeaderValue};
use mesh_bench_kit::message;
use mesh_bench_kit::net::{CALLER, SERVICE, id_of};
use mesh_proto::domain::{
    AccessPolicy, AccessRule, BalanceAlgorithm, CallerMatch, JwtProvider, KeySet, KeySource, MethodMatch,
};
use mesh_proto::name::ServiceName;
use mesh_sidecar::gates::access::{Access, Call, Caller, Messages};
use mesh_sidecar::gates::jwt::{Memory, Provider, Verifier};
use mesh_sidecar::telemetry::{Metrics, Outcome, Outcomes, trace};
use mesh_sidecar::upstream::balance::{Dice, Load, choose};
use mesh_sidecar::{deadline, headers};
use mesh_transcode::Schema;

use crate::repeat;

/// When the token below is valid.
const NOW: Duration = Duration::from_secs(1_700_000_000);
const KEYS: &str = r#"{"keys": [{"kty": "EC", "crv": "P-256", "kid": "k1",
    "x": "lHDGGoIsl2S5vnjkMBUXvXc4ENKDt_l09Hm2QQYasTU", "y": "xaEC7WXYrk0SwRb-7jgWrm6sYbBj8lYCicnGv4Q1vJ0"}]}"#;
/// ES256, signed once; the key was thrown away.
const TOKEN: &str = concat!(
    "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCIsImtpZCI6ImsxIn0.eyJpc3MiOiJodHRwczovL2xvZ2luLmV4YW1wbGUuY29t",
    "Iiwic3ViIjoidXNlci04ODQyMTkwMDM3IiwiYXVkIjpbIm1hcmtldCJdLCJpYXQiOjE2OTk5OTk5NDAsIm5iZiI6MTY5OTk5OTk0",
    "MCwiZXhwIjoxNzAwMDAzNjAwLCJzY29wZSI6InF1b3Rlcy5yZWFkIG9yZGVycy5yZWFkIiwianRpIjoiMDFIWlg0VDlTNlcyUThS",
    "MyJ9.Sq8PfTJoJOMUdT26v2kzCx_QU-reXSIL_TeyT6n_0QOV4txO39T_nR_IImK1HHblgNMw0n29i7o3cYo7EtPYjg",
);

fn verifier() -> Verifier {
    let keys = KeySet::parse(KEYS.as_bytes()).expect("the keys above can be read");
    let provider = JwtProvider {
        name: "login".into(),
        issuer: "https://login.example.com".into(),
        audiences: vec!["market".into()],
        keys: KeySource::Inline(keys.clone()),
        leeway: Duration::from_secs(30),
        max_lifetime: Duration::from_secs(24 * 3600),
        types: vec!["jwt".into(), "at+jwt".into()],
        forward: false,
    };
    Verifier::new([Arc::new(Provider::new(Arc::new(provider), Some(&keys)))])
}

fn headers_of_a_call() -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("user-agent", "grpc-bench/1.0"),
        ("grpc-timeout", "10S"),
        ("x-request-source", "mobile-checkout"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
}

fn headers_with_token() -> HeaderMap {
    let mut headers = headers_of_a_call();
    let bearer = HeaderValue::from_str(&format!("Bearer {TOKEN}")).expect("a token is text");
    headers.insert("authorization", bearer);
    headers
}

pub fn jwt_first_seen(_: &[u8], times: usize) {
    let (verifier, headers) = (verifier(), headers_with_token());
    repeat(times, || {
        let verified = verifier.verify(&headers, SystemTime::UNIX_EPOCH + NOW);
        assert!(verified.is_ok(), "the token is good");
        verified
    });
}

pub fn jwt_remembered(_: &[u8], times: usize) {
    let (verifier, headers, mut memory) = (verifier(), headers_with_token(), Memory::default());
    repeat(times, || {
        let verified = memory.verify(&verifier, &headers, SystemTime::UNIX_EPOCH + NOW);
        assert!(verified.is_ok(), "the token is good");
        verified
    });
}

pub fn access_decide(_: &[u8], times: usize) {
    let caller = Caller::from(id_of(CALLER).expect("the name is good"));
    let service = ServiceName::parse(SERVICE).expect("the name is good");
    // Four rules, the last of which matches.
    let rule = |method: &str, caller: &str| AccessRule {
        methods: vec![MethodMatch::Method(method.into())],
        callers: vec![CallerMatch::Service(
            ServiceName::parse(caller).expect("the name is good"),
        )],
        ..AccessRule::default()
    };
    let rpc = message::ECHO.trim_start_matches('/');
    let allow = vec![
        rule("bench.v1.Orders/Other", CALLER),
        rule("bench.v1.Other/EchoOrder", CALLER),
        rule(rpc, "web.frontend"),
        rule(rpc, CALLER),
    ];
    let policy = Arc::new(AccessPolicy {
        name: "callers".into(),
        service,
        allow,
    });
    let access = Access::new(Some([&policy]), Messages::None);
    let call = Call {
        rpc: Some(rpc),
        caller: Some(&caller),
    };
    repeat(times, || {
        let verdict = access.first(black_box(call));
        assert!(verdict.is_ok(), "the caller is allowed");
        verdict
    });
}

/// With a copy of the headers each time, since they are cleaned in place.
pub fn headers_clean(_: &[u8], times: usize) {
    let dirty = headers_of_a_call();
    repeat(times, || {
        let mut cleaned = dirty.clone();
        headers::clean_request(&mut cleaned, false);
        cleaned
    });
}

pub fn deadline_read(_: &[u8], times: usize) {
    let (headers, now) = (headers_of_a_call(), Instant::now());
    repeat(times, || {
        let read = deadline::of(black_box(&headers), Some(Duration::from_secs(15)), now);
        assert!(read.is_ok(), "the header is good");
        read
    });
}

pub fn trace_begin(_: &[u8], times: usize) {
    let (headers, mut dice) = (headers_of_a_call(), Dice::new(7));
    repeat(times, || {
        let mut headers = headers.clone();
        trace::carry_on(&mut headers, &mut dice);
    });
}

pub fn metrics_call_ended(_: &[u8], times: usize) {
    let metrics = Metrics::new().expect("metrics start");
    let mut outcomes = Outcomes::default();
    let rpc: Arc<str> = message::ECHO.trim_start_matches('/').into();
    let service = ServiceName::parse(SERVICE).expect("the name is good");
    repeat(times, || {
        let outcome = Outcome {
            way: "inbound",
            service: Some(service.clone()),
            method: Some(rpc.clone()),
            protocol: "grpc",
            code: 0,
            reason: None,
        };
        outcomes.count(&metrics, outcome, Duration::from_micros(700));
    });
}

pub fn balance_choose(_: &[u8], times: usize) {
    let mut dice = Dice::new(7);
    let loads: Vec<Load> = (0..100)
        .map(|active| Load {
            active: active % 7,
            weight: 100,
        })
        .collect();
    repeat(times, || {
        choose(BalanceAlgorithm::LeastRequest, loads.len(), 0, &mut dice, |at| {
            loads.get(at).copied()
        })
    });
}

pub fn route_grpc(descriptors: &[u8], times: usize) {
    let schema = Schema::compile(descriptors).expect("the descriptors are good");
    let rpc = message::ECHO.trim_start_matches('/');
    repeat(times, || {
        let found = schema.method(black_box(rpc));
        assert!(found.is_some(), "the method is there");
        found.cloned()
    });
}
