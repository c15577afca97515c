"""Experts on the edge and in the cloud: exits, answers and heads are those of PyTorch's logits."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from eenn.artifact import store
from eenn.artifact.deployment import Deployment
from eenn.artifact.guard_settings import GuardSettings
from eenn.artifact.manifest import (
    ArtifactTruncated,
    ArtifactVersion,
    manifest_id,
    read_manifest,
)
from eenn.errors import EennError
from eenn.exits.decide import decide
from eenn.exits.head_sets import PLAIN, HeadChoice, HeadMode
from eenn.exits.policies.base import ExitProbs
from eenn.exits.policies.threshold import Confidence
from eenn.offload.client.http_cloud import HttpCloud
from eenn.offload.cloud.command import running
from eenn.offload.edge import clouds, deadlines, profiling
from eenn.offload.edge import runtime as runtime_module
from eenn.offload.edge.answers import as_json, as_line
from eenn.offload.edge.batch import Result
from eenn.offload.edge.clouds import LocalCloud
from eenn.offload.edge.command import main as edge_main
from eenn.offload.edge.deadlines import RESERVE_S
from eenn.offload.edge.needed import needed_pieces
from eenn.offload.edge.runtime import EdgeRuntime
from eenn.offload.export.write import export
from eenn.offload.graphs.index import Graphs
from eenn.offload.protocol.errors import CloudRefused, CloudTimeout
from eenn.offload.protocol.wire import IMAGE_CUT, Cut, model_name
from eenn.planning.device_profile import DeviceProfile
from eenn.statistics.calibration import probabilities
from tests.artifact.expert_artifact import KINDS, save_with_random_experts
from tests.offload.device_folder import assert_answers_as_the_whole, files_of
from tests.offload.edge.guarded_edge import guarded_edge
from tests.offload.exported import Exported
from tests.offload.patience import PATIENT
from tests.offload.simulated_clock import SimulatedClock

AUTO = HeadChoice(HeadMode.CHOSEN)
Floats = NDArray[np.float32]
SETS = (PLAIN, *KINDS)
POLICY = Confidence(p_tar=0.6)
ACTIVE = (0, 1, 2)


@pytest.fixture(scope="module")
def path(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported artifact of the session with two experts, exported."""
    path = tmp_path_factory.mktemp("experts") / "artifact"
    save_with_random_experts(path, exported.path, torch.from_numpy(exported.images))
    export(path, np.split(exported.images[:32], 4), exported.images)
    return path


@pytest.fixture(scope="module")
def logits(path: Path, exported: Exported) -> tuple[Floats, Floats]:
    """PyTorch's of every head set, (sets, exits, samples, classes), and of the kinds."""
    network = store.load(path).experts
    assert network
    with torch.inference_mode():
        sets, kinds = network(torch.from_numpy(exported.images))
    return sets.numpy(), kinds.numpy()


@pytest.fixture(scope="module")
def chosen(path: Path, logits: tuple[Floats, Floats]) -> list[int]:
    """The head set of every image, one by one."""
    classifier = store.load(path).manifest.classifier
    found = []
    for z in logits[1]:
        weights = np.exp(z / classifier.temperature)
        best = int(z.argmax())
        found.append(best if weights[best] / weights.sum() >= classifier.sure else 0)
    assert set(found) == {0, 1, 2}
    return found


def assert_answered(
    results: Sequence[Result], path: Path, logits: Floats, heads: Sequence[int]
) -> None:
    """Every image is answered as by the heads of its own set alone."""
    manifest = store.load(path).manifest
    temperatures = [
        manifest.temperatures.per_exit,
        *(expert.temperatures.per_exit for expert in manifest.experts),
    ]
    for image, (result, own) in enumerate(zip(results, heads, strict=True)):
        outputs = [
            ExitProbs(exit, probabilities(z[image : image + 1], temperature))
            for exit, (z, temperature) in enumerate(
                zip(logits[own], temperatures[own], strict=True)
            )
        ]
        expected = decide(POLICY, outputs, ACTIVE)
        assert result.heads == SETS[own]
        assert (result.exit, result.label) == (expected.taken[0], expected.label[0])
        assert result.confidence == pytest.approx(expected.confidence[0], abs=1e-4)


@pytest.mark.clock
def test_every_image_is_answered_by_the_heads_of_its_distortion(
    path: Path, exported: Exported, logits: tuple[Floats, Floats], chosen: list[int]
) -> None:
    runtime = EdgeRuntime(path, POLICY, ACTIVE, LocalCloud(path), experts=AUTO)
    results = runtime.classify(exported.images)
    assert_answered(results, path, logits[0], chosen)
    assert {result.on_edge for result in results} == {True, False}
    assert all(result.classifier_ms > 0 for result in results)
    one_by_one = [runtime.classify(image[None])[0] for image in exported.images]
    assert_answered(one_by_one, path, logits[0], chosen)
    for result in one_by_one:
        parts_ms = result.classifier_ms + sum(result.stages_ms) + result.cloud_ms
        assert result.latency_ms == pytest.approx(parts_ms)


