"""The scenarios, named as sentences. Each measures one subject once and gives numbers by name."""

import contextlib
import json
import re
import statistics
import subprocess
import time
import urllib.request
from pathlib import Path

from . import catalog
from .processes import Failed, Process, free_port, wait_for_answer, wait_for_port, wait_for_ready_line
from .setup import RELEASE
from .subjects import ALL, envoy_command

SETTLE_SECONDS = 1.0
LOAD_TIMEOUT_EXTRA_SECONDS = 30
IDLE_TIMEOUT_SECONDS = 240
TICKS = 1_000
STARTS = 5
PROXIES = [subject for subject in ALL if subject != "direct"]
# Gathered writes change nothing in what an idle connection holds.
RESTERS = ["sidecar", "envoy"]
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


JSON_BODY_BYTES_MAX = 4 << 20
SIZES = [100, 1_000, 10_000, 100_000, 1_000_000, 4_000_000]
ROUTES = [10, 100, 1_000, 10_000]
ROUTES_TURNS = 3
POSTS_OF_A_SIZE = 12
WRK_CONNECTIONS = 32


def order_json(size):
    """An order as JSON of about so many bytes, in lines like those of the bench message."""
    line = {"sku": "SKU-10417-0", "title": "Merino base layer, long sleeve, size M, \"forest\" green", "quantity": 2, "price": 49.95}
    order = {"id": "ord_01HZX4T9S6W2Q8R3", "currency": "SEK", "paid": True, "status": "STATUS_PLACED", "placedAtMs": "1763913600123"}
    each = len(json.dumps(line)) + 2
    order["lines"] = [line] * max(0, (size - len(json.dumps(order)) - 16) // each)
    return json.dumps(order).encode()


def cpu_seconds(processes):
    """User and system time so far, of all threads there are: in nanoseconds, where `stat` has hundredths of a second."""
    spent = 0
    for task in [task for process in processes for task in Path(f"/proc/{process.pid}/task").iterdir()]:
        # A thread that ends right now was an idle one: those that work stay.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            spent += int((task / "schedstat").read_text().split()[0])
    return spent / 1e9


def json_load(bench, port, seconds, path, body=None, tool="wrk", messages=1):
    """JSON callers: wrk over HTTP/1.1, h2load over HTTP/2."""
    url = f"http://127.0.0.1:{port}{path}"
    if tool == "h2load":
        command = ["h2load", "-c", "8", "-m", "32", "-D", str(max(1, round(seconds))), url]
    else:
        command = ["wrk", "-t1", "-c", str(8 if messages > 1 else WRK_CONNECTIONS), "-d", f"{max(1, round(seconds))}s", "--latency", url]
    if body:
        script = bench.work / "post.lua"
        script.write_text(f"wrk.method = 'POST'\nwrk.headers['content-type'] = 'application/json'\nwrk.body = [==[{body.decode()}]==]\n")
        command[-1:-1] = ["-s", str(script)]
    whole = ["taskset", "-c", bench.load_cores, *command]
    done = subprocess.run(whole, capture_output=True, text=True, timeout=seconds + LOAD_TIMEOUT_EXTRA_SECONDS, check=False)
    if done.returncode != 0:
        raise Failed(f"{tool}: {(done.stderr or done.stdout).strip()[-400:]}")
    return read_wrk(done.stdout) if tool == "wrk" else read_h2load(done.stdout)


def json_measured(bench, processes, *load_options, **more):
    """The same, with what the proxy needed for it."""
    before, began = cpu_seconds(processes), time.monotonic()
    seen = json_load(bench, *load_options, **more)
    cpu, took = cpu_seconds(processes) - before, time.monotonic() - began
    return {**seen, "cpu_us_per_request": cpu / seen["requests"] * 1e6, "cpu_share": cpu / took}


def rest(path, body=None, tool="wrk", messages=1):
    """JSON callers of one path. A second run is measured; the first warms up."""
    def measure(bench, pace, subject):
        backend, to = bench.backend()
        processes, port = bench.rest(subject, to)
        try:
            json_load(bench, port, pace.warmup, path, body, tool, messages)
            seen = json_measured(bench, processes, port, pace.seconds, path, body, tool, messages)
            seen["cpu_us_per_message"] = seen["cpu_us_per_request"] / messages
            seen["rss_mib"] = sum(process.rss_kib() for process in processes) / 1024
            return seen
        finally:
            for process in [*processes, backend]:
                process.stop()
    return measure


def read_wrk(text):
    """What wrk says, as numbers; an answer that is not 2xx is a failure."""
    if "Non-2xx" in text or "Socket errors" in text:
        raise Failed("wrk: " + " ".join(line.strip() for line in text.splitlines() if "Non-2xx" in line or "Socket errors" in line))
    requests = int(re.search(r"(\d+) requests in", text).group(1))
    unit = {"us": 1, "ms": 1e3, "s": 1e6}
    at = {share: float(value) * unit[name] for share, value, name in re.findall(r"(50|99)%\s+([\d.]+)(us|ms|s)\b", text)}
    per_second = float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1))
    return {"requests": requests, "per_second": per_second, "p50_us": at.get("50", 0), "p99_us": at.get("99", 0)}


