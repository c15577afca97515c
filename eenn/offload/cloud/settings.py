"""How a cloud serves: its settings, and what it lets a client take of it, each with its reason."""

from dataclasses import dataclass, field
from typing import TypeVar

from eenn.errors import EennError, require_numbers

T = TypeVar("T")

# --- Connections ---
# Each holds a file and up to some 100 KiB; a cloud on two cores answers 1,000 requests a second, so
# that twice as many clients as that never wait for each other.
MAX_CONNECTIONS = 1024
# So that a quarter is left for others, whoever comes; a proxy in front counts as one address.
MAX_CONNECTIONS_OF_ADDRESS = 768
# Beyond MAX_CONNECTIONS so many are accepted at once to be told so; others are cut off.
MAX_REFUSED_CONNECTIONS = 512
# Files besides connections: graphs, libraries, pipes.
OTHER_FILES = 256
BACKLOG = 512
# Two round trips of a slow mobile network, several times over.
HANDSHAKE_TIMEOUT_S = 5.0
HEAD_TIMEOUT_S = 10.0
MAX_HEAD_BYTES = 2**16  # nginx allows half of that, Apache twice as much
# A new connection costs the edge more than one that is kept costs the cloud.
KEEP_ALIVE_S = 120
# A connection may be closed to make room if it has been idle for longer: a request that is on its
# way has arrived by then.
IDLE_S = 5.0
# A reply that still has more than so many bytes to send has to be read within the timeout; less
# than that is left to the keep-alive.
UNREAD_BYTES, WRITE_TIMEOUT_S = 2**14, 10.0
# Whoever is refused and cut off gets that long to read why; what he sends is thrown away.
LINGER_S = 2.0
# Of a client that shut down its sending side it shows in two writes whether it still reads.
PROBE_S = 0.25
# A body that is refused for its length is let in and thrown away up to here, within the time of a
# body.
MAX_DISCARDED_BYTES = 2**28
# For last answers to be sent when the server ends.
SHUTDOWN_S = 10

# --- Requests ---
# Bodies being read, decompressed and decoded take no more memory than that many of the largest.
BODIES = 8
# Larger messages, and JSON of more bytes, are parsed beside the event loop, which a thread's 0.1 ms
# are worth then.
INLINE_BYTES, INLINE_JSON_BYTES = 2**18, 2**14
RETRY_AFTER_S = 1

# --- Images ---
# About a second of decoding; as much as two images of the largest size.
MAX_REQUEST_PIXELS = 100_000_000
# Photographs are decoded at a reduced scale, to less than that; what is larger waits in a line of
# its own.
MAX_LIGHT_PIXELS = 4_000_000
DECODING_THREADS = 2
# The model's thread waits that long for a busy event loop to hand over the interpreter; Python's
# own 5 ms doubled the 99th percentile of latency under overload.
SWITCH_INTERVAL_S = 0.001


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
    timeout_ms: float = _option(
        5_000.0, "that a request may wait to be decoded, and again in the queue"
    )
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
