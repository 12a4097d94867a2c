//! The configuration as it was typed: every known place with its value, from the file and the environment. No meaning yet.

use std::collections::{BTreeMap, BTreeSet};

use mesh_proto::fault::{Check, Faults};
use serde_json::Value;

use super::ENVIRONMENT_PREFIX;

/// What a place holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Number,
    Truth,
    Texts,
    Exposed,
}

/// Every place there is. Unknown keys, environment names and the shapes of values are all judged by this one table.
const PLACES: &[(&str, Form)] = &[
    ("node.service", Form::Text),
    ("node.id", Form::Text),
    ("node.address", Form::Text),
    ("node.locality.region", Form::Text),
    ("node.locality.zone", Form::Text),
    ("node.locality.subZone", Form::Text),
    ("control.servers", Form::Texts),
    ("control.ca", Form::Text),
    ("control.joinToken.file", Form::Text),
    ("control.trustDomain", Form::Text),
    ("resources.file", Form::Text),
    ("tls.certificate", Form::Text),
    ("tls.key", Form::Text),
    ("tls.ca", Form::Text),
    ("stateDir", Form::Text),
    ("inbound.listen", Form::Text),
    ("inbound.app", Form::Text),
    ("inbound.plaintext", Form::Truth),
    ("outbound.listen", Form::Text),
    ("edge.listen", Form::Text),
    ("edge.tls.certificate", Form::Text),
    ("edge.tls.key", Form::Text),
    ("edge.expose", Form::Exposed),
    ("edge.openapi.path", Form::Text),
    ("edge.cors.origins", Form::Texts),
    ("edge.cors.headers", Form::Texts),
    ("edge.cors.expose", Form::Texts),
    ("edge.cors.credentials", Form::Truth),
    ("edge.cors.maxAge", Form::Text),
    ("dependencies", Form::Texts),
    ("admin.listen", Form::Text),
    ("metrics.listen", Form::Text),
    ("threads", Form::Number),
    ("accessLog", Form::Text),
    ("drain.readinessOff", Form::Text),
    ("drain.deadline", Form::Text),
];

/// Under the prefix, but for the command line and not for the file.
const RESERVED: [&str; 3] = ["CONFIG", "LOG", "LOG_FILTER"];

/// One value and where it was written.
#[derive(Debug, Clone)]
pub(super) struct Leaf {
    /// `inbound.listen`, or the name of the environment variable.
    pub place: String,
    pub value: Typed,
}

/// A value of the shape its place asks for.
#[derive(Debug, Clone)]
pub(super) enum Typed {
    Text(String),
    Number(u64),
    Truth(bool),
    Texts(Vec<String>),
    Exposed(Vec<RawExposed>),
}

/// One entry of `edge.expose`.
#[derive(Debug, Clone, Default)]
pub(super) struct RawExposed {
    pub service: String,
    pub prefix: Option<String>,
}

/// All that was typed.
#[derive(Debug, Default)]
pub(super) struct Raw {
    pub leaves: BTreeMap<&'static str, Leaf>,
    /// Sections that were written, even if they are empty.
    pub sections: BTreeSet<String>,
    /// Places that hold something of the wrong shape, which has been told.
    pub refused: BTreeSet<&'static str>,
}

impl Raw {
    /// Takes a parsed file apart.
    pub(super) fn from_file(value: &Value, check: &mut Check) -> Self {
        let mut raw = Self::default();
        raw.section("", value, check);
        raw
    }

    fn section(&mut self, place: &str, value: &Value, check: &mut Check) {
        let known = children(place);
        self.sections.insert(place.to_owned());
        let Value::Object(entries) = value else {
            let known = known.into_iter().collect::<Vec<_>>().join(", ");
            check.fault(place, format!("must hold settings ({known})"));
            let below = PLACES
                .iter()
                .filter(|(name, _)| name.starts_with(&format!("{place}.")));
            self.refused.extend(below.map(|(name, _)| *name));
            return;
        };
        for (key, value) in entries {
            let here = if place.is_empty() {
                key.clone()
            } else {
                format!("{place}.{key}")
            };
            if let Some((name, form)) = PLACES.iter().find(|(name, _)| *name == here) {
                let value = check.part(&here, typed(*form, value));
                self.take(name, here, value);
            } else if known.contains(key.as_str()) {
                self.section(&here, value, check);
            } else {
                let known = known.iter().copied().collect::<Vec<_>>().join(", ");
                check.fault(here, format!("is not a setting; known here: {known}"));
            }
        }
    }

    /// Lays the environment over it.
    pub(super) fn override_with(
        &mut self,
        environment: impl IntoIterator<Item = (String, String)>,
        check: &mut Check,
    ) {
        for (variable, text) in environment {
            let Some(name) = variable.strip_prefix(ENVIRONMENT_PREFIX) else {
                continue;
            };
            if RESERVED.contains(&name) {
                continue;
            }
            let Some((place, form)) = PLACES.iter().find(|(place, _)| variable_name(place) == name) else {
                check.fault(&*variable, unknown_variable(name));
                continue;
            };
            let value = check.part(&variable, typed_text(*form, &text));
            self.take(place, variable, value);
            for (end, _) in place.match_indices('.') {
                self.sections.insert(place[..end].to_owned());
            }
        }
    }

