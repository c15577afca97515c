"""Measures the parts of a device and its cloud: stages, requests, the link between."""

import io
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from eenn.data.datasets import Photo
from eenn.exits.head_sets import CLASSIFIER, PLAIN, HeadChoice
from eenn.offload.client.http_cloud import Exchange, HttpCloud
from eenn.offload.graphs.index import Graphs
from eenn.offload.graphs.parts import Part, open_heads
from eenn.offload.protocol.wire import FEATURES, LOGITS
from eenn.planning.costs import Link
from eenn.planning.times import IMAGE, RequestCost, Times
from eenn.statistics.calibration import probabilities

Floats = NDArray[np.float32]
T = TypeVar("T")
R = TypeVar("R")

REPEATS = 7


# What no link of ours is faster than; where time does not grow with bytes, that is what is found.
MAX_MBPS = 1e5


def measure(
    graphs: Graphs,
    photos: Sequence[Photo],
    clouds: Mapping[str, HttpCloud],
    precision: str,
    experts: HeadChoice,
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
    if experts.asks_classifier:
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
