"""The command `eenn-plan`: from the profile of a device to deployments, and a table of all plans.

eenn-plan --artifact DIR --profile profile.json --link rio_saopaulo --min-accuracy 0.9
eenn-plan --artifact DIR --profile reference.json --device device.json --link 12,50
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from eenn.artifact.deployment import FILE as DEPLOYMENT
from eenn.artifact.deployment import Deployment
from eenn.cli import one_line_errors
from eenn.errors import EennError
from eenn.exits.head_sets import PLAIN_HEADS
from eenn.exits.policies.base import Ints, Outputs, Policy, Validation
from eenn.exits.policies.registry import POLICIES, find_policy, make_policy
from eenn.exits.policies.threshold import DEFAULT
from eenn.exits.rests import CLOUD
from eenn.files import from_json, new_directory
from eenn.offload.bench.deployments import PlanInputs, deployment_of, write_deployments
from eenn.offload.edge.plans import FILE as PLANS
from eenn.offload.edge.plans import Plans
from eenn.offload.graphs.index import Graphs
from eenn.offload.graphs.pieces import borders
from eenn.planning.costs import Link
from eenn.planning.device_file import DeviceFile
from eenn.planning.device_prediction import doubts, scaled
from eenn.planning.device_profile import DeviceProfile
from eenn.planning.engine import Conditions, Power
from eenn.planning.exhaustive import WITHOUT_BRANCHES, Plan, plan, variants
from eenn.planning.planners.comparison import Comparison
from eenn.planning.profiled import profiled_times
from eenn.planning.table import (
    ACCURACY,
    FASTEST,
    LATE,
    METRICS,
    WANTED,
    Goal,
    Limit,
    NoPlan,
    Objective,
    Table,
)
from eenn.planning.times import Route
from eenn.programs import CONF, PLAN
from eenn.reports.tables import table as printed_table
from eenn.run_directory import find_artifact, read_config

if TYPE_CHECKING:
    from eenn.records.evaluated_artifact import EvaluatedArtifact

LINKS = CONF / "link"
SLOWDOWNS = (1.0, 10.0)
# One percentage point below the last exit, where no accuracy is asked for.
GIVEN_UP = 0.01


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command: plan, and write the deployments and the table."""
    given = _parser().parse_args(arguments)
    with one_line_errors():
        _plan(given)


@dataclass(frozen=True)
class _Found:
    """The plans that were found: all of them, the best one's row, and that of every route."""

    every: Table[Plan]
    best: int
    others: tuple[int, ...]


def _plan(given: argparse.Namespace) -> None:
    if given.to.exists():
        raise EennError(f"--to {given.to} exists already; choose another directory")
    link, power = _link(given.link), _power(given.watts)
    if given.max_late is not None and given.deadline_ms is None:
        raise EennError("--max-late without --deadline-ms: late is what comes after it; give both")
    device = DeviceProfile.load(given.profile)
    cloud = DeviceProfile.load(given.cloud_profile or given.profile)
    graphs = Graphs.read(find_artifact(given.artifact))
    if device.artifact_id != graphs.manifest.id:
        raise EennError(
            f"{given.profile} is of artifact {device.artifact_id:.12}, {graphs.manifest.path} is "
            f"{graphs.manifest.id:.12}; measure this one with `eenn-edge --profile`"
        )
    if given.device is not None:
        device = _scaled(device, given.device, graphs)
    # Imported here because torch takes seconds, and a wrong file should fail at once.
    from eenn.records.evaluated_artifact import open_artifact

    artifact = open_artifact(given.artifact, given.images)
    times = profiled_times(device, cloud, link, borders(graphs.manifest), artifact.photograph_bytes)
    outputs = _outputs(artifact)
    goal = _goal(given, outputs)
    at = replace(times.conditions, deadline_ms=given.deadline_ms or math.inf)
    from eenn.evaluation.answers import kept

    policies = variants([_policy(given.policy, artifact)], artifact.branches)
    every = plan(times, kept(artifact, PLAIN_HEADS), outputs, policies)
    found = _chosen(every, goal, at, power)
    shared = Deployment(
        artifact_id=artifact.manifest.id, policy=WITHOUT_BRANCHES, active=(),
        precision=device.precision,
    )  # fmt: skip
    made = PlanInputs(shared, times, outputs, None, None, str(goal))
    best, others = every.designs[found.best], [every.designs[row] for row in found.others]
    lasting = every.at(_keeping(every, goal, at)).pruned(goal)
    deployments = [deployment_of(one, made) for one in lasting]
    plans = Plans(
        artifact.manifest.id, device.device, f"{len(outputs.labels)} validation images",
        datetime.now().date().isoformat(), goal, power, at, lasting.of_designs(deployments),
    )  # fmt: skip
    with new_directory(given.to) as new:
        write_deployments(new, best, others, made)
        plans.save(new / PLANS)
    print(printed_table(_rows(every, found, at)))
    print(f"\n{printed_table(_by_link(plans))}\n")
    print(f"deployment: {given.to / DEPLOYMENT}\nplans: {given.to / PLANS}, {len(lasting)} of them")
    print(f"on the device: eenn-edge --artifact DIR --plans {PLANS} --cloud URL")


