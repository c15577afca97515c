"""The arguments of `eenn-edge`: what may be given, and the policy and branches that come of it."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from eenn.artifact.manifest import Manifest
from eenn.cli import printable
from eenn.exits.head_sets import PLAIN_HEADS, HeadChoice
from eenn.exits.policies.base import Policy, Validation
from eenn.exits.policies.registry import POLICIES, find_policy, make_policy
from eenn.exits.policies.threshold import DEFAULT
from eenn.exits.settings import ActiveBranches
from eenn.offload.graphs.index import PRECISIONS

KNOBS = {policy.knob.name: policy.knob for policy in POLICIES.values() if policy.knob}


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; what is not allowed ends the program with a line about it."""
    parser = _Parser(
        prog="eenn-edge",
        usage="eenn-edge --artifact DIR [options] (IMAGE ... | --watch DIR | --serve PORT)",
        description="Classify images on this device, and ask the cloud about those that no branch "
        "is sure of. Without a cloud the last active branch answers.",
    )
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="image files")
    parser.add_argument(
        "--artifact", required=True, metavar="DIR", help="artifact with exported graphs"
    )
    _add_sources(parser.add_argument_group("instead of image files"))
    _add_exits(parser.add_argument_group("when an image leaves"))
    _add_cloud(parser.add_argument_group("the cloud"))
    _add_computing(parser.add_argument_group("computing"))
    _add_answers(parser.add_argument_group("answers"))
    given = parser.parse_args(arguments)
    if bool(given.images) + (given.watch is not None) + (given.serve is not None) != 1:
        parser.error("give image files, or --watch DIR, or --serve PORT")
    if given.cloud is None and (given.token_file or given.ca_file or given.payload):
        parser.error("--token-file, --ca-file and --payload are for a --cloud")
    if given.serve is not None and (given.json or given.output):
        parser.error("--json and --output are for images and --watch")
    return given


def policy_of(given: argparse.Namespace, manifest: Manifest) -> Policy:
    """Build the policy that the command line names.

    Raises:
        EennError: a setting that the policy does not have or allow.
    """
    settings: dict[str, object] = {
        name: value for name in KNOBS if (value := getattr(given, name)) is not None
    }
    if given.thresholds is not None:
        settings["p_tar"] = given.thresholds
    knob = find_policy(given.policy).knob
    if knob is not None and knob.name not in settings:
        settings[knob.name] = knob.default
    return make_policy(given.policy, settings, Validation(manifest.validation_accuracy))


def active_of(given: argparse.Namespace, branches: int) -> tuple[int, ...]:
    """Give the active branches that the command line names, counted from 0; all if it does not.

    Raises:
        EennError: a branch that the network does not have, or both --active and --first.
    """
    named = ActiveBranches(active=given.active, first=given.first)
    return named.sets(branches)[0] if named.chosen else tuple(range(branches))


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints quote what was given, as a name may forge lines."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def _add_sources(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--watch", type=Path, metavar="DIR", help="files that appear in a folder")
    group.add_argument(
        "--serve", type=int, metavar="PORT", help="HTTP: POST /classify, GET /health, and a page"
    )
    group.add_argument("--host", default="127.0.0.1", help="to serve at (%(default)s)")


def _add_exits(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--policy", choices=POLICIES, default=DEFAULT, help="(%(default)s)")
    for name, knob in KNOBS.items():
        group.add_argument(
            f"--{name.replace('_', '-')}",
            type=type(knob.default),
            help=f"of policies that have it ({knob.default:g})",
        )
    group.add_argument(
        "--thresholds",
        type=_thresholds,
        metavar="0.9,0.8,0.7",
        help="in place of --p-tar, one for every exit, the last one's included",
    )
    group.add_argument(
        "--active",
        type=_branches,
        metavar="1,3",
        help="branches to evaluate, or none, which leaves all to the cloud (all)",
    )
    group.add_argument(
        "--first", type=int, metavar="N", help="in place of --active, the first N branches"
    )
    group.add_argument(
        "--experts",
        type=HeadChoice.named,
        default=PLAIN_HEADS,
        help="whose heads answer: plain, those of a kind of distortion, or auto, as the distortion "
        "classifier finds (%(default)s)",
    )


def _add_cloud(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--cloud", metavar="URL", help="https://host:port of eenn-cloud")
    group.add_argument("--token-file", type=Path, metavar="FILE", help="holds the bearer token")
    group.add_argument("--ca-file", metavar="FILE", help="certificates to trust, PEM")
    group.add_argument(
        "--payload", choices=("fp32", "fp16", "uint8"), help="features on the wire (fp32)"
    )
    group.add_argument(
        "--deadline-ms",
        type=_positive,
        default=500.0,
        help="when the edge answers if the cloud has not (%(default)s)",
    )


def _add_computing(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--precision", choices=PRECISIONS, default="fp32", help="(%(default)s)")
    group.add_argument("--threads", type=_whole, default=1, help="of each stage (%(default)s)")


def _add_answers(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--json", action="store_true", help="print a JSON object per line")
    group.add_argument(
        "--output",
        type=Path,
        metavar="FILE.jsonl",
        help="append every answer; files that are answered there are left out",
    )


def _branches(text: str) -> tuple[int, ...]:
    if text == "none":
        return ()
    try:
        return tuple(int(branch) for branch in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text}: allowed are branches counted from 1, such as 1,2,3, or none"
        ) from None


def _thresholds(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(threshold) for threshold in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text}: allowed are thresholds from 0 to 1, one for every exit, such as 0.9,0.8,0.7"
        ) from None


def _positive(text: str) -> float:
    if not text.replace(".", "", 1).isdecimal() or not float(text) > 0:
        raise argparse.ArgumentTypeError(f"{text}: allowed is a number above 0")
    return float(text)


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: allowed is a whole number, 1 or more")
    return int(text)
