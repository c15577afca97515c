"""The edge runtime against decisions on PyTorch's records, and when the cloud does not answer."""

import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from eenn.errors import EennError
from eenn.exits.decide import decide
from eenn.exits.policies.base import ExitProbs, Policy
from eenn.exits.policies.registry import POLICIES, make_policy
from eenn.offload.edge.batch import Result
from eenn.offload.edge.clouds import LocalCloud, Rest
from eenn.offload.edge.deadlines import RESERVE_S
from eenn.offload.edge.runtime import EdgeRuntime
from eenn.offload.graphs.index import Graphs
from eenn.offload.graphs.pieces import Pieces, rest, segments
from eenn.offload.protocol.errors import CloudRefused, CloudTimeout, OffloadError
from eenn.offload.protocol.wire import Cut
from eenn.preprocess import Preprocessing, UnreadableImage
from eenn.statistics.calibration import probabilities
from tests.exits.any_policy import any_policy
from tests.offload.exported import CLASSES, PREPROCESSING, TEMPERATURES, Exported

Floats = NDArray[np.float32]
BRANCHES = 3
SUBSETS = [active for n in range(BRANCHES + 1) for active in combinations(range(BRANCHES), n)]
SETTINGS = {"p_tar": 0.65, "agree": 2, "low": 0.5, "weights": (0.3, 0.5, 0.9)}


@pytest.fixture(scope="module")
def outputs(exported: Exported) -> list[ExitProbs]:
    """Calibrated probabilities of every exit, from PyTorch."""
    with torch.inference_mode():
        logits = exported.network(torch.from_numpy(exported.images)).numpy()
    return calibrated(logits)


def calibrated(logits: Floats) -> list[ExitProbs]:
    pairs = zip(logits, TEMPERATURES, strict=True)
    return [ExitProbs(exit, probabilities(*pair)) for exit, pair in enumerate(pairs)]


def confident(p_tar: float) -> Policy:
    return make_policy("confidence", {"p_tar": p_tar})


class Recording:
    """A cloud that notes what it is asked."""

    def __init__(self, cloud: LocalCloud) -> None:
        self.cloud = cloud
        self.asked: list[tuple[Floats, int, float | None]] = []

    def infer(
        self, features: Floats, cut: Cut, deadline: float | None, heads: str = "plain"
    ) -> Floats:
        self.asked.append((features, cut, deadline))
        return self.cloud.infer(features, cut, deadline, heads)


class Failing:
    """A cloud that has one error for everyone."""

    def __init__(self, error: OffloadError) -> None:
        self.error = error

    def infer(
        self, features: Floats, cut: Cut, deadline: float | None, heads: str = "plain"
    ) -> Floats:
        raise self.error


def assert_decided(
    results: Sequence[Result], policy: Policy, outputs: list[ExitProbs], active: Any, cloud: bool
) -> None:
    expected = decide(policy, outputs, active, cloud)
    assert [result.exit for result in results] == expected.taken.tolist()
    assert [result.label for result in results] == expected.label.tolist()
    assert [result.on_edge for result in results] == expected.on_edge.tolist()
    np.testing.assert_allclose(
        [result.confidence for result in results], expected.confidence, rtol=1e-3
    )


@pytest.mark.parametrize("active", SUBSETS)
def test_live_exits_and_answers_are_those_decided_on_records(
    active: tuple[int, ...], exported: Exported, outputs: list[ExitProbs]
) -> None:
    cloud = LocalCloud(exported.path)
    for name in POLICIES:
        policy = any_policy(name, SETTINGS)
        runtime = EdgeRuntime(exported.path, policy, active, cloud)
        results = runtime.classify(exported.images)
        assert_decided(results, policy, outputs, active, cloud=True)
        if active:
            alone = EdgeRuntime(exported.path, policy, active).classify(exported.images)
            assert_decided(alone, policy, outputs, active, cloud=False)
            assert not any(result.degraded for result in alone)
        assert {result.class_name for result in results} <= set(CLASSES)
        for result, image in zip(results, exported.images, strict=True):
            (single,) = runtime.classify(image[None])
            assert (single.exit, single.label) == (result.exit, result.label)
            assert single.confidence == pytest.approx(result.confidence, abs=1e-4)


def test_every_exit_is_taken(exported: Exported) -> None:
    runtime = EdgeRuntime(exported.path, confident(0.65), (0, 1, 2), LocalCloud(exported.path))
    results = runtime.classify(exported.images)
    assert {result.exit for result in results} == {0, 1, 2, 3}
    assert len({result.label for result in results}) > 2


