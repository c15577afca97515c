"""Builds the tables of README.md and docs/ from the result files in results/: `make results`.

A block between `<!-- generated: NAME -->` and `<!-- end -->` belongs to the function of that name.
Result files are the `metrics.json` and `summary.json` of runs, and what the benchmarks wrote.
"""

import re
from collections.abc import Callable

from benchmarks.readme import (
    backbones,
    bandits,
    configuration,
    deployments,
    drift_live,
    evaluation,
    frontier,
    guard,
    hardening,
    latency,
    offloading,
    planners,
    policies,
    shallow,
    tracking,
    training,
)
from benchmarks.readme.results import ROOT

# Blocks may stand in any of them.
PAGES = (
    "README.md",
    *(str(page.relative_to(ROOT)) for page in sorted((ROOT / "docs").rglob("*.md"))),
)
BLOCKS: dict[str, Callable[[], str]] = {
    f.__name__: f
    for f in (
        training.headline,
        training.heads,
        training.branches,
        training.demo,
        training.speed,
        backbones.backbones,
        backbones.every_backbone,
        backbones.lite0_live,
        backbones.escalation,
        backbones.planned_escalation,
        evaluation.edge_analysis,
        evaluation.fallback,
        evaluation.blur,
        evaluation.grid_speed,
        evaluation.risk,
        evaluation.drift,
        evaluation.experts,
        evaluation.expert_gains,
        evaluation.distortion_classifier,
        evaluation.more_kinds,
        offloading.offload_times,
        offloading.offload_blur,
        offloading.offload_experts,
        offloading.edge_speed,
        offloading.in_flight,
        offloading.wire,
        offloading.serving,
        deployments.strict,
        deployments.cascade,
        deployments.deployments,
        deployments.answers,
        deployments.payloads,
        deployments.planned,
        planners.planners,
        planners.predictions,
        planners.followed,
        policies.policies_macs,
        policies.policies_latency,
        policies.policies_left_out,
        policies.peers,
        policies.peer_time,
        hardening.attacks,
        hardening.fuzz,
        tracking.tracking,
        frontier.frontier,
        frontier.frontier_kinds,
        frontier.fitted_cascades,
        frontier.live_cascades,
        shallow.shallow,
        latency.latency_bounds,
        latency.latency_stages,
        latency.latency_totals,
        latency.latency_plans,
        latency.latency_devices,
        latency.latency_sums,
        guard.guard_acceptance,
        guard.guard_stream,
        guard.guard_others,
        guard.guard_baselines,
        drift_live.drift_live_strict1,
        drift_live.drift_live_strict10,
        guard.guard_live,
        guard.guard_disturbed,
        guard.guard_update,
        bandits.bandits,
        bandits.bandits_shown,
    )
} | configuration.BLOCKS


def rebuilt(text: str) -> str:
    """Build every generated block of a page anew from the result files."""

    def block(match: re.Match[str]) -> str:
        return f"<!-- generated: {match[1]} -->\n{BLOCKS[match[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- generated: (\w+) -->\n.*?<!-- end -->", block, text, flags=re.DOTALL)
