"""The settings of a cloud, and its limits on clients, each with its reason."""

from dataclasses import dataclass, field
from typing import TypeVar

from eenn.errors import EennError, require_numbers

T = TypeVar("T")

# --- Connections ---
# A cloud on two cores answers 1,000 requests a second, and half of its clients wait for no answer.
# Each connection takes a file descriptor and up to about 100 KiB.
MAX_CONNECTIONS = 1024
# One address can take at most this share of connections; a proxy in front counts as one address.
SHARE_OF_ADDRESS = 0.75
# Beyond these limits this many connections are accepted to be refused with a reply; others are cut
# off.
MAX_REFUSED_CONNECTIONS = 512
# File descriptors besides connections: graphs, libraries, pipes.
OTHER_FILES = 256
# While no file descriptor is left, new connections wait in the kernel's backlog.
BACKLOG, ACCEPT_PAUSE_S = 512, 0.5
# Existing connections wait while this many new ones are accepted.
ACCEPTED_AT_ONCE = 16
# About twenty round trips of a slow mobile network.
HANDSHAKE_TIMEOUT_S = 5.0
HEAD_TIMEOUT_S = 10.0
MAX_HEAD_BYTES = 2**16  # nginx allows half of that
# A header takes about 150 bytes beside its own, until its request is answered; Apache allows as
# many.
MAX_HEADERS = 100
# A new connection costs the edge more than a kept one costs the cloud.
KEEP_ALIVE_S = 120
# A connection may be ended to make room if it has been idle for longer than IDLE_S, because a
# request on its way has arrived by then, or if its request has been arriving for longer than
# SENDING_S.
IDLE_S, SENDING_S = 5.0, 1.0
# Requests that one connection may send ahead; each takes about 4 KiB before it is answered.
MAX_PIPELINED = 64
# A connection is ended if more than UNREAD_BYTES of a reply are unsent after WRITE_TIMEOUT_S; a
# slow mobile network carries ten times as much in that time.
UNREAD_BYTES, WRITE_TIMEOUT_S = 2**14, 10.0
# A refused client has this long to read the reason; bytes that it sends meanwhile are discarded, up
# to twice the largest body.
LINGER_S, LINGER_BYTES = 2.0, 2**25
# Two writes, this far apart, show whether a client that has closed its sending side still reads.
PROBE_S = 0.25
# The rest of the body of a refused request is received and discarded within these limits.
MAX_DISCARDED_BYTES, DISCARD_TIMEOUT_S = 2**28, 10.0
# Time to send the last answers when the server ends.
SHUTDOWN_S = 10
LOG_INTERVAL_S = 60.0

# --- Requests ---
# All bodies together, read, decompressed and decoded, take at most the memory of this many largest
# ones.
BODIES = 8
# Larger messages, and longer JSON, are parsed outside the event loop, where they justify the 0.1 ms
# of a thread.
INLINE_BYTES, INLINE_JSON_BYTES = 2**18, 2**14
RETRY_AFTER_S = 1

# --- Images ---
# About a second of decoding, or two images of the largest size.
MAX_REQUEST_PIXELS = 100_000_000
# Photographs are decoded at a reduced scale, to less than this; larger images wait in a queue of
# their own.
MAX_LIGHT_PIXELS = 4_000_000
DECODING_THREADS = 2
# The model's thread waits this long for a busy event loop to release the interpreter's lock;
# Python's default of 5 ms doubled the 99th percentile of latency under overload.
SWITCH_INTERVAL_S = 0.001


def _option(default: T, help: str) -> T:
    value: T = field(default=default, metadata={"help": help})
    return value


@dataclass(frozen=True)
class Settings:
    """The settings of a server; the metadata of each field hold its help text.

    Raises:
        EennError: a number is out of range.
    """

    precision: str = _option("fp32", "precision of the graphs: fp32 or int8")
    device: str = _option("cpu", "device that runs the graphs: cpu or cuda")
    threads: int = _option(1, "threads of a model")
    queue: int = _option(128, "waiting samples at most; further requests are refused")
    max_batch: int = _option(32, "samples of a batch at most")
    batch_wait_ms: float = _option(0.0, "time that a request waits for others to share its batch")
    timeout_ms: float = _option(
        5_000.0, "longest time that a request waits to be decoded, and again in the queue"
    )
    read_timeout_ms: float = _option(10_000.0, "longest time until a request's body has arrived")
    max_body_mb: float = _option(16.0, "MiB of a request at most, as sent and decompressed")
    slowdown: float = _option(
        1.0, "factor by which decoding and computing are slowed down, as an emulation"
    )

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
        """Convert `max_body_mb` to bytes."""
        return int(self.max_body_mb * 2**20)