@pytest.mark.clock
def test_a_result_tells_what_happened(exported: Exported, outputs: list[ExitProbs]) -> None:
    active = (0, 2)
    runtime = EdgeRuntime(exported.path, confident(0.65), active, LocalCloud(exported.path))
    for i, result in enumerate(runtime.classify(exported.images)):
        evaluated = [exit for exit in (0, 2, 3) if exit <= result.exit]
        seen = [outputs[exit].confidence[i] for exit in evaluated]
        assert result.confidences == pytest.approx(seen, abs=1e-4)
        assert result.class_name == CLASSES[result.label]
        assert len(result.stages_ms) == min(len(evaluated), len(active))
        assert min(result.stages_ms) > 0
        assert (result.cloud_ms > 0) == (not result.on_edge)
        assert result.latency_ms == pytest.approx(sum(result.stages_ms) + result.cloud_ms)


def test_who_leaves_is_computed_no_further(
    exported: Exported, outputs: list[ExitProbs], monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[tuple[Pieces, int]] = []
    real = Graphs.session

    class Counting:
        def __init__(self, pieces: Pieces, session: Any) -> None:
            self.pieces, self.session = pieces, session

        def run(self, names: list[str], feeds: dict[str, Floats]) -> Any:
            batches.append((self.pieces, len(feeds["features"])))
            return self.session.run(names, feeds)

    monkeypatch.setattr(
        Graphs, "session", lambda self, pieces, *rest: Counting(pieces, real(self, pieces, *rest))
    )
    active, policy = (0, 2), confident(0.65)
    runtime = EdgeRuntime(exported.path, policy, active, LocalCloud(exported.path))
    runtime.classify(exported.images)
    taken = decide(policy, outputs, active).taken
    manifest = exported.graphs.manifest
    first, second = segments(manifest, 0, 1), segments(manifest, exported.cut(1).blocks, 3)
    third = rest(manifest, exported.cut(3).blocks)
    assert batches == [(first, 48), (second, sum(taken > 0)), (third, sum(taken > 2))]
    batches.clear()
    EdgeRuntime(exported.path, confident(0.0), active).classify(exported.images)
    assert batches == [(first, 48)]


@pytest.mark.parametrize("active", SUBSETS)
def test_the_cloud_gets_the_features_of_those_that_are_left(
    active: tuple[int, ...], exported: Exported, outputs: list[ExitProbs]
) -> None:
    policy, cloud = confident(0.65), Recording(LocalCloud(exported.path))
    EdgeRuntime(exported.path, policy, active, cloud).classify(exported.images)
    ((features, cut, deadline),) = cloud.asked
    left = ~decide(policy, outputs, active).on_edge
    split_point = active[-1] + 1 if active else 0
    assert cut == exported.cut(split_point)
    with torch.inference_mode():
        _, whole = exported.network.edge(torch.from_numpy(exported.images[left]), split_point)
    np.testing.assert_allclose(features, whole, rtol=0, atol=1e-4 * float(whole.abs().max()))
    assert features.dtype == np.float32
    assert deadline is None


@pytest.mark.parametrize("name", POLICIES)
def test_when_the_cloud_fails_the_edge_answers_as_if_alone(
    name: str, exported: Exported, outputs: list[ExitProbs]
) -> None:
    policy, active = any_policy(name, SETTINGS), (0, 1)
    failing = Failing(CloudTimeout("the cloud took too long", "read"))
    runtime = EdgeRuntime(exported.path, policy, active, failing)
    results = runtime.classify(exported.images)
    assert_decided(results, policy, outputs, active, cloud=False)
    offloaded = ~decide(policy, outputs, active).on_edge
    assert [result.degraded for result in results] == offloaded.tolist()
    assert {result.failure for result in results} == {"", "read"}
    assert runtime.failures == {"read": offloaded.sum()}
    runtime.rest = Rest(Failing(CloudRefused("another artifact", "artifact")))
    runtime.classify(exported.images)
    assert runtime.failures == {"read": offloaded.sum(), "artifact": offloaded.sum()}


def test_without_an_active_branch_a_failure_is_the_callers(exported: Exported) -> None:
    failing = Failing(CloudRefused("another artifact", "artifact"))
    runtime = EdgeRuntime(exported.path, confident(0.5), (), failing)
    with pytest.raises(CloudRefused, match="another artifact"):
        runtime.classify(exported.images)
    assert runtime.failures == {"artifact": 48}


@pytest.mark.clock
def test_the_cloud_is_told_until_when(exported: Exported) -> None:
    cloud = Recording(LocalCloud(exported.path))
    runtime = EdgeRuntime(exported.path, confident(1.0), (0,), cloud, deadline_ms=500)
    start = time.monotonic()
    runtime.classify(exported.images[:1])
    ((_, _, deadline),) = cloud.asked
    assert deadline is not None
    assert start + 0.5 - RESERVE_S <= deadline <= time.monotonic() + 0.5 - RESERVE_S


@pytest.mark.clock
def test_the_deadline_of_a_file_holds_for_its_preprocessing_too(
    exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = Recording(LocalCloud(exported.path))
    runtime = EdgeRuntime(exported.path, confident(1.0), (0,), cloud, deadline_ms=500)
    began: list[float] = []
    read = Preprocessing.read

    def reading(self: Preprocessing, file: Any) -> Any:
        began.append(time.monotonic())
        return read(self, file)

    monkeypatch.setattr(Preprocessing, "read", reading)
    runtime.classify_file(exported.files[0])
    ((_, _, deadline),) = cloud.asked
    assert deadline is not None
    assert deadline <= began[0] + 0.5 - RESERVE_S


@pytest.mark.parametrize("shape", [(1, 4), (2, 5), (5,)])
def test_logits_of_another_shape_are_garbage(shape: tuple[int, ...], exported: Exported) -> None:
    class Wrong:
        def infer(
            self, features: Floats, cut: Cut, deadline: float | None, heads: str = "plain"
        ) -> Floats:
            return np.zeros(shape, np.float32)

    runtime = EdgeRuntime(exported.path, confident(1.0), (0,), Wrong())
    (result,) = runtime.classify(exported.images[:1])
    assert (result.failure, result.exit) == ("garbage", 0)
    assert runtime.failures == {"garbage": 1}


def test_int8_decides_on_its_own_logits(exported: Exported) -> None:
    def logits(exit: int) -> Floats:
        pieces = segments(exported.graphs.manifest, 0, exit)
        session = exported.graphs.session(pieces, "int8", 1)
        return np.asarray(session.run(["logits"], {"features": exported.images})[0])

    own = calibrated(np.stack([logits(exit) for exit in (1, 2, 3, 4)]))
    active, policy = (0, 1, 2), confident(0.65)
    cloud = LocalCloud(exported.path, "int8")
    runtime = EdgeRuntime(exported.path, policy, active, cloud, precision="int8", threads=2)
    assert_decided(runtime.classify(exported.images), policy, own, active, cloud=True)


@pytest.mark.clock
def test_a_file_is_preprocessed_and_timed(exported: Exported, tmp_path: Path) -> None:
    runtime = EdgeRuntime(exported.path, confident(0.65), (0, 1, 2))
    for file in exported.files[:3]:
        result = runtime.classify_file(file)
        (expected,) = runtime.classify(PREPROCESSING(PREPROCESSING.read(file))[None])
        assert (result.label, result.exit) == (expected.label, expected.exit)
        assert result.preprocess_ms > 0
        assert result.latency_ms > result.preprocess_ms
    (tmp_path / "no.jpg").write_bytes(b"no image")
    with pytest.raises(UnreadableImage, match=r"no\.jpg"):
        runtime.classify_file(tmp_path / "no.jpg")


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (np.zeros((1, 3, 32, 32)), "float64"),
        (np.zeros((3, 32, 32), np.float32), r"allowed is float32 \(N, 3, 32, 32\)"),
        (np.zeros((1, 3, 48, 48), np.float32), r"\(1, 3, 48, 48\)"),
        (np.full((1, 3, 32, 32), np.nan, np.float32), "not finite"),
        (np.full((1, 3, 32, 32), np.inf, np.float32), "not finite"),
    ],
)
def test_images_that_do_not_fit_are_refused(images: Any, said: str, exported: Exported) -> None:
    with pytest.raises(EennError, match=said):
        EdgeRuntime(exported.path, confident(0.5), (0,)).classify(images)


