//! The last good copy on disk, so that a sidecar starts and serves while every xds-lite is away.
//!
//! ```text
//!  magic (8 bytes) · SHA-256 of the rest (32 bytes) · protobuf LastGood
//! ```
//!
//! A copy that is damaged, too open, somebody else's or of another service is ignored, loudly: never half of one. Past a
//! week it no longer allows anything: policies count as unknown then, which denies.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use mesh_proto::kind::Kind;
use mesh_proto::name::{ServiceName, TrustDomain};
use prost::Message;
use sha2::{Digest, Sha256};

use super::holdings::{Holding, Holdings, SNAPSHOT_BYTES_MAX};
use super::judge;
use crate::{Config, files};

/// Name of the copy in the state folder.
pub const FILE: &str = "last-good.binpb";
/// A copy older than this does not allow calls.
pub const ALLOW_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// The last two digits are the version of the format.
const MAGIC: &[u8; 8] = b"MESHLG01";
const DIGEST_BYTES: usize = 32;
/// The snapshot, and room for names and versions.
const FILE_BYTES_MAX: u64 = 3 * SNAPSHOT_BYTES_MAX as u64;
/// Clocks of one host may be set back by this much without making a copy suspicious.
const CLOCK_SLACK: Duration = Duration::from_secs(300);

#[derive(Clone, PartialEq, Message)]
struct LastGood {
    /// Seconds since 1970: when xds-lite last stood behind it.
    #[prost(uint64, tag = "1")]
    confirmed: u64,
    #[prost(string, tag = "2")]
    service: String,
    #[prost(string, tag = "3")]
    trust_domain: String,
    #[prost(message, repeated, tag = "4")]
    resources: Vec<Kept>,
    #[prost(string, repeated, tag = "5")]
    services_known: Vec<String>,
    #[prost(string, repeated, tag = "6")]
    policies_known: Vec<String>,
    #[prost(string, repeated, tag = "7")]
    closed: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Kept {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    version: String,
    #[prost(bytes = "vec", tag = "4")]
    bytes: Vec<u8>,
}

/// A copy that may be used.
pub struct Loaded {
    /// Judged again, resource by resource.
    pub holdings: Holdings,
    /// When xds-lite last stood behind it.
    pub age: Duration,
    /// Whether it may still allow calls.
    pub fresh: bool,
}

/// Where the copy of this sidecar is, if it keeps one.
#[must_use]
pub fn path(config: &Config) -> Option<PathBuf> {
    config.state_dir.as_ref().map(|folder| folder.join(FILE))
}

/// The copy as bytes.
#[must_use]
pub fn encode(
    holdings: &Holdings,
    service: &ServiceName,
    trust_domain: &TrustDomain,
    confirmed: SystemTime,
) -> Vec<u8> {
    let kept = |kind: Kind| {
        holdings.of(kind).map(move |(name, holding)| Kept {
            type_url: kind.type_url().into(),
            name: name.clone(),
            version: holding.version.to_string(),
            bytes: holding.bytes.to_vec(),
        })
    };
    let names =
        |known: &std::collections::BTreeSet<ServiceName>| known.iter().map(ToString::to_string).collect();
    let since = confirmed
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let message = LastGood {
        confirmed: since.as_secs(),
        service: service.to_string(),
        trust_domain: trust_domain.to_string(),
        resources: Kind::ALL.into_iter().flat_map(kept).collect(),
        services_known: names(&holdings.services_known),
        policies_known: names(&holdings.policies_known),
        closed: holdings.closed.iter().cloned().collect(),
    };
    let body = message.encode_to_vec();
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&Sha256::digest(&body));
    bytes.extend_from_slice(&body);
    bytes
}

/// Writes a copy.
///
/// # Errors
/// One line with the path.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    files::write_own(path, bytes)
}

/// Reads the copy. `Ok(None)`: there is none.
///
/// # Errors
/// One line: why it cannot be used.
pub fn load(
    path: &Path,
    service: &ServiceName,
    trust_domain: &TrustDomain,
    now: SystemTime,
) -> Result<Option<Loaded>, String> {
    let Some(bytes) = files::read_own(path, FILE_BYTES_MAX)? else {
        return Ok(None);
    };
    let fail = |why: String| format!("{}: {why}", path.display());
    let message = decode(&bytes).map_err(|why| fail(why.to_owned()))?;
    if message.service != service.as_str() || message.trust_domain != trust_domain.as_str() {
        return Err(fail(format!(
            "is of {} in {}, not of {service} in {trust_domain}",
            message.service, message.trust_domain
        )));
    }
    let confirmed = SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_secs(message.confirmed))
        .ok_or_else(|| fail("has an impossible time".into()))?;
    // A copy from the future tells nothing about its age.
    let age = now.duration_since(confirmed).ok();
    let plausible = confirmed.duration_since(now).unwrap_or_default() <= CLOCK_SLACK;
    let fresh = plausible && age.unwrap_or_default() <= ALLOW_AGE_MAX;
    Ok(Some(Loaded {
        holdings: rebuild(message, trust_domain, fresh),
        age: age.unwrap_or_default(),
        fresh,
    }))
}

