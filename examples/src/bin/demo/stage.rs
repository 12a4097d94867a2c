//! The stage: a work folder, the processes that run in it, and the promise that none of them stays behind.
//!
//! ```text
//!  demo ──spawns──► xds-lite, sidecars, services      each leads a process group: a Ctrl-C is for the demo alone
//!    │
//!    └──pipe──► guardian, a shell that waits for the end of its input, then kills every group it was last told of,
//!               and removes the work folder
//! ```
//!
//! The usual end is [`Stage::close`]: SIGTERM first, so that there is nobody left for the guardian to kill. A panic kills
//! each child as its handle is dropped. And when the demo is killed itself, its end of the pipe closes all the same.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime};

use tokio::process::{Child, Command};

use crate::show;

/// A process says within this time that it is ready.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// Processes that were asked to stop are killed after this.
const STOP_LIMIT: Duration = Duration::from_secs(6);
const POLL: Duration = Duration::from_millis(20);
/// Lines of a log that are shown when something went wrong.
const LOG_LINES_SHOWN: usize = 8;
/// What the guardian does; `$1` is the folder to remove, if any.
const GUARDIAN: &str = r#"
while read -r groups; do left=$groups; done
if [ -n "$left" ]; then kill -s KILL -- $left; sleep 1; fi
if [ -n "$1" ]; then rm -rf -- "$1"; fi"#;

/// Where everything runs. Fields are dropped in this order: the guardian comes after those it looks after.
pub(crate) struct Stage {
    processes: BTreeMap<String, Process>,
    guardian: Guardian,
    folder: Folder,
    programs: PathBuf,
}

struct Process {
    child: Child,
    /// Its process id, which is its process group too.
    group: u32,
}

/// The addresses a process listens on, by the names it tells; the only one of a simple service has the name "".
pub(crate) type Ready = BTreeMap<String, SocketAddr>;

impl Stage {
    /// Opens a stage in a new folder: `keep`, or a temporary one that goes at the end. `programs` is where binaries are.
    ///
    /// # Errors
    /// The folder cannot be made, or there is no shell.
    pub(crate) fn open(keep: Option<&Path>, programs: PathBuf) -> Result<Self, String> {
        let folder = Folder::make(keep)?;
        for name in ["logs", "sidecars"] {
            let path = folder.path.join(name);
            std::fs::create_dir(&path).map_err(|error| format!("cannot make {}: {error}", path.display()))?;
        }
        Ok(Self {
            processes: BTreeMap::new(),
            guardian: Guardian::start((!folder.keep).then_some(folder.path.as_path()))?,
            folder,
            programs,
        })
    }

