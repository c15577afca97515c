"""evaluate.py with deployment files: what it reports of them, compares, and refuses."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eenn.artifact.deployment import Deployment
from eenn.artifact.manifest import Manifest, read_manifest
from eenn.data.splits import Split
from eenn.exits.policies.registry import make_policy
from eenn.statistics.metrics import Resamples
from tests.artifact.trained_run import make_run
from tests.workflows.answered import Answered, answered
from tests.workflows.evaluating import rows, run_in


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, write_images: Callable[..., Path]) -> Path:
    return write_images(tmp_path_factory.mktemp("images") / "all", ant=50, bee=50, cat=50, dog=50)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Path:
    """A folder in which a network with three branches was trained, and two deployments of it."""
    root = tmp_path_factory.mktemp("trained")
    run = make_run(root / "outputs" / "train" / "noise" / "1", images, branches=3)
    own = read_manifest(run / "artifact")
    strict = make_policy("confidence", {"p_tar": 0.95, "strict": 3})
    Deployment(artifact_id=own.id, policy=strict, active=(0, 1)).save(root / "a.json")
    bold = make_policy("confidence", {"p_tar": 0.55})
    Deployment(artifact_id=own.id, policy=bold, active=(0, 1, 2), temperature="none").save(
        root / "b.json"
    )
    Deployment(artifact_id="0" * 64, policy=bold, active=(0,)).save(root / "foreign.json")
    return root


@pytest.fixture(scope="module")
def manifest(place: Path) -> Manifest:
    return read_manifest(place / "outputs/train/noise/1/artifact")


@pytest.fixture(scope="module")
def by_hand(images: Path, manifest: Manifest) -> dict[str, list[Answered]]:
    """Answer every test image with both deployments, one after the other."""
    files = [images / name for name in Split.load(manifest.split_file).test]
    fitted = manifest.temperatures.per_exit
    return {
        "a.json": answered(manifest.path, files, (1 - 0.05 / 3, 0.95), fitted),
        "b.json": answered(manifest.path, files, (0.55, 0.55, 0.55), (1, 1, 1, 1)),
    }


@pytest.fixture(scope="module")
def truth(manifest: Manifest) -> list[int]:
    test = Split.load(manifest.split_file).test
    return [manifest.classes.index(name.split("/")[0]) for name in test]


@pytest.fixture(scope="module")
def compared(place: Path) -> Path:
    """The run directory of an evaluation of both deployments."""
    return run_in(place, "deployment=[a.json,b.json]", "logger=csv", drawn=True)


def test_a_deployment_is_reported_as_image_by_image(
    place: Path, by_hand: dict[str, list[Answered]], truth: list[int], capsys: Any
) -> None:
    directory = run_in(place, "deployment=a.json", "logger=csv")
    assert "are those of each deployment file" in capsys.readouterr().out
    own, last = rows(directory, "points")
    found = by_hand["a.json"]
    right = [one.answer == label for one, label in zip(found, truth, strict=True)]
    edge = [one.exit < 3 for one in found]
    assert 0 < sum(edge) < len(edge)
    assert own["deployment"] == "a.json"
    assert (own["policy"], own["active"]) == ("confidence, strict 3", "1 2")
    for name, values in (
        ("accuracy", right),
        ("edge_probability", edge),
        ("macs", [one.macs for one in found]),
        ("sent_bytes", [one.sent for one in found]),
    ):
        assert float(own[name]) == pytest.approx(np.mean(values), rel=1e-5), name
    assert last["policy"] == "last exit only"
    alone = [one.last == label for one, label in zip(found, truth, strict=True)]
    assert float(last["accuracy"]) == pytest.approx(np.mean(alone), rel=1e-5)
    stopped = [int(row["exit_n"]) for row in rows(directory, "exits")]
    assert stopped == [sum(one.exit == exit for one in found) for exit in range(4)]
    assert not (directory / "tables" / "differences.csv").exists()


def test_two_deployments_differ_by_what_their_images_differ(
    compared: Path, by_hand: dict[str, list[Answered]], truth: list[int]
) -> None:
    opening = (compared / "report.html").read_text().split("Origin and settings")[0]
    assert "of 2 deployments" in opening.lower()
    assert re.search(r"--deployment /\S+/[ab]\.json", opening)
    (row,) = rows(compared, "differences")
    assert (row["first"], row["second"]) == ("a.json", "b.json")
    first, second = by_hand["a.json"], by_hand["b.json"]

    def paired(of: Callable[[Answered, int], float]) -> np.ndarray:
        both = zip(first, second, truth, strict=True)
        return np.array([float(of(b, label)) - float(of(a, label)) for a, b, label in both])

    counts = Resamples(len(truth)).counts
    for name, values in (
        ("accuracy", paired(lambda one, label: one.answer == label)),
        ("edge_probability", paired(lambda one, _: one.exit < 3)),
        ("macs", paired(lambda one, _: one.macs)),
        ("sent_bytes", paired(lambda one, _: one.sent)),
    ):
        assert float(row[name]) == pytest.approx(values.mean(), rel=1e-4, abs=1e-9), name
        drawn = counts @ values / len(values)
        low, high = np.quantile(drawn, [0.025, 0.975])
        assert float(row[f"{name}_low"]) == pytest.approx(low, rel=1e-3, abs=1e-6), name
        assert float(row[f"{name}_high"]) == pytest.approx(high, rel=1e-3, abs=1e-6), name
    points = {one["deployment"]: one for one in rows(compared, "points")}
    latency = float(points["b.json"]["latency_ms"]) - float(points["a.json"]["latency_ms"])
    assert float(row["latency_ms"]) == pytest.approx(latency, rel=1e-3, abs=1e-4)


def test_who_answers_the_rest_and_from_what_decides_what_it_costs(
    place: Path, images: Path, manifest: Manifest, by_hand: dict[str, list[Answered]]
) -> None:
    first = Deployment.load(place / "a.json")
    ways = [("cloud", own) for own in ("fp32", "fp16", "uint8", "photograph")]
    ways += [("device", "photograph"), ("nobody", "fp32")]
    names = [f"{rest}-{payload}.json" for rest, payload in ways]
    for name, (rest, payload) in zip(names, ways, strict=True):
        replace(first, rest=rest, payload=payload).save(place / name)
    directory = run_in(place, f"deployment=[{','.join(names)}]", "logger=csv")
    points = {one["deployment"]: one for one in rows(directory, "points")}
    found = by_hand["a.json"]
    n, left = len(found), [one for one in found if one.exit == 3]
    assert 0 < len(left) < n

    def mean(name: str, of: str) -> float:
        return float(points[name][of])

    features = sum(one.sent for one in found) / n
    files = [(images / one).stat().st_size for one in Split.load(manifest.split_file).val]
    sent = {
        "cloud-fp32.json": features,
        "cloud-fp16.json": features / 2,
        "cloud-uint8.json": features / 4,
        "cloud-photograph.json": float(np.mean(files)) * len(left) / n,
        "device-photograph.json": 0,
        "nobody-fp32.json": 0,
    }
    for name, expected in sent.items():
        assert mean(name, "sent_bytes") == pytest.approx(expected, rel=1e-4), name
    for name in names:
        here = name.startswith(("device", "nobody"))
        assert mean(name, "edge_probability") == pytest.approx(1 if here else 1 - len(left) / n)
    macs = sum(one.macs for one in found) / n
    # From the photograph on, the cloud computes the whole network once more.
    exits = manifest.exits
    before = exits[1].macs
    again = macs + before * len(left) / n
    assert mean("cloud-photograph.json", "macs") == pytest.approx(again, rel=1e-4)
    for name in ("cloud-fp32.json", "device-photograph.json"):
        assert mean(name, "macs") == pytest.approx(macs, rel=1e-4)
    assert mean("device-photograph.json", "edge_macs") == pytest.approx(macs, rel=1e-4)
    rest = exits[3].macs - before + exits[3].head_macs
    alone = macs - rest * len(left) / n
    assert mean("nobody-fp32.json", "macs") == pytest.approx(alone, rel=1e-4)
    for name in names[:4]:
        assert mean(name, "edge_macs") == pytest.approx(alone, rel=1e-4)


def test_each_deployment_keeps_its_own_settings(compared: Path) -> None:
    summary = json.loads((compared / "summary.json").read_text())
    assert "temperature per exit" in summary["deployments"]["a.json"]["way"]
    assert "temperature none" in summary["deployments"]["b.json"]["way"]
    temperatures = {
        (row["deployment"], row["exit"]): row["temperature"] for row in rows(compared, "quality")
    }
    assert temperatures["a.json", "1"] == "1.3"
    assert temperatures["b.json", "1"] == "1"
    page = (compared / "report.html").read_text()
    assert page.count("a.json") > 3
    assert "Differences" in page


def test_networks_of_other_splits_are_compared_on_other_images_alone(
    place: Path, images: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    other = make_run(tmp_path / "other", images, branches=2, seed=1)
    policy = make_policy("confidence", {"p_tar": 0.7})
    own = read_manifest(other / "artifact").id
    Deployment(artifact_id=own, policy=policy, active=(0,)).save(tmp_path / "c.json")
    files = f"deployment=[a.json,{tmp_path / 'c.json'}]"
    given = (files, f"artifact=[latest,{other}]", "logger=csv")
    with pytest.raises(SystemExit):
        run_in(place, *given)
    assert "split in another way" in capfd.readouterr().err
    loose = tmp_path / "loose"
    loose.mkdir()
    for number, file in enumerate(sorted((images / "ant").iterdir())[:20]):
        (loose / f"{number}.jpg").write_bytes(file.read_bytes())
    directory = run_in(place, *given, f"images={loose}")
    (row,) = rows(directory, "differences")
    assert row["n"] == "20"
    assert row["accuracy"] == "nan"
    assert np.isfinite(float(row["edge_probability"]))
    printed = capfd.readouterr().out
    assert "accuracy" not in printed
    assert "are images that the network was trained on" in printed


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("deployment=foreign.json",), "is for artifact 000000000000"),
        (("deployment=[a.json,a.json]",), "a list of different ones"),
        (("deployment=nowhere.json",), "give a deployment.json"),
        (("deployment=a.json", "active=[1]"), "deployment with active=[1]"),
        (("deployment=a.json", "compare=[margin]"), "deployment with compare"),
        (("deployment=a.json", "thresholds=[0.9,0.9,0.9,0.9]"), "leave the others out"),
        (
            ("deployment=a.json", "distortions={jpeg:[50]}", "distortion=null", "experts=[plain]"),
            "allowed is one kind of distortion",
        ),
        (("deployment=a.json", "fit.goal=macs", "fit.limit=1e6"), "allowed is one of them"),
    ],
)
def test_a_mistake_is_one_clear_line(
    given: tuple[str, ...], said: str, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run_in(place, *given, "logger=csv")
    *_, line = capfd.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    assert said in line, line
