//! The other way round: a gRPC caller says what the service saw, and a REST service must see what was asked.
//!
//! ```text
//!  expect.seen ─► gRPC ─► sidecar ─► HTTP/JSON ─► must be `ask` and `json`
//!  must be `reply` ◄─ gRPC ◄─ sidecar ◄─ HTTP/JSON ◄─ expect.status, expect.json
//! ```
//!
//! One request has many spellings: queries are compared without their order and by either name of a field, paths by what
//! their segments mean, bodies as JSON.

use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::{Answer, frame, frames, values};
use super::backend::{CASE, Script, Seen, Then};
use super::caller::Ask;
use super::judge::{Difference, alike};
use super::play::{Scene, pairs};

impl Scene<'_> {
    /// Plays it in reverse: the name its request had, and the answer.
    ///
    /// # Errors
    /// The case itself is wrong.
    pub async fn perform_in_reverse(&self) -> Result<(String, Answer), String> {
        let name = format!("{}/{}/reverse", self.address, self.case.name());
        self.backend.plays(&name, self.rest_script());
        let say = self.case.reverse.say.as_ref().or(self.case.expect.seen.as_ref());
        let message = self.oracle.encode(&self.rpc().input, say.unwrap_or(&json!({})))?;
        let mut headers = vec![
            (CASE.to_owned(), name.clone()),
            ("content-type".into(), "application/grpc".into()),
            ("te".into(), "trailers".into()),
        ];
        headers.extend(pairs(&self.case.reverse.metadata));
        let ask = Ask {
            method: "POST".into(),
            target: format!("/{}/{}", self.group.grpc_name(), self.rpc().name),
            headers,
            body: Some(frame(0, &message)),
            ..Ask::default()
        };
        let answer = ask.http2(self.address).await;
        Ok((name, answer.ok_or("cannot be said in HTTP/2")?))
    }

    /// What the REST service answers.
    fn rest_script(&self) -> Script {
        let case = self.case;
        let mut headers = Vec::new();
        let (status, body) = match &case.reverse.answer {
            Some(raw) => {
                headers.extend(pairs(&raw.headers));
                (raw.status, raw.body.clone())
            }
            None => {
                headers.push(("content-type".to_owned(), "application/json".to_owned()));
                let json = case.expect.json.as_ref().map(Value::to_string);
                (
                    case.expect.status.unwrap_or(200),
                    json.unwrap_or_else(|| "{}".into()),
                )
            }
        };
        Script {
            status,
            headers,
            pieces: vec![Bytes::from(body)],
            then: if case.reset { Then::Reset } else { Then::End },
            ..Script::default()
        }
    }

    fn expected_request(&self) -> (String, String) {
        let ask = self.case.reverse.ask.as_deref().unwrap_or(&self.case.ask);
        let (method, target) = ask.split_once(' ').unwrap_or((ask, ""));
        (method.to_owned(), format!("{}{target}", self.group.mount()))
    }
}

/// Compares what the REST service saw, and what the gRPC caller got, with what the case expects.
#[must_use]
pub fn judge_reverse(scene: &Scene<'_>, answer: &Answer, saw: &[Seen]) -> Vec<Difference> {
    let case = scene.case;
    let mut differences = Vec::new();
    let mut same = |key: &str, expected: Value, seen: Value| {
        if !alike(&expected, &seen) {
            differences.push(Difference {
                key: key.to_owned(),
                expected,
                seen,
            });
        }
    };
    match saw {
        _ if case.reverse.unsaid => same("calls", json!(0), json!(saw.len())),
        [seen] => {
            let (method, target) = scene.expected_request();
            same("reverse/method", json!(method), json!(seen.method));
            same("reverse/target", meaning(&target), meaning(&seen.target));
            let body: Value = serde_json::from_slice(&seen.body).unwrap_or(Value::Null);
            let expected = case.reverse.json.clone().or_else(|| case.json.clone());
            let expected = expected.or_else(|| {
                case.body
                    .as_deref()
                    .and_then(|text| serde_json::from_str(text).ok())
            });
            same("reverse/json", expected.clone().unwrap_or_default(), body);
            let content_type = values(&seen.headers, "content-type").join(", ");
            let wanted = if expected.is_some() {
                "application/json"
            } else {
                ""
            };
            same("reverse/content-type", json!(wanted), json!(content_type));
            // How long there is left is for everybody to know.
            let of_grpc = |name: &str| name == "te" || (name.starts_with("grpc-") && name != "grpc-timeout");
            let grpc: Vec<_> = seen.headers.iter().filter(|(name, _)| of_grpc(name)).collect();
            same("reverse/grpc headers", json!([]), json!(grpc));
        }
        several => same("calls", json!(1), json!(several.len())),
    }
    let code = case.reverse.code.unwrap_or(0).to_string();
    let mut status = values(&answer.trailers, "grpc-status");
    if status.is_empty() {
        status = answer.all("grpc-status");
    }
    same("reverse/status", json!([code]), json!(status));
    if code == "0" {
        same("reverse/reply", expected_reply(scene), reply(scene, answer));
    }
    differences
}

fn expected_reply(scene: &Scene<'_>) -> Value {
    let case = scene.case;
    let one = case.reverse.reply.clone().or_else(|| case.reply.clone());
    let all = case
        .replies
        .clone()
        .unwrap_or_else(|| vec![one.unwrap_or_else(|| json!({}))]);
    // As the oracle tells them: equal messages then are equal JSON.
    let output = &scene.rpc().output;
    let told = |json: &Value| match scene.oracle.encode(output, json) {
        Ok(bytes) => scene.oracle.show(output, &bytes),
        Err(why) => json!(why),
    };
    all.iter().map(told).collect()
}

fn reply(scene: &Scene<'_>, answer: &Answer) -> Value {
    match frames(&answer.body) {
        Ok(messages) => messages
            .iter()
            .map(|(_, bytes)| scene.oracle.show(&scene.rpc().output, bytes))
            .collect(),
        Err(why) => json!(why),
    }
}

/// What a target means: its segments, and its parameters in one order and spelling.
fn meaning(target: &str) -> Value {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let segments: Vec<String> = path.split('/').map(decoded).collect();
    let pieces = query.split('&').filter(|piece| !piece.is_empty());
    let mut parameters: Vec<(String, String)> = pieces
        .map(|piece| {
            let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
            let name = decoded(name).replace('_', "").to_ascii_lowercase();
            (name, decoded(&value.replace('+', " ")))
        })
        .collect();
    // The order of one parameter's values counts.
    parameters.sort_by(|one, other| one.0.cmp(&other.0));
    json!([segments, parameters])
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let pair = bytes
            .get(at + 1..at + 3)
            .and_then(|pair| std::str::from_utf8(pair).ok());
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) if bytes[at] == b'%' => {
                out.push(byte);
                at += 3;
            }
            _ => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
