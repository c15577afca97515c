"""Contenders of an offloading benchmark: ways to answer a photograph, with times and bytes.

The contenders are early exits over some active branches at a threshold, and baselines that offload
nothing or everything.
"""

import io
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eenn.artifact.manifest import Manifest
from eenn.data.datasets import Photo
from eenn.data.distortions import Distortion
from eenn.exits.head_sets import PLAIN
from eenn.exits.policies.base import ExitProbs
from eenn.exits.rests import CLOUD, PHOTOGRAPH
from eenn.exits.settings import Setting
from eenn.offload.client.http_cloud import Exchange, HttpCloud
from eenn.offload.edge.batch import Result
from eenn.offload.edge.clouds import slowed_ms
from eenn.offload.edge.runtime import EdgeRuntime
from eenn.offload.protocol.errors import OffloadError
from eenn.planning.times import Route
from eenn.preprocess import Preprocessing
from eenn.statistics.calibration import probabilities

JPEG_QUALITY = 85  # of a crop that is sent as an image

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Traffic:
    """The traffic over the link for one photograph.

    Args:
        sent_bytes: bytes of HTTP requests; `received_bytes` of their replies.
        server_ms: time in the cloud, as the cloud reports it; NaN if it does not.
    """

    sent_bytes: int
    received_bytes: int
    server_ms: float


NO_TRAFFIC = Traffic(0, 0, 0.0)
NOBODY = -1


@dataclass(frozen=True)
class Outcome:
    """The outcome of one photograph.

    Args:
        label: the answer, an index into the classes.
        exit: exit at which computing stopped, counted from 1.
        failure: cause if the cloud did not answer, else empty. The edge answered instead; where it
            could not, `label` is NOBODY and the confidence 0.
        heads: the head set that answered.
        edge_ms: time of preprocessing, distortion classifier, stages and heads on the edge.
        cloud_ms: time from the request to the reply, the link included; 0 if the cloud was not
            asked.
    """

    label: int
    confidence: float
    exit: int
    on_edge: bool
    failure: str
    heads: str
    edge_ms: float
    cloud_ms: float
    traffic: Traffic

    @property
    def latency_ms(self) -> float:
        """Sum the milliseconds from the photograph to the answer."""
        return self.edge_ms + self.cloud_ms


@dataclass(frozen=True)
class Request:
    """The request to one contender to answer one photograph.

    Args:
        level: level of the photograph's distortion.
        image: the photograph's sample id.
        truth: the photograph's label.
    """

    setting: Setting
    most_active: bool
    level: float
    image: str
    truth: int
    outcome: Outcome


class Contender(ABC):
    """One way to answer photographs.

    Args:
        setting: distinguishes the contender from the others.
        route: route of images that no active branch accepts.
        most_active: whether no other contender has more active branches.
    """

    def __init__(self, setting: Setting, route: Route, most_active: bool = True) -> None:
        self.setting, self.route, self.most_active = setting, route, most_active

    @abstractmethod
    def answer(self, photo: Photo, distortion: Distortion) -> Outcome:
        """Answer one photograph, and measure it."""


class EdgeContender(Contender):
    """A contender that answers by an edge runtime, with or without a cloud.

    Args:
        cloud: the cloud over a network that the runtime asks, if any.
    """

    def __init__(
        self,
        setting: Setting,
        route: Route,
        runtime: EdgeRuntime,
        cloud: HttpCloud | None,
        most_active: bool = True,
    ) -> None:
        super().__init__(setting, route, most_active)
        self.runtime, self._cloud = runtime, cloud
        self._preprocessing = runtime.manifest.preprocessing

    def answer(self, photo: Photo, distortion: Distortion) -> Outcome:
        if distortion.level:
            result = self._distorted(photo, distortion)
        else:
            result = self.runtime.classify_file(io.BytesIO(photo.file))
        asked = self._cloud is not None and (result.failure or not result.on_edge)
        traffic = _traffic(self._cloud.last) if self._cloud is not None and asked else NO_TRAFFIC
        return Outcome(
            label=result.label,
            confidence=result.confidence,
            exit=result.exit + 1,
            on_edge=result.on_edge,
            failure=result.failure,
            heads=result.heads,
            edge_ms=result.latency_ms - result.cloud_ms,
            cloud_ms=result.cloud_ms,
            traffic=traffic,
        )

    def _distorted(self, photo: Photo, distortion: Distortion) -> Result:
        """Classify a photograph distorted after its crop, without the distortion's time."""
        start = time.perf_counter()
        pixels = _crop(self._preprocessing, photo)
        preprocess_ms = slowed_ms(start, self.runtime.slowdown)
        pixels = distortion(pixels, photo.noise_seed)
        start = time.perf_counter()
        image = self._preprocessing.normalise(pixels)
        preprocess_ms += slowed_ms(start, self.runtime.slowdown)
        (result,) = self.runtime.classify(image[None])
        return replace(result, preprocess_ms=preprocess_ms)


class CloudContender(Contender):
    """A contender that sends every image to the cloud: its file, or the network's crop as JPEG.

    Args:
        manifest: of the network in the cloud.
        upstream: whether the cloud's network is not the edge's.
        crop: whether the crop is sent.
        slowdown: of the edge, where the crop is made.
    """

    def __init__(
        self,
        setting: Setting,
        manifest: Manifest,
        upstream: bool,
        cloud: HttpCloud,
        crop: bool,
        slowdown: float,
    ) -> None:
        super().__init__(setting, Route(CLOUD, PHOTOGRAPH, upstream))
        self._preprocessing, self._cloud = manifest.preprocessing, cloud
        self._exits, self._temperature = len(manifest.exits), manifest.temperatures.per_exit[-1]
        self._crop, self._slowdown = crop, slowdown

    def answer(self, photo: Photo, distortion: Distortion) -> Outcome:
        file, edge_ms = photo.file, 0.0
        if self._crop:
            start = time.perf_counter()
            pixels = _crop(self._preprocessing, photo)
            edge_ms = slowed_ms(start, self._slowdown)
            pixels = distortion(pixels, photo.noise_seed)
            start = time.perf_counter()
            file = _jpeg(pixels)
            edge_ms += slowed_ms(start, self._slowdown)
        start = time.perf_counter()
        label, confidence, failure = NOBODY, 0.0, ""
        try:
            logits = self._cloud.infer_files([file], None, cropped=self._crop)
            cloud_ms = 1e3 * (time.perf_counter() - start)
            last = ExitProbs(self._exits - 1, probabilities(logits, self._temperature))
            label, confidence = int(last.prediction[0]), float(last.confidence[0])
        except OffloadError as error:
            cloud_ms, failure = 1e3 * (time.perf_counter() - start), error.cause
        return Outcome(
            label=label,
            confidence=confidence,
            exit=self._exits,
            on_edge=False,
            failure=failure,
            heads=PLAIN,
            edge_ms=edge_ms,
            cloud_ms=cloud_ms,
            traffic=_traffic(self._cloud.last),
        )


def _crop(preprocessing: Preprocessing, photo: Photo) -> Pixels:
    return preprocessing.crop(preprocessing.read(io.BytesIO(photo.file)))


def _jpeg(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "jpeg", quality=JPEG_QUALITY)
    return file.getvalue()


def _traffic(exchange: Exchange) -> Traffic:
    return Traffic(exchange.sent_bytes, exchange.received_bytes, exchange.server_ms)
