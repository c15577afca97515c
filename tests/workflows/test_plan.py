"""`eenn-plan`: from the profile of a device to deployments and a table of plans."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from eenn.artifact.deployment import Deployment
from eenn.exits.decide import decide
from eenn.exits.policies.base import ExitProbs
from eenn.offload.edge.plans import Plans
from eenn.offload.export.command import main as export
from eenn.offload.graphs.index import Graphs
from eenn.offload.graphs.pieces import borders
from eenn.planning.costs import Link
from eenn.planning.device_profile import DeviceProfile, Packing
from eenn.planning.engine import Conditions
from eenn.planning.profiled import profiled_times
from eenn.records.evaluated_artifact import open_artifact
from eenn.statistics.calibration import probabilities
from eenn.workflows.plan import main
from tests.artifact.trained_run import make_run


class Given(NamedTuple):
    outputs: list[ExitProbs]
    labels: Any
    photograph_bytes: float


def profile_of(graphs: Graphs, slow: float = 1.0) -> DeviceProfile:
    """A device that needs 2 ms for every block and 0.5 ms for every head."""
    at = borders(graphs.manifest)
    last, cuts = len(at) - 1, [cut.blocks for cut in graphs.cuts]
    exits = {
        (at[a], b): slow * (2.0 * (at[b] - at[a]) + 0.5)
        for a, b in combinations(range(last + 1), 2)
    }
    exits |= {(cut, last): slow * (2.0 * (at[-1] - cut) + 0.5) for cut in cuts}
    stages = {
        (start, cut): slow * 2.0 * (cut - start)
        for start in at[:-1]
        for cut in graphs.cuts_behind(start)
    }
    values = {cut: math.prod(graphs.features_shape(cut)) for cut in cuts}
    return DeviceProfile(
        artifact_id=graphs.manifest.id, device="a drawn device", kind="cpu", precision="fp32",
        input_size=graphs.manifest.preprocessing.input_size, threads=1, date="2026-11-28",
        repeats=20, preprocess_ms=3.0 * slow,
        exits={f"{a}-{b}": ms for (a, b), ms in exits.items()},
        stages={f"{a}-{b}": ms for (a, b), ms in stages.items()},
        requests={
            f"{cut}-{name}": Packing(300.0 + size * count, 0.1)
            for cut, count in values.items()
            for name, size in (("fp32", 4), ("uint8", 1))
        },
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, write_images: Callable[..., Path]) -> Path:
    """A trained and exported network of two branches."""
    root = tmp_path_factory.mktemp("planned")
    images = write_images(root / "images" / "all", ant=40, bee=40, cat=40)
    path = make_run(root / "run", images, branches=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        export([str(path), "--checked", "4", "--calibration", "8"])
    return path


@pytest.fixture(scope="module")
def graphs(run: Path) -> Graphs:
    return Graphs.read(run / "artifact")


@pytest.fixture(scope="module")
def profile(graphs: Graphs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("profile") / "profile.json"
    profile_of(graphs).save(path)
    return path


@pytest.fixture
def planning(
    run: Path, profile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Path]:
    """Run the command in a folder of its own; gives the folder that it wrote."""
    monkeypatch.chdir(tmp_path)

    def planned(*given: object, link: str = "wifi") -> Path:
        named = ["--artifact", run, "--profile", profile, "--link", link, *given]
        main([str(argument) for argument in named])
        return tmp_path / "plan"

    return planned


def mean_ms(own: Deployment, profile: DeviceProfile, at: tuple[int, ...], given: Given) -> float:
    """The latency of a deployment by a loop over the images, from the profile's own numbers."""
    decided = decide(own.policy, given.outputs, own.active, cloud=own.rest != "nobody")
    total = 0.0
    for taken in decided.taken.tolist():
        cut, ms = 0, profile.preprocess_ms
        for exit in own.active:
            ms += profile.exits[f"{cut}-{exit + 1}"]
            cut = at[exit + 1]
            if taken == exit:
                break
        left = taken in own.active
        if not left and own.rest == "device":
            ms += profile.exits[f"{cut}-{len(at) - 1}"]
        if not left and own.rest == "cloud":
            size, codec_ms = given.photograph_bytes + 300.0, 0.1
            in_cloud = profile.preprocess_ms + profile.exits[f"0-{len(at) - 1}"]
            if own.payload != "photograph":
                if own.cut is not None:
                    ms += profile.stages[f"{cut}-{own.cut}"]
                    cut = own.cut
                size = profile.requests[f"{cut}-{own.payload}"].sent_bytes
                in_cloud = profile.exits[f"{cut}-{len(at) - 1}"]
            if own.payload == "photograph" and not own.active:
                ms = 0.0
            ms += codec_ms + 5.0 + 8e-3 * size / 30.0 + in_cloud
        total += ms
    return total / len(decided.taken)


