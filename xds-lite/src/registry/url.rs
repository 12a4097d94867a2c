//! `file:DIR` and `zk://[USER:PASSWORD@]HOST:PORT[,HOST:PORT...]/PATH`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where the registry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryUrl {
    /// A directory of this machine.
    File(PathBuf),
    /// A ZooKeeper ensemble.
    ZooKeeper(ZkAddress),
}

/// An ensemble, a path in it, and who we are there.
#[derive(Clone, PartialEq, Eq)]
pub struct ZkAddress {
    /// `HOST:PORT,HOST:PORT`
    pub servers: String,
    /// `/mesh`; begins with a slash, has no trailing one.
    pub path: String,
    /// `user:password` for digest authentication.
    pub digest: Option<String>,
}

const FORMS: &str = "write file:DIR or zk://HOST:PORT[,HOST:PORT...]/PATH";

impl FromStr for RegistryUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(directory) = text.strip_prefix("file:") {
            let directory = directory.strip_prefix("//").unwrap_or(directory);
            if directory.is_empty() {
                return Err(format!("file: names no directory; {FORMS}"));
            }
            return Ok(RegistryUrl::File(directory.into()));
        }
        match text.strip_prefix("zk://") {
            Some(rest) => read_zk(rest).map(RegistryUrl::ZooKeeper),
            None => Err(format!("is not a registry; {FORMS}")),
        }
    }
}

fn read_zk(rest: &str) -> Result<ZkAddress, String> {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (digest, servers) = match authority.rsplit_once('@') {
        Some((user, servers)) => (Some(user), servers),
        None => (None, authority),
    };
    if let Some(digest) = digest
        && !digest
            .split_once(':')
            .is_some_and(|(user, password)| !user.is_empty() && !password.is_empty())
    {
        return Err("has a user without a password; write zk://USER:PASSWORD@HOST:PORT/PATH".into());
    }
    for server in servers.split(',') {
        let well_formed = server
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0));
        if !well_formed {
            return Err(format!("has {server:?} where HOST:PORT is expected; {FORMS}"));
        }
    }
    let path = path.trim_end_matches('/');
    let segment_ok = |segment: &str| {
        !segment.is_empty()
            && segment != "."
            && segment != ".."
            && segment.bytes().all(|b| b.is_ascii_graphic())
    };
    if path.is_empty() {
        return Err(format!("names no path; {FORMS}, for example zk://{servers}/mesh"));
    }
    if !path.split('/').all(segment_ok) {
        return Err(format!("has the path {path:?}, which ZooKeeper does not allow"));
    }
    if path == "zookeeper" || path.starts_with("zookeeper/") {
        return Err(
            "names /zookeeper, which ZooKeeper keeps for itself; write another path, such as /mesh".into(),
        );
    }
    Ok(ZkAddress {
        servers: servers.to_owned(),
        path: format!("/{path}"),
        digest: digest.map(ToOwned::to_owned),
    })
}

/// Without credentials: this is what logs and status show.
impl fmt::Display for RegistryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RegistryUrl::File(directory) => write!(f, "file:{}", directory.display()),
            RegistryUrl::ZooKeeper(address) => write!(f, "{address}"),
        }
    }
}

impl fmt::Display for ZkAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "zk://{}{}", self.servers, self.path)
    }
}

impl fmt::Debug for ZkAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_shown_without_credentials() {
        let file: RegistryUrl = "file:/var/lib/mesh".parse().unwrap();
        assert_eq!(file.to_string(), "file:/var/lib/mesh");
        let zk: RegistryUrl = "zk://me:secret@a:2181,b:2181/mesh/prod/".parse().unwrap();
        assert_eq!(zk.to_string(), "zk://a:2181,b:2181/mesh/prod");
        assert!(!format!("{zk:?}").contains("secret"));
        let RegistryUrl::ZooKeeper(address) = zk else {
            panic!()
        };
        assert_eq!(address.digest.as_deref(), Some("me:secret"));
    }

    #[test]
    fn what_is_wrong_is_told_with_the_right_form() {
        for bad in [
            "",
            "file:",
            "/var/lib/mesh",
            "zk:/a:1/b",
            "zk://",
            "zk://a/b",
            "zk://a:0/b",
            "zk://a:2181",
            "zk://a:2181/",
            "zk://a:2181,/b",
            "zk://a:2181/b//c",
            "zk://a:2181/../c",
            "zk://me@a:2181/b",
            "zk://a:2181/zookeeper",
            "zk://a:99999/b",
            "http://a:1/b",
        ] {
            assert!(bad.parse::<RegistryUrl>().is_err(), "{bad:?}");
        }
        let told = "zk://a:2181".parse::<RegistryUrl>().unwrap_err();
        assert!(told.contains("zk://a:2181/mesh"), "{told}");
    }
}
