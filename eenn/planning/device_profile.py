"""The profile of a device: milliseconds of every part of a network that the device may run."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

from eenn.errors import EennError
from eenn.files import from_json, read_small_json, write_json

VERSION = 1
MAX_BYTES = 2**20
MAX_MS = 1e9
MAX_SENT_BYTES = 1e12
MAX_INPUT_SIZE = 2**16
CPU, GPU = "cpu", "gpu"
KINDS = (CPU, GPU)
T = TypeVar("T")


@dataclass(frozen=True)
class Packing:
    """The cost of a request for one image on the device's side.

    Args:
        sent_bytes: size of the request, HTTP included.
        codec_ms: time to pack the request, unpack the reply and decide.
    """

    sent_bytes: float
    codec_ms: float


@dataclass(frozen=True, kw_only=True)
class DeviceProfile:
    """The medians of measured times of one image on a device, in milliseconds.

    A cut counts the blocks before it, so 0 is the image and a stage `0-3` runs blocks 1 to 3.

    Args:
        artifact_id: of the network that was measured.
        device: the hardware, in words.
        kind: cpu or gpu.
        precision: of the graphs.
        input_size: side of the network's input, in pixels.
        threads: of every graph.
        date: of the measurement.
        repeats: number of measurements of each part.
        preprocess_ms: from a photograph's file to the network's input.
        classifier_ms: of the distortion classifier; 0 where it does not run.
        blocks: of single blocks, by their number from `1` up.
        stages: of blocks in one graph without a head, from a cut to a later one: `0-3`.
        exits: from a cut to the decision of an exit, counted from 1: `3-2` is exit 2 after cut 3.
            To the last exit from every cut that the cloud serves, to others from behind exits.
        requests: by cut and format of features: `3-uint8`.

    Raises:
        EennError: a time, size or number of threads is impossible, or the kind does not exist.
    """

    artifact_id: str
    device: str
    kind: str
    precision: str
    input_size: int
    threads: int
    date: str
    repeats: int
    preprocess_ms: float
    classifier_ms: float = 0.0
    blocks: dict[str, float] = field(default_factory=dict)
    stages: dict[str, float] = field(default_factory=dict)
    exits: dict[str, float] = field(default_factory=dict)
    requests: dict[str, Packing] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise EennError(f"kind={self.kind:.80}: allowed are {', '.join(KINDS)}")
        packing = [own.codec_ms for own in self.requests.values()]
        parts = [*self.blocks.values(), *self.stages.values(), *self.exits.values(), *packing]
        if any(not 0 <= ms <= MAX_MS for ms in (self.preprocess_ms, self.classifier_ms, *parts)):
            raise EennError(
                f"times of a profile: allowed are 0 to {MAX_MS:g} milliseconds; measure again"
            )
        if any(not 0 <= own.sent_bytes <= MAX_SENT_BYTES for own in self.requests.values()):
            raise EennError(
                f"sizes of requests: allowed are 0 to {MAX_SENT_BYTES:g} bytes; measure again"
            )
        if not 1 <= self.input_size <= MAX_INPUT_SIZE:
            raise EennError(f"input_size: allowed are 1 to {MAX_INPUT_SIZE} pixels; measure again")
        if self.threads < 1:
            raise EennError(f"threads={self.threads}: allowed is 1 or more; measure again")

    def save(self, path: Path) -> None:
        """Write the profile as readable JSON."""
        write_json(path, {"version": VERSION, **asdict(self)})

    @classmethod
    def load(cls, path: Path) -> "DeviceProfile":
        """Read a profile from a file.

        Raises:
            EennError: the file is not a profile of a device.
        """
        mend = "write one with `eenn-edge --profile`"
        return read_versioned(cls, path, "the profile of a device", mend)


def read_versioned(kind: type[T], path: Path, meaning: str, mend: str) -> T:
    """Read a small JSON file of this version as a dataclass.

    Args:
        meaning: of the file, in words.
        mend: how to get such a file.

    Raises:
        EennError: the file cannot be read, or is something else.
    """
    try:
        content = read_small_json(path, MAX_BYTES)
        if not isinstance(content, Mapping) or content.get("version") != VERSION:
            raise ValueError(f"allowed is an object of version {VERSION}")
        known = kind.__annotations__
        if unknown := [key for key in content if key not in ("version", *known)]:
            raise ValueError(f"{', '.join(unknown):.80}: allowed are version, {', '.join(known)}")
        return from_json(kind, content)
    except (ValueError, EennError) as error:
        raise EennError(f"{path} is not {meaning}: {error}; {mend}") from error
    except OSError as error:
        raise EennError(f"{path}: {error.strerror}; {mend}") from error
