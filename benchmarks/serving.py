"""The cloud's overhead, its gain from batching, and its behaviour under twice its load.

    python -m benchmarks.serving [--artifact DIR] [--seconds 180]

Without an artifact, a MobileNetV2 at 224 pixels with 257 classes, five branches and random weights.
Requests carry one sample's features in fp32, before the last branch but one. Server and load are
processes that share this machine, so that capacity is that of the machine with both on it. An open
loop then offers twice the capacity, while an edge with this project's client asks as well. Writes
results/serving.json and .png.
"""

import argparse
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import psutil
from matplotlib.figure import Figure

from benchmarks.edge import make_artifact
from benchmarks.load import Asked, Message, closed_loop, edge_loop, open_loop
from eenn.files import JsonObject, write_json
from eenn.offload.cloud.command import RunningCloud, running
from eenn.offload.edge.clouds import LocalCloud
from eenn.offload.graphs.index import Graphs
from eenn.offload.graphs.pieces import cut_behind
from eenn.offload.protocol.codecs import Floats
from eenn.offload.protocol.encoding import encode_request
from eenn.offload.protocol.wire import ARTIFACT, FEATURES, LOGITS, Cut, Request, model_name
from eenn.provenance import processor, provenance
from eenn.reports.figures import save_figure

CLIENTS, MESSAGES = 32, 64
ROUNDS, ROUND_S = 3, 5.0
OVERLOAD, EDGE_SHARE = 2.0, 0.03  # of the capacity
BINS = 60
BATCHES = "batches of 32"
RESULT = Path("results/serving.json")

Quantiles = dict[str, float]  # median, 99th percentile, largest


@dataclass(frozen=True)
class Throughput:
    """The rate and latency of one server for many clients."""

    requests_per_s: float
    latency_ms: Quantiles


@dataclass(frozen=True)
class Overload:
    """The outcome of requests beyond the capacity, and the server's memory.

    Args:
        statuses: number of requests by HTTP status; 0 of connections that failed, -1 of answers
            that were wrong.
        edge: outcomes of the edge's questions, "" for answers; `edge_answered` is their share, and
            `plain_answered` that of the requests of the others.
        memory_mib: at first, when the queue is full, at last, and at most.
        series: the same over time.
    """

    seconds: float
    capacity_per_s: float
    offered_per_s: float
    answered_per_s: float
    statuses: dict[str, int]
    wrong: int
    failed: int
    edge: dict[str, int]
    edge_answered: float
    plain_answered: float
    answered_ms: Quantiles
    refused_ms: Quantiles
    memory_mib: dict[str, float]
    series: list[dict[str, float]]


@dataclass(frozen=True)
class Questions:
    """Requests with random features, their right answers, and the artifact that they ask."""

    messages: list[Message]
    features: Floats
    cut: Cut
    artifact_id: str


