//! Names, and what they may look like: services, instances, documents, SPIFFE identities.

use std::fmt;
use std::sync::Arc;

/// Longest name of a service, in bytes; that of a DNS name.
pub const SERVICE_NAME_BYTES_MAX: usize = 253;
/// Longest name of a document and of an instance's id, in bytes.
pub const NAME_BYTES_MAX: usize = 128;
/// Longest SPIFFE ID, in bytes (SPIFFE-ID 2.3).
pub const SPIFFE_ID_BYTES_MAX: usize = 2048;

/// A service's name: dotted lower-case labels, such as `market.quotes`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName(Arc<str>);

impl ServiceName {
    /// Reads a service name.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is missing".into());
        }
        if text.len() > SERVICE_NAME_BYTES_MAX {
            return Err(format!(
                "is {} bytes long; at most {SERVICE_NAME_BYTES_MAX} are allowed",
                text.len()
            ));
        }
        if text.split('.').all(is_label) {
            Ok(Self(text.into()))
        } else {
            Err(format!(
                "{} is not a service name: write lower-case letters, digits and '-' in labels joined by '.', such as \
                 market.quotes",
                quote(text)
            ))
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for ServiceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// An instance's name: `<service>/<id>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceName {
    /// The service it is a copy of.
    pub service: ServiceName,
    /// Unique within the service.
    pub id: Arc<str>,
}

impl InstanceName {
    /// Reads `<service>/<id>`.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is missing".into());
        }
        let Some((service, id)) = text.split_once('/') else {
            return Err(format!(
                "{} is not an instance name: write <service>/<id>",
                quote(text)
            ));
        };
        let service = ServiceName::parse(service)?;
        let well_formed = !id.is_empty()
            && id.len() <= NAME_BYTES_MAX
            && id
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b))
            && id.starts_with(|c: char| c.is_ascii_alphanumeric());
        if well_formed {
            Ok(Self {
                service,
                id: id.into(),
            })
        } else {
            Err(format!(
                "{} is not an instance id: write letters, digits, '-', '_', '.' and ':'",
                quote(id)
            ))
        }
    }
}

impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.id)
    }
}

/// Checks the name of a document that is neither a service nor an instance.
///
/// # Errors
/// What is wrong with it, in words.
pub fn document_name(text: &str) -> Result<Arc<str>, String> {
    if text.is_empty() {
        return Err("is missing".into());
    }
    if text.len() > NAME_BYTES_MAX {
        return Err(format!(
            "is {} bytes long; at most {NAME_BYTES_MAX} are allowed",
            text.len()
        ));
    }
    if text.split('.').all(is_label) {
        Ok(text.into())
    } else {
        Err(format!(
            "{} is not a name: write lower-case letters, digits, '-' and '.'",
            quote(text)
        ))
    }
}

/// A SPIFFE trust domain, such as `mesh.local`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Reads a trust domain (SPIFFE-ID 2.1).
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is missing".into());
        }
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
        if text.len() <= 255 && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(format!(
                "{} is not a trust domain: write lower-case letters, digits, '-', '.' and '_'",
                quote(text)
            ))
        }
    }

    /// The domain as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A SPIFFE ID: who stands at the other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    text: Arc<str>,
    path: usize,
}

