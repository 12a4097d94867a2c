//! What is wrong with a resource, one thing at a time: the same list for `validate`, for `apply` and for a sidecar's NACK.

use mesh_proto::document;
use mesh_proto::v1::document::Resource;
use mesh_proto::v1::{
    AccessRule, Caller, FieldRule, JwksSource, JwtRule, RetryPolicy, SchemaSource, caller, jwks_source,
    schema_source,
};
use prost_types::Duration;
use serde_json::{Value, json};

use crate::python::tokens;

/// A document of each kind a person writes, with every field there is; `authorities` is PEM.
///
/// # Panics
/// It never does.
#[must_use]
pub fn good_documents(authorities: &str) -> Vec<Value> {
    let document = |kind: &str, name: &str, spec: Value| {
        let metadata = json!({"name": name, "labels": {"team": "market"}});
        json!({"apiVersion": "mesh/v1", "kind": kind, "metadata": metadata, "spec": spec})
    };
    vec![
        document(
            "Mesh",
            "default",
            json!({
                "trustDomain": "mesh.local",
                "defaults": {"timeout": "5s", "retry": {"attempts": 3, "budget": "10%"}},
            }),
        ),
        document("TrustBundle", "mesh.local", json!({"certificates": authorities})),
        document(
            "Service",
            "market.quotes",
            json!({
                "protocol": "grpc",
                "rest": {"unknownQuery": "reject", "unknownFields": "ignore"},
                "timeout": "2s",
                "retry": {"attempts": 2, "budget": "20%"},
                "balance": {"policy": "least-request", "locality": "prefer-local"},
            }),
        ),
        document(
            "Instance",
            "market.quotes/i",
            json!({
                "address": "127.0.0.1", "port": 9, "weight": 100, "health": "serving", "transport": "plaintext",
                "locality": {"region": "eu", "zone": "a", "subZone": "1"},
            }),
        ),
        document(
            "JwtProvider",
            "login",
            json!({
                "issuer": "https://login.example.com", "audiences": ["market"], "jwks": {"inline": tokens().jwks},
                "leeway": "10s", "maxLifetime": "7200s", "types": ["JWT"], "forward": true,
            }),
        ),
        document(
            "AccessPolicy",
            "readers",
            json!({
                "service": "market.quotes",
                "allow": [{
                    "methods": ["market.v1.Quotes/GetQuote"],
                    "callers": [{"service": "web.portfolio"}, {"identity": "spiffe://mesh.local/service/web.edge"}],
                    "jwt": {"provider": "login", "claims": {"scope": "quotes.read"}},
                }],
            }),
        ),
    ]
}

/// The message of a good document.
///
/// # Panics
/// It is not good.
#[must_use]
pub fn resource(document: &Value) -> Resource {
    document::from_value(document).unwrap_or_else(|faults| panic!("{document}: {faults}"))
}

/// Every field of a document by its JSON pointer and the place faults name it by, `spec.allow[0].methods`.
#[must_use]
pub fn fields(document: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for section in ["metadata", "spec"] {
        walk(&document[section], &format!("/{section}"), section, &mut found);
    }
    found
}

fn walk(value: &Value, pointer: &str, place: &str, found: &mut Vec<(String, String)>) {
    found.push((pointer.to_owned(), place.to_owned()));
    match value {
        // Claims and labels are named by people: what they hold is a field, their names are none.
        Value::Object(_) if place.ends_with("claims") || place.ends_with("labels") => {}
        Value::Object(entries) => {
            for (key, value) in entries {
                walk(
                    value,
                    &format!("{pointer}/{key}"),
                    &format!("{place}.{key}"),
                    found,
                );
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                walk(
                    value,
                    &format!("{pointer}/{index}"),
                    &format!("{place}[{index}]"),
                    found,
                );
            }
        }
        _ => {}
    }
}

/// A message that no program of ours would make, and the place its refusal must name.
#[derive(Debug)]
pub struct Faulty {
    /// What was done to a good one.
    pub what: String,
    /// How the good one is named on a sidecar's stream.
    pub name: String,
    /// The message.
    pub resource: Resource,
    /// Part of the refusal.
    pub place: &'static str,
}

