"""Predictions of an offloading benchmark: for the measured ways, and the best plans."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from eenn.artifact.deployment import DEADLINE_MS, Deployment
from eenn.evaluation.answers import answers, kept
from eenn.evaluation.cascades import cascaded
from eenn.evaluation.grid import exit_outputs
from eenn.evaluation.rows import Network
from eenn.exits.decide import Decisions
from eenn.exits.head_sets import PLAIN_HEADS
from eenn.exits.policies.base import ExitProbs, Outputs, Policy, Validation
from eenn.exits.rests import CLOUD, DEVICE, PHOTOGRAPH
from eenn.exits.settings import Baseline, Setting
from eenn.models.architecture import branches_text
from eenn.offload.bench.benchmark import Offloading
from eenn.offload.bench.contenders import CloudContender, Contender, EdgeContender, Request
from eenn.offload.bench.deployments import PlanInputs
from eenn.offload.bench.rows import Prediction, summarise
from eenn.planning.costs import Costs
from eenn.planning.costs import macs as macs_of
from eenn.planning.exhaustive import (
    WITHOUT_BRANCHES,
    Plan,
    SlowerEdge,
    best,
    best_of_each,
    decisions_of,
    goal_of,
    plan,
    slower_edges,
    variants,
)
from eenn.planning.planners.base import Asked
from eenn.planning.planners.comparison import Compared, compared
from eenn.planning.table import NoPlan
from eenn.planning.times import WHOLE_PHOTOGRAPH, Route, Times
from eenn.records.evaluated_artifact import EvaluatedArtifact
from eenn.reports.curves import way_name
from eenn.reports.offload import OffloadPoint
from eenn.statistics.intervals import means

Measured = Mapping[tuple[Contender, float], list[Request]]


@dataclass(frozen=True)
class Networks:
    """The networks of an offloading benchmark.

    Args:
        artifact: on the edge and in the cloud, with exported graphs.
        conventional: a network without branches for the cloud-only baseline; None takes the
            artifact's own last exit.
        upstream: another network that may answer, from the photograph, images that branches leave.
    """

    artifact: EvaluatedArtifact
    conventional: EvaluatedArtifact | None
    upstream: EvaluatedArtifact | None

    @property
    def alone(self) -> EvaluatedArtifact:
        """Select the network of the cloud-only baseline."""
        return self.conventional or self.artifact

    @property
    def every(self) -> list[EvaluatedArtifact]:
        """List all networks: the edge's, that of cloud only, and the upstream network if any."""
        return [self.artifact, self.alone, *filter(None, [self.upstream])]


@dataclass(frozen=True)
class Plans:
    """The planner's results.

    Args:
        best: the best plan, or why there is none.
        others: the best for every rest and payload.
        made: the inputs of the plans.
        compared: the plans of the named planners that the benchmark compares.
    """

    every: Sequence[Plan]
    best: Plan | str
    others: Sequence[Plan]
    slower: Sequence[SlowerEdge]
    made: PlanInputs
    compared: Sequence[Compared]


def points_of(
    networks: Networks, offloading: Offloading, times: Times, measured: Measured
) -> tuple[list[OffloadPoint], list[Request]]:
    """Summarise every way and level, and find the requests that differ from their records.

    Args:
        times: of the edge with its slowdown.
    """
    artifact = networks.artifact
    network = Network(branches_text(artifact.branches), artifact.branches, artifact.split.seed)
    points, differing = [], []
    alone = {
        level: own for (way, level), own in measured.items() if isinstance(way, CloudContender)
    }
    for (way, level), requests in measured.items():
        decisions, foreseen = _recorded(networks, offloading, way, requests), Prediction()
        if decisions is not None:
            foreseen = Prediction(float(times.answer_ms(decisions, way.route).mean()))
        if decisions is not None and isinstance(way, EdgeContender):
            others = _differing(decisions, requests)
            spent = _macs(networks, offloading, way.route)
            (macs,) = means({"": spent.edge(decisions) + spent.cloud(decisions)}).values()
            foreseen = replace(foreseen, differing=float(len(others)), macs=macs)
            differing += others
        points.append(OffloadPoint(network, summarise(requests, alone[level]), foreseen))
    return points, differing


def _macs(networks: Networks, offloading: Offloading, route: Route) -> Costs:
    """Give the MACs of the artifact's segments and heads, and of whatever answers the rest."""
    manifest = networks.artifact.manifest
    costs = macs_of(manifest.exits)
    if offloading.experts.asks_classifier:
        costs = replace(costs, first=float(manifest.classifier.macs))
    if route.payload != PHOTOGRAPH and not route.upstream:
        return costs
    there = networks.upstream if route.upstream and networks.upstream else networks.artifact
    whole = macs_of(there.manifest.exits)
    return replace(costs, upstream=sum(whole.segments) + whole.heads[-1])