@pytest.fixture(scope="module")
def given(run: Path) -> Given:
    """Calibrated probabilities on the validation split, and the mean size of its photographs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(run)
        artifact = open_artifact(str(run / "artifact"))
        records = artifact.records("val", "gaussian_blur", 0)
    temperatures = artifact.manifest.temperatures.per_exit
    outputs = [
        ExitProbs(exit, probabilities(logits, t))
        for exit, (logits, t) in enumerate(zip(records.logits, temperatures, strict=True))
    ]
    sizes = [len(photo.file) for photo in artifact.photos("val")]
    return Given(outputs, records.truth, float(np.mean(sizes)))


def test_every_plan_is_priced_by_the_profile_and_decides_as_on_records(
    planning: Callable[..., Path], graphs: Graphs, given: Given, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = planning("--min-accuracy", 0.3)
    plans, profile = Plans.load(folder / "plans.json"), profile_of(graphs)
    at, conditions = borders(graphs.manifest), Conditions(Link(30.0, 5.0))
    latency_ms = plans.table.metric("latency_ms", conditions)
    for row, own in enumerate(plans.table):
        assert latency_ms[row] == pytest.approx(mean_ms(own, profile, at, given))
        decided = decide(own.policy, given.outputs, own.active, cloud=own.rest != "nobody")
        right = float((decided.label == given.labels).mean())
        assert plans.table.accuracy[row] == pytest.approx(right)
        assert right >= 0.3 - 1e-9
    best = Deployment.load(folder / "deployment.json")
    assert mean_ms(best, profile, at, given) == pytest.approx(latency_ms.min())
    assert best.promise is not None
    assert best.promise.means["latency_ms"][0] == pytest.approx(latency_ms.min())
    each = sorted((folder / "plans").glob("*.json"))
    assert {"device.json", "nobody.json", "cloud-photograph.json"} <= {file.name for file in each}
    for file in each:
        own = Deployment.load(file)
        assert mean_ms(own, profile, at, given) >= latency_ms.min() - 1e-9
    said = capsys.readouterr().out
    for link in ("lan", "loopback", "lte", "rio_saopaulo", "wifi"):
        assert f" {link}, " in said


def test_a_device_that_is_not_at_hand_is_as_slow_as_its_total(
    planning: Callable[..., Path], graphs: Graphs, tmp_path: Path
) -> None:
    whole = f"0-{len(graphs.manifest.exits)}"
    slow = {whole: 7 * profile_of(graphs).exits[whole]}
    device = {"version": 1, "device": "a slow one", "kind": "cpu", "totals": {"exits": slow}}
    (tmp_path / "device.json").write_text(json.dumps(device))
    folder = planning("--device", "device.json", "--min-accuracy", 0)
    plans = Plans.load(folder / "plans.json")
    assert "a slow one" in plans.device
    lan = Conditions(plans.at.link)
    alone = [row for row, own in enumerate(plans.table) if own.rest != "cloud"]
    expected = profiled_times(
        profile_of(graphs, slow=7), profile_of(graphs), plans.at.link, borders(graphs.manifest), 1.0
    )
    for row in alone:
        own = plans.table.designs[row]
        if own.active:
            first_ms = expected.preprocess_ms + expected.stage_ms[0, own.active[0] + 1]
            assert plans.table.to_exit_ms[row][own.active[0]] == pytest.approx(first_ms)
    assert any(plans.table.designs[row].active for row in alone)
    assert plans.table.metric("latency_ms", lan).min() > 0


def test_a_goal_of_late_answers_is_kept(planning: Callable[..., Path]) -> None:
    folder = planning(
        "--min-accuracy", 0, "--deadline-ms", 30, "--max-late", 0.1,
        "--objective", "accuracy,latency_ms",
    )  # fmt: skip
    plans = Plans.load(folder / "plans.json")
    row = plans.choose(plans.at)
    assert plans.table.metric("late_share", plans.at)[row] <= 0.1 + 1e-9
    assert plans.table.designs[row].policy == Deployment.load(folder / "deployment.json").policy


def test_energy_is_an_objective_where_watts_are_given(planning: Callable[..., Path]) -> None:
    folder = planning("--min-accuracy", 0, "--objective", "energy_mj", "--watts", "2,1,0.5")
    plans = Plans.load(folder / "plans.json")
    energy_mj = plans.table.metric("energy_mj", plans.at, plans.power)
    assert energy_mj[plans.choose(plans.at)] == energy_mj.min()


def test_a_profile_of_another_network_needs_its_artifact(
    planning: Callable[..., Path], graphs: Graphs, tmp_path: Path, run: Path,
    capsys: pytest.CaptureFixture[str], profile: Path,
) -> None:  # fmt: skip
    replace(profile_of(graphs), artifact_id="another").save(tmp_path / "other.json")
    with pytest.raises(SystemExit):
        planning("--profile", "other.json")
    assert "or give --measured DIR" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        planning("--profile", "other.json", "--measured", run / "artifact")
    assert "the profile is of artifact another" in capsys.readouterr().err


def test_a_profile_in_a_precision_that_no_graph_has_is_refused(
    planning: Callable[..., Path], graphs: Graphs, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    replace(profile_of(graphs), precision="fp3").save(tmp_path / "odd.json")
    with pytest.raises(SystemExit):
        planning("--profile", "odd.json")
    assert "precision=fp3 of the device: allowed are fp32, int8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--link", "moon"), "such as 12,50; or one of lan, loopback, lte, rio_saopaulo, wifi"),
        (("--link", "0,5"), "bandwidth above 0"),
        (("--objective", "speed"), "--objective speed: allowed are latency_ms"),
        (("--objective", "energy_mj"), "--objective energy_mj needs --watts"),
        (("--watts", "much"), "three numbers such as 2.5,1.2,0.6"),
        (("--watts", "1,2"), "three numbers"),
        (("--max-late", "0.1"), "--max-late without --deadline-ms"),
        (("--min-accuracy", "1", "--deadline-ms", "0.001"), "none of"),
        (("--min-accuracy", "1.1"), "--min-accuracy 1.1: allowed is a share, 0 to 1"),
        (("--min-accuracy", "nan"), "--min-accuracy nan: allowed is a share, 0 to 1"),
        (("--deadline-ms", "0"), "--deadline-ms 0: allowed is a number above 0"),
        (("--deadline-ms", "nan"), "--deadline-ms nan: allowed is a number above 0"),
        (("--deadline-ms", "9", "--max-late", "2"), "--max-late 2: allowed is a share, 0 to 1"),
        (("--to", "."), "exists already"),
        (("--profile", "nothing.json"), "No such file"),
    ],
)
def test_mistakes_are_one_line(
    given: tuple[str, ...], said: str, planning: Callable[..., Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        planning(*given)
    assert ended.value.code == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "plan").exists()
