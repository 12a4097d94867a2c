//! The kinds there are, and what each is called in a document, on the stream and in the registry.

use crate::v1::{self, document::Resource};

/// A kind of document, which is also a kind of resource. In the order they are pushed: what others lean on comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// [`v1::Mesh`]
    Mesh,
    /// [`v1::TrustBundle`]
    TrustBundle,
    /// [`v1::JwtProvider`]
    JwtProvider,
    /// [`v1::Schema`]
    Schema,
    /// [`v1::Service`]
    Service,
    /// [`v1::Instance`]
    Instance,
    /// [`v1::AccessPolicy`]
    AccessPolicy,
}

impl Kind {
    /// Every kind, in push order.
    pub const ALL: [Kind; 7] = [
        Kind::Mesh,
        Kind::TrustBundle,
        Kind::JwtProvider,
        Kind::Schema,
        Kind::Service,
        Kind::Instance,
        Kind::AccessPolicy,
    ];

    /// As written after `kind:`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        &self.type_url()["type.googleapis.com/mesh.v1.".len()..]
    }

    /// As named on the stream.
    #[must_use]
    pub fn type_url(self) -> &'static str {
        match self {
            Kind::Mesh => "type.googleapis.com/mesh.v1.Mesh",
            Kind::TrustBundle => "type.googleapis.com/mesh.v1.TrustBundle",
            Kind::JwtProvider => "type.googleapis.com/mesh.v1.JwtProvider",
            Kind::Schema => "type.googleapis.com/mesh.v1.Schema",
            Kind::Service => "type.googleapis.com/mesh.v1.Service",
            Kind::Instance => "type.googleapis.com/mesh.v1.Instance",
            Kind::AccessPolicy => "type.googleapis.com/mesh.v1.AccessPolicy",
        }
    }

    /// The full protobuf name of the message.
    #[must_use]
    pub fn message_name(self) -> &'static str {
        &self.type_url()["type.googleapis.com/".len()..]
    }

    /// The kind a document names: `AccessPolicy`, and on command lines also `accesspolicy`, `access-policy` and plurals.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let plain: String = text
            .chars()
            .filter(|c| *c != '-')
            .collect::<String>()
            .to_ascii_lowercase();
        Self::ALL.into_iter().find(|kind| {
            let name = kind.as_str().to_ascii_lowercase();
            plain == name
                || plain.strip_suffix('s') == Some(&name)
                || plain.strip_suffix("ies") == name.strip_suffix('y') && name.ends_with('y')
                || plain == format!("{name}es")
        })
    }

    /// The kind a type URL names.
    #[must_use]
    pub fn from_type_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == url)
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The same four lines for each kind, written once.
macro_rules! each_kind {
    ($($kind:ident => $variant:ident),* $(,)?) => {
        impl Resource {
            /// Which kind it is.
            #[must_use]
            pub fn kind(&self) -> Kind {
                match self { $(Resource::$variant(_) => Kind::$kind,)* }
            }

            /// `metadata.name`, empty if it was never written.
            #[must_use]
            pub fn name(&self) -> &str {
                let metadata = match self { $(Resource::$variant(message) => message.metadata.as_ref(),)* };
                metadata.map_or("", |metadata| metadata.name.as_str())
            }

            /// The deterministic encoding of the message inside.
            #[must_use]
            pub fn encode_to_vec(&self) -> Vec<u8> {
                use prost::Message;
                match self { $(Resource::$variant(message) => message.encode_to_vec(),)* }
            }

            /// Decodes a message of a known kind.
            ///
            /// # Errors
            /// The bytes are not such a message.
            pub fn decode(kind: Kind, bytes: &[u8]) -> Result<Self, prost::DecodeError> {
                use prost::Message;
                match kind { $(Kind::$kind => v1::$kind::decode(bytes).map(Resource::$variant),)* }
            }
        }

        $(impl From<v1::$kind> for v1::Document {
            fn from(message: v1::$kind) -> Self {
                v1::Document { resource: Some(Resource::$variant(message)) }
            }
        })*
    };
}

each_kind! {
    Mesh => Mesh,
    TrustBundle => TrustBundle,
    JwtProvider => JwtProvider,
    Schema => Schema,
    Service => Service,
    Instance => Instance,
    AccessPolicy => AccessPolicy,
}

impl Resource {
    /// The name on the stream. It is `metadata.name`, but for an access policy, which is named
    /// `<service>/<metadata.name>` so that a sidecar can subscribe to those of one service as `<service>/*`.
    #[must_use]
    pub fn resource_name(&self) -> String {
        match self {
            Resource::AccessPolicy(policy) => {
                let service = policy.spec.as_ref().map_or("", |spec| spec.service.as_str());
                format!("{service}/{}", self.name())
            }
            _ => self.name().to_owned(),
        }
    }

    /// Content version; see [`crate::version_of`].
    #[must_use]
    pub fn version(&self) -> String {
        crate::version_of(&self.encode_to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found_by_the_words_people_type() {
        for text in ["AccessPolicy", "accesspolicy", "access-policy", "access-policies"] {
            assert_eq!(Kind::parse(text), Some(Kind::AccessPolicy), "{text}");
        }
        for text in ["services", "Service"] {
            assert_eq!(Kind::parse(text), Some(Kind::Service), "{text}");
        }
        assert_eq!(Kind::parse("meshes"), Some(Kind::Mesh));
        assert_eq!(Kind::parse("instances"), Some(Kind::Instance));
        assert_eq!(Kind::parse("pod"), None);
        assert_eq!(Kind::parse(""), None);
    }

    #[test]
    fn an_access_policy_is_named_under_its_service_on_the_stream() {
        let policy = v1::AccessPolicy {
            metadata: Some(v1::Metadata {
                name: "readers".into(),
                ..Default::default()
            }),
            spec: Some(v1::AccessPolicySpec {
                service: "market.quotes".into(),
                allow: vec![],
            }),
        };
        assert_eq!(
            Resource::AccessPolicy(policy).resource_name(),
            "market.quotes/readers"
        );
    }
}
