//! Editions, lowered: a file of edition 2023 or later is rewritten as proto2, in which everything but two features can be
//! said; those two are remembered by name.
//!
//! ```text
//!  features            in proto2
//!  LEGACY_REQUIRED     required               message_encoding = DELIMITED    a group
//!  PACKED, EXPANDED    packed = true, false   field_presence = IMPLICIT       remembered
//!  EXPLICIT            optional               enum_type = OPEN                remembered
//! ```

use std::collections::HashSet;

use prost::Message;

/// What proto2 has no word for.
#[derive(Debug, Default)]
pub(crate) struct Features {
    implicit: HashSet<String>,
    open: HashSet<String>,
}

impl Features {
    /// Whether a field, by its full name, has no presence though it stands in a file read as proto2.
    pub(crate) fn is_implicit(&self, field: &str) -> bool {
        self.implicit.contains(field)
    }

    /// Whether an enum is open though it stands in a file read as proto2.
    pub(crate) fn is_open(&self, words: &str) -> bool {
        self.open.contains(words)
    }
}

/// The descriptor set with every file of an edition rewritten; `None` if there is none such, or these are no descriptors.
pub(crate) fn lower(descriptor_set: &[u8]) -> Option<(Vec<u8>, Features)> {
    let mut set = FileSet::decode(descriptor_set).ok()?;
    let mut features = Features::default();
    let mut any = false;
    for file in &mut set.file {
        let mut head = FileHead::decode(file.as_slice()).ok()?;
        if head.syntax.as_deref() == Some("editions") {
            any = true;
            head.lower(&mut features);
            *file = head.encode_to_vec();
        }
    }
    any.then(|| (set.encode_to_vec(), features))
}

#[derive(Clone, PartialEq, Message)]
struct FileSet {
    #[prost(bytes = "vec", repeated, tag = "1")]
    file: Vec<Vec<u8>>,
}

/// A file; what is not looked into stays bytes, custom options among it.
#[derive(Clone, PartialEq, Message)]
struct FileHead {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    package: Option<String>,
    #[prost(string, repeated, tag = "3")]
    dependency: Vec<String>,
    #[prost(int32, repeated, packed = "false", tag = "10")]
    public_dependency: Vec<i32>,
    #[prost(int32, repeated, packed = "false", tag = "11")]
    weak_dependency: Vec<i32>,
    #[prost(message, repeated, tag = "4")]
    message_type: Vec<MessageHead>,
    #[prost(message, repeated, tag = "5")]
    enum_type: Vec<EnumHead>,
    #[prost(bytes = "vec", repeated, tag = "6")]
    service: Vec<Vec<u8>>,
    #[prost(message, repeated, tag = "7")]
    extension: Vec<FieldHead>,
    #[prost(bytes = "vec", optional, tag = "8")]
    options: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "9")]
    source_code_info: Option<Vec<u8>>,
    #[prost(string, optional, tag = "12")]
    syntax: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct MessageHead {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(message, repeated, tag = "2")]
    field: Vec<FieldHead>,
    #[prost(message, repeated, tag = "3")]
    nested_type: Vec<MessageHead>,
    #[prost(message, repeated, tag = "4")]
    enum_type: Vec<EnumHead>,
    #[prost(bytes = "vec", repeated, tag = "5")]
    extension_range: Vec<Vec<u8>>,
    #[prost(message, repeated, tag = "6")]
    extension: Vec<FieldHead>,
    #[prost(bytes = "vec", optional, tag = "7")]
    options: Option<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    oneof_decl: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "9")]
    reserved_range: Vec<Vec<u8>>,
    #[prost(string, repeated, tag = "10")]
    reserved_name: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct FieldHead {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    extendee: Option<String>,
    #[prost(int32, optional, tag = "3")]
    number: Option<i32>,
    #[prost(int32, optional, tag = "4")]
    label: Option<i32>,
    #[prost(int32, optional, tag = "5")]
    kind: Option<i32>,
    #[prost(string, optional, tag = "6")]
    type_name: Option<String>,
    #[prost(string, optional, tag = "7")]
    default_value: Option<String>,
    #[prost(bytes = "vec", optional, tag = "8")]
    options: Option<Vec<u8>>,
    #[prost(int32, optional, tag = "9")]
    oneof_index: Option<i32>,
    #[prost(string, optional, tag = "10")]
    json_name: Option<String>,
    #[prost(bool, optional, tag = "17")]
    proto3_optional: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
struct EnumHead {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    value: Vec<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "3")]
    options: Option<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "4")]
    reserved_range: Vec<Vec<u8>>,
    #[prost(string, repeated, tag = "5")]
    reserved_name: Vec<String>,
}

/// The features of files, messages, fields and enums stand in their options under these numbers.
#[derive(Clone, PartialEq, Message)]
struct FileOptions {
    #[prost(message, optional, tag = "50")]
    features: Option<FeatureSet>,
}

#[derive(Clone, PartialEq, Message)]
struct MessageOptions {
    #[prost(bool, optional, tag = "7")]
    map_entry: Option<bool>,
    #[prost(message, optional, tag = "12")]
    features: Option<FeatureSet>,
}

