"""What is measured: our sidecar, its peers and the floor, each as one proxy (plain) or as a pair over mutual TLS.

    plain:  load ─h2c─► proxy ─h2c─► backend
    rest:   wrk, h2load ─JSON─► proxy ─h2c─► backend
    pair:   load ─h2c─► caller ─mTLS─► called ─h2c─► backend
"""

import subprocess
from pathlib import Path

from . import setup
from .processes import Process, free_port, wait_for_answer, wait_for_json, wait_for_port

PEERS = setup.BENCH / "peers"
ALL = ["sidecar", "envoy", "nginx", "haproxy", "floor", "floor-gather", "direct"]


class Bench:
    """Everything a measurement needs: folders, cores, the sidecar under test."""

    def __init__(self, work, proxy_cores, load_cores, sidecar):
        self.work, self.proxy_cores, self.load_cores, self.sidecar = Path(work), proxy_cores, load_cores, sidecar
        self.certificates = self.work / "certificates"
        self.tools = setup.RELEASE / "bench-tools"
        subprocess.run([self.tools, "certificates", self.certificates], check=True)
        self.orders = self.work / "orders.binpb"
        self._describe(self.orders)

    def routes(self, count):
        """Descriptors with so many routes, and a path that is one of them."""
        out = self.work / f"routes-{count}.binpb"
        return out, self._describe(out, "--routes", count)

    def _describe(self, out, *options):
        include = ["--include", setup.BENCH / "proto", "--include", setup.ROOT / "proto" / "proto"]
        command = [self.tools, "descriptors", *include, *map(str, options), out]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()

    def backend(self, cores=None):
        """Starts the backend; gives it and its port."""
        port = free_port()
        command = [self.tools, "backend", "--listen", f"127.0.0.1:{port}"]
        process = Process(command, cores or self.load_cores, self.work / "backend.log")
        wait_for_answer(port, process)
        return process, port

    def plain(self, subject, to, cores=None, threads=1, wait=True):
        """One proxy in front of `to`; gives its processes and its port."""
        if subject == "direct":
            return [], to
        process, port = self._start(subject, "plain", to, cores, threads)
        if wait:
            wait_for_answer(port, process)
        return [process], port

    def rest(self, subject, to, descriptors=None):
        """One proxy that speaks JSON to callers and gRPC to `to`; with the bench's own schema or one of many routes."""
        services = "bench.v1.Orders, bench.v1.Routes" if descriptors else "bench.v1.Orders"
        schema = {"DESCRIPTORS": descriptors or self.orders, "SERVICES": services}
        process, port = self._start(subject, "rest", to, more=schema)
        wait_for_json(port, process)
        return [process], port

    def pair(self, subject, to):
        """Two proxies with mutual TLS between them; gives both and the port of the first."""
        called, between = self.called(subject, to)
        caller, port = self._start(subject, "caller", between)
        wait_for_answer(port, caller)
        return [caller, called], port

    def called(self, subject, to):
        """The second of a pair."""
        process, port = self._start(subject, "called", to)
        wait_for_port(port, process)
        return process, port

    def _start(self, subject, role, to, cores=None, threads=1, more=None):
        port = free_port()
        places = {"LISTEN": port, "TO": to, "CERTS": self.certificates, "DIR": self.work, "THREADS": threads, **(more or {})}
        command = self._command(subject, role, places)
        log = self.work / f"{subject}-{role}-{port}.log"
        return Process(command, cores or self.proxy_cores, log), port

    def _command(self, subject, role, places):
        if subject == "sidecar":
            places = {**places, "RESOURCES": self._fill(f"resources-{role}.yaml", places)}
            return [self.sidecar, "--config", self._fill(f"sidecar-{role}.yaml", places)]
        if subject == "envoy":
            return envoy_command(self._fill(f"envoy-{role}.yaml", places))
        if subject == "nginx":
            return [setup.find("nginx"), "-p", self.work, "-c", self._fill(f"nginx-{role}.conf", places), "-e", "stderr"]
        if subject == "haproxy":
            return [setup.find("haproxy"), "-db", "-f", self._fill(f"haproxy-{role}.cfg", places)]
        command = [setup.RELEASE / "floor", "--listen", f"127.0.0.1:{places['LISTEN']}", "--to", f"127.0.0.1:{places['TO']}"]
        if role != "plain":
            side = "to" if role == "caller" else "listen"
            command += ["--certificates", self.certificates, "--mtls", side]
        return command + (["--gather"] if subject == "floor-gather" else [])

    def _fill(self, name, places):
        text = (PEERS / name).read_text()
        for place, value in places.items():
            text = text.replace(f"@{place}@", str(value))
        # Several of one kind may run at once.
        filled = self.work / f"{places['LISTEN']}-{name}"
        filled.write_text(text)
        return filled


def envoy_command(config):
    """One worker thread, quiet."""
    return [setup.envoy(), "-c", config, "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
