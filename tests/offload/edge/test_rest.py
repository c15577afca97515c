"""Who answers what no branch accepts: cloud, device, nobody, another network, a standby."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from eenn.artifact.manifest import read_manifest
from eenn.errors import EennError
from eenn.exits.decide import Decisions, decide, on_device
from eenn.exits.policies.base import ExitProbs
from eenn.exits.policies.registry import make_policy
from eenn.models.early_exit import EarlyExitNet
from eenn.offload.client.http_cloud import HttpCloud
from eenn.offload.cloud.command import running
from eenn.offload.edge.batch import Result
from eenn.offload.edge.clouds import LocalCloud, Rest
from eenn.offload.edge.runtime import EdgeRuntime
from eenn.offload.protocol.errors import CloudRefused, CloudTimeout
from eenn.offload.protocol.wire import IMAGE_CUT, IMAGE_MODEL, Cut
from eenn.statistics.calibration import probabilities
from tests.offload.exported import TEMPERATURES, Exported
from tests.offload.patience import PATIENT

Floats = NDArray[np.float32]
POLICY = make_policy("confidence", {"p_tar": 0.65})
STRICT = make_policy("confidence", {"p_tar": 0.6, "strict": 2})
ALL = (0, 1, 2)
OWN = (0, 1, 2, 3)  # with the artifact's last exit
UPSTREAM_TEMPERATURE = 0.7


class Late:
    """A cloud that is never in time; it notes until when it may be."""

    def __init__(self) -> None:
        self.deadlines: list[float | None] = []

    def infer(
        self, features: Floats, cut: Cut, deadline: float | None, heads: str = "plain"
    ) -> Floats:
        self.deadlines.append(deadline)
        raise CloudTimeout("too late", "deadline")


@pytest.fixture(scope="module")
def outputs(exported: Exported) -> list[ExitProbs]:
    """Calibrated probabilities of every exit, from PyTorch."""
    with torch.inference_mode():
        logits = exported.network(torch.from_numpy(exported.images)).numpy()
    pairs = zip(logits, TEMPERATURES, strict=True)
    return [ExitProbs(exit, probabilities(*pair)) for exit, pair in enumerate(pairs)]


@pytest.fixture(scope="module")
def cascade(
    exported: Exported, upstream: tuple[Path, EarlyExitNet], outputs: list[ExitProbs]
) -> list[ExitProbs]:
    """The same, and behind them those of the upstream network's last exit."""
    with torch.inference_mode():
        logits = upstream[1](torch.from_numpy(exported.images))[-1].numpy()
    return [*outputs, ExitProbs(4, probabilities(logits, UPSTREAM_TEMPERATURE))]


def assert_as_decided(results: Sequence[Result], expected: Decisions) -> None:
    assert [result.exit for result in results] == expected.taken.tolist()
    assert [result.label for result in results] == expected.label.tolist()
    assert [result.on_edge for result in results] == expected.on_edge.tolist()
    np.testing.assert_allclose(
        [result.confidence for result in results], expected.confidence, rtol=1e-3
    )


@pytest.mark.parametrize("active", [(), (1,), ALL])
def test_a_device_answers_the_rest_itself(
    active: tuple[int, ...], exported: Exported, outputs: list[ExitProbs]
) -> None:
    rest = Rest(LocalCloud(exported.path), on_device=True)
    results = EdgeRuntime(exported.path, POLICY, active, rest).classify(exported.images)
    expected = on_device(decide(POLICY, outputs, active))
    assert_as_decided(results, expected)
    assert 3 in expected.taken
    for result in results:
        assert result.cloud_ms == 0
        # The rest is a stage behind those of the branches.
        assert len(result.stages_ms) == len(result.exits)


def test_photographs_go_to_the_cloud_in_place_of_features(
    exported: Exported, outputs: list[ExitProbs]
) -> None:
    with (
        running([str(exported.path)]) as server,
        HttpCloud(server.url, exported.graphs.id, **PATIENT) as cloud,
    ):
        runtime = EdgeRuntime(exported.path, POLICY, ALL, Rest(photographs=cloud))
        results = [runtime.classify_file(file) for file in exported.files]
        expected = decide(POLICY, outputs, ALL)
        assert_as_decided(results, expected)
        offloaded = exported.files[int(np.flatnonzero(expected.taken == 3)[-1])]
        with offloaded.open("rb") as file:
            assert runtime.classify_file(file).exit == 3
        assert cloud.last.sent_bytes > offloaded.stat().st_size


