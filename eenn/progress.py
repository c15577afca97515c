"""Tells how far a long loop is: a bar on a terminal, elsewhere a line every few seconds."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")

PAUSE_S = 10.0


class Pace:
    """Words how far a loop is, no more often than once in `PAUSE_S` seconds.

    Args:
        title: what is done, such as `record test`.
        total: how many units there are; 0 where that is not known.
        unit: in the plural.
        clock: gives seconds.
    """

    def __init__(
        self, title: str, total: int, unit: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._title, self._total, self._unit, self._clock = title, total, unit, clock
        self._start = self._told = clock()

    def line(self, done: int) -> str | None:
        """Word how far the loop is; None where that was told only just now.

        Args:
            done: units since the start.
        """
        now = self._clock()
        if now - self._told < PAUSE_S or not done:
            return None
        self._told = now
        if not self._total:
            return f"{self._title}: {done} {self._unit}"
        left_s = (now - self._start) / done * (self._total - done)
        share = f"{100 * done / self._total:.0f} %"
        return (
            f"{self._title}: {done} of {self._total} {self._unit} ({share}), {spoken(left_s)} left"
        )


def counted(items: Iterable[T], title: str, unit: str, total: int | None = None) -> Iterator[T]:
    """Yield the items, and tell on stderr how far they are.

    Args:
        title, unit: as of `Pace`.
        total: how many there are; None where they tell themselves, if they do.
    """
    if on_terminal():
        yield from tqdm(items, title, total, unit=f" {unit}")
        return
    if total is None:
        total = len(items) if isinstance(items, Sized) else 0
    pace = Pace(title, total, unit)
    for done, item in enumerate(items, 1):
        yield item
        if line := pace.line(done):
            print(line, file=sys.stderr, flush=True)


def on_terminal() -> bool:
    """Whether somebody looks at a bar that is drawn over and over."""
    return sys.stderr.isatty()


def spoken(seconds: float) -> str:
    """Word a duration: 45 s, 12 min, 3 h 20 min."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes = round(whole / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
