//! Builds the programs of the mesh, beside our own.

use std::env;
use std::path::{Path, PathBuf};

use tokio::process::Command;

const PROGRAMS: [&str; 5] = ["xds-lite", "sidecar", "mesh-ctl", "quotes", "portfolio"];
const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
/// What `cargo run` tells its child, and would make a `cargo build` inside of it believe that something changed.
const CARGO_VARIABLES: [&str; 4] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];

/// The folder of our own executable, which is where cargo puts the others too.
///
/// # Errors
/// The system does not tell.
pub(crate) fn folder() -> Result<PathBuf, String> {
    let own = env::current_exe().map_err(|error| format!("cannot find the demo's own file: {error}"))?;
    let folder = own.parent().map(Path::to_owned);
    folder.ok_or_else(|| format!("{} is in no folder", own.display()))
}

/// Builds all programs with the profile the demo was built with. Cargo shows how it goes.
///
/// # Errors
/// The build fails.
pub(crate) async fn build(folder: &Path) -> Result<(), String> {
    let (Some(target), Some(profile)) = (folder.parent(), folder.file_name().and_then(|name| name.to_str()))
    else {
        return Err(format!(
            "{} is no folder of cargo; build first, then use --no-build",
            folder.display()
        ));
    };
    // The dev profile is the only one whose folder has another name.
    let profile = if profile == "debug" { "dev" } else { profile };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // No `-p`: with it cargo would choose other features than for `cargo run --bin demo`, and build everything twice.
    command.args([
        "build",
        "--manifest-path",
        MANIFEST,
        "--profile",
        profile,
        "--target-dir",
    ]);
    command.arg(target);
    for program in PROGRAMS {
        command.args(["--bin", program]);
    }
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if CARGO_VARIABLES.iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
    // A group of its own, so that a build that is given up takes its compilers with it.
    let mut child = command
        .process_group(0)
        .spawn()
        .map_err(|error| format!("cannot run cargo: {error}; build first, then use --no-build"))?;
    let mut running = Build(child.id());
    let status = child.wait().await;
    running.0 = None;
    let status = status.map_err(|error| format!("cannot wait for cargo: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!(
            "the programs of the mesh do not build: cargo ended with {status}"
        ))
    }
}

/// The process group of a build, while it runs. It is stopped when this is dropped.
struct Build(Option<u32>);

impl Drop for Build {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let stop = format!("kill -s TERM -- -{group}");
            let _ = std::process::Command::new("sh").args(["-c", &stop]).status();
        }
    }
}

/// Tells which program is missing, if any.
///
/// # Errors
/// One is.
pub(crate) fn find_all(folder: &Path) -> Result<(), String> {
    match PROGRAMS.iter().find(|program| !folder.join(program).is_file()) {
        None => Ok(()),
        Some(program) => Err(format!(
            "{} is not there; leave --no-build out",
            folder.join(program).display()
        )),
    }
}
