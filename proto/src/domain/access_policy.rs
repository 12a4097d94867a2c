//! Who may call what.

use std::sync::Arc;

use prost_types::value::Kind as ValueKind;

use super::header_field::check_field;
use super::metadata;
use crate::fault::{Check, Faults};
use crate::name::{ServiceName, SpiffeId, document_name, quote};
use crate::v1;

/// Most rules in one policy.
pub(super) const RULES_MAX: usize = 1000;
/// Most methods, callers or claims in one rule.
pub(super) const RULE_PARTS_MAX: usize = 1000;
/// Most fields in one rule: each is looked for in every request that the rule is about.
const RULE_FIELDS_MAX: usize = 16;

/// [`v1::AccessPolicy`]
#[derive(Debug, Clone, PartialEq)]
pub struct AccessPolicy {
    /// Its name, for logs and refusals.
    pub name: Arc<str>,
    /// The service that is called.
    pub service: ServiceName,
    /// Any of these allows.
    pub allow: Vec<AccessRule>,
}

/// Matches when every part that is not empty matches.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AccessRule {
    /// Any of these; empty: every method.
    pub methods: Vec<MethodMatch>,
    /// Any of these; empty: every caller.
    pub callers: Vec<CallerMatch>,
    /// A token, if one is required.
    pub jwt: Option<JwtRequirement>,
    /// Fields of the request that must match; empty: it is not looked at.
    pub fields: Vec<FieldRequirement>,
}

/// What a field of the request must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldRequirement {
    /// The way to it, in the names of the .proto file.
    pub field: Arc<str>,
    /// What it must be.
    pub is: FieldIs,
}

/// What a field of the request must be, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldIs {
    /// Any of these.
    OneOf(Vec<Arc<str>>),
    /// What this claim of the token says, or one of its members.
    Claim(Arc<str>),
}

/// Which methods a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MethodMatch {
    /// `*`: all, and calls that are no RPC.
    Any,
    /// `package.Service/*`; holds `package.Service`.
    Service(Arc<str>),
    /// `package.Service/Method`.
    Method(Arc<str>),
}

impl MethodMatch {
    /// Whether the rule is about this RPC, `package.Service/Method`; `None` for a call that is no RPC.
    #[must_use]
    pub fn matches(&self, rpc: Option<&str>) -> bool {
        match (self, rpc) {
            (MethodMatch::Any, _) => true,
            (MethodMatch::Method(method), Some(rpc)) => **method == *rpc,
            (MethodMatch::Service(service), Some(rpc)) => rpc
                .strip_prefix(&**service)
                .is_some_and(|rest| rest.starts_with('/')),
            (_, None) => false,
        }
    }
}

/// Who a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallerMatch {
    /// A service of the mesh's own trust domain.
    Service(ServiceName),
    /// Exactly this identity.
    Identity(SpiffeId),
}

/// The token a rule requires.
#[derive(Debug, Clone, PartialEq)]
pub struct JwtRequirement {
    /// Name of the `JwtProvider`.
    pub provider: Arc<str>,
    /// Claims that must match, by name.
    pub claims: Vec<(Arc<str>, ClaimValue)>,
}

/// What a claim must be. Types are compared, never converted.
#[derive(Debug, Clone, PartialEq)]
pub enum ClaimValue {
    /// An equal string; in `scope`, one of its words (RFC 8693 4.2).
    Text(Arc<str>),
    /// An equal number.
    Number(f64),
    /// An equal boolean.
    Truth(bool),
    /// A list with all of these.
    List(Vec<ClaimValue>),
}

impl TryFrom<v1::AccessPolicy> for AccessPolicy {
    type Error = Faults;

    fn try_from(message: v1::AccessPolicy) -> Result<Self, Faults> {
        let mut check = Check::default();
        let name = metadata(message.metadata, &mut check, document_name);
        let spec = message.spec.unwrap_or_default();
        let service = check.leaf("spec.service", ServiceName::parse(&spec.service));
        if spec.allow.len() > RULES_MAX {
            check.fault(
                "spec.allow",
                format!("has {} rules; at most {RULES_MAX} are allowed", spec.allow.len()),
            );
        }
        let read = |(index, rule)| check.part(&format!("spec.allow[{index}]"), AccessRule::try_from(rule));
        let allow: Vec<_> = spec.allow.into_iter().enumerate().map(read).collect();
        let value = name
            .zip(service)
            .zip(allow.into_iter().collect::<Option<Vec<_>>>());
        check.finish(value.map(|(((name, _), service), allow)| Self { name, service, allow }))
    }
}

impl TryFrom<v1::AccessRule> for AccessRule {
    type Error = Faults;

