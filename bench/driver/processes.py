"""Processes that are measured: started on their cores, asked for their memory, and always stopped."""

import contextlib
import os
import socket
import struct
import subprocess
import time
import urllib.error
import urllib.request

READY_TIMEOUT_SECONDS = 60
STOP_TIMEOUT_SECONDS = 3

_running = []


class Failed(Exception):
    """Something did not start or did not answer."""


class Process:
    """One process, with all that it says kept for when it fails."""

    def __init__(self, command, cores, log, stdin=None, stdout=None):
        self.name = os.path.basename(str(command[0]))
        self.log = log
        out = stdout or open(log, "wb")
        command = ["taskset", "-c", cores, *map(str, command)]
        self.popen = subprocess.Popen(command, stdin=stdin or subprocess.DEVNULL, stdout=out,
                                      stderr=open(log, "ab"), text=stdout is not None)
        self.pid = self.popen.pid
        _running.append(self)

    def rss_kib(self):
        """Resident memory."""
        with open(f"/proc/{self.pid}/status") as status:
            for line in status:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1])
        raise Failed(f"{self.name} has no memory: it has ended")

    def peak_kib(self):
        """The most it ever held."""
        with open(f"/proc/{self.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))

    def stop(self):
        """Ends it; no grace is needed after a measurement."""
        if self in _running:
            _running.remove(self)
        with contextlib.suppress(ProcessLookupError):
            self.popen.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(STOP_TIMEOUT_SECONDS)

    def tail(self):
        """The end of what it said."""
        with open(self.log, errors="replace") as log:
            return log.read()[-800:].strip()


def stop_all():
    """Nothing is left running, however the bench ends."""
    for process in list(_running):
        process.stop()


def free_port():
    """A port nobody has. It is free again at once, and nobody else here asks."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_answer(port, process):
    """Until a gRPC call through it is answered."""
    _wait(port, process, _answers)


def wait_for_json(port, process):
    """Until a JSON call through it is answered."""
    _wait(port, process, _answers_json)


def wait_for_port(port, process):
    """Until it listens; for those that want TLS."""
    _wait(port, process, lambda port: socket.create_connection(("127.0.0.1", port), 1).close() is None)


def wait_for_ready_line(port, process):
    """Until it says so on standard output."""
    _wait(port, process, lambda _: process.tail().startswith("ready "))


def _wait(port, process, attempt):
    end = time.monotonic() + READY_TIMEOUT_SECONDS
    while time.monotonic() < end:
        if process.popen.poll() is not None:
            raise Failed(f"{process.name} has ended: {process.tail()}")
        with contextlib.suppress(OSError):
            if attempt(port):
                return
        time.sleep(0.0005)
    raise Failed(f"{process.name} does not answer on {port}: {process.tail()}")


def _answers_json(port):
    with contextlib.suppress(OSError, urllib.error.URLError):
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/orders/one", timeout=1).status == 200
    return False


def _answers(port):
    """One call by hand: preface, settings, headers without compression, an empty order; true if a stream ended with 200."""
    def frame(kind, flags, stream, payload):
        return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload

    def header(name, value):
        return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value

    head = b"".join(header(*pair) for pair in [
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/bench.v1.Orders/EchoOrder"),
        (b":authority", b"bench.orders"), (b"content-type", b"application/grpc"), (b"te", b"trailers")])
    with socket.create_connection(("127.0.0.1", port), 1) as peer:
        peer.settimeout(2)
        peer.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"")
                     + frame(1, 4, 1, head) + frame(0, 1, 1, b"\0\0\0\0\0"))
        seen = b""
        while True:
            piece = peer.recv(65536)
            if not piece:
                return False
            seen += piece
            while len(seen) >= 9 and len(seen) >= 9 + int.from_bytes(seen[:3], "big"):
                length, kind, flags = int.from_bytes(seen[:3], "big"), seen[3], seen[4]
                stream = int.from_bytes(seen[5:9], "big")
                data = kind == 0 and length > 0
                if stream == 1 and data:
                    return True
                if stream == 1 and (kind == 3 or flags & 1):
                    return False
                seen = seen[9 + length:]