    fn take(&mut self, name: &'static str, place: String, value: Option<Typed>) {
        match value {
            Some(value) => drop(self.leaves.insert(name, Leaf { place, value })),
            None => drop(self.refused.insert(name)),
        }
    }
}

/// The keys that may stand in a section.
fn children(section: &str) -> BTreeSet<&'static str> {
    PLACES
        .iter()
        .filter_map(|(place, _)| match section {
            "" => Some(*place),
            _ => place.strip_prefix(section)?.strip_prefix('.'),
        })
        .map(|rest| rest.split('.').next().unwrap_or(rest))
        .collect()
}

fn typed(form: Form, value: &Value) -> Result<Typed, Faults> {
    let fail = |wanted: &str| Err(Faults::one("", format!("must be {wanted}")));
    match (form, value) {
        (_, Value::Null) => Err(Faults::one("", "is blank; write a value or leave the key out")),
        (Form::Text, Value::String(text)) => Ok(Typed::Text(text.clone())),
        (Form::Text, Value::Number(number)) => Ok(Typed::Text(number.to_string())),
        (Form::Text, _) => fail("text"),
        (Form::Number, value) => value.as_u64().map_or_else(
            || fail("a whole number that is not negative"),
            |n| Ok(Typed::Number(n)),
        ),
        (Form::Truth, Value::Bool(truth)) => Ok(Typed::Truth(*truth)),
        (Form::Truth, _) => fail("true or false"),
        (Form::Texts, Value::Array(entries)) => {
            let texts: Option<Vec<String>> = entries
                .iter()
                .map(|entry| entry.as_str().map(str::to_owned))
                .collect();
            texts.map_or_else(|| fail("a list of texts"), |texts| Ok(Typed::Texts(texts)))
        }
        (Form::Texts, _) => fail("a list, such as [a, b]"),
        (Form::Exposed, Value::Array(entries)) => {
            let mut check = Check::default();
            let mut exposed = Vec::new();
            for (index, entry) in entries.iter().enumerate() {
                exposed.extend(check.part(&format!("[{index}]"), read_exposed(entry)));
            }
            check.finish(Some(Typed::Exposed(exposed)))
        }
        (Form::Exposed, _) => fail("a list, such as [{service: market.quotes}]"),
    }
}

fn read_exposed(value: &Value) -> Result<RawExposed, Faults> {
    let Value::Object(entries) = value else {
        return Err(Faults::one("", "must hold settings (service, prefix)"));
    };
    let mut check = Check::default();
    let mut exposed = RawExposed::default();
    for (key, value) in entries {
        match (key.as_str(), value) {
            ("service", Value::String(text)) => exposed.service.clone_from(text),
            ("prefix", Value::String(text)) => exposed.prefix = Some(text.clone()),
            ("service" | "prefix", _) => check.fault(key, "must be text"),
            _ => check.fault(key, "is not a setting; known here: prefix, service"),
        }
    }
    check.finish(Some(exposed))
}

fn typed_text(form: Form, text: &str) -> Result<Typed, Faults> {
    let list = || text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    match form {
        Form::Text => Ok(Typed::Text(text.to_owned())),
        Form::Number => text
            .parse()
            .map(Typed::Number)
            .map_err(|_| Faults::one("", format!("{text:?} is not a whole number that is not negative"))),
        Form::Truth => text
            .parse()
            .map(Typed::Truth)
            .map_err(|_| Faults::one("", format!("{text:?} is neither true nor false"))),
        Form::Texts => Ok(Typed::Texts(list().map(str::to_owned).collect())),
        // `market.quotes,web.portfolio=/portfolio`
        Form::Exposed => Ok(Typed::Exposed(
            list()
                .map(|entry| match entry.split_once('=') {
                    Some((service, prefix)) => RawExposed {
                        service: service.to_owned(),
                        prefix: Some(prefix.to_owned()),
                    },
                    None => RawExposed {
                        service: entry.to_owned(),
                        prefix: None,
                    },
                })
                .collect(),
        )),
    }
}

/// `control.joinToken.file` is overridden by `CONTROL__JOIN_TOKEN__FILE`.
fn variable_name(place: &str) -> String {
    let mut name = String::new();
    for c in place.chars() {
        match c {
            '.' => name.push_str("__"),
            c if c.is_ascii_uppercase() => {
                name.push('_');
                name.push(c);
            }
            c => name.push(c.to_ascii_uppercase()),
        }
    }
    name
}

fn unknown_variable(name: &str) -> String {
    let section = name.split("__").next().unwrap_or(name);
    let mut near: Vec<String> = PLACES.iter().map(|(place, _)| variable_name(place)).collect();
    if near.iter().any(|other| other.split("__").next() == Some(section)) {
        near.retain(|other| other.split("__").next() == Some(section));
    }
    let near: Vec<String> = near
        .iter()
        .map(|name| format!("{ENVIRONMENT_PREFIX}{name}"))
        .collect();
    format!("overrides nothing; known are {}", near.join(", "))
}
