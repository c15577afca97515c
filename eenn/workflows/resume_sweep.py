"""The command line that completes a sweep, from its file, which cannot name code to run.

Hydra's own settings can call any function, read other configurations and start programs. Where a
file has them, they count only if the user types them again, but for a few that choose a launcher.
"""

import math
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    Override,
    OverrideType,
    QuotedString,
    RangeSweep,
)
from hydra.errors import HydraException

from eenn.cli import quoted_for_hydra
from eenn.errors import EennError
from eenn.models.own_code.trust import names_code
from eenn.programs import CONF, CONFIGURED, Program
from eenn.run_directory import MAX_SHOWN, SWEEP, Sweep

# Of all settings of a file together: Hydra takes seconds for some kB of text, or for a long list.
MAX_CHARACTERS, MAX_PARTS, MAX_DEPTH = 64 * 1024, 1000, 20
MAX_JOBS, MAX_PROCESSES = 10_000, 256
# Hydra's settings that a file may have, each with a test of its value. Joblib's others, such as
# pre_dispatch, are formulas, and other launchers take commands.
_LAUNCHING: Mapping[str, Callable[[object], bool]] = {
    "hydra/launcher": lambda value: value in ("basic", "joblib"),
    "hydra.launcher.n_jobs": lambda value: (
        type(value) is int and value != 0 and -1 <= value <= MAX_PROCESSES
    ),
}
_KEY = re.compile(r"[A-Za-z_][\w-]*(\.[\w-]+)*", re.ASCII)
# A file of conf/ or of one of its folders, not one outside.
_FILE = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*")
# Interpolations with a colon call functions, which read the environment among others.
_NOT_DATA = re.compile(r"_target_|\$\{.*:", re.DOTALL)


def completing(given: Sequence[str], program: Program) -> list[str]:
    """Put the command line of a sweep in place of `resume=SWEEP_DIR`.

    Raises:
        EennError: other settings beside it, another program's sweep, or a file whose settings the
            user has to type again.
    """
    asked = [one for one in given if one.startswith("resume=")]
    if len(asked) != 1:
        return list(given)
    directory = Path(str(OverridesParser.create().parse_override(asked[0]).value()))
    file = directory / SWEEP
    if not file.exists():
        return list(given)
    sweep = Sweep.read(directory)
    name, again = sweep.config_name, typed_again(file, sweep)
    own = {asked[0], "-m", "--multirun", "--config-name", "-cn", name, f"--config-name={name}"}
    if beside := [one for one in given if one not in {*own, *again} and not names_code(one)]:
        raise EennError(f"resume keeps the sweep's own settings; leave out {' '.join(beside)}")
    if not _FILE.fullmatch(name) or not (CONF / f"{name}.yaml").is_file():
        raise EennError(
            f"{file}: config_name={name}: allowed are {', '.join(CONFIGURED)} and files of your "
            f"own in {CONF}"
        )
    if CONFIGURED.get(name, program) != program:
        raise EennError(f"{asked[0]}: the sweep goes on with `{sweep.command(directory)}`")
    if left := [one for one in again if one not in given]:
        shown = shlex.join(left[:MAX_SHOWN]) + (" ..." if len(left) > MAX_SHOWN else "")
        raise EennError(
            f"{file} has settings that may run code: {shown}; if you know and trust them, add them "
            "to the command line"
        )
    place = quoted_for_hydra("hydra.sweep.dir", str(directory))
    return ["-m", f"--config-name={name}", *sweep.launching, place, *sweep.overrides]


def typed_again(file: Path, sweep: Sweep) -> list[str]:
    """List the settings of a sweep that the user has to type again, because they are not mere data.

    Args:
        file: where the sweep was read from, for messages.

    Raises:
        EennError: settings that Hydra does not take, too many of them, or too many jobs.
    """
    settings = (*sweep.launching, *sweep.overrides)
    parts = sum(sign in ",[{(" for one in settings for sign in one)
    depth = max(map(_depth, settings), default=0)
    if sum(map(len, settings)) > MAX_CHARACTERS or parts > MAX_PARTS or depth > MAX_DEPTH:
        raise EennError(
            f"{file}: the settings are too long; allowed are {MAX_CHARACTERS} characters, "
            f"{MAX_PARTS} parts and {MAX_DEPTH} brackets in each other; start a new sweep"
        )
    try:
        parsed = OverridesParser.create().parse_overrides(list(settings))
    except HydraException:
        raise EennError(
            f"{file} does not describe a sweep: settings of another form than KEY=VALUE; start a "
            "new sweep"
        ) from None
    # A comparison that is also false of NaN.
    if not math.prod(_jobs(one.value()) for one in parsed) <= MAX_JOBS:
        raise EennError(f"{file}: more than {MAX_JOBS} jobs; start several smaller sweeps")
    return [text for text, one in zip(settings, parsed, strict=True) if not _is_data(one)]


def _is_data(one: Override) -> bool:
    """Tell whether a setting can do no more than give a value to a key of conf/."""
    key, value = one.key_or_group, one.value()
    if key in _LAUNCHING and one.package is None and one.type is OverrideType.CHANGE:
        return _LAUNCHING[key](value)
    texts = list(_texts(value))
    return (
        one.package is None
        and _KEY.fullmatch(key) is not None
        and key.partition(".")[0] != "hydra"
        and not any(_NOT_DATA.search(text) for text in (key, *texts))
        and (not (CONF / key).is_dir() or all(_FILE.fullmatch(text) for text in texts))
    )


def _texts(value: object) -> Iterator[str]:
    """Yield all texts in a parsed value, also keys of mappings."""
    if isinstance(value, ChoiceSweep):
        value = value.list
    if isinstance(value, str):
        yield value
    elif isinstance(value, QuotedString):
        yield value.text
    elif isinstance(value, list | dict):
        for each in (*value, *value.values()) if isinstance(value, dict) else value:
            yield from _texts(each)


def _depth(setting: str) -> int:
    """Count how many brackets are open at once."""
    steps = ((sign in "[{(") - (sign in ")}]") for sign in setting)
    return max(accumulate(steps), default=0)


def _jobs(value: object) -> float:
    """Count the values of a setting, in no time also for a long range."""
    if isinstance(value, ChoiceSweep):
        return len(value.list)
    if isinstance(value, RangeSweep):
        try:
            return abs(((value.stop or 0) - (value.start or 0)) / value.step)
        except (ZeroDivisionError, OverflowError):
            return math.inf
    return 1
