"""Run directories from strangers: their files are data, and none of them names code to run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra._internal.callbacks import Callbacks
from omegaconf import OmegaConf

from eenn.errors import EennError
from eenn.records.evaluated_artifact import open_artifact
from eenn.run_directory import read_config
from eenn.workflows.check import checked
from eenn.workflows.hydra_job import CompareRuns
from eenn.workflows.settings import DataSettings
from eenn.workflows.tracking import LOGGERS
from eenn.workflows.trained_images import TrainedImages
from tests.artifact.trained_run import make_run

DATA = {"title": "?", "input_size": 32, "resize_size": 36, "batch_size": 2, "num_workers": 0}


@pytest.fixture(scope="module")
def image_folder(
    tmp_path_factory: pytest.TempPathFactory, write_images: Callable[..., Path]
) -> Path:
    return write_images(tmp_path_factory.mktemp("images"), a=9, b=9)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, image_folder: Path) -> Path:
    """A run directory whose config.yaml every test writes anew."""
    return make_run(tmp_path_factory.mktemp("run"), image_folder, branches=1)


def payloads(marker: Path) -> list[dict[str, Any]]:
    """Sources that leave a marker if anything of them is called."""
    touch = f"open({str(marker)!r}, 'w').close()"
    return [
        {"_target_": "os.mkdir", "path": str(marker)},
        {"_target_": "builtins.exec", "_args_": [touch]},
        {"_target_": "pathlib.Path.touch", "self": {"_target_": "pathlib.Path", "x": str(marker)}},
        {"_target_": "eenn.files.write_file", "path": str(marker), "content": ""},
        {"_target_": "eenn.data.datasets.os.mkdir", "path": str(marker)},
        {"name": "os.mkdir", "path": str(marker)},
        {"name": "folder", "root": {"_target_": "os.mkdir", "path": str(marker)}},
        {"name": "folder", "root": "x", "_target_": "os.mkdir", "path": str(marker)},
        {"name": ["folder"], "root": str(marker)},
        {"name": "demo", "images_per_class": "many"},
        {"name": "folder"},
    ]


OWN = f"{CompareRuns.__module__}.{CompareRuns.__name__}"
PAYLOADS = range(len(payloads(Path())))


@pytest.mark.parametrize("number", PAYLOADS)
def test_no_code_of_a_run_directory_is_called(number: int, run: Path, tmp_path: Path) -> None:
    source = payloads(tmp_path / "marker")[number]
    data = {"title": "?", "source": source}
    (run / "config.yaml").write_text(yaml.safe_dump({"data": data}))
    with pytest.raises(EennError, match=r"config.yaml, data.source: .*images=PATH") as caught:
        open_artifact(str(run))
    assert "\n" not in str(caught.value)
    whole = {"data": {**DATA, "source": source}, "augmentation": {}}
    (run / "config.yaml").write_text(yaml.safe_dump(whole))
    with pytest.raises(EennError, match=r"data.source") as caught:
        TrainedImages.of(run)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("number", range(6))
def test_no_code_that_a_logger_names_is_called(number: int, tmp_path: Path) -> None:
    payload = payloads(tmp_path / "marker")[number]
    with pytest.raises(EennError, match=r"logger\..*: allowed is logger.name=csv, wandb"):
        LOGGERS.opener("logger", payload)
    assert not (tmp_path / "marker").exists()


def test_no_callback_but_our_own_is_called(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    for payload in (*payloads(marker)[:5], {"_target_": OWN, "x": payloads(marker)[0]}):
        with pytest.raises(EennError, match=r"hydra.callbacks: .*: allowed is the one of conf"):
            Callbacks(OmegaConf.create({"hydra": {"callbacks": {"own": payload}}}))
    assert not marker.exists()


@pytest.mark.parametrize(
    "source",
    [
        {"_target_": "eenn.data.datasets.FolderImages"},
        {"_target_": "eenn.data.datasets.FolderImages", "on_error": "skip"},
        {"name": "folder"},
    ],
)
def test_run_directories_of_earlier_versions_still_work(
    source: dict[str, str], run: Path, image_folder: Path
) -> None:
    data = {"title": "noise", "source": {**source, "root": str(image_folder)}}
    (run / "config.yaml").write_text(yaml.safe_dump({"data": data}))
    artifact = open_artifact(str(run))
    artifact.check_images()
    assert len(list(artifact.photos("test"))) == artifact.split.sizes["test"]
    checked(DataSettings, {**DATA, "source": data["source"]})


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"- data",
        b"data: [",
        b"\xff\xfe\x00",
        b"data: !!python/object/apply:os.mkdir [marker]",
        b"x: " + 900 * b"[",
        b"a: &a [b, b]\ndata: *a",
        b"data: 2021-01-01",
        b"# " + 10**6 * b"x",
    ],
)
def test_what_is_no_configuration_is_one_line(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(text)
    with pytest.raises(EennError, match="is not the configuration of a run") as caught:
        read_config(tmp_path / "config.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [None, 5, {}, {"title": 5, "source": {}}, {"title": "x"}])
def test_a_configuration_without_images_says_how_to_name_them(data: Any, run: Path) -> None:
    (run / "config.yaml").write_text(yaml.safe_dump({"data": data}))
    with pytest.raises(EennError, match="give images=PATH"):
        open_artifact(str(run))
