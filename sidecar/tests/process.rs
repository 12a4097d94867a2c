//! The sidecar as a process: what it prints, how it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use support::Folder;

const CONFIG: &str = "
node: {service: market.quotes, id: a}
resources: {file: resources}
inbound: {listen: '127.0.0.1:0', app: '127.0.0.1:9', plaintext: true}
outbound: {listen: '127.0.0.1:0'}
admin: {listen: '127.0.0.1:0'}
threads: 1
drain: {readinessOff: 100ms, deadline: 5s}
";
const SERVICE: &str =
    "apiVersion: mesh/v1\nkind: Service\nmetadata: {name: market.quotes}\nspec: {protocol: grpc}\n";

fn folder(name: &str, config: &str) -> Folder {
    let folder = Folder::new(name);
    folder.write("sidecar.yaml", config);
    std::fs::create_dir(folder.0.join("resources")).unwrap();
    folder.write("resources/service.yaml", SERVICE);
    folder
}

fn command(folder: &Folder) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidecar"));
    command.arg("--config").arg(folder.0.join("sidecar.yaml"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(folder: &Folder, more: &[&str]) -> (Output, String) {
    let output = command(folder).args(more).output().unwrap();
    let told = String::from_utf8(output.stderr.clone()).unwrap();
    (output, told)
}

/// A process that is ready, killed at the end whatever happens.
struct Ready {
    child: Child,
    line: String,
}

impl Ready {
    fn start(folder: &Folder) -> Self {
        let mut child = command(folder).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        Self { child, line }
    }

    fn address(&self, name: &str) -> String {
        let start = format!("{name}=");
        let word = self
            .line
            .split_whitespace()
            .find_map(|word| word.strip_prefix(&start));
        word.unwrap_or_else(|| panic!("no {name} in {}", self.line))
            .to_owned()
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.address("admin")).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn signal(&self) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Exit code and what was told on standard error.
    fn ended(mut self) -> (Option<i32>, String) {
        let begun = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(20), "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut told = String::new();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut told)
            .unwrap();
        (self.child.wait().unwrap().code(), told)
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_bad_configuration_is_told_with_all_its_faults_and_nothing_else() {
    let folder = folder(
        "process-bad",
        &CONFIG
            .replace("127.0.0.1:9", "nine")
            .replace("threads: 1", "threads: 99"),
    );
    let (output, told) = run(&folder, &[]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(told.lines().count(), 2, "{told}");
    assert!(
        told.contains("sidecar.yaml: inbound.app: \"nine\" is not an IP address and port"),
        "{told}"
    );
    assert!(
        told.contains("sidecar.yaml: threads: 99 is not between 1 and 64"),
        "{told}"
    );
    assert!(output.stdout.is_empty());
}

#[test]
fn checking_reads_the_resources_too_and_starts_nothing() {
    let folder = folder("process-check", CONFIG);
    let (output, told) = run(&folder, &["--check"]);
    assert_eq!((output.status.code(), told.as_str()), (Some(0), ""));
    folder.write("resources/service.yaml", &SERVICE.replace("grpc", "smoke"));
    for more in [&["--check"][..], &[]] {
        let (output, told) = run(&folder, more);
        assert_ne!(output.status.code(), Some(0));
        assert_eq!(told.lines().count(), 1, "{told}");
        assert!(
            told.contains("service.yaml: Service/market.quotes: spec.protocol: "),
            "{told}"
        );
    }
}

#[test]
fn a_port_in_use_is_one_line_with_the_fix() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap();
    for place in [
        "outbound: {listen: '127.0.0.1:0'}",
        "admin: {listen: '127.0.0.1:0'}",
    ] {
        let taken = place.replace("127.0.0.1:0", &address.to_string());
        let folder = folder("process-port", &CONFIG.replace(place, &taken));
        let (output, told) = run(&folder, &[]);
        assert_eq!(output.status.code(), Some(1));
        let expected =
            format!("sidecar: cannot listen on {address}: the port is in use; stop the program that has it");
        assert!(told.starts_with(&expected) && told.lines().count() == 1, "{told}");
    }
}

#[test]
fn it_tells_where_it_listens_swaps_an_edit_and_ends_well_when_asked() {
    let folder = folder("process-life", CONFIG);
    let ready = Ready::start(&folder);
    assert!(
        ready.line.starts_with("ready inbound=127.0.0.1:"),
        "{}",
        ready.line
    );
    assert!(ready.get("/ready").starts_with("HTTP/1.1 200"));
    folder.write(
        "resources/service.yaml",
        &format!("{SERVICE}---\n{}", SERVICE.replace("quotes", "orders")),
    );
    let begun = Instant::now();
    while !ready.get("/resources").contains("market.orders") {
        assert!(begun.elapsed() < Duration::from_secs(20), "the edit is not taken");
    }
    folder.write("resources/service.yaml", "nonsense");
    std::thread::sleep(Duration::from_millis(1200));
    assert!(ready.get("/resources").contains("market.orders"));
    ready.signal();
    let (code, told) = ready.ended();
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(
        told.matches("are refused, those before stay in force").count(),
        1,
        "{told}"
    );
}

#[test]
fn a_second_signal_does_not_wait() {
    let slow = CONFIG.replace(
        "readinessOff: 100ms, deadline: 5s",
        "readinessOff: 60s, deadline: 120s",
    );
    let folder = folder("process-hurry", &slow);
    let ready = Ready::start(&folder);
    ready.signal();
    let begun = Instant::now();
    while !ready.get("/ready").starts_with("HTTP/1.1 503") {
        assert!(begun.elapsed() < Duration::from_secs(20), "still ready");
    }
    ready.signal();
    assert_eq!(ready.ended().0, Some(0));
}
