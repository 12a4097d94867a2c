"""Draws a result.json: bars for what everybody needs, and curves for what grows with size or number. Runs inside the venv."""

import json
import re
import statistics
import sys

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "bench"
from matplotlib import pyplot  # noqa: E402

PANELS = [
    ("unary", "cpu_us_per_request", "unary, h2c, 8 × 32\nCPU µs/request"),
    ("offered", "cpu_us_per_request", "5,000 requests/s offered\nCPU µs/request"),
    ("pair", "cpu_us_per_request", "pair over mutual TLS, 8 × 32\nCPU µs/request of both"),
    ("single", "cpu_us_per_request", "one call in flight\nCPU µs/request"),
    ("stream", "cpu_us_per_message", "server streaming\nCPU µs/message"),
    ("unary", "per_second", "saturation, one core\nrequests/s"),
    ("start", "ready_ms", "start to first answer\nms"),
    ("idle-plain", "kib_per_connection", "idle connection, h2c\nKiB"),
    ("idle-mtls", "kib_per_connection", "idle connection, mTLS\nKiB"),
    ("catalog", "rss_mib", "1,000 services known\nRSS MiB"),
    ("rest-get", "cpu_us_per_request", "REST GET, 1 KiB\nCPU µs/request"),
    ("rest-post", "cpu_us_per_request", "REST POST, 1 KiB, echo\nCPU µs/request"),
    ("rest-get-h2", "cpu_us_per_request", "REST GET, HTTP/2\nCPU µs/request"),
    ("rest-stream", "cpu_us_per_message", "stream as JSON lines\nCPU µs/message"),
    ("rest-large", "peak_over_idle_mib", "4 MiB of JSON, echo\npeak over idle, MiB"),
]
COLOURS = {"sidecar": "#c1440e", "envoy": "#5b6c8f", "nginx": "#7fa58c", "haproxy": "#8f7fa5", "floor": "#999999",
           "floor-gather": "#bbbbbb"}


# Each size or number is a metric of its own, whose name holds it.
SIZE, ROUTES = re.compile(r"cpu_us_at_(\d+)$"), re.compile(r"cpu_us_at_(\d+)_routes$")
# A cost that is all bytes runs along one of these, in nanoseconds a byte.
GUIDES_NS = [1, 10, 100]
COLUMNS = 5


def draw(data, out):
    """Bars above, curves below, as far as they were measured."""
    panels = [panel for panel in PANELS if panel[0] in data["results"]]
    curves = [curve for curve in CURVES if curve[0] in data["results"]]
    if not panels and not curves:
        return
    rows = -(-len(panels) // COLUMNS)
    heights = [3.2 * rows] * bool(rows) + [4.2] * bool(curves)
    figure = pyplot.figure(figsize=(3.1 * COLUMNS, sum(heights) + 0.4), layout="constrained")
    parts = iter(figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False).flat)
    if panels:
        axes = list(next(parts).subplots(rows, COLUMNS, squeeze=False).flat)
        for axis in axes:
            axis.axis("off")
        for axis, panel in zip(axes, panels):
            bars(axis, data, *panel)
    if curves:
        for axis, (scenario, curve) in zip(next(parts).subplots(1, len(curves), squeeze=False).flat, curves):
            curve(axis, data["results"][scenario])
    about = data["about"]
    figure.suptitle(f"commit {about['commit']} · {about['cpu']} · {about['cores']} cores · median, least and most of "
                    f"{about['rounds']} rounds", fontsize=9)
    figure.savefig(out, metadata={"Date": None})


def bars(axis, data, scenario, metric, title):
    """One panel for one number, bars with the least and the most of the rounds."""
    axis.axis("on")
    subjects = [name for name in COLOURS if name in data["results"][scenario]]
    for position, subject in enumerate(subjects):
        values = [numbers[metric] for numbers in data["results"][scenario][subject].values() if metric in numbers]
        if not values:
            continue
        middle = statistics.median(values)
        error = [[middle - min(values)], [max(values) - middle]]
        axis.bar(position, middle, color=COLOURS[subject], yerr=error, capsize=3, error_kw={"lw": 0.8})
        axis.text(position, max(values), f"{middle:,.0f}" if middle >= 100 else f"{middle:.1f}", ha="center", va="bottom", fontsize=7)
    axis.set_title(title, fontsize=9)
    axis.set_xticks(range(len(subjects)), subjects, rotation=45, ha="right", fontsize=7)
    axis.tick_params(axis="y", labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)
    axis.margins(y=0.15)


def lines(axis, rounds, pattern, title, x, y, by=lambda at: 1):
    """A line for each subject over what the metrics' names hold, log-log, with the least and the most as a band."""
    for subject in [name for name in COLOURS if name in rounds]:
        points = {}
        for numbers in rounds[subject].values():
            for metric, value in numbers.items():
                found = pattern.match(metric)
                # Too little to be counted is no point on a log scale.
                if found and value > 0:
                    points.setdefault(int(found.group(1)), []).append(value / by(int(found.group(1))))
        at = sorted(points)
        middles = [statistics.median(points[one]) for one in at]
        axis.plot(at, middles, marker="o", markersize=4, color=COLOURS[subject], label=subject)
        axis.fill_between(at, [min(points[one]) for one in at], [max(points[one]) for one in at], color=COLOURS[subject], alpha=0.2, lw=0)
        for one, middle in zip(at, middles):
            axis.annotate(f"{middle:,.0f}" if middle >= 100 else f"{middle:.1f}", (one, middle), xytext=(0, 5), textcoords="offset points",
                          ha="center", fontsize=7, color=COLOURS[subject])
    axis.set(xscale="log", yscale="log")
    axis.set_title(title, fontsize=9)
    axis.set_xlabel(x, fontsize=8)
    axis.set_ylabel(y, fontsize=8)
    axis.tick_params(labelsize=7)
    axis.grid(which="major", lw=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    axis.margins(y=0.12)
    axis.legend(fontsize=7, frameon=False)


def by_size(axis, rounds):
    """What one message costs."""
    lines(axis, rounds, SIZE, "one JSON echo at a time, by size", "bytes of JSON", "CPU µs/message")
    low, high = axis.get_xlim()
    bottom, top = axis.get_ylim()
    for guide in GUIDES_NS:
        ends = [low * guide / 1e3, high * guide / 1e3]
        axis.plot([low, high], ends, color="#999999", lw=0.7, ls=":", zorder=0)
        # Said where the line leaves the picture.
        axis.text(min(high, top / guide * 1e3), min(top, ends[1]), f"{guide} ns/byte", fontsize=6, color="#777777", ha="right", va="bottom")
    axis.set(xlim=(low, high), ylim=(bottom, top))


def by_byte(axis, rounds):
    """The same over its bytes: where it lies flat, the cost is all bytes."""
    lines(axis, rounds, SIZE, "the same, over its bytes", "bytes of JSON", "CPU ns/byte", by=lambda size: size / 1e3)


def by_routes(axis, rounds):
    """What finding a route costs, which shall not grow: as many decades upwards as the number of routes has would be a straight growth."""
    lines(axis, rounds, ROUTES, "REST GET with a path variable, by number of routes", "routes", "CPU µs/request")
    bottom, top = axis.get_ylim()
    axis.set_ylim(bottom / 3, top * 3)


CURVES = [("rest-sizes", by_size), ("rest-sizes", by_byte), ("rest-routes", by_routes)]


if __name__ == "__main__":
    with open(sys.argv[1]) as result:
        draw(json.load(result), sys.argv[2])
