"""The arguments of the command `eenn-edge`."""

import argparse
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import NoReturn

from eenn.artifact.deployment import ANSWER, DEADLINE_MS, FILE, ON_FAILURE, PAYLOADS
from eenn.artifact.guard_settings import GuardSettings
from eenn.cli import printable
from eenn.exits.head_sets import HeadChoice
from eenn.exits.policies.registry import POLICIES
from eenn.exits.policies.threshold import DEFAULT
from eenn.exits.rests import CLOUD, RESTS
from eenn.offload.edge.argument_values import (
    MOST_IN_FLIGHT,
    OFF,
    blocks_of,
    branches_of,
    guard_of,
    in_flight_of,
    link_of,
    positive_of,
    size_of,
    thresholds_of,
    whole_of,
)
from eenn.offload.edge.plans import FILE as PLANS
from eenn.offload.graphs.index import PRECISIONS
from eenn.programs import EDGE
from eenn.statistics.calibration import CHOICES

# Settings of policies that have a flag, with their defaults.
SETTINGS: dict[str, float | str] = {
    **{policy.knob.name: policy.knob.default for policy in POLICIES.values() if policy.knob},
    **{
        own.name: own.default
        for policy in POLICIES.values()
        for own in fields(policy)
        if isinstance(own.default, bool | int | float | str)
    },
}
# Fields of a deployment that have a flag of the same name.
FLAGS = (
    "temperature",
    "experts",
    "precision",
    "rest",
    "payload",
    "cut",
    "upstream",
    "deadline_ms",
    "on_failure",
    "guard",
)
PROFILE = Path("profile.json")
# Arguments that go with --profile.
_PROFILED = ("artifact", "images", "profile", "precision", "threads", "experts")


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; a mistake ends the program with a line about it."""
    parser = _Parser(
        prog="eenn-edge",
        usage="eenn-edge --artifact DIR [options] (IMAGE ... | --watch DIR | --serve PORT | "
        "--profile [FILE.json] [IMAGE ...])",
        description="Classify images on this device, and ask the cloud about those that no branch "
        "is sure of. Without a cloud the last active branch answers.",
    )
    parser.add_argument("--version", action="version", version=EDGE.version)
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="image files")
    parser.add_argument(
        "--artifact", required=True, metavar="DIR", help="artifact with exported graphs"
    )
    parser.add_argument(
        "--deployment",
        type=Path,
        metavar="FILE",
        help="deployment file that evaluate.py fitted; flags below override single settings "
        f"({FILE} in the artifact's folder, if there is one)",
    )
    _add_plans(parser.add_argument_group("a table of plans in place of a deployment file"))
    _add_sources(parser.add_argument_group("instead of image files"))
    _add_exits(parser.add_argument_group("when an image leaves"))
    _add_cloud(parser.add_argument_group("the cloud"))
    _add_computing(parser.add_argument_group("computing"))
    _add_guard(parser.add_argument_group("when the images change"))
    _add_answers(parser.add_argument_group("answers"))
    given = parser.parse_args(arguments)
    if given.profile is not None:
        return _checked_profile(parser, given)
    if bool(given.images) + (given.watch is not None) + (given.serve is not None) != 1:
        parser.error("give image files, or --watch DIR, or --serve PORT, or --profile")
    for_cloud = (given.token_file, given.ca_file, given.payload, given.cut)
    if given.cloud is None and any(value is not None for value in for_cloud):
        parser.error("--token-file, --ca-file, --payload and --cut need --cloud URL")
    if given.cloud is None and given.guard not in (None, OFF):
        parser.error("--guard needs --cloud URL, whose answers it compares with")
    if given.keep_at_most is not None and given.keep_audits is None:
        parser.error("--keep-at-most needs --keep-audits DIR, whose files it bounds")
    if given.serve is not None and (given.json or given.output):
        parser.error("--json and --output go with images or --watch, not with --serve")
    if given.serve is not None and given.in_flight > 1:
        parser.error("--in-flight goes with images or --watch; of --serve the clients decide it")
    _find_files(parser, given)
    return given


def _checked_profile(parser: "_Parser", given: argparse.Namespace) -> argparse.Namespace:
    """Check what stands beside --profile; a file that is not JSON is the first image."""
    if given.profile.suffix != PROFILE.suffix:
        given.images.insert(0, str(given.profile))
        given.profile = PROFILE
    for name, value in vars(given).items():
        if name not in _PROFILED and value != parser.get_default(name):
            parser.error(
                f"{_flag(name)} does not go with --profile, which measures this device alone; "
                "allowed are image files, --precision, --threads and --experts"
            )
    return given


def _find_files(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    """Take the deployment or the plans of the artifact's folder where no file is given."""
    conditions = (given.link, given.slowdown, given.cloud_load)
    if given.plans is not None and given.deployment is not None:
        parser.error("--plans and --deployment: give one of them")
    if given.plans is None and given.deployment is None:
        deployment, plans = (Path(given.artifact) / name for name in (FILE, PLANS))
        given.deployment = deployment if deployment.is_file() else None
        given.plans = plans if given.deployment is None and plans.is_file() else None
    if given.plans is None and any(own is not None for own in (given.plan, *conditions)):
        parser.error("--plan, --link, --slowdown and --cloud-load need --plans FILE")
    if given.plan is not None and any(own is not None for own in conditions):
        parser.error("--plan N with --link, --slowdown or --cloud-load, which choose a plan")


