//! `google.protobuf.Any`: an object that says in its midst what it is.

use std::collections::HashMap;

use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor, Value};

use super::{Read, Reader, Step};
use crate::json::well_known::{WellKnown, filled};

impl Reader<'_> {
    /// `google.protobuf.Any`: its `@type` is looked for first, wherever it stands; then the object is read as that type.
    pub(super) fn any(&mut self, descriptor: &MessageDescriptor) -> Read<DynamicMessage> {
        self.any_depth += 1;
        if self.any_depth > self.limits.any_depth {
            return self.refuse(format!("Any nests deeper than {}", self.limits.any_depth));
        }
        let Some(type_url) = self.find_type()? else {
            let empty = DynamicMessage::new(descriptor.clone());
            self.any_depth -= 1;
            return Ok(empty);
        };
        let name = type_url
            .rsplit_once('/')
            .map(|(_, name)| name)
            .unwrap_or_default();
        let Some(inner) = descriptor.parent_pool().get_message_by_name(name) else {
            self.way.push(Step::Key("@type".into()));
            return self.refuse("names no type of this service's schema");
        };
        let mut content = DynamicMessage::new(inner.clone());
        let special = WellKnown::of(&inner).is_some();
        let mut found = false;
        self.proto_depth += usize::from(!special);
        if self.proto_depth > self.limits.proto_depth {
            return self.refuse(format!("messages nest deeper than {}", self.limits.proto_depth));
        }
        self.object(|reader, key, seen| match key {
            "@type" => reader.skip(),
            "value" if special => {
                reader.way.push(Step::Key("value".into()));
                if std::mem::replace(&mut found, true) {
                    return reader.refuse("is written twice");
                }
                content = reader.message(&inner)?;
                reader.way.pop();
                Ok(())
            }
            _ if special => reader.unknown(key, seen),
            _ => reader.entry(&mut content, key, seen),
        })?;
        if special && !found && WellKnown::of(&inner) != Some(WellKnown::Empty) {
            return self.refuse(format!("holds no value, which {name} needs"));
        }
        self.proto_depth -= usize::from(!special);
        self.any_depth -= 1;
        let value = Value::Bytes(content.encode_to_vec().into());
        Ok(filled(descriptor, [(1, Value::String(type_url)), (2, value)]))
    }

    /// The `@type` of the object that starts here, without moving on. `None`: the object was empty, and is passed.
    ///
    /// The outermost `Any` is looked through once, for the types of all objects in it: looking through each nested one
    /// again would cost its depth times its length.
    fn find_type(&mut self) -> Read<Option<String>> {
        if self.scan.peek() != Some(b'{') {
            return self.refuse("must be an object");
        }
        let start = self.scan.offset();
        if start >= self.types.until {
            let mut ahead = self.scan.clone();
            let found = &mut self.types.found;
            let passed = ahead.pass(self.limits.json_depth - self.json_depth, &mut |entry| {
                if entry.key == "@type" {
                    let twice = found.contains_key(&entry.object);
                    found.insert(entry.object, (!twice).then_some(entry.value));
                }
            });
            self.told(passed)?;
            self.types.until = ahead.offset();
        }
        let found = self.types.found.get(&start).copied();
        match found {
            Some(Some(value)) => {
                self.way.push(Step::Key("@type".into()));
                self.scan.go_to(value);
                let text = self.string()?.into_owned();
                self.scan.go_to(start);
                self.way.pop();
                Ok(Some(text))
            }
            Some(None) => {
                self.way.push(Step::Key("@type".into()));
                self.refuse("is written twice")
            }
            None if self.scan.eat(b'{') && self.scan.eat(b'}') => Ok(None),
            None => self.refuse("holds no @type"),
        }
    }
}

/// Types of objects ahead.
#[derive(Default)]
pub(super) struct Types {
    /// By where the object starts, where its `@type` stands; `None` if it has several.
    found: HashMap<usize, Option<usize>>,
    /// How far ahead all are known.
    until: usize,
}
