"""Compares the trained variants at equal mean MACs, each with `linspace` of the same seed.

    python -m benchmarks.shallow.compare

One threshold on the confidence of all branches is met on the test images at exactly 40, 50 and
60 % of the MACs of the whole `linspace` network, two neighbouring thresholds mixed. Variants and
seeds that `benchmarks.shallow.train` has not finished are left out. Writes results/shallow.json.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.policies.protocol import MACS, Prices, at_cost, curve, estimate
from benchmarks.policies.recorded import Recorded
from benchmarks.policies.thresholds import confidence
from benchmarks.shallow.train import run_of
from benchmarks.shallow.variants import VARIANTS
from eenn.errors import EennError
from eenn.evaluation.grid import exit_outputs
from eenn.exits.policies.base import Floats
from eenn.files import Json, JsonObject, write_json
from eenn.planning.costs import Costs, macs
from eenn.provenance import processor, provenance
from eenn.records.evaluated_artifact import EvaluatedArtifact, open_artifact
from eenn.run_directory import ARTIFACT, METRICS
from eenn.statistics.intervals import Estimate, means

BASELINE = "linspace"
SEEDS = (0, 1)
SHARES = (0.4, 0.5, 0.6)  # of the MACs of the whole baseline
LAST_EXIT = "last exit"
RESULT = Path("results/shallow.json")


class Trial(NamedTuple):
    """Outputs of one trained network, and the MACs of its parts."""

    validation: Recorded
    test: Recorded
    costs: Costs

    @property
    def prices(self) -> Prices:
        """Return the MACs of every exit, all branches active."""
        return Prices(self.costs, tuple(range(len(self.costs.heads) - 1)), MACS)


class Row(NamedTuple):
    """A variant beside the baseline at one budget.

    Args:
        seed: None for all seeds together.
        budget: one of SHARES, or LAST_EXIT.
        n: test images.
        gain: in accuracy. Its interval is of the draw of test images; it does not know how
            trainings vary.
    """

    variant: str
    seed: int | None
    budget: float | str
    n: int
    accuracy: Estimate
    gain: Estimate

    def to_json(self) -> JsonObject:
        """Name every quantity as result files do."""
        return {
            "variant": self.variant,
            "seed": self.seed,
            "budget": self.budget,
            "n": self.n,
            **estimate("accuracy", self.accuracy),
            **estimate("gain", self.gain),
        }


def main() -> None:
    trials: dict[str, dict[int, Trial]] = {}
    for variant in VARIANTS:
        for seed in SEEDS:
            if (run_of(variant, seed) / METRICS).exists():
                artifact = open_artifact(str(run_of(variant, seed) / ARTIFACT), None)
                trials.setdefault(variant, {})[seed] = trial_of(artifact)
    if BASELINE not in trials:
        raise EennError(
            f"no finished training of {BASELINE}; run `python -m benchmarks.shallow.train` first"
        )
    rows: list[Json] = [row.to_json() for row in compared(trials)]
    seeds = ", ".join(map(str, trials[BASELINE]))
    result: JsonObject = {"rows": rows, **provenance(seeds, artifact.title, processor())}
    write_json(RESULT, result)
    print(f"wrote {RESULT}")


def trial_of(artifact: EvaluatedArtifact) -> Trial:
    """Record the outputs of a network on both splits."""
    per_exit = artifact.manifest.temperatures.per_exit
    found = [
        exit_outputs(artifact.records(split, "none", 0), per_exit) for split in ("val", "test")
    ]
    validation, test = (Recorded(own.exits, own.labels) for own in found)
    return Trial(validation, test, macs(artifact.manifest.exits))


def compared(trials: Mapping[str, Mapping[int, Trial]]) -> list[Row]:
    """Compare every variant with the baseline, seed by seed and over all seeds that both have."""
    rows = []
    for variant, by_seed in trials.items():
        shared = [seed for seed in by_seed if seed in trials[BASELINE]]
        pairs = {seed: paired(trials[BASELINE][seed], by_seed[seed]) for seed in shared}
        for budget in (*SHARES, LAST_EXIT):
            own = {seed: pair[budget] for seed, pair in pairs.items()}
            rows += [Row(variant, seed, budget, *over([one])) for seed, one in own.items()]
            if len(own) > 1:
                rows.append(Row(variant, None, budget, *over([*own.values()])))
    return rows


def paired(baseline: Trial, variant: Trial) -> dict[float | str, tuple[Floats, Floats]]:
    """Compute every test image's chances to be right, by budget, of the baseline and a variant."""
    found: dict[float | str, tuple[Floats, Floats]] = {
        share: (
            chances(baseline, share * baseline.prices.whole_macs),
            chances(variant, share * baseline.prices.whole_macs),
        )
        for share in SHARES
    }
    last = [trial.test.right[-1].astype(np.float64) for trial in (baseline, variant)]
    return found | {LAST_EXIT: (last[0], last[1])}


def chances(trial: Trial, mean_macs: float) -> Floats:
    """Compute every test image's chance to be right where answers cost `mean_macs`, (images,)."""
    families = confidence(trial.validation, trial.prices.relative)
    met = at_cost(curve(families, trial.test, trial.prices), mean_macs)
    if met is None:
        raise ValueError(f"no threshold costs {mean_macs:.3g} MACs")
    return met.right


def over(pairs: Sequence[tuple[Floats, Floats]]) -> tuple[int, Estimate, Estimate]:
    """Count the images of all pairs, and estimate a variant's accuracy and gain over them."""
    baseline, own = (np.concatenate(side) for side in zip(*pairs, strict=True))
    found = means({"accuracy": own, "gain": own - baseline})
    return len(own), found["accuracy"], found["gain"]


if __name__ == "__main__":
    main()
