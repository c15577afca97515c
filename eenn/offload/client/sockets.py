"""Sockets that end by a moment, whatever the other side does.

The timeout of a socket holds for one read: a server that sends a byte now and then is waited for
without end. These sockets know the moment at which a phase is over, and shrink their timeout before
every read and write, whoever reads or writes: status line, headers, chunks or the body.
"""

import ssl
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from socket import (
    AI_NUMERICHOST,
    IPPROTO_TCP,
    SOCK_STREAM,
    TCP_NODELAY,
    AddressFamily,
    SocketKind,
    gaierror,
    getaddrinfo,
    socket,
)
from threading import Thread
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from eenn.errors import EennError
from eenn.offload.protocol.errors import CloudTimeout, CloudUnreachable

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_HostAndPort: TypeAlias = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]
# As `getaddrinfo` gives it: family, kind, protocol, canonical name, and what `connect` takes.
_Address: TypeAlias = tuple[AddressFamily, SocketKind, int, str, _HostAndPort]


class Limit(NamedTuple):
    """A moment of `time.monotonic()`, and the error that there is after it."""

    at: float
    cause: str
    message: str

    @classmethod
    def of(cls, cause: str, message: str, seconds: float, deadline: float | None) -> "Limit":
        """So many seconds from now, or the deadline if that is earlier."""
        at = time.monotonic() + seconds
        if deadline is not None and deadline < at:
            return cls(deadline, "deadline", f"{message} by the deadline")
        return cls(at, cause, f"{message} within {1e3 * seconds:g} ms")

    def left_s(self) -> float:
        """Seconds until then, more than 0.

        Raises:
            CloudTimeout: there are none.
        """
        left_s = self.at - time.monotonic()
        if left_s <= 0:
            raise self.over()
        return left_s

    def over(self) -> CloudTimeout:
        """The error."""
        return CloudTimeout(self.message, self.cause)


@dataclass
class Traffic:
    """What sockets carried: what is inside TLS, and without what TCP and IP add."""

    sent_bytes: int = 0
    received_bytes: int = 0


class LimitedSocket(socket):
    """A TCP connection that raises CloudTimeout at `limit` and adds to `traffic`.

    Both are to be set before it is used.
    """

    limit: Limit
    traffic: Traffic

    def recv_into(
        self, buffer: "WriteableBuffer", nbytes: int | None = None, flags: int = 0
    ) -> int:
        """As of any socket."""
        self.settimeout(self.limit.left_s())
        try:
            # A plain socket takes 0 for all of the buffer, and one with TLS for nothing.
            count = super().recv_into(buffer, nbytes or memoryview(buffer).nbytes, flags)
        except TimeoutError as error:
            raise self.limit.over() from error
        self.traffic.received_bytes += count
        return count

    def sendall(self, data: "ReadableBuffer", flags: int = 0) -> None:
        """As of any socket."""
        rest = memoryview(data).cast("B")
        while rest:
            self.settimeout(self.limit.left_s())
            try:
                count = self.send(rest, flags)
            except TimeoutError as error:
                raise self.limit.over() from error
            self.traffic.sent_bytes += count
            rest = rest[count:]


class _LimitedTlsSocket(LimitedSocket, ssl.SSLSocket):
    pass


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Verifies certificates and host names.

    Args:
        ca_file: certificates (PEM) that are trusted instead of the system's.

    Raises:
        EennError: `ca_file` cannot be read.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise EennError(
            f"{ca_file} cannot be read as certificates: {error}; allowed is a PEM file"
        ) from error
    context.sslsocket_class = _LimitedTlsSocket
    return context


def connect(host: str, port: int, tls: ssl.SSLContext | None, limit: Limit) -> LimitedSocket:
    """A new connection.

    Raises:
        CloudUnreachable: no address, nobody there, no way there, no common TLS.
        CloudTimeout: the limit is over.
    """
    try:
        addresses = _look_up(host, port, limit)
    except (gaierror, UnicodeError) as error:
        raise CloudUnreachable(f"{host} has no address: {error}", "dns") from error
    plain = _connect_any(f"{host}:{port}", addresses, limit)
    plain.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
    connected = plain
    if tls:
        try:
            plain.settimeout(limit.left_s())
            wrapped = tls.wrap_socket(plain, server_hostname=host)
            assert isinstance(wrapped, LimitedSocket)
            connected = wrapped
        except TimeoutError as error:
            raise limit.over() from error
        except ConnectionError as error:
            raise CloudUnreachable(f"{host}:{port} reset the connection", "reset") from error
        except OSError as error:
            raise CloudUnreachable(
                f"{host}:{port} and this machine do not agree on TLS: {error}", "tls"
            ) from error
        finally:
            plain.close()  # Wrapping has detached it.
    return connected


def _look_up(host: str, port: int, limit: Limit) -> Sequence[_Address]:
    with suppress(gaierror):
        return getaddrinfo(host, port, type=SOCK_STREAM, flags=AI_NUMERICHOST)
    found: SimpleQueue[Sequence[_Address] | Exception] = SimpleQueue()

    def ask() -> None:
        try:
            found.put(list(getaddrinfo(host, port, type=SOCK_STREAM)))
        except (gaierror, UnicodeError) as error:
            found.put(error)

    # The resolver keeps to no limit; its thread ends when it does.
    Thread(target=ask, name=f"look up {host}", daemon=True).start()
    try:
        addresses = found.get(timeout=limit.left_s())
    except Empty:
        raise limit.over() from None
    if isinstance(addresses, Exception):
        raise addresses
    return addresses


def _connect_any(name: str, addresses: Sequence[_Address], limit: Limit) -> LimitedSocket:
    """To the first address that answers; each gets its share of the time that is left."""
    failure: OSError | None = None
    for tried, (family, kind, protocol, _, address) in enumerate(addresses):
        candidate = LimitedSocket(family, kind, protocol)
        try:
            candidate.settimeout(limit.left_s() / (len(addresses) - tried))
            candidate.connect(address)
            return candidate
        except BaseException as error:
            candidate.close()
            if not isinstance(error, OSError):
                raise
            failure = error
    match failure:
        case TimeoutError():
            raise limit.over() from failure
        case ConnectionRefusedError():
            raise CloudUnreachable(f"{name} refuses connections", "refused") from failure
        case ConnectionError():
            raise CloudUnreachable(f"{name} reset the connection", "reset") from failure
    raise CloudUnreachable(f"no way to {name}: {failure}", "network") from failure
