//! Who a sidecar is: what it was told, and what can be made up from where it listens.

use std::net::SocketAddr;

use mesh_proto::domain::{Instance, Locality};
use mesh_proto::name::{InstanceName, ServiceName};
use mesh_proto::v1;

use super::values::{Reader, host_name};
use super::{Edge, Inbound, Node, Outbound};

impl Reader<'_> {
    pub(super) fn node(
        &mut self,
        inbound: Option<&Inbound>,
        edge: Option<&Edge>,
        outbound: Option<&Outbound>,
    ) -> Option<Node> {
        let service = self.required("node.service", "write the service this sidecar stands next to");
        let service = service.and_then(|leaf| self.leaf(&leaf, ServiceName::parse));
        let locality = Locality {
            region: self.text("node.locality.region").unwrap_or_default().into(),
            zone: self.text("node.locality.zone").unwrap_or_default().into(),
            sub_zone: self.text("node.locality.subZone").unwrap_or_default().into(),
        };
        let listen = inbound
            .map(|i| i.listen)
            .or(edge.map(|e| e.listen))
            .or(outbound.map(|o| o.listen));
        let id = self.node_id(listen);
        let address = self.node_address(inbound);
        let service = service?;
        let (id, address) = (id?, address?);
        // What will be registered is judged as whoever reads it will.
        let place = self.place_of("node.id");
        self.check
            .leaf(&place, InstanceName::parse(&format!("{service}/{id}")))?;
        self.check_address(&address)?;
        Some(Node {
            service,
            id: id.into(),
            address: address.into(),
            locality,
        })
    }

    fn node_id(&mut self, listen: Option<SocketAddr>) -> Option<String> {
        if let Some(id) = self.text("node.id") {
            return Some(id);
        }
        match listen {
            Some(listen) if listen.port() != 0 => Some(format!("{}-{}", host_name(), listen.port())),
            Some(_) => {
                self.check.fault(
                    "node.id",
                    "is missing, and cannot be made up while the port is 0; write a name unique in the service",
                );
                None
            }
            // That nothing listens is a fault of its own.
            None => Some(host_name()),
        }
    }

    /// Where the mesh is told to reach this sidecar.
    fn node_address(&mut self, inbound: Option<&Inbound>) -> Option<String> {
        if let Some(address) = self.text("node.address") {
            return Some(address);
        }
        let Some(inbound) = inbound else {
            return Some(host_name());
        };
        if self.raw.sections.contains("control") && inbound.listen.ip().is_unspecified() {
            self.check.fault(
                "node.address",
                format!(
                    "is missing; inbound.listen is {}, which is no address others can connect to: write the IP address \
                     or host name under which they reach it",
                    inbound.listen
                ),
            );
            return None;
        }
        Some(inbound.listen.ip().to_string())
    }

    fn check_address(&mut self, address: &str) -> Option<()> {
        let probe = v1::Instance {
            metadata: Some(v1::Metadata {
                name: "a/a".into(),
                ..Default::default()
            }),
            spec: Some(v1::InstanceSpec {
                address: address.into(),
                port: 1,
                ..Default::default()
            }),
        };
        let place = self.place_of("node.address");
        let judged = Instance::try_from(probe).map_err(|faults| {
            let messages: Vec<_> = faults.0.into_iter().map(|fault| fault.message).collect();
            messages.join("; ")
        });
        self.check.leaf(&place, judged).map(drop)
    }
}
