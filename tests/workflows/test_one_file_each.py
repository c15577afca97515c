"""A new policy or distortion is one class or function, and all programs take it as it is."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from eenn.data.distortions import DISTORTIONS, Kind, Pixels
from eenn.exits.decide import decide
from eenn.exits.policies.base import ExitProbs, Policy
from eenn.exits.policies.registry import policy_from_json
from eenn.offload.edge.clouds import LocalCloud
from eenn.offload.edge.runtime import EdgeRuntime
from eenn.offload.export.report import export_artifact
from eenn.records.evaluated_artifact import open_artifact
from eenn.statistics.calibration import probabilities
from eenn.workflows.hydra_job import offer_policies
from tests.artifact.trained_run import make_run
from tests.workflows.evaluating import rows, run_in

pytest_plugins = ["tests.exits.toy_policy"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, write_images: Callable[..., Path]) -> Path:
    root = tmp_path_factory.mktemp("place")
    images = write_images(root / "all", ant=60, bee=60, cat=60)
    make_run(root / "outputs" / "train" / "noise" / "1", images, branches=2)
    return root


def test_a_policy_goes_from_its_class_to_the_device(
    place: Path, toy: type[Policy], monkeypatch: pytest.MonkeyPatch
) -> None:
    offer_policies()
    directory = run_in(
        place, "policy=toy", "policy.share=[0.25,0.75]", "compare=[confidence]", "logger=csv",
        "fit.goal=accuracy_drop", "fit.limit=0.9",
    )  # fmt: skip
    summary = json.loads((directory / "summary.json").read_text())
    (fitted,) = [
        row for row in summary["thresholds"] if row["policy"] == "toy" and row["active"] == "1 2"
    ]
    assert fitted["share"] in (0.0, 0.25, 0.5, 0.75, 1.0)
    tradeoff = {row["setting"] for row in rows(directory, "tradeoff") if row["policy"] == "toy"}
    assert tradeoff == {"0", "0.5", "1"}
    points = [row for row in rows(directory, "points") if row["policy"] == "toy"]
    assert {row["share"] for row in points} == {"0.25", "0.75"}

    monkeypatch.chdir(place)
    artifact = open_artifact("latest")
    export_artifact(artifact, 8, 8)
    validation, test = (artifact.records(split, "none", 0) for split in ("val", "test"))
    temperatures = artifact.manifest.temperatures.per_exit
    confidences = probabilities(validation.logits[0], temperatures[0]).max(-1)
    text = json.dumps(
        {"name": "toy", "share": 0.25, "least": float(np.quantile(confidences, 0.75))}
    )
    exits = [
        ExitProbs(k, probabilities(z, t))
        for k, (z, t) in enumerate(zip(test.logits, temperatures, strict=True))
    ]
    expected = decide(policy_from_json(text), exits, (0, 1))
    (row,) = [row for row in points if (row["share"], row["active"]) == ("0.25", "1 2")]
    assert float(row["edge_probability"]) == pytest.approx(expected.on_edge.mean(), rel=1e-5)
    runtime = EdgeRuntime(
        artifact.manifest.path, policy_from_json(text), (0, 1), LocalCloud(artifact.manifest.path)
    )
    files = [place / "all" / sample_id for sample_id in test.sample_ids]
    answers = [runtime.classify_file(file) for file in files]
    assert [answer.exit for answer in answers] == expected.taken.tolist()
    assert [answer.label for answer in answers] == expected.label.tolist()
    assert 0 < expected.on_edge.mean() < 1


def test_a_distortion_goes_from_its_function_to_the_report(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fade(pixels: Pixels, share: float, generator: np.random.Generator) -> Pixels:
        return np.rint(pixels * (1 - share)).astype(np.uint8)

    monkeypatch.setitem(DISTORTIONS, "fade", Kind(fade, 0, 1))
    directory = run_in(
        place, "distortion.kind=fade", "distortion.level=[0,0.9]", "p_tar=0.8", "logger=csv"
    )
    accuracy = {
        row["level"]: row["confidence"]
        for row in rows(directory, "points")
        if row["active"] == "1 2"
    }
    assert accuracy["0"] != accuracy["0.9"]
    assert "fade level 0.9" in (directory / "report.html").read_text()
