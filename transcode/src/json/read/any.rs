//! `google.protobuf.Any`: an object that says in its midst what it is.

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
    fn find_type(&mut self) -> Read<Option<String>> {
        let start = self.scan.offset();
        let (mut found, mut empty) = (None, true);
        self.object(|reader, key, _| {
            empty = false;
            if key != "@type" {
                return reader.skip();
            }
            reader.way.push(Step::Key("@type".into()));
            if found.replace(reader.string()?.into_owned()).is_some() {
                return reader.refuse("is written twice");
            }
            reader.way.pop();
            Ok(())
        })?;
        match (&found, empty) {
            (None, false) => return self.refuse("holds no @type"),
            (None, true) => {}
            (Some(_), _) => self.scan.go_to(start),
        }
        Ok(found)
    }
}
