//! What the reflection library takes on trust: a compiler never writes such descriptors, but a descriptor set is only
//! bytes, and a message of such a type would end the process.

use mesh_proto::fault::Check;
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};

/// Notes every type that cannot be worked with.
pub(crate) fn check_sound(pool: &DescriptorPool, check: &mut Check) {
    for words in pool.all_enums() {
        if words.values().len() == 0 {
            check.fault(format!("{}:", words.full_name()), "the enum has no values");
        }
    }
    for message in pool.all_messages() {
        if message.is_map_entry() && !is_map_entry(&message) {
            let why = "the map entry needs a key of a plain type, 1, and a value, 2";
            check.fault(format!("{}:", message.full_name()), why);
        }
    }
}

fn is_map_entry(message: &MessageDescriptor) -> bool {
    let singular = |field: &FieldDescriptor| !field.is_list() && !field.is_map();
    let key = message.get_field(1).filter(singular).map(|key| key.kind());
    let plain = !matches!(
        key,
        None | Some(Kind::Float | Kind::Double | Kind::Bytes | Kind::Message(_) | Kind::Enum(_))
    );
    plain && message.get_field(2).is_some_and(|value| singular(&value))
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_reflect::prost_types::field_descriptor_proto::{Label, Type};
    use prost_reflect::prost_types::{
        DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
        MessageOptions,
    };

    use crate::Schema;

    fn field(number: i32, kind: Type, label: Label) -> FieldDescriptorProto {
        FieldDescriptorProto {
            name: Some(format!("f{number}")),
            number: Some(number),
            label: Some(label.into()),
            r#type: Some(kind.into()),
            ..Default::default()
        }
    }

    fn told(entry: Vec<FieldDescriptorProto>, enums: Vec<EnumDescriptorProto>) -> String {
        let entry = DescriptorProto {
            name: Some("Entry".into()),
            field: entry,
            options: Some(MessageOptions {
                map_entry: Some(true),
                ..Default::default()
            }),
            ..Default::default()
        };
        let message = DescriptorProto {
            name: Some("M".into()),
            nested_type: vec![entry],
            ..Default::default()
        };
        let file = FileDescriptorProto {
            name: Some("m.proto".into()),
            syntax: Some("proto3".into()),
            message_type: vec![message],
            enum_type: enums,
            ..Default::default()
        };
        match Schema::compile(&FileDescriptorSet { file: vec![file] }.encode_to_vec()) {
            Ok(_) => String::new(),
            Err(faults) => faults.to_string(),
        }
    }

    fn good_entry() -> Vec<FieldDescriptorProto> {
        vec![
            field(1, Type::String, Label::Optional),
            field(2, Type::String, Label::Optional),
        ]
    }

    #[test]
    fn descriptors_that_no_compiler_writes_are_refused_before_a_message_meets_them() {
        assert_eq!(told(good_entry(), vec![]), "");
        for entry in [
            vec![],
            vec![field(1, Type::String, Label::Optional)],
            vec![field(2, Type::String, Label::Optional)],
            vec![
                field(1, Type::Double, Label::Optional),
                field(2, Type::String, Label::Optional),
            ],
            vec![
                field(1, Type::Bytes, Label::Optional),
                field(2, Type::String, Label::Optional),
            ],
            vec![
                field(1, Type::String, Label::Repeated),
                field(2, Type::String, Label::Optional),
            ],
            vec![
                field(1, Type::String, Label::Optional),
                field(2, Type::String, Label::Repeated),
            ],
        ] {
            let told = told(entry.clone(), vec![]);
            assert!(told.starts_with("M.Entry: "), "{entry:?}: {told}");
        }
        let blank = EnumDescriptorProto {
            name: Some("E".into()),
            ..Default::default()
        };
        assert_ne!(told(good_entry(), vec![blank]), "");
    }
}
