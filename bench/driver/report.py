"""From numbers to a table of ratios, markdown, JSON and a picture."""

import json
import statistics
import subprocess

from . import scenarios, setup


class Row:
    """One line of the table: ours over another's, of one number of one scenario; `given` is a number that is a ratio already."""

    def __init__(self, sentence, scenario, metric, must, aim, more_is_better=False, over="envoy", less="", subject="sidecar",
                 given=False):
        self.sentence, self.scenario, self.metric, self.must, self.aim = sentence, scenario, metric, must, aim
        self.more_is_better, self.over, self.less, self.subject, self.given = more_is_better, over, less, subject, given


# `less="direct"`: what the same call costs without any proxy is taken off both sides first.
ROWS = [
    Row("gRPC unary, h2c, 8 x 32: CPU/request", "unary", "cpu_us_per_request", 0.50, 0.36),
    Row("the same at 5,000 requests/s offered: CPU/request", "offered", "cpu_us_per_request", 0.50, 0.40),
    Row("the same at 5,000 requests/s offered: p50", "offered", "p50_us", None, None),
    Row("the same at 5,000 requests/s offered: p99", "offered", "p99_us", None, None),
    Row("pair over mutual TLS, 8 x 32: CPU/request of both", "pair", "cpu_us_per_request", 0.38, 0.26),
    Row("one call in flight: CPU/request", "single", "cpu_us_per_request", 0.60, 0.48),
    Row("one call in flight: added p50", "single", "p50_us", 0.60, 0.48, less="direct"),
    Row("server streaming, 510 bytes: CPU/message", "stream", "cpu_us_per_message", 1.15, 0.95),
    Row("requests/s at saturation on one core", "unary", "per_second", 1.9, 2.6, more_is_better=True),
    Row("p50 at saturation", "unary", "p50_us", None, None),
    Row("p99 at saturation", "unary", "p99_us", None, None),
    Row("RSS idle", "start", "rss_mib", 0.25, 0.15),
    Row("RSS per idle HTTP/2 connection, plain, used once", "idle-plain", "kib_per_connection", 1.0, 0.6),
    Row("RSS per idle HTTP/2 connection, mutual TLS, used once", "idle-mtls", "kib_per_connection", 1.0, 0.6),
    Row("RSS with 1,000 services and 10,000 instances", "catalog", "rss_mib", 0.5, 0.2),
    Row("start to the first answered call, standalone", "start", "ready_ms", 0.3, 0.1),
    Row("ours over bare hyper: CPU/request, 8 x 32", "unary", "cpu_us_per_request", 1.3, 1.0, over="floor"),
    Row("ours over bare hyper: CPU/request, pair", "pair", "cpu_us_per_request", 1.3, 1.0, over="floor"),
    Row("ours over bare hyper with gathered writes: CPU/request, 8 x 32", "unary", "cpu_us_per_request", None, None, over="floor-gather"),
    Row("REST GET, 1 KiB JSON answer, HTTP/1.1: CPU/request", "rest-get", "cpu_us_per_request", 0.35, 0.25),
    Row("REST POST of 1 KiB JSON, echo: CPU/request", "rest-post", "cpu_us_per_request", 0.27, 0.18),
    Row("REST GET over HTTP/2: CPU/request", "rest-get-h2", "cpu_us_per_request", 0.40, 0.28),
    Row("server stream as one JSON object a line: CPU/message", "rest-stream", "cpu_us_per_message", 0.5, 0.3),
    Row("REST GET among 10,000 routes: CPU/request", "rest-routes", "cpu_us_at_10000_routes", 0.35, 0.25),
    Row("REST GET among 10,000 routes over among 10: CPU/request", "rest-routes", "growth", 1.1, 1.05, over="itself", given=True),
    Row("JSON to protobuf in the library, bench message: time", "json-library", "read_ratio", 0.20, 0.12, over="prost-reflect",
        subject="library", given=True),
    Row("protobuf to JSON in the library, bench message: time", "json-library", "write_ratio", 0.20, 0.12, over="prost-reflect",
        subject="library", given=True),
    Row("four data threads over two on two cores: requests/s", "threads", "per_second", 1.0, 1.0, more_is_better=True,
        over="threads-2", subject="threads-4"),
]
SHOWN = [
    ("cpu_us_per_request", "CPU µs/request"), ("cpu_us_per_message", "CPU µs/message"), ("per_second", "requests/s"),
    ("p50_us", "p50 µs"), ("p99_us", "p99 µs"), ("cpu_share", "proxy core share"), ("load_cpu_share", "load core share"),
    ("rss_mib", "RSS MiB"), ("peak_mib", "peak MiB"), ("ready_ms", "ready ms"), ("kib_per_connection_opened", "KiB/conn opened"),
    ("kib_per_connection", "KiB/conn used"), ("peak_over_idle_mib", "peak over idle MiB"), ("rss_idle_mib", "RSS before MiB"), ("rss_after_close_mib", "RSS after close MiB"),
    *((f"cpu_us_at_{size}", f"CPU µs at {size:,} B") for size in scenarios.SIZES),
    *((f"cpu_us_at_{count}_routes", f"CPU µs at {count:,} routes") for count in scenarios.ROUTES), ("growth", "last over first"),
    *((f"{way}_{name}", f"{way} {said}") for way in ("read", "write") for name, said in (
        ("ns", "ns"), ("reflect_ns", "prost-reflect ns"), ("ratio", "ratio"), ("ratio_least", "ratio least"), ("ratio_most", "ratio most"))),
]