fn decode(bytes: &[u8]) -> Result<LastGood, &'static str> {
    let rest = bytes
        .strip_prefix(MAGIC)
        .ok_or("is no last good copy, or one of another version")?;
    let (digest, body) = rest.split_at_checked(DIGEST_BYTES).ok_or("is cut short")?;
    if Sha256::digest(body).as_slice() != digest {
        return Err("is damaged: its checksum does not match");
    }
    LastGood::decode(body).map_err(|_| "cannot be decoded")
}

/// Judges everything again: what was good for an older version of this program need not be good now.
fn rebuild(message: LastGood, trust_domain: &TrustDomain, fresh: bool) -> Holdings {
    let mut holdings = Holdings::default();
    for kept in message.resources {
        let Some(kind) = Kind::from_type_url(&kept.type_url) else {
            continue;
        };
        if kind == Kind::AccessPolicy && !fresh {
            continue;
        }
        match judge::judge(kind, &kept.name, &kept.bytes, Some(trust_domain)) {
            Ok(value) => {
                let holding = Holding {
                    version: kept.version.into(),
                    bytes: kept.bytes.into(),
                    value,
                };
                holdings.put(kind, &kept.name, holding);
            }
            Err(line) => {
                tracing::warn!("the last good copy holds a resource that is refused now: {line}");
                if kind == Kind::AccessPolicy {
                    holdings.refuse_policy(&kept.name);
                }
            }
        }
    }
    let names = |names: &[String]| {
        names
            .iter()
            .filter_map(|name| ServiceName::parse(name).ok())
            .collect()
    };
    holdings.services_known = names(&message.services_known);
    // A copy is written when everything was heard of.
    holdings.instances_known.clone_from(&holdings.services_known);
    if fresh {
        holdings.policies_known = names(&message.policies_known);
        for name in &message.closed {
            holdings.refuse_policy(name);
        }
    }
    holdings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::TestFolder;
    use crate::xds::judge::Value;
    use mesh_proto::v1;

    fn names() -> (ServiceName, TrustDomain) {
        (
            ServiceName::parse("market.quotes").unwrap(),
            TrustDomain::parse("mesh.local").unwrap(),
        )
    }

    fn holdings() -> Holdings {
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
        let bytes = policy.encode_to_vec();
        let value = judge::judge(Kind::AccessPolicy, "market.quotes/readers", &bytes, None).unwrap();
        let mut holdings = Holdings::default();
        let holding = Holding {
            version: "1".into(),
            bytes: bytes.into(),
            value,
        };
        holdings.put(Kind::AccessPolicy, "market.quotes/readers", holding);
        holdings.policies_known.insert(names().0);
        holdings.services_known.insert(names().0);
        holdings.closed.insert("market.quotes/bad".into());
        holdings
    }

    fn written(folder: &TestFolder, at: SystemTime) -> PathBuf {
        let (service, domain) = names();
        let path = folder.0.join(FILE);
        write(&path, &encode(&holdings(), &service, &domain, at)).unwrap();
        path
    }

    fn read(path: &Path, now: SystemTime) -> Result<Option<Loaded>, String> {
        let (service, domain) = names();
        load(path, &service, &domain, now)
    }

    #[test]
    fn a_copy_comes_back_with_versions_and_with_what_is_known_and_closed() {
        let folder = TestFolder::new("last-good");
        let now = SystemTime::now();
        let loaded = read(&written(&folder, now), now).unwrap().unwrap();
        let held = loaded
            .holdings
            .get(Kind::AccessPolicy, "market.quotes/readers")
            .unwrap();
        assert_eq!(&*held.version, "1");
        assert!(matches!(held.value, Value::AccessPolicy(_)));
        assert!(loaded.fresh && loaded.holdings.policies_known.contains("market.quotes"));
        assert!(loaded.holdings.closed.contains("market.quotes/bad"));
    }

    #[test]
    fn after_a_week_a_copy_no_longer_allows_and_neither_does_one_from_the_future() {
        let folder = TestFolder::new("last-good-old");
        let now = SystemTime::now();
        let week = ALLOW_AGE_MAX + Duration::from_secs(60);
        for at in [now - week, now + week] {
            let loaded = read(&written(&folder, at), now).unwrap().unwrap();
            assert!(!loaded.fresh);
            assert!(loaded.holdings.policies_known.is_empty());
            assert!(loaded.holdings.of(Kind::AccessPolicy).next().is_none());
            assert!(loaded.holdings.services_known.contains("market.quotes"));
        }
    }

    #[test]
    fn a_copy_with_one_bit_turned_or_cut_anywhere_is_not_used() {
        let (service, domain) = names();
        let good = encode(&holdings(), &service, &domain, SystemTime::now());
        assert!(decode(&good).is_ok());
        for index in 0..good.len() {
            let mut bad = good.clone();
            bad[index] ^= 1;
            assert!(decode(&bad).is_err(), "byte {index}");
            assert!(decode(&good[..index]).is_err(), "cut at {index}");
        }
    }

    #[test]
    fn a_copy_of_another_service_is_not_used_and_none_is_no_fault() {
        let folder = TestFolder::new("last-good-other");
        let now = SystemTime::now();
        let path = written(&folder, now);
        let other = ServiceName::parse("market.orders").unwrap();
        let told = load(&path, &other, &names().1, now).err().unwrap();
        assert!(
            told.contains("is of market.quotes in mesh.local, not of market.orders"),
            "{told}"
        );
        assert!(read(&folder.0.join("none"), now).unwrap().is_none());
    }
}