    fn try_from(message: v1::AccessRule) -> Result<Self, Faults> {
        let mut check = Check::default();
        let says_nothing = message.methods.is_empty()
            && message.callers.is_empty()
            && message.jwt.is_none()
            && message.fields.is_empty();
        if says_nothing {
            check.fault(
                "",
                "would allow everything; write methods, callers, jwt or fields (methods: [\"*\"] if all is meant)",
            );
        }
        for (place, length) in [
            ("methods", message.methods.len()),
            ("callers", message.callers.len()),
        ] {
            if length > RULE_PARTS_MAX {
                check.fault(
                    place,
                    format!("has {length} entries; at most {RULE_PARTS_MAX} are allowed"),
                );
            }
        }
        let mut rule = AccessRule::default();
        for (index, method) in message.methods.iter().enumerate() {
            rule.methods
                .extend(check.leaf(&format!("methods[{index}]"), read_method(method)));
        }
        for (index, caller) in message.callers.into_iter().enumerate() {
            rule.callers
                .extend(check.part(&format!("callers[{index}]"), CallerMatch::try_from(caller)));
        }
        let has_token = message.jwt.is_some();
        rule.jwt = message
            .jwt
            .and_then(|jwt| check.part("jwt", JwtRequirement::try_from(jwt)));
        if message.fields.len() > RULE_FIELDS_MAX {
            let many = message.fields.len();
            check.fault(
                "fields",
                format!("has {many} entries; at most {RULE_FIELDS_MAX} are allowed"),
            );
        }
        let mut fields: Vec<_> = message.fields.into_iter().collect();
        fields.sort_by(|one, other| one.0.cmp(&other.0));
        for (field, wanted) in fields {
            let place = format!("fields.{}", crate::name::printable(&field));
            if let (Some(()), Some(is)) = (
                check.leaf(&place, check_field(&field)),
                check.part(&place, read_wanted(wanted, has_token)),
            ) {
                let field = field.into();
                rule.fields.push(FieldRequirement { field, is });
            }
        }
        check.finish(Some(rule))
    }
}

fn read_wanted(message: v1::FieldRule, has_token: bool) -> Result<FieldIs, Faults> {
    let one = |place: &str, why: &str| Err(Faults::one(place, why));
    if message.values.len() > RULE_PARTS_MAX {
        let many = message.values.len();
        return one(
            "values",
            &format!("has {many} entries; at most {RULE_PARTS_MAX} are allowed"),
        );
    }
    match (message.claim.is_empty(), message.values.is_empty()) {
        (true, true) => one("", "says nothing; write values or claim"),
        (false, false) => one("", "has both values and claim; write two rules"),
        (false, true) if !has_token => one("claim", "is of a token, and the rule has no jwt"),
        (false, true) => Ok(FieldIs::Claim(message.claim.into())),
        (true, false) if message.values.iter().any(String::is_empty) => {
            one("values", "has a blank entry; an empty field matches nothing")
        }
        (true, false) => Ok(FieldIs::OneOf(
            message.values.into_iter().map(Into::into).collect(),
        )),
    }
}

pub(super) fn read_method(text: &str) -> Result<MethodMatch, String> {
    let is_name = |name: &str| {
        name.split('.').all(|part| {
            part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        })
    };
    match text.split_once('/') {
        None if text == "*" => Ok(MethodMatch::Any),
        None if text.is_empty() => {
            Err("is blank; write package.Service/Method, package.Service/* or *".into())
        }
        Some((service, "*")) if is_name(service) => Ok(MethodMatch::Service(service.into())),
        Some((service, method)) if is_name(service) && is_name(method) && !method.contains('.') => {
            Ok(MethodMatch::Method(text.into()))
        }
        _ => Err(format!(
            "{} is not a method; write package.Service/Method, package.Service/* or *",
            quote(text)
        )),
    }
}

impl TryFrom<v1::Caller> for CallerMatch {
    type Error = Faults;

    fn try_from(message: v1::Caller) -> Result<Self, Faults> {
        match message.who {
            Some(v1::caller::Who::Service(name)) => ServiceName::parse(&name)
                .map(CallerMatch::Service)
                .map_err(|why| Faults::one("service", why)),
            Some(v1::caller::Who::Identity(id)) => SpiffeId::parse(&id)
                .map(CallerMatch::Identity)
                .map_err(|why| Faults::one("identity", why)),
            None => Err(Faults::one("", "names nobody; write service or identity")),
        }
    }
}

impl TryFrom<v1::JwtRule> for JwtRequirement {
    type Error = Faults;

    fn try_from(message: v1::JwtRule) -> Result<Self, Faults> {
        let mut check = Check::default();
        let provider = check.leaf("provider", document_name(&message.provider));
        if message.claims.len() > RULE_PARTS_MAX {
            check.fault(
                "claims",
                format!(
                    "has {} entries; at most {RULE_PARTS_MAX} are allowed",
                    message.claims.len()
                ),
            );
        }
        let mut claims = Vec::new();
        for (name, value) in message.claims {
            let place = format!("claims.{}", crate::name::printable(&name));
            if name.is_empty() {
                check.fault("claims", "has a claim without a name");
            } else if let Some(value) = check.leaf(&place, read_claim(value, true)) {
                claims.push((name.into(), value));
            }
        }
        check.finish(provider.map(|provider| Self { provider, claims }))
    }
}

fn read_claim(value: prost_types::Value, list_allowed: bool) -> Result<ClaimValue, String> {
    match value.kind {
        Some(ValueKind::StringValue(text)) if text.is_empty() => {
            Err("is blank; a claim cannot be asked to be empty".into())
        }
        Some(ValueKind::StringValue(text)) => Ok(ClaimValue::Text(text.into())),
        Some(ValueKind::NumberValue(number)) if number.is_finite() => Ok(ClaimValue::Number(number)),
        Some(ValueKind::BoolValue(truth)) => Ok(ClaimValue::Truth(truth)),
        Some(ValueKind::ListValue(list)) if list_allowed && !list.values.is_empty() => {
            let members: Result<_, _> = list
                .values
                .into_iter()
                .map(|member| read_claim(member, false))
                .collect();
            members.map(ClaimValue::List)
        }
        _ => Err("must be text, a number, true, false, or a list of these".into()),
    }
}
