"""The provenance of a result: data, seed, hardware, versions, commit and date."""

import platform
import subprocess
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from eenn.files import Json
from eenn.programs import IS_CHECKOUT


def provenance(seed: int | str, data: str, hardware: str) -> dict[str, Json]:
    """Describe the origin of a result that this program has just computed.

    Args:
        data: name of the data set.
        hardware: the device that computed it.
    """
    return {
        "data": data,
        "seed": seed,
        "hardware": hardware,
        "torch": version("torch"),
        "git_commit": git_commit(),
        "date": datetime.now().date().isoformat(),
    }


def git_commit() -> str | None:
    """Find the commit that the program runs from; return None outside a checkout."""
    if not IS_CHECKOUT:
        return None  # An installation may lie inside a checkout of something else.
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def processor() -> str:
    """Find the name of this machine's CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(": ", 1)[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
