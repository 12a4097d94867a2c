//! Rules about what a request says: which fields they are about, and what those must be for one call.
//!
//! ```text
//!  rule + schema ─► by RPC: ways to fields                     once; a method without one of them is never matched
//!  token's claims ─► Conditions: what each field may be        per call, with the head
//!  message ─► Conditions::judge ─► the policy that allows it   once the request has been read
//! ```
//!
//! Fields are compared as text, as they would stand in a path, on the message that the service gets: whatever the caller
//! speaks, and wherever in its request it said so. A message that two readers might read differently matches nothing.

use std::collections::HashMap;
use std::sync::Arc;

use mesh_proto::domain::{AccessRule, FieldIs};
use mesh_transcode::{PlainRequest, RequestField};
use serde_json::{Map, Value};

use super::Messages;
use crate::gates::jwt::Verified;
use crate::reason::{Reason, Rejection};

/// The fields of one rule, by RPC.
pub(super) type Fields = HashMap<Arc<str>, Vec<RequestField>>;

/// Finds the fields of a rule in every method it is about. Methods that take a stream have no one message to look at. Nothing
/// while the schema is awaited.
pub(super) fn find(rule: &AccessRule, messages: Messages<'_>) -> Option<Fields> {
    let methods = match messages {
        _ if rule.fields.is_empty() => return Some(Fields::new()),
        Messages::Awaited => return None,
        Messages::None => return Some(Fields::new()),
        Messages::Of(schema) => schema.methods(),
    };
    let about = |rpc: &str| rule.methods.is_empty() || rule.methods.iter().any(|m| m.matches(Some(rpc)));
    let found = methods
        .filter(|method| !method.client_streaming() && about(method.name()))
        .filter_map(|method| {
            let fields = rule
                .fields
                .iter()
                .map(|one| RequestField::find(method, &one.field));
            Some((method.shared_name(), fields.collect::<Result<_, _>>().ok()?))
        });
    Some(found.collect())
}

/// What the request has to say for a call to be allowed.
#[derive(Debug)]
pub struct Conditions {
    any: Vec<Condition>,
    otherwise: Rejection,
}

/// What one rule asks of the request.
#[derive(Debug)]
pub(super) struct Condition {
    policy: Arc<str>,
    fields: Vec<(RequestField, Vec<Arc<str>>)>,
}

impl Condition {
    /// What a rule asks, given the token; nothing where no request could fulfil it.
    pub(super) fn of(
        policy: &Arc<str>,
        rule: &AccessRule,
        found: &[RequestField],
        token: Option<&Verified>,
    ) -> Option<Self> {
        let wanted = rule.fields.iter().map(|field| match &field.is {
            FieldIs::OneOf(values) => values.clone(),
            FieldIs::Claim(name) => token.map_or_else(Vec::new, |token| texts(name, &token.claims)),
        });
        let fields: Vec<_> = found.iter().cloned().zip(wanted).collect();
        let possible = fields.iter().all(|(_, wanted)| !wanted.is_empty());
        possible.then(|| Self {
            policy: policy.clone(),
            fields,
        })
    }

    fn holds<'s>(&'s self, said: &mut Said<'s, '_>) -> bool {
        self.fields.iter().all(|(field, wanted)| {
            let said = said.of(field).filter(|said| !said.is_empty());
            said.is_some_and(|said| wanted.iter().any(|wanted| **wanted == *said))
        })
    }
}

/// What a request says in the fields that were asked for so far: each is looked for once.
struct Said<'s, 'm> {
    request: PlainRequest<'m>,
    known: HashMap<&'s str, Option<String>>,
}

impl<'s> Said<'s, '_> {
    fn of(&mut self, field: &'s RequestField) -> Option<&str> {
        let request = self.request;
        let said = self
            .known
            .entry(field.way())
            .or_insert_with(|| field.text(request));
        said.as_deref()
    }
}

impl Conditions {
    /// Any of these; `otherwise` is the answer where none holds.
    pub(super) fn new(any: Vec<Condition>, otherwise: Rejection) -> Self {
        Self { any, otherwise }
    }

    /// Judges the message of a request.
    ///
    /// # Errors
    /// No rule allows it, or it is written in a way that the service may read differently.
    pub fn judge(self, message: &[u8]) -> Result<Arc<str>, Rejection> {
        let mut fields = self.any.iter().flat_map(|condition| &condition.fields);
        let request = fields.next().and_then(|(field, _)| field.plain(message));
        let Some(request) = request else {
            return Err(self.refuse_for("the request is not written as encoders write it"));
        };
        let known = HashMap::new();
        let mut said = Said { request, known };
        let holds = self.any.iter().find(|condition| condition.holds(&mut said));
        holds
            .map(|condition| condition.policy.clone())
            .ok_or_else(|| self.refuse())
    }

    /// The answer where the message cannot be looked at.
    #[must_use]
    pub fn refuse(&self) -> Rejection {
        let policies: Vec<_> = self.any.iter().map(|condition| &*condition.policy).collect();
        let policies = policies.join(", ");
        self.refuse_for(&format!("the fields of the request are not those of {policies}"))
    }

    fn refuse_for(&self, why: &str) -> Rejection {
        let mut rejection = self.otherwise.clone();
        if rejection.reason == Reason::AccessDenied {
            rejection.message.push_str(" with what this request says");
        }
        let detail = match &rejection.detail {
            Some(before) => format!("{before}; {why}"),
            None => why.to_owned(),
        };
        rejection.with_detail(detail)
    }
}

/// What a claim says, as texts. `scope` is a list of words in one string (RFC 8693 4.2).
fn texts(name: &str, claims: &Map<String, Value>) -> Vec<Arc<str>> {
    match claims.get(name) {
        Some(Value::String(scope)) if name == "scope" => scope
            .split(' ')
            .filter(|word| !word.is_empty())
            .map(Into::into)
            .collect(),
        Some(Value::Array(members)) => members.iter().filter_map(text).collect(),
        Some(value) => text(value).into_iter().collect(),
        None => Vec::new(),
    }
}

/// A claim that is one value.
fn text(value: &Value) -> Option<Arc<str>> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.as_str().into()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string().into()),
        Value::Bool(truth) => Some(if *truth { "true" } else { "false" }.into()),
        _ => None,
    }
}