impl SpiffeId {
    /// Reads a SPIFFE ID as strictly as the standard allows (SPIFFE-ID 2): scheme and domain in lower case, at least one
    /// path segment, no port, user, query, escape, dot segment or trailing slash.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > SPIFFE_ID_BYTES_MAX {
            return Err(format!(
                "is {} bytes long; at most {SPIFFE_ID_BYTES_MAX} are allowed",
                text.len()
            ));
        }
        let fail = |why: &str| format!("{} is not a SPIFFE ID: {why}", quote(text));
        let rest = text
            .strip_prefix("spiffe://")
            .ok_or_else(|| fail("it must begin with spiffe://"))?;
        let slash = rest.find('/').ok_or_else(|| fail("it has no path"))?;
        let (domain, path) = rest.split_at(slash);
        TrustDomain::parse(domain)
            .map_err(|_| fail("its trust domain may hold a-z, 0-9, '-', '.' and '_' only"))?;
        let segment_ok = |segment: &str| {
            !segment.is_empty()
                && segment != "."
                && segment != ".."
                && segment
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        };
        if !path[1..].split('/').all(segment_ok) {
            return Err(fail(
                "its path segments may hold letters, digits, '-', '.' and '_' only",
            ));
        }
        Ok(Self {
            text: text.into(),
            path: text.len() - path.len(),
        })
    }

    /// `spiffe://<domain>/service/<name>`
    #[must_use]
    pub fn service(domain: &TrustDomain, service: &ServiceName) -> Self {
        Self::of(domain, &format!("/service/{service}"))
    }

    /// `spiffe://<domain>/xds-lite`, the control service.
    #[must_use]
    pub fn control(domain: &TrustDomain) -> Self {
        Self::of(domain, "/xds-lite")
    }

    /// `spiffe://<domain>/operator/<name>`, a person. `name` has passed [`document_name`].
    #[must_use]
    pub fn operator(domain: &TrustDomain, name: &str) -> Self {
        Self::of(domain, &format!("/operator/{name}"))
    }

    fn of(domain: &TrustDomain, path: &str) -> Self {
        Self {
            text: format!("spiffe://{domain}{path}").into(),
            path: "spiffe://".len() + domain.0.len(),
        }
    }

    /// The ID as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The trust domain, as text.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        &self.text["spiffe://".len()..self.path]
    }

    /// The service it names, if it names one.
    #[must_use]
    pub fn as_service(&self) -> Option<ServiceName> {
        self.text[self.path..]
            .strip_prefix("/service/")
            .and_then(|name| ServiceName::parse(name).ok())
    }

    /// The operator it names, if it names one.
    #[must_use]
    pub fn as_operator(&self) -> Option<&str> {
        self.text[self.path..]
            .strip_prefix("/operator/")
            .filter(|name| document_name(name).is_ok())
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Text as it may stand bare in a message: control characters replaced, cut at 80 characters.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .take(80)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

fn is_label(label: &str) -> bool {
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Text as it may stand in a message: quoted, escaped, cut at 80 characters.
pub(crate) fn quote(text: &str) -> String {
    let short: String = text.chars().take(80).collect();
    if short.len() < text.len() {
        format!("{short:?}…")
    } else {
        format!("{short:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_names_are_dotted_lower_case_labels() {
        assert!(ServiceName::parse("market.quotes-2").is_ok());
        for bad in [
            "",
            "Market",
            "a..b",
            ".a",
            "a.",
            "a_b",
            "a/b",
            "-a",
            "a-",
            "ä",
            "a b",
            &"a".repeat(254),
        ] {
            assert!(ServiceName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn instance_names_have_a_service_and_an_id() {
        let name = InstanceName::parse("market.quotes/10.0.0.1:9000").unwrap();
        assert_eq!(
            (name.service.as_str(), &*name.id),
            ("market.quotes", "10.0.0.1:9000")
        );
        for bad in ["", "a", "a/", "/b", "a/b/c", "a/../b", "a/.b", "a/b c", "a/*"] {
            assert!(InstanceName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn spiffe_ids_are_read_strictly() {
        let id = SpiffeId::parse("spiffe://mesh.local/service/market.quotes").unwrap();
        assert_eq!(id.trust_domain(), "mesh.local");
        assert_eq!(id.as_service().unwrap().as_str(), "market.quotes");
        assert_eq!(
            SpiffeId::service(
                &TrustDomain::parse("mesh.local").unwrap(),
                &id.as_service().unwrap()
            ),
            id
        );
        let long = format!("spiffe://a/{}", "b".repeat(2048));
        for bad in [
            "https://a/b",
            "SPIFFE://a/b",
            "spiffe://A/b",
            "spiffe://a",
            "spiffe://a/",
            "spiffe:///b",
            "spiffe://a:1/b",
            "spiffe://u@a/b",
            "spiffe://a/b?c",
            "spiffe://a/b#c",
            "spiffe://a/%62",
            "spiffe://a/b/../c",
            "spiffe://a/./c",
            "spiffe://a//b",
            "spiffe://a/b/",
            "spiffe://a/b\0",
            "spiffe://a/bä",
            &long,
        ] {
            assert!(SpiffeId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn operators_are_not_services() {
        let domain = TrustDomain::parse("mesh.local").unwrap();
        let id = SpiffeId::operator(&domain, "alice");
        assert_eq!((id.as_operator(), id.as_service()), (Some("alice"), None));
        assert_eq!(SpiffeId::control(&domain).as_operator(), None);
    }
}
