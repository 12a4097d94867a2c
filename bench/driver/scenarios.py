"""The scenarios, named as sentences. Each measures one subject once and gives numbers by name."""

import json
import subprocess
import time

from . import catalog
from .processes import Failed, Process, free_port, wait_for_answer, wait_for_port, wait_for_ready_line
from .subjects import ALL, envoy_command

SETTLE_SECONDS = 1.0
LOAD_TIMEOUT_EXTRA_SECONDS = 30
IDLE_TIMEOUT_SECONDS = 240
TICKS = 1_000
STARTS = 5
PROXIES = [subject for subject in ALL if subject != "direct"]
# Gathered writes change nothing in what an idle connection holds.
IDLERS = [subject for subject in PROXIES if subject != "floor-gather"]


class Scenario:
    """A sentence, who is measured, and how."""

    def __init__(self, key, sentence, subjects, measure):
        self.key, self.sentence, self.subjects, self.measure = key, sentence, subjects, measure


class Pace:
    """How long and how many."""

    def __init__(self, quick):
        self.quick = quick
        self.seconds, self.warmup = (1.2, 0.4) if quick else (5.0, 1.0)
        self.idle_connections = 1_000 if quick else 10_000
        self.services, self.instances = (100, 10) if quick else (1_000, 10)
        self.starts = 2 if quick else STARTS


def load(bench, pace, processes, port, *options):
    """Runs the load generator against a port, on the cores of the load."""
    command = ["taskset", "-c", bench.load_cores, bench.tools, "load", "--target", f"127.0.0.1:{port}",
               "--seconds", pace.seconds, "--warmup", pace.warmup, *options]
    if processes:
        command += ["--pid", ",".join(str(process.pid) for process in processes)]
    limit = pace.seconds + pace.warmup + LOAD_TIMEOUT_EXTRA_SECONDS
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=limit, check=False)
    if done.returncode != 0:
        raise Failed(f"load: {done.stderr.strip()}")
    seen = json.loads(done.stdout)
    if seen["errors"]:
        raise Failed(f"{seen['errors']} calls failed, the first because {seen['first_error']}")
    return seen


def through(start, *options):
    """A scenario that loads a running subject."""
    def measure(bench, pace, subject):
        backend, to = bench.backend()
        processes, port = start(bench, subject, to)
        try:
            seen = load(bench, pace, processes, port, *options)
            seen["rss_mib"] = sum(process.rss_kib() for process in processes) / 1024
            return seen
        finally:
            for process in [*processes, backend]:
                process.stop()
    return measure


def plain(bench, subject, to):
    return bench.plain(subject, to)


def pair(bench, subject, to):
    return bench.pair(subject, to)


