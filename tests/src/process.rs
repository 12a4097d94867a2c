//! A real process: started, watched line by line, told to stop, and killed with the value that stands for it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::wait::{PATIENCE, eventually};

/// How many lines of a log are shown when a test fails.
const SHOWN_LINES: usize = 60;
/// How many calls of an access log.
const SHOWN_CALLS: usize = 5;

/// A running process.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
    /// Whether a panic in the log is for the test to judge.
    may_panic: bool,
}

/// What a process said that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ended {
    /// Standard output as JSON.
    ///
    /// # Panics
    /// It is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// Everything, if it went well.
    ///
    /// # Panics
    /// It did not.
    #[must_use]
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }
}

/// A command for one of our programs.
///
/// # Panics
/// It is not built.
#[must_use]
pub fn program(name: &str) -> Command {
    Command::new(binary(name))
}

fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let folders = own.ancestors().skip(1).take(2);
    let found = folders
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!("{name} is not built beside this test; build it with `cargo build --workspace --bins`, or use `tests/run e2e`")
    })
}

/// Runs one of our programs to its end.
///
/// # Panics
/// It does not end, or panics.
pub fn run(name: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Ended {
    finish(program(name).args(arguments), "")
}

/// Runs a command to its end.
///
/// # Panics
/// It does not end, or panics.
pub fn finish(command: &mut Command, stdin: &str) -> Ended {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{shown}: {error}"));
    let mut input = child.stdin.take().unwrap();
    let stdin = stdin.to_owned();
    // One that does not read what it is given is free to do so.
    let feeder = std::thread::spawn(move || drop(input.write_all(stdin.as_bytes())));
    let stdout = collect(child.stdout.take().unwrap());
    let stderr = collect(child.stderr.take().unwrap());
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begin.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{shown} did not end: {}", stderr.join().unwrap());
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    };
    feeder.join().unwrap();
    let ended = Ended {
        code: status.code(),
        stdout: stdout.join().unwrap(),
        stderr: stderr.join().unwrap(),
    };
    assert!(!ended.stderr.contains("panicked at"), "{shown}: {ended:?}");
    ended
}

fn collect(mut stream: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

impl Process {
    /// Starts a command.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn start(name: impl Into<String>, command: &mut Command) -> Self {
        let name = name.into();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {command:?}: {error}"));
        let log = Arc::default();
        let readers = vec![
            follow(child.stdout.take().unwrap(), &log),
            follow(child.stderr.take().unwrap(), &log),
        ];
        Self {
            name,
            child,
            log,
            readers,
            may_panic: false,
        }
    }

    /// Waits for the line `ready …` and gives back the addresses it tells: `grpc=…` under `grpc`, a bare one under ``.
    ///
    /// # Panics
    /// The process ends before, or never gets ready.
    #[track_caller]
    pub fn ready(&mut self) -> BTreeMap<String, String> {
        let name = self.name.clone();
        let line = eventually(&format!("{name} is ready"), || {
            let ready = self
                .lines()
                .iter()
                .find(|line| line.starts_with("ready"))
                .cloned();
            if ready.is_none() {
                let ended = self.child.try_wait().unwrap();
                assert!(
                    ended.is_none(),
                    "{name} ended before it was ready: {ended:?}\n{}",
                    self.log()
                );
            }
            ready
        });
        let words = line.split_whitespace().skip(1);
        let pair = |word: &str| match word.split_once('=') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            None => (String::new(), word.to_owned()),
        };
        words.map(pair).collect()
    }

    /// All it has written so far, on both streams.
    #[must_use]
    pub fn log(&self) -> String {
        self.lines().join("\n")
    }

    /// The same as lines.
    pub fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a line has all these words, and gives it back.
    ///
    /// # Panics
    /// None ever does.
    #[track_caller]
    pub fn says(&self, words: &[&str]) -> String {
        eventually(&format!("{} says {words:?}", self.name), || {
            let has_all = |line: &&String| words.iter().all(|word| line.contains(word));
            self.lines().iter().find(has_all).cloned()
        })
    }

    /// Process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL: it gets no chance to say goodbye.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal by its name, such as `TERM`.
    ///
    /// # Panics
    /// It is gone.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([format!("-{name}"), self.id().to_string()])
            .status();
        assert!(status.unwrap().success(), "{} is gone", self.name);
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Panics
    /// It does not end.
    #[track_caller]
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// It does not come.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let name = self.name.clone();
        eventually(&format!("{name} ends"), || self.child.try_wait().unwrap())
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// For what is not ours.
    #[must_use]
    pub fn foreign(mut self) -> Self {
        self.may_panic = true;
        self
    }

    /// Resident memory in bytes and processor time so far in seconds, as the system counts them.
    ///
    /// # Panics
    /// It is gone.
    #[must_use]
    pub fn usage(&self) -> (u64, f64) {
        let stat = self.proc("stat");
        // After the name in brackets, which may hold anything: state is field 3, times are 14 and 15, in ticks of 10 ms.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u32 = fields[11].parse::<u32>().unwrap() + fields[12].parse::<u32>().unwrap();
        (self.status_bytes("VmRSS:"), f64::from(ticks) / 100.0)
    }

    /// The most that was ever resident, in bytes, since the start or [`Process::forget_peak`].
    ///
    /// # Panics
    /// It is gone.
    #[must_use]
    pub fn peak(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    /// Begins anew with [`Process::peak`].
    ///
    /// # Panics
    /// It is gone.
    pub fn forget_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.id()), "5").unwrap();
    }

    fn status_bytes(&self, name: &str) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        let kibibytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kibibytes << 10
    }

    fn proc(&self, what: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{what}", self.id())).unwrap()
    }
}

fn follow(stream: impl Read + Send + 'static, log: &Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            log.lock().unwrap_or_else(PoisonError::into_inner).push(text);
            line.clear();
        }
    })
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        let lines = self.lines();
        if std::thread::panicking() {
            eprintln!("--- log of {}", self.name);
            // Of calls, only how the last ones went.
            let calls = lines.iter().filter(|line| is_access_log(line)).count();
            let shown =
                |(number, line): &(usize, &String)| !is_access_log(line) || *number + SHOWN_CALLS > calls;
            let mut number = 0;
            let numbered = lines.iter().map(|line| {
                number += usize::from(is_access_log(line));
                (number, line)
            });
            let shown: Vec<_> = numbered.filter(shown).collect();
            for (_, line) in shown.iter().skip(shown.len().saturating_sub(SHOWN_LINES)) {
                eprintln!("    {line}");
            }
        } else if !self.may_panic {
            let panic = lines.iter().find(|line| line.contains("panicked at"));
            assert!(panic.is_none(), "{}: {panic:?}", self.name);
        }
    }
}

fn is_access_log(line: &str) -> bool {
    line.starts_with("{\"time\"")
}

/// The folder of this repository.
#[must_use]
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}
