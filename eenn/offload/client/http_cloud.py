"""The client of a cloud over HTTP, by the Open Inference Protocol V2, for edge and benchmarks.

A failed request is sent again, after a random pause, where that may help and time is left.
Repeating is safe because inference changes nothing. A cloud that keeps failing gets no requests for
a while.
"""

import json
import math
import random
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from eenn.errors import EennError
from eenn.exits.head_sets import PLAIN
from eenn.offload.client.breaker import CircuitBreaker
from eenn.offload.client.replies import refusal, server_times
from eenn.offload.client.transport import (
    DEFAULT_TIMEOUTS,
    ExchangeCounts,
    HttpReply,
    HttpRequest,
    Timeouts,
    Transport,
)
from eenn.offload.protocol.bounds import Bounds
from eenn.offload.protocol.codecs import PAYLOADS, pack
from eenn.offload.protocol.decoding import decode_response
from eenn.offload.protocol.encoding import encode_request
from eenn.offload.protocol.errors import (
    BadReply,
    CloudOverloaded,
    CloudRefused,
    CloudTimeout,
    OffloadError,
)
from eenn.offload.protocol.wire import (
    ARTIFACT,
    BACKGROUND_URGENCY,
    CROPPED,
    FEATURES,
    IMAGE,
    IMAGE_MODEL,
    LOGITS,
    PRIORITY,
    VERSION_DIGITS,
    Cut,
    Parameter,
    Request,
    Tensor,
    model_name,
)

Floats = NDArray[np.float32]

# More than the logits of one sample take, or the header before them.
SAMPLE_BYTES = 2**18
# Pauses between tries are drawn from 0 to this limit, which doubles with every try.
BACKOFF_S = 0.05
# Causes that may be gone at the next try. Where the reply is wrong rather than missing, another try
# would only add to the load.
TRANSIENT = frozenset(
    {"refused", "reset", "network", "connect", "read", "truncated", "overloaded", "unavailable"}
)
# A pause that the cloud asks for is multiplied by a random factor from 1 to this, so that devices
# that were refused together do not return together.
SPREAD = 1.5
# The longest pause of a client without a deadline, even if the cloud asks for more.
MAX_PAUSE_S = 5.0


@dataclass
class Exchange(ExchangeCounts):
    """Counts and times of a thread's latest request, answered or not.

    Args:
        sent_bytes: bytes of HTTP lines, headers and bodies of all tries, without the overhead of
            TLS, TCP and IP; likewise `received_bytes`.
        connections: newly opened connections; 0 if a kept one served.
        tries: requests that were sent, at least in part.
        encode_ms: from features or files to the request's body; `decode_ms` from the reply's body
            to logits.
        wait_ms: between the two: connecting, transfers, the cloud, pauses between tries.
        server_parts_ms: times of the last try in the cloud by name, such as queue and model, as the
            cloud reports them.
    """

    encode_ms: float = 0.0
    decode_ms: float = 0.0
    wait_ms: float = 0.0
    server_parts_ms: Mapping[str, float] = field(default_factory=dict)

    @property
    def server_ms(self) -> float:
        """Sum the times of the cloud's parts; NaN if the cloud does not report them."""
        return sum(self.server_parts_ms.values()) if self.server_parts_ms else math.nan


