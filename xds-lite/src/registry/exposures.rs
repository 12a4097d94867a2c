//! What edges expose: told by each edge to the replica it is connected to, and by that replica to the others, so that
//! every replica judges rules by all edges there are.
//!
//! ```text
//!  10.0.0.1:18000                       the replica's address
//!  web.edge/a market.quotes,web.shop    a line for each edge
//! ```

use std::collections::{BTreeMap, BTreeSet};

use mesh_proto::name::{InstanceName, ServiceName};

/// Services by the edge that exposes them, `<service>/<id>`.
pub type Exposures = BTreeMap<String, BTreeSet<String>>;

/// Most services of one edge that are taken in.
pub const SERVICES_MAX: usize = 1000;
/// Most bytes a replica tells. ZooKeeper refuses nodes over 1 MiB.
const BYTES_MAX: usize = 512 << 10;
/// Longest address of a replica, in characters.
const ADDRESS_CHARS_MAX: usize = 256;

/// The names among these that are a service's, as many as are taken in.
pub fn services<'a>(names: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    names
        .take(SERVICES_MAX)
        .filter(|name| ServiceName::parse(name).is_ok())
        .map(str::to_owned)
        .collect()
}

/// A replica's address and its edges, as they are stored. Edges for which there is no room are left out.
#[must_use]
pub fn encode(address: &str, edges: &Exposures) -> String {
    let mut text = address.to_owned();
    for (edge, services) in edges {
        let services: Vec<&str> = services.iter().map(String::as_str).collect();
        let line = format!("\n{edge} {}", services.join(","));
        if text.len() + line.len() > BYTES_MAX {
            tracing::warn!(
                edge,
                "too many edges: what this one exposes is not told to other replicas"
            );
            break;
        }
        text.push_str(&line);
    }
    text
}

/// A replica's address and its edges. Lines that are neither are passed over.
#[must_use]
pub fn decode(data: &[u8]) -> (String, Exposures) {
    let text = String::from_utf8_lossy(&data[..data.len().min(BYTES_MAX)]);
    let mut lines = text.lines();
    let address = lines.next().unwrap_or_default().chars().take(ADDRESS_CHARS_MAX);
    let edges = lines.filter_map(|line| {
        let (edge, names) = line.split_once(' ')?;
        InstanceName::parse(edge).ok()?;
        Some((edge.to_owned(), services(names.split(','))))
    });
    (address.collect(), edges.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_replica_tells_is_read_by_the_others() {
        let edges = Exposures::from([
            (
                "web.edge/a".into(),
                ["market.quotes".into(), "web.shop".into()].into(),
            ),
            ("web.edge/b".into(), ["web.shop".into()].into()),
        ]);
        let told = encode("10.0.0.1:18000", &edges);
        assert_eq!(decode(told.as_bytes()), ("10.0.0.1:18000".into(), edges));
        assert_eq!(decode(b"h:1"), ("h:1".into(), Exposures::new()));
    }

    #[test]
    fn lines_that_are_no_edge_are_passed_over() {
        let (address, edges) = decode(b"h:1\nnot-an-edge\nweb.edge/a web.shop,No Name,\n\xff b\n");
        assert_eq!(address, "h:1");
        assert_eq!(edges, [("web.edge/a".into(), ["web.shop".into()].into())].into());
    }

    #[test]
    fn more_edges_than_there_is_room_for_are_left_out() {
        let many = (0..SERVICES_MAX)
            .map(|n| format!("market.service-with-a-long-name-{n}"))
            .collect();
        let edges: Exposures = (0..50)
            .map(|n| (format!("web.edge/{n}"), BTreeSet::clone(&many)))
            .collect();
        let told = encode("h:1", &edges);
        assert!(told.len() <= BYTES_MAX);
        assert!(decode(told.as_bytes()).1.len() > 5);
    }
}
