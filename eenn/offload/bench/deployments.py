"""Conversion of plans to deployments, and of deployments to settings of a benchmark.

The promise of a deployment is measured on the images of the planning.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from eenn.artifact.deployment import FILE, Deployment, Promise, Upstream
from eenn.artifact.manifest import Manifest
from eenn.exits.policies.base import KnobValue, Outputs
from eenn.exits.rests import CLOUD
from eenn.exits.settings import ActiveBranches, swept_once
from eenn.offload.bench.benchmark import Offloading
from eenn.offload.protocol.codecs import PAYLOADS as FEATURES
from eenn.planning.exhaustive import WITHOUT_BRANCHES, Plan, decisions_of
from eenn.planning.times import Times
from eenn.statistics.intervals import means, share

# The folder of the best plan of every route.
PLANS = "plans"


@dataclass(frozen=True)
class PlanInputs:
    """The inputs that plans were made from.

    Args:
        shared: what the deployments of all plans have in common, in any deployment.
        times: times of parts, on an edge as slow as it was planned for.
        outputs: outputs of every exit on the images of the planning; `cascade` has the last exit of
            an upstream network behind them.
        goal: bounds that the best plans have to keep, in words.
    """

    shared: Deployment
    times: Times
    outputs: Outputs
    cascade: Outputs | None
    upstream: Manifest | None
    goal: str


def deployment_of(plan: Plan, made: PlanInputs) -> Deployment:
    """Make the deployment of a plan; the promise holds the predicted means with their intervals."""
    route, upstream = plan.route, None
    policy = plan.setting.policy or WITHOUT_BRANCHES
    outputs = made.outputs
    if route.upstream:
        assert made.upstream is not None
        assert made.cascade is not None
        outputs = made.cascade
        temperature = made.upstream.temperatures.chosen(made.shared.temperature)[-1]
        upstream = Upstream(made.upstream.id, temperature)
    decisions = decisions_of(outputs, policy, plan.setting.active, route)
    n = len(outputs.labels)
    stays = n if route.rest != CLOUD else int(decisions.on_edge.sum())
    promised: Mapping[str, tuple[float, float, float]] = {
        "accuracy": share(int((decisions.label == outputs.labels).sum()), n),
        "edge_probability": share(stays, n),
        **means(
            {
                "latency_ms": made.times.answer_ms(decisions, route),
                "sent_bytes": made.times.sent_bytes(decisions, route),
            }
        ),
    }
    link = made.times.link
    return replace(
        made.shared,
        policy=policy,
        active=plan.setting.active,
        rest=route.rest,
        payload=route.payload or FEATURES[0],
        cut=route.further or None,
        upstream=upstream,
        promise=Promise(
            images="validation images",
            n=n,
            goal=made.goal,
            means=dict(promised),
            bandwidth_mbps=link.bandwidth_mbps,
            rtt_ms=link.rtt_ms,
        ),
    )


def write_deployments(
    directory: Path, best: Plan | None, others: Iterable[Plan], made: PlanInputs
) -> dict[str, Deployment]:
    """Write the deployments of the best plan, and of the best plan of every rest and payload.

    Returns:
        The deployments by path relative to `directory`; the best one comes first.
    """
    found = {} if best is None else {FILE: deployment_of(best, made)}
    for plan in others:
        found[f"{PLANS}/{replace(plan.route, further=0)}.json"] = deployment_of(plan, made)
    if found:
        (directory / PLANS).mkdir(exist_ok=True)
    for name, deployment in found.items():
        deployment.save(directory / name)
    return found


def deployed_offloading(offloading: Offloading, deployment: Deployment) -> Offloading:
    """Replace a benchmark's settings by those that a deployment holds."""
    return replace(
        offloading,
        policies=[swept_once(deployment.policy)],
        p_tars=_p_tars_of(deployment, offloading.p_tars),
        active=_active_of(deployment),
        temperature=deployment.temperature,
        experts=deployment.experts,
        precision=deployment.precision,
        payload=deployment.payload,
        cut=deployment.cut,
        deadline_ms=deployment.deadline_ms,
        rest=deployment.rest,
        upstream=deployment.upstream.temperature if deployment.upstream else None,
        on_failure=deployment.on_failure,
    )


def _p_tars_of(deployment: Deployment, otherwise: Sequence[KnobValue]) -> Sequence[KnobValue]:
    """Return the thresholds of the baselines beside a deployment: its own if it has some."""
    setting = deployment.setting
    return [setting.value] if setting.knob == "p_tar" else otherwise


def _active_of(deployment: Deployment) -> ActiveBranches:
    return ActiveBranches(active=[branch + 1 for branch in deployment.active])