def idle_memory(tls):
    """RSS before, with many connections open, after a call on each, and after all were closed."""
    def measure(bench, pace, subject):
        backend, to = bench.backend()
        process, port = bench.called(subject, to) if tls else (lambda p: (p[0][0], p[1]))(bench.plain(subject, to))
        command = [bench.tools, "idle", "--target", f"127.0.0.1:{port}", "--connections", pace.idle_connections]
        command += ["--certificates", bench.certificates] if tls else []
        holder = Process(command, bench.load_cores, bench.work / "idle.log", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        began = time.monotonic()

        def say(word):
            holder.popen.stdin.write(word + "\n")
            holder.popen.stdin.flush()
            answer = holder.popen.stdout.readline()
            if answer.strip() != f"done {word}":
                raise Failed(f"idle connections: {holder.tail()}")
            if time.monotonic() - began > IDLE_TIMEOUT_SECONDS:
                raise Failed("idle connections take too long")
            time.sleep(SETTLE_SECONDS)
            return process.rss_kib()

        try:
            time.sleep(SETTLE_SECONDS)
            before = process.rss_kib()
            opened, called, closed = say("open"), say("call"), say("close")
            time.sleep(SETTLE_SECONDS * 2)
            closed = process.rss_kib()
            return {
                "rss_idle_mib": before / 1024,
                "kib_per_connection_opened": (opened - before) / pace.idle_connections,
                "kib_per_connection": (called - before) / pace.idle_connections,
                "rss_after_close_mib": closed / 1024,
                "kept_share": (closed - before) / max(called - before, 1),
            }
        finally:
            for each in [holder, process, backend]:
                each.stop()
    return measure


def catalog_memory(bench, pace, subject):
    """RSS once everything is known."""
    port = free_port()
    if subject == "sidecar":
        command = [bench.sidecar, "--config", catalog.sidecar(bench.work, pace.services, pace.instances, port)]
    else:
        command = envoy_command(catalog.envoy(bench.work, pace.services, pace.instances, port))
    began = time.monotonic()
    process = Process(command, bench.proxy_cores, bench.work / f"{subject}-catalog.log")
    try:
        # The sidecar binds before it reads, and says when it has; Envoy reads before it binds.
        (wait_for_ready_line if subject == "sidecar" else wait_for_port)(port, process)
        ready = time.monotonic() - began
        time.sleep(SETTLE_SECONDS * 2)
        return {"rss_mib": process.rss_kib() / 1024, "peak_mib": process.peak_kib() / 1024, "ready_ms": ready * 1e3}
    finally:
        process.stop()


def start_time(bench, pace, subject):
    """From exec to the first answered call; RSS then, after a rest."""
    backend, to = bench.backend()
    took = []
    try:
        for _ in range(pace.starts):
            began = time.monotonic()
            processes, port = bench.plain(subject, to, wait=False)
            try:
                wait_for_answer(port, processes[0])
                took.append((time.monotonic() - began) * 1e3)
                time.sleep(SETTLE_SECONDS)
                rss = processes[0].rss_kib() / 1024
            finally:
                processes[0].stop()
        took.sort()
        return {"ready_ms": took[len(took) // 2], "rss_mib": rss}
    finally:
        backend.stop()


def threads(bench, pace, subject):
    """Data threads on both cores, which load and backend share."""
    count = int(subject.split("-")[1])
    backend, to = bench.backend(bench.all_cores)
    processes, port = bench.plain("sidecar", to, cores=bench.all_cores, threads=count)
    try:
        return load(bench, pace, processes, port)
    finally:
        for process in [*processes, backend]:
            process.stop()


SATURATED = ["--connections", 8, "--streams", 32]
SCENARIOS = [
    Scenario("unary", "gRPC unary passed through, h2c, 8 connections x 32 streams", ALL, through(plain, *SATURATED)),
    Scenario("offered", "gRPC unary passed through, h2c, 5,000 requests/s offered on 8 connections", ALL,
             through(plain, "--connections", 8, "--rate", 5_000)),
    Scenario("pair", "sidecar to sidecar over mutual TLS, 8 connections x 32 streams", PROXIES, through(pair, *SATURATED)),
    Scenario("single", "one call in flight", ALL, through(plain, "--connections", 1, "--streams", 1)),
    Scenario("stream", "server streaming, 1,000 messages of 510 bytes, 8 connections x 4 streams", ALL,
             through(plain, "--connections", 8, "--streams", 4, "--ticks", TICKS)),
    Scenario("start", "start to the first answered call, standalone", PROXIES, start_time),
    Scenario("idle-plain", "idle HTTP/2 connections, h2c", IDLERS, idle_memory(False)),
    Scenario("idle-mtls", "idle HTTP/2 connections, mutual TLS", IDLERS, idle_memory(True)),
    Scenario("catalog", "1,000 services and 10,000 instances known", ["sidecar", "envoy"], catalog_memory),
    Scenario("threads", "data threads on two cores shared with load and backend", ["threads-2", "threads-4"], threads),
]
QUICK_SUBJECTS = {"sidecar", "envoy", "floor", "direct", "threads-2", "threads-4"}
QUICK_SCENARIOS = {"unary", "offered", "pair", "single", "stream", "start"}
