//! What was expected against what was seen.

use serde_json::{Value, json};

use super::answer::{Answer, frames, from_base64, to_base64, values};
use super::backend::Seen;
use super::case::ErrorExpect;
use super::play::{Scene, text};

/// Largest body that is shown, in bytes.
const SHOWN_MAX: usize = 64 << 10;

/// One thing that is not as expected.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The key below `expect`: `status`, or `headers/allow`.
    pub key: String,
    /// What the file says.
    pub expected: Value,
    /// What came.
    pub seen: Value,
}

/// Compares an answer, and what the service saw, with what the case expects.
#[must_use]
pub fn judge(scene: &Scene<'_>, answer: &Answer, saw: &[Seen]) -> Vec<Difference> {
    // What gRPC-Web and Connect put into the body beside messages is taken out of it first.
    let answer = &answer.unfolded();
    let mut verdict = Verdict {
        scene,
        differences: Vec::new(),
    };
    verdict.request(saw);
    verdict.head(answer);
    verdict.body(answer);
    verdict.differences
}

struct Verdict<'v> {
    scene: &'v Scene<'v>,
    differences: Vec<Difference>,
}

impl Verdict<'_> {
    fn differ(&mut self, key: &str, expected: impl Into<Value>, seen: impl Into<Value>) {
        self.differences.push(Difference {
            key: key.to_owned(),
            expected: expected.into(),
            seen: seen.into(),
        });
    }

    fn same(&mut self, key: &str, expected: &Value, seen: &Value) {
        if !alike(expected, seen) {
            self.differ(key, expected.clone(), seen.clone());
        }
    }

    fn request(&mut self, saw: &[Seen]) {
        let case = self.scene.case;
        let scripted = case.is_scripted();
        let refused = !scripted && case.expect.status.is_some_and(|status| status >= 400);
        let expected = match &case.expect.seen {
            // Whether a call was opened before its stream went wrong is nobody's business.
            Some(expected) if expected == "any" => return,
            Some(expected) => expected.clone(),
            None if refused => json!("nothing"),
            None => return,
        };
        if saw.len() > 1 {
            self.differ("seen", "one call", format!("{} calls", saw.len()));
        }
        let Some(request) = saw.first() else {
            self.same("seen", &expected, &json!("nothing"));
            return;
        };
        let rpc = self.scene.rpc();
        let path = format!("/{}/{}", self.scene.group.grpc_name(), rpc.name);
        if request.target != path {
            self.differ("rpc", path, request.target.clone());
            return;
        }
        for (name, must) in [("content-type", "application/grpc"), ("te", "trailers")] {
            let values = values(&request.headers, name);
            if values.len() != 1 || !values.iter().all(|value| value.starts_with(must)) {
                self.differ(&format!("metadata/{name}"), must, values.join(", "));
            }
        }
        for (name, value) in &case.expect.metadata {
            let seen = joined(&values(&request.headers, name));
            let wanted = self.filled(value);
            self.same(&format!("metadata/{name}"), &wanted, &seen);
        }
        if expected == "nothing" {
            self.differ("seen", expected, self.shown(&request.body));
            return;
        }
        self.messages("seen", &expected, &request.body, &rpc.input, rpc.client_streaming);
    }

    /// The first message of a body, for people; of a large one only how large it is.
    fn shown(&self, body: &[u8]) -> Value {
        if body.len() > SHOWN_MAX {
            return json!(format!("{} bytes", body.len()));
        }
        let messages = frames(body).unwrap_or_default();
        let input = &self.scene.rpc().input;
        let first = messages
            .first()
            .map(|(_, bytes)| self.scene.oracle.show(input, bytes));
        first.unwrap_or_default()
    }

    fn messages(&mut self, key: &str, expected: &Value, body: &[u8], message: &str, several: bool) {
        let oracle = self.scene.oracle;
        let read = match frames(body) {
            Ok(read) if read.iter().all(|(flags, _)| *flags & 1 == 0) => read,
            _ => {
                self.differ(key, expected.clone(), json!({"$raw": to_base64(body)}));
                return;
            }
        };
        let wanted = match expected {
            Value::Array(wanted) if several => wanted.clone(),
            wanted => vec![wanted.clone()],
        };
        let alike = wanted.len() == read.len()
            && wanted
                .iter()
                .zip(&read)
                .all(|(wanted, (_, bytes))| oracle.compare(message, bytes, wanted).is_ok());
        if !alike {
            let mut shown = Vec::new();
            for (index, (_, bytes)) in read.iter().enumerate() {
                let wanted = wanted.get(index).cloned().unwrap_or_default();
                let other = oracle.compare(message, bytes, &wanted).err();
                shown.push(other.unwrap_or(wanted));
            }
            let shown = match (several, shown.as_slice()) {
                (false, [one]) => one.clone(),
                _ => Value::Array(shown),
            };
            self.differ(key, expected.clone(), shown);
        }
    }

    fn head(&mut self, answer: &Answer) {
        let expect = &self.scene.case.expect;
        if let Some(status) = expect.status
            && status != answer.status
        {
            self.differ("status", status, answer.status);
        }
        for (name, value) in &expect.headers {
            let seen = joined(&answer.all(name));
            let wanted = self.filled(value);
            self.same(&format!("headers/{name}"), &wanted, &seen);
        }
        for (name, value) in &expect.trailers {
            // An answer without a body has its trailers in its head.
            let mut found = values(&answer.trailers, name);
            if found.is_empty() && answer.body.is_empty() {
                found = answer.all(name);
            }
            let seen = joined(&found);
            let wanted = self.filled(value);
            self.same(&format!("trailers/{name}"), &wanted, &seen);
        }
        if (expect.json.is_some() || expect.error.is_some()) && !expect.headers.contains_key("content-type") {
            let seen = joined(&answer.all("content-type"));
            self.same("headers/content-type", &json!("application/json"), &seen);
        }
        if expect.broken != answer.broken.is_some() {
            let why = answer.broken.clone().map_or(Value::Bool(false), Value::String);
            self.differ("broken", expect.broken, why);
        }
    }

    fn body(&mut self, answer: &Answer) {
        let expect = &self.scene.case.expect;
        let parsed = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes);
        if let Some(json) = &expect.json {
            let seen = parsed(&answer.body).unwrap_or_else(|_| Value::String(answer.text()));
            let wanted = self.filled(json);
            self.same("json", &wanted, &seen);
        }
        if let Some(text) = &expect.text
            && text.as_bytes() != answer.body
        {
            self.differ("text", text.clone(), answer.text());
        }
        if let Some(text) = &expect.base64
            && from_base64(text).as_ref() != Ok(&answer.body)
        {
            self.differ("base64", text.clone(), to_base64(&answer.body));
        }
        if let Some(lines) = &expect.lines {
            let line = |line: &str| parsed(line.as_bytes()).unwrap_or_else(|_| json!({"$text": line}));
            let mut seen: Vec<Value> = answer.text().lines().map(line).collect();
            if !answer.body.is_empty() && !answer.body.ends_with(b"\n") {
                seen.push(json!("the last line does not end"));
            }
            self.same("lines", &Value::Array(lines.clone()), &Value::Array(seen));
        }
        if let Some(wanted) = &expect.end {
            let end = answer.end.as_deref().map(parsed);
            let seen = end.map_or(Value::Null, |end| {
                end.unwrap_or_else(|_| json!("the end is no JSON"))
            });
            self.same("end", wanted, &seen);
        }
        let output = &self.scene.rpc().output;
        if let Some(wanted) = &expect.frames {
            self.messages(
                "frames",
                &Value::Array(wanted.clone()),
                &answer.body,
                output,
                true,
            );
        }
        if let Some(wanted) = &expect.message
            && let Err(seen) = self.scene.oracle.compare(output, &answer.body, wanted)
        {
            self.differ("message", wanted.clone(), seen);
        }
        if let Some(error) = &expect.error {
            self.error(error, &answer.body);
        }
    }

    fn error(&mut self, wanted: &ErrorExpect, body: &[u8]) {
        let seen: Value = serde_json::from_slice(body).unwrap_or_default();
        if seen["code"] != wanted.code {
            self.differ("error/code", wanted.code, seen["code"].clone());
        }
        let message = seen["message"].as_str().unwrap_or_default();
        if message.is_empty() || !seen["details"].is_array() {
            self.differ("error", "code, message and details", seen.clone());
            return;
        }
        for word in &wanted.says {
            if !message.contains(word) {
                self.differ("error/says", word.clone(), message);
            }
        }
        let violations = seen["details"].as_array().into_iter().flatten();
        let violations: Vec<&Value> = violations
            .filter_map(|detail| detail["fieldViolations"].as_array())
            .flatten()
            .collect();
        if let Some(field) = &wanted.field {
            let fields: Vec<_> = violations
                .iter()
                .filter_map(|violation| violation["field"].as_str())
                .collect();
            if fields != [field.as_str()] {
                self.differ("error/field", field.clone(), fields.join(", "));
            }
        }
        if let Some(offset) = wanted.offset {
            let told = format!("byte {offset}");
            let of = |violation: &&Value| {
                violation["description"]
                    .as_str()
                    .is_some_and(|text| text.contains(&told))
            };
            if !violations.iter().any(of) {
                self.differ("error/offset", offset, seen["details"].clone());
            }
        }
    }

    /// Fills in what only the stage knows, everywhere in a value.
    fn filled(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.scene.fill(text)),
            Value::Array(items) => items.iter().map(|item| self.filled(item)).collect(),
            Value::Object(fields) if fields.contains_key("repeat") => Value::String(text(value)),
            Value::Object(fields) => {
                let filled = fields
                    .iter()
                    .map(|(name, value)| (name.clone(), self.filled(value)));
                Value::Object(filled.collect())
            }
            other => other.clone(),
        }
    }
}

/// Equal as JSON: `1` and `1.0` are one number.
#[must_use]
pub fn alike(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) if one.is_f64() || other.is_f64() => {
            one.as_f64() == other.as_f64()
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| alike(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .all(|(name, value)| other.get(name).is_some_and(|other| alike(value, other)))
        }
        _ => one == other,
    }
}

/// `null` for none, the text of one, a list of several.
fn joined(values: &[&str]) -> Value {
    match values {
        [] => Value::Null,
        [one] => json!(one),
        several => json!(several),
    }
}
