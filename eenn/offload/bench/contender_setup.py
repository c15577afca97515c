"""The contenders that an offloading benchmark compares, set up from its settings."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from eenn.artifact.deployment import CONTINUE
from eenn.artifact.manifest import Manifest
from eenn.exits.policies.base import Policy, Validation
from eenn.exits.policies.threshold import baseline_rule
from eenn.exits.rests import CLOUD, DEVICE, NOBODY, PHOTOGRAPH
from eenn.exits.settings import Baseline, Setting
from eenn.offload.bench.benchmark import Offloading
from eenn.offload.bench.contenders import Contender, EdgeContender
from eenn.offload.client.http_cloud import HttpCloud
from eenn.offload.edge.clouds import LocalCloud, Rest
from eenn.offload.edge.runtime import EdgeRuntime
from eenn.planning.times import Route


@dataclass(frozen=True)
class RestTargets:
    """The cloud and the upstream network that may answer behind the active branches.

    Args:
        cloud: client of the cloud, needed even if the route does not lead there; with an upstream
            network the cloud that has it.
        upstream: artifact of the upstream network; None if there is none.
    """

    cloud: HttpCloud
    upstream: Path | None = None


def baselines(manifest: Manifest, offloading: Offloading) -> Iterator[Contender]:
    """Set up the baselines on the edge: the whole network, the edge alone, the rest on the edge.

    Raises:
        EennError: branches or thresholds do not fit the network.
    """
    branches = len(manifest.exits) - 1
    exits = branches + 1 if offloading.route.upstream else branches
    largest = max(offloading.active.sets(exits), key=len, default=())
    # Without an upstream network the last exit is the rest, not one of the branches.
    largest = tuple(exit for exit in largest if exit < branches)
    here = LocalCloud(manifest.path, offloading.precision, slowdown=offloading.slowdown)
    whole = Rest(here, on_device=True)
    yield EdgeContender(
        Setting(None, (), Baseline.WHOLE_ON_EDGE),
        Route(DEVICE),
        _runtime(manifest, offloading, baseline_rule(1.0), (), whole),
        None,
    )
    if not largest:
        return
    for p_tar in offloading.p_tars:
        rule = baseline_rule(p_tar)
        for baseline, route, rest in (
            (Baseline.EDGE_ONLY, Route(NOBODY), None),
            (Baseline.EARLY_ON_EDGE, Route(DEVICE), whole),
        ):
            runtime = _runtime(manifest, offloading, rule, largest, rest)
            yield EdgeContender(Setting(rule, largest, baseline), route, runtime, None)


def policy_contenders(
    manifest: Manifest, behind: RestTargets, offloading: Offloading, validation: Validation
) -> Iterator[Contender]:
    """Set up a contender for every policy and set of active branches.

    Args:
        validation: validation results that policies are fitted to.

    Raises:
        EennError: a policy or branches do not fit the network.
    """
    exits = len(manifest.exits)
    actives = offloading.active.sets(exits if offloading.route.upstream else exits - 1)
    largest = max(actives, key=len, default=())
    rest = _rest(manifest, behind, offloading)
    cloud = behind.cloud if offloading.rest == CLOUD else None
    for swept in offloading.policies:
        for policy in swept.policies(validation):
            for active in actives:
                yield EdgeContender(
                    Setting(policy, active, goal=offloading.label),
                    offloading.route,
                    _runtime(manifest, offloading, policy, active, rest),
                    cloud,
                    most_active=active == largest,
                )


def _runtime(
    manifest: Manifest,
    offloading: Offloading,
    policy: Policy,
    active: tuple[int, ...],
    rest: Rest | None,
) -> EdgeRuntime:
    return EdgeRuntime(
        manifest.path,
        policy,
        active,
        rest,
        offloading.precision,
        deadline_ms=offloading.deadline_ms,
        slowdown=offloading.slowdown,
        experts=offloading.experts,
        temperature=offloading.temperature,
    )


def _rest(manifest: Manifest, behind: RestTargets, offloading: Offloading) -> Rest:
    """Set up the rest that answers images that no active branch accepts."""
    route, temperature = offloading.route, offloading.upstream
    if route.rest == NOBODY:
        return Rest(temperature=temperature)
    here = LocalCloud(manifest.path, offloading.precision, slowdown=offloading.slowdown)
    if route.rest == DEVICE:
        if behind.upstream is None or temperature is None:
            return Rest(here, on_device=True)
        there = LocalCloud(behind.upstream, offloading.precision, slowdown=offloading.slowdown)
        return Rest(photographs=there, temperature=temperature, on_device=True)
    standby = here if offloading.on_failure == CONTINUE else None
    if route.payload == PHOTOGRAPH:
        return Rest(photographs=behind.cloud, temperature=temperature, standby=standby)
    return Rest(behind.cloud, standby=standby, cut=offloading.cut)