def _scaled(reference: DeviceProfile, file: Path, graphs: Graphs) -> DeviceProfile:
    """Predict the profile of a device that is not at hand."""
    from eenn.offload.export.work import work_of

    device = DeviceFile.load(file)
    for doubt in doubts(reference, device):
        print(f"warning: {doubt}")
    return scaled(reference, device, work_of(graphs))


def _outputs(artifact: "EvaluatedArtifact") -> Outputs:
    """Give the outputs of every exit on undistorted validation images."""
    from eenn.data.distortions import DISTORTIONS
    from eenn.evaluation.answers import answers
    from eenn.evaluation.grid import exit_outputs

    kind = next(iter(DISTORTIONS))
    return exit_outputs(*answers(artifact, "val", kind, 0, PLAIN_HEADS, "per_exit"))


def _policy(name: str, artifact: "EvaluatedArtifact") -> Policy:
    """Make a policy with its knob's default; the planner tries other values as well."""
    knob = find_policy(name).knob
    settings = {knob.name: knob.default} if knob is not None else {}
    return make_policy(name, settings, Validation(artifact.manifest.validation_accuracy))


def _goal(given: argparse.Namespace, outputs: Outputs) -> Goal:
    """Set out the goal that the flags ask for."""
    least = given.min_accuracy
    if least is None:
        least = float((outputs.exits[-1].prediction == outputs.labels).mean()) - GIVEN_UP
    limits = [Limit(ACCURACY, least=least)]
    if given.max_late is not None:
        limits.append(Limit(LATE, most=given.max_late))
    elif given.deadline_ms is not None:
        limits.append(Limit(FASTEST.metric, most=given.deadline_ms))
    objectives = tuple(Objective(name, name in WANTED) for name in given.objective.split(","))
    if odd := [own.metric for own in objectives if own.metric not in METRICS]:
        raise EennError(f"--objective {odd[0]}: allowed are {', '.join(METRICS)}")
    return Goal(objectives, tuple(limits))


def _chosen(every: Table[Plan], goal: Goal, at: Conditions, power: Power | None) -> _Found:
    """Choose the best plan of all, and of every rest and payload.

    Raises:
        NoPlan: no plan keeps the goal's limits.
    """
    best = every.choose(at, goal, power)
    routes: dict[Route, list[int]] = {}
    for row, one in enumerate(every):
        routes.setdefault(replace(one.route, cut=None), []).append(row)
    others = []
    for rows in routes.values():
        try:
            others.append(rows[every.at(rows).choose(at, goal, power)])
        except NoPlan:
            continue
    latency_ms = every.metric(FASTEST.metric, at)
    return _Found(every, best, tuple(sorted(others, key=lambda row: float(latency_ms[row]))))


def _keeping(every: Table[Plan], goal: Goal, at: Conditions) -> Ints:
    """Find the plans that keep the limits that no link changes."""
    lasting = [own for own in goal.limits if own.metric == ACCURACY]
    return every.equally_good(at, Goal((), tuple(lasting)))


