"""Reloading of the deployment file by a serving edge on SIGHUP.

The new deployment is opened beside the running one, so that a refused file has no effect. Every
image is answered by one runtime, the old one or the new one.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from types import FrameType
from typing import Self

from eenn.artifact.deployment import Deployment
from eenn.errors import EennError
from eenn.files import JsonObject
from eenn.offload.edge.runtime import EdgeRuntime
from eenn.offload.edge.server import EdgeServer

Say = Callable[[str], None]
# Reads the deployment from its file and the flags, reports it, and opens its runtime until the
# block ends.
Opening = Callable[[Say], AbstractContextManager[tuple[Deployment, EdgeRuntime]]]


@contextmanager
def serve_reloading(
    file: Path | None, opening: Opening, host: str, port: int, say: Say
) -> Iterator[EdgeServer]:
    """Serve by a deployment, and reload it on SIGHUP; for the main thread.

    Args:
        file: the deployment file; without one SIGHUP is answered by a refusal.

    Raises:
        EennError: raised by `EdgeServer` or `opening`.
    """
    with ExitStack() as held:
        server, summary = _started(held, opening, host, port, say)
        with server, _Reloading(server, held, opening if file else None, summary, say):
            yield server


def _started(
    held: ExitStack, opening: Opening, host: str, port: int, say: Say
) -> tuple[EdgeServer, str]:
    """Start the server, sole owner of the runtime; return also the deployment in words."""
    deployment, runtime = held.enter_context(opening(say))
    return EdgeServer(host, port, runtime, _shown(deployment)), _in_words(deployment)


class _Reloading:
    """Reloads the deployment on SIGHUP while its block lasts.

    Args:
        held: open resources of the server's runtime; they change with the runtime.
        summary: the running deployment, in words.
    """

    def __init__(
        self, server: EdgeServer, held: ExitStack, opening: Opening | None, summary: str, say: Say
    ) -> None:
        self._server, self._held, self._opening = server, held, opening
        self._summary, self._say = summary, say
        # The queue's `put` may be interrupted by another `put`, when the next signal comes.
        self._asked: SimpleQueue[bool] = SimpleQueue()
        # The main thread accepts connections meanwhile, and a signal may interrupt it anywhere.
        self._thread = Thread(target=self._follow, name="reload", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._before = signal.signal(signal.SIGHUP, self._ask)
        return self

    def __exit__(self, *exception: object) -> None:
        signal.signal(signal.SIGHUP, self._before)
        self._asked.put(False)
        self._thread.join()

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self._asked.put(True)

    def _follow(self) -> None:
        while self._asked.get():
            if self._opening is None:
                self._refuse("eenn-edge was started without a deployment file")
                continue
            try:
                self._take(self._opening)
            except (EennError, OSError) as error:
                self._refuse(str(error))
            except Exception as error:
                self._refuse(f"{type(error).__name__}: {error}; a bug")

    def _take(self, opening: Opening) -> None:
        said, taken = list[str](), False

        def say(line: str) -> None:
            """Collect lines of the opening; later ones are the running deployment's."""
            (self._say if taken else said.append)(line)

        self._server.save()  # the new deployment's guard goes on from there
        with ExitStack() as opened:
            deployment, runtime = opened.enter_context(opening(say))
            self._server.use(runtime, _shown(deployment))
            before, now, taken = self._held.pop_all(), opened.pop_all(), True
        self._held.push(now)
        self._summary = _in_words(deployment)
        before.close()
        self._say(f"SIGHUP: took {'; '.join(said)}")

    def _refuse(self, reason: str) -> None:
        self._say(f"SIGHUP: refused: {reason}; goes on with {self._summary}")


def _shown(deployment: Deployment) -> JsonObject:
    """List the settings of a deployment that /health shows besides those of the runtime."""
    setting = deployment.setting
    return {
        "policy": setting.name,
        setting.knob: setting.value,
        "fallback": deployment.policy.fallback_to,
        "temperature": deployment.temperature,
        "experts": str(deployment.experts),
        "precision": deployment.precision,
        "rest": deployment.rest,
        "payload": deployment.payload,
        "cut": deployment.cut,
        "upstream": None if deployment.upstream is None else deployment.upstream.artifact_id,
        "deadline_ms": deployment.deadline_ms,
        "on_failure": deployment.on_failure,
    }


def _in_words(deployment: Deployment) -> str:
    setting = deployment.setting
    return f"{setting.policy_text}, branches {setting.branches or 'none'}"
