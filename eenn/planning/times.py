"""Times of the parts of a device and its cloud, and the latency they predict for any way to
answer."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from eenn.exits.decide import Decisions
from eenn.exits.policies.base import Bools, Floats
from eenn.exits.rests import CLOUD, DEVICE, NOBODY, PHOTOGRAPH
from eenn.planning.costs import Link, split_point
from eenn.planning.engine import Conditions, Spent, Way


@dataclass(frozen=True)
class Route:
    """The route of images that no active branch accepts.

    Args:
        rest: where the rest is computed: in the `cloud`, on this `device`, or by `nobody`, which
            leaves the answer to the last active branch.
        payload: the content sent to the cloud: features in a format, or the `photograph`'s file;
            empty where nothing is sent.
        upstream: whether an upstream network answers, which starts from the photograph.
        further: number of blocks on the device where it computes on behind the last active branch
            before it sends features; 0 where it does not.
    """

    rest: str
    payload: str = ""
    upstream: bool = False
    further: int = 0

    def __str__(self) -> str:
        at = f"block_{self.further}" if self.further else ""
        parts = (self.rest, self.payload, at, "upstream" if self.upstream else "")
        return "-".join(filter(None, parts))


WHOLE_PHOTOGRAPH = Route(CLOUD, PHOTOGRAPH)


@dataclass(frozen=True)
class RequestCost:
    """The cost of a request for one image.

    Args:
        sent_bytes: size of the request.
        cloud_ms: computing time in the cloud.
        codec_ms: time to pack the request, unpack the reply and decide.
    """

    sent_bytes: float
    cloud_ms: float
    codec_ms: float


@dataclass(frozen=True)
class UpstreamTimes:
    """The times of an upstream network for one photograph.

    Args:
        device_ms: on the device, the network's own preprocessing included.
        request: cost of sending the photograph's file.
    """

    device_ms: float
    request: RequestCost


@dataclass(frozen=True)
class Times:
    """The milliseconds of each part of device and cloud for one image.

    Args:
        preprocess_ms: from the photograph to the network's input; the mean, as photographs differ.
        classifier_ms: of the distortion classifier; 0 where it does not run.
        stage_ms: from a cut to the decision of a later exit, counted from 1. A cut is the number of
            blocks before it; 0 is the image.
        rest_ms: from a cut to the last exit's answer, on the device; from 0 for the whole network
            without branches.
        requests: by cut and payload; PHOTOGRAPH is at cut 0.
        link: between device and cloud, as measured; its round trip includes the time of HTTP and
            its server.
        upstream: times of an upstream network; None if there is none.
        further_ms: from the cut behind a branch, or from 0, to a later cut, without a head.
        borders: cuts of the image and behind each exit; empty for exits behind every block.
        spread_ms: see `Conditions`.
    """

    preprocess_ms: float
    classifier_ms: float
    stage_ms: Mapping[tuple[int, int], float]
    rest_ms: Mapping[int, float]
    requests: Mapping[tuple[int, str], RequestCost]
    link: Link
    upstream: UpstreamTimes | None = None
    further_ms: Mapping[tuple[int, int], float] = field(default_factory=dict)
    borders: tuple[int, ...] = ()
    spread_ms: tuple[float, ...] = (0.0,)

    def answer_ms(self, decisions: Decisions, route: Route) -> Floats:
        """Predict the milliseconds until each sample has its answer, (samples,)."""
        return self._spent(decisions, route).latency_ms(self.conditions)

    def sent_bytes(self, decisions: Decisions, route: Route) -> Floats:
        """Predict the bytes that are sent for each sample, (samples,)."""
        return self._spent(decisions, route).sent_bytes

    @property
    def conditions(self) -> Conditions:
        """Return the conditions under which the parts were measured."""
        return Conditions(self.link, spread_ms=self.spread_ms)

    def way(self, active: Sequence[int], route: Route) -> Way:
        """Set out the steps of an image that no active branch accepts."""
        steps = [0.0 if self._starts_elsewhere(active, route) else self._before_ms]
        at = 0
        for exit in active:
            steps[-1] += self._step_ms(at, exit + 1)
            steps.append(0.0)
            at = border(self.borders, exit + 1)
        if route.further:
            steps[-1] += self.further_ms[at, route.further]
            at = route.further
        if route.rest != CLOUD:
            return Way((*steps[:-1], steps[-1] + self._rest_ms(at, route)))
        request = self._request(at, route)
        return Way(tuple(steps), (request.cloud_ms,), request.sent_bytes, request.codec_ms)

    def request_ms(self, request: RequestCost) -> float:
        """Predict the milliseconds from a request to its reply, the link included."""
        on_link_ms = self.link.latency_ms(request.sent_bytes)
        return request.codec_ms + on_link_ms + request.cloud_ms

    def cut_of(self, active: Sequence[int], route: Route) -> int:
        """Count the blocks on the device before an image is passed on."""
        behind = border(self.borders, active[-1] + 1 if active else 0)
        return route.further or behind

    def routes(self, active: Sequence[int]) -> list[Route]:
        """List the possible routes behind active branches, without an upstream network."""
        behind = border(self.borders, active[-1] + 1 if active else 0)
        found = [Route(CLOUD, payload) for cut, payload in self.requests if cut == behind]
        found += [
            Route(CLOUD, payload, further=later)
            for start, later in self.further_ms
            for cut, payload in self.requests
            if start == behind and cut == later
        ]
        if active and (0, PHOTOGRAPH) in self.requests:
            found.append(WHOLE_PHOTOGRAPH)
        found.append(Route(DEVICE))
        return [*found, Route(NOBODY)] if active else found

    def parts(self) -> list["MeasuredPart"]:
        """List every part that was measured."""
        edge = {"preprocessing": self.preprocess_ms}
        if self.classifier_ms:
            edge["distortion classifier"] = self.classifier_ms
        for (start, exit), ms in self.stage_ms.items():
            edge[f"blocks {start + 1} to {border(self.borders, exit)}, head {exit}"] = ms
        for (start, later), ms in self.further_ms.items():
            edge[f"blocks {start + 1} to {later}"] = ms
        for cut, ms in self.rest_ms.items():
            edge[f"rest after block {cut}" if cut else "whole network"] = ms
        requests = {
            f"after block {cut}, {payload}": cost for (cut, payload), cost in self.requests.items()
        }
        if self.upstream is not None:
            edge["upstream network, preprocessing included"] = self.upstream.device_ms
            requests["upstream network, photograph"] = self.upstream.request
        return [
            *(MeasuredPart("edge", part, ms) for part, ms in edge.items()),
            *(
                MeasuredPart("cloud", part, cost.cloud_ms, cost.codec_ms, cost.sent_bytes)
                for part, cost in requests.items()
            ),
        ]

    def with_edge(self, slowdown: float) -> "Times":
        """Scale the parts of the edge to a device that computes `slowdown` times slower."""
        upstream = self.upstream
        return replace(
            self,
            preprocess_ms=slowdown * self.preprocess_ms,
            classifier_ms=slowdown * self.classifier_ms,
            stage_ms={step: slowdown * ms for step, ms in self.stage_ms.items()},
            rest_ms={cut: slowdown * ms for cut, ms in self.rest_ms.items()},
            further_ms={cuts: slowdown * ms for cuts, ms in self.further_ms.items()},
            upstream=upstream and replace(upstream, device_ms=slowdown * upstream.device_ms),
        )

    @property
    def _before_ms(self) -> float:
        return self.preprocess_ms + self.classifier_ms

    def _spent(self, decisions: Decisions, route: Route) -> Spent:
        return self.way(decisions.active, route).spent(reached(decisions))

    def _starts_elsewhere(self, active: Sequence[int], route: Route) -> bool:
        """Tell whether the device computes nothing of this network."""
        return not active and (route.payload == PHOTOGRAPH or route.upstream)

    def _step_ms(self, start: int, exit: int) -> float:
        """Find the milliseconds of a stage; one that ends at the last exit counts as the rest."""
        is_last = exit == len(self.rest_ms)
        return self.rest_ms[start] if is_last else self.stage_ms[start, exit]

    def _rest_ms(self, cut: int, route: Route) -> float:
        """Find the milliseconds of the rest on the device."""
        if route.rest == NOBODY:
            return 0.0
        if route.upstream:
            assert self.upstream is not None
            return self.upstream.device_ms
        return self.rest_ms[cut]

    def _request(self, cut: int, route: Route) -> RequestCost:
        if route.upstream:
            assert self.upstream is not None
            return self.upstream.request
        return self.requests[0 if route.payload == PHOTOGRAPH else cut, route.payload]


def border(borders: Sequence[int], exit: int) -> int:
    """Count the blocks before the cut behind an exit, counted from 1; 0 is the image.

    Args:
        borders: of all exits, see `Times`.
    """
    return borders[exit] if borders else exit


def reached(decisions: Decisions) -> Bools:
    """Tell which samples begin the step to each active branch, and the rest behind them.

    Returns:
        bool (samples, active branches + 1).
    """
    first = np.array([*decisions.active, split_point(decisions)])
    return np.asarray(decisions.taken[:, None] >= first)


@dataclass(frozen=True)
class MeasuredPart:
    """One measured part: a stage on the edge, or a request to the cloud, for one image.

    Args:
        place: `edge` or `cloud`.
        codec_ms: of packing the request and unpacking the reply; NaN for parts on the edge, as is
            `sent_bytes`.
    """

    place: str
    part: str
    ms: float
    codec_ms: float = math.nan
    sent_bytes: float = math.nan