    /// The work folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder.path
    }

    /// Whether the work folder stays.
    pub(crate) fn is_kept(&self) -> bool {
        self.folder.keep
    }

    /// Where a program of the mesh is.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// The file with what a process wrote to stderr.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.folder.path.join("logs").join(format!("{name}.log"))
    }

    /// Writes a file in the work folder.
    ///
    /// # Errors
    /// With the file's name.
    pub(crate) fn write(&self, name: &str, content: &str) -> Result<(), String> {
        let path = self.folder.path.join(name);
        std::fs::write(&path, content).map_err(|error| format!("cannot write {}: {error}", path.display()))
    }

    /// Starts a process under a name, and waits for the line with which it says that it is ready. Arguments have no spaces
    /// in them.
    ///
    /// # Errors
    /// It does not start, ends at once, or is not ready in time.
    pub(crate) async fn start(
        &mut self,
        name: &str,
        program: &str,
        arguments: &str,
    ) -> Result<Ready, String> {
        let said = self.folder.path.join("logs").join(format!("{name}.out"));
        let create = |path: &Path| {
            File::create(path).map_err(|error| format!("cannot write {}: {error}", path.display()))
        };
        let path = self.program(program);
        let child = Command::new(&path)
            .args(arguments.split_whitespace())
            .current_dir(&self.folder.path)
            .stdin(Stdio::null())
            .stdout(create(&said)?)
            .stderr(create(&self.log(name))?)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", path.display()))?;
        let group = child.id().unwrap_or_default();
        self.processes.insert(name.into(), Process { child, group });
        self.tell_guardian();
        let deadline = Instant::now() + READY_LIMIT;
        loop {
            let text = std::fs::read_to_string(&said).unwrap_or_default();
            // Only a whole line counts.
            if let Some((line, _)) = text.split_once('\n')
                && let Some(told) = line.strip_prefix("ready ")
            {
                return addresses(told).ok_or_else(|| format!("{name} says {line:?}, which is no address"));
            }
            if let Some(status) = self.ended(name) {
                return Err(format!("{name} ended at once: {}", how(status)));
            }
            if Instant::now() > deadline {
                return Err(format!("{name} is not ready after {READY_LIMIT:?}"));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Kills processes with SIGKILL, one right after the other.
    ///
    /// # Errors
    /// One does not run.
    pub(crate) async fn kill(&mut self, names: &[&str]) -> Result<(), String> {
        let running = names.iter().filter_map(|name| self.processes.get(*name));
        let ids: Vec<String> = running.map(|process| process.group.to_string()).collect();
        show::did(format_args!(
            "kill -KILL {}      # {}",
            ids.join(" "),
            names.join(", ")
        ));
        for name in names {
            let process = self.processes.get_mut(*name);
            let process = process.ok_or_else(|| format!("{name} does not run"))?;
            let killed = process.child.start_kill();
            killed.map_err(|error| format!("cannot kill {name}: {error}"))?;
        }
        for name in names {
            if let Some(mut process) = self.processes.remove(*name) {
                let _ = process.child.wait().await;
            }
        }
        self.tell_guardian();
        Ok(())
    }

    /// Processes that ended though nobody asked them to.
    pub(crate) fn casualties(&mut self) -> Vec<String> {
        let names: Vec<String> = self.processes.keys().cloned().collect();
        let ended = |name: &String| self.ended(name).map(|status| format!("{name}: {}", how(status)));
        names.iter().filter_map(ended).collect()
    }

    fn ended(&mut self, name: &str) -> Option<ExitStatus> {
        self.processes.get_mut(name)?.child.try_wait().ok().flatten()
    }

    /// The last lines of each log in which there is something to read, but for the services' own call logs.
    pub(crate) fn last_words(&mut self) -> Vec<(String, Vec<String>)> {
        let names: Vec<String> = self.processes.keys().cloned().collect();
        let mut words = Vec::new();
        for name in names {
            let is_service = name.ends_with(".app");
            if is_service && self.ended(&name).is_none() {
                continue;
            }
            let text = std::fs::read_to_string(self.log(&name)).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let tail = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
            if !tail.is_empty() {
                words.push((name, tail.iter().map(|&line| line.to_owned()).collect()));
            }
        }
        words
    }

    /// Ends everything: whoever leans on `last` first, with SIGTERM, and with SIGKILL where that does not help.
    pub(crate) async fn close(mut self, last: &str) {
        let (end, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.processes)
            .into_iter()
            .partition(|(name, _)| name == last);
        for mut round in [others, end] {
            let groups: Vec<String> = round
                .iter()
                .map(|(_, process)| format!("-{}", process.group))
                .collect();
            ask_to_stop(&groups).await;
            let all = async {
                for (_, process) in &mut round {
                    let _ = process.child.wait().await;
                }
            };
            let _ = tokio::time::timeout(STOP_LIMIT, all).await;
            for (_, process) in &mut round {
                let _ = process.child.kill().await;
            }
        }
        self.tell_guardian();
    }

    fn tell_guardian(&mut self) {
        let groups: Vec<String> = self
            .processes
            .values()
            .map(|process| format!("-{}", process.group))
            .collect();
        self.guardian.tell(&groups);
    }
}

/// `inbound=127.0.0.1:1 admin=127.0.0.1:2`, or a single address.
fn addresses(told: &str) -> Option<Ready> {
    told.split_whitespace()
        .map(|word| {
            let (name, address) = word.split_once('=').unwrap_or(("", word));
            Some((name.to_owned(), address.parse().ok()?))
        })
        .collect()
}

fn how(status: ExitStatus) -> String {
    status.to_string()
}

/// The standard library sends SIGKILL only; the shell has the other signals.
async fn ask_to_stop(groups: &[String]) {
    if groups.is_empty() {
        return;
    }
    let _ = Command::new("sh")
        .args(["-c", r#"kill -s TERM -- "$@""#, "sh"])
        .args(groups)
        .stderr(Stdio::null())
        .status()
        .await;
}

/// Kills what is left when we cannot.
struct Guardian {
    shell: std::process::Child,
    pipe: Option<std::process::ChildStdin>,
}

impl Guardian {
    fn start(remove: Option<&Path>) -> Result<Self, String> {
        let mut shell = std::process::Command::new("sh")
            .args(["-c", GUARDIAN, "guardian"])
            .args(remove)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Not among those that a Ctrl-C in the terminal reaches.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot start sh: {error}"))?;
        let pipe = shell.stdin.take();
        Ok(Self { shell, pipe })
    }

    fn tell(&mut self, groups: &[String]) {
        if let Some(pipe) = &mut self.pipe {
            // Without a guardian the other ways to end still hold.
            let _ = writeln!(pipe, "{}", groups.join(" "));
        }
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        self.pipe = None;
        let _ = self.shell.wait();
    }
}

/// The work folder; readable by us only, for it holds keys.
struct Folder {
    path: PathBuf,
    keep: bool,
}

impl Folder {
    fn make(keep: Option<&Path>) -> Result<Self, String> {
        let since = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let fresh = format!("mesh-demo-{}-{}", std::process::id(), since.subsec_nanos());
        let path = keep.map_or_else(|| std::env::temp_dir().join(fresh), Path::to_owned);
        let is_empty = std::fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_none());
        if !is_empty {
            let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
            made.map_err(|error| {
                format!(
                    "cannot make the work folder {}: {error}; name one that is new or empty",
                    path.display()
                )
            })?;
        }
        let path = path
            .canonicalize()
            .map_err(|error| format!("cannot use {}: {error}", path.display()))?;
        Ok(Self {
            path,
            keep: keep.is_some(),
        })
    }
}
