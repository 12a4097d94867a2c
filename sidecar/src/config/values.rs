//! Takes single values out of what was typed: each by its place, each with what is wrong with it.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mesh_proto::fault::Check;
use mesh_proto::name::ServiceName;

use super::raw::{Leaf, Raw, Typed};

/// Largest configuration file, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Most entries of any list in it.
const ENTRIES_MAX: usize = 1000;

/// What was typed, and what was found wrong with it so far.
pub(super) struct Reader<'a> {
    pub(super) raw: Raw,
    pub(super) check: Check,
    pub(super) base: &'a Path,
}

impl Reader<'_> {
    pub(super) fn section_listen(&mut self, section: &str, key: &'static str) -> Option<SocketAddr> {
        if !self.raw.sections.contains(section) {
            return None;
        }
        self.address(key, "write an address and port")
    }

    pub(super) fn loopback(&mut self, key: &'static str, address: Option<SocketAddr>) {
        if let Some(address) = address.filter(|address| !address.ip().is_loopback()) {
            let place = self.place_of(key);
            let port = address.port();
            self.check.fault(
                place,
                format!("{address} is not a loopback address, and whoever connects here is trusted; write 127.0.0.1:{port}"),
            );
        }
    }

    pub(super) fn services(&mut self, key: &'static str) -> Vec<ServiceName> {
        self.each(key, ServiceName::parse)
    }

    /// Every entry of a list, read; those that cannot be are told each by its place.
    pub(super) fn each<T>(&mut self, key: &'static str, read: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let place = self.place_of(key);
        let texts = self.texts(key);
        self.few(&place, texts.len());
        let mut all = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            all.extend(self.check.leaf(&format!("{place}[{index}]"), read(text)));
        }
        all
    }

    pub(super) fn truth(&self, key: &'static str) -> bool {
        matches!(
            self.raw.leaves.get(key),
            Some(Leaf {
                value: Typed::Truth(true),
                ..
            })
        )
    }

    pub(super) fn few(&mut self, place: &str, entries: usize) {
        if entries > ENTRIES_MAX {
            self.check.fault(
                place,
                format!("has {entries} entries; at most {ENTRIES_MAX} are allowed"),
            );
        }
    }

    pub(super) fn address(&mut self, key: &'static str, fix: &str) -> Option<SocketAddr> {
        let leaf = self.required(key, fix)?;
        self.leaf(&leaf, |text| {
            text.parse()
                .map_err(|_| format!("{text:?} is not an IP address and port, such as 127.0.0.1:15006"))
        })
    }

    pub(super) fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        let leaf = self.text_leaf(key)?;
        self.as_path(&leaf)
    }

    pub(super) fn as_path(&mut self, leaf: &(String, String)) -> Option<PathBuf> {
        let base = self.base;
        self.leaf(leaf, |text| match text {
            "" => Err("is blank; write a path".to_owned()),
            text => Ok(base.join(text)),
        })
    }

    pub(super) fn leaf<T>(
        &mut self,
        (place, text): &(String, String),
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.check.leaf(place, read(text))
    }

    pub(super) fn required(&mut self, key: &'static str, fix: &str) -> Option<(String, String)> {
        let found = self.text_leaf(key);
        if found.is_none() {
            self.missing(key, fix);
        }
        found
    }

    pub(super) fn missing(&mut self, key: &'static str, fix: &str) {
        // A value of the wrong shape has been told already.
        if !self.raw.refused.contains(key) {
            let place = self.place_of(key);
            self.check.fault(place, format!("is missing; {fix}"));
        }
    }

    pub(super) fn text(&self, key: &'static str) -> Option<String> {
        self.text_leaf(key).map(|(_, text)| text)
    }

    pub(super) fn text_leaf(&self, key: &'static str) -> Option<(String, String)> {
        match self.raw.leaves.get(key)? {
            Leaf {
                place,
                value: Typed::Text(text),
            } => Some((place.clone(), text.clone())),
            _ => None,
        }
    }

    pub(super) fn texts(&self, key: &'static str) -> Vec<String> {
        match self.raw.leaves.get(key) {
            Some(Leaf {
                value: Typed::Texts(texts),
                ..
            }) => texts.clone(),
            _ => Vec::new(),
        }
    }

    pub(super) fn place_of(&self, key: &'static str) -> String {
        self.raw
            .leaves
            .get(key)
            .map_or_else(|| key.to_owned(), |leaf| leaf.place.clone())
    }
}

pub(super) fn read_prefix(text: &str) -> Result<Arc<str>, String> {
    let plain = |segment: &str| {
        !segment.is_empty()
            && segment != "."
            && segment != ".."
            && segment
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
    };
    if !text.starts_with('/') {
        Err(format!(
            "{text:?} does not begin with '/'; write for example /portfolio"
        ))
    } else if text.ends_with('/') {
        Err(format!(
            "{text:?} ends with '/'; write for example /portfolio, or leave it out"
        ))
    } else if !text[1..].split('/').all(plain) {
        Err(format!(
            "{text:?} is not a plain path: write letters, digits, '-', '.', '_' and '~' between single '/'"
        ))
    } else {
        Ok(text.into())
    }
}

/// `250ms`, `5s`, `2m`, `1h`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let fail = || format!("{text:?} is not a duration; write for example 250ms, 5s or 2m");
    let unit = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(fail)?;
    let number: u64 = text[..unit].parse().map_err(|_| fail())?;
    let millis = match &text[unit..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(fail()),
    };
    number
        .checked_mul(millis)
        .map(Duration::from_millis)
        .ok_or_else(fail)
}

pub(super) fn read_file(path: &Path) -> Result<String, String> {
    use std::io::Read;
    let fail = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "is not there; write the path of the configuration file".to_owned(),
        std::io::ErrorKind::InvalidData => "is not UTF-8 text".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(fail)?;
    file.take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(fail)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("is larger than {FILE_BYTES_MAX} bytes"));
    }
    Ok(text)
}

/// This host's name, cut to what an instance id may hold.
pub(super) fn host_name() -> String {
    let told = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let clean: String = told
        .trim()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-' || *c == '.')
        .take(64)
        .collect();
    match clean.trim_start_matches(['-', '.']) {
        "" => IpAddr::from([127, 0, 0, 1]).to_string(),
        name => name.to_owned(),
    }
}
