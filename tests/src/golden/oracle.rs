//! Messages as prost-reflect reads them: what the service must have seen is judged by a library that is no part of what is
//! tested.

use prost::Message;
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions,
};
use serde_json::{Value, json};

/// Knows every type of every golden file.
#[derive(Debug)]
pub struct Oracle {
    pool: DescriptorPool,
}

impl Oracle {
    /// Over a descriptor set without editions, which this library does not know.
    ///
    /// # Panics
    /// It does not link.
    #[must_use]
    pub fn new(descriptor_set: &[u8]) -> Self {
        Self {
            pool: DescriptorPool::decode(descriptor_set).unwrap(),
        }
    }

    /// A message from its JSON.
    ///
    /// # Errors
    /// It is not this message's.
    pub fn message(&self, name: &str, json: &Value) -> Result<DynamicMessage, String> {
        let options = DeserializeOptions::new().deny_unknown_fields(true);
        DynamicMessage::deserialize_with_options(self.descriptor(name)?, json, &options)
            .map_err(|error| format!("{name}: {error}"))
    }

    /// The bytes of a message that is given as JSON, as `{$base64: …}`, or as JSON that stays JSON, `{$json: …}`.
    ///
    /// # Errors
    /// It is not this message's.
    pub fn encode(&self, name: &str, json: &Value) -> Result<Vec<u8>, String> {
        // A codec of JSON has JSON in its frames.
        if let Some(json) = json.get("$json") {
            return Ok(json.to_string().into_bytes());
        }
        match json.get("$base64").and_then(Value::as_str) {
            Some(text) => super::answer::from_base64(text),
            None => Ok(self.message(name, json)?.encode_to_vec()),
        }
    }

    /// A message from its bytes.
    ///
    /// # Errors
    /// It is not this message's.
    pub fn decode(&self, name: &str, bytes: &[u8]) -> Result<DynamicMessage, String> {
        DynamicMessage::decode(self.descriptor(name)?, bytes).map_err(|error| format!("{name}: {error}"))
    }

    /// Whether these bytes are the message this JSON tells, and else what they are.
    ///
    /// # Errors
    /// They are another one: its JSON.
    pub fn compare(&self, name: &str, bytes: &[u8], expected: &Value) -> Result<(), Value> {
        let told = |why: String| json!({"$unreadable": why});
        if let Some(json) = expected.get("$json") {
            let seen = serde_json::from_slice::<Value>(bytes).map_err(|error| told(error.to_string()))?;
            return if super::judge::alike(&seen, json) {
                Ok(())
            } else {
                Err(json!({"$json": seen}))
            };
        }
        if let Some(text) = expected.get("$base64").and_then(Value::as_str) {
            let wanted = super::answer::from_base64(text).map_err(told)?;
            return if wanted == bytes {
                Ok(())
            } else {
                Err(json!({"$base64": super::answer::to_base64(bytes)}))
            };
        }
        let seen = self.decode(name, bytes).map_err(told)?;
        let wanted = self.message(name, expected).map_err(told)?;
        // NaN equals nothing, not even itself: its text does.
        let shown = self.show(name, bytes);
        if seen == wanted || shown == self.show(name, &wanted.encode_to_vec()) {
            Ok(())
        } else {
            Err(shown)
        }
    }

    /// Bytes as JSON, for people.
    #[must_use]
    pub fn show(&self, name: &str, bytes: &[u8]) -> Value {
        let options = SerializeOptions::new().skip_default_fields(true);
        let shown = self.decode(name, bytes).and_then(|message| {
            message
                .serialize_with_options(serde_json::value::Serializer, &options)
                .map_err(|error| error.to_string())
        });
        shown.unwrap_or_else(|_| json!({"$base64": super::answer::to_base64(bytes)}))
    }

    fn descriptor(&self, name: &str) -> Result<MessageDescriptor, String> {
        let name = name.replace("golden.modern.", "golden.twin.");
        let found = self.pool.get_message_by_name(&name);
        found.ok_or_else(|| format!("there is no message {name}"))
    }
}
