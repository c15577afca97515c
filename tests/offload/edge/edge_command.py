"""`eenn-edge` as a process, what it is to answer, and what disturbs it."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Timer
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from eenn.exits.decide import Decisions, decide
from eenn.exits.policies.base import ExitProbs, Policy
from eenn.exits.policies.registry import make_policy
from eenn.offload.edge import command
from eenn.statistics.calibration import probabilities
from tests.offload.exported import TEMPERATURES, Exported
from tests.offload.patience import PATIENCE_S

P_TAR = 0.65
NO_HURRY = ("--deadline-ms", str(1e3 * PATIENCE_S))
# Packages that the base package of eenn does not install.
ABSENT = (
    "torch", "torchvision", "scipy", "safetensors", "filelock", "hydra", "omegaconf", "matplotlib",
    "pytorch_lightning", "wandb", "onnx", "tabulate", "tqdm", "yaml", "zstandard", "starlette",
    "uvicorn", "prometheus_client",
)  # fmt: skip
MODULE = (sys.executable, "-m", "eenn.offload.edge.command")


def run_bare(*arguments: object, first: str = "") -> subprocess.CompletedProcess[str]:
    """`eenn-edge` where only the base package is installed.

    Args:
        first: a program to run before it.
    """
    program = f"""
import sys
sys.modules.update(dict.fromkeys({ABSENT!r}))
from eenn.offload.edge import audits, command, server, watch, watching
{first}
command.main({[str(argument) for argument in arguments]!r})
"""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


@contextmanager
def process(
    exported: Exported, *arguments: object, stdout: int = subprocess.PIPE
) -> Iterator[subprocess.Popen[str]]:
    """`eenn-edge` as a process of its own; it is killed if it outlives the block or patience."""
    given = [str(argument) for argument in ("--artifact", exported.path, *arguments)]
    with subprocess.Popen(
        [*MODULE, *given], stdout=stdout, stderr=subprocess.PIPE, text=True
    ) as started:
        overdue = Timer(PATIENCE_S, started.kill)
        overdue.start()
        try:
            yield started
        finally:
            overdue.cancel()
            started.kill()


def outputs_of(exported: Exported) -> NDArray[np.float64]:
    """Calibrated probabilities of all files from PyTorch, (exits, files, classes)."""
    with torch.inference_mode():
        logits = exported.network(torch.from_numpy(exported.images)).numpy()
    return np.stack([probabilities(*pair) for pair in zip(logits, TEMPERATURES, strict=True)])


def decided(
    exported: Exported, active: Sequence[int], cloud: bool, policy: Policy | None = None
) -> Decisions:
    """What is decided on PyTorch's logits of all files."""
    outputs = [ExitProbs(exit, probs) for exit, probs in enumerate(outputs_of(exported))]
    usual = make_policy("confidence", {"p_tar": P_TAR})
    return decide(policy or usual, outputs, active, cloud)


def parsed(lines: Sequence[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines]


def assert_decided(
    answers: Sequence[dict[str, Any]], expected: Decisions, tolerance: float = 1e-3
) -> None:
    assert [answer["exit"] - 1 for answer in answers] == expected.taken.tolist()
    assert [answer["label"] for answer in answers] == expected.label.tolist()
    assert [answer["place"] == "edge" for answer in answers] == expected.on_edge.tolist()
    confidences = [answer["confidence"] for answer in answers]
    np.testing.assert_allclose(confidences, expected.confidence, rtol=tolerance)


@contextmanager
def full_disk(monkeypatch: pytest.MonkeyPatch, until: int) -> Iterator[None]:
    """A disk that takes a part of each line and then no more, and has room after so many lines."""
    write, parts = os.write, iter([20, 0] * until)

    def reluctant(fd: int, data: bytes) -> int:
        if (part := next(parts, len(data))) == 0:
            raise OSError(28, "No space left on device")
        return write(fd, data[:part])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", reluctant)
        yield


@contextmanager
def polls(monkeypatch: pytest.MonkeyPatch, number: int) -> Iterator[None]:
    """A watch that ends after so many pauses, which take no time."""
    left = iter(range(number))

    def pause(_: float) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(command, "time", SimpleNamespace(sleep=pause))
        yield


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])