def make_questions(path: Path, host: str) -> Questions:
    """Draw questions about the part of an artifact before the last branch but one."""
    graphs, local = Graphs.read(path), LocalCloud(path)
    cut = cut_behind(graphs.manifest, max(len(graphs.manifest.exits) - 2, 0))
    shape = graphs.features_shape(cut.blocks)
    generator = np.random.default_rng(0)
    messages = []
    for _ in range(MESSAGES):
        features = generator.standard_normal((1, *shape), np.float32)
        request = Request({FEATURES: features}, {ARTIFACT: graphs.id}, {LOGITS: True})
        body, headers = encode_request(request)
        lines = [f"POST /v2/models/{model_name(cut)}/infer HTTP/1.1", f"Host: {host}"]
        headers["Content-Length"] = str(len(body))
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join([*lines, "", ""]).encode()
        messages.append(Message(head + body, local.infer(features, cut, None)))
    return Questions(messages, features, cut, graphs.id)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--artifact", type=Path, help="with exported graphs")
    parser.add_argument("--seconds", type=float, default=180, help="of load (%(default)s)")
    given = parser.parse_args()
    with ExitStack() as stack:
        path = given.artifact
        if path is None:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "artifact"
            make_artifact(path)
        questions = make_questions(path, "127.0.0.1")
        messages = questions.messages
        load = stack.enter_context(ProcessPoolExecutor(2, get_context("spawn")))
        batching = stack.enter_context(running([path]))
        single = stack.enter_context(running([path], max_batch=1))
        overhead = overheads(load, batching, messages)
        throughput = compare(load, batching, single, messages)
        capacity = throughput[BATCHES].requests_per_s
        print(f"overload: {OVERLOAD} x {capacity:.0f} requests/s for {given.seconds:.0f} s ...")
        rate = OVERLOAD * capacity
        # Both processes have to be running when the load begins.
        for warmed in [load.submit(closed_loop, batching.url, messages, 1, 5.0) for _ in range(2)]:
            warmed.result()
        offered = load.submit(open_loop, batching.url, messages, rate, given.seconds, 0)
        edge = load.submit(
            edge_loop, batching.url, questions.artifact_id, questions.features,
            questions.cut, EDGE_SHARE * capacity, given.seconds,
        )  # fmt: skip
        memory = watch_memory(batching, offered)
        taken = overload(offered.result(), edge.result(), memory, given.seconds, capacity)
    result: JsonObject = {
        "shape": questions.features.shape[1:],
        "request_bytes": len(messages[0].content),
        "overhead": overhead,
        "batching": {name: asdict(measured) for name, measured in throughput.items()},
        "overload": asdict(taken),
        **provenance(0, "drawn features, normal", processor()),
    }
    write_json(RESULT, result)
    save_figure(figure(taken), RESULT.with_suffix(".png"))
    print(f"wrote {RESULT} and {RESULT.with_suffix('.png')}")


def overheads(
    load: ProcessPoolExecutor, server: RunningCloud, messages: Sequence[Message]
) -> dict[str, dict[str, Quantiles]]:
    """Measure the round trip minus the model's time, with one client and many.

    For many clients also without the time in the queue.
    """
    rows = {}
    for clients in (1, CLIENTS):
        load.submit(closed_loop, server.url, messages, clients, 1.0).result()  # to warm up
        asked = load.submit(closed_loop, server.url, messages, clients, ROUND_S).result()
        rows[f"{clients} clients"] = {
            "overhead_ms": quantiles(asked, lambda row: row.latency_ms - row.model_ms),
            "without_queue_ms": quantiles(
                asked, lambda row: row.latency_ms - row.model_ms - row.queue_ms
            ),
            "model_ms": quantiles(asked, lambda row: row.model_ms),
        }
        print(f"{clients} clients: {rows[f'{clients} clients']}")
    return rows


def compare(
    load: ProcessPoolExecutor,
    batching: RunningCloud,
    single: RunningCloud,
    messages: Sequence[Message],
) -> dict[str, Throughput]:
    """Measure rate and latency of many clients, with batches and without, taking turns."""
    servers = {BATCHES: batching, "one by one": single}
    rounds: dict[str, list[list[Asked]]] = {name: [] for name in servers}
    for _ in range(ROUNDS):
        for name, server in servers.items():
            asked = load.submit(closed_loop, server.url, messages, CLIENTS, ROUND_S).result()
            rounds[name].append(asked)
    rows = {}
    for name, all_asked in rounds.items():
        per_s = [
            sum(row.status == 200 for row in asked)
            / (asked[-1].start_s + asked[-1].latency_ms / 1e3)
            for asked in all_asked
        ]
        latency = [quantiles(asked, lambda row: row.latency_ms) for asked in all_asked]
        rows[name] = Throughput(
            round(statistics.median(per_s), 1),
            {key: statistics.median(row[key] for row in latency) for key in latency[0]},
        )
        print(f"{name}, {CLIENTS} clients: {rows[name]}")
    return rows


def watch_memory(server: RunningCloud, until: "Future[list[Asked]]") -> list[tuple[float, float]]:
    """Record the resident MiB of the server's process by seconds."""
    process, start, rows = psutil.Process(server.process.pid), time.perf_counter(), []
    while not until.done():
        rows.append((time.perf_counter() - start, process.memory_info().rss / 2**20))
        time.sleep(0.5)
    return rows


