//! From what was typed to what it means, with every fault told at once.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use mesh_proto::fault::{Check, Faults};
use mesh_proto::name::TrustDomain;

use super::raw::{Leaf, Raw, Typed};
use super::values::{Reader, duration, read_file};
use super::{AccessLog, Config, Control, Drain, Inbound, Outbound, Source, TlsFiles};

const THREADS_MAX: u64 = 64;
/// Data threads where nothing is said: as many as there are cores, up to this.
const THREADS_DEFAULT_MAX: usize = 4;
const READINESS_OFF_DEFAULT: Duration = Duration::from_secs(5);
const DRAIN_DEADLINE_DEFAULT: Duration = Duration::from_secs(30);
const DRAIN_DEADLINE_MAX: Duration = Duration::from_secs(3600);

impl Config {
    /// Reads the file, with the environment laid over it.
    ///
    /// # Errors
    /// Every fault, with the file's name in front of its place.
    pub fn read(
        path: &Path,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Faults> {
        let place = format!("{}:", path.display());
        let text = read_file(path).map_err(|why| Faults::one(&*place, why))?;
        let base = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        Self::parse(&text, base, environment).map_err(|faults| faults.under(&place))
    }

    /// Reads a YAML text. Relative paths in it start at `base`.
    ///
    /// # Errors
    /// Every fault with its place.
    pub fn parse(
        text: &str,
        base: &Path,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Faults> {
        // `accessLog: off` is a word and not a truth value, as in YAML 1.2.
        let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
        let value: serde_json::Value = serde_saphyr::from_str_with_options(text, options)
            .map_err(|error| Faults::one("", format!("is not YAML: {error}")))?;
        let mut check = Check::default();
        let raw = match value {
            serde_json::Value::Null => Raw::default(),
            value => Raw::from_file(&value, &mut check),
        };
        let mut reader = Reader { raw, check, base };
        reader.raw.override_with(environment, &mut reader.check);
        let config = reader.config();
        reader.check.finish(config)
    }
}

impl Reader<'_> {
    fn config(&mut self) -> Option<Config> {
        let source = self.source();
        let tls = self.tls();
        let inbound = self.inbound();
        let outbound = self.outbound();
        let edge = self.edge();
        let admin = self.section_listen("admin", "admin.listen");
        let metrics = self.section_listen("metrics", "metrics.listen");
        let state_dir = self.path("stateDir");
        let dependencies = self.services("dependencies");
        let node = self.node(inbound.as_ref(), edge.as_ref(), outbound.as_ref());
        let threads = self.threads();
        let access_log = self.access_log();
        let drain = self.drain();
        self.loopback(
            "outbound.listen",
            outbound.as_ref().map(|outbound| outbound.listen),
        );
        self.loopback("admin.listen", admin);
        self.whole();
        self.each_address_once();
        Some(Config {
            node: node?,
            source: source?,
            tls,
            state_dir,
            inbound,
            outbound,
            edge,
            dependencies,
            admin,
            metrics,
            threads,
            access_log,
            drain,
        })
    }

    fn source(&mut self) -> Option<Source> {
        let control = self.raw.sections.contains("control");
        let resources = self.raw.sections.contains("resources");
        match (control, resources) {
            (true, true) => {
                self.check.fault(
                    "resources",
                    "stands beside control; resources come either from xds-lite (control) or from files (resources)",
                );
                None
            }
            (false, false) => {
                self.check.fault(
                    "control",
                    "is missing; write control (resources from xds-lite) or resources (from files)",
                );
                None
            }
            (false, true) => {
                let path = self.required("resources.file", "write the file or folder of documents");
                path.and_then(|leaf| self.as_path(&leaf)).map(Source::Files)
            }
            (true, false) => self.control().map(Source::Control),
        }
    }

    fn control(&mut self) -> Option<Control> {
        let servers = self.servers();
        let ca = self.required(
            "control.ca",
            "write the file of the authorities to believe, ca.pem",
        );
        let ca = ca.and_then(|leaf| self.as_path(&leaf));
        let trust_domain = self.required(
            "control.trustDomain",
            "write the trust domain of the mesh, such as mesh.local",
        );
        let trust_domain = trust_domain.and_then(|leaf| self.leaf(&leaf, TrustDomain::parse));
        if self.raw.sections.contains("control.joinToken") {
            self.required(
                "control.joinToken.file",
                "write the file that holds the join token",
            );
        }
        let join_token = self.path("control.joinToken.file");
        if join_token.is_none()
            && !self.raw.sections.contains("tls")
            && !self.raw.sections.contains("control.joinToken")
        {
            self.check.fault(
                "control.joinToken",
                "is missing; xds-lite serves only who has a certificate: write control.joinToken.file (made by \
                 `mesh-ctl token create --service <service>`), or tls",
            );
        }
        Some(Control {
            servers: servers?,
            ca: ca?,
            join_token,
            trust_domain: trust_domain?,
        })
    }

    fn servers(&mut self) -> Option<Vec<String>> {
        let place = self.place_of("control.servers");
        let servers = self.texts("control.servers");
        if servers.is_empty() {
            self.missing("control.servers", "write host:port of at least one xds-lite");
            return None;
        }
        for (index, server) in servers.iter().enumerate() {
            let good = server.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty()
                    && !server.contains('/')
                    && port.parse::<u16>().is_ok_and(|port| port != 0)
                    && (!host.contains(':') || host.starts_with('['))
            });
            if !good {
                self.check.fault(
                    format!("{place}[{index}]"),
                    format!("{server:?} is not host:port, such as 127.0.0.1:18000"),
                );
            }
        }
        Some(servers)
    }

    fn tls(&mut self) -> Option<TlsFiles> {
        if !self.raw.sections.contains("tls") {
            return None;
        }
        let certificate = self.required("tls.certificate", "write the file of the certificate chain");
        let key = self.required("tls.key", "write the file of its private key");
        let ca = self.required("tls.ca", "write the file of the authorities to believe");
        Some(TlsFiles {
            certificate: self.as_path(&certificate?)?,
            key: self.as_path(&key?)?,
            ca: self.as_path(&ca?)?,
        })
    }

    fn inbound(&mut self) -> Option<Inbound> {
        if !self.raw.sections.contains("inbound") {
            return None;
        }
        let listen = self.address(
            "inbound.listen",
            "write where other sidecars connect, such as 0.0.0.0:15006",
        );
        let app = self.address(
            "inbound.app",
            "write where the app listens, such as 127.0.0.1:9000",
        );
        if app.is_some_and(|app| app.port() == 0) {
            let place = self.place_of("inbound.app");
            self.check
                .fault(place, "has port 0; write the port the app listens on");
        }
        let plaintext = self.truth("inbound.plaintext");
        let identity = ["tls", "control"];
        if !plaintext
            && !identity
                .iter()
                .any(|section| self.raw.sections.contains(*section))
        {
            self.check.fault(
                "inbound",
                "has no certificate to show; write tls (certificates from files), or plaintext: true, which serves \
                 without knowing who calls",
            );
        }
        Some(Inbound {
            listen: listen?,
            app: app?,
            plaintext,
        })
    }

    fn outbound(&mut self) -> Option<Outbound> {
        if !self.raw.sections.contains("outbound") {
            return None;
        }
        let listen = self.address(
            "outbound.listen",
            "write where the app connects, such as 127.0.0.1:15001",
        );
        Some(Outbound { listen: listen? })
    }

    fn threads(&mut self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let default = cores.min(THREADS_DEFAULT_MAX);
        match self.raw.leaves.get("threads") {
            Some(Leaf {
                value: Typed::Number(number),
                place,
            }) => match usize::try_from(*number) {
                Ok(threads) if (1..=THREADS_MAX).contains(number) => threads,
                _ => {
                    self.check
                        .fault(place, format!("{number} is not between 1 and {THREADS_MAX}"));
                    default
                }
            },
            _ => default,
        }
    }

    fn access_log(&mut self) -> AccessLog {
        match self.text("accessLog").as_deref() {
            None | Some("stdout") => AccessLog::Stdout,
            Some("off") => AccessLog::Off,
            Some(other) => {
                let place = self.place_of("accessLog");
                self.check
                    .fault(place, format!("{other:?} is not known; write stdout or off"));
                AccessLog::Stdout
            }
        }
    }

    fn drain(&mut self) -> Drain {
        let mut read = |key: &'static str, default: Duration| match self.text_leaf(key) {
            Some(leaf) => self.leaf(&leaf, duration).unwrap_or(default),
            None => default,
        };
        let drain = Drain {
            readiness_off: read("drain.readinessOff", READINESS_OFF_DEFAULT),
            deadline: read("drain.deadline", DRAIN_DEADLINE_DEFAULT),
        };
        if drain.deadline > DRAIN_DEADLINE_MAX {
            self.check
                .fault("drain.deadline", format!("is over {DRAIN_DEADLINE_MAX:?}"));
        }
        if drain.readiness_off >= drain.deadline {
            self.check.fault(
                "drain.readinessOff",
                format!(
                    "{:?} leaves no time before drain.deadline, {:?}; write less",
                    drain.readiness_off, drain.deadline
                ),
            );
        }
        drain
    }

    /// What no single section can see.
    fn whole(&mut self) {
        let ways = ["inbound", "outbound", "edge"];
        if !ways.iter().any(|way| self.raw.sections.contains(*way)) {
            self.check.fault(
                "",
                "nothing to do; write at least one of inbound, outbound and edge",
            );
        }
    }

    fn each_address_once(&mut self) {
        let mut seen = BTreeSet::new();
        for key in [
            "inbound.listen",
            "outbound.listen",
            "edge.listen",
            "admin.listen",
            "metrics.listen",
        ] {
            let Some(leaf) = self.text_leaf(key) else {
                continue;
            };
            let address: Option<SocketAddr> = leaf.1.parse().ok();
            if address.is_some_and(|address| address.port() != 0 && !seen.insert(address)) {
                self.check
                    .fault(leaf.0, format!("{} is used by another listener here", leaf.1));
            }
        }
    }
}