def test_many_photographs_travel_together(exported: Exported, outputs: list[ExitProbs]) -> None:
    here = LocalCloud(exported.path)
    runtime = EdgeRuntime(exported.path, POLICY, ALL, Rest(photographs=here))
    results = runtime.classify(exported.images, exported.files)
    assert_as_decided(results, decide(POLICY, outputs, ALL))
    with pytest.raises(EennError, match=r"0 files for 48 images.*give every image's file"):
        runtime.classify(exported.images)


def test_an_upstream_network_in_the_cloud_answers_as_decided_on_both_networks_outputs(
    exported: Exported, upstream: tuple[Path, EarlyExitNet], cascade: list[ExitProbs]
) -> None:
    theirs = read_manifest(upstream[0]).id
    # The cloud has both; photographs reach the one that they are meant for.
    with (
        running([str(exported.path), str(upstream[0])]) as server,
        HttpCloud(server.url, theirs, **PATIENT) as cloud,
    ):
        cloud.check(models=[IMAGE_MODEL])
        rest = Rest(photographs=cloud, temperature=UPSTREAM_TEMPERATURE)
        for policy, active in ((STRICT, OWN), (POLICY, (0, 2)), (POLICY, ())):
            runtime = EdgeRuntime(exported.path, policy, active, rest)
            results = [runtime.classify_file(file) for file in exported.files]
            expected = decide(policy, cascade, active)
            assert_as_decided(results, expected)
            assert 4 in expected.taken
            assert {r.exits for r in results if not r.on_edge} == {(*active, 4)}


def test_a_cloud_without_the_upstream_network_fails_the_check(exported: Exported) -> None:
    with running([str(exported.path)]) as server:
        own = read_manifest(exported.path).id
        with HttpCloud(server.url, own, **PATIENT) as cloud:
            cloud.check(models=[IMAGE_MODEL])
        with HttpCloud(server.url, "b" * 64, **PATIENT) as cloud:
            with pytest.raises(CloudRefused, match="not bbbbbbbbbbbb; start it"):
                cloud.check(models=[IMAGE_MODEL])
            with pytest.raises(CloudRefused, match="bbbbbbbbbbbb is not served here"):
                cloud.infer_files([exported.files[0].read_bytes()], None)


def test_an_upstream_network_on_the_device_answers_the_same(
    exported: Exported, upstream: tuple[Path, EarlyExitNet], cascade: list[ExitProbs]
) -> None:
    here = LocalCloud(upstream[0])
    rest = Rest(photographs=here, temperature=UPSTREAM_TEMPERATURE, on_device=True)
    runtime = EdgeRuntime(exported.path, STRICT, OWN, rest)
    results = [runtime.classify_file(file) for file in exported.files]
    assert_as_decided(results, on_device(decide(STRICT, cascade, OWN)))


def test_the_last_exit_is_a_branch_of_cascades_only(exported: Exported) -> None:
    with pytest.raises(EennError, match="allowed is an ascending choice of 1, 2, 3, each once"):
        EdgeRuntime(exported.path, POLICY, OWN, LocalCloud(exported.path))


@pytest.mark.parametrize("deadline_ms", [None, 1e7])
def test_a_device_goes_on_where_the_cloud_fails(
    deadline_ms: float | None, exported: Exported, outputs: list[ExitProbs]
) -> None:
    late, standby = Late(), LocalCloud(exported.path)
    runtime = EdgeRuntime(
        exported.path, POLICY, ALL, Rest(late, standby=standby), deadline_ms=deadline_ms
    )
    results = runtime.classify(exported.images)
    expected = decide(POLICY, outputs, ALL)
    assert_as_decided(results, on_device(expected))
    left = expected.taken == 3
    assert [result.failure for result in results] == ["deadline" if own else "" for own in left]
    assert runtime.failures == {"deadline": int(left.sum())}
    for result in results:
        assert (result.cloud_ms > 0) == (result.exit == 3)
        assert len(result.stages_ms) == len(result.exits)


class Slow(LocalCloud):
    """A rest that says that it takes long."""

    needed_s = 3600.0

    def expected_s(self, cut: Cut) -> float:
        return self.needed_s


