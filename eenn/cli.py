"""How scripts talk on a terminal: a user's mistake in one clear line, how far a long loop is."""

import io
import json
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from typing import TypeVar

from eenn.errors import EennError
from eenn.programs import EVALUATE, TRAIN_EXPERTS

# HYDRA_FULL_ERROR is Hydra's own switch for full tracebacks. A user who sets it gets them from us
# too; otherwise it is set for Hydra alone, so that its errors come here instead of ending in its
# own long report. Further processes of the same run inherit what the user asked for.
_ASKED = "EENN_TRACEBACKS"
os.environ.setdefault(_ASKED, os.environ.get("HYDRA_FULL_ERROR", ""))
os.environ["HYDRA_FULL_ERROR"] = "1"

# Keys that were once, or that belong to another program.
_INSTEAD = {
    "artifact": f"experts are trained by {TRAIN_EXPERTS}",
    "artifacts": "several are given as artifact=[DIR,DIR]",
    "data.augmentation": "give augmentation.NAME=VALUE",
    "distortion.level": "with distortions, levels are given as distortions.KIND=[LEVEL,LEVEL]",
    "distortion.kind": "with distortions, levels are given as distortions.KIND=[LEVEL,LEVEL]",
    "distortions": f"{EVALUATE.command} reads it, and experts are trained by {TRAIN_EXPERTS}",
    "resume": f"{EVALUATE.command} completes sweeps by it, and SWEEP_DIR has a sweep.json",
    "expert_training": f"it is recipe of {TRAIN_EXPERTS}",
}

_TWICE = """a value with spaces needs two pairs of quotes, as in 'data.root="/my photos"'"""


T = TypeVar("T")

PAUSE_S = 10.0  # between lines about a loop


@contextmanager
def one_line_errors(job: str | None = None) -> Iterator[None]:
    """End the program with one line if the block meets an error that the user can mend.

    Those are ours, the operating system's about files, and those of the configuration. Anything
    else is a bug and keeps its traceback. What the terminal has no sign for is escaped from here
    on, as it is on stderr.

    Args:
        job: name of a sweep's job. The others go on, so the line is printed and nothing ends.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        yield
    except Exception as error:
        line = line_of(error)
        if line is None or os.environ[_ASKED]:
            raise
        said = f"error: {line}" if job is None else f"error in job {job}: {line}"
        print(printable(said), file=sys.stderr)
        if job is None:
            raise SystemExit(1) from None


def printable(text: str) -> str:
    """Escape what would not print as itself, so that a text is one line and says what it holds.

    That are controls, ends of lines, marks that turn the direction of writing, and bytes of a name
    that are not UTF-8.
    """
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def unknown_key(beside: Mapping[str, Iterable[str]]) -> str:
    """The line for settings that nothing reads; one with another name or place is named first.

    Args:
        beside: what the keys beside each of them are called.
    """
    key = next((key for key in beside if key in _INSTEAD), next(iter(beside)))
    mend = f"{_INSTEAD[key]}; " if key in _INSTEAD else ""
    if "/" in key:
        mend = f"{_TWICE}; "
    return f"{key} is not a setting here; {mend}allowed are {', '.join(beside[key]) or 'none'}"


def written(value: object) -> str:
    """A setting's value as users write it: null, true, a text as it is."""
    return value if isinstance(value, str) else json.dumps(value)


def quoted(key: str, value: str) -> str:
    """A setting quoted for the shell and for Hydra, which each take a pair of quotes away."""
    return shlex.quote(assigned(key, value))


def assigned(key: str, value: str) -> str:
    """A setting quoted for Hydra alone."""
    inner = value.replace('"', r"\"")
    return f'{key}="{inner}"'


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
        # Imported here, as a device has no tqdm.
        from tqdm import tqdm

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


def line_of(error: Exception) -> str | None:
    """Say in one line what the user can mend; None for a bug."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, EennError):
            return str(cause)
        # That of a data source comes wrapped in Hydra's.
        cause = cause.__cause__
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if type(error).__module__.split(".")[0] in ("hydra", "omegaconf"):
        return _of_configuration(error)
    if type(error).__name__ == "MisconfigurationException":
        return f"trainer: {error}"
    return None


def _of_configuration(error: Exception) -> str:
    # What Hydra's errors carry, asked for by name: an edge device does not have Hydra.
    carried = {**vars(error), **vars(error.__cause__ or error)}
    text = str(error)
    if ambiguous := re.match(r"Ambiguous value for argument '(.*)'\n", text):
        return _quoted_twice(ambiguous[1])
    if override := carried.get("override"):
        return _quoted_twice(override)
    if options := carried.get("options"):
        group, _, name = carried["missing_cfg_file"].rpartition("/")
        return f"{group}={name}: allowed are {', '.join(options)}"
    if missing := re.search(r"Missing mandatory value: (\S+)", text):
        return f"{missing[1]} is missing; give {missing[1]}=VALUE"
    if error.__cause__ and "full_key" in carried:
        return unknown_key({carried["full_key"]: map(str, carried["parent_node"])})
    # A resolver's own error comes wrapped in OmegaConf's.
    text = text.removeprefix("EennError raised while resolving interpolation: ")
    return " ".join(re.split("To append|full_key:", text)[0].split())


def _quoted_twice(override: str) -> str:
    """How to give a value that has characters with a meaning of their own in Hydra's grammar."""
    key, equals, value = override.partition("=")
    if not equals:
        return f"{override} is not of the form KEY=VALUE; {_TWICE}"
    return (
        f"{override}: a value with spaces, commas, = or other signs needs two pairs of quotes, one "
        f"for the shell and one for Hydra: {quoted(key, value)}; lists go in brackets, several "
        "values for a sweep behind -m"
    )
