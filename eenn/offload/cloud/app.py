"""The cloud: artifacts' models over the Open Inference Protocol V2, as an ASGI application.

A request is admitted step by step, so that a refused request costs little: token, model, length and
room are checked before its body is read, sizes before JSON is parsed, shape and type before
conversion, pixels before images are decoded; then it gets a place in the queue. Every refusal is a
JSON `{"error": ...}` with its status.

A background request (RFC 9218, urgency 7) is admitted while no normal request for inference is
being answered; normal ones that come later go ahead of it.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from eenn.errors import EennError
from eenn.offload.cloud.admission import (
    AccessGuard,
    Bodies,
    Body,
    Refused,
    asks_for_background,
    refusal_of,
    refusal_of_background,
    reply_to,
    whole_number,
)
from eenn.offload.cloud.batching import Batcher
from eenn.offload.cloud.images import ImageDecoder
from eenn.offload.cloud.metrics import CloudMetrics
from eenn.offload.cloud.repository import Repository, ServedModel, model_of_artifact
from eenn.offload.cloud.settings import INLINE_BYTES, INLINE_JSON_BYTES, Settings
from eenn.offload.cloud.sharing import PriorityThreads, run_and_rest
from eenn.offload.protocol.bounds import Bounds
from eenn.offload.protocol.codecs import unpack
from eenn.offload.protocol.decoding import decode_request
from eenn.offload.protocol.encoding import encode_response
from eenn.offload.protocol.wire import ARTIFACT, JSON_LENGTH, LOGITS, Request, Tensor

Floats = NDArray[np.float32]
T = TypeVar("T")


def make_app(
    artifact_dirs: Sequence[str | Path],
    settings: Settings | None = None,
    token: str | None = None,
    is_local: bool = False,
) -> Starlette:
    """Make the application; its lifespan starts and ends the computing thread.

    `app.state.service` is the application's `CloudService`.

    Args:
        token: bearer token that every request must have, but those for the server's health.
        is_local: whether requests must name this machine's loopback as their host.

    Raises:
        EennError: see `Repository`.
    """
    settings = settings or Settings()
    served = Repository(artifact_dirs, settings.precision, settings.threads, settings.device)
    service = CloudService(served, settings)
    app = Starlette(
        routes=[
            # Routes are tried in order, and most requests are for inference.
            *(
                Route(f"/v2/models/{{model}}{versions}{path}", endpoint, methods=[method])
                for path, endpoint, method in (
                    ("/infer", service.infer, "POST"),
                    ("", service.describe_model, "GET"),
                    ("/config", service.configure_model, "GET"),
                    ("/ready", service.say_ready, "GET"),
                )
                for versions in ("", "/versions/{version}")
            ),
            Route("/v2", service.describe),
            Route("/v2/health/live", service.say_live),
            Route("/v2/health/ready", service.say_ready),
            Route("/v2/repository/index", service.list_models, methods=["POST"]),
            Route("/metrics", service.report),
        ],
        middleware=[Middleware(AccessGuard, token=token, is_local=is_local, refuse=service.refuse)],
        exception_handlers={
            EennError: service.refuse,
            HTTPException: service.refuse,
            Exception: service.refuse,
        },
        lifespan=service.lifespan,
    )
    # Unknown paths are refused, not redirected to the host that a request names.
    app.router.redirect_slashes = False
    app.state.service = service
    return app


class CloudService:
    """Answers requests; the public coroutines are the endpoints."""

    def __init__(self, repository: Repository, settings: Settings) -> None:
        self.settings, self._repository = settings, repository
        self._metrics = CloudMetrics(lambda: self._batcher.waiting)
        self._batcher = Batcher(
            limit=settings.queue,
            max_batch=settings.max_batch,
            batch_wait_ms=settings.batch_wait_ms,
            timeout_ms=settings.timeout_ms,
            slowdown=settings.slowdown,
            note=self._metrics.note_batch,
        )
        self._images = ImageDecoder(settings.queue, settings.timeout_ms / 1e3, settings.slowdown)
        self._parsing, self._reporting = PriorityThreads(1, "parser"), PriorityThreads(1, "metrics")
        self._bodies = Bodies(settings.max_body_bytes, settings.read_timeout_ms / 1e3)
        # Requests for inference that are being answered, and the normal ones among them.
        self._inside = self._normal = 0
        self.is_open, self._empty = False, asyncio.Event()
        self._empty.set()

    @asynccontextmanager
    async def lifespan(self, _: object) -> AsyncIterator[None]:
        """Run the computing task while the application runs."""
        computing = asyncio.create_task(self._batcher.run())
        computing.add_done_callback(self._close)
        self.is_open = True
        try:
            yield
        finally:
            await self.drain()
            computing.cancel()
            await asyncio.wait([computing])
            self._images.close()
            self._parsing.close()
            self._reporting.close()

    async def drain(self) -> None:
        """Report not ready, refuse new requests, and wait until all admitted ones are answered."""
        self._close()
        await self._empty.wait()

    def _close(self, *_: object) -> None:
        self.is_open = False

    async def infer(self, http: HttpRequest) -> Response:
        """Answer a request for inference with the logits of its samples."""
        model, status = "unknown", 500
        is_background = asks_for_background(http.headers)
        self._inside += 1
        self._normal += not is_background
        self._empty.clear()
        try:
            models = self._repository.versions(**http.path_params)
            model = models[0].name
            response = await self._infer(http, models, is_background)
            status = response.status_code
        except (EennError, ClientDisconnect) as error:
            refusal = refusal_of_background(error) if is_background else error
            response = await self.refuse(http, refusal)
            status = response.status_code
        finally:
            self._metrics.requests.labels(model, status).inc()
            if is_background:
                self._metrics.background.labels(status).inc()
            self._inside -= 1
            self._normal -= not is_background
            if not self._inside:
                self._empty.set()
        return response

    async def _infer(
        self, http: HttpRequest, models: Sequence[ServedModel], is_background: bool
    ) -> Response:
        self._check_open()
        if is_background and self._normal:
            raise Refused(429, "background", "other requests are being answered; send it later")
        self._bodies.check(http.headers)
        self._batcher.make_room(1, is_background)
        bounds = self._bounds_of(models)
        async with self._bodies.read(http, bounds, is_background) as body:
            request = await self._decoded(http, body, bounds, is_background)
            model = model_of_artifact(models, request.parameters.get(ARTIFACT))
            tensor = model.tensor(request, self._batcher.limit)
            features, decode_ms = await self._features(http, request, model, tensor, is_background)
        with self._batcher.place(len(tensor), is_background) as place:
            computed = await _unless_left(http, self._batcher.submit(place, model.run, features))
        self._metrics.note_wait(computed.queue_ms)
        content, headers = encode_response(request, model.name, {LOGITS: computed.logits})
        headers["Server-Timing"] = (
            f"queue;dur={computed.queue_ms:.3f}, model;dur={computed.model_ms:.3f}, "
            f"decode;dur={decode_ms:.3f}"
        )
        return Response(content, headers=headers)

    def _bounds_of(self, models: Sequence[ServedModel]) -> Bounds:
        """Find the bounds of requests that any of the given models may get."""
        largest = max(models, key=lambda model: math.prod(model.shape))
        if largest.preprocessing is not None:
            return Bounds.of_files(self.settings.max_body_bytes, self._batcher.limit)
        return Bounds.of_features(self.settings.max_body_bytes, self._batcher.limit, largest.shape)

    async def _decoded(
        self, http: HttpRequest, body: Body, bounds: Bounds, is_background: bool
    ) -> Request:
        headers, size = http.headers, body.declared_bytes
        work = partial(decode_request, body.content, dict(headers), bounds)
        json_bytes = whole_number(headers.get(JSON_LENGTH, str(size)))
        is_little_json = json_bytes is not None and json_bytes <= INLINE_JSON_BYTES
        if is_little_json and size <= INLINE_BYTES and "content-encoding" not in headers:
            return work()
        parsing = self._parsing.run(size, partial(run_and_rest, work), is_background)
        return await _unless_left(http, parsing)

    async def _features(
        self,
        http: HttpRequest,
        request: Request,
        model: ServedModel,
        tensor: Tensor,
        is_background: bool,
    ) -> tuple[Floats, float]:
        """Convert a tensor to the model's input; return also the milliseconds of decoding."""
        if model.preprocessing is not None:
            decoding = self._images.decode(
                tensor, model.preprocessing, request.parameters, is_background
            )
            return await _unless_left(http, decoding)
        work = partial(unpack, tensor, request.parameters)
        if tensor.nbytes <= INLINE_BYTES:
            return work(), 0.0
        unpacking = self._parsing.run(tensor.nbytes, work, is_background)
        return await _unless_left(http, unpacking), 0.0

    def _check_open(self) -> None:
        if not self.is_open:
            raise Refused(503, "closing", "the server is shutting down")

    async def refuse(self, http: HttpRequest, error: Exception) -> Response:
        """Count an error, and make the reply to it."""
        refusal = refusal_of(error)
        self.note(refusal.cause)
        return reply_to(refusal, http.headers)

    def note(self, cause: str) -> None:
        """Count a refusal by its cause."""
        self._metrics.refused.labels(cause).inc()

    async def describe(self, _: HttpRequest) -> Response:
        """Answer with the server's metadata."""
        settings = self.settings
        return JSONResponse(
            {
                "name": "eenn",
                "version": _own_version(),
                "extensions": ["binary_tensor_data", "model_repository", "model_configuration"],
                "eenn_artifacts": self._repository.artifact_ids,
                "eenn_precision": settings.precision,
                "eenn_device": settings.device,
                "eenn_threads": settings.threads,
                "eenn_slowdown": settings.slowdown,
            }
        )

    async def describe_model(self, http: HttpRequest) -> Response:
        """Answer with a model's metadata."""
        models = self._repository.versions(**http.path_params)
        return JSONResponse(models[0].metadata([model.version for model in models]))

    async def configure_model(self, http: HttpRequest) -> Response:
        """Answer with a model's configuration."""
        models = self._repository.versions(**http.path_params)
        return JSONResponse(models[0].config(self.settings.max_batch))

    async def list_models(self, _: HttpRequest) -> Response:
        """Answer with all models and versions."""
        state = {"state": "READY" if self.is_open else "UNAVAILABLE", "reason": ""}
        names = [{"name": model.name, "version": model.version} for model in self._repository]
        return JSONResponse([name | state for name in names])

    async def say_live(self, _: HttpRequest) -> Response:
        """Answer that the process is alive."""
        return JSONResponse({"live": True})

    async def say_ready(self, http: HttpRequest) -> Response:
        """Answer that the server, or one of its models, accepts requests."""
        if http.path_params:
            self._repository.versions(**http.path_params)
        self._check_open()
        return JSONResponse({"ready": True})

    async def report(self, _: HttpRequest) -> Response:
        """Answer with the metrics."""
        # The text takes some milliseconds, and many clients may ask at a time.
        text = await self._reporting.run(0, self._metrics.text)
        return Response(text, media_type=CONTENT_TYPE_LATEST)


def _own_version() -> str:
    try:
        return version("eenn")
    except PackageNotFoundError:
        return "not installed"


async def _unless_left(http: HttpRequest, work: Awaitable[T]) -> T:
    """Await some work, and cancel it when the client leaves."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(http.receive())
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect("the client has left")
        return working.result()
    finally:
        leaving.cancel()
        working.cancel()
