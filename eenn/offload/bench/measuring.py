"""Measurement of the parts of a device and its cloud: stages, requests, the link in between.

Photographs run through chains of stages, one part after the other as in the edge runtime, on a
device as slow as the benchmark's. A part that is repeated by itself would be faster than in a
chain, because caches hold it, while a device slowed down by waiting finds them cold. Requests are
sent apart from the chains: a stage that follows the wait for a cloud takes up to a fifth longer,
and most photographs of a deployment follow one that stayed on the device.
"""

import io
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import cycle, pairwise, product
from pathlib import Path
from statistics import fmean, median
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from eenn.data.datasets import Photo
from eenn.errors import EennError
from eenn.exits.head_sets import HeadChoice
from eenn.exits.rests import PHOTOGRAPH
from eenn.offload.client.http_cloud import Exchange, HttpCloud
from eenn.offload.edge.batch import File, Result
from eenn.offload.edge.chains import Chains, NeverLeaving, Way
from eenn.offload.edge.clouds import LocalCloud, Rest
from eenn.offload.edge.runtime import EdgeRuntime
from eenn.offload.graphs.index import Graphs
from eenn.offload.protocol.errors import OffloadError
from eenn.planning.costs import Link
from eenn.planning.times import RequestCost, Times, UpstreamTimes, border
from eenn.statistics.calibration import probabilities

K = TypeVar("K", int, str, tuple[int, int])
Floats = NDArray[np.float32]

# The largest bandwidth that is fitted, also where times do not grow with bytes.
MAX_MBPS = 1e5
# Photographs in a row through every chain.
ROW = 4


@dataclass(frozen=True)
class Passage:
    """The times of every part for one photograph on its way to an answer.

    Args:
        image: the photograph's sample id.
        ends: exits that decided, counted from 1.
        payload: content sent to the cloud, see `Route`; empty where the device computed the rest.
        upstream: whether the upstream network answered, not the chain's own.
        stages_ms: time of every stage, its decision included.
        rest_ms: time from the last stage to the last exit's decision.
        sent_bytes, server_ms, wait_ms: see `Exchange`; 0 where nothing was sent.
        cut: number of blocks on the device where it computed on behind the last of `ends`, in one
            more stage; None where it did not.
    """

    image: str
    ends: tuple[int, ...]
    payload: str
    upstream: bool
    preprocess_ms: float
    classifier_ms: float
    stages_ms: tuple[float, ...]
    rest_ms: float
    sent_bytes: int
    server_ms: float
    wait_ms: float
    cut: int | None = None


