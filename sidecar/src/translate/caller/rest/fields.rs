//! Headers of a REST caller that stand for fields of the request, and fields of a unary answer that are headers of it.

use std::rc::Rc;

use http::header::ETAG;
use http::{HeaderMap, HeaderName, HeaderValue};
use mesh_transcode::Refusal;

use super::{Caller, metadata};
use crate::reason::{Reason, Rejection};
use crate::translate::Context;

impl Caller {
    /// Takes what the caller's headers fill, before they become metadata.
    ///
    /// # Errors
    /// A header stands twice, cannot be read, or is not of its field's type.
    pub(super) fn bind_headers(&mut self, headers: &HeaderMap, context: &Context) -> Result<(), Rejection> {
        let Some(fields) = &self.fields else { return Ok(()) };
        for one in fields.request() {
            let mut values = headers.get_all(one.header()).iter();
            let Some(value) = values.next() else { continue };
            let refuse = |why: &str| {
                let why = format!("the header {} {why}", one.header());
                Err(Refusal::bad_request(why).at_field(one.field()).into())
            };
            if values.next().is_some() {
                return refuse("stands twice; a field has one value");
            }
            let Some(text) = value.to_str().ok().filter(|_| metadata::is_text(value)) else {
                return refuse("is not printable ASCII");
            };
            // Nobody else holds it before the request is read.
            let Some(found) = Rc::get_mut(&mut self.found) else {
                let why = "the headers of a call are read once, before its body";
                return Err(Rejection::new(Reason::NotTranslatable, why));
            };
            found.bind_header(one, text, &context.options)?;
        }
        Ok(())
    }

    /// Notes what a unary answer's message says in headers.
    pub(super) fn told_by(&mut self, message: &[u8], context: &Context) {
        let Some(fields) = &self.fields else { return };
        for (name, value) in fields.told(&self.found.method, message, &context.options) {
            // It becomes an entity tag by the rules of such.
            if name == ETAG {
                self.etag = Some(value);
            } else if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                self.told.push((name, value));
            }
        }
    }

    /// Writes them into the answer's head. The service's own metadata has the first word.
    pub(super) fn tell(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.told {
            headers.entry(name).or_insert_with(|| value.clone());
        }
    }
}
