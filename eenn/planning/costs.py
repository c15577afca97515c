"""Costs of an answer: MACs or measured milliseconds per segment and head, bytes, and the link."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from eenn.errors import EennError, require_numbers
from eenn.exits.decide import Decisions
from eenn.files import write_file
from eenn.models.architecture import Exit

Floats = NDArray[np.float64]
N = TypeVar("N", float, Floats)


@dataclass(frozen=True)
class Costs:
    """The cost of every segment and of every head, in one unit: MACs, milliseconds or bytes.

    Args:
        first: cost on the edge for every image before the first segment.
        upstream: cost of an upstream network that answers from the photograph, in place of the rest
            of this network; None if there is none.
    """

    segments: tuple[float, ...]
    heads: tuple[float, ...]
    first: float = 0.0
    upstream: float | None = None

    def edge(self, decisions: Decisions) -> Floats:
        """Compute the cost of each sample on the edge, (samples,).

        It is the sum of `first`, the segments up to the exit taken (or to the last active branch
        where the rest answers), the heads of the active branches among them, and the rest where the
        edge computes it.
        """
        up_to = np.zeros(len(self.segments) + 1)
        for exit in decisions.active:
            heads = sum(self.heads[branch] for branch in decisions.active if branch <= exit)
            up_to[exit] = sum(self.segments[: exit + 1]) + heads
        up_to[-1] = up_to[decisions.active[-1]] if decisions.active else 0.0
        passed_on = ~np.isin(decisions.taken, decisions.active)
        rest = np.where(passed_on & decisions.on_edge, self.rest(decisions), 0.0)
        return self.first + up_to[np.where(passed_on, -1, decisions.taken)] + rest

    def cloud(self, decisions: Decisions) -> Floats:
        """Compute the cost of each sample in the cloud, (samples,); 0 if it stays."""
        return np.where(decisions.on_edge, 0.0, self.rest(decisions))

    def rest(self, decisions: Decisions) -> float:
        """Compute the cost of answering one sample that no active branch accepts."""
        return self._rest(split_point(decisions))

    def held(self, active: Sequence[int], rest_on_device: bool) -> float:
        """Sum up all parts that an edge with some active branches keeps, as of weights."""
        stop = active[-1] + 1 if active else 0
        own = self.first + sum(self.segments[:stop]) + sum(self.heads[branch] for branch in active)
        return own + (self._rest(stop) if rest_on_device else 0.0)

    def _rest(self, start: int) -> float:
        if self.upstream is not None:
            return self.upstream
        return sum(self.segments[start:]) + self.heads[-1]


def macs(exits: Sequence[Exit]) -> Costs:
    """Read the MACs of segments and heads from the manifest's table of exits."""
    cumulative = [0, *(row.macs for row in exits)]
    segments = tuple(float(b - a) for a, b in pairwise(cumulative))
    return Costs(segments, tuple(float(row.head_macs) for row in exits))


def payloads(exits: Sequence[Exit], input_size: int) -> tuple[int, ...]:
    """List the bytes on the wire for one sample at every split point.

    At split point 0 these are the image's uint8 pixels, else the fp32 features after that many
    segments.
    """
    return (3 * input_size**2, *(row.payload_bytes for row in exits[:-1]))


def split_point(decisions: Decisions) -> int:
    """Count the segments that run on the edge: those up to the last active branch."""
    return decisions.active[-1] + 1 if decisions.active else 0


