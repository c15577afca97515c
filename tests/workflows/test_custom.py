"""A network of the user's own code through all programs, each of which has to be told its code."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from eenn.artifact.manifest import manifest_id, read_manifest
from eenn.data.demo import DemoImages
from eenn.offload.edge import command as edge
from eenn.offload.export import command as export
from eenn.run_directory import Sweep
from eenn.workflows.console import evaluate, offload_bench, train
from tests.models.own_code import write_module, write_trap
from tests.workflows.evaluating import run_in as evaluated
from tests.workflows.training import run_in

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*LeafSpec:FutureWarning",
    "ignore:.*does not have many workers",
    "ignore:The number of training batches",
    "ignore:Found .* module.* in eval mode",
    "ignore:The dirpath has changed",
)

NETWORK = "own_of_workflows:blocks"
RUN = "outputs/train/demo/1"
QUIET = ("logger=csv", "+trainer.enable_progress_bar=false")
SMALL = (
    "data.source.images_per_class=10",
    "data.input_size=32",
    "data.resize_size=32",
    "data.batch_size=16",
    "branches=[1]",
    "trainer.max_epochs=1",
    *QUIET,
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a module of a network, and a training of that network."""
    place = tmp_path_factory.mktemp("own")
    write_module(place, NETWORK.partition(":")[0])
    (place / "outputs/train/demo").mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(place)
        run_in(place / RUN, "model=custom", f"model.build={NETWORK}", *SMALL)
    return place