def planned(networks: Networks, offloading: Offloading, times: Times) -> Plans:
    """Plan by the exits of validation, for the edge with its slowdown.

    Args:
        times: of the edge without its slowdown.
    """
    artifact, upstream = networks.artifact, networks.upstream
    outputs, cascade = _outputs(networks, offloading, "val", 0, behind=False), None
    offered = times.with_edge(offloading.slowdown)
    if offloading.experts != PLAIN_HEADS:
        # The cloud answers whole images with the plain heads, and these are the experts' outputs.
        requests = {way: cost for way, cost in times.requests.items() if way != (0, PHOTOGRAPH)}
        offered = replace(offered, requests=requests)
    elif upstream is not None:
        cascade = _outputs(networks, offloading, "val", 0, behind=True)
    validation = validation_of(networks, offloading)
    policies = variants(offloading.policies[0].policies(validation), artifact.branches)
    weight_bytes = kept(artifact, offloading.experts)
    if upstream is not None:
        theirs = kept(upstream, PLAIN_HEADS)
        weight_bytes = replace(weight_bytes, upstream=theirs.held((), rest_on_device=True))
    plans = plan(offered, weight_bytes, outputs, policies, cascade)
    enough, deadline_ms = offloading.min_accuracy, offloading.plan_deadline_ms or np.inf
    if enough is None:
        enough = float((outputs.exits[-1].prediction == outputs.labels).mean()) - 0.01
    chosen: Plan | str
    try:
        chosen = best(plans, enough, deadline_ms)
    except NoPlan as error:
        # The measurements are worth their report without a plan too.
        chosen = str(error)
    goal = f"accuracy of at least {100 * enough:.1f} %"
    if np.isfinite(deadline_ms):
        goal += f" within {deadline_ms:g} ms"
    there = upstream.manifest if upstream is not None else None
    shared = Deployment(
        artifact_id=artifact.manifest.id, policy=WITHOUT_BRANCHES, active=(),
        temperature=offloading.temperature, experts=offloading.experts,
        precision=offloading.precision, deadline_ms=offloading.deadline_ms or DEADLINE_MS,
    )  # fmt: skip
    made = PlanInputs(shared, offered, outputs, cascade, there, goal)
    others = best_of_each(plans, enough, deadline_ms)
    slower = _slower(offloading, times, outputs, policies)
    comparison = offloading.comparison
    asked = Asked(
        offered.conditions, goal_of(enough, deadline_ms), policies[0], artifact.branches,
        comparison.frames_per_s, comparison.power,
    )  # fmt: skip
    by_planner = compared(plans, asked, comparison.planners)
    return Plans(plans.designs, chosen, others, slower, made, by_planner)


def validation_of(networks: Networks, offloading: Offloading) -> Validation:
    """Give what policies are fitted to: undistorted validation images."""
    behind, accuracy = offloading.route.upstream, networks.artifact.manifest.validation_accuracy
    if behind and networks.upstream is not None:
        accuracy = (*accuracy, networks.upstream.manifest.validation_accuracy[-1])
    return Validation(accuracy, lambda: _outputs(networks, offloading, "val", 0, behind))


def _slower(
    offloading: Offloading, times: Times, outputs: Outputs, policies: Sequence[Policy]
) -> list[SlowerEdge]:
    """Predict the baselines, and the first and last of the policies, on slower edges."""
    every_branch = tuple(range(len(outputs.exits) - 1))
    route = offloading.route
    if route.upstream:
        route = Route(CLOUD, PHOTOGRAPH)
    whole = decisions_of(outputs, WITHOUT_BRANCHES, (), Route(DEVICE))
    ways = {
        Baseline.CLOUD_ONLY.value: (whole, WHOLE_PHOTOGRAPH),
        Baseline.WHOLE_ON_EDGE.value: (whole, Route(DEVICE)),
    }
    # The curves of other knob values lie between these two.
    ends = dict.fromkeys((policies[0], policies[-1])) if every_branch else {}
    for policy in ends:
        decisions = decisions_of(outputs, policy, every_branch, route)
        ways[way_name(Setting(policy, every_branch))] = decisions, route
    return slower_edges(times, ways)


def _recorded(
    networks: Networks, offloading: Offloading, way: Contender, requests: Sequence[Request]
) -> Decisions | None:
    """Decide by the recorded logits of the same images; gives None where there are none."""
    policy, active = WITHOUT_BRANCHES, tuple[int, ...]()
    if isinstance(way, EdgeContender):
        policy, active = way.runtime.policy, way.runtime.active
    elif offloading.upload != "file" or (
        way.route.upstream and networks.alone is not networks.upstream
    ):
        return None
    outputs = _outputs(
        networks, offloading, offloading.split, requests[0].level, way.route.upstream,
        [request.image for request in requests],
    )  # fmt: skip
    return decisions_of(outputs, policy, active, way.route)


def _differing(decisions: Decisions, requests: Sequence[Request]) -> list[Request]:
    """Find the requests that ended at another exit or answer than decided."""
    same = np.array([r.outcome.exit - 1 for r in requests]) == decisions.taken
    same &= np.array([r.outcome.label for r in requests]) == decisions.label
    same |= np.array([bool(r.outcome.failure) for r in requests])
    return [request for request, is_same in zip(requests, same, strict=True) if not is_same]


def _outputs(
    networks: Networks,
    offloading: Offloading,
    split: str,
    level: float,
    behind: bool,
    images: Sequence[str] | None = None,
) -> Outputs:
    """Read the calibrated probabilities of every exit from records.

    Args:
        behind: true puts the last exit of the upstream network behind all exits.
        images: their sample ids; None for all.
    """
    kind, temperature = offloading.distortion, offloading.temperature
    found = answers(networks.artifact, split, kind, level, offloading.experts, temperature)
    if behind:
        assert networks.upstream is not None
        there = answers(networks.upstream, split, kind, level, PLAIN_HEADS, temperature)
        records, temperatures = cascaded(found, there)
        last = offloading.upstream or temperatures[-1]
        found = records, (*temperatures[:-1], last)
    outputs = exit_outputs(*found)
    if images is None:
        return outputs
    place = {sample_id: at for at, sample_id in enumerate(found[0].sample_ids)}
    chosen = [place[image] for image in images]
    exits = [ExitProbs(output.exit, output.probs[chosen]) for output in outputs.exits]
    return Outputs(exits, outputs.labels[chosen])
