//! `sidecar edge --to HOST:PORT --listen ADDRESS`: JSON in front of a gRPC server that has reflection, with no file at all.
//!
//! ```text
//!  the command line ─► a configuration and two documents, made up ─► a sidecar in standalone mode
//!  the server's reflection ─► its schema ─► the table that is printed: what is served, and one line to try
//! ```

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use mesh_proto::fault::Faults;
use mesh_transcode::{Route, Schema};
use serde_json::{Value, json};

use crate::config::{Config, Source};
use crate::run::Listening;
use crate::{Shared, Snapshot};

/// The one service there is.
const SERVICE: &str = "upstream";
/// Services of gRPC itself are served like others, but are not what anybody came for.
const OWN_PACKAGE: &str = "grpc.";
/// Most routes that are printed; all are on the admin page.
const ROUTES_SHOWN_MAX: usize = 200;

/// What was asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct QuickEdge {
    /// The gRPC server, plaintext HTTP/2. It is asked by reflection what it serves, and waited for if it is away.
    #[arg(long, value_name = "HOST:PORT")]
    to: String,
    /// Where callers connect: JSON over HTTP/1.1 and HTTP/2, and gRPC.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where the admin pages are; loopback. Port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    admin: SocketAddr,
    /// Where the metrics page is; without it there is none.
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics: Option<SocketAddr>,
    /// Pages of this origin may call, such as `http://127.0.0.1:3000`, or * for all. May be given more than once.
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,
    /// Write one JSON object for each call to standard output.
    #[arg(long)]
    access_log: bool,
}

impl QuickEdge {
    /// The configuration all this stands for.
    ///
    /// # Errors
    /// Every fault, at the option that has it.
    pub fn config(&self) -> Result<Config, Faults> {
        let (host, port) = self.host_and_port().map_err(|why| Faults::one("--to", why))?;
        let mut typed = json!({
            "node": {"service": "edge", "id": "edge"},
            "resources": {"file": "."},
            "edge": {"listen": self.listen, "expose": [{"service": SERVICE}], "openapi": {"path": "/openapi.json"}},
            "admin": {"listen": self.admin},
            "accessLog": if self.access_log { "stdout" } else { "off" },
            // Nobody balances over this edge, so nobody has to learn that it goes.
            "drain": {"readinessOff": "0s"},
        });
        if let Some(metrics) = self.metrics {
            typed["metrics"] = json!({"listen": metrics});
        }
        if !self.allow_origin.is_empty() {
            typed["edge"]["cors"] = json!({"origins": self.allow_origin});
        }
        // JSON is YAML.
        let mut config = Config::parse(&typed.to_string(), Path::new("."), [])?;
        config.source = Source::Documents(documents(&host, port).into());
        Ok(config)
    }

    fn host_and_port(&self) -> Result<(String, u16), String> {
        let wrong = || {
            let to = &self.to;
            if to.contains("://") {
                format!("{to:?} is a URL; write host:port. Servers are reached in plaintext only")
            } else {
                format!("{to:?} is not host:port, such as 127.0.0.1:9000")
            }
        };
        let (host, port) = self.to.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        if host.is_empty() || host.contains('/') {
            return Err(wrong());
        }
        Ok((host.to_owned(), port))
    }

    /// What is printed once it serves: the `ready` line, what there is to call, and one line to try.
    #[must_use]
    pub fn greeting(&self, listening: &Listening, shared: &Shared) -> String {
        let mut text = format!("{listening}\n");
        let snapshot = shared.snapshot();
        let Some(schema) = schema(&snapshot) else {
            return text;
        };
        let all = schema.routes(true);
        let (routes, own): (Vec<Route>, Vec<Route>) = all
            .into_iter()
            .partition(|route| !route.method.name().starts_with(OWN_PACKAGE));
        let _ = writeln!(text, "in front of {}, by its reflection:\n", self.to);
        write_table(&mut text, &routes);
        let _ = writeln!(text, "\ngRPC callers reach every method unchanged{}.", also(&own));
        let edge = listening.ways.edge.unwrap_or(self.listen);
        if let Some(admin) = listening.admin {
            let _ = writeln!(text, "docs: http://{admin}/docs");
        }
        if let Some(line) = try_line(&routes, edge) {
            let _ = writeln!(text, "try: {line}");
        }
        text
    }
}

/// Says what is waited for.
pub fn tell_waiting(edge: &QuickEdge) {
    tracing::info!("asking {} by gRPC reflection what it serves", edge.to);
}

