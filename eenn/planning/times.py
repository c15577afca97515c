"""What the parts of a device and its cloud take: stages, requests, the link."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from eenn.exits.decide import Decisions
from eenn.planning.costs import Link

# The payload that is the photograph's file.
IMAGE = "image"


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
        """Predict the mean over the samples of these decisions, with features sent as `payload`."""
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

    def parts(self) -> list["MeasuredPart"]:
        """List every part that was measured."""
        edge = {"preprocessing": self.preprocess_ms}
        if self.classifier_ms:
            edge["distortion classifier"] = self.classifier_ms
        for (start, stop), ms in self.stage_ms.items():
            edge[f"segments {start + 1} to {stop}, head {stop}"] = ms
        edge["whole network"] = self.whole_ms
        return [
            *(MeasuredPart("edge", part, ms) for part, ms in edge.items()),
            *(
                MeasuredPart(
                    "cloud",
                    f"after segment {cut}, {payload}",
                    request.cloud_ms,
                    request.codec_ms,
                    float(request.sent_bytes),
                )
                for (cut, payload), request in self.requests.items()
            ),
        ]

    def with_edge(self, slowdown: float) -> "Times":
        """Stretch the parts of the edge to a device that computes `slowdown` times slower."""
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


@dataclass(frozen=True)
class MeasuredPart:
    """One measured part: a stage on the edge, or a request to the cloud, for one image.

    Args:
        place: `edge` or `cloud`.
        codec_ms: of packing the request and unpacking the reply; NaN of parts on the edge, and so
            are `sent_bytes`.
    """

    place: str
    part: str
    ms: float
    codec_ms: float = math.nan
    sent_bytes: float = math.nan
