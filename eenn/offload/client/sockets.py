"""Sockets with a deadline for a whole exchange.

The timeout of a plain socket holds for one read, so a server that sends a byte now and then is
waited for without end. These sockets know the end of a phase, and shorten their timeout before
every read and write of status line, headers, chunks and body.
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
# A result of `getaddrinfo`: family, kind, protocol, canonical name, and the address for `connect`.
_Address: TypeAlias = tuple[AddressFamily, SocketKind, int, str, _HostAndPort]


class Limit(NamedTuple):
    """The end of a phase, in seconds of `time.monotonic()`, with the error to raise after it."""

    at: float
    cause: str
    message: str

    @classmethod
    def of(cls, cause: str, message: str, seconds: float, deadline: float | None) -> "Limit":
        """Make the limit `seconds` from now, or at the deadline if that is earlier."""
        at = time.monotonic() + seconds
        if deadline is not None and deadline < at:
            return cls(deadline, "deadline", f"{message} by the deadline")
        return cls(at, cause, f"{message} within {1e3 * seconds:g} ms")

    def left_s(self) -> float:
        """Return the seconds that are left, more than 0.

        Raises:
            CloudTimeout: no time is left.
        """
        left_s = self.at - time.monotonic()
        if left_s <= 0:
            raise self.over()
        return left_s

    def over(self) -> CloudTimeout:
        """Make the error for a phase that took too long."""
        return CloudTimeout(self.message, self.cause)


@dataclass
class Traffic:
    """The bytes that sockets carried, inside TLS and without the overhead of TCP and IP."""

    sent_bytes: int = 0
    received_bytes: int = 0


class LimitedSocket(socket):
    """A TCP connection that raises CloudTimeout at `limit` and counts bytes in `traffic`.

    Both attributes must be set before use.
    """

    limit: Limit
    traffic: Traffic

    def recv_into(
        self, buffer: "WriteableBuffer", nbytes: int | None = None, flags: int = 0
    ) -> int:
        """Receive into a buffer, like any socket, until `limit`."""
        self.settimeout(self.limit.left_s())
        try:
            # A plain socket reads 0 as the whole buffer, a TLS socket as nothing.
            count = super().recv_into(buffer, nbytes or memoryview(buffer).nbytes, flags)
        except TimeoutError as error:
            raise self.limit.over() from error
        self.traffic.received_bytes += count
        return count

    def sendall(self, data: "ReadableBuffer", flags: int = 0) -> None:
        """Send all of the data, like any socket, until `limit`."""
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
    """Make a TLS context that verifies certificates and host names.

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
    """Open a connection, with TLS if `tls` is given.

    Raises:
        CloudUnreachable: the host has no address, does not answer, cannot be reached, or shares no
            version of TLS.
        CloudTimeout: the limit was reached.
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

    # The resolver has no time limit; its thread ends with the look-up.
    Thread(target=ask, name=f"look up {host}", daemon=True).start()
    try:
        addresses = found.get(timeout=limit.left_s())
    except Empty:
        raise limit.over() from None
    if isinstance(addresses, Exception):
        raise addresses
    return addresses


def _connect_any(name: str, addresses: Sequence[_Address], limit: Limit) -> LimitedSocket:
    """Connect to the first address that answers; each gets an equal share of the time left."""
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
