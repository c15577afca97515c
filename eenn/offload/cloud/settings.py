"""How a cloud serves: every setting with its default, its range and the words of the help."""

from dataclasses import dataclass, field
from typing import TypeVar

from eenn.errors import EennError, require_numbers

T = TypeVar("T")


def _option(default: T, help: str) -> T:
    value: T = field(default=default, metadata={"help": help})
    return value


@dataclass(frozen=True)
class Settings:
    """The settings of one server; the metadata of each say what it is.

    Raises:
        EennError: a number out of range.
    """

    precision: str = _option("fp32", "of the graphs: fp32 or int8")
    device: str = _option("cpu", "that runs them: cpu or cuda")
    threads: int = _option(1, "of a model")
    queue: int = _option(128, "samples that may wait; a request with more is refused")
    max_batch: int = _option(32, "samples that a model is given at once")
    batch_wait_ms: float = _option(0.0, "that a request waits for others to share its batch")
    timeout_ms: float = _option(5_000.0, "that a request may wait in the queue")
    read_timeout_ms: float = _option(10_000.0, "within which a request's body has to be there")
    max_body_mb: float = _option(16.0, "MiB of a request, as sent and decompressed")
    slowdown: float = _option(1.0, "decode and compute that many times slower, as an emulation")

    def __post_init__(self) -> None:
        least = {
            "threads": 1, "queue": 1, "max_batch": 1, "batch_wait_ms": 0, "timeout_ms": 1,
            "read_timeout_ms": 1, "max_body_mb": 2**-10, "slowdown": 1,
        }  # fmt: skip
        for name, minimum in least.items():
            value = getattr(self, name)
            require_numbers(**{name: value})
            if not minimum <= value < 2**31:
                raise EennError(f"{name}={value}: allowed is {minimum:g} or more")

    @property
    def max_body_bytes(self) -> int:
        """`max_body_mb` in bytes."""
        return int(self.max_body_mb * 2**20)
