//! May they: judges a call by who calls, which method, and what the token says.
//!
//! ```text
//!  no policy names the service ─► open            not heard of yet ─► unknown: nobody gets in
//!  some policy does ─► any rule that matches allows; otherwise denied
//! ```
//!
//! A token is only looked at when a rule that matches so far asks for one: a caller that is let in without a token is not
//! refused for the token it happens to carry.

use std::sync::Arc;

use http::HeaderValue;
use mesh_proto::domain::{AccessPolicy, AccessRule, CallerMatch, ClaimValue};
use mesh_proto::name::{ServiceName, SpiffeId};
use serde_json::{Map, Value};

use crate::gates::jwt::Verified;
use crate::reason::{Reason, Rejection};

/// What is known of who may call one service.
#[derive(Debug, Default)]
pub enum Access {
    /// Not heard of yet.
    #[default]
    Unknown,
    /// No policy names the service.
    Open,
    /// These policies do.
    Rules(Vec<Rule>),
}

/// A rule and the policy it stands in.
#[derive(Debug)]
pub struct Rule {
    policy: Arc<str>,
    rule: AccessRule,
}

/// Who calls, as the connection proved it.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The whole identity.
    pub id: SpiffeId,
    /// The service it names, if it names one.
    pub service: Option<ServiceName>,
    /// The identity as a header's value, for the app.
    pub header: Option<HeaderValue>,
}

impl From<SpiffeId> for Caller {
    fn from(id: SpiffeId) -> Self {
        {
            let header = HeaderValue::from_str(id.as_str()).ok();
            Self {
                service: id.as_service(),
                header,
                id,
            }
        }
    }
}

/// What a call is judged by, apart from its token.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// `package.Service/Method`, or nothing for plain HTTP.
    pub rpc: Option<&'a str>,
    /// Nothing if the connection proved nobody.
    pub caller: Option<&'a Caller>,
}

/// What a look without a token found.
#[derive(Debug, PartialEq, Eq)]
pub enum First {
    /// Let it in; the policy that says so, or nothing where none names the service.
    Allowed(Option<Arc<str>>),
    /// A rule matches so far and asks for a token.
    NeedsToken,
}

impl Access {
    /// Compiles the policies of one service; `None` while they have not been heard of.
    #[must_use]
    pub fn new<'a>(policies: Option<impl IntoIterator<Item = &'a Arc<AccessPolicy>>>) -> Self {
        let Some(policies) = policies else {
            return Access::Unknown;
        };
        let mut named = false;
        let mut rules = Vec::new();
        for policy in policies {
            named = true;
            rules.extend(policy.allow.iter().map(|rule| Rule {
                policy: policy.name.clone(),
                rule: rule.clone(),
            }));
        }
        if named { Access::Rules(rules) } else { Access::Open }
    }

    /// Whether any policy names the service.
    #[must_use]
    pub fn is_guarded(&self) -> bool {
        !matches!(self, Access::Open)
    }

    /// Whether some rule asks for a token.
    #[must_use]
    pub fn asks_for_tokens(&self) -> bool {
        matches!(self, Access::Rules(rules) if rules.iter().any(|rule| rule.rule.jwt.is_some()))
    }

    /// Judges a call without looking at a token.
    ///
    /// # Errors
    /// [`Reason::PolicyUnknown`] or [`Reason::AccessDenied`].
    pub fn first(&self, call: Call<'_>) -> Result<First, Rejection> {
        let rules = match self {
            Access::Open => return Ok(First::Allowed(None)),
            Access::Rules(rules) => rules,
            Access::Unknown => {
                let message = "the access policies of this service are not known here yet; try again shortly";
                return Err(Rejection::new(Reason::PolicyUnknown, message));
            }
        };
        let mut needs_token = false;
        for rule in rules.iter().filter(|rule| rule.matches(call)) {
            if rule.rule.jwt.is_none() {
                return Ok(First::Allowed(Some(rule.policy.clone())));
            }
            needs_token = true;
        }
        if needs_token {
            Ok(First::NeedsToken)
        } else {
            Err(denied(call))
        }
    }

    /// Judges a call by its verified token; to be asked after [`First::NeedsToken`].
    ///
    /// # Errors
    /// [`Reason::AccessDenied`].
    pub fn with_token(&self, call: Call<'_>, token: &Verified) -> Result<Arc<str>, Rejection> {
        let Access::Rules(rules) = self else {
            return Err(denied(call));
        };
        let says_so = |rule: &&Rule| {
            rule.matches(call)
                && rule.rule.jwt.as_ref().is_some_and(|jwt| {
                    jwt.provider == token.provider
                        && jwt
                            .claims
                            .iter()
                            .all(|(name, wanted)| claim_matches(name, wanted, &token.claims))
                })
        };
        rules
            .iter()
            .find(says_so)
            .map(|rule| rule.policy.clone())
            .ok_or_else(|| denied(call))
    }
}

