use std::time::SystemTime;

use mesh_proto::document;
use mesh_proto::v1::{self, document::Resource};
use prost::Message;
use serde_json::json;

use super::*;

fn access(rules: &str) -> Access {
    access_with(rules, Messages::None)
}

fn access_with(rules: &str, messages: Messages<'_>) -> Access {
    let yaml = format!(
        "apiVersion: mesh/v1\nkind: AccessPolicy\nmetadata: {{name: readers}}\nspec: {{service: market.quotes, allow: {rules}}}\n"
    );
    let Resource::AccessPolicy(policy) = document::parse(&yaml, "t").unwrap().remove(0).resource else {
        panic!()
    };
    let policy = Arc::new(AccessPolicy::try_from(policy).unwrap());
    Access::new(Some([&policy]), messages)
}

fn caller(service: &str) -> Caller {
    SpiffeId::parse(&format!("spiffe://mesh.local/service/{service}"))
        .unwrap()
        .into()
}

fn token(claims: Value) -> Verified {
    let Value::Object(claims) = claims else { panic!() };
    Verified {
        provider: "login".into(),
        claims: Arc::new(claims),
        expires: SystemTime::now(),
    }
}

const RPC: &str = "market.v1.Quotes/GetQuote";

#[test]
fn a_service_no_policy_names_is_open_and_one_not_heard_of_is_shut() {
    let call = Call {
        rpc: Some(RPC),
        caller: None,
    };
    assert_eq!(
        Access::new(Some([]), Messages::None).first(call).unwrap(),
        First::Allowed(None)
    );
    let unknown = Access::new(None::<[&Arc<AccessPolicy>; 0]>, Messages::None);
    assert_eq!(unknown.first(call).unwrap_err().reason, Reason::PolicyUnknown);
}

#[test]
fn as_soon_as_a_policy_names_the_service_everything_else_is_denied() {
    let access = access("[{methods: [market.v1.Quotes/GetQuote], callers: [service: web.portfolio]}]");
    let (portfolio, other) = (caller("web.portfolio"), caller("web.other"));
    let call = |rpc, caller| {
        access.first(Call {
            rpc: Some(rpc),
            caller,
        })
    };
    assert!(matches!(call(RPC, Some(&portfolio)), Ok(First::Allowed(Some(_)))));
    for (rpc, who) in [
        (RPC, Some(&other)),
        (RPC, None),
        ("market.v1.Quotes/PlaceOrder", Some(&portfolio)),
    ] {
        assert_eq!(call(rpc, who).unwrap_err().reason, Reason::AccessDenied);
    }
    assert_eq!(
        self::access("[]")
            .first(Call {
                rpc: Some(RPC),
                caller: Some(&portfolio)
            })
            .unwrap_err()
            .reason,
        Reason::AccessDenied
    );
}

#[test]
fn a_caller_let_in_without_a_token_is_not_asked_for_one() {
    let access = access("[{callers: [service: web.portfolio]}, {jwt: {provider: login}}]");
    let (portfolio, edge) = (caller("web.portfolio"), caller("web.edge"));
    assert!(matches!(
        access.first(Call {
            rpc: Some(RPC),
            caller: Some(&portfolio)
        }),
        Ok(First::Allowed(_))
    ));
    assert_eq!(
        access
            .first(Call {
                rpc: Some(RPC),
                caller: Some(&edge)
            })
            .unwrap(),
        First::Asks { token: true }
    );
}

