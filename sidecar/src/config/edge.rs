//! The edge's part of the configuration: what is exposed, and to whose pages.

use std::time::Duration;

use http::HeaderName;
use mesh_proto::fault::{Check, Faults};
use mesh_proto::name::ServiceName;

use super::raw::{Leaf, RawExposed, Typed};
use super::values::{Reader, duration, read_prefix};
use super::{Edge, EdgeTls, Exposed};
use crate::gates::cors::{Cors, MAX_AGE_DEFAULT, MAX_AGE_MAX, OriginRule};

impl Reader<'_> {
    pub(super) fn edge(&mut self) -> Option<Edge> {
        if !self.raw.sections.contains("edge") {
            return None;
        }
        let listen = self.address(
            "edge.listen",
            "write where the world connects, such as 0.0.0.0:8080",
        );
        let tls = if self.raw.sections.contains("edge.tls") {
            let certificate =
                self.required("edge.tls.certificate", "write the file of the certificate chain");
            let key = self.required("edge.tls.key", "write the file of its private key");
            certificate.zip(key).and_then(|(certificate, key)| {
                Some(EdgeTls {
                    certificate: self.as_path(&certificate)?,
                    key: self.as_path(&key)?,
                })
            })
        } else {
            None
        };
        let expose = self.exposed();
        let cors = self.cors();
        let openapi = if self.raw.sections.contains("edge.openapi") {
            let path = self.required("edge.openapi.path", "write for example /openapi.json");
            path.and_then(|leaf| self.leaf(&leaf, read_prefix))
        } else {
            None
        };
        Some(Edge {
            listen: listen?,
            tls,
            expose,
            cors,
            openapi,
        })
    }

    fn exposed(&mut self) -> Vec<Exposed> {
        let place = self.place_of("edge.expose");
        let entries = match self.raw.leaves.get("edge.expose") {
            Some(Leaf {
                value: Typed::Exposed(entries),
                ..
            }) => entries.clone(),
            _ => Vec::new(),
        };
        if entries.is_empty() {
            self.missing(
                "edge.expose",
                "name at least one service, such as [{service: market.quotes}]",
            );
        }
        self.few(&place, entries.len());
        let mut exposed: Vec<Exposed> = Vec::new();
        for (index, entry) in entries.into_iter().enumerate() {
            let here = format!("{place}[{index}]");
            let Some(entry) = self.check.part(&here, read_exposed(&entry)) else {
                continue;
            };
            for other in &exposed {
                if other.service == entry.service {
                    self.check.fault(
                        format!("{here}.service"),
                        format!("{} stands here twice", entry.service),
                    );
                }
                if other.prefix.is_some() && other.prefix == entry.prefix {
                    self.check.fault(
                        format!("{here}.prefix"),
                        format!("belongs to {} already", other.service),
                    );
                }
            }
            exposed.push(entry);
        }
        exposed
    }

    fn cors(&mut self) -> Option<Cors> {
        if !self.raw.sections.contains("edge.cors") {
            return None;
        }
        let origins: Vec<OriginRule> = self.each("edge.cors.origins", OriginRule::parse);
        if origins.is_empty() {
            self.missing(
                "edge.cors.origins",
                "name at least one origin, such as [https://app.example.com]",
            );
        }
        let every_header = self.texts("edge.cors.headers") == ["*"];
        let headers = (!every_header).then(|| self.each("edge.cors.headers", header_name));
        let expose = self.each("edge.cors.expose", header_name);
        let credentials = self.truth("edge.cors.credentials");
        if credentials && origins.contains(&OriginRule::Any) {
            let place = self.place_of("edge.cors.credentials");
            self.check.fault(
                place,
                "cannot go with the origin *: any page could act as whoever looks at it; name the origins",
            );
        }
        let max_age = self.cors_max_age();
        (!origins.is_empty()).then_some(Cors {
            origins,
            headers,
            expose,
            credentials,
            max_age,
        })
    }

    fn cors_max_age(&mut self) -> Duration {
        let Some(leaf) = self.text_leaf("edge.cors.maxAge") else {
            return MAX_AGE_DEFAULT;
        };
        let age = self.leaf(&leaf, duration).unwrap_or(MAX_AGE_DEFAULT);
        if age > MAX_AGE_MAX {
            self.check.fault(leaf.0, format!("is over {MAX_AGE_MAX:?}"));
        }
        age
    }
}

fn header_name(text: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| format!("{text:?} is not a header name, such as x-tenant"))
}

fn read_exposed(entry: &RawExposed) -> Result<Exposed, Faults> {
    let mut check = Check::default();
    let service = check.leaf("service", ServiceName::parse(&entry.service));
    let prefix = entry
        .prefix
        .as_deref()
        .and_then(|prefix| check.leaf("prefix", read_prefix(prefix)));
    check.finish(service.map(|service| Exposed { service, prefix }))
}
