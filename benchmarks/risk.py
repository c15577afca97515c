"""Fitted thresholds against their promise of risk, on the records of a real network.

    python -m benchmarks.risk --artifact DIR

The validation and test records of the artifact together are the population, so its risk at every
threshold is known exactly. 400 validation sets are drawn from it with replacement, as large as the
real one, a threshold is fitted to each by the code of `fit.goal=risk`, for every method and with
inner exits as strict as the last branch and ten times as strict. Reported are the share of sets
for which the population's risk is above the limit, and the share of images that stay on the edge.
Writes results/risk.json.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from eenn.evaluation.fitting import Goal, fit
from eenn.evaluation.grid import Case, Service, exit_outputs
from eenn.evaluation.rows import Network
from eenn.exits.decide import decide
from eenn.exits.policies.threshold import CANDIDATES, DEFAULT, Confidence
from eenn.files import Json, JsonObject, write_json
from eenn.planning.costs import CostModel, Link, macs, payloads
from eenn.provenance import processor, provenance
from eenn.records.evaluated_artifact import open_artifact
from eenn.statistics.risk_control import P_VALUES

DRAWS, LIMIT, DELTA = 400, 0.03, 0.1
STRICT = (1, 10)
RESULT = Path("results/risk.json")


def main() -> None:
    parser = argparse.ArgumentParser(description="fitted thresholds against their promise")
    parser.add_argument("--artifact", required=True, help="directory of an artifact, or latest")
    artifact = open_artifact(parser.parse_args().artifact, None)
    manifest, active = artifact.manifest, tuple(range(artifact.branches))
    validation, test = (artifact.records(split, "none", 0) for split in ("val", "test"))
    logits = np.concatenate([validation.logits, test.logits], axis=1)
    labels = np.concatenate([validation.truth, test.truth])
    part_macs = macs(manifest.exits)
    sizes = payloads(manifest.exits, manifest.preprocessing.input_size)
    costs = CostModel(part_macs, part_macs, part_macs, sizes, Link(94, 12.8))

    network = Network("artifact", artifact.branches, artifact.split.seed)

    def case_of(rows: slice | np.ndarray) -> Case:
        n = len(labels[rows])
        ids = tuple(map(str, range(n)))
        drawn = replace(validation, logits=logits[:, rows], labels=labels[rows], sample_ids=ids)
        outputs = exit_outputs(drawn, manifest.temperatures.per_exit)
        return Case(network, 0.0, outputs.exits, outputs.labels, costs, Service(20, 32))

    generator = np.random.default_rng(0)
    n = len(validation.truth)
    draws = [case_of(generator.integers(len(labels), size=n)) for _ in range(DRAWS)]
    population = case_of(slice(None))
    fits: list[Json] = []
    for strict in STRICT:
        truth = {p_tar: truth_of(population, strict, p_tar, active) for p_tar in CANDIDATES}
        for method in P_VALUES:
            goal = Goal("risk", LIMIT, DELTA, method, strict=(strict,))
            chosen = [fit(goal, draw, DEFAULT, {}, active).setting.number for draw in draws]
            fits.append(
                {
                    "method": method,
                    "strict": strict,
                    "violations": sum(truth[p_tar].risk > LIMIT for p_tar in chosen),
                    "median_p_tar": float(np.median(chosen)),
                    "median_edge_probability": float(
                        np.median([truth[p_tar].edge_probability for p_tar in chosen])
                    ),
                    "lowest_p_tar_within_limit": min(
                        p_tar for p_tar, own in truth.items() if own.risk <= LIMIT
                    ),
                }
            )
    result: JsonObject = {
        "draws": DRAWS,
        "limit": LIMIT,
        "delta": DELTA,
        "validation_n": n,
        "population_n": len(labels),
        "fits": fits,
        **provenance(artifact.split.seed, artifact.title, processor()),
    }
    write_json(RESULT, result)
    print(json.dumps(result, indent=1))


class Truth(NamedTuple):
    """The results of a threshold on the whole population.

    Args:
        risk: P(answer wrong although the last exit is right).
    """

    risk: float
    edge_probability: float


def truth_of(case: Case, strict: float, p_tar: float, active: tuple[int, ...]) -> Truth:
    """Decide for the whole population at one threshold."""
    decisions = decide(Confidence(p_tar=p_tar, strict=strict), case.outputs, active)
    wrong = decisions.label != case.labels
    reference = case.outputs[-1].prediction == case.labels
    return Truth(float((wrong & reference).mean()), float(decisions.on_edge.mean()))


if __name__ == "__main__":
    main()