#[test]
fn claims_match_by_type_and_never_by_conversion() {
    let call = Call {
        rpc: Some(RPC),
        caller: None,
    };
    let judge = |wanted: &str, claims: Value| {
        access(&format!("[{{jwt: {{provider: login, claims: {wanted}}}}}]"))
            .second(call, Some(&Ok(token(claims))))
            .is_ok()
    };
    assert!(judge(
        "{scope: quotes.read}",
        json!({"scope": "quotes.write quotes.read"})
    ));
    assert!(!judge("{scope: quotes.read}", json!({"scope": "quotes.reader"})));
    assert!(!judge("{scope: quotes.read}", json!({"scope": ["quotes.read"]})));
    assert!(!judge("{scope: quotes.read}", json!({})));
    assert!(judge("{role: admin}", json!({"role": "admin"})));
    assert!(!judge("{role: admin}", json!({"role": ["admin"]})));
    assert!(!judge("{role: admin}", json!({"role": "user admin"})));
    assert!(judge("{admin: true}", json!({"admin": true})));
    assert!(!judge("{admin: true}", json!({"admin": "true"})));
    assert!(judge("{level: 3}", json!({"level": 3})));
    assert!(!judge("{level: 3}", json!({"level": "3"})));
    assert!(judge("{groups: [a, b]}", json!({"groups": ["b", "c", "a"]})));
    assert!(!judge("{groups: [a, b]}", json!({"groups": ["a"]})));
    assert!(!judge("{groups: [a]}", json!({"groups": "a"})));
}

#[test]
fn a_token_of_another_provider_counts_for_nothing() {
    let access = access("[{jwt: {provider: partner}}]");
    let call = Call {
        rpc: Some(RPC),
        caller: None,
    };
    assert_eq!(
        access
            .second(call, Some(&Ok(token(json!({})))))
            .unwrap_err()
            .reason,
        Reason::AccessDenied
    );
}

const GET: &str = "mesh.v1.Documents/Get";

/// What is found of a call of the mesh's own API under these rules, with this token: allowed, or allowed for these requests.
fn judge(rules: &str, rpc: &str, claims: Option<Value>, request: &v1::GetRequest) -> Result<String, Reason> {
    let schema = Schema::compile(mesh_proto::DESCRIPTORS).unwrap();
    let access = access_with(rules, Messages::Of(&schema));
    let call = Call {
        rpc: Some(rpc),
        caller: None,
    };
    let judged = match access.first(call) {
        Ok(First::Allowed(policy)) => Ok(policy.unwrap()),
        Ok(First::Asks { token: asked }) => {
            let missing = || Rejection::new(Reason::JwtMissing, "no token");
            let token = asked.then(|| claims.map(token).ok_or_else(missing));
            match access.second(call, token.as_ref()) {
                Ok(Second::Allowed(policy)) => Ok(policy),
                Ok(Second::Depends(conditions)) => conditions.judge(&request.encode_to_vec()),
                Err(rejection) => Err(rejection),
            }
        }
        Err(rejection) => Err(rejection),
    };
    judged
        .map(|policy| policy.to_string())
        .map_err(|rejection| rejection.reason)
}

fn get(kind: &str, name: &str) -> v1::GetRequest {
    v1::GetRequest {
        kind: kind.into(),
        name: name.into(),
    }
}

#[test]
fn a_rule_about_fields_allows_the_requests_that_say_so_and_no_others() {
    let rules = "[{methods: [mesh.v1.Documents/Get], fields: {kind: {values: [Service, Mesh]}}}]";
    let judge = |rpc, request: &v1::GetRequest| judge(rules, rpc, None, request);
    assert_eq!(judge(GET, &get("Service", "a")).as_deref(), Ok("readers"));
    assert_eq!(judge(GET, &get("Mesh", "a")).as_deref(), Ok("readers"));
    for kind in ["", "service", "Service ", "Instance"] {
        assert_eq!(judge(GET, &get(kind, "a")), Err(Reason::AccessDenied), "{kind}");
    }
    let other = judge("mesh.v1.Documents/List", &get("Service", "a"));
    assert_eq!(other, Err(Reason::AccessDenied));
}