def test_a_server_answers_with_the_same_heads(
    path: Path, exported: Exported, logits: tuple[Floats, Floats], chosen: list[int]
) -> None:
    own = Graphs.read(path).id
    with running([str(path)]) as server, HttpCloud(server.url, own, **PATIENT) as cloud:
        for experts, heads in (
            (AUTO, chosen),
            (KINDS[1], [2] * len(chosen)),
            (PLAIN, [0] * len(chosen)),
        ):
            runtime = EdgeRuntime(
                path, POLICY, ACTIVE, cloud, experts=HeadChoice.named(str(experts))
            )
            results = runtime.classify(exported.images)
            assert_answered(results, path, logits[0], heads)
            assert not runtime.failures
            assert {result.on_edge for result in results} == {True, False}
        with pytest.raises(EennError, match="model eenn-cloud-3-jpeg is not served here"):
            cloud.infer(np.zeros((1, 3, 32, 32), np.float32), exported.cut(3), None, "jpeg")


@pytest.mark.parametrize("split_point", range(4))
def test_every_split_point_has_the_last_exit_of_every_head_set(
    path: Path, exported: Exported, logits: tuple[Floats, Floats], split_point: int
) -> None:
    _, features = exported.network.edge(torch.from_numpy(exported.images), split_point)
    for number, heads in enumerate(SETS):
        own = LocalCloud(path).infer(
            features.detach().numpy(), exported.cut(split_point), None, heads
        )
        np.testing.assert_allclose(own, logits[0][number, -1], atol=1e-3, rtol=1e-4)


def test_a_kind_always_answers_where_it_is_asked_to(
    path: Path, exported: Exported, logits: tuple[Floats, Floats]
) -> None:
    runtime = EdgeRuntime(
        path, POLICY, ACTIVE, LocalCloud(path), experts=HeadChoice.named(KINDS[0])
    )
    results = runtime.classify(exported.images)
    assert_answered(results, path, logits[0], [1] * len(results))
    assert {result.classifier_ms for result in results} == {0}


def test_plain_heads_answer_as_those_of_the_artifact_without_experts(
    path: Path, exported: Exported
) -> None:
    with_experts, without = (
        EdgeRuntime(own, POLICY, ACTIVE, LocalCloud(own)).classify(exported.images)
        for own in (path, exported.path)
    )
    for own, other in zip(with_experts, without, strict=True):
        assert (own.label, own.exit, own.heads) == (other.label, other.exit, PLAIN)
        assert own.confidence == pytest.approx(other.confidence, abs=1e-5)


def test_int8_is_near_fp32_for_the_heads_of_every_set(
    path: Path, exported: Exported, logits: tuple[Floats, Floats], chosen: list[int]
) -> None:
    cloud = LocalCloud(path, "int8")
    for number, heads in enumerate(SETS):
        own, truth = cloud.infer(exported.images, IMAGE_CUT, None, heads), logits[0][number, -1]
        # Random weights are far rougher than trained ones; other heads are hardly correlated.
        assert np.corrcoef(own.ravel(), truth.ravel())[0, 1] > 0.6
    plain, auto = (
        EdgeRuntime(
            path, POLICY, ACTIVE, cloud, "int8", experts=HeadChoice.named(str(experts))
        ).classify(exported.images)
        for experts in (PLAIN, AUTO)
    )
    assert [result.heads for result in auto] == [SETS[own] for own in chosen]
    # Whichever way the plain heads are asked for, they are the same.
    for one, other in zip(plain, auto, strict=True):
        if other.heads == PLAIN:
            assert one.confidence == pytest.approx(other.confidence, abs=1e-5)


