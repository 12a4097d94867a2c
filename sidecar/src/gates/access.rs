//! May they: judges a call by who calls, which method, and what the token says.
//!
//! ```text
//!  no policy names the service ─► open            not heard of yet ─► unknown: nobody gets in
//!  some policy does ─► any rule that matches allows; otherwise denied
//!
//!  first: the head ──► second: the token ──► Conditions: what the request says
//! ```
//!
//! A token is only looked at when a rule that matches so far asks for one: a caller that is let in without a token is not
//! refused for the token it happens to carry. The request itself is looked at last, and only where a rule asks what it says.

mod fields;

use std::sync::Arc;

use http::HeaderValue;
use mesh_proto::domain::{AccessPolicy, AccessRule, CallerMatch, ClaimValue};
use mesh_proto::name::{ServiceName, SpiffeId};
use mesh_transcode::Schema;
use serde_json::{Map, Value};

use self::fields::{Condition, Fields};
use crate::gates::jwt::Verified;
use crate::reason::{Reason, Rejection};

pub use self::fields::Conditions;

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
    /// Nothing while the schema has not been heard of.
    fields: Option<Fields>,
}

/// Where rules about fields look for them.
#[derive(Debug, Clone, Copy)]
pub enum Messages<'s> {
    /// In this schema.
    Of(&'s Schema),
    /// The service has a schema that has not been heard of yet.
    Awaited,
    /// Nowhere: the service has none, or does not speak gRPC.
    None,
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

/// What a look at the head alone found.
#[derive(Debug, PartialEq, Eq)]
pub enum First {
    /// Let it in; the policy that says so, or nothing where none names the service.
    Allowed(Option<Arc<str>>),
    /// Rules match so far and ask for more.
    Asks {
        /// For a token.
        token: bool,
    },
}

/// What a look with the token found, where one was asked for.
#[derive(Debug)]
pub enum Second {
    /// Let it in; the policy that says so.
    Allowed(Arc<str>),
    /// It depends on what the request says.
    Depends(Box<Conditions>),
}

impl Access {
    /// Compiles the policies of one service; `None` while they have not been heard of.
    #[must_use]
    pub fn new<'a>(
        policies: Option<impl IntoIterator<Item = &'a Arc<AccessPolicy>>>,
        messages: Messages<'_>,
    ) -> Self {
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
                fields: fields::find(rule, messages),
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
    /// [`Reason::PolicyUnknown`], [`Reason::AccessDenied`], or [`Reason::SchemaUnknown`] where a rule may turn out to allow it.
    pub fn first(&self, call: Call<'_>) -> Result<First, Rejection> {
        let rules = match self {
            Access::Open => return Ok(First::Allowed(None)),
            Access::Rules(rules) => rules,
            Access::Unknown => {
                let message = "the access policies of this service are not known here yet; try again shortly";
                return Err(Rejection::new(Reason::PolicyUnknown, message));
            }
        };
        let (mut asks, mut token, mut awaits) = (false, false, false);
        for rule in rules.iter().filter(|rule| rule.matches(call)) {
            if rule.fields.is_none() {
                awaits = true;
                continue;
            }
            if rule.rule.jwt.is_none() && rule.rule.fields.is_empty() {
                return Ok(First::Allowed(Some(rule.policy.clone())));
            }
            asks = true;
            token |= rule.rule.jwt.is_some();
        }
        if asks {
            Ok(First::Asks { token })
        } else if awaits {
            let message = "the schema that an access policy needs is not known here yet; try again shortly";
            Err(Rejection::new(Reason::SchemaUnknown, message))
        } else {
            Err(denied(call))
        }
    }

    /// Judges a call by its token, if one was asked for; to be asked after [`First::Asks`]. A token that is refused is
    /// the answer where no rule does without one.
    ///
    /// # Errors
    /// [`Reason::AccessDenied`], or why the token is refused.
    pub fn second(
        &self,
        call: Call<'_>,
        token: Option<&Result<Verified, Rejection>>,
    ) -> Result<Second, Rejection> {
        let Access::Rules(rules) = self else {
            return Err(denied(call));
        };
        let verified = token.and_then(|token| token.as_ref().ok());
        let mut conditions = Vec::new();
        for rule in rules
            .iter()
            .filter(|rule| rule.matches(call) && rule.takes(verified))
        {
            if rule.rule.fields.is_empty() {
                return Ok(Second::Allowed(rule.policy.clone()));
            }
            let found = call.rpc.and_then(|rpc| rule.fields.as_ref()?.get(rpc));
            conditions
                .extend(found.and_then(|found| Condition::of(&rule.policy, &rule.rule, found, verified)));
        }
        let otherwise = match token {
            Some(Err(refused)) => refused.clone(),
            _ => denied(call),
        };
        if conditions.is_empty() {
            return Err(otherwise);
        }
        Ok(Second::Depends(Box::new(Conditions::new(conditions, otherwise))))
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
        // While there is no schema, any method may have them.
        let has_fields = |rpc| self.fields.as_ref().is_none_or(|fields| fields.contains_key(rpc));
        let fields_ok = self.rule.fields.is_empty() || call.rpc.is_some_and(has_fields);
        method_ok && caller_ok && fields_ok
    }

    /// Whether the token is the one it asks for, if it asks for one.
    fn takes(&self, token: Option<&Verified>) -> bool {
        let Some(jwt) = &self.rule.jwt else {
            return true;
        };
        token.is_some_and(|token| {
            let mut claims = jwt.claims.iter();
            jwt.provider == token.provider
                && claims.all(|(name, wanted)| claim_matches(name, wanted, &token.claims))
        })
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
mod tests;