def _rows(every: Table[Plan], found: _Found, at: Conditions) -> list[dict[str, str]]:
    """Print the best plan of every route as rows of a table."""
    p95_ms, late = (every.metric(name, at) for name in ("p95_ms", LATE))
    return [
        {
            "": "best" if row == found.best else "",
            "rest": str(own.route).replace("-", ", "),
            "active": own.setting.branches or "none",
            "policy": own.setting.policy_text if own.setting.active else "-",
            "ms": f"{own.latency_ms:.1f}",
            "p95 ms": f"{p95_ms[row]:.1f}",
            "late %": f"{100 * late[row]:.1f}",
            "accuracy %": f"{100 * own.accuracy:.1f}",
            "on the edge %": f"{100 * own.edge_probability:.0f}",
            "kB sent": f"{own.sent_bytes / 1e3:.1f}",
        }
        for row, own in ((row, every.designs[row]) for row in found.others)
    ]


def _by_link(plans: Plans) -> list[dict[str, str]]:
    """Print the plans that the device takes on every link of conf/link, slower ones included."""
    return [
        {
            "link": f"{file.stem}, {link}",
            **{f"{slower:g} x as slow": _taken(plans, link, slower) for slower in SLOWDOWNS},
        }
        for file, link in ((file, _named_link(file)) for file in sorted(LINKS.glob("*.yaml")))
    ]


def _taken(plans: Plans, link: Link, slowdown: float) -> str:
    """Print the plan that a device takes, and the milliseconds that it expects."""
    at = replace(plans.at, link=link, slowdown=slowdown)
    try:
        row = plans.choose(at)
    except NoPlan:
        return "none"
    own = plans.table.designs[row]
    sent = f", {own.payload}" if own.rest == CLOUD else ""
    ms = plans.table.metric(FASTEST.metric, at)[row]
    return f"{row + 1}: {own.setting.branches or 'none'}; {own.rest}{sent}; {ms:.1f} ms"


def _link(text: str) -> Link:
    """Read a link of conf/link, or one in numbers.

    Raises:
        EennError: there is no such link.
    """
    names = sorted(file.stem for file in LINKS.glob("*.yaml"))
    if text in names:
        return _named_link(LINKS / f"{text}.yaml")
    try:
        bandwidth_mbps, rtt_ms = (float(part) for part in text.split(","))
    except ValueError:
        raise EennError(
            f"--link {text}: allowed are {', '.join(names)}, or megabits per second and "
            "milliseconds, such as 12,50"
        ) from None
    return Link(bandwidth_mbps, rtt_ms)


def _named_link(file: Path) -> Link:
    return from_json(Link, read_config(file))


def _power(text: str | None) -> Power | None:
    """Read the watts of a device that computes, sends and waits.

    Raises:
        EennError: the text is something else.
    """
    if text is None:
        return None
    try:
        watts = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise EennError(f"--watts {text}: allowed are three numbers such as 2.5,1.2,0.6") from None
    power = Comparison(watts=watts).power
    assert power is not None
    return power


def _parser() -> argparse.ArgumentParser:
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
    times = parser.add_argument_group("times")
    times.add_argument(
        "--profile",
        type=Path,
        required=True,
        metavar="FILE",
        help="of the device, as `eenn-edge --profile` writes it there",
    )
    times.add_argument(
        "--device",
        type=Path,
        metavar="FILE",
        help="totals of a device that is not at hand; --profile is then that of a device like it",
    )
    times.add_argument(
        "--cloud-profile",
        type=Path,
        metavar="FILE",
        help="of the cloud's machine, as `eenn-edge --profile` writes it there (that of --profile)",
    )
    times.add_argument(
        "--link",
        required=True,
        metavar="NAME",
        help="link of conf/link, or megabits per second and milliseconds, such as 12,50",
    )
    goal = parser.add_argument_group("goal")
    goal.add_argument(
        "--objective",
        default=FASTEST.metric,
        metavar="METRIC",
        help="what the best plan has least of, or most of accuracy and device_share; several with "
        "commas, the most important first (%(default)s)",
    )
    goal.add_argument(
        "--min-accuracy",
        type=float,
        metavar="SHARE",
        help="least accuracy on validation images (one point below the last exit's)",
    )
    goal.add_argument("--deadline-ms", type=float, metavar="MS", help="largest mean latency (none)")
    goal.add_argument(
        "--max-late",
        type=float,
        metavar="SHARE",
        help="in place of the mean's limit, the largest share of answers after --deadline-ms",
    )
    goal.add_argument(
        "--watts",
        metavar="W,W,W",
        help="of a device that computes, sends and waits, for the objective energy_mj",
    )
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
    return parser
