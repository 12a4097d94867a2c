//! What each kind refuses, by place.

use super::*;
use crate::document;

fn faults(yaml: &str) -> String {
    let loaded = match document::parse(yaml, "test.yaml") {
        Ok(loaded) => loaded,
        Err(faults) => return faults.to_string(),
    };
    loaded
        .iter()
        .filter_map(|d| check(&d.resource).err())
        .map(|f| f.to_string())
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn a_budget_over_a_hundred_percent_is_refused_at_its_place() {
    let yaml = "apiVersion: mesh/v1\nkind: Service\nmetadata: {name: market.quotes}\nspec: {protocol: grpc, retry: {budget: 130%}}\n";
    assert_eq!(
        faults(yaml),
        "Service/market.quotes: spec.retry.budget: 130% is over 100%"
    );
}

#[test]
fn every_fault_of_a_document_is_reported_at_once() {
    let yaml = "apiVersion: mesh/v1\nkind: Service\nmetadata: {name: Market}\nspec: {timeout: 0s, retry: {attempts: 9, budget: x}}\n";
    let told = faults(yaml);
    for place in [
        "metadata.name:",
        "spec.protocol:",
        "spec.timeout:",
        "spec.retry.attempts:",
        "spec.retry.budget:",
    ] {
        assert!(told.contains(place), "{place} is missing in\n{told}");
    }
}

#[test]
fn a_rule_that_would_allow_everything_by_being_blank_is_refused() {
    let yaml = "apiVersion: mesh/v1\nkind: AccessPolicy\nmetadata: {name: a}\nspec: {service: market.quotes, allow: [{}]}\n";
    assert!(
        faults(yaml).contains("spec.allow[0]: would allow everything"),
        "{}",
        faults(yaml)
    );
    let yaml = "apiVersion: mesh/v1\nkind: AccessPolicy\nmetadata: {name: a}\nspec: {service: market.quotes, allow: [{methods: [], callers: [{service: a}]}]}\n";
    assert!(
        faults(yaml).contains("spec.allow[0].methods: is blank"),
        "{}",
        faults(yaml)
    );
}

#[test]
fn a_policy_without_rules_allows_nothing_and_is_a_valid_document() {
    let yaml = "apiVersion: mesh/v1\nkind: AccessPolicy\nmetadata: {name: a}\nspec: {service: market.quotes, allow: []}\n";
    assert_eq!(faults(yaml), "");
}

#[test]
fn methods_match_exactly_by_service_or_all() {
    let method = MethodMatch::Method("market.v1.Quotes/GetQuote".into());
    assert!(method.matches(Some("market.v1.Quotes/GetQuote")));
    assert!(!method.matches(Some("market.v1.Quotes/GetQuotes")));
    let service = MethodMatch::Service("market.v1.Quotes".into());
    assert!(service.matches(Some("market.v1.Quotes/GetQuote")));
    assert!(!service.matches(Some("market.v1.QuotesAdmin/GetQuote")));
    assert!(!service.matches(None));
    assert!(MethodMatch::Any.matches(None));
}

#[test]
fn symmetric_private_and_weak_keys_are_refused() {
    let told = |json: &str| KeySet::parse(json.as_bytes()).unwrap_err().to_string();
    assert!(told(r#"{"keys":[]}"#).contains("keys: is empty"));
    assert!(told(r#"{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}"#).contains("keys[0].k: is secret"));
    assert!(told(r#"{"keys":[{"kty":"oct"}]}"#).contains("keys[0].kty"));
    assert!(told(r#"{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}"#).contains("keys[0].x"));
    assert!(told(r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"#).contains("keys[0].n"));
    assert!(told("[]").contains("no list named keys"));
    assert!(told("{").contains("is not JSON"));
}

#[test]
fn duplicate_and_nameless_keys_among_several_are_refused() {
    let coordinate = BASE64.encode([7u8; 32]);
    let key =
        |kid: &str| format!(r#"{{"kty":"EC","crv":"P-256","x":"{coordinate}","y":"{coordinate}"{kid}}}"#);
    let one = key("");
    assert!(KeySet::parse(format!(r#"{{"keys":[{one}]}}"#).as_bytes()).is_ok());
    assert!(
        KeySet::parse(format!(r#"{{"keys":[{one},{one}]}}"#).as_bytes())
            .unwrap_err()
            .to_string()
            .contains("needs a kid")
    );
    let a = key(r#","kid":"a""#);
    assert!(
        KeySet::parse(format!(r#"{{"keys":[{a},{a}]}}"#).as_bytes())
            .unwrap_err()
            .to_string()
            .contains("twice")
    );
}

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;

#[test]
fn keys_are_fetched_by_https_or_from_loopback_only() {
    let provider = |uri: &str| {
        faults(&format!(
            "apiVersion: mesh/v1\nkind: JwtProvider\nmetadata: {{name: a}}\nspec: {{issuer: i, audiences: [a], jwks: {{uri: '{uri}'}}}}\n"
        ))
    };
    for good in [
        "https://login.example.com/keys",
        "http://127.0.0.1:9/k",
        "http://localhost/k",
        "http://[::1]:80/k",
    ] {
        assert_eq!(provider(good), "", "{good}");
    }
    for bad in [
        "http://login.example.com/keys",
        "file:///etc/passwd",
        "https://",
        "ftp://x",
        "x",
        "https://u@h/",
        "http://localhost.evil/",
    ] {
        assert!(
            provider(bad).contains("spec.jwks.uri: "),
            "{bad}: {}",
            provider(bad)
        );
    }
}

#[test]
fn a_trust_bundle_with_a_private_key_is_refused() {
    let yaml = "apiVersion: mesh/v1\nkind: TrustBundle\nmetadata: {name: mesh.local}\nspec: {certificates: '-----BEGIN PRIVATE KEY-----'}\n";
    assert!(
        faults(yaml).contains("spec.certificates: holds a private key"),
        "{}",
        faults(yaml)
    );
}

#[test]
fn an_instance_needs_an_address_and_a_port() {
    let yaml = "apiVersion: mesh/v1\nkind: Instance\nmetadata: {name: market.quotes/a}\nspec: {port: 70000, weight: 2000, address: 1.2.3.4.5}\n";
    let told = faults(yaml);
    for place in [
        "spec.address:",
        "spec.port: 70000 is over",
        "spec.weight: 2000 is over",
    ] {
        assert!(told.contains(place), "{place} is missing in\n{told}");
    }
}

#[test]
fn a_schema_is_named_by_the_hash_of_its_bytes() {
    let message = v1::Schema {
        metadata: Some(v1::Metadata {
            name: SchemaHash::of(b"other").to_string(),
            ..Default::default()
        }),
        spec: Some(v1::SchemaSpec {
            descriptor_set: crate::DESCRIPTORS.to_vec(),
        }),
    };
    assert!(
        Schema::try_from(message)
            .unwrap_err()
            .to_string()
            .contains("metadata.name: is not the hash")
    );
}

/// What is wrong with a Service that has these switches.
fn with_rest(rest: &str) -> String {
    faults(&format!(
        "apiVersion: mesh/v1\nkind: Service\nmetadata: {{name: a}}\nspec: {{protocol: grpc, rest: {rest}}}\n"
    ))
}

#[test]
fn switches_that_are_none_are_refused_by_place() {
    for (rest, place) in [
        ("{unknownQuery: drop}", "spec.rest.unknownQuery"),
        ("{duplicateKeys: first}", "spec.rest.duplicateKeys"),
        ("{printDefaults: 'yes'}", "spec.rest.printDefaults"),
        (
            "{sse: {heartbeat: 0.1s}}",
            "spec.rest.sse.heartbeat: 100ms is under 1s",
        ),
        (
            "{sse: {heartbeat: 600s}}",
            "spec.rest.sse.heartbeat: 600s is over 300s",
        ),
        ("{ignoredQuery: ['']}", "spec.rest.ignoredQuery[0]: is blank"),
        (
            "{ignoredQuery: [a, b, a]}",
            "spec.rest.ignoredQuery[2]: \"a\" stands here twice",
        ),
        (
            "{enumsAsNumbers: true, enumPrefix: strip}",
            "spec.rest.enumPrefix: strip says nothing",
        ),
        (
            "{requestHeaders: [{header: host, field: a}]}",
            "spec.rest.requestHeaders[0].header: \"host\" is about",
        ),
        ("{speed: high}", "spec.rest.speed: is not known here"),
    ] {
        let told = with_rest(rest);
        assert!(told.contains(place), "{place}\n{told}");
    }
}

#[test]
fn every_switch_has_a_word_and_without_any_the_defaults_are_the_strict_ones() {
    let all = "{unknownQuery: ignore, unknownFields: reject, ignoredQuery: [utm_source], unknownEnums: ignore, \
        duplicateKeys: last, excessBody: ignore, plusInQuery: literal, reservedExpansion: decode, printDefaults: true, \
        protoNames: true, enumPrefix: strip, enumCase: any, errors: problem, unannotated: true, metadataPrefix: strip, \
        compression: never, sse: {heartbeat: 15s, ids: true}, \
        requestHeaders: [{header: X-Tenant, field: tenant}], responseHeaders: [{header: location, field: a.b, methods: [a.B/*]}]}";
    assert_eq!(with_rest(all), "");
    let rest = Rest::try_from(v1::RestOptions::default()).unwrap();
    assert_eq!(rest, Rest::default());
    assert_eq!(
        (
            rest.unknown_query,
            rest.unknown_fields,
            rest.unknown_enums,
            rest.excess_body
        ),
        (
            UnknownInput::Reject,
            UnknownInput::Ignore,
            UnknownInput::Reject,
            UnknownInput::Reject
        )
    );
    assert!(!rest.duplicate_keys && !rest.unannotated && rest.compress && rest.sse.heartbeat.is_none());
}
