"""An event loop whose clock a test moves on."""

import asyncio
from collections.abc import Callable


def movable(loop: asyncio.AbstractEventLoop) -> Callable[[float], None]:
    """Give a loop a clock that can be moved on; returns a function that does so, by seconds.

    Whoever waits no longer than that then waits no more.
    """
    real, ahead_s = loop.time, 0.0

    def let_pass(seconds: float) -> None:
        nonlocal ahead_s
        ahead_s += seconds

    loop.time = lambda: real() + ahead_s  # type: ignore[method-assign]
    return let_pass
