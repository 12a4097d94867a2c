//! Whether rules of policies about fields are about anything: what they name must be in the schema.

use std::sync::Arc;

use mesh_proto::Faults;
use mesh_proto::domain::{AccessRule, MethodMatch};
use mesh_proto::fault::Check;

use crate::{Method, RequestField, Schema};

/// Looks for the fields of rules in the methods they are about. A rule is never matched by a method without them.
///
/// # Errors
/// What was not found, by its place in the policy: `spec.allow[0].fields.tenant`.
pub fn check(rules: &[AccessRule], schema: &Schema) -> Result<(), Faults> {
    let mut check = Check::default();
    for (index, rule) in rules.iter().enumerate() {
        let any = [MethodMatch::Any];
        let about = if rule.methods.is_empty() {
            &any[..]
        } else {
            &rule.methods
        };
        for one in &rule.fields {
            let misses = about.iter().filter_map(|about| miss(about, &one.field, schema));
            let place = format!("spec.allow[{index}].fields.{}", one.field);
            misses.for_each(|why| check.fault(&*place, why));
        }
    }
    check.finish(Some(()))
}

/// Why there is nothing that a rule about these methods could look at.
fn miss(about: &MethodMatch, field: &str, schema: &Schema) -> Option<String> {
    let mut first = None;
    for method in schema
        .methods()
        .filter(|method| about.matches(Some(method.name())))
    {
        match found(method, field) {
            Ok(()) => return None,
            Err(why) => drop(first.get_or_insert_with(|| format!("{}: {why}", method.name()))),
        }
    }
    Some(match (about, first) {
        (MethodMatch::Method(_), Some(why)) => why,
        (MethodMatch::Method(name), None) => format!("the schema has no method {name}"),
        (MethodMatch::Service(name), _) => {
            format!("no method of {name} takes one message with a field {field}")
        }
        (MethodMatch::Any, _) => format!("no method takes one message with a field {field}"),
    })
}

fn found(method: &Arc<Method>, field: &str) -> Result<(), String> {
    if method.client_streaming() {
        return Err("takes a stream, of which no one message says what it is about".into());
    }
    RequestField::find(method, field).map(|_| ())
}