def read_h2load(text):
    """What h2load says, as numbers."""
    counts = re.search(r"requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded", text)
    if not counts or int(counts.group(1)) != int(counts.group(2)) or int(counts.group(2)) == 0:
        raise Failed("h2load: " + (counts.group(0) if counts else text[-300:]))
    return {"requests": int(counts.group(2)), "per_second": float(re.search(r"([\d.]+) req/s", text).group(1))}


def post(port, body):
    """One echo; its answer is read whole."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/orders:echo", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return len(answer.read())


def large_message(bench, pace, subject):
    """The most a proxy ever held over what it holds idle, for messages of 4 MiB, one after the other."""
    backend, to = bench.backend()
    processes, port = bench.rest(subject, to)
    try:
        idle = processes[0].rss_kib()
        body = order_json(JSON_BODY_BYTES_MAX - 4_096)
        for _ in range(POSTS_OF_A_SIZE):
            post(port, body)
        return {"peak_over_idle_mib": (processes[0].peak_kib() - idle) / 1024, "rss_idle_mib": idle / 1024}
    finally:
        for process in [*processes, backend]:
            process.stop()


def sizes(bench, pace, subject):
    """CPU for one echo of each size."""
    backend, to = bench.backend()
    processes, port = bench.rest(subject, to)
    try:
        seen = {}
        for size in SIZES:
            body, count = order_json(size), max(POSTS_OF_A_SIZE, min(600, 3_000_000 // size))
            post(port, body)
            before = cpu_seconds(processes)
            for _ in range(count):
                post(port, body)
            seen[f"cpu_us_at_{size}"] = (cpu_seconds(processes) - before) / count * 1e6
        return seen
    finally:
        for process in [*processes, backend]:
            process.stop()


def routes(bench, pace, subject):
    """CPU for one GET with a path variable among so many routes: the same request, schemas of other sizes, in turns."""
    backend, to = bench.backend()
    proxies, turns = {}, {count: [] for count in ROUTES}
    try:
        for count in ROUTES:
            descriptors, path = bench.routes(count)
            proxies[count] = *bench.rest(subject, to, descriptors), path
            json_load(bench, proxies[count][1], pace.warmup, path)
        for _ in range(ROUTES_TURNS):
            for count, (processes, port, path) in proxies.items():
                seen = json_measured(bench, processes, port, pace.seconds / ROUTES_TURNS, path)
                turns[count].append(seen["cpu_us_per_request"])
    finally:
        for process in [*(process for started in proxies.values() for process in started[0]), backend]:
            process.stop()
    growth = [last / first for first, last in zip(turns[ROUTES[0]], turns[ROUTES[-1]])]
    return {**{f"cpu_us_at_{count}_routes": statistics.median(each) for count, each in turns.items()},
            "growth": statistics.median(growth), "growth_least": min(growth), "growth_most": max(growth)}


def library(bench, pace, _subject):
    """JSON to protobuf and back without any network, ours and prost-reflect's in turns in one process."""
    command = ["taskset", "-c", bench.proxy_cores, RELEASE / "json-library", bench.orders, pace.seconds]
    limit = pace.seconds + LOAD_TIMEOUT_EXTRA_SECONDS
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=limit, check=False)
    if done.returncode != 0:
        raise Failed(done.stderr.strip())
    return json.loads(done.stdout)


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
    Scenario("rest-get", "REST GET with a path variable, 1 KiB JSON answer, HTTP/1.1, 32 connections", RESTERS, rest("/v1/orders/one")),
    Scenario("rest-post", "REST POST of 1 KiB JSON, echo, HTTP/1.1, 32 connections", RESTERS, rest("/v1/orders:echo", order_json(1_024))),
    Scenario("rest-get-h2", "REST GET over HTTP/2, 8 connections x 32 streams", RESTERS, rest("/v1/orders/one", tool="h2load")),
    Scenario("rest-stream", "server stream of 1,000 messages as one JSON object a line", RESTERS,
             rest(f"/v1/ticks:watch?count={TICKS}", messages=TICKS)),
    Scenario("rest-large", "messages of 4 MiB as JSON, echo", RESTERS, large_message),
    Scenario("rest-sizes", "one JSON echo at a time, by size", RESTERS, sizes),
    Scenario("rest-routes", "REST GET with a path variable among 10 to 10,000 routes, HTTP/1.1, 32 connections", RESTERS, routes),
    Scenario("json-library", "JSON to protobuf and back of the bench message in the library, beside prost-reflect's DynamicMessage",
             ["library"], library),
    Scenario("threads", "data threads on two cores shared with load and backend", ["threads-2", "threads-4"], threads),
]
QUICK_SUBJECTS = {"sidecar", "envoy", "floor", "direct", "threads-2", "threads-4", "library"}
QUICK_SCENARIOS = {"unary", "offered", "pair", "single", "stream", "start", "json-library"}
