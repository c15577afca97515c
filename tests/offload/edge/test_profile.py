"""`eenn-edge --profile`: every part of a network is measured on this device and named in a file."""

import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from numpy.typing import NDArray

from eenn.artifact.deployment import Deployment
from eenn.exits.policies.registry import make_policy
from eenn.offload.client.http_cloud import HttpCloud
from eenn.offload.cloud.command import running
from eenn.offload.edge import command, profiling
from eenn.offload.protocol.codecs import PAYLOADS
from eenn.offload.protocol.errors import CloudTimeout
from eenn.offload.protocol.wire import Cut
from eenn.planning.device_profile import DeviceProfile
from eenn.provenance import processor
from tests.offload.device_folder import export_to
from tests.offload.edge.edge_command import run_bare
from tests.offload.exported import Exported

Floats = NDArray[np.float32]
Profiling = Callable[..., tuple[int, list[str], str]]
BORDERS, EXITS, BLOCKS = (0, 3, 7, 14, 19), 4, 19


@pytest.fixture
def profiled(
    exported: Exported, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Profiling:
    """Runs `eenn-edge --profile` with two runs of each part: exit code, lines of stdout, stderr."""
    monkeypatch.setattr(profiling, "ROUNDS", 2)
    monkeypatch.setattr(profiling, "ROW", 1)

    def run(*arguments: object) -> tuple[int, list[str], str]:
        with pytest.raises(SystemExit) as stop:
            command.main(["--artifact", str(exported.path), *map(str, arguments)])
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out.splitlines(), captured.err

    return run


class Noting(HttpCloud):
    """A cloud that keeps the newest features of every cut and format, and its URL's host."""

    asked: dict[str, tuple[Floats, Cut, str, str]]

    def __init__(self, url: str, artifact_id: str, *, precision: str) -> None:
        super().__init__(url, artifact_id, precision=precision)
        self._format = precision

    def infer(self, features: Floats, cut: Cut, *others: object) -> Floats:
        key, host = f"{cut.blocks}-{self._format}", urlsplit(self.url).netloc
        self.asked[key] = features.copy(), cut, self._format, host
        return super().infer(features, cut, *others)  # type: ignore[arg-type]


def further(exported: Exported, start: int) -> Iterator[int]:
    """Cuts behind a border where clearly less is sent than at every cut before, by PyTorch."""
    least = math.prod(exported.shapes[start])
    for cut in range(start + 1, BLOCKS):
        values = math.prod(exported.shapes[cut])
        if values <= 0.9 * least:
            least = values
            yield cut


def assert_measures_every_part(profile: DeviceProfile, exported: Exported) -> None:
    assert list(profile.blocks) == [str(block) for block in range(1, BLOCKS + 1)]
    behind = {(start, cut) for start in BORDERS[:-1] for cut in further(exported, start)}
    neighbours = {(0, 3), (3, 7), (7, 14), (14, 19)}
    stages = {f"{a}-{b}" for a, b in {*neighbours, *behind, (0, BLOCKS)}}
    assert set(profile.stages) == stages
    cuts = {*BORDERS[:-1], *(cut for _, cut in behind)}
    assert set(profile.exits) == {
        *(f"{BORDERS[start]}-{exit}" for exit in range(1, EXITS) for start in range(exit)),
        *(f"{cut}-{EXITS}" for cut in cuts),
    }
    assert set(profile.requests) == {f"{cut}-{name}" for cut in cuts for name in PAYLOADS}
    parts = (profile.blocks, profile.stages, profile.exits)
    assert all(ms > 0 for part in parts for ms in part.values())
    packed = profile.requests.values()
    assert all(one.sent_bytes > 0 and one.codec_ms > 0 for one in packed)
    assert profile.preprocess_ms > 0


def test_every_part_is_measured_and_written_to_a_file(
    profiled: Profiling,
    exported: Exported,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, lines, errors = profiled("--profile", "--precision", "int8", "--threads", 2)
    assert (code, errors) == (0, "")
    profile = DeviceProfile.load(tmp_path / "profile.json")
    assert_measures_every_part(profile, exported)
    assert profile.artifact_id == exported.graphs.manifest.id
    assert (profile.device, profile.kind) == (processor(), "cpu")
    assert (profile.precision, profile.threads, profile.input_size) == ("int8", 2, 32)
    assert (profile.repeats, profile.classifier_ms) == (2, 0)
    assert "2 threads, int8, 32 px: medians of 2 runs" in lines[0]
    assert "drawn photograph of 640x480" in lines[1]
    last = f"whole network {profile.exits['0-4']:.2f} ms"
    shown = [" ".join(line.split()) for line in lines[2:]]
    exits = [f"to exit {exit} {profile.exits[f'0-{exit}']:.2f} ms" for exit in (1, 2, 3)]
    assert shown == [*exits, last, "wrote profile.json"]


def test_a_device_needs_only_the_base_package_and_the_graphs(
    exported: Exported, tmp_path: Path
) -> None:
    shutil.copytree(exported.path / "onnx", tmp_path / "copy" / "onnx")
    shutil.copy(exported.path / "manifest.json", tmp_path / "copy")
    file = tmp_path / "device.json"
    done = run_bare("--artifact", tmp_path / "copy", "--profile", file, exported.files[0])
    assert (done.returncode, done.stderr) == (0, "")
    assert "images given: 1" in done.stdout
    profile = DeviceProfile.load(file)
    assert_measures_every_part(profile, exported)
    assert profile.repeats == profiling.ROUNDS * profiling.ROW == 20
    assert (profile.precision, profile.threads) == ("fp32", 1)


@pytest.mark.parametrize("named", [False, True])
def test_images_are_the_photographs_to_preprocess(
    named: bool,
    profiled: Profiling,
    exported: Exported,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    read: set[object] = set()
    kind = type(exported.graphs.manifest.preprocessing)
    original = kind.read

    def noting(self: object, file: object) -> object:
        read.add(file)
        return original(self, file)  # type: ignore[arg-type]

    monkeypatch.setattr(kind, "read", noting)
    name = ["own.json"] if named else []
    files = [str(file) for file in exported.files[:3]]
    code, lines, _ = profiled("--profile", *name, *files)
    assert (code, read) == (0, set(files))
    assert "images given: 3" in lines[1]
    assert [file.name for file in tmp_path.iterdir()] == (name or ["profile.json"])


def test_requests_are_as_long_as_a_cloud_gets_them(
    profiled: Profiling, exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiling, "HttpCloud", Noting)
    monkeypatch.setattr(Noting, "asked", {}, raising=False)
    code, _, errors = profiled("--profile", tmp_path / "profile.json", exported.files[0])
    assert (code, errors) == (0, "")
    profile = DeviceProfile.load(tmp_path / "profile.json")
    assert set(Noting.asked) == set(profile.requests)
    with running([exported.path]) as server:
        for key, (features, cut, name, host) in Noting.asked.items():
            with HttpCloud(server.url, exported.graphs.id, precision=name) as cloud:
                cloud.infer(features, cut, None)
                other_host = len(urlsplit(server.url).netloc) - len(host)
                expected = cloud.last.sent_bytes - other_host
            assert profile.requests[key].sent_bytes == expected


def test_a_file_is_never_overwritten(profiled: Profiling, tmp_path: Path) -> None:
    file = tmp_path / "profile.json"
    file.write_text("mine")
    code, lines, errors = profiled("--profile", file)
    assert (code, lines, file.read_text()) == (1, [], "mine")
    assert errors.count("\n") == 1
    assert "choose another: --profile FILE.json" in errors


def test_a_copy_for_one_deployment_is_not_measured(
    profiled: Profiling, exported: Exported, tmp_path: Path
) -> None:
    policy = make_policy("confidence", {"p_tar": 0.65})
    deployment = Deployment(artifact_id=exported.graphs.manifest.id, policy=policy, active=(0,))
    deployment.save(tmp_path / "chosen.json")
    folder = tmp_path / "folder"
    export_to(exported.path, "--deployment", tmp_path / "chosen.json", "--to", folder)
    code, lines, errors = profiled("--artifact", folder, "--profile", tmp_path / "p.json")
    assert (code, lines) == (1, [])
    assert errors.count("\n") == 1
    assert "give the whole exported artifact" in errors
    assert not (tmp_path / "p.json").exists()


def test_a_piece_that_is_gone_from_the_whole_artifact_asks_for_an_export(
    profiled: Profiling, exported: Exported, tmp_path: Path
) -> None:
    path = shutil.copytree(exported.path, tmp_path / "artifact")
    (path / "onnx" / "fp32" / "block_5.onnx").unlink()
    code, _, errors = profiled("--artifact", path, "--profile", tmp_path / "p.json")
    assert code == 1
    assert "run `eenn-export` again" in errors


def test_a_request_that_fails_is_not_measured(
    profiled: Profiling, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = HttpCloud.infer

    def late(self: HttpCloud, features: Floats, cut: Cut, *others: object) -> Floats:
        if cut.blocks > 5:
            raise CloudTimeout("late", "read")
        return answered(self, features, cut, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(HttpCloud, "infer", late)
    code, _, errors = profiled("--profile", tmp_path / "p.json")
    assert (code, errors.count("\n")) == (1, 1)
    assert "to itself failed: read; measure again" in errors


@pytest.mark.parametrize(
    "beside",
    [
        ("--watch", "."),
        ("--serve", "0"),
        ("--cloud", "http://h"),
        ("--deployment", "deployment.json"),
        ("--fallback", "most_confident"),
        ("--output", "answers.jsonl"),
        ("--json",),
    ],
)
def test_what_makes_no_sense_beside_it_is_told(beside: Sequence[str], profiled: Profiling) -> None:
    code, lines, errors = profiled("--profile", "p.json", *beside)
    assert (code, lines) == (2, [])
    assert f"error: {beside[0]} does not go with --profile" in errors.splitlines()[-1]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("no-folder/p.json",), "no-folder is not a folder that can be written to"),
        (("p.json", "no.jpg"), "no.jpg is not a readable image"),
        (("no.jpg",), "no.jpg is not a readable image"),
        (("p.json", "--experts", "auto"), "allowed are plain"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_file(
    given: Sequence[str],
    said: str,
    profiled: Profiling,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, lines, errors = profiled("--profile", *given)
    assert (code, lines, errors.count("\n")) == (1, [], 1)
    assert said in errors
    assert list(tmp_path.iterdir()) == []
