//! A recognised call's request and response: path, body and query into one message, and a message into JSON.
//!
//! Each field has one source: those of the path come from the path, those of `body` from the body, the rest from the
//! query. A second source may only repeat what the path says.

use prost::Message;
use prost_reflect::DynamicMessage;

use crate::json::{self, Bound, Reader, leaf, set};
use crate::schema::Body;
use crate::{Match, Options, Refusal, query};

impl<T> Match<T> {
    /// The request message, as protobuf. `query` is raw, without the question mark; `content_type` the header,
    /// several joined by commas; `body` the whole body, decompressed.
    ///
    /// # Errors
    /// 400, 413 or 415 with the field and the place in the body where they are known; 501 for methods whose caller
    /// streams.
    pub fn request(
        &self,
        query: &str,
        content_type: Option<&str>,
        body: &[u8],
        options: &Options,
    ) -> Result<Vec<u8>, Refusal> {
        if self.method.client_streaming() {
            let why = format!(
                "{} takes a stream, which is not offered over HTTP/JSON yet",
                self.method.name()
            );
            return Err(Refusal::unimplemented(why));
        }
        if body.len() > options.limits.message_bytes {
            return Err(Refusal::too_large(options.limits.message_bytes));
        }
        let bound = self.bound()?;
        let mut message = self.body(content_type, body, &bound, options)?;
        for (bound, variable) in bound.iter().zip(&self.rule.variables) {
            fill_bound(&mut message, bound).map_err(|refusal| refusal.at_field(&variable.name))?;
        }
        query::fill(&mut message, query, &bound, &self.rule.body, options)?;
        let encoded = message.encode_to_vec();
        if encoded.len() > options.limits.message_bytes {
            return Err(Refusal::too_large(options.limits.message_bytes));
        }
        Ok(encoded)
    }

    /// One response message as JSON, on one line; only the `response_body` where the rule names one.
    ///
    /// # Errors
    /// 500: the message is over a limit, is not what the schema says, or holds what JSON cannot say.
    pub fn response(&self, message: &[u8], options: &Options) -> Result<Vec<u8>, Refusal> {
        let bytes_max = options.limits.message_bytes;
        if message.len() > bytes_max {
            return Err(Refusal::bad_reply(format!("the reply is over {bytes_max} bytes")));
        }
        let message = DynamicMessage::decode(self.method.output.clone(), message)
            .map_err(|_| Refusal::bad_reply("the reply is not the message the schema says"))?;
        let written = match &self.rule.response_body {
            None => json::write_message(&message, &options.limits),
            Some(field) => json::write_field(&message, field, &options.limits),
        };
        written.map_err(|why| Refusal::bad_reply(format!("the reply has no JSON form: {why}")))
    }

    /// The path's values, in the types of their fields.
    fn bound(&self) -> Result<Vec<Bound>, Refusal> {
        let mut bound = Vec::with_capacity(self.values.len());
        for (variable, text) in self.rule.variables.iter().zip(&self.values) {
            let Some(field) = variable.fields.last() else {
                continue;
            };
            let value = leaf::from_text(&field.kind(), text)
                .map_err(|why| Refusal::bad_request(why).at_field(&variable.name))?;
            bound.push(Bound {
                fields: variable.fields.clone(),
                value,
            });
        }
        Ok(bound)
    }

    fn body(
        &self,
        content_type: Option<&str>,
        body: &[u8],
        bound: &[Bound],
        options: &Options,
    ) -> Result<DynamicMessage, Refusal> {
        let mut message = DynamicMessage::new(self.method.input.clone());
        if body.is_empty() {
            return Ok(message);
        }
        if matches!(self.rule.body, Body::None) {
            return Err(Refusal::bad_request("this method takes no body"));
        }
        if !content_type.is_none_or(is_json) {
            return Err(Refusal::unsupported_media_type());
        }
        let reader = Reader::new(body, options, bound)?;
        match &self.rule.body {
            Body::None => {}
            Body::Whole => message = reader.whole(&self.method.input)?,
            Body::Field(field) => reader.into_field(&mut message, field)?,
        }
        Ok(message)
    }
}

fn fill_bound(message: &mut DynamicMessage, bound: &Bound) -> Result<(), Refusal> {
    let Some((last, parents)) = bound.fields.split_last() else {
        return Ok(());
    };
    let message = query::enter(message, parents)?;
    query::one_of(message, last)?;
    set(message, last, bound.value.clone())
}

/// `application/json`, alone or with `charset=utf-8`.
fn is_json(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    essence.eq_ignore_ascii_case("application/json")
        && parts
            .filter(|part| !part.is_empty())
            .all(|part| match part.split_once('=') {
                Some((name, value)) if name.eq_ignore_ascii_case("charset") => {
                    value.trim_matches('"').eq_ignore_ascii_case("utf-8")
                }
                _ => true,
            })
        && !content_type.contains(',')
}
