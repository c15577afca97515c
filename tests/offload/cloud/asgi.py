"""An ASGI application called without sockets, with every freedom that a bad client takes."""

import asyncio
import json
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from threading import Event
from typing import Any, Self, TypeVar

from starlette.types import ASGIApp

from tests.offload.cloud.passing_time import movable
from tests.offload.patience import PATIENCE_S

T = TypeVar("T")


@dataclass
class Reply:
    """What came back; the status is 0 if nothing did."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def error(self) -> str:
        message = json.loads(self.body)["error"]
        assert isinstance(message, str)
        return message


class InProcess:
    """An application and its lifespan, inside a `with` block.

    `awaited` counts how often the application began to wait for a client that had sent all it ever
    will; `let_pass` moves its clock on.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app, self.awaited = app, 0

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self.let_pass = movable(self._loop)
        self._inbox: asyncio.Queue[Any] = asyncio.Queue()
        self._outbox: asyncio.Queue[Any] = asyncio.Queue()
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        self._lifespan = self._loop.create_task(
            self.app(scope, self._inbox.get, self._outbox.put)  # type: ignore[arg-type]
        )
        self._tell_lifespan("startup")
        return self

    def __exit__(self, *_: object) -> None:
        self._tell_lifespan("shutdown")
        self.run(self._lifespan)  # type: ignore[arg-type]
        self._loop.close()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(coroutine)

    def __call__(self, *given: Any, **options: Any) -> Reply:
        return self.run(self.call(*given, **options))

    async def call(
        self,
        method: str,
        path: str,
        chunks: Iterable[bytes] = (),
        headers: Mapping[str, str] | None = None,
        leaves: bool = False,
        stalls: bool = False,
        hangs_up: bool = False,
        hangs_up_after: Event | None = None,
    ) -> Reply:
        """The reply to one request.

        Args:
            chunks: of the body, as they arrive.
            headers: sent as they are, but for a Content-Length if there is none.
            leaves: the client is gone after the last chunk, which does not end the body.
            stalls: nothing follows the last chunk, which does not end the body.
            hangs_up: the client is gone after the whole body.
            hangs_up_after: it is gone then.
        """
        chunks, headers = list(chunks), dict(headers or {})
        if not {"content-length", "transfer-encoding"} & {name.lower() for name in headers}:
            headers["Content-Length"] = str(sum(map(len, chunks)))
        reply, answered = Reply(), asyncio.Event()
        ends = not (leaves or stalls)
        coming: list[dict[str, Any]] = [
            {"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks
        ]
        if ends:
            coming.append({"type": "http.request", "body": b"", "more_body": False})
        coming.reverse()

        async def receive() -> dict[str, Any]:
            if coming:
                return coming.pop()
            if hangs_up_after:
                await asyncio.to_thread(hangs_up_after.wait, PATIENCE_S)
            elif not (leaves or hangs_up):
                self.awaited += 1
                await answered.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                reply.status = message["status"]
                reply.headers = {k.decode(): v.decode() for k, v in message["headers"]}
            else:
                reply.body += message.get("body", b"")
                if not message.get("more_body"):
                    answered.set()

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
            "scheme": "http", "path": path, "raw_path": path.encode("utf-8", "replace"),
            "query_string": b"", "root_path": "", "client": ("127.0.0.1", 1), "state": {},
            "server": ("127.0.0.1", 80),
            "headers": [
                (name.lower().encode("latin-1"), value.encode("latin-1"))
                for name, value in headers.items()
            ],
        }  # fmt: skip
        await self.app(scope, receive, send)  # type: ignore[arg-type]
        return reply

    def _tell_lifespan(self, what: str) -> None:
        self._inbox.put_nowait({"type": f"lifespan.{what}"})
        answer = self.run(self._outbox.get())
        assert answer == {"type": f"lifespan.{what}.complete"}, answer
