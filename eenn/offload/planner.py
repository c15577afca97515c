"""The planner: what any choice of branches, threshold and payload would take, from measured parts.

The parts are times of stages and of the cloud, bytes of requests, and the link; how many images
leave where is known from exit records. So a device's best choice is found without trying them all.
"""

import io
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, combinations, pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from eenn.calibration import probabilities
from eenn.costs import Link, split_point
from eenn.data.datasets import Photo
from eenn.decisions import Decisions, decide
from eenn.errors import EennError
from eenn.experts import AUTO, CLASSIFIER, PLAIN
from eenn.grid import CLOUD_ONLY, WHOLE_ON_EDGE
from eenn.intervals import Row
from eenn.offload.client.http_cloud import Exchange, HttpCloud
from eenn.offload.graphs import FEATURES, LOGITS, Graphs
from eenn.offload.parts import Part, open_heads
from eenn.offload.wire import IMAGE
from eenn.policies import ExitProbs, Policy

Floats = NDArray[np.float32]
T = TypeVar("T")
R = TypeVar("R")

REPEATS = 7
# What no link of ours is faster than; where time does not grow with bytes, that is what is found.
MAX_MBPS = 1e5
MAX_SLOWDOWN = 100.0


@dataclass(frozen=True)
class Times:
    """Medians in milliseconds for one image, as the device and the cloud take them.

    Args:
        preprocess_ms: from the photograph to the network's input.
        classifier_ms: of the distortion classifier; 0 where it is not asked.
        stage_ms: from one split point to a later one, the later one's head and decision included.
        whole_ms: of the whole network without branches, on the edge.
        requests: by split point and payload; IMAGE is the photograph's file, at split point 0.
        link: between the two, as measured; its round trip holds what HTTP and its server take.
    """

    preprocess_ms: float
    classifier_ms: float
    stage_ms: Mapping[tuple[int, int], float]
    whole_ms: float
    requests: Mapping[tuple[int, str], "RequestCost"]
    link: Link

    def latency_ms(self, decisions: Decisions, payload: str) -> float:
        """Mean over the samples of these decisions, with features sent in the format `payload`."""
        ends = [0, *(branch + 1 for branch in decisions.active)]
        edge_ms = np.cumsum([self.stage_ms[step] for step in pairwise(ends)])
        until = {branch: float(ms) for branch, ms in zip(decisions.active, edge_ms, strict=True)}
        on_edge = sum(ms * float((decisions.taken == exit).mean()) for exit, ms in until.items())
        offloaded = float((~decisions.on_edge).mean())
        request = self.requests[ends[-1], payload]
        away = (
            (float(edge_ms[-1]) if until else 0.0)
            + request.codec_ms
            + self.link.latency_ms(request.sent_bytes)
            + request.cloud_ms
        )
        before = 0.0 if payload == IMAGE else self.preprocess_ms + self.classifier_ms
        return before + on_edge + offloaded * away

    def rows(self) -> list[Row]:
        """A row for every part."""
        edge = {"preprocessing": self.preprocess_ms}
        if self.classifier_ms:
            edge["distortion classifier"] = self.classifier_ms
        for (start, stop), ms in self.stage_ms.items():
            edge[f"segments {start + 1} to {stop}, head {stop}"] = ms
        edge["whole network"] = self.whole_ms
        rows: list[Row] = [{"place": "edge", "part": part, "ms": ms} for part, ms in edge.items()]
        for (cut, payload), request in self.requests.items():
            rows.append(
                {
                    "place": "cloud",
                    "part": f"after segment {cut}, {payload}",
                    "ms": request.cloud_ms,
                    "codec_ms": request.codec_ms,
                    "sent_bytes": request.sent_bytes,
                }
            )
        return rows

    def with_edge(self, slowdown: float) -> "Times":
        """The same for an edge that computes `slowdown` times slower."""
        return replace(
            self,
            preprocess_ms=slowdown * self.preprocess_ms,
            classifier_ms=slowdown * self.classifier_ms,
            stage_ms={step: slowdown * ms for step, ms in self.stage_ms.items()},
            whole_ms=slowdown * self.whole_ms,
        )


