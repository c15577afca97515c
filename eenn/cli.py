"""Messages on a terminal: a user's mistake as one clear line, and the progress of a long loop."""

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

# Hints for keys of earlier versions and of other programs.
_INSTEAD = {
    "artifact": f"experts are trained by {TRAIN_EXPERTS}",
    "artifacts": f"{EVALUATE.command} reads it",
    "build": "a training reads model.build",
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
    """End the program with one line if the block raises an error that the user can mend.

    Such errors are EennError, the operating system's errors about files, and errors of the
    configuration. Any other error is a bug and keeps its traceback. From here on, stdout escapes
    characters that the terminal cannot encode, as stderr does.

    Args:
        job: name of a sweep's job; the line is then printed and the program goes on with the other
            jobs.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        yield
    except Exception as error:
        line = error_line(error)
        if line is None or os.environ[_ASKED]:
            raise
        said = f"error: {line}" if job is None else f"error in job {job}: {line}"
        print(printable(said), file=sys.stderr)
        if job is None:
            raise SystemExit(1) from None


def printable(text: str) -> str:
    """Escape characters that are not printable, so that a text stays on one line.

    These are control characters, line ends, marks that change the writing direction, and bytes of a
    name that are not UTF-8.
    """
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def unknown_key(beside: Mapping[str, Iterable[str]]) -> str:
    """Word the error about unknown settings; it names one with a known replacement, if any.

    Args:
        beside: for each unknown key, the allowed keys in its place.
    """
    key = next((key for key in beside if key in _INSTEAD), next(iter(beside)))
    mend = f"{_INSTEAD[key]}; " if key in _INSTEAD else ""
    if "/" in key:
        mend = f"{_TWICE}; "
    return f"{key} is not a setting here; {mend}allowed are {', '.join(beside[key]) or 'none'}"


def setting_text(value: object) -> str:
    """Format a setting's value as users write it: null, true, a text without quotes."""
    return value if isinstance(value, str) else json.dumps(value)


def quoted_for_shell(key: str, value: str) -> str:
    """Quote a setting for the shell and for Hydra, which each remove one pair of quotes."""
    return shlex.quote(quoted_for_hydra(key, value))


def quoted_for_hydra(key: str, value: str) -> str:
    """Quote a setting for Hydra alone."""
    inner = value.replace('"', r"\"")
    return f'{key}="{inner}"'


class Pace:
    """Words the progress of a loop, at most once in `PAUSE_S` seconds.

    Args:
        title: of the task, such as `record test`.
        total: number of units; 0 if unknown.
        unit: name of the units, in the plural.
        clock: returns the time in seconds.
    """

    def __init__(
        self, title: str, total: int, unit: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._title, self._total, self._unit, self._clock = title, total, unit, clock
        self._start = self._told = clock()

    def line(self, done: int) -> str | None:
        """Word the progress; return None within `PAUSE_S` seconds after the last line.

        Args:
            done: units completed since the start.
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
            f"{self._title}: {done} of {self._total} {self._unit} ({share}), "
            f"{duration_text(left_s)} left"
        )


def with_progress(
    items: Iterable[T], title: str, unit: str, total: int | None = None
) -> Iterator[T]:
    """Yield the items, and show the progress on stderr.

    Args:
        title, unit: see `Pace`.
        total: number of items; None to ask `len(items)`, where items have a length.
    """
    if is_on_terminal():
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


def is_on_terminal() -> bool:
    """Tell whether stderr is a terminal, which can show a progress bar."""
    return sys.stderr.isatty()


def duration_text(seconds: float) -> str:
    """Word a duration: 45 s, 12 min, 3 h 20 min."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes = round(whole / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def error_line(error: Exception) -> str | None:
    """Word an error in one line if the user can mend it; return None for a bug."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, EennError):
            return str(cause)
        # An error of a data source comes wrapped in one of Hydra's.
        cause = cause.__cause__
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if type(error).__module__.split(".")[0] in ("hydra", "omegaconf"):
        return _of_configuration(error)
    if type(error).__name__ == "MisconfigurationException":
        return f"trainer: {error}"
    return None


def _of_configuration(error: Exception) -> str:
    # Attributes of Hydra's errors are read by name, because an edge device does not have Hydra.
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
    """Explain the quotes for a value with characters that have a meaning in Hydra's grammar."""
    key, equals, value = override.partition("=")
    if not equals:
        return f"{override} is not of the form KEY=VALUE; {_TWICE}"
    return (
        f"{override}: a value with spaces, commas, = or other signs needs two pairs of quotes, one "
        f"for the shell and one for Hydra: {quoted_for_shell(key, value)}; lists go in "
        "brackets, several values for a sweep behind -m"
    )
