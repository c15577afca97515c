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
from eenn.cli import one_line_errors, printable
from eenn.errors import EennError
from eenn.exits.head_sets import PLAIN_HEADS
from eenn.exits.policies.base import Outputs, Policy, Validation
from eenn.exits.policies.registry import find_policy, make_policy
from eenn.exits.rests import CLOUD
from eenn.files import new_directory
from eenn.offload.bench.deployments import PlanInputs, deployment_of, write_deployments
from eenn.offload.edge.plans import FILE as PLANS
from eenn.offload.edge.plans import Plans
from eenn.offload.graphs.index import PRECISIONS, Graphs
from eenn.offload.graphs.pieces import borders
from eenn.planning.costs import Link
from eenn.planning.device_file import DeviceFile
from eenn.planning.device_prediction import doubts, predicted, requests_of, scaled
from eenn.planning.device_profile import DeviceProfile
from eenn.planning.engine import Conditions, Power
from eenn.planning.exhaustive import WITHOUT_BRANCHES, Plan, plan, variants
from eenn.planning.profiled import profiled_times
from eenn.planning.table import (
    ACCURACY,
    FASTEST,
    LATE,
    Goal,
    Limit,
    NoPlan,
    Table,
)
from eenn.planning.times import Route
from eenn.reports.tables import table as printed_table
from eenn.run_directory import find_artifact
from eenn.workflows.plan_arguments import (
    LINKS,
    check_limits,
    link_of,
    named_link,
    objectives_of,
    parse_arguments,
    power_of,
)

if TYPE_CHECKING:
    from eenn.records.evaluated_artifact import EvaluatedArtifact

SLOWDOWNS = (1.0, 10.0)
# One percentage point below the last exit, where no accuracy is asked for.
GIVEN_UP = 0.01


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command: plan, and write the deployments and the table."""
    given = parse_arguments(arguments)
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
    link, power = link_of(given.link), power_of(given.watts)
    objectives = objectives_of(given.objective, power)
    check_limits(given)
    graphs = Graphs.read(find_artifact(given.artifact))
    device = reference = _profile(given.profile, given.measured, graphs)
    cloud = reference
    if given.cloud_profile is not None:
        cloud = _profile(given.cloud_profile, given.measured, graphs)
    if given.device is not None:
        device = _scaled(reference, given.device, graphs)
    if device.precision not in PRECISIONS:
        raise EennError(
            f"precision={device.precision:.80} of the device: allowed are {', '.join(PRECISIONS)}; "
            "correct its file, or measure again"
        )
    # Imported here because torch takes seconds, and a wrong file should fail at once.
    from eenn.records.evaluated_artifact import open_artifact

    artifact = open_artifact(given.artifact, given.images)
    times = profiled_times(device, cloud, link, borders(graphs.manifest), artifact.photograph_bytes)
    outputs = _outputs(artifact)
    goal = Goal(objectives, _limits(given, outputs))
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


def _profile(file: Path, measured: Path | None, graphs: Graphs) -> DeviceProfile:
    """Read a profile of the network, or predict it from the profile of another network.

    Args:
        measured: artifact of the other network.

    Raises:
        EennError: the profile is of neither of them.
    """
    profile, own = DeviceProfile.load(file), graphs.manifest
    if profile.artifact_id == own.id:
        return profile
    if measured is None:
        raise EennError(
            f"{file} is of artifact {profile.artifact_id:.12}, {own.path} is {own.id:.12}; measure "
            "this one with `eenn-edge --profile`, or give --measured DIR, the measured artifact"
        )
    from eenn.offload.export.work import work_of

    there = Graphs.read(measured)
    found = predicted(profile, work_of(there), work_of(graphs))
    print(f"warning: {file} is of another network; times of this one follow from the work of both")
    return replace(found, requests=requests_of(profile, _values(there), _values(graphs)))


def _values(graphs: Graphs) -> dict[int, int]:
    """Count the values of the features at every cut."""
    return {cut.blocks: math.prod(graphs.features_shape(cut.blocks)) for cut in graphs.cuts}


def _scaled(reference: DeviceProfile, file: Path, graphs: Graphs) -> DeviceProfile:
    """Predict the profile of a device that is not at hand."""
    from eenn.offload.export.work import work_of

    device = DeviceFile.load(file)
    for doubt in doubts(reference, device):
        print(printable(f"warning: {doubt}"))
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


def _limits(given: argparse.Namespace, outputs: Outputs) -> tuple[Limit, ...]:
    """Set out the limits that the flags ask for."""
    least = given.min_accuracy
    if least is None:
        least = float((outputs.exits[-1].prediction == outputs.labels).mean()) - GIVEN_UP
    limits = [Limit(ACCURACY, least=least)]
    if given.max_late is not None:
        limits.append(Limit(LATE, most=given.max_late))
    elif given.deadline_ms is not None:
        limits.append(Limit(FASTEST.metric, most=given.deadline_ms))
    return tuple(limits)


def _chosen(every: Table[Plan], goal: Goal, at: Conditions, power: Power | None) -> _Found:
    """Choose the best plan of all, and of every rest and payload.

    Raises:
        NoPlan: no plan keeps the goal's limits.
    """
    best = every.choose(at, goal, power)
    routes: dict[Route, list[int]] = {}
    for row, one in enumerate(every):
        routes.setdefault(replace(one.route, further=0), []).append(row)
    others = []
    for rows in routes.values():
        try:
            others.append(rows[every.at(rows).choose(at, goal, power)])
        except NoPlan:
            continue
    latency_ms = every.metric(FASTEST.metric, at)
    return _Found(every, best, tuple(sorted(others, key=lambda row: float(latency_ms[row]))))


def _keeping(every: Table[Plan], goal: Goal, at: Conditions) -> list[int]:
    """Find the plans that keep the limits that no link changes; those without a cloud come first.

    Of equal plans the first one stays, and a device without a cloud has to find it.
    """
    lasting = [own for own in goal.limits if own.metric == ACCURACY]
    rows: list[int] = every.equally_good(at, Goal((), tuple(lasting))).tolist()
    return sorted(rows, key=lambda row: every.designs[row].route.rest == CLOUD)


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
        for file, link in ((file, named_link(file)) for file in sorted(LINKS.glob("*.yaml")))
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
