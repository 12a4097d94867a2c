"""Draws a result.json: CPU per request of everybody, and our ratios against their bounds. Runs inside the venv."""

import json
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


def draw(data, out):
    """One panel for each number, bars with the least and the most of the rounds."""
    panels = [panel for panel in PANELS if panel[0] in data["results"]]
    if not panels:
        return
    columns = 5
    rows = -(-len(panels) // columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(3.1 * columns, 3.2 * rows), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, (scenario, metric, title) in zip(axes.flat, panels):
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
    about = data["about"]
    figure.suptitle(f"commit {about['commit']} · {about['cpu']} · {about['cores']} cores · median, least and most of "
                    f"{about['rounds']} rounds", fontsize=9)
    figure.tight_layout()
    figure.savefig(out, metadata={"Date": None})


if __name__ == "__main__":
    with open(sys.argv[1]) as result:
        draw(json.load(result), sys.argv[2])
