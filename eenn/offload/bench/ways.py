"""Sets up the ways to answer that an offloading benchmark compares."""

from collections.abc import Iterator

from eenn.artifact.manifest import Manifest
from eenn.exits.policies.base import Policy, Validation
from eenn.exits.policies.threshold import baseline_rule
from eenn.exits.settings import Baseline, Setting
from eenn.offload.bench.benchmark import Offloading
from eenn.offload.bench.contenders import ByEdge, Way
from eenn.offload.client.http_cloud import HttpCloud
from eenn.offload.edge.clouds import LocalCloud
from eenn.offload.edge.runtime import EdgeRuntime


def every_way(
    manifest: Manifest, cloud: HttpCloud, offloading: Offloading, validation: Validation
) -> Iterator[Way]:
    """Set up every way to answer but cloud only: baselines on the edge, then the policies.

    Args:
        cloud: the one behind the policies.
        validation: what policies are fitted to.

    Raises:
        EennError: a policy or branches that do not fit the network.
    """
    path = manifest.path
    actives = [active for active in offloading.active.sets(len(manifest.exits) - 1) if active]
    largest = max(actives, key=len, default=())

    def runtime(
        policy: Policy, active: tuple[int, ...], behind: HttpCloud | LocalCloud | None
    ) -> EdgeRuntime:
        return EdgeRuntime(
            path,
            policy,
            active,
            behind,
            offloading.precision,
            deadline_ms=offloading.deadline_ms,
            slowdown=offloading.slowdown,
            experts=offloading.experts,
            temperature=offloading.temperature,
        )

    whole = LocalCloud(path, offloading.precision, slowdown=offloading.slowdown)
    yield ByEdge(
        Setting(None, (), Baseline.WHOLE_ON_EDGE),
        runtime(baseline_rule(1.0), (), whole),
        None,
        on_edge=True,
    )
    if not actives:
        return
    for p_tar in offloading.p_tars:
        rule = baseline_rule(p_tar)
        own = Setting(rule, largest, Baseline.EDGE_ONLY)
        yield ByEdge(own, runtime(rule, largest, None), None)
        own = Setting(rule, largest, Baseline.EARLY_ON_EDGE)
        yield ByEdge(own, runtime(rule, largest, whole), None, on_edge=True)
    for swept in offloading.policies:
        for policy in swept.policies(validation):
            for active in actives:
                own = Setting(policy, active)
                most = active == largest
                yield ByEdge(own, runtime(policy, active, cloud), cloud, most_active=most)
