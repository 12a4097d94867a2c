//! The command line. Every option has a twin in the environment.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use mesh_link::log::Format;

use crate::registry::RegistryUrl;

/// The control service of the mesh: tells every sidecar what it needs to know.
#[derive(Debug, Clone, Parser)]
#[command(name = "xds-lite", version)]
pub struct Options {
    /// Where documents and instances are: `file:DIR` or `zk://[USER:PASSWORD@]HOST:PORT,.../PATH`
    #[arg(long, env = "MESH_XDS_REGISTRY", hide_env_values = true, value_name = "URL")]
    pub registry: RegistryUrl,
    /// Where sidecars and mesh-ctl connect; port 0 takes any free one
    #[arg(
        long,
        env = "MESH_XDS_LISTEN",
        default_value = "127.0.0.1:18000",
        value_name = "ADDRESS"
    )]
    pub listen: SocketAddr,
    /// Where /metrics, /live and /ready are served
    #[arg(
        long,
        env = "MESH_XDS_METRICS",
        default_value = "127.0.0.1:18080",
        value_name = "ADDRESS"
    )]
    pub metrics: SocketAddr,
    /// The certificate authority's folder, as made by `mesh-ctl ca init`
    #[arg(long, env = "MESH_XDS_CA", value_name = "DIR")]
    pub ca: PathBuf,
    /// How others reach the gRPC listener, if not at the address it listens on
    #[arg(long, env = "MESH_XDS_ADVERTISE", value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    /// The name of this replica, unique among them; default: its advertised address
    #[arg(long, env = "MESH_XDS_REPLICA", value_name = "ID", value_parser = replica)]
    pub replica: Option<String>,
    /// How long an instance outlives the sidecar's stream: 1s to 10m
    #[arg(long, env = "MESH_XDS_REGISTRATION_GRACE", default_value = "10s", value_parser = grace, value_name = "TIME")]
    pub registration_grace: Duration,
    /// Life of the certificates that are signed: 10s to 720h
    #[arg(long, env = "MESH_XDS_CERTIFICATE_LIFETIME", default_value = "24h", value_parser = lifetime, value_name = "TIME")]
    pub certificate_lifetime: Duration,
    /// Asked of ZooKeeper, which allows 2 to 20 times its tickTime: 1s to 2m
    #[arg(long, env = "MESH_XDS_ZK_SESSION_TIMEOUT", default_value = "15s", value_parser = session, value_name = "TIME")]
    pub zk_session_timeout: Duration,
    /// How log lines look: text or json
    #[arg(long, env = "MESH_XDS_LOG", default_value = "text", value_name = "FORMAT")]
    pub log: Format,
}

fn grace(text: &str) -> Result<Duration, String> {
    between(text, Duration::from_secs(1), Duration::from_secs(600))
}

fn lifetime(text: &str) -> Result<Duration, String> {
    between(text, Duration::from_secs(10), Duration::from_secs(720 * 3600))
}

fn session(text: &str) -> Result<Duration, String> {
    between(text, Duration::from_secs(1), Duration::from_secs(120))
}

fn replica(text: &str) -> Result<String, String> {
    if (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() && b != b'/') {
        Ok(text.to_owned())
    } else {
        Err("write 1 to 128 visible characters other than '/'".into())
    }
}

fn between(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    let time = duration(text)?;
    if (least..=most).contains(&time) {
        Ok(time)
    } else {
        Err(format!("{text} is not within {least:?} and {most:?}"))
    }
}

/// `500ms`, `10s`, `5m`, `24h`.
fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => 0,
    };
    digits
        .parse::<u64>()
        .ok()
        .filter(|_| millis > 0)
        .and_then(|number| number.checked_mul(millis))
        .map(Duration::from_millis)
        .ok_or_else(|| format!("{text:?} is not a time; write for example 10s, 5m or 24h"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit_and_bounds() {
        assert_eq!(grace("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(lifetime("24h"), Ok(Duration::from_secs(24 * 3600)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for bad in [
            "",
            "10",
            "s",
            "-1s",
            "1d",
            "10 s",
            "0s",
            "99999999999999999999h",
            "11m",
        ] {
            assert!(grace(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Options::command().debug_assert();
        let parsed = Options::try_parse_from(["xds-lite", "--registry", "zk://a", "--ca", "x"]).unwrap_err();
        assert!(parsed.to_string().contains("HOST:PORT"), "{parsed}");
    }
}