def test_the_cloud_is_given_up_while_the_device_can_still_finish(exported: Exported) -> None:
    late, standby = Late(), Slow(exported.path)
    (image,) = exported.images[:1]
    runtime = EdgeRuntime(
        exported.path, make_policy("confidence", {"p_tar": 1.0}), ALL,
        Rest(late, standby=standby), deadline_ms=1e7 * 1e3,
    )  # fmt: skip
    before = time.monotonic()
    (result,) = runtime.classify(image[None])
    (deadline,) = late.deadlines
    assert (result.exit, result.failure) == (3, "deadline")
    assert deadline is not None
    # So many seconds before the end as the rest takes, and some more.
    assert before + 1e7 - 3 * standby.needed_s < deadline < before + 1e7 - standby.needed_s


def test_a_standby_that_is_too_slow_leaves_the_cloud_its_time_and_the_branches_the_answer(
    exported: Exported, outputs: list[ExitProbs]
) -> None:
    late, standby = Late(), Slow(exported.path)
    runtime = EdgeRuntime(
        exported.path, POLICY, ALL, Rest(late, standby=standby), deadline_ms=1e3 * 1800
    )
    before = time.monotonic()
    results = runtime.classify(exported.images)
    assert_as_decided(results, decide(POLICY, outputs, ALL, cloud=False))
    (deadline,) = late.deadlines
    assert deadline is not None
    assert before + 1000 < deadline < before + 1900


class Gone:
    """A cloud for photographs that cannot be reached."""

    def infer_files(self, files: Sequence[bytes], deadline: float | None) -> Floats:
        raise CloudTimeout("gone", "connect")


def test_a_cascade_whose_cloud_fails_goes_on_to_the_artifacts_own_last_exit(
    exported: Exported, outputs: list[ExitProbs]
) -> None:
    rest = Rest(
        photographs=Gone(), temperature=UPSTREAM_TEMPERATURE, standby=LocalCloud(exported.path)
    )
    runtime = EdgeRuntime(exported.path, POLICY, ALL, rest)
    results = runtime.classify(exported.images, exported.files)
    assert_as_decided(results, on_device(decide(POLICY, outputs, ALL)))
    # Where that was active, it has been computed and answers.
    results = EdgeRuntime(exported.path, STRICT, OWN, rest).classify(
        exported.images, exported.files
    )
    assert_as_decided(results, decide(STRICT, outputs_and_nobody(outputs), OWN, cloud=False))
    assert "connect" in {result.failure for result in results}


def outputs_and_nobody(outputs: list[ExitProbs]) -> list[ExitProbs]:
    """With an upstream exit, which nobody asks: its values do not matter."""
    return [*outputs, ExitProbs(4, outputs[0].probs)]


def test_a_rest_is_asked_in_one_way(exported: Exported) -> None:
    here = LocalCloud(exported.path)
    with pytest.raises(EennError, match="allowed is one of them"):
        Rest(here, here)


def test_where_nobody_answers_the_rest_a_cascades_own_last_exit_may_answer(
    exported: Exported, cascade: list[ExitProbs]
) -> None:
    each = make_policy("confidence", {"p_tar": [0.7, 0.6, 0.8, 0.5, 0.9]})
    for policy, active in ((STRICT, OWN), (each, (0, 2))):
        nobody = Rest(temperature=UPSTREAM_TEMPERATURE)
        results = EdgeRuntime(exported.path, policy, active, nobody).classify(exported.images)
        assert_as_decided(results, decide(policy, cascade, active, cloud=False))


def test_what_a_rest_takes_is_the_median_of_the_newest(
    exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = LocalCloud(exported.path)
    assert here.expected_s(exported.cut(3)) > 0
    taken_ms = iter([1000.0, 4000.0, 8000.0, 2000.0, 6000.0, 6000.0, 6000.0])
    monkeypatch.setattr("eenn.offload.edge.clouds.slowed_ms", lambda *_: next(taken_ms))
    for _ in range(7):
        here.infer(exported.images[:2], IMAGE_CUT, None)
    # Of the newest five, each for two images.
    assert here.expected_s(IMAGE_CUT) == 3.0


def test_a_photograph_that_is_only_passed_on_is_not_read_by_the_device(exported: Exported) -> None:
    class Whole:
        """Whoever takes any file."""

        def infer_files(self, files: Sequence[bytes], deadline: float | None) -> Floats:
            assert files == [b"not an image"]
            return np.eye(5, dtype=np.float32)[[3]]

    def answered(active: Sequence[int], file: Path) -> Result:
        runtime = EdgeRuntime(exported.path, POLICY, active, Rest(photographs=Whole()))
        return runtime.classify_file(file)

    file = exported.path.parent / "not_an_image.jpg"
    file.write_bytes(b"not an image")
    assert answered((), file).label == 3
    with pytest.raises(EennError):
        answered((0,), file)