#[test]
fn a_field_is_what_a_claim_of_the_token_says_or_one_of_its_members() {
    let rules = "[{jwt: {provider: login}, fields: {name: {claim: tenant}}}]";
    let judge = |claims: Value, name: &str| judge(rules, GET, Some(claims), &get("", name)).is_ok();
    assert!(judge(json!({"tenant": "acme"}), "acme"));
    assert!(judge(json!({"tenant": ["dune", "acme"]}), "acme"));
    assert!(judge(json!({"tenant": 7}), "7"));
    assert!(judge(json!({"tenant": true}), "true"));
    for (claims, name) in [
        (json!({"tenant": "acme"}), "dune"),
        (json!({"tenant": "acme dune"}), "acme"),
        (json!({"tenant": ""}), ""),
        (json!({"tenant": [""]}), ""),
        (json!({"tenant": []}), ""),
        (json!({"tenant": null}), "null"),
        (json!({"tenant": {"a": "acme"}}), "acme"),
        (json!({"tenant": 7.5}), "7.5"),
        (json!({}), ""),
    ] {
        assert!(!judge(claims.clone(), name), "{claims} {name}");
    }
    let scoped = "[{jwt: {provider: login}, fields: {name: {claim: scope}}}]";
    let words = json!({"scope": "a b"});
    assert!(self::judge(scoped, GET, Some(words.clone()), &get("", "b")).is_ok());
    assert!(self::judge(scoped, GET, Some(words), &get("", "a b")).is_err());
}

#[test]
fn every_field_of_a_rule_must_match_and_any_rule_allows() {
    let rules = "[{fields: {kind: {values: [a]}, name: {values: [b]}}}, {jwt: {provider: login}, fields: {kind: {values: [c]}}}]";
    let judge = |claims, kind, name| judge(rules, GET, claims, &get(kind, name));
    assert!(judge(None, "a", "b").is_ok());
    assert_eq!(judge(Some(json!({})), "a", "x"), Err(Reason::AccessDenied));
    assert!(judge(Some(json!({})), "c", "x").is_ok());
    // What a token would help with is told.
    assert_eq!(judge(None, "c", "x"), Err(Reason::JwtMissing));
}

#[test]
fn a_rule_about_fields_is_never_about_what_has_no_such_message() {
    let allows = |rules: &str, rpc: &str| judge(rules, rpc, Some(json!({})), &get("a", "b")).is_ok();
    assert!(allows("[{fields: {kind: {values: [a]}}}]", GET));
    // Unknown, a stream of requests, without the field, with a field that is no one value.
    assert!(!allows(
        "[{fields: {kind: {values: [a]}}}]",
        "mesh.v1.Documents/Peek"
    ));
    assert!(!allows(
        "[{fields: {leave: {values: [\"false\"]}}}]",
        "mesh.v1.Registration/Register"
    ));
    assert!(!allows("[{fields: {kinds: {values: [a]}}}]", GET));
    assert!(!allows(
        "[{fields: {kind: {values: [a]}, kinds: {values: [a]}}}]",
        GET
    ));
    assert!(!allows(
        "[{fields: {items: {values: [a]}}}]",
        "mesh.v1.Documents/Apply"
    ));
    let without_schema = access_with("[{fields: {kind: {values: [a]}}}]", Messages::None);
    let call = Call {
        rpc: Some(GET),
        caller: None,
    };
    assert_eq!(
        without_schema.first(call).unwrap_err().reason,
        Reason::AccessDenied
    );
}

#[test]
fn a_rule_about_fields_of_a_schema_that_is_still_to_come_says_so_and_denies_nothing_for_good() {
    let rules = "[{methods: [mesh.v1.Documents/Get], fields: {kind: {values: [a]}}}, {methods: [mesh.v1.Documents/List]}]";
    let access = access_with(rules, Messages::Awaited);
    let first = |rpc| {
        let caller = None;
        let rpc = Some(rpc);
        access
            .first(Call { rpc, caller })
            .map_err(|rejection| rejection.reason)
    };
    assert_eq!(first(GET), Err(Reason::SchemaUnknown));
    assert_eq!(first("mesh.v1.Documents/Apply"), Err(Reason::AccessDenied));
    assert!(matches!(first("mesh.v1.Documents/List"), Ok(First::Allowed(_))));
}
