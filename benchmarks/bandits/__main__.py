"""SplitEE and I-SplitEE on recorded images that turn noisy, beside choices that stay.

    python -m benchmarks.bandits --artifact DIR

For each link of conf/link, each slowdown of the device and each exchange rate of confidence for
time, a stream of 3,000 clean test images and 3,000 with noise of sigma 20 is drawn five times.
Times of segments and heads are those of the artifact's profile; preprocessing and the cloud's
computing do not count. Features are sent with 8 bits. Writes results/bandits.json.
"""

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import product
from pathlib import Path

import yaml

from benchmarks.bandits.recorded import Images, Parts, Ways, images_of
from benchmarks.bandits.runs import SEEDS, PartRow, Stream
from benchmarks.bandits.summary import Cell, summaries
from benchmarks.guard.recorded import CLEAN, NOISE
from eenn.files import Json, JsonObject, write_json
from eenn.planning.costs import Link
from eenn.planning.engine import Conditions
from eenn.provenance import processor, provenance
from eenn.records.evaluated_artifact import EvaluatedArtifact, open_artifact
from eenn.reports.tables import table

LINKS = Path("conf/link")
SLOWDOWNS = (1.0, 5.0, 10.0, 30.0)
MUS = (0.1, 1.0)  # of SplitEE and of I-SplitEE
SHOWN = ("lte", 10.0, 1.0)
RESULT = Path("results/bandits.json")


def cells(artifact: EvaluatedArtifact) -> Iterator[Cell]:
    """Yield the outcomes of every link, slowdown and exchange rate."""
    parts = Parts.of(artifact)
    validation = images_of(artifact, "val", CLEAN)
    tested: Mapping[str, Images] = {
        "clean": images_of(artifact, "test", CLEAN),
        "noise 20": images_of(artifact, "test", NOISE),
    }
    links = {file.stem: yaml.safe_load(file.read_text()) for file in sorted(LINKS.glob("*.yaml"))}
    for name, slowdown, mu in product(links, SLOWDOWNS, MUS):
        ways = Ways(parts, Conditions(Link(**links[name]), slowdown), mu)
        stream = Stream.fitted(ways, validation, tested)
        rows = tuple(stream.rows())
        yield Cell(name, slowdown, mu, stream.alpha, stream.fixed + 1, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="bandits on recorded images")
    parser.add_argument("--artifact", required=True, help="directory of an artifact, or latest")
    parser.add_argument("--images", help="directory of its images, if they were moved")
    given = parser.parse_args()
    artifact = open_artifact(given.artifact, given.images)
    found = list(cells(artifact))
    summary = [asdict(row) for row in summaries(found)]
    (shown,) = (cell for cell in found if (cell.link, cell.slowdown, cell.mu) == SHOWN)
    print(table(summary))
    every = [_plain(row) for parts in shown.rows for row in parts]
    print(table(every))
    profile = artifact.profile
    result: dict[str, Json] = {
        "seeds": SEEDS,
        "profile": {
            "hardware": profile.hardware, "threads": profile.threads, "date": profile.date,
            "segments_ms": profile.median.segments, "heads_ms": profile.median.heads,
        },
        "summary": summary,
        "shown": asdict(shown) | {"rows": every},
        "cells": [_brief(cell) for cell in found],
    }  # fmt: skip
    write_json(RESULT, result | provenance(artifact.split.seed, artifact.title, processor()))


def _brief(cell: Cell) -> JsonObject:
    """Convert a cell to JSON, with the best arms and the regret of every rule."""
    rows = {
        parts[0].rule: {
            row.part: {key: _plain(row)[key] for key in ("best", "regret", "found")}
            for row in parts
        }
        for parts in cell.rows
    }
    return asdict(cell) | {"rows": rows}


def _plain(row: PartRow) -> JsonObject:
    """Convert a row to JSON; what never came has no number."""
    return {key: None if own == float("inf") else own for key, own in asdict(row).items()}


if __name__ == "__main__":
    main()
