//! One case, played: its request is made, the service does what the script says, and both are judged.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::answer::{Answer, frame, from_base64};
use super::backend::{Backend, CASE, Script, Then};
use super::caller::Ask;
use super::case::{Case, End};
use super::oracle::Oracle;
use super::schema::{Group, Rpc};

/// What is needed to play a case.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'s> {
    /// The case.
    pub case: &'s Case,
    /// Its service.
    pub group: &'s Group,
    /// Who reads messages.
    pub oracle: &'s Oracle,
    /// Who plays the service.
    pub backend: &'s Backend,
    /// Where to ask, `host:port`.
    pub address: &'s str,
}

/// Versions of HTTP a case is played over.
pub const VERSIONS: [u8; 2] = [1, 2];

impl Scene<'_> {
    /// Plays it over one version of HTTP: the name its request had, and the answer; `None` where it cannot be said in it.
    ///
    /// # Errors
    /// The case itself is wrong.
    pub async fn perform(&self, version: u8) -> Result<Option<(String, Answer)>, String> {
        if self.case.http.is_some_and(|only| only != version) {
            return Ok(None);
        }
        let name = format!("{}/{}/{version}", self.address, self.case.name());
        self.backend.plays(&name, self.script()?);
        let ask = self.ask(&name)?;
        let answer = match version {
            1 => Some(ask.http1(self.address).await),
            _ => ask.http2(self.address).await,
        };
        Ok(answer.map(|answer| (name, answer)))
    }

    /// The RPC the case is about.
    #[must_use]
    pub fn rpc(&self) -> &Rpc {
        let named = self.case.expect.rpc.as_deref();
        named.map_or_else(|| self.group.rpc(None), |name| self.group.rpc(Some(name)))
    }

    /// Fills in what only the stage knows.
    #[must_use]
    pub fn fill(&self, text: &str) -> String {
        text.replace("$SERVICE", &self.group.grpc_name())
            .replace("$MOUNT", &self.group.mount())
    }

    fn ask(&self, name: &str) -> Result<Ask, String> {
        let case = self.case;
        let (method, target) = case.line();
        let target = match target {
            "/" if self.group.mounted => self.group.mount(),
            target if target.starts_with("/$SERVICE") || !target.starts_with('/') => self.fill(target),
            target => format!("{}{}", self.group.mount(), self.fill(target)),
        };
        let mut headers = vec![(CASE.to_owned(), name.to_owned())];
        let has_type = case
            .headers
            .keys()
            .any(|name| name.eq_ignore_ascii_case("content-type"));
        if case.json.is_some() && !has_type {
            headers.push(("content-type".into(), "application/json".into()));
        }
        headers.extend(pairs(&case.headers).map(|(name, value)| (name, self.fill(&value))));
        let expected = case.expect.text.as_ref().map(String::len);
        Ok(Ask {
            method: method.to_owned(),
            target,
            headers,
            body: self.body()?,
            chunks: case.chunks,
            enough: expected.filter(|_| case.hold),
        })
    }

    fn body(&self) -> Result<Option<Vec<u8>>, String> {
        let case = self.case;
        let input = &self.rpc().input;
        if let Some(json) = &case.json {
            return Ok(Some(json.to_string().into_bytes()));
        }
        if let Some(text) = &case.body {
            return Ok(Some(text.clone().into_bytes()));
        }
        if let Some(text) = &case.base64 {
            return from_base64(text).map(Some);
        }
        if let Some(messages) = &case.frames {
            return self.frames(input, messages).map(|pieces| Some(pieces.concat()));
        }
        if let Some(message) = &case.message {
            return self.oracle.encode(input, message).map(Some);
        }
        let pieces = case.pieces.iter().flatten();
        Ok(case.pieces.as_ref().map(|_| {
            pieces
                .flat_map(|piece| piece.text.repeat(piece.times).into_bytes())
                .collect()
        }))
    }

    fn frames(&self, message: &str, messages: &[Value]) -> Result<Vec<Vec<u8>>, String> {
        let framed = |json: &Value| {
            // Bytes for what no frame of ours would be.
            if let Some(raw) = json.get("$raw").and_then(Value::as_str) {
                return from_base64(raw);
            }
            let flags = json
                .get("$flags")
                .and_then(Value::as_u64)
                .and_then(|flags| u8::try_from(flags).ok());
            let mut json = json.clone();
            json.as_object_mut().and_then(|fields| fields.remove("$flags"));
            Ok(frame(flags.unwrap_or(0), &self.oracle.encode(message, &json)?))
        };
        messages.iter().map(framed).collect()
    }

    /// What the service is told to do.
    fn script(&self) -> Result<Script, String> {
        let case = self.case;
        if let Some(raw) = &case.answer {
            return Ok(Script {
                status: raw.status,
                headers: pairs(&raw.headers).collect(),
                pieces: vec![Bytes::from(raw.body.clone())],
                ..Script::default()
            });
        }
        let rpc = self.rpc();
        let end = case.end.clone().unwrap_or_default();
        let mut pieces: Vec<Vec<u8>> = match (&case.reply, &case.replies) {
            (Some(reply), _) => self.frames(&rpc.output, std::slice::from_ref(reply))?,
            (None, Some(replies)) => self.frames(&rpc.output, replies)?,
            (None, None) if self.says_nothing(rpc, &end) => Vec::new(),
            (None, None) => vec![frame(0, &[])],
        };
        for message in case.reply_bytes.iter().flatten() {
            pieces.push(frame(0, &from_base64(message)?));
        }
        if let Some(raw) = &case.reply_raw {
            pieces = vec![from_base64(raw)?];
        }
        let mut headers = vec![("content-type".to_owned(), "application/grpc".to_owned())];
        // What the script says of its own type counts.
        headers.retain(|(name, _)| !case.head.contains_key(name));
        headers.extend(pairs(&case.head));
        let mut trailers = self.status(&end)?;
        trailers.extend(pairs(&case.trailers));
        let only = end.only && pieces.is_empty();
        if only {
            headers.append(&mut trailers);
        }
        Ok(Script {
            status: 200,
            headers,
            pieces: pieces.into_iter().map(Bytes::from).collect(),
            trailers: (!only).then_some(trailers),
            then: match (case.hold, case.reset) {
                (true, _) => Then::Hold,
                (_, true) => Then::Reset,
                _ => Then::End,
            },
        })
    }

    fn says_nothing(&self, rpc: &Rpc, end: &End) -> bool {
        let case = self.case;
        rpc.server_streaming || case.reply_bytes.is_some() || case.reset || end.code != 0 || end.raw.is_some()
    }

    fn status(&self, end: &End) -> Result<Vec<(String, String)>, String> {
        if let Some(raw) = &end.raw {
            return Ok(pairs(raw).collect());
        }
        let mut trailers = vec![("grpc-status".to_owned(), end.code.to_string())];
        if !end.message.is_empty() {
            trailers.push(("grpc-message".into(), percent_encode(&end.message)));
        }
        if !end.details.is_empty() {
            let status = json!({"code": end.code, "message": end.message});
            let mut bytes = self.oracle.encode("google.rpc.Status", &status)?;
            // Details go in as bytes, as field 3: their types need not be known to anybody.
            for detail in &end.details {
                let any = self.any(detail)?;
                bytes.push(3 << 3 | 2);
                prost::encoding::encode_varint(any.len() as u64, &mut bytes);
                bytes.extend(any);
            }
            let text = super::answer::to_base64(&bytes);
            trailers.push((
                "grpc-status-details-bin".into(),
                text.trim_end_matches('=').to_owned(),
            ));
        }
        Ok(trailers)
    }

    /// The bytes of a `google.protobuf.Any`.
    fn any(&self, detail: &Value) -> Result<Vec<u8>, String> {
        let mut fields: Map<String, Value> = detail.as_object().cloned().unwrap_or_default();
        let url = fields
            .remove("@type")
            .and_then(|url| url.as_str().map(str::to_owned))
            .unwrap_or_default();
        let name = url.rsplit('/').next().unwrap_or_default().to_owned();
        let value = match fields.remove("$value") {
            Some(bytes) => from_base64(bytes.as_str().unwrap_or_default())?,
            None => self.oracle.encode(&name, &Value::Object(fields))?,
        };
        let any = prost_types::Any { type_url: url, value };
        Ok(prost::Message::encode_to_vec(&any))
    }
}

/// Header lines of a map whose values are texts, or lists of them.
pub fn pairs(map: &std::collections::BTreeMap<String, Value>) -> impl Iterator<Item = (String, String)> {
    let lines = map.iter().flat_map(|(name, value)| {
        let values = match value {
            Value::Array(values) => values.clone(),
            value => vec![value.clone()],
        };
        values.into_iter().map(move |value| (name.clone(), text(&value)))
    });
    lines.collect::<Vec<_>>().into_iter()
}

/// A value as a header's text; `{repeat, times}` is a long one.
#[must_use]
pub fn text(value: &Value) -> String {
    match (value, value.get("repeat"), value.get("times")) {
        (Value::String(text), _, _) => text.clone(),
        (_, Some(Value::String(text)), Some(times)) => text.repeat(
            times
                .as_u64()
                .and_then(|times| usize::try_from(times).ok())
                .unwrap_or(0),
        ),
        _ => value.to_string(),
    }
}

/// As gRPC writes `grpc-message`.
fn percent_encode(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b' '..=b'$' | b'&'..=b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}
