"""How a cloud serves: its settings, and what it lets a client take of it, each with its reason."""

from dataclasses import dataclass, field
from typing import TypeVar

from eenn.errors import EennError, require_numbers

T = TypeVar("T")

# --- Connections ---
# A cloud on two cores answers 1,000 requests a second, and half of its clients wait for no answer.
# Each takes a file and up to some 100 KiB.
MAX_CONNECTIONS = 1024
# A quarter is left for others, whoever comes; a proxy in front is one address.
SHARE_OF_ADDRESS = 0.75
# Beyond these limits so many are accepted at once to be told so; others are cut off.
MAX_REFUSED_CONNECTIONS = 512
# Files besides connections: graphs, libraries, pipes.
OTHER_FILES = 256
# While no file is left for the next connection, it waits with the kernel.
BACKLOG, ACCEPT_PAUSE_S = 512, 0.5
# Those who are connected wait while so many newcomers are let in.
ACCEPTED_AT_ONCE = 16
# Some twenty round trips of a slow mobile network.
HANDSHAKE_TIMEOUT_S = 5.0
HEAD_TIMEOUT_S = 10.0
MAX_HEAD_BYTES = 2**16  # nginx takes half of that
# Each takes some 150 bytes beside its own, and until its request is answered; Apache takes as many.
MAX_HEADERS = 100
# A new connection costs the edge more than one that is kept costs the cloud.
KEEP_ALIVE_S = 120
# A connection may end to make room if it has been idle for longer, as a request that was on its way
# has arrived by then; or if its request has been in coming for longer.
IDLE_S, SENDING_S = 5.0, 1.0
# Requests that one connection may send ahead; each takes some 4 KiB before it is answered.
MAX_PIPELINED = 64
# A reply of which more than so much is not sent after that time ends its connection; a slow mobile
# network takes ten times as much, and what is less waits with the connection.
UNREAD_BYTES, WRITE_TIMEOUT_S = 2**14, 10.0
# Whoever is refused and cut off gets that long to read why; what comes meanwhile is thrown away, up
# to twice the largest body.
LINGER_S, LINGER_BYTES = 2.0, 2**25
# Whether a client that has ended its side still reads shows when it is written to twice.
PROBE_S = 0.25
# The rest of a body whose request is refused is let in and thrown away, so much and so long.
MAX_DISCARDED_BYTES, DISCARD_TIMEOUT_S = 2**28, 10.0
# For last answers to be sent when the server ends.
SHUTDOWN_S = 10
LOG_INTERVAL_S = 60.0

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
