"""The file of a device that is not at hand: a few known times of a network on it."""

from dataclasses import dataclass, field
from pathlib import Path

from eenn.errors import EennError
from eenn.planning.device_profile import KINDS, MAX_MS, read_versioned
from eenn.planning.work import EXITS, STAGES, Part, numbers_of

MIN_MS = 1e-6


@dataclass(frozen=True)
class Totals:
    """The known times of parts of a network for one image, in milliseconds.

    Args:
        stages, exits: by the same keys as in a `DeviceProfile`: stage `0-19` is a backbone of 19
            blocks, exit `0-6` the whole network with its sixth head.
        preprocess_ms: from a photograph's file to the network's input; None if it is not known.
    """

    stages: dict[str, float] = field(default_factory=dict)
    exits: dict[str, float] = field(default_factory=dict)
    preprocess_ms: float | None = None

    @property
    def parts(self) -> dict[Part, float]:
        """Collect the milliseconds of all known stages and exits."""
        groups = {STAGES: self.stages, EXITS: self.exits}
        return {(name, key): ms for name, group in groups.items() for key, ms in group.items()}


@dataclass(frozen=True, kw_only=True)
class DeviceFile:
    """A device that is not at hand, and the times that are known of it.

    Args:
        device: the hardware, in words.
        kind: cpu or gpu.
        totals: at least one stage or exit.
        precision: of the graphs; None is that of the reference.
        threads: of every graph; None are those of the reference.

    Raises:
        EennError: the kind does not exist, or a time or number of threads is missing or impossible.
    """

    device: str
    kind: str
    totals: Totals
    precision: str | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise EennError(f"kind={self.kind:.80}: allowed are {', '.join(KINDS)}")
        known, preprocess_ms = self.totals.parts, self.totals.preprocess_ms
        if not known:
            raise EennError('totals: give at least one, such as {"stages": {"0-19": 410.0}}')
        if odd := [part for part in known if numbers_of(part) is None]:
            raise EennError(
                f"totals, {odd[0][0]}: {odd[0][1]!r:.80} is not a key; allowed are two numbers "
                "such as 0-19"
            )
        if self.threads is not None and self.threads < 1:
            raise EennError(f"threads={self.threads}: allowed is 1 or more, or leave it out")
        if any(not MIN_MS <= ms <= MAX_MS for ms in (*known.values(), preprocess_ms or MIN_MS)):
            raise EennError(f"totals: allowed are {MIN_MS:g} to {MAX_MS:g} milliseconds")

    @classmethod
    def load(cls, path: Path) -> "DeviceFile":
        """Read the file of a device.

        Raises:
            EennError: the file is something else, or does not say enough.
        """
        mend = (
            'write {"version": 1, "device": "Pi 4", "kind": "cpu", "totals": {"exits": {"0-6": '
            "414.5}}}"
        )
        return read_versioned(cls, path, "the file of a device", mend)