def test_a_hanging_cloud_is_waited_for_once_and_all_of_the_wait_is_counted(
    path: Path, exported: Exported, chosen: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimulatedClock()
    for module in (runtime_module, clouds, deadlines):
        monkeypatch.setattr(module, "time", clock)

    class Hanging(LocalCloud):
        def infer(
            self, features: Floats, cut: Cut, deadline: float | None, heads: str = PLAIN
        ) -> Floats:
            assert deadline is not None
            clock.sleep(max(0.0, deadline - clock.now))
            raise CloudTimeout("the cloud took too long", "read")

    runtime = EdgeRuntime(
        path, Confidence(p_tar=1.0), ACTIVE, Hanging(path), deadline_ms=400, experts=AUTO
    )
    results = runtime.classify(exported.images)
    assert clock.slept == pytest.approx([0.4 - RESERVE_S, 0.0, 0.0])
    assert all(result.degraded for result in results)
    waited_ms = 400 - 1e3 * RESERVE_S
    assert [result.latency_ms for result in results] == pytest.approx([waited_ms] * len(results))


def test_no_images_have_no_answers(path: Path) -> None:
    runtime = EdgeRuntime(path, POLICY, ACTIVE, LocalCloud(path), experts=AUTO)
    assert runtime.classify(np.zeros((0, 3, 32, 32), np.float32)) == []


@pytest.mark.parametrize("kind", ["../../../x", "a/b", "", "x y"])
def test_a_kind_that_no_file_can_be_named_by_is_refused(
    kind: str, path: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(path, tmp_path / "artifact"))
    content = json.loads((copy / "manifest.json").read_text())
    del content["id"]
    content["experts"]["sets"][0]["kind"] = kind
    content["id"] = manifest_id(content)
    (copy / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(ArtifactTruncated, match=r"kind .*allowed are names of letters"):
        assert read_manifest(copy).experts


def test_graphs_from_before_the_experts_are_refused(path: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(path, tmp_path / "artifact"))
    index = json.loads((copy / "onnx" / "index.json").read_text())
    index["pieces"] = [row for row in index["pieces"] if row["name"] != "classifier"]
    (copy / "onnx" / "index.json").write_text(json.dumps(index))
    with pytest.raises(ArtifactVersion, match=r"no graphs of the artifact's experts.*eenn-export"):
        EdgeRuntime(copy, POLICY, ACTIVE, LocalCloud(path), experts=AUTO)


def test_a_cloud_without_the_heads_fails_the_check(path: Path, exported: Exported) -> None:
    own = Graphs.read(path).id
    with running([str(path)]) as server, HttpCloud(server.url, own, **PATIENT) as cloud:
        cloud.check(models=[model_name(IMAGE_CUT, heads) for heads in SETS])
        with pytest.raises(CloudRefused, match="model eenn-cloud-0-jpeg is not served here"):
            cloud.check(models=[model_name(), model_name(IMAGE_CUT, "jpeg")])


def test_when_the_cloud_fails_for_some_heads_the_others_are_answered(
    path: Path, exported: Exported, chosen: list[int]
) -> None:
    class Partial(LocalCloud):
        def infer(
            self, features: Floats, cut: Cut, deadline: float | None, heads: str = PLAIN
        ) -> Floats:
            if heads == KINDS[0]:
                raise CloudTimeout("the cloud took too long", "read")
            return super().infer(features, cut, deadline, heads)

    runtime = EdgeRuntime(path, Confidence(p_tar=1.0), ACTIVE, Partial(path), experts=AUTO)
    results = runtime.classify(exported.images)
    assert [result.degraded for result in results] == [own == 1 for own in chosen]
    assert runtime.failures == {"read": chosen.count(1)}


def test_the_index_has_the_backbone_once_for_all_kinds(path: Path) -> None:
    graphs = Graphs.read(path)
    assert graphs.manifest.head_sets == SETS
    blocks = {f"block_{block}" for block in range(19)}
    ends = {f"input_{border}" for border in range(20)}
    ends |= {f"output_{border}" for border in range(1, 20)}
    heads = {f"head_{exit}_{heads}" for exit in range(1, 5) for heads in SETS}
    names = {
        precision: {row.name for row in graphs.rows if row.precision == precision}
        for precision in ("fp32", "int8")
    }
    computing = {"fp32": blocks | heads | {"classifier"}, "int8": blocks}
    assert names == {precision: own | ends for precision, own in computing.items()}
    for row in graphs.rows:
        assert (row.max_relative_difference is None) == (row.name in ends)
        if row.precision == "fp32":
            assert (row.max_relative_difference or 0) < 1e-4


@pytest.mark.parametrize("experts", ["soft", "jpeg", ""])
def test_experts_that_there_are_not_name_those_that_there_are(
    path: Path, exported: Exported, experts: str
) -> None:
    with pytest.raises(EennError, match="allowed are plain, gaussian_blur, gaussian_noise, auto"):
        EdgeRuntime(path, POLICY, ACTIVE, LocalCloud(path), experts=HeadChoice.named(experts))
    with pytest.raises(EennError, match=r"allowed are plain$"):
        EdgeRuntime(
            exported.path, POLICY, ACTIVE, LocalCloud(path), experts=HeadChoice.named(experts)
        )


@pytest.mark.parametrize("experts", ["auto", KINDS[1]])
def test_a_profile_has_the_classifier_where_it_chooses(
    experts: str, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiling, "ROUNDS", 1)
    file = tmp_path / "profile.json"
    with pytest.raises(SystemExit) as stop:
        edge_main(["--artifact", str(path), "--profile", str(file), "--experts", experts])
    assert stop.value.code == 0
    assert (DeviceProfile.load(file).classifier_ms > 0) == (experts == "auto")


@pytest.mark.clock
def test_an_answer_says_whose_heads_gave_it(
    path: Path, exported: Exported, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime = EdgeRuntime(path, POLICY, ACTIVE, experts=HeadChoice.named(KINDS[0]))
    result = runtime.classify_file(exported.files[0])
    assert as_json(result)["heads"] == KINDS[0]
    assert "heads for gaussian_blur" in as_line("a.jpg", result)
    with pytest.raises(SystemExit) as stop:
        edge_main(
            ["--artifact", str(path), "--experts", "auto", "--json", *map(str, exported.files[:4])]
        )
    assert stop.value.code == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(line["heads"] in SETS and line["classifier_ms"] > 0 for line in lines)


@pytest.mark.parametrize("experts", ["plain", "gaussian_blur", "auto"])
@pytest.mark.parametrize("rest", ["nobody", "device"])
def test_a_folder_for_a_device_has_the_heads_that_answer_there(
    rest: str, experts: str, path: Path, exported: Exported, tmp_path: Path
) -> None:
    deployment = Deployment(
        artifact_id=Graphs.read(path).manifest.id,
        policy=POLICY,
        active=(0, 2),
        experts=HeadChoice.named(experts),
        rest=rest,
    )
    assert_answers_as_the_whole(path, deployment, exported.files[:12], tmp_path)
    names = {Path(name).stem for name in files_of(tmp_path / "folder")}
    assert ("classifier" in names) == (experts == "auto")
    assert ("head_3_gaussian_noise" in names) == (experts == "auto")


def test_a_guard_judges_audits_and_bursts_which_experts_they_look_like(
    path: Path, exported: Exported, chosen: list[int], tmp_path: Path
) -> None:
    with guarded_edge(path, tmp_path, edge_share=0.01) as edge:
        answered = edge.classify(exported.files)
        status = edge.status()
    for own, (result, entry) in zip(chosen, answered, strict=True):
        assert entry.heads == result.heads == PLAIN
        if entry.audit in ("agrees", "differs") or (entry.guard and entry.guard.state == "burst"):
            assert entry.looks_like == SETS[own]
        else:
            assert entry.looks_like is None
    assert {entry.audit is None for _, entry in answered if entry.looks_like} == {True, False}
    alarms = [n for n, (_, entry) in enumerate(answered) if entry.guard and entry.guard.alarm]
    since = [entry.looks_like for _, entry in answered[alarms[-1] :] if entry.looks_like]
    assert status["looks_like"] == {kind: since.count(kind) / len(since) for kind in {*since}}


def test_a_guard_of_an_artifact_without_experts_judges_nothing(
    exported: Exported, tmp_path: Path
) -> None:
    with guarded_edge(exported.path, tmp_path) as edge:
        answered = edge.classify(exported.files[:10])
        assert edge.status()["looks_like"] is None
    assert {entry.looks_like for _, entry in answered} == {None}


def test_a_folder_without_the_classifier_serves_a_guard_without_judging(
    path: Path, exported: Exported, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(path, tmp_path / "artifact"))
    (copy / "onnx" / "fp32" / "classifier.onnx").unlink()
    with guarded_edge(copy, tmp_path) as edge:
        answered = edge.classify(exported.files[:10])
        assert edge.status()["looks_like"] is None
        (warning,) = (line for line in edge.said if "warning" in line)
    assert "cannot judge which experts" in warning
    assert "classifier.onnx is missing" in warning
    assert {entry.looks_like for _, entry in answered} == {None}


@pytest.mark.parametrize("guard", [None, GuardSettings()])
@pytest.mark.parametrize("experts", [PLAIN, "gaussian_blur", "auto"])
def test_a_guarded_device_with_plain_heads_gets_the_classifier(
    experts: str, guard: GuardSettings | None, path: Path
) -> None:
    manifest = read_manifest(path)
    deployment = Deployment(
        artifact_id=manifest.id,
        policy=POLICY,
        active=ACTIVE,
        experts=HeadChoice.named(experts),
        guard=guard,
    )
    has_classifier = ("classifier", "fp32") in needed_pieces(manifest, deployment)
    assert has_classifier == (experts == "auto" or (experts == PLAIN and guard is not None))