class Meter:
    """Measures the parts of a device and its cloud.

    Args:
        graphs: of the device's network.
        clouds: clients of the same cloud, by the format that each sends features in.
        precision: of the edge's stages.
        experts: see `EdgeRuntime`; heads of all sets take the same time.
        slowdown: of the edge.
        upstream: the upstream network's artifact, and the client of the cloud that has it.
        check_cloud: called when the cloud did not answer; raises if it cannot be asked at all.
    """

    def __init__(
        self,
        graphs: Graphs,
        clouds: Mapping[str, HttpCloud],
        precision: str,
        experts: HeadChoice,
        slowdown: float,
        upstream: tuple[Path, HttpCloud] | None,
        check_cloud: Callable[[], None],
    ) -> None:
        self._clouds, self._check_cloud = clouds, check_cloud
        self._chains = Chains(graphs, precision, experts, slowdown=slowdown)
        self._upstream: tuple[EdgeRuntime, HttpCloud] | None = None
        if upstream is not None:
            there, cloud = upstream
            rest = Rest(LocalCloud(there, precision, slowdown=slowdown))
            whole = EdgeRuntime(there, NeverLeaving(), (), rest, precision, slowdown=slowdown)
            self._upstream = whole, cloud

    def passages(self, photos: Sequence[Photo]) -> list[Passage]:
        """Send photographs through every chain, to the cloud from every cut, and by themselves.

        Raises:
            OffloadError: the cloud cannot be asked.
        """
        # Every photograph is measured at least once, because their preprocessing times differ.
        chains, turn = self._chains, cycle(photos)
        row = max(ROW, -(-len(photos) // len(chains.ways)))
        found: list[Passage | None] = []
        for way in chains.ways:
            rest = chains.device if way.cut is None else chains.skipped
            run = partial(chains.run, way, rest=rest)
            self._through(photos[0], run, way)  # finds caches cold
            for _ in range(row):
                found.append(self._through(next(turn), run, way))
        for way in chains.ways_to.values():
            for payload, own in self._clouds.items():
                run = partial(chains.run, way, rest=Rest(own))
                found.append(self._through(next(turn), run, way, payload))
        cloud = next(iter(self._clouds.values()))
        found += self._photographs(photos, cloud, upstream=False)
        if self._upstream is not None:
            whole, cloud = self._upstream
            found += self._photographs(photos, cloud, upstream=True)
            found += [
                self._through(photo, whole.classify_file, Way(), upstream=True) for photo in photos
            ]
        return [passage for passage in found if passage is not None]

    def _through(
        self,
        photo: Photo,
        run: Callable[[File], Result],
        way: Way,
        payload: str = "",
        upstream: bool = False,
    ) -> Passage | None:
        """Send a photograph through a chain; return None if the cloud did not answer.

        Args:
            run: sends a file through the chain.
        """
        try:
            result = run(io.BytesIO(photo.file))
        except OffloadError:
            self._check_cloud()
            return None
        if result.failure:
            self._check_cloud()
            return None
        asked = self._clouds[payload].last if payload else Exchange()
        return Passage(
            photo.sample_id, way.ends, payload, upstream,
            result.preprocess_ms, result.classifier_ms, result.stages_ms, result.cloud_ms,
            asked.sent_bytes, _server_ms(asked), asked.wait_ms, way.cut,
        )  # fmt: skip

    def _photographs(
        self, photos: Sequence[Photo], cloud: HttpCloud, upstream: bool
    ) -> Iterator[Passage]:
        """Send the files of photographs to the cloud, and yield their times."""
        with suppress(OffloadError):
            cloud.infer_files([photos[0].file], None)  # opens a connection
        for photo in photos:
            start = time.perf_counter()
            try:
                probabilities(cloud.infer_files([photo.file], None))
            except OffloadError:
                self._check_cloud()
                continue
            rest_ms = 1e3 * (time.perf_counter() - start)
            asked = cloud.last
            yield Passage(
                photo.sample_id, (), PHOTOGRAPH, upstream, 0.0, 0.0, (), rest_ms,
                asked.sent_bytes, _server_ms(asked), asked.wait_ms,
            )  # fmt: skip


def times_of(passages: Sequence[Passage], slowdown: float, borders: tuple[int, ...] = ()) -> Times:
    """Summarise measurements as the times of parts, in milliseconds.

    Every part of the edge counts with its median, so that one late sample does not distort a stage.
    All medians are then raised by the factor by which the samples together took longer than their
    medians, because means include late samples.

    Args:
        slowdown: of the edge while it was measured; the returned times are without it.
        borders: see `Times`.

    Raises:
        EennError: the cloud never answered one of the requests.
    """
    own = [passage for passage in passages if not passage.upstream]
    there = [passage for passage in passages if passage.upstream]
    chained = [passage for passage in own if not passage.payload]
    preprocess = _Samples((passage.image, passage.preprocess_ms) for passage in chained)
    stages = _Samples(
        ((border(borders, start), exit), ms)
        for passage in chained
        for (start, exit), ms in zip(pairwise((0, *passage.ends)), passage.stages_ms, strict=False)
    )
    further = _Samples(
        ((_behind(passage, borders), passage.cut), passage.stages_ms[-1])
        for passage in chained
        if passage.cut is not None
    )
    rests = _Samples((_behind(own, borders), own.rest_ms) for own in chained if own.cut is None)
    asked = _asked(own, borders)
    payloads = {payload for _, payload in asked if payload != PHOTOGRAPH}
    upstream_asked = [passage for passage in there if passage.payload]
    missing = {(0, PHOTOGRAPH), *product(rests.medians, payloads)} - set(asked)
    if missing or (there and not upstream_asked):
        raise EennError(
            "the cloud never answered some of the requests that measure its parts; check the "
            "cloud and start a new run"
        )
    parts = (preprocess, stages, further, rests)
    late = sum(part.total for part in parts) / sum(part.expected for part in parts)
    upstream = None
    if there:
        took = _Samples((p.image, p.preprocess_ms + p.rest_ms) for p in there if not p.payload)
        upstream = UpstreamTimes(fmean(took.medians.values()), _request(upstream_asked))
    edge = Times(
        preprocess_ms=fmean(preprocess.medians.values()),
        classifier_ms=median(passage.classifier_ms for passage in chained),
        stage_ms=stages.medians,
        rest_ms=rests.medians,
        requests={place: _request(alike) for place, alike in sorted(asked.items())},
        link=_link([*asked.values(), *filter(None, [upstream_asked])]),
        upstream=upstream,
        further_ms=further.medians,
        borders=borders,
    )
    return edge.with_edge(late / slowdown)


def _behind(passage: Passage, borders: tuple[int, ...]) -> int:
    """Find the cut behind the last exit that decided."""
    return border(borders, passage.ends[-1] if passage.ends else 0)


def _asked(
    passages: Sequence[Passage], borders: tuple[int, ...]
) -> dict[tuple[int, str], list[Passage]]:
    """Collect the passages that asked the cloud by cut and payload."""
    asked: dict[tuple[int, str], list[Passage]] = defaultdict(list)
    for passage in passages:
        if passage.payload:
            cut = _behind(passage, borders) if passage.cut is None else passage.cut
            asked[cut, passage.payload].append(passage)
    return asked


class _Samples(Generic[K]):
    """Samples of parts of one kind, by the key of the part.

    `medians` are the medians by part, `total` is the sum of all samples, and `expected` is the sum
    if every sample equalled its part's median.
    """

    def __init__(self, values: Iterable[tuple[K, float]]) -> None:
        found: dict[K, list[float]] = defaultdict(list)
        for key, value in values:
            found[key].append(value)
        self.medians: dict[K, float] = {key: median(found[key]) for key in sorted(found)}
        self.total = sum(map(sum, found.values()))
        self.expected: float = sum(len(found[key]) * ms for key, ms in self.medians.items())


def _server_ms(asked: Exchange) -> float:
    """Read the cloud's computing time; if it is not reported, it counts as time of the link."""
    return 0.0 if math.isnan(asked.server_ms) else asked.server_ms


def _request(alike: Sequence[Passage]) -> RequestCost:
    """Summarise requests of one kind, photographs by means, as their sizes differ."""
    middle = fmean if alike[0].payload == PHOTOGRAPH else median
    return RequestCost(
        middle([float(passage.sent_bytes) for passage in alike]),
        middle([passage.server_ms for passage in alike]),
        middle([passage.rest_ms - passage.wait_ms for passage in alike]),
    )


def _link(kinds: Sequence[Sequence[Passage]]) -> Link:
    """Estimate the link from requests of every kind: the waiting time without the cloud's time."""
    sent_bytes = [median(float(passage.sent_bytes) for passage in alike) for alike in kinds]
    wait_ms = [median(passage.wait_ms - passage.server_ms for passage in alike) for alike in kinds]
    return fit_link(sent_bytes, wait_ms)


def fit_link(request_bytes: Sequence[float], wait_ms: Sequence[float]) -> Link:
    """Fit a link to measured times: a least-squares line through milliseconds over bytes."""
    ms_per_byte, rtt_ms = np.polyfit(request_bytes, wait_ms, 1)
    bandwidth = min(8e-3 / ms_per_byte, MAX_MBPS) if ms_per_byte > 0 else MAX_MBPS
    return Link(float(bandwidth), max(float(rtt_ms), 0.0))
