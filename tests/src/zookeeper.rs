//! A real ZooKeeper of one server, from the Debian package.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::folder::{Folder, free_port};
use crate::process::Process;
use crate::wait::eventually;

const JAR: &str = "/usr/share/java/zookeeper.jar";
/// Sessions may be as short as twice and as long as twenty times this.
pub const TICK: Duration = Duration::from_millis(500);

/// A server with a data folder of its own, which outlives a kill.
#[derive(Debug)]
pub struct ZooKeeper {
    port: u16,
    folder: Folder,
    process: Option<Process>,
}

impl ZooKeeper {
    /// Starts one and waits until it answers.
    ///
    /// # Panics
    /// The package is not installed.
    #[must_use]
    pub fn start() -> Self {
        assert!(
            Path::new(JAR).exists(),
            "{JAR} is missing: tests/setup installs Debian's zookeeper"
        );
        let mut zookeeper = Self {
            port: free_port(),
            folder: Folder::new(),
            process: None,
        };
        zookeeper.run();
        zookeeper
    }

    /// `127.0.0.1:PORT`
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts it again, with the data it had.
    ///
    /// # Panics
    /// It does not answer.
    pub fn run(&mut self) {
        let lines = [
            format!("tickTime={}", TICK.as_millis()),
            format!("dataDir={}", self.folder.join("data").display()),
            format!("clientPort={}", self.port),
            "clientPortAddress=127.0.0.1".into(),
            "admin.enableServer=false".into(),
            "4lw.commands.whitelist=*".into(),
            "maxClientCnxns=0".into(),
        ];
        let config = self.folder.write("zoo.cfg", lines.join("\n"));
        let mut java = Command::new("java");
        java.args(["-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .args([
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
                "-Dzookeeper.preAllocSize=512",
            ])
            .args(["-cp", &format!("{JAR}:/usr/share/java/slf4j-simple.jar")])
            .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
            .arg(config);
        self.process = Some(Process::start("ZooKeeper", &mut java).foreign());
        eventually("ZooKeeper answers", || {
            self.ask("srvr").filter(|answer| answer.contains("Mode:"))
        });
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Kills it and starts it again.
    pub fn restart(&mut self) {
        self.kill();
        self.run();
    }

    /// A four-letter word's answer.
    #[must_use]
    pub fn ask(&self, word: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.address()).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        stream.write_all(word.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }
}