def ratios(row, results):
    """Ours over theirs for each round in which both were measured."""
    rounds = results.get(row.scenario, {})
    ours, theirs = rounds.get(row.subject, {}), rounds.get(row.over, {})
    base = rounds.get(row.less, {})
    if row.given:
        # With the least and the most that it was within a round, where that is known.
        names = [row.metric, f"{row.metric}_least", f"{row.metric}_most"]
        return [ours[number][name] for number in sorted(ours) for name in names if name in ours[number]]
    found = []
    for number in sorted(ours.keys() & theirs.keys()):
        less = base.get(number, {}).get(row.metric) if row.less else 0
        if less is None:
            continue
        own, other = ours[number][row.metric] - less, theirs[number][row.metric] - less
        if other > 0:
            found.append(own / other)
    return found


def verdict(row, ratio):
    if row.must is None:
        return ""
    reached = (lambda bound: ratio >= bound) if row.more_is_better else (lambda bound: ratio <= bound)
    return "aim" if reached(row.aim) else "must" if reached(row.must) else "**missed**"


def lines(results):
    """The table of ratios, as cells."""
    bound = lambda row, value: "" if value is None else ("≥ " if row.more_is_better else "≤ ") + f"{value:g}"
    for row in ROWS:
        found = ratios(row, results)
        if found:
            middle = statistics.median(found)
            yield [row.sentence, row.over, f"{middle:.2f}", f"{min(found):.2f}-{max(found):.2f}", bound(row, row.must),
                   bound(row, row.aim), verdict(row, middle)]


def markdown(about, results, scenarios, failures):
    """The whole result, for people."""
    head = ["scenario", "over", "ratio (median)", "spread", "must", "aim", "reached"]
    out = ["# Ours over theirs", "", *(f"- {key}: {value}" for key, value in about.items()), "",
           "Ratios are taken within a round, and then the median; the spread is the least and the most of all rounds.", "",
           table(head, lines(results)), ""]
    for scenario in scenarios:
        rounds = results.get(scenario.key)
        if not rounds:
            continue
        present = {metric for subject in rounds.values() for numbers in subject.values() for metric in numbers}
        shown = [(metric, name) for metric, name in SHOWN if metric in present]
        if not scenario.key.endswith("stream"):
            shown = [pair for pair in shown if pair[0] != "cpu_us_per_message"]
        rows = [[subject, *(cell(rounds[subject], metric) for metric, _ in shown)] for subject in scenario.subjects if subject in rounds]
        out += [f"## {scenario.sentence[0].upper() + scenario.sentence[1:]}", "", table(["", *(name for _, name in shown)], rows), ""]
    if failures:
        out += ["## Not measured", "", *(f"- {failure}" for failure in failures), ""]
    return "\n".join(out)


def cell(numbers, metric):
    """Median, and the least and the most where they differ."""
    values = [numbers[number][metric] for number in sorted(numbers) if metric in numbers[number]]
    if not values or (metric.startswith("cpu_") and max(values) == 0):
        return ""
    show = lambda value: f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"
    middle = show(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({show(min(values))}-{show(max(values))})"


def table(head, rows):
    """Markdown, aligned so that it reads in a terminal too."""
    rows = [head, *rows]
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(head))]
    text = ["| " + " | ".join(str(value).ljust(width) for value, width in zip(row, widths)) + " |" for row in rows]
    return "\n".join([text[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *text[1:]])


def write(folder, about, results, scenarios, failures):
    """`latest.md`, `latest.json` and `latest.svg`, or whatever the folder is called."""
    folder.mkdir(parents=True, exist_ok=True)
    text = markdown(about, results, scenarios, failures)
    (folder / "result.md").write_text(text)
    rounded = {scenario: {subject: {number: {metric: round(value, 3) for metric, value in numbers.items() if isinstance(value, (int, float))}
                                    for number, numbers in rounds.items()} for subject, rounds in subjects.items()}
               for scenario, subjects in results.items()}
    data = {"about": about, "failures": failures, "results": rounded,
            "ratios": [dict(zip(["scenario", "over", "median", "spread", "must", "aim", "reached"], line)) for line in lines(results)]}
    (folder / "result.json").write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    python = setup.VENV / "bin" / "python"
    subprocess.run([python, setup.BENCH / "driver" / "plot.py", folder / "result.json", folder / "result.svg"], check=False)
    return text
