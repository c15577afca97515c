"""Cascades: records of two networks as those of one, and what they may not be."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from eenn.artifact.manifest import Manifest
from eenn.errors import EennError
from eenn.evaluation.cascades import cascade_costs, cascaded, check_upstream
from eenn.planning.costs import CostModel, Costs, Link
from eenn.records.records import ExitRecords, Origin

ORIGIN = Origin("a" * 64, "test", "c" * 64, "none", 0.0, 32)


def records(logits: Any, ids: tuple[str, ...]) -> ExitRecords:
    return ExitRecords(np.asarray(logits, np.float32), np.arange(len(ids)), ids, ORIGIN)


def test_the_upstream_networks_last_exit_comes_behind_all_others_image_by_image() -> None:
    generator = np.random.default_rng(0)
    own = records(generator.normal(size=(2, 3, 4)), ("x", "y", "z"))
    theirs = records(generator.normal(size=(3, 3, 4)), ("z", "x", "y"))
    joined, temperatures = cascaded((own, (1.5, 2.0)), (theirs, (0.1, 0.2, 0.7)))
    assert temperatures == (1.5, 2.0, 0.7)
    assert joined.sample_ids == own.sample_ids
    assert joined.labels.tolist() == own.labels.tolist()
    for sample, sample_id in enumerate(own.sample_ids):
        at = theirs.sample_ids.index(sample_id)
        expected = [*own.logits[:, sample], theirs.logits[-1, at]]
        np.testing.assert_array_equal(joined.logits[:, sample], expected)


def test_records_of_other_images_are_refused() -> None:
    own, other = (records(np.zeros((1, 2, 3)), ids) for ids in (("x", "y"), ("x", "z")))
    with pytest.raises(EennError, match="records of a cascade are of different images"):
        cascaded((own, (1.0,)), (other, (1.0,)))


def network(id: str, classes: tuple[str, ...] = ("ant", "bee"), split: str = "s") -> Any:
    built = {"classes": len(classes), "positions": []}
    content = {"id": id, "classes": list(classes), "architecture": built}
    manifest = Manifest(Path(f"/runs/{id}"), content)
    return SimpleNamespace(manifest=manifest, split=SimpleNamespace(hash=split), folders={})


def test_networks_that_cannot_work_together_are_refused() -> None:
    own = network("a")
    check_upstream(own, network("b"))
    with pytest.raises(EennError, match="this is the artifact itself"):
        check_upstream(own, network("a"))
    with pytest.raises(EennError, match=r"has 2 classes and .* has 2; they differ in bee, cat"):
        check_upstream(own, network("b", ("ant", "cat")))
    with pytest.raises(EennError, match="they differ in the order"):
        check_upstream(own, network("b", ("bee", "ant")))
    with pytest.raises(EennError, match="may have been trained on images that are to test it"):
        check_upstream(own, network("b", split="t"))


def test_the_rest_costs_a_whole_network_and_a_photograph() -> None:
    def model(*numbers: float) -> CostModel:
        costs = Costs(numbers, tuple(number / 10 for number in numbers))
        return CostModel(costs, costs, costs, (3, 4), Link(94, 12.8))

    own, theirs = model(10, 20), model(100, 200)
    found = cascade_costs(own, theirs, 5000.0)
    # Their segments and last head; no other.
    assert found.macs.upstream == found.edge_ms.upstream == found.cloud_ms.upstream == 320
    # Wherever the network is cut, after its last exit, too.
    assert found.payload_bytes == (5000.0, 5000.0, 5000.0)
    assert replace(found.macs, upstream=None) == own.macs
    # The same network again, for who sends photographs to it.
    assert cascade_costs(own, None, 5000.0).macs.upstream == 32
