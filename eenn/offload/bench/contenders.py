"""Photographs through edge and cloud one by one, for every way to answer: times, bytes, answers.

The ways are early exits over some active branches at a threshold, and baselines that offload
nothing or everything.
"""

import io
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eenn.artifact.manifest import Manifest
from eenn.data.datasets import Photo
from eenn.data.distortions import Distortion
from eenn.exits.head_sets import PLAIN
from eenn.exits.policies.base import ExitProbs
from eenn.exits.settings import Setting
from eenn.offload.client.http_cloud import Exchange, HttpCloud
from eenn.offload.edge.clouds import stretched_ms
from eenn.offload.edge.runtime import EdgeRuntime
from eenn.offload.protocol.errors import OffloadError
from eenn.preprocess import Preprocessing
from eenn.statistics.calibration import probabilities

JPEG_QUALITY = 85  # of a crop that is sent as an image

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Traffic:
    """What went over the link for one photograph.

    Args:
        sent_bytes: of HTTP requests; `received_bytes` of their replies.
        server_ms: in the cloud, as it says; NaN if it does not say.
    """

    sent_bytes: int
    received_bytes: int
    server_ms: float


NO_TRAFFIC = Traffic(0, 0, 0.0)
NOBODY = -1


@dataclass(frozen=True)
class Outcome:
    """What became of one photograph.

    Args:
        label: the answer, an index into the classes.
        exit: at which computing stopped, counted from 1.
        failure: why the cloud did not answer, or empty. The edge answered instead; where nobody
            could, `label` is NOBODY and the confidence 0.
        heads: the head set that answered.
        edge_ms: preprocessing, distortion classifier, stages and heads on the edge.
        cloud_ms: from the question to the reply, both ways on the link included; 0 if not asked.
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
        """From the photograph to the answer."""
        return self.edge_ms + self.cloud_ms


@dataclass(frozen=True)
class Request:
    """One photograph that was answered in one way.

    Args:
        level: of its distortion.
        image: its sample id.
        truth: its label.
    """

    setting: Setting
    most_active: bool
    level: float
    image: str
    truth: int
    outcome: Outcome


class Way(ABC):
    """One way to answer.

    Args:
        setting: what tells it from the others.
        most_active: no other has more active branches.
    """

    def __init__(self, setting: Setting, most_active: bool = True) -> None:
        self.setting, self.most_active = setting, most_active

    @abstractmethod
    def answer(self, photo: Photo, distortion: Distortion) -> Outcome:
        """The answer for one photograph, measured."""


class ByEdge(Way):
    """An edge runtime, with or without a cloud behind it.

    Args:
        cloud: the one that the runtime asks, if that is over a network.
        on_edge: everything is answered on the edge, whatever the runtime calls it.
    """

    def __init__(
        self,
        setting: Setting,
        runtime: EdgeRuntime,
        cloud: HttpCloud | None,
        on_edge: bool = False,
        most_active: bool = True,
    ) -> None:
        super().__init__(setting, most_active)
        self.runtime, self._cloud, self._on_edge = runtime, cloud, on_edge
        self._preprocessing = runtime.manifest.preprocessing

    def answer(self, photo: Photo, distortion: Distortion) -> Outcome:
        start = time.perf_counter()
        pixels = _crop(self._preprocessing, photo)
        crop_ms = stretched_ms(start, self.runtime.slowdown)
        pixels = distortion(pixels, photo.noise_seed)
        start = time.perf_counter()
        image = self._preprocessing.normalise(pixels)
        normalise_ms = stretched_ms(start, self.runtime.slowdown)
        (result,) = self.runtime.classify(image[None])
        asked = self._cloud is not None and (result.failure or not result.on_edge)
        traffic = _traffic(self._cloud.last) if self._cloud is not None and asked else NO_TRAFFIC
        edge_ms = crop_ms + normalise_ms + result.classifier_ms + sum(result.stages_ms)
        return Outcome(
            label=result.label,
            confidence=result.confidence,
            exit=result.exit + 1,
            on_edge=result.on_edge or self._on_edge,
            failure=result.failure,
            heads=result.heads,
            # What is answered by the rest of the network on this machine is the edge's work.
            edge_ms=edge_ms + (result.cloud_ms if self._on_edge else 0.0),
            cloud_ms=0.0 if self._on_edge else result.cloud_ms,
            traffic=traffic,
        )


class ByCloud(Way):
    """The image itself is sent: its file, or the network's crop of it as JPEG.

    Args:
        manifest: of the network in the cloud.
        crop: whether the crop is sent.
        slowdown: of the edge, which makes the crop.
    """

    def __init__(
        self, setting: Setting, manifest: Manifest, cloud: HttpCloud, crop: bool, slowdown: float
    ) -> None:
        super().__init__(setting)
        self._preprocessing, self._cloud = manifest.preprocessing, cloud
        self._exits, self._temperature = len(manifest.exits), manifest.temperatures.per_exit[-1]
        self._crop, self._slowdown = crop, slowdown

    def answer(self, photo: Photo, distortion: Distortion) -> Outcome:
        file, edge_ms = photo.file, 0.0
        if self._crop:
            start = time.perf_counter()
            pixels = _crop(self._preprocessing, photo)
            edge_ms = stretched_ms(start, self._slowdown)
            pixels = distortion(pixels, photo.noise_seed)
            start = time.perf_counter()
            file = _jpeg(pixels)
            edge_ms += stretched_ms(start, self._slowdown)
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