@pytest.fixture(autouse=True)
def on_path(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in the folder, whose modules can be imported."""
    monkeypatch.syspath_prepend(place)
    monkeypatch.chdir(place)


@pytest.fixture
def run(place: Path, tmp_path: Path) -> Path:
    """A copy of the run, which was killed before its results were written."""
    run = tmp_path / "runs" / "demo" / "1"
    shutil.copytree(place / RUN, run)
    (run / "metrics.json").unlink()
    return run


@pytest.fixture
def trap(place: Path) -> str:
    """A function whose module leaves `trap.imported` if it is imported."""
    return write_trap(place, "trap")


def called(script: Callable[[], None], *arguments: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"{script.__name__}.py", *arguments])
        script()


def error_of(capfd: pytest.CaptureFixture[str], call: Callable[[], object]) -> str:
    with pytest.raises(SystemExit) as ended:
        call()
    assert ended.value.code == 1
    errors = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error")]
    assert len(errors) == 1
    return errors[0]


def relabel(run: Path, name: str) -> None:
    """Write another name of code into everything that a run left."""
    file = run / "artifact" / "manifest.json"
    content: dict[str, Any] = json.loads(file.read_text())
    del content["id"]
    content["architecture"]["backbone"] = f"custom/{name}"
    file.write_text(json.dumps({**content, "id": manifest_id(content)}))
    text = (run / "config.yaml").read_text()
    assert NETWORK in text
    config = yaml.safe_load(text.replace(NETWORK, name)) | {"build": name}
    (run / "config.yaml").write_text(yaml.safe_dump(config))


def test_a_run_keeps_the_name_of_its_code_as_a_label(place: Path) -> None:
    manifest = read_manifest(place / RUN / "artifact")
    assert manifest.architecture.backbone == f"custom/{NETWORK}"
    assert yaml.safe_load((place / RUN / "config.yaml").read_text())["model"]["build"] == NETWORK
    assert not any("own_of_workflows" in path.name for path in (place / RUN).rglob("*"))


def test_every_program_asks_for_the_code_again(place: Path, run: Path, capfd: Any) -> None:
    asked = f"made by {NETWORK}; if you trust that code, add build={NETWORK} to the command line"
    calls: list[Callable[[], object]] = [
        lambda: called(evaluate, f"artifact={run}", "logger=csv"),
        lambda: called(evaluate, f"artifact={run}", "logger=csv", "build=other:blocks"),
        lambda: called(offload_bench, f"artifact={run}", "logger=csv"),
        lambda: called(train, f"resume={run}"),
        lambda: called(train, f"resume={run}", "model.build=other:blocks"),
        lambda: called(train, "--config-name=train_experts", f"artifact={run}", *QUIET),
        lambda: export.main([str(run)]),
    ]
    for call in calls:
        assert asked in error_of(capfd, call)


def test_a_label_of_a_stranger_is_never_imported(place: Path, run: Path, trap: str) -> None:
    relabel(run, trap)
    calls: list[Callable[[], object]] = [
        lambda: called(evaluate, f"artifact={run}", "logger=csv", f"build={NETWORK}"),
        lambda: called(train, f"resume={run}", f"model.build={NETWORK}"),
        lambda: called(train, "--config-name=train_experts", f"artifact={run}", *QUIET),
        lambda: export.main([str(run), "--build", NETWORK]),
    ]
    for call in calls:
        with pytest.raises(SystemExit):
            call()
    assert "trap" not in sys.modules
    assert not (place / "trap.imported").exists()


def test_a_sweep_of_a_stranger_is_completed_without_its_code(
    place: Path, tmp_path: Path, trap: str, capfd: Any
) -> None:
    given = ("model=custom", f"model.build={trap},{NETWORK}", *SMALL)
    told = ("+hydra.job.env_set.EENN_BUILD=trap:blocks",)
    Sweep("train", given, ("model.build",), told).write(tmp_path / "swept")
    resumed = (f"resume={tmp_path / 'swept'}", f"model.build={NETWORK}")
    line = error_of(capfd, lambda: called(train, *resumed))
    assert f"has settings that may run code: {told[0]};" in line
    # Even the user cannot trust a name in another way than by model.build.
    with pytest.raises(SystemExit):
        called(train, *resumed, *told)
    assert not (place / "trap.imported").exists()
    done = [(tmp_path / "swept" / job / "metrics.json").exists() for job in "01"]
    assert done == [False, True]
    assert f"made by {trap};" in capfd.readouterr().err


def test_a_killed_run_goes_on_with_its_code(run: Path, place: Path) -> None:
    run_in(run, f"resume={run}", f"model.build={NETWORK}")
    metrics, before = (json.loads((one / "metrics.json").read_text()) for one in (run, place / RUN))
    assert metrics["test"] == before["test"]
    assert metrics["backbone"] == f"custom/{NETWORK}"


def test_it_goes_all_the_way_to_the_edge_without_code(place: Path, capfd: Any) -> None:
    build = f"build=[{NETWORK},other.module:blocks]"
    directory = evaluated(place, f"artifact={RUN}", "logger=csv", "p_tar=0.5", build)
    assert (directory / "summary.json").exists()
    export.main([RUN, "--build", NETWORK, "--calibration", "8", "--checked", "8"])
    source = DemoImages(1, size=32)
    (place / "photo.png").write_bytes(source.file(0))
    module = place / "own_of_workflows.py"
    hidden = module.rename(place / "hidden.txt")
    try:
        with pytest.raises(SystemExit, match="0"):
            edge.main(["--artifact", f"{RUN}/artifact", "--rest", "device", "photo.png"])
    finally:
        hidden.rename(module)
    assert "photo.png: " in capfd.readouterr().out


def test_code_for_another_network_is_an_error_but_in_a_sweep_over_networks(
    place: Path, tmp_path: Path, capfd: Any
) -> None:
    given = (f"model.build={NETWORK}", *SMALL)
    line = error_of(capfd, lambda: called(train, *given))
    assert f"model.build={NETWORK} with mobilenet_v2: this network is not made by it; add" in line
    swept = f"hydra.sweep.dir={tmp_path / 'swept'}"
    called(train, "-m", "model=custom,mobilenet_v2_narrow", *given, swept)
    table = json.loads((tmp_path / "swept" / "comparison.json").read_text())["jobs"]
    assert [job["varied"]["model"] for job in table] == ["custom", "mobilenet_v2_narrow"]
    names = [
        read_manifest(tmp_path / "swept" / job / "artifact").architecture.backbone for job in "01"
    ]
    assert names == [f"custom/{NETWORK}", "mobilenet_v2"]