def test_no_images_have_no_answers(exported: Exported) -> None:
    runtime = EdgeRuntime(exported.path, confident(0.5), (0,), Failing(CloudTimeout("", "read")))
    assert runtime.classify(exported.images[:0]) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"active": (2, 1)}, "ascending choice of 1, 2, 3"),
        ({"active": (3,)}, "ascending choice of 1, 2, 3"),
        ({"active": ()}, "no exit answers; activate a branch"),
        ({"active": (0,), "precision": "fp16"}, "allowed are fp32, int8 of"),
        ({"active": (0,), "policy": make_policy("confidence", {"p_tar": (0.5, 0.5)})}, "2 thresh"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    given: dict[str, Any], said: str, exported: Exported
) -> None:
    with pytest.raises(EennError, match=said):
        EdgeRuntime(exported.path, **{"policy": confident(0.5), **given})


def test_a_device_needs_no_training_software(exported: Exported) -> None:
    program = f"""
import sys
from eenn.offload.edge.runtime import EdgeRuntime
from eenn.exits.policies.threshold import Confidence
from eenn.offload.protocol.wire import Cut
runtime = EdgeRuntime({str(exported.path)!r}, Confidence(p_tar=0.5), (0, 1, 2))
print(runtime.classify_file({str(exported.files[0])!r}).class_name)
heavy = "torch torchvision pytorch_lightning lightning hydra wandb matplotlib onnx pandas".split()
print([name for name in heavy if name in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    class_name, heavy = run.stdout.splitlines()
    assert class_name in CLASSES
    assert heavy == "[]"
