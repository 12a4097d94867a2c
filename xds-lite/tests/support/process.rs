//! The real program, started as an operator does, and clients for it.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use mesh_link::ca::CertificateAuthority;
use mesh_link::{Credentials, credentials, grpc, tls};
use mesh_proto::name::{ServiceName, SpiffeId, TrustDomain};
use tonic::transport::Channel;

/// A folder with an authority in it.
pub fn authority() -> PathBuf {
    let folder = super::folder("ca");
    let ca = CertificateAuthority::create(&TrustDomain::parse("mesh.local").unwrap()).unwrap();
    ca.save(&folder).unwrap();
    folder
}

/// A running xds-lite.
pub struct XdsLite {
    child: Child,
    ca: CertificateAuthority,
    pub grpc: String,
    pub metrics: String,
}

pub fn command(registry: &str, ca: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xds-lite"));
    command.args(["--registry", registry, "--ca"]).arg(ca);
    command
        .args(["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"])
        .args(more);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs it where it cannot start, and gives back what it says last.
pub fn fails(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(!output.status.success());
    assert!(output.stdout.is_empty());
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!told.contains("panicked"), "{told}");
    told.lines().last().unwrap_or_default().to_owned()
}

impl XdsLite {
    /// Starts it and waits for its ready line.
    pub fn start(registry: &str, ca: &Path, more: &[&str]) -> Self {
        let mut child = command(registry, ca, more).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        let after = |index: usize, prefix: &str| {
            let word = words.get(index).and_then(|word| word.strip_prefix(prefix));
            word.unwrap_or_else(|| panic!("not a ready line: {line:?}"))
                .to_owned()
        };
        assert_eq!((words.first(), words.len()), (Some(&"ready"), 3));
        Self {
            grpc: after(1, "grpc="),
            metrics: after(2, "metrics="),
            child,
            ca: CertificateAuthority::load(ca).unwrap(),
        }
    }

    /// A channel with a certificate of this path, such as `/operator/admin`, or with none.
    pub fn channel(&self, path: Option<&str>) -> Channel {
        let authorities = credentials::read_authorities(self.ca.bundle_pem()).unwrap();
        let own = path.map(|path| {
            let id = SpiffeId::parse(&format!("spiffe://mesh.local{path}")).unwrap();
            let issued = self.ca.issue(&id, Duration::from_secs(600)).unwrap();
            Credentials::from_pem(&issued.chain_pem, &issued.key_pem, self.ca.bundle_pem()).unwrap()
        });
        let server = SpiffeId::control(self.ca.trust_domain());
        let tls = tls::client_config(own.as_ref(), &authorities, server).unwrap();
        grpc::channel(&self.grpc, tls).unwrap()
    }

    pub fn operator(&self) -> Channel {
        self.channel(Some("/operator/admin"))
    }

    pub fn sidecar(&self, service: &str) -> Channel {
        ServiceName::parse(service).unwrap();
        self.channel(Some(&format!("/service/{service}")))
    }

    pub fn http(&self, path: &str) -> String {
        use std::io::Write;
        let mut stream = std::net::TcpStream::connect(&self.metrics).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    pub fn terminate(&mut self) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + super::PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not stop");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for XdsLite {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
