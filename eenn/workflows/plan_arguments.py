"""The arguments of the command `eenn-plan`."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from eenn.errors import EennError
from eenn.exits.policies.registry import POLICIES
from eenn.exits.policies.threshold import DEFAULT
from eenn.files import from_json
from eenn.planning.costs import Link
from eenn.planning.engine import Power
from eenn.planning.table import ENERGY, FASTEST, METRICS, WANTED, Objective
from eenn.programs import CONF, PLAN
from eenn.run_directory import read_config

LINKS = CONF / "link"


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; a mistake ends the program with a line about it."""
    parser = argparse.ArgumentParser(
        prog="eenn-plan",
        description="Plan which branches, thresholds, cut and rest a device should use, from its "
        "profile. Writes deployments, and a table of plans from which the device chooses.",
    )
    parser.add_argument("--version", action="version", version=PLAN.version)
    parser.add_argument(
        "--artifact", required=True, metavar="DIR", help="exported artifact, or latest"
    )
    parser.add_argument(
        "--images",
        metavar="PATH",
        help="folder of class folders with the artifact's images, if images or artifact have moved",
    )
    _add_times(parser.add_argument_group("times"))
    _add_goal(parser.add_argument_group("goal"))
    parser.add_argument(
        "--policy", choices=POLICIES, default=DEFAULT, help="exit policy (%(default)s)"
    )
    parser.add_argument(
        "--to",
        type=Path,
        default=Path("plan"),
        metavar="FOLDER",
        help="write deployments and plans there (%(default)s)",
    )
    return parser.parse_args(arguments)


def link_of(text: str) -> Link:
    """Read a link of conf/link, or one in numbers.

    Raises:
        EennError: there is no such link.
    """
    names = sorted(file.stem for file in LINKS.glob("*.yaml"))
    if text in names:
        return named_link(LINKS / f"{text}.yaml")
    try:
        return Link.parse(text)
    except EennError as error:
        raise EennError(f"--link {error}; or one of {', '.join(names)}") from None


def named_link(file: Path) -> Link:
    return from_json(Link, read_config(file))


def power_of(text: str | None) -> Power | None:
    """Read the watts of a device that computes, sends and waits.

    Raises:
        EennError: the text is something else.
    """
    if text is None:
        return None
    try:
        return Power.of("--watts", [float(part) for part in text.split(",")])
    except ValueError:
        raise EennError(f"--watts {text}: allowed are three numbers such as 2.5,1.2,0.6") from None


def objectives_of(text: str, power: Power | None) -> tuple[Objective, ...]:
    """Read objectives, the most important first.

    Raises:
        EennError: a metric does not exist, or it is the energy and the power is not known.
    """
    names = text.split(",")
    if odd := [name for name in names if name not in METRICS]:
        raise EennError(f"--objective {odd[0]}: allowed are {', '.join(METRICS)}")
    if ENERGY in names and power is None:
        raise EennError(f"--objective {ENERGY} needs --watts of the device; give them too")
    return tuple(Objective(name, name in WANTED) for name in names)


def check_limits(given: argparse.Namespace) -> None:
    """Check the limits of the goal.

    Raises:
        EennError: a limit is impossible, or one needs another.
    """
    for flag, share in (("--min-accuracy", given.min_accuracy), ("--max-late", given.max_late)):
        if share is not None and not 0 <= share <= 1:
            raise EennError(f"{flag} {share:g}: allowed is a share, 0 to 1")
    if given.deadline_ms is not None and not 0 < given.deadline_ms < math.inf:
        raise EennError(f"--deadline-ms {given.deadline_ms:g}: allowed is a number above 0")
    if given.max_late is not None and given.deadline_ms is None:
        raise EennError("--max-late without --deadline-ms: late is what comes after it; give both")


def _add_times(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--profile",
        type=Path,
        required=True,
        metavar="FILE",
        help="of the device, as `eenn-edge --profile` writes it there",
    )
    group.add_argument(
        "--measured",
        type=Path,
        metavar="DIR",
        help="artifact that --profile was measured with, where it is another one; times of this "
        "one follow from the work of both",
    )
    group.add_argument(
        "--device",
        type=Path,
        metavar="FILE",
        help="totals of a device that is not at hand; --profile is then that of a device like it",
    )
    group.add_argument(
        "--cloud-profile",
        type=Path,
        metavar="FILE",
        help="of the cloud's machine, as `eenn-edge --profile` writes it there (that of --profile)",
    )
    group.add_argument(
        "--link",
        required=True,
        metavar="NAME",
        help="link of conf/link, or megabits per second and milliseconds, such as 12,50",
    )


def _add_goal(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--objective",
        default=FASTEST.metric,
        metavar="METRIC",
        help="what the best plan has least of, or most of accuracy and device_share; several with "
        "commas, the most important first (%(default)s)",
    )
    group.add_argument(
        "--min-accuracy",
        type=float,
        metavar="SHARE",
        help="least accuracy on validation images (one point below the last exit's)",
    )
    group.add_argument(
        "--deadline-ms", type=float, metavar="MS", help="largest mean latency (none)"
    )
    group.add_argument(
        "--max-late",
        type=float,
        metavar="SHARE",
        help="in place of the mean's limit, the largest share of answers after --deadline-ms",
    )
    group.add_argument(
        "--watts",
        metavar="W,W,W",
        help="of a device that computes, sends and waits, for the objective energy_mj",
    )
