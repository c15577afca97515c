"""The start of connections: each is counted when it is accepted, and has a time limit for TLS.

uvicorn's own listener counts a connection only after the TLS handshake, for which it allows a
minute.
"""

import asyncio
import socket
import ssl
from typing import cast

import uvicorn

from eenn.offload.cloud.connections import GuardedProtocol
from eenn.offload.cloud.gate import Gate, network_of
from eenn.offload.cloud.settings import (
    ACCEPT_PAUSE_S,
    ACCEPTED_AT_ONCE,
    BACKLOG,
    HANDSHAKE_TIMEOUT_S,
    LINGER_S,
)


class GatedServer(uvicorn.Server):
    """uvicorn's server with a gate that counts and limits connections.

    Args:
        listener: a socket that is bound but not listening yet; it is closed when the server ends.
        tls: TLS context of the server; None for plain HTTP.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        listener: socket.socket,
        gate: Gate,
        tls: ssl.SSLContext | None,
    ) -> None:
        super().__init__(config)
        self._listener, self._gate, self._tls = listener, gate, tls
        self._arriving: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        self._listener.setblocking(False)
        self._listener.listen(BACKLOG)
        self._listen()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop.remove_reader(self._listener)
        self._listener.close()
        for task in self._arriving:
            task.cancel()
        await super().shutdown(sockets)

    def _listen(self) -> None:
        if not self.should_exit:
            self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        # The number is limited so that existing connections have their turn.
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                accepted, peer = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                # No file descriptor is left; without a pause the loop would try again without end.
                self._gate.say("files", f"no connection could be accepted: {error.strerror}")
                self._loop.remove_reader(self._listener)
                self._loop.call_later(ACCEPT_PAUSE_S, self._listen)
                return
            task = self._loop.create_task(self._arrive(accepted, peer))
            self._arriving.add(task)
            task.add_done_callback(self._arriving.discard)

    async def _arrive(self, accepted: socket.socket, peer: object) -> None:
        guarded = GuardedProtocol(
            self._gate, self.config, self.server_state, self.lifespan.state, self._loop
        )
        timeouts = {"ssl_handshake_timeout": HANDSHAKE_TIMEOUT_S, "ssl_shutdown_timeout": LINGER_S}
        task = cast("asyncio.Task[None]", asyncio.current_task())
        guarded.arrive(network_of(peer), task)
        try:
            await asyncio.sleep(0)  # The task is cancelled here if the gate refused it.
            await self._loop.connect_accepted_socket(
                lambda: guarded, accepted, ssl=self._tls, **(timeouts if self._tls else {})
            )
        except BaseException as error:
            self._gate.leave(guarded)
            accepted.close()
            # uvloop does not tell a protocol that its connection was cancelled.
            self.server_state.connections.discard(guarded)
            if not isinstance(error, OSError):
                raise
            self._gate.say("handshake", "a TLS handshake failed or took too long")
