"""Exit rules against one threshold on the confidence, fitted on validation, reported on test.

    python -m benchmarks.policies --artifact DIR

On recorded logits. Every rule of `benchmarks.policies.rules` is fitted on the validation images and
compared on the test images at exactly equal mean cost, two neighbouring settings mixed: MACs, and
modelled latency over the link of conf/link/rio_saopaulo with five and with three active branches.
Then earlyon's fit beside this project's, for the same accuracy. Rows that need earlyon or
scikit-learn are left out if these are missing: `pip install 'eenn[peers]'`. Writes
results/policies.json.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.policies import peers
from benchmarks.policies.protocol import (
    LATENCY,
    MACS,
    OFFLOADED_MS,
    WHOLE_MS,
    Curve,
    Prices,
    at_cost,
    curve,
    estimate,
)
from benchmarks.policies.recorded import Recorded
from benchmarks.policies.rules import LEFT_OUT, REFERENCE, RULES
from eenn.errors import EennError
from eenn.evaluation.grid import exit_outputs
from eenn.exits.decide import oracle
from eenn.exits.policies.base import Outputs
from eenn.files import Json, JsonObject, write_json
from eenn.planning.costs import Costs, macs
from eenn.provenance import processor, provenance
from eenn.records.evaluated_artifact import open_artifact
from eenn.statistics.intervals import Estimate, means

LINK = "rio_saopaulo"
MACS_BUDGETS = (0.4, 0.5, 0.6, 0.7, 0.8)  # of the full network with all its heads
RESULT = Path("results/policies.json")


class Scenario(NamedTuple):
    """A number of first branches that may run, the cost that counts, and the budgets."""

    first: int
    unit: str
    budgets: tuple[float, ...]


SCENARIOS = (
    Scenario(5, MACS, MACS_BUDGETS),
    Scenario(5, LATENCY, (3.0, 4.0, 5.0)),
    Scenario(3, LATENCY, (6.0, 8.0, 10.0)),
)


def main() -> None:
    parser = argparse.ArgumentParser(description="exit rules at equal mean cost")
    parser.add_argument("--artifact", required=True, help="directory of an artifact, or latest")
    artifact = open_artifact(parser.parse_args().artifact, None)
    per_exit = artifact.manifest.temperatures.per_exit
    records = [artifact.records(split, "none", 0) for split in ("val", "test")]
    validation, test = (exit_outputs(own, per_exit) for own in records)
    logits = (
        peers.Logits(records[0].logits, validation.labels),
        peers.Logits(records[1].logits, test.labels),
    )
    part_macs = macs(artifact.manifest.exits)
    points: list[Json] = []
    oracles: list[Json] = []
    for scenario in SCENARIOS:
        if scenario.first <= artifact.branches:
            points += compared(scenario, validation, test, part_macs)
            oracles.append(bound(scenario, test, part_macs))
    result: JsonObject = {
        "points": points,
        "oracle": oracles,
        "left_out": LEFT_OUT,
        "peers": peers.rows(*logits, per_exit, part_macs),
        "reference": REFERENCE,
        "link": LINK,
        "whole_ms": WHOLE_MS,
        "offloaded_ms": OFFLOADED_MS,
        "full_macs": Prices(part_macs, tuple(range(artifact.branches)), MACS).whole_macs,
        "validation_n": len(validation.labels),
        "test_n": len(test.labels),
        **provenance(artifact.split.seed, artifact.title, processor()),
    }
    write_json(RESULT, result)
    print(f"wrote {RESULT}")


def compared(
    scenario: Scenario, validation: Outputs, test: Outputs, part_macs: Costs
) -> list[Json]:
    """Fit every rule, and compare it with the reference at every budget."""
    fitted_on, reported_on = (recorded(scenario, split) for split in (validation, test))
    prices = Prices(part_macs, tuple(range(scenario.first)), scenario.unit)
    rows: list[Json] = []
    reference: Curve | None = None
    for name, rule in RULES.items():
        try:
            found = curve(rule(fitted_on, prices.relative), reported_on, prices)
        except EennError as error:
            print(f"{name}: left out, {error}")
            continue
        reference = reference or found
        for budget in scenario.budgets:
            rows.append(row(scenario, name, budget, found, reference, prices.whole_macs))
    return rows


def row(
    scenario: Scenario, name: str, budget: float, found: Curve, reference: Curve, whole_macs: float
) -> JsonObject:
    """Compare a rule with the reference at one budget; NaN where the rule cannot meet it."""
    cost = budget * whole_macs if scenario.unit == MACS else budget
    own, others = at_cost(found, cost), at_cost(reference, cost)
    accuracy = gain = Estimate(np.nan, np.nan, np.nan)
    edge = np.nan
    if own and others:
        estimates = means({"accuracy": own.right, "gain": own.right - others.right})
        accuracy, gain = estimates["accuracy"], estimates["gain"]
        edge = float(own.on_edge.mean())
    print(
        f"{scenario.unit} {budget:g} {name:45} {accuracy.value:.3f} {100 * gain.value:+.1f}",
        flush=True,
    )
    return {
        "branches": scenario.first,
        "cost": scenario.unit,
        "budget": budget,
        "rule": name,
        **estimate("accuracy", accuracy),
        **estimate("gain", gain),
        "edge_probability": edge,
    }


def recorded(scenario: Scenario, outputs: Outputs) -> Recorded:
    """Select the exits of a scenario."""
    return Recorded([*outputs.exits[: scenario.first], outputs.exits[-1]], outputs.labels)


def bound(scenario: Scenario, test: Outputs, part_macs: Costs) -> JsonObject:
    """Measure the oracle, which leaves at the first exit that is right."""
    active = tuple(range(scenario.first))
    best = oracle(test.exits, test.labels, active)
    place = np.minimum(best.taken, scenario.first)
    prices = Prices(part_macs, active, scenario.unit)
    cost = prices.by_exit(np.ones(len(active), bool))[place].mean()
    return {
        "branches": scenario.first,
        "cost": scenario.unit,
        "mean_cost": float(cost / prices.whole_macs if scenario.unit == MACS else cost),
        "accuracy": float((best.label == test.labels).mean()),
        "edge_probability": float(best.on_edge.mean()),
    }


if __name__ == "__main__":
    main()
