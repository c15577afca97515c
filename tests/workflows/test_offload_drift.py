"""offload_bench.py over a stream, as its users run it: a real edge, a real cloud, and the page."""

import csv
import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eenn.artifact.deployment import Deployment
from eenn.artifact.guard_settings import GuardSettings
from eenn.artifact.manifest import read_manifest
from eenn.records.evaluated_artifact import open_artifact
from eenn.statistics.calibration import probabilities
from eenn.workflows.console import offload_bench
from tests.artifact.trained_run import make_run
from tests.offload.patience import PATIENCE_S, make_patient

pytestmark = pytest.mark.slow

SEGMENTS = (("untouched", 80), ("gaussian noise level 90", 120), ("untouched", 80))
STREAM = "[{images: 80}, {images: 120, kind: gaussian_noise, level: 90}, {images: 80}]"
# So large a risk that short bursts show it, and networks of random weights keep it.
GUARD = "{risk: 0.4, delta: 0.2, audit: 0.3}"
ARTIFACT = Path("outputs/train/noise/1/artifact")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, write_images: Callable[..., Path]) -> Path:
    """A folder in which a network with three branches was trained."""
    root = tmp_path_factory.mktemp("trained")
    images = write_images(root / "images", ant=60, bee=60, cat=60, dog=60)
    make_run(root / ARTIFACT.parent, images, branches=3)
    return root


def run_in(place: Path, *overrides: str) -> Path:
    """Run offload_bench.py in `place` and in this process; returns the directory it wrote to."""
    with pytest.MonkeyPatch.context() as patch:
        given = ["experiment=drift", "logger=csv", "link=loopback", "payload=fp32"]
        given += [f"deadline_ms={1e3 * PATIENCE_S}", f"guard={GUARD}", *overrides]
        patch.setattr(sys, "argv", ["offload_bench.py", *given])
        patch.chdir(place)
        make_patient(patch)
        offload_bench()
    runs = (place / "outputs" / "offload" / "drift").glob("*")
    return max(runs, key=lambda path: path.stat().st_mtime)


@pytest.fixture(scope="module")
def done(place: Path) -> Path:
    return run_in(place, f"stream={STREAM}")


@pytest.fixture(scope="module")
def images(done: Path) -> list[dict[str, str]]:
    with (done / "images.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def summary(done: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((done / "summary.json").read_text())
    return content


def test_every_photograph_leaves_where_its_records_do_at_the_threshold_in_force(
    place: Path, images: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    artifact = open_artifact(str(ARTIFACT))
    temperatures = artifact.manifest.temperatures.per_exit
    confidences = {}
    for distortion, level in (("untouched", 0), ("gaussian noise level 90", 90)):
        records = artifact.records("test", "gaussian_noise", level)
        probs = [probabilities(*pair) for pair in zip(records.logits, temperatures, strict=True)]
        for at, sample_id in enumerate(records.sample_ids):
            confidences[sample_id, distortion] = [own[at].max() for own in probs]
    exits = Counter[int]()
    for row in images:
        threshold = float(row["threshold"])  # NaN while everything is offloaded
        own = confidences[row["image"], row["distortion"]]
        # Graphs and PyTorch differ in the last digits.
        if any(abs(confidence - threshold) < 1e-5 for confidence in own):
            continue
        left = [exit for exit in range(3) if own[exit] >= threshold]
        assert int(row["exit"]) == (left[0] if left else 3) + 1
        assert (row["place"], row["failure"]) == ("edge" if left else "cloud", "")
        exits[int(row["exit"])] += 1
    assert len(exits) > 2


def test_the_rows_count_the_images(
    images: list[dict[str, str]], summary: dict[str, Any], done: Path
) -> None:
    assert [row["distortion"] for row in images] == [
        name for name, count in SEGMENTS for _ in range(count)
    ]
    live = [row for row in summary["segments"] if row["way"] == "guarded, live"]
    start = 0
    for own, (name, count) in zip(live, SEGMENTS, strict=True):
        here = images[start : start + count]
        start += count
        assert (own["images"], own["n"]) == (name, count)
        for key, held in (
            ("risk", [row["differs"] == "True" for row in here]),
            ("edge_probability", [row["place"] == "edge" for row in here]),
            ("sent", [row["place"] == "cloud" or row["audit"] != "" for row in here]),
            ("accuracy", [row["correct"] == "True" for row in here]),
        ):
            assert own[key] == pytest.approx(np.mean(held))
        took = [float(row["latency_ms"]) for row in here]
        assert own["answer_ms"] == pytest.approx(np.mean(took))
        assert own["alarms"] == sum(bool(row["alarm"]) for row in here)
    assert {row["audit"] for row in images} <= {"", "agrees", "differs", "dropped"}
    ways = Counter(row["way"] for row in summary["segments"])
    assert ways == dict.fromkeys(("static", "guarded, records", "guarded, live", "clairvoyant"), 3)
    assert len((done / "field.jsonl").read_text().splitlines()) == len(images)


def test_the_deployment_is_that_of_the_edge(place: Path, done: Path) -> None:
    deployment = Deployment.load(done / "deployment.json")
    deployment.check(read_manifest(place / ARTIFACT))
    assert deployment.guard == GuardSettings(0.4, 0.2, 0.3)
    assert deployment.active == (0, 1, 2)
    assert deployment.promise is not None
    assert deployment.promise.goal == "risk 0.4 against the last exit"
    assert json.loads((done / "guard.json").read_text())["totals"]["images"] == 280
    assert str(done / "deployment.json") in (done / "edge.log").read_text()


def test_the_page_opens_with_risk_and_promise(done: Path, summary: dict[str, Any]) -> None:
    page = (done / "report.html").read_text()
    largest = max(row["risk"] for row in summary["segments"] if row["way"] == "guarded, live")
    assert f"At most {100 * largest:.1f} % lost in any segment with the guard" in page
    assert "40 % promised" in page
    for heading in ("Segments", "Risk and edge probability", "git commit"):
        assert heading in page
    assert (done / "figures" / "stream.png").stat().st_size > 10_000


def test_a_deployment_goes_through_a_stream_as_it_is(place: Path, done: Path) -> None:
    file = done / "deployment.json"
    again = run_in(place, "stream=[{images: 6}]", f"deployment={file}", "limit=3")
    assert Deployment.load(again / "deployment.json") == Deployment.load(file)
    with (again / "images.csv").open() as opened:
        assert len({row["image"] for row in csv.DictReader(opened)}) <= 3


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("first=0",), "without an active branch"),
        (("policy.strict=[1,10]",), "a list of policy settings"),
        (("split=val",), "fit with split=val"),
        (("guard={risk: 0.001, delta: 0.01}",), "validation samples cannot show a risk"),
    ],
)
def test_a_stream_that_cannot_be_is_one_line(
    place: Path, capsys: pytest.CaptureFixture[str], given: tuple[str, ...], said: str
) -> None:
    with pytest.raises(SystemExit):
        run_in(place, "stream=[{images: 6}]", *given)
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_a_stream_is_not_resumed(
    done: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["offload_bench.py", f"resume={done}"])
        patch.chdir(place)
        with pytest.raises(SystemExit):
            offload_bench()
    assert "a stream cannot go on in its middle" in capsys.readouterr().err
