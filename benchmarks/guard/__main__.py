"""The guard by simulation: the acceptance, baselines, other streams, and the time of an update.

    python -m benchmarks.guard --artifact DIR

Recorded images of validation and test are drawn with replacement, in streams whose images change.
The threshold is fitted to clean validation images to lose at most 3 % (delta 0.1), at strict 1 and
strict 10, with all branches active and with the first three. Writes results/guard.json and
results/guard-stream.png.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.guard.acceptance import figures_of, update_us
from benchmarks.guard.baselines import BASELINES
from benchmarks.guard.figure import stream_figure
from benchmarks.guard.recorded import SETTINGS, Field
from benchmarks.guard.runs import SEEDS, PartRow, Rule, clairvoyant, guarded, rows_of, static
from benchmarks.guard.spoiled import register
from benchmarks.guard.streams import ACCEPTANCE, OTHERS
from eenn.files import Json, write_json
from eenn.provenance import processor, provenance
from eenn.records.evaluated_artifact import open_artifact
from eenn.reports.tables import table

STRICT, FEW = (1.0, 10.0), 3
RULES: dict[str, Rule] = {"static": static, "guard": guarded, "clairvoyant": clairvoyant}
RESULT = Path("results/guard.json")
FIGURE = Path("results/guard-stream.png")


def main() -> None:
    parser = argparse.ArgumentParser(description="the guard by simulation")
    parser.add_argument("--artifact", required=True, help="directory of an artifact, or latest")
    parser.add_argument("--images", help="directory of its images, if they were moved")
    given = parser.parse_args()
    register()
    artifact = open_artifact(given.artifact, given.images)
    every = tuple(range(artifact.branches))
    result: dict[str, Json] = {"settings": asdict(SETTINGS), "seeds": SEEDS}
    for active in (every, every[:FEW]):
        for strict in STRICT:
            field = Field(artifact, active, strict)
            rows = [
                row
                for name, rule in RULES.items()
                for row in rows_of(name, rule, field, ACCEPTANCE)
            ]
            name = f"branches {len(active)}, strict {strict:g}"
            figures = figures_of(field, rows)
            result[name] = {
                "p_tar": field.candidates.values[field.start],
                "stream": _plain(rows),
                "acceptance": [asdict(own) | {"is_met": own.is_met} for own in figures],
            }
            print(f"{name}\n{table([asdict(row) for row in rows])}")
            print(table([asdict(own) | {"is_met": str(own.is_met)} for own in figures]), flush=True)
    result["others"] = {
        f"strict {strict:g}": _plain(_of_others(Field(artifact, every, strict)))
        for strict in STRICT
    }
    field = Field(artifact, every, STRICT[0])
    result["update_us"] = update_us(field)
    baselines = [
        row for name, rule in BASELINES.items() for row in rows_of(name, rule, field, ACCEPTANCE)
    ]
    result["baselines"] = _plain(baselines)
    print(table([asdict(row) for row in baselines]))
    parts = ACCEPTANCE(field, np.random.default_rng(0))
    courses = {name: rule(field, parts, 0) for name, rule in RULES.items()}
    stream_figure(parts, courses).savefig(FIGURE, dpi=110)
    result |= provenance(artifact.split.seed, artifact.title, processor())
    write_json(RESULT, result)


def _of_others(field: Field) -> list[PartRow]:
    """Let a fixed threshold and the guard meet the other streams."""
    rows = [
        row
        for stream in OTHERS
        for name in ("static", "guard")
        for row in rows_of(name, RULES[name], field, stream)
    ]
    print(table([asdict(row) for row in rows]))
    return rows


def _plain(rows: list[PartRow]) -> list[Json]:
    """Convert rows to JSON; what never came has no number."""
    return [
        {key: None if value == np.inf else value for key, value in asdict(row).items()}
        for row in rows
    ]


if __name__ == "__main__":
    main()
