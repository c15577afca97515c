"""`eenn-export --to`: a folder that answers as the artifact, with the files that this takes."""

import json
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eenn.artifact.deployment import Deployment, Upstream
from eenn.artifact.manifest import ArtifactMissing, read_manifest
from eenn.errors import EennError
from eenn.exits.policies.registry import make_policy
from eenn.models.early_exit import EarlyExitNet
from eenn.offload.cloud.command import running
from eenn.offload.export import folder as folder_module
from eenn.offload.graphs.index import Graphs
from tests.offload.device_folder import answers, assert_answers_as_the_whole, export_to, files_of
from tests.offload.exported import Exported
from tests.offload.patience import PATIENCE_S, make_patient


@pytest.fixture
def deployment(exported: Exported) -> Deployment:
    return Deployment(
        artifact_id=exported.graphs.manifest.id,
        policy=make_policy("confidence", {"p_tar": 0.65}),
        active=(0, 2),
        deadline_ms=1e3 * PATIENCE_S,
    )


@pytest.fixture
def chosen(deployment: Deployment, tmp_path: Path) -> Path:
    deployment.save(tmp_path / "chosen.json")
    return tmp_path / "chosen.json"


@pytest.fixture(scope="module")
def nobody() -> str:
    """The URL of a cloud that is not there."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


@settings(max_examples=8, suppress_health_check=list(HealthCheck))
@given(
    active=st.sampled_from([(), (0,), (2,), (0, 1), (1, 2), (0, 1, 2)]),
    precision=st.sampled_from(["fp32", "int8"]),
    rest=st.sampled_from(["cloud", "device", "nobody"]),
    on_failure=st.sampled_from(["answer", "continue"]),
    payload=st.sampled_from(["uint8", "photograph"]),
    p_tar=st.sampled_from([0.5, 0.9]),
)
def test_a_folder_answers_as_the_artifact_and_all_of_its_files_are_opened(
    active: tuple[int, ...], precision: str, rest: str, on_failure: str, payload: str, p_tar: float,
    exported: Exported, nobody: str, tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    if not active and rest == "nobody":
        active = (1,)
    deployment = Deployment(
        artifact_id=exported.graphs.manifest.id,
        policy=make_policy("confidence", {"p_tar": p_tar}),
        active=active, precision=precision, rest=rest, on_failure=on_failure, payload=payload,
        deadline_ms=1e3 * PATIENCE_S,
    )  # fmt: skip
    files, flags = exported.files[:12], ("--cloud", nobody) if rest == "cloud" else ()
    scratch = tmp_path_factory.mktemp("device")
    count = assert_answers_as_the_whole(exported.path, deployment, files, scratch, flags)
    nobody_answers = not active and (rest, on_failure) == ("cloud", "answer")
    assert count == (0 if nobody_answers else len(files))


@pytest.mark.parametrize("active", [(0, 2), (1, 3)])
def test_a_network_that_images_are_passed_on_to_comes_along(
    active: tuple[int, ...], exported: Exported, upstream: tuple[Path, EarlyExitNet],
    deployment: Deployment, tmp_path: Path,
) -> None:  # fmt: skip
    other = read_manifest(upstream[0])
    cascade = replace(deployment, active=active, rest="device", upstream=Upstream(other.id, 1.0))
    given = ("--upstream", upstream[0])
    assert_answers_as_the_whole(exported.path, cascade, exported.files, tmp_path, (), given)
    assert "upstream/onnx/fp32/block_18.onnx" in files_of(tmp_path / "folder")


def test_a_cloud_with_the_whole_artifact_takes_what_the_folder_sends(
    exported: Exported, chosen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_patient(monkeypatch)
    folder = tmp_path / "folder"
    export_to(exported.path, "--deployment", chosen, "--to", folder)
    assert Graphs.read(folder).id == exported.graphs.id
    with running([exported.path]) as cloud:
        found = answers("--artifact", folder, "--cloud", cloud.url, *exported.files[:12])
    assert {(row["place"], row["degraded"]) for row in found} == {("edge", False), ("cloud", False)}


def test_its_size_is_said_beside_that_of_the_whole(
    exported: Exported, chosen: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    _, said, _ = export_to(exported.path, "--deployment", chosen, "--to", folder)
    own, whole = (
        sum(file.stat().st_size for file in path.rglob("*.*")) for path in (folder, exported.path)
    )
    # 14 blocks, two heads, and the ends of two graphs.
    pieces = len(exported.graphs.rows)
    assert said == (
        f"for a device: {folder}: {own / 1e6:.1f} MB, of {whole / 1e6:.1f} MB in all; pieces: 20 "
        f"of {pieces}\nthere: eenn-edge --artifact folder photo.jpg\n"
    )


def test_what_the_folder_does_not_hold_is_said_with_how_to_get_it(
    exported: Exported, chosen: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    export_to(exported.path, "--deployment", chosen, "--to", folder)
    with pytest.raises(ArtifactMissing, match=r"block_18\.onnx is missing.*--to FOLDER"):
        Graphs.read(folder).content("block_18", "fp32")
    with pytest.raises(ArtifactMissing, match=r"for a device.*use the whole artifact"):
        read_manifest(folder).verified("weights.safetensors")


@pytest.mark.parametrize(
    ("edited", "said"),
    [
        ({"artifact_id": "b" * 64}, "the deployment is for artifact bbbbbbbbbbbb and "),
        ({"precision": "fp99"}, "precision=fp99: allowed are fp32, int8"),
        ({"experts": "auto"}, "experts=auto: "),
        ({"active": [1, 7]}, "ascending choice of 1, 2, 3"),
        ({"policy": {"name": "luck"}}, "policy luck: allowed are "),
        ({"deadline_ms": "soon"}, "deadline_ms is 'soon'"),
        ({"wishes": 3}, "wishes: allowed are "),
        (
            {"rest": "device", "upstream": {"artifact_id": "c" * 64, "temperature": 1.0}},
            "--upstream",
        ),
    ],
)
def test_a_deployment_that_does_not_fit_is_one_line_and_nothing_is_written(
    edited: dict[str, object], said: str, exported: Exported, chosen: Path, tmp_path: Path
) -> None:
    chosen.write_text(json.dumps({**json.loads(chosen.read_text()), **edited}))
    code, _, error = export_to(exported.path, "--deployment", chosen, "--to", tmp_path / "folder")
    assert (code, error.count("\n")) == (1, 1)
    assert error.startswith("error: ")
    assert said in error
    assert list(tmp_path.iterdir()) == [chosen]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--to", "folder"), "allowed are both or neither"),
        (("--deployment", "chosen.json"), "allowed are both or neither"),
        (("--upstream", "x"), "leave it out"),
        (("--deployment", "chosen.json", "--to", "folder", "--upstream", "x"), "leave it out"),
        (("--deployment", "chosen.json", "--to", "there"), "exists already"),
    ],
)
def test_arguments_that_do_not_go_together_are_one_line(
    arguments: tuple[str, ...], said: str, exported: Exported, chosen: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    code, _, error = export_to(exported.path, *arguments)
    assert (code, error.count("\n")) == (1, 1)
    assert said in error
    assert files_of(tmp_path) == {"chosen.json"}


def test_a_disk_that_is_full_halfway_leaves_nothing(
    exported: Exported, chosen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, left = folder_module.write_file, iter(range(3))

    def reluctant(path: Path, content: bytes) -> None:
        if next(left, None) is None:
            raise OSError(28, "No space left on device", str(path))
        write(path, content)

    monkeypatch.setattr(folder_module, "write_file", reluctant)
    code, _, error = export_to(exported.path, "--deployment", chosen, "--to", tmp_path / "folder")
    assert (code, error.count("\n")) == (1, 1)
    assert "No space left" in error
    assert list(tmp_path.iterdir()) == [chosen]


@pytest.mark.parametrize("damaged", ["fp32/block_1.onnx", "index.json"])
def test_a_damaged_folder_is_to_be_written_again_where_the_weights_are(
    damaged: str, exported: Exported, chosen: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    export_to(exported.path, "--deployment", chosen, "--to", folder)
    (folder / "onnx" / damaged).write_text('{"schema_version": 1, "artifact_id": "a"}')
    with pytest.raises(EennError, match=r"write this folder again.*with the whole artifact"):
        Graphs.read(folder).content("block_1", "fp32")


def test_a_graph_that_was_changed_is_not_copied(
    exported: Exported, chosen: Path, tmp_path: Path
) -> None:
    path = tmp_path / "artifact"
    shutil.copytree(exported.path, path)
    (path / "onnx" / "fp32" / "block_5.onnx").write_bytes(b"another")
    code, _, error = export_to(path, "--deployment", chosen, "--to", tmp_path / "folder")
    assert code == 1
    assert "block_5.onnx was changed" in error
    assert not (tmp_path / "folder").exists()