def overload(
    asked: Sequence[Asked],
    edge: dict[str, int],
    memory: Sequence[tuple[float, float]],
    seconds: float,
    capacity: float,
) -> Overload:
    """Sum up the outcomes of the requests, and the server's memory."""
    answered = [row for row in asked if row.status in (200, -1)]
    refused = [row for row in asked if row.status in (429, 503)]
    # The first tenth fills the queue and the largest batch.
    settled = [mib for second, mib in memory if second > seconds / 10]
    levels = {"first": settled[0], "last": settled[-1], "largest": max(settled)}
    result = Overload(
        seconds=seconds,
        capacity_per_s=capacity,
        offered_per_s=round(len(asked) / seconds, 1),
        answered_per_s=round(len(answered) / seconds, 1),
        statuses={str(status): n for status, n in Counter(r.status for r in asked).items()},
        wrong=sum(row.status == -1 for row in asked),
        failed=sum(row.status == 0 for row in asked),
        edge=edge,
        edge_answered=round(edge.get("", 0) / sum(edge.values()), 4),
        plain_answered=round(len(answered) / len(asked), 4),
        answered_ms=quantiles(answered, lambda row: row.latency_ms),
        refused_ms=quantiles(refused, lambda row: row.latency_ms),
        memory_mib={name: round(mib, 1) for name, mib in levels.items()},
        series=series(asked, memory, seconds),
    )
    print({key: value for key, value in asdict(result).items() if key != "series"})
    return result


def series(
    asked: Sequence[Asked], memory: Sequence[tuple[float, float]], seconds: float
) -> list[dict[str, float]]:
    """Sum up requests, latencies and memory over time."""
    edges = np.linspace(0, seconds, BINS + 1)
    start_s = np.array([row.start_s for row in asked])
    latency_ms = np.array([row.latency_ms for row in asked])
    is_answered = np.array([row.status == 200 for row in asked])
    seen_s, mib = np.array(memory).T
    rows = []
    for low, high in pairwise(edges):
        now = (start_s >= low) & (start_s < high)
        row = {"s": float(low + high) / 2, "memory_mib": np.interp((low + high) / 2, seen_s, mib)}
        for name, which in (("answered", now & is_answered), ("refused", now & ~is_answered)):
            row[f"{name}_per_s"] = which.sum() / (high - low)
            row[f"{name}_ms"] = float(np.median(latency_ms[which])) if which.any() else 0.0
        rows.append({name: round(float(value), 2) for name, value in row.items()})
    return rows


def quantiles(asked: Sequence[Asked], value: Callable[[Asked], float]) -> Quantiles:
    """Compute the median, the 99th percentile and the largest of a number of every request."""
    values = np.array([value(row) for row in asked])
    if not len(values):
        return {}
    median, p99 = np.quantile(values, [0.5, 0.99])
    return {
        name: round(float(number), 3)
        for name, number in (("median", median), ("p99", p99), ("largest", values.max()))
    }


def figure(measured: Overload) -> Figure:
    """Draw requests, latencies and memory over time."""
    rows = measured.series
    seconds = [row["s"] for row in rows]
    drawn = Figure(figsize=(6.4, 6.4), layout="constrained")
    rates, latencies, memory = drawn.subplots(3, 1, sharex=True)
    for name, colour, style in (("answered", "#0072b2", "-"), ("refused", "#d55e00", "--")):
        rates.plot(seconds, [row[f"{name}_per_s"] for row in rows], style, c=colour, label=name)
        latencies.plot(seconds, [row[f"{name}_ms"] for row in rows], style, c=colour, label=name)
    rates.axhline(measured.capacity_per_s, color="0.6", linewidth=1, label="capacity")
    rates.set(ylabel="requests/s", ylim=(0, None))
    rates.legend(loc="lower right", ncols=3, frameon=False)
    latencies.set(ylabel="median latency (ms)", yscale="log")
    largest = max(row["memory_mib"] for row in rows)
    memory.plot(seconds, [row["memory_mib"] for row in rows], "-", color="#009e73")
    memory.set(ylabel="server's memory (MiB)", xlabel="seconds", ylim=(0, 1.15 * largest))
    return drawn


if __name__ == "__main__":
    main()