class HttpCloud:
    """A cloud at a URL, an `eenn.offload.edge.clouds.Cloud` and `PhotographCloud`. Thread-safe.

    Close it after use, or use it in a `with` block.

    Args:
        url: http:// or https://, a host, and maybe a port and a path.
        artifact_id: `Graphs.id` of the artifact that the edge runs; a cloud that runs another
            artifact, or other graphs, refuses. For photographs the id of an artifact also serves.
        precision: format of the features that are sent.
        compress: whether requests are compressed with zstd.
        token: bearer token that is sent.
        ca_file: certificates (PEM) that are trusted instead of the system's.
        timeouts: limits of connecting and of an exchange.
        retries: largest number of further tries per request; of background requests none.
        breaker: circuit breaker; None for a new one.
        background: whether requests for inference ask for the lowest priority, so that a cloud with
            other work refuses them (`CloudOverloaded`).

    Raises:
        EennError: URL, token, precision or number of retries is not allowed, or the package
            zstandard is missing with `compress`.
    """

    def __init__(
        self,
        url: str,
        artifact_id: str,
        *,
        precision: str = "fp32",
        compress: bool = False,
        token: str | None = None,
        ca_file: str | None = None,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        retries: int = 1,
        breaker: CircuitBreaker | None = None,
        background: bool = False,
    ) -> None:
        if precision not in PAYLOADS or retries < 0:
            raise EennError(
                f"precision={precision}, retries={retries}: allowed are {', '.join(PAYLOADS)}, "
                "and 0 or more"
            )
        if token is not None and not _TOKEN.fullmatch(token):
            raise EennError(
                "the token is empty or has characters that are not allowed; allowed is ASCII "
                "without spaces"
            )
        # A missing zstandard raises here, not later when the edge has to answer in the cloud's
        # place.
        encode_request(Request({FEATURES: np.zeros(1, np.float32)}), compress)
        self.url = url
        self._transport = Transport(url, ca_file, timeouts)
        self._artifact_id, self._precision, self._compress = artifact_id, precision, compress
        self._authorization = {"Authorization": f"Bearer {token}"} if token else {}
        self._priority = {PRIORITY: f"u={BACKGROUND_URGENCY}"} if background else {}
        self._retries, self._random = 0 if background else retries, random.Random()
        self._breaker = breaker or CircuitBreaker(seed=self._random.getrandbits(32))
        self._newest = threading.local()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are kept for the next request."""
        self._transport.close()

    @property
    def last(self) -> Exchange:
        """Return counts and times of this thread's latest request.

        Raises:
            AttributeError: the thread has not sent a request yet.
        """
        exchange: Exchange = self._newest.exchange
        return exchange

    def check(self, deadline: float | None = None, models: Sequence[str] = (model_name(),)) -> None:
        """Check that the cloud can be asked: URL, certificate, token, artifact, models.

        Raises:
            OffloadError: the cloud cannot be asked; the message says why.
        """
        for model in models:
            self._check_model(model, deadline)

    def _check_model(self, model: str, deadline: float | None) -> None:
        self._newest.exchange = exchange = Exchange()
        path = f"/v2/models/{model}"
        reply = self._ask(
            HttpRequest("GET", path, self._authorization), SAMPLE_BYTES, deadline, exchange
        )
        try:
            versions = [str(version) for version in json.loads(reply.body)["versions"]]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise BadReply(
                f"{self.url} answers {path} with something else; check the URL"
            ) from error
        own = self._artifact_id[:VERSION_DIGITS]
        # Other servers, such as Triton, number the versions of their models.
        if own not in versions and any(len(version) == VERSION_DIGITS for version in versions):
            raise CloudRefused(
                f"{self.url} has artifacts {', '.join(versions)[:200]}, not {own}; start it with "
                "the artifact of the edge, its exported graphs included",
                "artifact",
            )

    def infer(
        self, features: Floats, cut: Cut, deadline: float | None, heads: str = PLAIN
    ) -> Floats:
        """Compute raw logits of the last exit; see `eenn.offload.edge.clouds.Cloud`."""

        def request() -> Request:
            return self._request(FEATURES, *pack(features, self._precision))

        return self._infer(model_name(cut, heads), request, len(features), deadline)

    def infer_files(
        self, files: Sequence[bytes], deadline: float | None, cropped: bool = False
    ) -> Floats:
        """Compute raw logits of the last exit, float32 (N, classes), from image files.

        Args:
            cropped: whether the files are already the preprocessing's crop.

        Raises:
            OffloadError: the cloud did not answer; the message says why.
        """

        def request() -> Request:
            tensor = np.empty(len(files), object)
            tensor[:] = files
            return self._request(IMAGE, tensor, {CROPPED: True} if cropped else {})

        return self._infer(IMAGE_MODEL, request, len(files), deadline)

    def _request(self, name: str, tensor: Tensor, parameters: Mapping[str, Parameter]) -> Request:
        return Request({name: tensor}, {ARTIFACT: self._artifact_id, **parameters}, {LOGITS: True})

    def _infer(
        self, model: str, request: Callable[[], Request], samples: int, deadline: float | None
    ) -> Floats:
        self._newest.exchange = exchange = Exchange()
        start = time.perf_counter()
        body, headers = encode_request(request(), self._compress)
        exchange.encode_ms, encoded = _ms_since(start), time.perf_counter()
        headers = headers | self._authorization | self._priority
        ask = HttpRequest("POST", f"/v2/models/{model}/infer", headers, body)
        max_bytes = (1 + samples) * SAMPLE_BYTES
        if deadline is not None and time.monotonic() >= deadline:
            raise CloudTimeout("no time is left to ask the cloud", "deadline")
        with self._breaker.call():
            try:
                reply = self._ask(ask, max_bytes, deadline, exchange)
            finally:
                exchange.wait_ms, replied = _ms_since(encoded), time.perf_counter()
            exchange.server_parts_ms = server_times(reply)
            response = decode_response(reply.body, reply.headers, Bounds(max_bytes))
            logits = response.outputs.get(LOGITS)
            if logits is None or logits.dtype != np.float32 or logits.shape[:-1] != (samples,):
                raise BadReply(f"the reply has no {LOGITS} FP32 ({samples}, classes)")
            exchange.decode_ms = _ms_since(replied)
            return logits.astype(np.float32, copy=False)

    def _ask(
        self, ask: HttpRequest, max_bytes: int, deadline: float | None, exchange: Exchange
    ) -> HttpReply:
        """Send a request, again if need be, and return the reply with status 200."""
        retries = 0
        while True:
            try:
                reply = self._transport.exchange(ask, max_bytes, deadline, exchange)
                if reply.status == 200:
                    return reply
                raise refusal(reply)
            except OffloadError as error:
                pause_s = self._random.uniform(0, BACKOFF_S * 2**retries)
                if isinstance(error, CloudOverloaded):
                    pause_s += error.retry_after_s * self._random.uniform(1, SPREAD)
                patience_s = MAX_PAUSE_S if deadline is None else deadline - time.monotonic()
                final = error.cause not in TRANSIENT or retries == self._retries
                if final or pause_s >= patience_s:
                    raise
            retries += 1
            time.sleep(pause_s)


def _ms_since(start: float) -> float:
    return 1e3 * (time.perf_counter() - start)


_TOKEN = re.compile(r"[!-~]+")
