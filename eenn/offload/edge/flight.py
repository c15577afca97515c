"""Image files in flight: while the cloud is asked about some, the next ones are computed here."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from threading import Lock, Thread
from typing import NamedTuple, Self

from eenn.offload.edge.batch import Result
from eenn.offload.edge.runtime import EdgeRuntime

MOST_HELD = 256  # images begun, those answered before an earlier one included
ENDING_S = 1.0  # for images under way when the program ends


class Flying(NamedTuple):
    """An image file, and its result once it is there."""

    file: str
    result: Future[Result]


class Flight:
    """Answers image files by a runtime, in order; use it in a `with` block.

    When the block ends early, images whose turn has not come are not begun, and those under way are
    left alone after `ENDING_S` seconds.

    Args:
        at_once: number of images that are under way at once; one image is computed at a time.
    """

    def __init__(self, runtime: EdgeRuntime, at_once: int) -> None:
        self._runtime, self._at_once = runtime, at_once
        self._turn, self._has_ended = Lock(), False
        self._waiting = deque[Flying]()
        self._threads = list[Thread]()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._has_ended = True
        until = time.monotonic() + ENDING_S
        for thread in self._threads:
            thread.join(max(until - time.monotonic(), 0))

    def answers(self, files: Iterable[str]) -> Iterator[Flying]:
        """Yield every file in order, as soon as its result is there, the last ones even before.

        Files are begun in order, the next one as soon as fewer than `at_once` are under way.
        """
        flying = deque[Flying]()
        for file in files:
            flying.append(Flying(file, Future()))
            self._waiting.append(flying[-1])
            self._send()
            while flying:
                if flying[0].result.done():
                    yield flying.popleft()
                    continue
                away = [image.result for image in flying if not image.result.done()]
                if len(away) < self._at_once and len(flying) < MOST_HELD:
                    break
                wait(away, return_when=FIRST_COMPLETED)
        yield from flying

    def _send(self) -> None:
        """Answer the next file, beside others in a thread of its own."""
        if self._at_once == 1:
            return self._answer()
        # A thread that a broken disk or cloud holds must not keep the program from its end.
        thread = Thread(target=self._answer, daemon=True)
        self._threads = [*(own for own in self._threads if own.is_alive()), thread]
        return thread.start()

    def _answer(self) -> None:
        """Answer the first file that waits, once the files before it have been computed."""
        with self._turn:
            if self._has_ended:
                return None
            image = self._waiting.popleft()
            try:
                batch = self._runtime.begin(image.file)
            except Exception as error:
                return image.result.set_exception(error)
        try:
            (result,) = self._runtime.finish(batch)
        except Exception as error:
            return image.result.set_exception(error)
        return image.result.set_result(result)
