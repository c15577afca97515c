"""Images per second with several images in flight, beside what the planner's formulas predict.

    python -m benchmarks.in_flight --artifact DIR [--images DIR]

Real processes: an edge that answers image files (`--in-flight N`), an edge that serves N clients,
and one cloud behind an emulated link. Runs with different N take turns, in random order, on the
same test photographs. A rate counts from the end of the warm-up to the last answer, and the median
over the rounds is kept. The predictions are 1 / latency and 1 / slowest of device, link and cloud,
by the field logs of the runs with one image in flight. Writes results/in_flight.json.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import yaml

from benchmarks.guarded import serving
from eenn.files import Json, JsonObject, write_json
from eenn.offload.adaptation.field_log import CLOUD, FieldEntry, read_field_log
from eenn.offload.bench.link import EmulatedLink
from eenn.offload.cloud.command import running
from eenn.planning.costs import Link
from eenn.planning.engine import Conditions, Spent
from eenn.provenance import processor, provenance
from eenn.records.evaluated_artifact import open_artifact

IN_FLIGHT, ROUNDS = (1, 2, 4, 16), 5
IMAGES, WARM_UP = 120, 20
LINKS = ("rio_saopaulo", "lte")
WAYS = {
    "early exits": ("--active", "1,2,3", "--p-tar", "0.8", "--payload", "uint8"),
    "photographs to the cloud": ("--active", "none", "--payload", "photograph"),
}
RESULT = Path("results/in_flight.json")

Answers = tuple[list[float], list[str]]  # their times in seconds, ascending; in the files' order


@dataclass(frozen=True)
class Ran:
    """A run: images per second, answers in the order of the files, and the field log."""

    per_s: float
    answers: list[dict[str, Any]]
    log: list[FieldEntry]


def on_files(given: Sequence[str], files: Sequence[str], in_flight: int) -> Answers:
    """Let an edge answer files."""
    options = [*given, "--json", "--in-flight", str(in_flight), *files]
    command = [sys.executable, "-m", "eenn.offload.edge.command", *options]
    times, lines = list[float](), list[str]()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as edge:
        assert edge.stdout
        for line in edge.stdout:
            times.append(time.perf_counter())
            lines.append(line)
    return times, lines


def on_posts(given: Sequence[str], files: Sequence[str], in_flight: int) -> Answers:
    """Let clients, one for each image in flight, post files to an edge."""
    found: dict[int, tuple[float, str]] = {}
    waiting = iter(range(len(files)))  # `next` of it is atomic

    def post(host: str, port: int) -> None:
        with closing(HTTPConnection(host, port, timeout=60)) as connection:
            for at in waiting:
                connection.request("POST", "/classify", Path(files[at]).read_bytes())
                answer = connection.getresponse().read().decode()
                found[at] = time.perf_counter(), answer

    with serving(given) as edge:
        address = edge.connection.host, edge.connection.port
        clients = [Thread(target=post, args=address) for _ in range(in_flight)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
    return sorted(at for at, _ in found.values()), [found[at][1] for at in sorted(found)]


SOURCES: dict[str, Callable[[Sequence[str], Sequence[str], int], Answers]] = {
    "files": on_files,
    "posts": on_posts,
}


def ran(source: str, given: Sequence[str], files: Sequence[str], in_flight: int) -> Ran:
    """Run one edge over all files."""
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "field.jsonl"
        times, lines = SOURCES[source]([*given, "--log", str(log)], files, in_flight)
        entries = [entry for entry in read_field_log(log) if entry]
    if not len(lines) == len(entries) == len(files):
        raise SystemExit(f"error: {len(lines)} answers to {len(files)} images")
    answers = [
        {name: answer[name] for name in ("label", "exit", "place", "failure")}
        for answer in map(json.loads, lines)
    ]
    return Ran((len(times) - WARM_UP) / (times[-1] - times[WARM_UP - 1]), answers, entries)


def parts_of(log: Sequence[FieldEntry]) -> Spent:
    """Average what an image takes on the device, on the link and in the cloud."""
    links = [entry.link for entry in log if entry.link]
    sums = {
        "device_ms": sum(entry.latency_ms - entry.cloud_ms for entry in log),
        "cloud_ms": sum(link.server_ms or 0.0 for link in links),
        "away": sum(entry.place == CLOUD for entry in log),
        "sent_bytes": sum(link.sent_bytes for link in links),
        "codec_ms": 0.0,
    }
    return Spent(**{name: np.array(total / len(log)) for name, total in sums.items()})


def measured(source: str, given: Sequence[str], files: Sequence[str], link: Link) -> JsonObject:
    """Compare the numbers of images in flight on one link, in turns."""
    runs: dict[int, list[Ran]] = {number: [] for number in IN_FLIGHT}
    order = random.Random(0)
    for _ in range(ROUNDS):
        for number in order.sample(IN_FLIGHT, len(IN_FLIGHT)):
            runs[number].append(ran(source, given, files, number))
    parts = parts_of([entry for run in runs[1] for entry in run.log])
    latency_ms = {
        str(number): statistics.mean(entry.latency_ms for run in own for entry in run.log)
        for number, own in runs.items()
    }
    first = runs[1][0].answers
    return {
        "images": len(files),
        "rounds": ROUNDS,
        "offloaded": float(parts.away),
        "device_ms": float(parts.device_ms),
        "link_ms": link.transfer_ms(float(parts.sent_bytes)),
        "cloud_ms": float(parts.cloud_ms),
        "latency_ms": latency_ms,
        "per_s": {str(n): statistics.median(run.per_s for run in own) for n, own in runs.items()},
        "per_s_by_latency": 1e3 / latency_ms["1"],
        "per_s_by_slowest": 1e3 / float(parts.slowest_ms(Conditions(link))),
        "answers_equal": all(run.answers == first for own in runs.values() for run in own),
    }


def rows_on(name: str, cloud_port: int, artifact: Path, files: Sequence[str]) -> list[JsonObject]:
    """Measure every way and source of images over a link of conf/link."""
    link = Link(**yaml.safe_load(Path(f"conf/link/{name}.yaml").read_text()))
    rows = list[JsonObject]()
    with EmulatedLink("127.0.0.1", cloud_port, link) as between:
        given = ["--artifact", str(artifact), "--deadline-ms", "60000"]
        given += ["--cloud", f"http://{between.host}:{between.port}"]
        for way, options in WAYS.items():
            for source in SOURCES:
                about: JsonObject = {"link": name, **asdict(link), "way": way, "source": source}
                rows.append({**about, **measured(source, [*given, *options], files, link)})
                print(json.dumps(rows[-1], indent=1), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="images per second with several in flight")
    parser.add_argument("--artifact", required=True, help="directory of an exported artifact")
    parser.add_argument("--images", help="directory of its images, if they were moved")
    parser.add_argument("--out", type=Path, default=RESULT, help="file to write")
    given = parser.parse_args()
    artifact = open_artifact(given.artifact, given.images)
    photographs = [photo.file for photo in artifact.photos("test", None)]
    random.Random(0).shuffle(photographs)  # in the order of classes the share that leaves drifts
    path, rows = artifact.manifest.path, list[Json]()
    with tempfile.TemporaryDirectory() as folder, running([path]) as cloud:
        files = [f"{folder}/{number:03}.jpg" for number in range(IMAGES)]
        for file, photograph in zip(files, photographs, strict=False):
            Path(file).write_bytes(photograph)
        port = urlsplit(cloud.url).port
        assert port
        for name in LINKS:
            rows += rows_on(name, port, path, files)
    hardware = f"{processor()}, 1 thread"
    write_json(
        given.out, {"rows": rows, **provenance(artifact.split.seed, artifact.title, hardware)}
    )
    print(f"wrote {given.out}")


if __name__ == "__main__":
    main()