@dataclass(frozen=True)
class Link:
    """A network link.

    Raises:
        EennError: the bandwidth is not positive, or the round-trip time is negative.
    """

    bandwidth_mbps: float
    rtt_ms: float

    def __post_init__(self) -> None:
        require_numbers(bandwidth_mbps=self.bandwidth_mbps, rtt_ms=self.rtt_ms)
        if not 0 < self.bandwidth_mbps < math.inf or not 0 <= self.rtt_ms < math.inf:
            raise EennError(
                f"link of {self.bandwidth_mbps} Mbps and {self.rtt_ms} ms: allowed are a bandwidth "
                "above 0 and a round-trip time of 0 or more"
            )

    @classmethod
    def parse(cls, text: str) -> "Link":
        """Read a link such as `12,50`: megabits per second and milliseconds.

        Raises:
            EennError: the text is something else.
        """
        try:
            bandwidth_mbps, rtt_ms = (float(part) for part in text.split(","))
        except ValueError:
            raise EennError(
                f"{text}: allowed are megabits per second and milliseconds, such as 12,50"
            ) from None
        return cls(bandwidth_mbps, rtt_ms)

    def __str__(self) -> str:
        return f"{self.bandwidth_mbps:g} Mbps and {self.rtt_ms:g} ms"

    def latency_ms(self, payload_bytes: float) -> float:
        """Compute the milliseconds of a request of that size and a reply of a few bytes."""
        return self.rtt_ms + self.transfer_ms(payload_bytes)

    def transfer_ms(self, payload_bytes: N) -> N:
        """Compute the milliseconds that bytes occupy the link."""
        return payload_bytes * 8e-3 / self.bandwidth_mbps


@dataclass(frozen=True)
class CostModel:
    """The numbers that decide the cost of an answer.

    Args:
        macs: of every segment and head.
        edge_ms: milliseconds of every segment and head on the edge.
        cloud_ms: the same in the cloud.
        payload_bytes: size of one sample at every split point.
        weight_bytes: of every segment and head in fp32; None where they are not known.
    """

    macs: Costs
    edge_ms: Costs
    cloud_ms: Costs
    payload_bytes: tuple[float, ...]
    link: Link
    weight_bytes: Costs | None = None

    def answer_macs(self, decisions: Decisions) -> Floats:
        """Compute the MACs until each sample's answer, on both sides, (samples,)."""
        return self.macs.edge(decisions) + self.macs.cloud(decisions)

    def sent_bytes(self, decisions: Decisions) -> Floats:
        """Compute the bytes sent for each sample, (samples,)."""
        return np.where(decisions.on_edge, 0.0, self.payload_bytes[split_point(decisions)])

    def latency_ms(self, decisions: Decisions) -> Floats:
        """Compute the expected milliseconds until each sample has its answer, (samples,)."""
        sending = self.link.latency_ms(self.payload_bytes[split_point(decisions)])
        away = np.where(decisions.on_edge, 0.0, sending)
        return self.edge_ms.edge(decisions) + away + self.cloud_ms.cloud(decisions)


@dataclass(frozen=True)
class Profile:
    """Measured milliseconds of every segment and head, batch 1: median, 5th and 95th percentile.

    Args:
        segments: {"p5": [...], "p50": [...], "p95": [...]}, one number per segment.
        heads: the same, one number per head.
        to_exit: the same for the time to each exit with all branches active.
        repeats: number of measurements of each part.
        classifier: of the distortion classifier: {"p5": ..., "p50": ..., "p95": ...}; empty if
            there is none.
        threads: threads of the device while measuring.
    """

    artifact_id: str
    hardware: str
    threads: int
    repeats: int
    date: str
    segments: dict[str, list[float]]
    heads: dict[str, list[float]]
    to_exit: dict[str, list[float]]
    classifier: dict[str, float] = field(default_factory=dict)

    @property
    def median(self) -> Costs:
        """Return the median milliseconds per segment and head."""
        return Costs(tuple(self.segments["p50"]), tuple(self.heads["p50"]))

    def save(self, path: Path) -> None:
        """Write the profile as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, path: Path) -> "Profile":
        """Read a profile from a JSON file.

        Raises:
            EennError: the file is not a profile.
        """
        try:
            profile = cls(**json.loads(path.read_bytes()))
            measured = (profile.segments, profile.heads, profile.to_exit)
            if any(set(part) != {"p5", "p50", "p95"} for part in measured):
                raise ValueError("percentiles")
        except (ValueError, TypeError, RecursionError) as error:
            raise EennError(f"{path} is not a profile; remove it to measure again") from error
        return profile