#[derive(Clone, PartialEq, Message)]
struct FieldOptions {
    #[prost(message, optional, tag = "21")]
    features: Option<FeatureSet>,
}

#[derive(Clone, PartialEq, Message)]
struct EnumOptions {
    #[prost(message, optional, tag = "7")]
    features: Option<FeatureSet>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct FeatureSet {
    #[prost(int32, optional, tag = "1")]
    field_presence: Option<i32>,
    #[prost(int32, optional, tag = "2")]
    enum_type: Option<i32>,
    #[prost(int32, optional, tag = "3")]
    repeated_field_encoding: Option<i32>,
    #[prost(int32, optional, tag = "5")]
    message_encoding: Option<i32>,
}

// Values of the features, and of a field's label and type.
const IMPLICIT: i32 = 2;
const LEGACY_REQUIRED: i32 = 3;
const CLOSED: i32 = 2;
const EXPANDED: i32 = 2;
const DELIMITED: i32 = 2;
const REQUIRED: i32 = 2;
const REPEATED: i32 = 3;
const TYPE_GROUP: i32 = 10;
const TYPE_MESSAGE: i32 = 11;
/// `packed = true` and `packed = false`, as options.
const PACKED_TRUE: [u8; 2] = [0x10, 1];
const PACKED_FALSE: [u8; 2] = [0x10, 0];

impl FeatureSet {
    /// These, where `nearer` says nothing else.
    fn under(self, nearer: Option<FeatureSet>) -> Self {
        let nearer = nearer.unwrap_or_default();
        Self {
            field_presence: nearer.field_presence.or(self.field_presence),
            enum_type: nearer.enum_type.or(self.enum_type),
            repeated_field_encoding: nearer.repeated_field_encoding.or(self.repeated_field_encoding),
            message_encoding: nearer.message_encoding.or(self.message_encoding),
        }
    }
}

/// Options that are not read as such have no features.
fn read<O: Message + Default>(options: Option<&Vec<u8>>) -> O {
    options
        .and_then(|options| O::decode(options.as_slice()).ok())
        .unwrap_or_default()
}

impl FileHead {
    fn lower(&mut self, found: &mut Features) {
        self.syntax = Some("proto2".into());
        let features = FeatureSet::default().under(read::<FileOptions>(self.options.as_ref()).features);
        let scope = self.package.clone().unwrap_or_default();
        for message in &mut self.message_type {
            message.lower(&scope, features, found);
        }
        for words in &self.enum_type {
            words.note(&scope, features, found);
        }
        for extension in &mut self.extension {
            extension.lower(&scope, features, false, found);
        }
    }
}

impl MessageHead {
    fn lower(&mut self, scope: &str, features: FeatureSet, found: &mut Features) {
        let options = read::<MessageOptions>(self.options.as_ref());
        let features = features.under(options.features);
        let entry = options.map_entry == Some(true);
        let scope = within(scope, self.name.as_deref());
        let maps: HashSet<String> = self
            .nested_type
            .iter()
            .filter(|nested| read::<MessageOptions>(nested.options.as_ref()).map_entry == Some(true))
            .map(|nested| format!(".{}", within(&scope, nested.name.as_deref())))
            .collect();
        for field in &mut self.field {
            let is_map = field.type_name.as_ref().is_some_and(|name| maps.contains(name));
            field.lower(&scope, features, entry || is_map, found);
        }
        for extension in &mut self.extension {
            extension.lower(&scope, features, false, found);
        }
        for nested in &mut self.nested_type {
            nested.lower(&scope, features, found);
        }
        for words in &self.enum_type {
            words.note(&scope, features, found);
        }
    }
}

impl FieldHead {
    /// Maps and the fields of their entries are never delimited.
    fn lower(&mut self, scope: &str, features: FeatureSet, of_map: bool, found: &mut Features) {
        let features = features.under(read::<FieldOptions>(self.options.as_ref()).features);
        let delimited = features.message_encoding == Some(DELIMITED) && !of_map;
        if self.kind == Some(TYPE_MESSAGE) && delimited {
            self.kind = Some(TYPE_GROUP);
        }
        if self.label == Some(REPEATED) {
            let packed = features.repeated_field_encoding != Some(EXPANDED);
            let option = if packed { PACKED_TRUE } else { PACKED_FALSE };
            self.options.get_or_insert_default().extend(option);
            return;
        }
        match features.field_presence {
            Some(LEGACY_REQUIRED) => self.label = Some(REQUIRED),
            Some(IMPLICIT)
                if self.oneof_index.is_none() && !matches!(self.kind, Some(TYPE_MESSAGE | TYPE_GROUP)) =>
            {
                found.implicit.insert(within(scope, self.name.as_deref()));
            }
            _ => {}
        }
    }
}

impl EnumHead {
    fn note(&self, scope: &str, features: FeatureSet, found: &mut Features) {
        let features = features.under(read::<EnumOptions>(self.options.as_ref()).features);
        if features.enum_type != Some(CLOSED) {
            found.open.insert(within(scope, self.name.as_deref()));
        }
    }
}

fn within(scope: &str, name: Option<&str>) -> String {
    let name = name.unwrap_or_default();
    if scope.is_empty() {
        name.to_owned()
    } else {
        format!("{scope}.{name}")
    }
}