class _Parser(argparse.ArgumentParser):
    """A parser that escapes control characters in errors, so that names cannot forge lines."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def _add_plans(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--plans",
        type=Path,
        metavar="FILE",
        help=f"table that eenn-plan wrote; the best plan under the conditions below is followed "
        f"({PLANS} in the artifact's folder, if there is one and no {FILE})",
    )
    group.add_argument(
        "--link",
        type=link_of,
        metavar="MBPS,MS",
        help="bandwidth in megabits per second and round trip in milliseconds (as planned for)",
    )
    group.add_argument(
        "--slowdown",
        type=positive_of,
        metavar="FACTOR",
        help="time of a part on this device over its time as profiled (as planned for)",
    )
    group.add_argument(
        "--cloud-load",
        type=positive_of,
        metavar="FACTOR",
        help="time in the cloud, queues included, over its time as profiled (as planned for)",
    )
    group.add_argument(
        "--plan", type=whole_of, metavar="N", help="in place of the best plan, that of row N"
    )


def _add_sources(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--watch", type=Path, metavar="DIR", help="classify files that appear in a folder"
    )
    group.add_argument(
        "--serve",
        type=int,
        metavar="PORT",
        help="serve HTTP: POST /classify, GET /health, and a page",
    )
    group.add_argument("--host", default="127.0.0.1", help="address to serve at (%(default)s)")
    group.add_argument(
        "--profile",
        type=Path,
        nargs="?",
        const=PROFILE,
        metavar="FILE.json",
        help="measure every part of the network on this device, on the image files if there are "
        f"any, and write the times to a new file ({PROFILE})",
    )


def _add_exits(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--policy", choices=POLICIES, help=f"exit policy ({DEFAULT})")
    for name, default in SETTINGS.items():
        flag = _flag(name)
        text = f"setting of policies that have it ({default})"
        if isinstance(default, bool):
            group.add_argument(
                flag, dest=name, action=argparse.BooleanOptionalAction, default=None, help=text
            )
        else:
            group.add_argument(flag, dest=name, type=type(default), help=text)
    group.add_argument(
        "--thresholds",
        type=thresholds_of,
        metavar="0.9,0.8,0.7",
        help="in place of --p-tar, one for every exit, the last one's included",
    )
    group.add_argument(
        "--active",
        type=branches_of,
        metavar="1,3",
        help="branches to evaluate, or none, which leaves all to the cloud (all)",
    )
    group.add_argument(
        "--first", type=int, metavar="N", help="in place of --active, the first N branches"
    )
    group.add_argument(
        "--experts",
        type=HeadChoice.named,
        help="head set that answers: plain, that of a kind of distortion, or auto, as the "
        "distortion classifier finds (plain)",
    )
    group.add_argument(
        "--temperature", choices=CHOICES, help="temperatures that calibrate (per_exit)"
    )


def _add_cloud(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--cloud", metavar="URL", help="https://host:port of eenn-cloud")
    group.add_argument("--token-file", type=Path, metavar="FILE", help="file with the bearer token")
    group.add_argument("--ca-file", metavar="FILE", help="certificates to trust, PEM")
    group.add_argument(
        "--rest",
        choices=RESTS,
        help="where images that no branch accepts are answered: cloud, device, or nobody, which "
        f"leaves the answer to the last active branch ({CLOUD})",
    )
    group.add_argument(
        "--payload",
        choices=PAYLOADS,
        help="content sent to the cloud: features in a format, or the photograph's file (fp32)",
    )
    group.add_argument(
        "--cut",
        type=blocks_of,
        metavar="N",
        help="blocks that run here before features are sent (those up to the last active branch)",
    )
    group.add_argument(
        "--upstream",
        type=Path,
        metavar="DIR",
        help="a larger network's artifact that answers from the photograph, in the cloud or here",
    )
    group.add_argument(
        "--on-failure",
        choices=ON_FAILURE,
        help="when the cloud fails: answer from the branches, or continue with the rest of the "
        f"network here if time allows ({ANSWER})",
    )
    group.add_argument(
        "--deadline-ms",
        type=positive_of,
        help=f"time limit for the cloud, after which the edge answers ({DEADLINE_MS:g})",
    )


def _add_computing(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--precision", choices=PRECISIONS, help="precision of the graphs (fp32)")
    group.add_argument(
        "--threads", type=whole_of, default=1, help="threads of each stage (%(default)s)"
    )
    group.add_argument(
        "--in-flight",
        type=in_flight_of,
        default=1,
        metavar="N",
        help=f"images under way at once, 1 to {MOST_IN_FLIGHT}: while the cloud is asked about "
        "some, the next one is computed here; answers keep the order of the files (%(default)s)",
    )


def _add_guard(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--guard",
        type=guard_of,
        metavar=str(GuardSettings()),
        help="audit answers, and fit the threshold anew when images change, so that at most this "
        f"share of the images leaves with another answer than the cloud's; or {OFF}",
    )
    group.add_argument(
        "--guard-state",
        type=Path,
        metavar="FILE",
        help="file of the guard's state, from which a restarted edge goes on (guard.json in the "
        "artifact's folder)",
    )
    group.add_argument(
        "--keep-audits",
        type=Path,
        metavar="DIR",
        help="keep the photographs of audits, metadata included, in DIR/differs/CLASS and "
        "DIR/agrees/CLASS by the cloud's answer, as hard cases for the next training",
    )
    group.add_argument(
        "--keep-at-most",
        type=size_of,
        metavar="SIZE",
        help="bound for all photographs kept, such as 2GB or 64MiB, above which the oldest go; "
        "those that agree first (500MB)",
    )


def _add_answers(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--json", action="store_true", help="print a JSON object per line")
    group.add_argument(
        "--output",
        type=Path,
        metavar="FILE.jsonl",
        help="append every answer to this file; images already answered there are left out",
    )
    group.add_argument(
        "--log",
        type=Path,
        metavar="FIELD.jsonl",
        help="append a line about every image to this field log, without its name and answer; "
        "`evaluate.py field=FIELD.jsonl` reports on it",
    )


def _flag(name: str) -> str:
    """Name the flag of an argument."""
    return f"--{name.removesuffix('_to').replace('_', '-')}"