@dataclass(frozen=True)
class RequestCost:
    """A request for one image: its bytes, the cloud's milliseconds for it, and those of packing it
    and unpacking the reply."""

    sent_bytes: int
    cloud_ms: float
    codec_ms: float


def measure(
    graphs: Graphs,
    photos: Sequence[Photo],
    clouds: Mapping[str, HttpCloud],
    precision: str,
    experts: str,
) -> Times:
    """Run every stage, and every rest of the network in the cloud, on these photographs.

    Args:
        clouds: the same cloud, by the format that each sends features in.
        precision: of the edge's stages.
        experts: as of `EdgeRuntime`; heads of all sets take the same time.

    Raises:
        OffloadError: the cloud failed.
    """
    branches = len(graphs.manifest.exits) - 1
    preprocessing = graphs.manifest.preprocessing

    def input_of(photo: Photo) -> Floats:
        return preprocessing(preprocessing.read(io.BytesIO(photo.file)))[None]

    preprocess_ms, images = _timed(input_of, photos)
    classifier_ms = 0.0
    if experts == AUTO:
        classifier = graphs.session(CLASSIFIER, "fp32", threads=1)
        classifier_ms, _ = _timed(lambda image: classifier.run([LOGITS], {FEATURES: image}), images)
    features, stage_ms = {0: images}, {}
    plain = np.array([PLAIN])

    def part_of(start: int, stop: int) -> Part:
        heads = open_heads(graphs, stop, [PLAIN], threads=1)
        return Part(graphs, start, stop, heads, precision, threads=1)

    for start in range(branches):
        for stop in range(start + 1, branches + 1):
            part = part_of(start, stop)

            def stage(image: Floats, part: Part = part) -> Floats:
                logits, after = part.step(image, plain)
                assert probabilities(logits).max() > 0  # deciding is part of the stage
                return after

            stage_ms[start, stop], after = _timed(stage, features[start])
            features.setdefault(stop, after)
    whole = part_of(0, branches + 1)
    whole_ms, _ = _timed(lambda image: whole.logits(image, PLAIN), images)
    requests, waits = {}, []
    for cut in range(branches + 1):
        for payload, cloud in clouds.items():
            ask = partial(_ask_features, cloud, features[cut], cut)
            requests[cut, payload], wait_ms = _measure_requests(ask)
            waits.append(wait_ms)
    cloud = next(iter(clouds.values()))
    requests[0, IMAGE], wait_ms = _measure_requests(
        partial(_ask_images, cloud, [photo.file for photo in photos])
    )
    link = fit_link([request.sent_bytes for request in requests.values()], [*waits, wait_ms])
    return Times(preprocess_ms, classifier_ms, stage_ms, whole_ms, requests, link)


def _timed(call: Callable[[T], R], inputs: Iterable[T]) -> tuple[float, list[R]]:
    """Median milliseconds of the call on each of the inputs, several times; and what it returns."""
    taken, results = [], []
    for given in inputs:
        for _ in range(REPEATS):
            begin = time.perf_counter()
            result = call(given)
            taken.append(1e3 * (time.perf_counter() - begin))
        results.append(result)
    return statistics.median(taken), results


def _ask_features(cloud: HttpCloud, features: Sequence[Floats], cut: int) -> Iterator[Exchange]:
    for image in features:
        cloud.infer(image, cut, None)
        yield cloud.last


def _ask_images(cloud: HttpCloud, files: Sequence[bytes]) -> Iterator[Exchange]:
    for file in files:
        cloud.infer_files([file], None)
        yield cloud.last


def _measure_requests(ask: Callable[[], Iterable[Exchange]]) -> tuple[RequestCost, float]:
    """Medians of a request's parts, and of what is left for the link."""
    done = [exchange for _ in range(REPEATS) for exchange in ask()]
    # Of a cloud that does not say, its own time counts as the link's.
    cloud_ms = [0.0 if math.isnan(e.server_ms) else e.server_ms for e in done]
    cost = RequestCost(
        round(statistics.median(e.sent_bytes for e in done)),
        statistics.median(cloud_ms),
        statistics.median(e.encode_ms + e.decode_ms for e in done),
    )
    on_link = (e.wait_ms - ms for e, ms in zip(done, cloud_ms, strict=True))
    return cost, statistics.median(on_link)


