//! What the path, or a header, has filled: the body may repeat it and not contradict it. A message that both fill is written
//! once: not every reader puts the parts of a message together.

use std::sync::Arc;

use super::{Machine, Read};
use crate::json::out::Mark;
use crate::table::{Field, Kind, NONE, Tables};
use crate::wire;

/// Nothing below here is bound.
pub(super) const FREE: u16 = u16::MAX;

/// The path's values, as a tree over the fields of the message.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bounds {
    nodes: Vec<Node>,
}

#[derive(Debug, Clone, Default)]
struct Node {
    children: Vec<(u32, Child)>,
    /// The body has the message too: what is bound in it was written there.
    in_body: bool,
}

#[derive(Debug, Clone)]
enum Child {
    Within(u16),
    Value {
        content: Vec<u8>,
        name: String,
        header: Option<Arc<str>>,
    },
}

/// One field the path, or a header, has filled.
#[derive(Debug, Clone)]
pub(crate) struct Woven {
    /// The way to it from the request message; never empty.
    pub(crate) fields: Vec<u32>,
    /// What stands after the key on the wire; of strings, bytes and messages, after the length.
    pub(crate) content: Vec<u8>,
    /// Its path in proto names.
    pub(crate) name: String,
    /// The header it is from; none: the path.
    pub(crate) header: Option<Arc<str>>,
}

impl Woven {
    /// What a second value is told that is another.
    pub(crate) fn differs(&self) -> String {
        differs(self.header.as_deref())
    }
}

fn differs(header: Option<&str>) -> String {
    match header {
        None => "differs from the value in the path".into(),
        Some(header) => format!("differs from the value in the header {header}"),
    }
}

/// A value to be compared with the path's, once it is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Check {
    node: u16,
    field: u32,
    before: Mark,
    at: usize,
}

impl Bounds {
    pub(crate) fn new(woven: &[Woven]) -> Self {
        let mut bounds = Self::default();
        for one in woven {
            let Some((last, parents)) = one.fields.split_last() else {
                continue;
            };
            if bounds.nodes.is_empty() {
                bounds.nodes.push(Node::default());
            }
            let mut at = 0u16;
            for parent in parents {
                at = bounds.within(at, *parent);
            }
            if let Some(node) = bounds.nodes.get_mut(usize::from(at)) {
                let value = Child::Value {
                    content: one.content.clone(),
                    name: one.name.clone(),
                    header: one.header.clone(),
                };
                node.children.push((*last, value));
            }
        }
        bounds
    }

    fn within(&mut self, at: u16, field: u32) -> u16 {
        let child = self.child(at, field);
        if child != FREE {
            return child;
        }
        let made = u16::try_from(self.nodes.len()).unwrap_or(FREE);
        self.nodes.push(Node::default());
        if let Some(node) = self.nodes.get_mut(usize::from(at)) {
            node.children.push((field, Child::Within(made)));
        }
        made
    }

    pub(crate) fn root(&self) -> u16 {
        if self.nodes.is_empty() { FREE } else { 0 }
    }

    /// The node below this field.
    pub(crate) fn child(&self, at: u16, field: u32) -> u16 {
        match self.find(at, field) {
            Some(Child::Within(node)) => *node,
            _ => FREE,
        }
    }

    /// Whether the body has the message of this node.
    pub(crate) fn in_body(&self, at: u16) -> bool {
        self.nodes.get(usize::from(at)).is_some_and(|node| node.in_body)
    }

    /// The body has the message of this node.
    pub(super) fn enter_body(&mut self, at: u16) {
        if let Some(node) = self.nodes.get_mut(usize::from(at)) {
            node.in_body = true;
        }
    }

    /// What the body had in this field of a node was taken back.
    pub(super) fn leave_body(&mut self, at: u16, field: u32) {
        let mut left = vec![self.child(at, field)];
        while let Some(at) = left.pop() {
            if let Some(node) = self.nodes.get_mut(usize::from(at)) {
                node.in_body = false;
                left.extend(node.children.iter().filter_map(|(_, child)| match child {
                    Child::Within(node) => Some(*node),
                    Child::Value { .. } => None,
                }));
            }
        }
    }

    /// Appends what is bound in the message of this node, but for messages that the body has.
    fn weave(&self, t: &Tables, at: u16, out: &mut Vec<u8>) {
        for (field, child) in self
            .nodes
            .get(usize::from(at))
            .iter()
            .flat_map(|node| &node.children)
        {
            let field = t.field(*field);
            match child {
                Child::Value { content, .. } => put_value(field, content, out),
                Child::Within(within) if self.in_body(*within) => {}
                Child::Within(within) => {
                    let mut inner = Vec::new();
                    self.weave(t, *within, &mut inner);
                    put_message(field, &inner, out);
                }
            }
        }
    }