impl Rule {
    fn matches(&self, call: Call<'_>) -> bool {
        let method_ok = self.rule.methods.is_empty() || self.rule.methods.iter().any(|m| m.matches(call.rpc));
        let caller_ok = self.rule.callers.is_empty()
            || call.caller.is_some_and(|caller| {
                self.rule.callers.iter().any(|wanted| match wanted {
                    CallerMatch::Service(name) => caller.service.as_ref() == Some(name),
                    CallerMatch::Identity(id) => caller.id == *id,
                })
            });
        method_ok && caller_ok
    }
}

fn claim_matches(name: &str, wanted: &ClaimValue, claims: &Map<String, Value>) -> bool {
    let Some(found) = claims.get(name) else {
        return false;
    };
    match (wanted, found) {
        // RFC 8693 4.2: scope is a list of words in one string.
        (ClaimValue::Text(word), Value::String(scope)) if name == "scope" => {
            scope.split(' ').any(|w| w == &**word)
        }
        (ClaimValue::List(members), Value::Array(found)) => members
            .iter()
            .all(|member| found.iter().any(|value| value_matches(member, value))),
        (wanted, found) => value_matches(wanted, found),
    }
}

fn value_matches(wanted: &ClaimValue, found: &Value) -> bool {
    match (wanted, found) {
        (ClaimValue::Text(text), Value::String(found)) => **text == **found,
        (ClaimValue::Number(number), Value::Number(found)) => found
            .as_f64()
            .is_some_and(|found| found.total_cmp(number).is_eq()),
        (ClaimValue::Truth(truth), Value::Bool(found)) => truth == found,
        _ => false,
    }
}

fn denied(call: Call<'_>) -> Rejection {
    let caller = call
        .caller
        .map_or("a caller without an identity", |caller| caller.id.as_str());
    let rpc = call.rpc.unwrap_or("this path");
    Rejection::new(
        Reason::AccessDenied,
        format!("no access policy allows {caller} to call {rpc}"),
    )
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use mesh_proto::document;
    use mesh_proto::v1::document::Resource;
    use serde_json::json;

    use super::*;

    fn access(rules: &str) -> Access {
        let yaml = format!(
            "apiVersion: mesh/v1\nkind: AccessPolicy\nmetadata: {{name: readers}}\nspec: {{service: market.quotes, allow: {rules}}}\n"
        );
        let Resource::AccessPolicy(policy) = document::parse(&yaml, "t").unwrap().remove(0).resource else {
            panic!()
        };
        let policy = Arc::new(AccessPolicy::try_from(policy).unwrap());
        Access::new(Some([&policy]))
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
        assert_eq!(Access::new(Some([])).first(call).unwrap(), First::Allowed(None));
        let unknown = Access::new(None::<[&Arc<AccessPolicy>; 0]>);
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
            First::NeedsToken
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
                .with_token(call, &token(claims))
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
            access.with_token(call, &token(json!({}))).unwrap_err().reason,
            Reason::AccessDenied
        );
    }
}