def fit_link(request_bytes: Sequence[float], wait_ms: Sequence[float]) -> Link:
    """The link whose times come closest to those measured: a line through time over bytes."""
    ms_per_byte, rtt_ms = np.polyfit(request_bytes, wait_ms, 1)
    bandwidth = min(8e-3 / ms_per_byte, MAX_MBPS) if ms_per_byte > 0 else MAX_MBPS
    return Link(float(bandwidth), max(float(rtt_ms), 0.0))


def plan(
    times: Times,
    outputs: Sequence[ExitProbs],
    labels: NDArray[np.int64],
    policies: Mapping[float, Policy],
) -> list[Row]:
    """A row for every set of active branches, threshold and payload: latency, accuracy, bytes.

    The network is cut after the last active branch. Accuracy is that of unrounded features.

    Args:
        outputs: calibrated probabilities of every exit on samples like those to come.
        policies: by p_tar.
    """
    branches = range(len(outputs) - 1)
    sets = chain.from_iterable(combinations(branches, size) for size in range(len(outputs)))
    rows = []
    for active in sets:
        for p_tar, policy in list(policies.items())[: None if active else 1]:
            decisions = decide(policy, outputs, active)
            cut = split_point(decisions)
            for payload in (payload for at, payload in times.requests if at == cut):
                sent = times.requests[cut, payload].sent_bytes
                rows.append(
                    {
                        "active": " ".join(str(branch + 1) for branch in active),
                        "split_point": cut,
                        "p_tar": p_tar if active else np.nan,
                        "payload": payload,
                        "latency_ms": times.latency_ms(decisions, payload),
                        "accuracy": float((decisions.label == labels).mean()),
                        "edge_probability": float(decisions.on_edge.mean()),
                        "sent_bytes": sent * float((~decisions.on_edge).mean()),
                    }
                )
    return rows


def best(rows: Sequence[Row], min_accuracy: float = 0.0, deadline_ms: float = np.inf) -> Row:
    """The most accurate row within the deadline, if there is one, else the fastest; of those that
    are accurate enough.

    Raises:
        EennError: none is.
    """
    within = [
        row for row in rows if row["accuracy"] >= min_accuracy and row["latency_ms"] <= deadline_ms
    ]
    if not within:
        raise EennError(
            f"no plan reaches an accuracy of {min_accuracy:.4g} within {deadline_ms:g} ms; the "
            f"most accurate reaches {max(row['accuracy'] for row in rows):.4g}, the fastest takes "
            f"{min(row['latency_ms'] for row in rows):.3g} ms"
        )
    if np.isfinite(deadline_ms):
        return max(within, key=lambda row: (row["accuracy"], -row["latency_ms"]))
    return min(within, key=lambda row: (row["latency_ms"], -row["accuracy"]))


def slower_edges(times: Times, ways: Mapping[str, Decisions], payload: str) -> list[Row]:
    """Latency against how many times slower the edge computes, of early exits and of baselines.

    Args:
        times: of the edge as it is.
        ways: decisions of early exits, by name.
    """
    upload = times.requests[0, IMAGE]
    alone_ms = upload.codec_ms + times.link.latency_ms(upload.sent_bytes) + upload.cloud_ms
    rows = []
    for slowdown in np.geomspace(1, MAX_SLOWDOWN, 41).tolist():
        own = times.with_edge(slowdown)
        latency_ms = {
            CLOUD_ONLY: alone_ms,
            WHOLE_ON_EDGE: own.preprocess_ms + own.classifier_ms + own.whole_ms,
            **{name: own.latency_ms(decisions, payload) for name, decisions in ways.items()},
        }
        rows += [
            {"slowdown": slowdown, "policy": name, "latency_ms": ms}
            for name, ms in latency_ms.items()
        ]
    return rows
