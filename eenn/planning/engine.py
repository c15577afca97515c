"""The five coefficients of a way to answer: time on the device and in the cloud, share that is
sent, bytes and packing.

Whatever is planned, the mean latency is linear in how slow the device is, how busy the cloud is,
the round trip and the time per byte. So the coefficients are computed once, and a choice under
other conditions is a sum of five products.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike

from eenn.errors import EennError, require_numbers
from eenn.exits.policies.base import Floats
from eenn.planning.costs import Link


@dataclass(frozen=True)
class Conditions:
    """The conditions under which a plan is chosen.

    Args:
        slowdown: time of a part on the device over its time as profiled.
        cloud_load: time in the cloud, queues included, over its time as profiled.
        deadline_ms: time after which an answer is late.
        spread_ms: equally likely additions to the wait for the cloud, as measured.

    Raises:
        EennError: a factor that is not a positive number.
    """

    link: Link
    slowdown: float = 1.0
    cloud_load: float = 1.0
    deadline_ms: float = math.inf
    spread_ms: tuple[float, ...] = (0.0,)

    def __post_init__(self) -> None:
        require_numbers(slowdown=self.slowdown, cloud_load=self.cloud_load)
        for name, factor in (("slowdown", self.slowdown), ("cloud_load", self.cloud_load)):
            # Infinite is a cloud that takes no more requests.
            if not factor > 0:
                raise EennError(f"{name}={factor}: allowed is a number above 0")


@dataclass(frozen=True)
class Power:
    """The watts that a device draws, as its user gives them; nothing here measures them.

    Raises:
        EennError: a number is negative or not finite.
    """

    compute_w: float
    transmit_w: float
    idle_w: float = 0.0

    def __post_init__(self) -> None:
        if not all(0 <= watts < math.inf for watts in vars(self).values()):
            raise EennError("watts of a device: allowed are numbers from 0 up")

    @classmethod
    def of(cls, setting: str, watts: Sequence[float]) -> "Power":
        """Take the watts of a device that computes, sends and waits, in this order.

        Args:
            setting: its name, for the error.

        Raises:
            EennError: these are not three numbers from 0 up.
        """
        try:
            compute_w, transmit_w, idle_w = watts
            return cls(compute_w, transmit_w, idle_w)
        except (ValueError, EennError):
            raise EennError(
                f"{setting}={', '.join(map(str, watts))}: allowed are three numbers from 0 up, of "
                "a device that computes, sends and waits"
            ) from None


@dataclass(frozen=True)
class Spent:
    """Costs of answers, one number for each of several designs or samples.

    Args:
        device_ms: computing on the device.
        cloud_ms: computing in the cloud.
        away: the share of images that are sent.
        sent_bytes: bytes of requests, 0 for images that stay.
        codec_ms: packing requests and unpacking replies.
    """

    device_ms: Floats
    cloud_ms: Floats
    away: Floats
    sent_bytes: Floats
    codec_ms: Floats

    @classmethod
    def stacked(cls, rows: Sequence["Spent"]) -> "Spent":
        """Lay out the costs of single designs as one array for each coefficient."""
        columns = [[getattr(row, field.name) for row in rows] for field in fields(cls)]
        return cls(*(np.array(column, np.float64) for column in columns))

    def at(self, rows: ArrayLike) -> "Spent":
        """Select the costs of some designs or samples."""
        return Spent(*(getattr(self, field.name)[rows] for field in fields(self)))

    def per_image_sent(self) -> "Spent":
        """Give the costs of one image that is sent, without the device's; 0 where none is."""
        share = np.where(self.away > 0, self.away, 1.0)
        return Spent(
            device_ms=np.zeros_like(self.away),
            cloud_ms=self.cloud_ms / share,
            away=(self.away > 0).astype(np.float64),
            sent_bytes=self.sent_bytes / share,
            codec_ms=self.codec_ms / share,
        )

    def latency_ms(self, at: Conditions) -> Floats:
        """Compute the milliseconds from the image to its answer."""
        return self.on_device_ms(at) + self.away_ms(at)

    def away_ms(self, at: Conditions) -> Floats:
        """Compute the milliseconds of the link and the cloud."""
        waiting_ms = self.away * at.link.rtt_ms + self._cloud_ms(at)
        return at.link.transfer_ms(self.sent_bytes) + waiting_ms

    def on_device_ms(self, at: Conditions) -> Floats:
        """Compute the milliseconds that the device is busy."""
        return at.slowdown * self.device_ms + self.codec_ms

    def slowest_ms(self, at: Conditions) -> Floats:
        """Compute the milliseconds per image of the slowest of device, link and cloud.

        If the three work on different images at a time, this is the time between two answers.
        """
        sending_ms = at.link.transfer_ms(self.sent_bytes)
        return np.maximum(np.maximum(self.on_device_ms(at), sending_ms), self._cloud_ms(at))

    def energy_mj(self, at: Conditions, power: Power) -> Floats:
        """Model the energy that the device needs, in millijoules."""
        return (
            power.compute_w * self.on_device_ms(at)
            + power.transmit_w * at.link.transfer_ms(self.sent_bytes)
            + power.idle_w * (self.away * at.link.rtt_ms + self._cloud_ms(at))
        )

    def _cloud_ms(self, at: Conditions) -> Floats:
        if np.isinf(at.cloud_load):
            return np.where(self.away > 0, np.inf, 0.0)
        return at.cloud_load * self.cloud_ms


@dataclass(frozen=True)
class Way:
    """The steps of one image that no exit accepts, each of which ends at an exit or at the cut.

    Args:
        device_ms: of the steps on the device; the last one leads from the last exit there to the
            cut, or to the last exit's answer.
        cloud_ms: of the steps in the cloud; empty where nothing is sent.
        sent_bytes, codec_ms: of the request in between.
    """

    device_ms: tuple[float, ...]
    cloud_ms: tuple[float, ...] = ()
    sent_bytes: float = 0.0
    codec_ms: float = 0.0

    def spent(self, reach: ArrayLike) -> Spent:
        """Compute the costs of answers if images stop at the exits on the way.

        Args:
            reach: the share of images that begin a step, (..., steps), or whether each sample does;
                the last step of the device and the first in the cloud have one column.
        """
        begun = np.asarray(reach, np.float64)
        cut = len(self.device_ms) - 1
        away = begun[..., cut] if self.cloud_ms else np.zeros(begun.shape[:-1])
        in_cloud = begun[..., cut : cut + len(self.cloud_ms)] @ np.array(self.cloud_ms)
        return Spent(
            device_ms=begun[..., : cut + 1] @ np.array(self.device_ms),
            cloud_ms=in_cloud if self.cloud_ms else np.zeros(begun.shape[:-1]),
            away=away,
            sent_bytes=away * self.sent_bytes,
            codec_ms=away * self.codec_ms,
        )
