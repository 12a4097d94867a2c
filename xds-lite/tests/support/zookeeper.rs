//! A real ZooKeeper for tests: own data folder, free port, gone with the test process whatever happens to that.

use std::io::Write;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Where Debian's package keeps its jars.
const JARS: &str = "/usr/share/java";
/// What the server loads of them.
const CLASS_PATH: [&str; 15] = [
    "zookeeper",
    "zookeeper-jute",
    "slf4j-api",
    "slf4j-nop",
    "netty-handler",
    "netty-transport",
    "netty-buffer",
    "netty-common",
    "netty-codec",
    "netty-resolver",
    "netty-transport-native-epoll",
    "netty-transport-native-unix-common",
    "snappy-java",
    "metrics-core",
    "jackson-core",
];
/// A tick; sessions last 2 to 20 of them.
const TICK_MS: u32 = 500;
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A server, running or killed.
pub struct ZooKeeper {
    folder: PathBuf,
    port: u16,
    process: Option<Child>,
}

impl ZooKeeper {
    /// Starts one and waits until it answers.
    pub fn start(name: &str) -> Self {
        let jar = PathBuf::from(JARS).join("zookeeper.jar");
        assert!(
            jar.is_file(),
            "{} is missing: install ZooKeeper with `apt-get install --no-install-recommends zookeeper`",
            jar.display()
        );
        let folder = super::folder(&format!("zookeeper-{name}"));
        let port = super::free_port();
        let config = format!(
            "tickTime={TICK_MS}\ndataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\n\
             admin.enableServer=false\n4lw.commands.whitelist=\nmaxClientCnxns=0\n",
            folder.join("data").display()
        );
        std::fs::write(folder.join("zoo.cfg"), config).unwrap();
        let mut server = Self {
            folder,
            port,
            process: None,
        };
        server.resume();
        server
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts it again on the same port, with the data it had.
    pub fn resume(&mut self) {
        let jars = CLASS_PATH.map(|jar| format!("{JARS}/{jar}.jar")).join(":");
        // The shell ends the server when our end of its standard input closes, which the kernel does for us at the latest.
        let script = "java -Xmx96m -XX:TieredStopAtLevel=1 -cp \"$0\" \
                      org.apache.zookeeper.server.quorum.QuorumPeerMain \"$1\" </dev/null & \
                      read -r _; kill -9 $!; wait";
        let process = Command::new("sh")
            .args(["-c", script, &jars])
            .arg(self.folder.join("zoo.cfg"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.process = Some(process);
        let deadline = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(
                Instant::now() < deadline,
                "ZooKeeper does not start; is java installed?"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            if let Some(mut input) = process.stdin.take() {
                let _ = input.write_all(b"\n");
            }
            let _ = process.wait();
        }
    }

    /// Throws its data away. It must be killed.
    pub fn wipe(&self) {
        std::fs::remove_dir_all(self.folder.join("data")).unwrap();
    }
}

impl Drop for ZooKeeper {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
