"""Requests to a cloud in this process that wait where a test holds them, and what it counts."""

import asyncio
import time
from collections.abc import Callable, Mapping
from io import BytesIO
from threading import Event
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eenn.offload.protocol.encoding import encode_request
from eenn.offload.protocol.wire import Request
from tests.offload.cloud.asgi import InProcess, Reply
from tests.offload.patience import PATIENCE_S

INFER = "/v2/models/eenn-cloud-0/infer"
INFER_IMAGE = "/v2/models/eenn-cloud-image/infer"
ONE, FOUR = (np.zeros((samples, 3, 32, 32), np.float32) for samples in (1, 4))


def features_request(
    images: Any, parameters: Mapping[str, Any] | None = None, **outputs: bool
) -> dict[str, Any]:
    body, headers = encode_request(Request({"features": images}, parameters or {}, outputs))
    return {"chunks": [body], "headers": headers}


def image_request(*files: bytes) -> dict[str, Any]:
    tensor = np.empty(len(files), object)
    tensor[:] = files
    body, headers = encode_request(Request({"image": tensor}))
    return {"chunks": [body], "headers": headers}


def metrics(cloud: InProcess, headers: dict[str, str] | None = None) -> dict[str, float]:
    lines = cloud("GET", "/metrics", headers=headers).body.decode().splitlines()
    pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
    return {name: float(value) for name, value in pairs}


def assert_refused(cloud: InProcess, reply: Reply, status: int, cause: str, said: str) -> None:
    assert reply.status == status, reply
    assert said in reply.error
    assert metrics(cloud)[f'eenn_refused_total{{cause="{cause}"}}'] == 1


def encoded(kind: str, size: tuple[int, int] = (40, 40)) -> bytes:
    file = BytesIO()
    Image.new("RGB", size).save(file, kind)
    return file.getvalue()


class Gate(Event):
    """Open once it is set; `begun` once somebody waits."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = Event()


def hold(patch: pytest.MonkeyPatch, module: Any, name: str) -> tuple[Gate, list[Any]]:
    """Let a function wait for a gate; also the list of first arguments that it was called with."""
    gate, called, function = Gate(), [], getattr(module, name)

    def held(*given: Any, **options: Any) -> Any:
        called.append(given[0])
        gate.begun.set()
        assert gate.wait(PATIENCE_S)
        return function(*given, **options)

    patch.setattr(module, name, held)
    return gate, called


def batcher_of(cloud: InProcess) -> Any:
    return cloud.app.state.service._batcher  # type: ignore[attr-defined]


def hold_models(cloud: InProcess, monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Models of this server compute nothing until the gate is opened."""
    gate, compute = Gate(), batcher_of(cloud)._compute

    def held(batch: Any) -> Any:
        gate.begun.set()
        assert gate.wait(PATIENCE_S)
        return compute(batch)

    monkeypatch.setattr(batcher_of(cloud), "_compute", held)
    return gate


def asking_for_four(cloud: InProcess, headers: Mapping[str, str]) -> "asyncio.Task[Reply]":
    """A request of four samples, with further headers."""
    request = features_request(FOUR)
    request["headers"] |= headers
    return asyncio.create_task(cloud.call("POST", INFER, **request))


async def computing(cloud: InProcess, gate: Gate, **headers: str) -> "asyncio.Task[Reply]":
    """A request of four samples that is being computed until the gate is opened."""
    call = asking_for_four(cloud, headers)
    await asyncio.to_thread(gate.begun.wait, PATIENCE_S)
    return call


async def waiting(cloud: InProcess, samples: int, **headers: str) -> "asyncio.Task[Reply]":
    """A request of four samples that waits, so that `samples` wait in all."""
    call = asking_for_four(cloud, headers)
    await until(lambda: batcher_of(cloud).waiting >= samples)
    return call


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what other tasks of the loop are about to bring about."""
    limit = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < limit
        await asyncio.sleep(0.001)