/// Messages with one thing wrong each: a required field blanked, or a value out of its bounds.
///
/// # Panics
/// It never does.
#[must_use]
#[allow(clippy::too_many_lines, reason = "a list")]
pub fn faulty(authorities: &str) -> Vec<Faulty> {
    let good: Vec<Resource> = good_documents(authorities).iter().map(resource).collect();
    let mut all = Vec::new();
    let mut add = |what: &str, place: &'static str, kind: mesh_proto::Kind, spoil: &dyn Fn(&mut Resource)| {
        let mut resource = good
            .iter()
            .find(|resource| resource.kind() == kind)
            .unwrap()
            .clone();
        let name = resource.resource_name();
        spoil(&mut resource);
        let what = format!("{kind}: {what}");
        all.push(Faulty {
            what,
            name,
            resource,
            place,
        });
    };
    macro_rules! spoil {
        ($kind:ident: $($what:literal at $place:literal $(($spec:ident))? => $change:expr;)*) => {$(
            add($what, $place, mesh_proto::Kind::$kind, &|resource| {
                let Resource::$kind(message) = resource else { unreachable!() };
                let change: &dyn Fn(&mut mesh_proto::v1::$kind) = &$change;
                change(message);
            });
        )*};
    }
    let negative = || {
        Some(Duration {
            seconds: -1,
            nanos: 0,
        })
    };
    let endless = || {
        Some(Duration {
            seconds: i64::MAX,
            nanos: 0,
        })
    };
    let retry = |attempts, budget: &str| {
        Some(RetryPolicy {
            attempts,
            budget: budget.into(),
        })
    };
    spoil! { Mesh:
        "no spec" at "spec" => |m| m.spec = None;
        "no trust domain" at "spec.trustDomain" => |m| m.spec.as_mut().unwrap().trust_domain.clear();
        "a trust domain that is none" at "spec.trustDomain" => |m| m.spec.as_mut().unwrap().trust_domain = "Mesh Local".into();
        "a negative timeout" at "spec.defaults.timeout" => |m| m.spec.as_mut().unwrap().defaults.as_mut().unwrap().timeout = negative();
        "too many attempts" at "spec.defaults.retry.attempts" => |m| m.spec.as_mut().unwrap().defaults.as_mut().unwrap().retry = retry(9, "1%");
    }
    spoil! { TrustBundle:
        "no spec" at "spec" => |m| m.spec = None;
        "no certificates" at "spec.certificates" => |m| m.spec.as_mut().unwrap().certificates.clear();
        "certificates that are none" at "spec.certificates" => |m| m.spec.as_mut().unwrap().certificates = "PEM".into();
        "a certificate of noise" at "spec.certificates" => |m| {
            m.spec.as_mut().unwrap().certificates = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into();
        };
    }
    spoil! { Service:
        "no spec" at "spec" => |m| m.spec = None;
        "no metadata" at "metadata" => |m| m.metadata = None;
        "no protocol" at "spec.protocol" => |m| m.spec.as_mut().unwrap().protocol = 0;
        "a protocol that is none" at "spec.protocol" => |m| m.spec.as_mut().unwrap().protocol = 77;
        "a schema that is none" at "spec.schema" => |m| m.spec.as_mut().unwrap().schema = Some(SchemaSource {
            source: Some(schema_source::Source::Hash("sha256:12".into())),
        });
        "a timeout of nothing" at "spec.timeout" => |m| m.spec.as_mut().unwrap().timeout = Some(Duration::default());
        "a timeout of for ever" at "spec.timeout" => |m| m.spec.as_mut().unwrap().timeout = endless();
        "a budget over all" at "spec.retry.budget" => |m| m.spec.as_mut().unwrap().retry = retry(2, "130%");
        "a budget that is none" at "spec.retry.budget" => |m| m.spec.as_mut().unwrap().retry = retry(2, "NaN%");
        "a balance that is none" at "spec.balance.policy" => |m| m.spec.as_mut().unwrap().balance.as_mut().unwrap().policy = -5;
        "rest options that are none" at "spec.rest.unknownQuery" => |m| m.spec.as_mut().unwrap().rest.as_mut().unwrap().unknown_query = 9;
    }
    spoil! { Instance:
        "no spec" at "spec" => |m| m.spec = None;
        "no address" at "spec.address" => |m| m.spec.as_mut().unwrap().address.clear();
        "an address with a path" at "spec.address" => |m| m.spec.as_mut().unwrap().address = "a/b".into();
        "no port" at "spec.port" => |m| m.spec.as_mut().unwrap().port = 0;
        "a port that is none" at "spec.port" => |m| m.spec.as_mut().unwrap().port = 70_000;
        "a weight out of bounds" at "spec.weight" => |m| m.spec.as_mut().unwrap().weight = 100_000;
        "a health that is none" at "spec.health" => |m| m.spec.as_mut().unwrap().health = 9;
        "a transport that is none" at "spec.transport" => |m| m.spec.as_mut().unwrap().transport = 9;
    }
    spoil! { JwtProvider:
        "no spec" at "spec" => |m| m.spec = None;
        "no issuer" at "spec.issuer" => |m| m.spec.as_mut().unwrap().issuer.clear();
        "no audience" at "spec.audiences" => |m| m.spec.as_mut().unwrap().audiences.clear();
        "a blank audience" at "spec.audiences" => |m| m.spec.as_mut().unwrap().audiences = vec![String::new()];
        "no keys" at "spec.jwks" => |m| m.spec.as_mut().unwrap().jwks = None;
        "keys of nothing" at "spec.jwks" => |m| m.spec.as_mut().unwrap().jwks = Some(JwksSource::default());
        "keys that are none" at "spec.jwks" => |m| m.spec.as_mut().unwrap().jwks = Some(JwksSource {
            source: Some(jwks_source::Source::Inline("{".into())),
        });
        "keys that are secret" at "spec.jwks" => |m| m.spec.as_mut().unwrap().jwks = Some(JwksSource {
            source: Some(jwks_source::Source::Inline(r#"{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}"#.into())),
        });
        "keys fetched in the clear" at "spec.jwks" => |m| m.spec.as_mut().unwrap().jwks = Some(JwksSource {
            source: Some(jwks_source::Source::Uri("http://login.example.com/keys".into())),
        });
        "a leeway of an hour" at "spec.leeway" => |m| m.spec.as_mut().unwrap().leeway = Some(Duration { seconds: 3600, nanos: 0 });
        "a negative lifetime" at "spec.maxLifetime" => |m| m.spec.as_mut().unwrap().max_lifetime = negative();
    }
    let rule = |change: &dyn Fn(&mut AccessRule)| {
        let mut rule = AccessRule {
            methods: vec!["*".into()],
            ..AccessRule::default()
        };
        change(&mut rule);
        vec![rule]
    };
    spoil! { AccessPolicy:
        "no spec" at "spec" => |m| m.spec = None;
        "no service" at "spec.service" => |m| m.spec.as_mut().unwrap().service.clear();
        "a service that is none" at "spec.service" => |m| m.spec.as_mut().unwrap().service = "Market Quotes".into();
        "a rule that says nothing" at "spec.allow[0]" => |m| m.spec.as_mut().unwrap().allow = vec![AccessRule::default()];
        "a blank method" at "spec.allow[0].methods[0]" => |m| m.spec.as_mut().unwrap().allow = rule(&|r| r.methods = vec![String::new()]);
        "a method that is none" at "spec.allow[0].methods[0]" => |m| m.spec.as_mut().unwrap().allow = rule(&|r| r.methods = vec!["GetQuote".into()]);
        "a caller who is nobody" at "spec.allow[0].callers[0]" => |m| m.spec.as_mut().unwrap().allow = rule(&|r| r.callers = vec![Caller { who: None }]);
        "an identity that is none" at "spec.allow[0].callers[0]" => |m| m.spec.as_mut().unwrap().allow = rule(&|r| {
            r.callers = vec![Caller { who: Some(caller::Who::Identity("https://a/b".into())) }];
        });
        "a field that is none" at "spec.allow[0].fields.a..b" => |m| m.spec.as_mut().unwrap().allow = rule(&|r| {
            r.fields = [("a..b".into(), FieldRule { values: vec!["c".into()], ..FieldRule::default() })].into();
        });
        "a field that may be nothing" at "spec.allow[0].fields.a" => |m| m.spec.as_mut().unwrap().allow = rule(&|r| {
            r.fields = [("a".into(), FieldRule::default())].into();
        });
        "a field that may be empty" at "spec.allow[0].fields.a.values" => |m| m.spec.as_mut().unwrap().allow = rule(&|r| {
            r.fields = [("a".into(), FieldRule { values: vec![String::new()], ..FieldRule::default() })].into();
        });
        "a field with values and a claim" at "spec.allow[0].fields.a" => |m| m.spec.as_mut().unwrap().allow = rule(&|r| {
            r.jwt = Some(JwtRule { provider: "login".into(), ..JwtRule::default() });
            r.fields = [("a".into(), FieldRule { values: vec!["b".into()], claim: "c".into() })].into();
        });
        "a claim of no token" at "spec.allow[0].fields.a.claim" => |m| m.spec.as_mut().unwrap().allow = rule(&|r| {
            r.fields = [("a".into(), FieldRule { claim: "tenant".into(), ..FieldRule::default() })].into();
        });
        "more fields than are looked at" at "spec.allow[0].fields" => |m| m.spec.as_mut().unwrap().allow = rule(&|r| {
            let one = |n| (format!("f{n}"), FieldRule { values: vec!["a".into()], ..FieldRule::default() });
            r.fields = (0..17).map(one).collect();
        });
        "a token of no provider" at "spec.allow[0].jwt.provider" => |m| m.spec.as_mut().unwrap().allow = rule(&|r| r.jwt = Some(JwtRule::default()));
    }
    all
}