    fn find(&self, at: u16, field: u32) -> Option<&Child> {
        let node = self.nodes.get(usize::from(at))?;
        node.children
            .iter()
            .find(|(known, _)| *known == field)
            .map(|(_, child)| child)
    }
}

/// Writes one value of the path, or of a header; nothing where it is the default and that says nothing.
pub(crate) fn put_value(field: &Field, content: &[u8], out: &mut Vec<u8>) {
    let length = matches!(field.kind, Kind::String | Kind::Bytes | Kind::Message);
    let default = content.iter().all(|byte| *byte == 0) && (!length || content.is_empty());
    if default && !field.presence {
        return;
    }
    out.extend_from_slice(field.key());
    if length {
        wire::put_varint(out, content.len() as u64);
    }
    out.extend_from_slice(content);
}

/// Writes a message around this content.
pub(crate) fn put_message(field: &Field, content: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(field.key());
    if field.group {
        out.extend_from_slice(content);
        wire::put_varint(out, u64::from(field.number) << 3 | 4);
    } else {
        wire::put_varint(out, content.len() as u64);
        out.extend_from_slice(content);
    }
}

impl Machine {
    /// The path's values, and where the body has messages of theirs.
    pub(crate) fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// A message that was opened for this node ends. What is bound in the whole request is written behind it by others.
    pub(super) fn weave(&mut self, t: &Tables, node: u16) {
        if node != FREE && node != self.bounds.root() {
            self.bounds.weave(t, node, &mut self.out.bytes);
        }
    }

    /// A field of a message in which the path has filled something.
    pub(super) fn bind(&mut self, node: u16, field: u32, at: usize) {
        match self.bounds.find(node, field) {
            None => {}
            Some(Child::Within(within)) => self.slot.bound = *within,
            Some(Child::Value { .. }) => {
                self.check = Some(Check {
                    node,
                    field,
                    before: self.out.mark(),
                    at: self.base.wrapping_add(at),
                });
                self.slot.explicit = true;
            }
        }
    }

    /// Members of oneofs that the path has filled count as seen in the message that was just opened.
    pub(super) fn take_oneofs(&mut self, t: &Tables, node: u16) {
        let Some(node) = self.bounds.nodes.get(usize::from(node)) else {
            return;
        };
        let oneofs: Vec<u32> = node
            .children
            .iter()
            .map(|(field, _)| t.field(*field).oneof)
            .filter(|oneof| *oneof != NONE)
            .collect();
        for oneof in oneofs {
            self.mark_bit(t, oneof);
        }
    }

    /// The member of this oneof that the path has filled: its path, and the field.
    pub(super) fn bound_member(&self, t: &Tables, node: u16, oneof: u32) -> Option<(String, u32)> {
        let node = self.bounds.nodes.get(usize::from(node))?;
        let (field, child) = node
            .children
            .iter()
            .find(|(field, _)| t.field(*field).oneof == oneof)?;
        let name = match child {
            Child::Value { name, .. } => name.clone(),
            Child::Within(_) => t.field(*field).name.to_string(),
        };
        Some((name, *field))
    }

    /// Compares the value that was just written with the path's. It is taken out again: the path writes its own.
    pub(super) fn compare(&mut self, t: &Tables) -> Read<()> {
        let Some(check) = self.check.take() else {
            return Ok(());
        };
        let field = t.field(check.field);
        let written = self.out.bytes.get(check.before.at + field.key().len()..);
        if let Some(Child::Value { content, header, .. }) = self.bounds.find(check.node, check.field)
            && !written.is_some_and(|written| is(field, written, content))
        {
            let why = differs(header.as_deref());
            self.state = super::State::Value;
            let at = check.at.wrapping_sub(self.base);
            return self.refuse(t, at, why);
        }
        self.out.rewind(check.before);
        Ok(())
    }
}

/// Whether what was written after a key is this content. A length may not be filled in yet: it is then one byte.
fn is(field: &Field, written: &[u8], content: &[u8]) -> bool {
    match field.kind {
        Kind::String | Kind::Bytes | Kind::Message => {
            let mut rest = written;
            let whole = wire::varint(&mut rest).is_some_and(|length| length == rest.len() as u64);
            (whole && rest == content) || written.get(1..) == Some(content)
        }
        _ => written == content,
    }
}
