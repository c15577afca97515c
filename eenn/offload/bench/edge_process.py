"""A live edge: `eenn-edge --serve` as a process of its own, with a guard and a field log."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from subprocess import PIPE, Popen
from threading import Timer
from urllib.parse import urlsplit

from eenn.errors import EennError
from eenn.files import from_json
from eenn.offload.edge import command
from eenn.run_directory import FIELD_LOG

READY = "listening on "
START_S, STOP_S = 60.0, 20.0
ANSWER_S = 60.0  # far above any deadline of an answer
# Files of a run, beside its field log.
STATE, SAID = "guard.json", "edge.log"


@dataclass(frozen=True)
class EdgeAnswer:
    """The answer to one photograph, as of `eenn.offload.edge.answers.as_json`."""

    label: int
    exit: int
    exits: tuple[int, ...]
    confidences: tuple[float, ...]
    latency_ms: float


class LiveEdge:
    """A connection to a serving edge.

    Args:
        said: file with the lines of the edge, to which errors refer.
    """

    def __init__(self, url: str, said: Path) -> None:
        self._connection = HTTPConnection(urlsplit(url).netloc, timeout=ANSWER_S)
        self._said = said

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def classify(self, file: bytes) -> EdgeAnswer:
        """Let the edge answer the file of a photograph.

        Raises:
            EennError: the edge does not answer.
        """
        try:
            self._connection.request("POST", "/classify", file)
            response = self._connection.getresponse()
            content = response.read()
            if response.status != 200:
                raise ValueError(f"status {response.status}: {content[:200]!r}")
            return from_json(EdgeAnswer, json.loads(content))
        except (OSError, HTTPException, ValueError) as error:
            raise EennError(
                f"the edge did not answer a photograph of the stream ({error}); see {self._said}, "
                "and start the stream again"
            ) from error


@contextmanager
def serving_edge(
    artifact: Path, deployment: Path, cloud_url: str, directory: Path
) -> Iterator[LiveEdge]:
    """Run an edge in its own process, on a free port of loopback, until the block ends.

    The edge writes FIELD_LOG, the guard's STATE and SAID into `directory`, which has none of them.

    Raises:
        EennError: the edge did not start; the message says why.
    """
    arguments = {
        "artifact": artifact,
        "deployment": deployment,
        "cloud": cloud_url,
        "guard-state": directory / STATE,
        "log": directory / FIELD_LOG,
        "serve": 0,
    }
    given = [str(part) for name, value in arguments.items() for part in (f"--{name}", value)]
    # The child finds the packages that this process has found.
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with (
        (directory / SAID).open("x") as log,
        Popen(
            [sys.executable, "-m", command.__name__, *given],
            stdout=PIPE, stderr=log, text=True, env=env,
        ) as process,
    ):  # fmt: skip
        assert process.stdout
        late = Timer(START_S, process.kill)
        late.start()
        line = process.stdout.readline()
        late.cancel()
        if not line.startswith(READY):
            process.kill()
            said = (directory / SAID).read_text().strip()
            raise EennError(f"the edge did not start: {said or f'no answer in {START_S:g} s'}")
        edge = LiveEdge(line.removeprefix(READY).strip(), directory / SAID)
        try:
            yield edge
        finally:
            edge.close()
            process.terminate()
            late = Timer(STOP_S, process.kill)
            late.start()
            process.wait()
            late.cancel()