/// The documents a person would write for this.
fn documents(host: &str, port: u16) -> String {
    let document = |kind: &str, name: &str, spec: Value| {
        json!({"apiVersion": "mesh/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}).to_string()
    };
    // Most servers have no annotations, so every method gets a path of its own.
    let service = json!({"protocol": "grpc", "schema": {"reflection": true}, "rest": {"unannotated": true}});
    let instance = json!({"address": host, "port": port, "transport": "plaintext"});
    [
        document("Service", SERVICE, service),
        document("Instance", &format!("{SERVICE}/it"), instance),
    ]
    .join("\n---\n")
}

fn schema(snapshot: &Snapshot) -> Option<&Schema> {
    snapshot.services.get(snapshot.find(SERVICE)?)?.schema.as_deref()
}

fn write_table(text: &mut String, routes: &[Route]) {
    let width = |of: fn(&Route) -> usize| routes.iter().take(ROUTES_SHOWN_MAX).map(of).max().unwrap_or(0);
    let first = width(|route| route.http_method().len());
    let second = width(|route| route.template().len());
    for route in routes.iter().take(ROUTES_SHOWN_MAX) {
        let streams = match (route.method.client_streaming(), route.method.server_streaming()) {
            (false, false) => "",
            (false, true) => "  (a stream of answers)",
            (true, false) => "  (takes a stream)",
            (true, true) => "  (streams both ways)",
        };
        let (http_method, template) = (route.http_method(), route.template());
        let _ = writeln!(
            text,
            "  {http_method:first$}  {template:second$}  {}{streams}",
            route.method.name()
        );
    }
    if routes.len() > ROUTES_SHOWN_MAX {
        let _ = writeln!(text, "  … and {} more", routes.len() - ROUTES_SHOWN_MAX);
    }
}

fn also(own: &[Route]) -> String {
    let mut services: Vec<&str> = own
        .iter()
        .filter_map(|route| route.method.name().split('/').next())
        .collect();
    services.dedup();
    if services.is_empty() {
        String::new()
    } else {
        format!(", and {}", services.join(", "))
    }
}

/// A call that is likely to say something: a GET if there is one, the fewest made-up values first.
fn try_line(routes: &[Route], edge: SocketAddr) -> Option<String> {
    let unary = routes
        .iter()
        .filter(|route| !route.method.client_streaming() && !route.method.server_streaming());
    let route = unary.min_by_key(|route| {
        let made_up = route.template().matches(['{', '*']).count();
        (route.takes_body(), made_up, route.template().len())
    })?;
    let url = format!("http://{edge}{}", route.example_path());
    Some(match (route.http_method(), route.takes_body()) {
        ("GET" | "*", false) => format!("curl '{url}'"),
        ("POST" | "*", true) => format!("curl --json '{{}}' '{url}'"),
        (http_method, false) => format!("curl -X {http_method} '{url}'"),
        (http_method, true) => format!("curl -X {http_method} --json '{{}}' '{url}'"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(to: &str) -> QuickEdge {
        QuickEdge {
            to: to.into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
            metrics: None,
            allow_origin: Vec::new(),
            access_log: false,
        }
    }

    #[test]
    fn what_is_made_up_is_what_a_person_could_have_written() {
        for to in ["127.0.0.1:9000", "quotes.example:9000", "[::1]:9000"] {
            let config = asked(to).config().unwrap();
            let holdings = crate::standalone::load(&config.source, &config).unwrap();
            assert_eq!(holdings.count(), 2, "{to}");
        }
    }

    #[test]
    fn a_server_that_is_no_address_and_an_open_admin_port_are_refused_with_the_option() {
        for to in [
            "quotes",
            "quotes:",
            ":9000",
            "quotes:0",
            "quotes:99999",
            "https://quotes:9000",
            "a/b:1",
        ] {
            let told = asked(to).config().unwrap_err().to_string();
            assert!(told.starts_with("--to: ") && told.contains("host:port"), "{told}");
        }
        let mut open = asked("a:1");
        open.admin = SocketAddr::from(([0, 0, 0, 0], 1));
        let told = open.config().unwrap_err().to_string();
        assert!(
            told.contains("admin.listen") && told.contains("loopback"),
            "{told}"
        );
    }

    #[test]
    fn every_route_is_in_the_table_and_the_line_to_try_is_the_simplest() {
        let schema = Schema::compile(mesh_proto::DESCRIPTORS).unwrap();
        let routes = schema.routes(true);
        let mut text = String::new();
        write_table(&mut text, &routes);
        assert_eq!(text.lines().count(), routes.len());
        assert!(text.contains("POST  /mesh.v1.Documents/Apply "), "{text}");
        let line = try_line(&routes, SocketAddr::from(([127, 0, 0, 1], 80))).unwrap();
        assert!(
            line.starts_with("curl --json '{}' 'http://127.0.0.1:80/mesh.v1."),
            "{line}"
        );
    }
}
