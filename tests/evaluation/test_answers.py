"""The heads that answer: the choice, the mixture, and an evaluation of an artifact with experts."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import eenn.records.recording
from eenn.artifact import store
from eenn.data.datasets import FolderImages
from eenn.data.distortions import Distortion, seed_of
from eenn.data.splits import Split
from eenn.exits.decide import decide
from eenn.exits.head_sets import choose_head_sets, mix_heads, pick_heads
from eenn.exits.policies.base import ExitProbs
from eenn.exits.policies.registry import make_policy
from eenn.planning.costs import Costs
from eenn.statistics.calibration import log_probabilities
from tests.artifact.expert_artifact import run_with_experts
from tests.artifact.trained_run import PREPROCESSING, make_run
from tests.workflows.evaluating import rows, run_in

FEW = ("p_tar=0.95", "first=2", "logger=csv")
probs = st.integers(1, 5).flatmap(
    lambda samples: arrays(np.float64, (samples, 3), elements=st.floats(0.01, 1))
).map(lambda p: p / p.sum(1, keepdims=True))  # fmt: skip


def random_sets(samples: int, seed: int) -> list[Any]:
    generator = np.random.default_rng(seed)
    return [log_probabilities(3 * generator.normal(size=(2, samples, 4))) for _ in range(3)]


@given(probs, st.floats(0, 1), st.integers(0, 99))
def test_the_chosen_heads_answer(kind_probs: Any, sure: float, seed: int) -> None:
    sets = random_sets(len(kind_probs), seed)
    chosen = choose_head_sets(kind_probs, sure)
    answers = pick_heads(sets, chosen)
    for sample, p in enumerate(kind_probs):
        best = int(np.argmax(p))
        expected = best if p[best] >= sure else 0
        assert chosen[sample] == expected
        np.testing.assert_array_equal(answers[:, sample], sets[expected][:, sample])


@given(probs, st.integers(0, 99))
def test_a_mixture_weights_the_heads_by_the_classifier(kind_probs: Any, seed: int) -> None:
    sets = random_sets(len(kind_probs), seed)
    found = np.exp(mix_heads(sets, kind_probs))
    np.testing.assert_allclose(found.sum(-1), 1)
    for sample, weights in enumerate(kind_probs):
        expected = sum(w * np.exp(own[:, sample]) for w, own in zip(weights, sets, strict=True))
        np.testing.assert_allclose(found[:, sample], expected)


def test_a_mixture_of_certainty_is_the_choice() -> None:
    sets = random_sets(3, 0)
    np.testing.assert_allclose(mix_heads(sets, np.eye(3)), pick_heads(sets, np.arange(3)))


def test_what_comes_first_is_paid_for_every_image() -> None:
    outputs = [ExitProbs(k, np.array([[0.9, 0.1], [0.6, 0.4]])) for k in range(3)]
    plain = Costs((10, 20, 40), (1, 2, 4))
    with_classifier = Costs((10, 20, 40), (1, 2, 4), first=5)
    for active in ((), (0,), (0, 1)):
        decided = decide(make_policy("confidence", {"p_tar": 0.8}), outputs, active)
        extra = with_classifier.edge(decided) - plain.edge(decided)
        assert extra.tolist() == [5, 5]
        assert with_classifier.cloud(decided).tolist() == plain.cloud(decided).tolist()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, write_images: Callable[..., Path]) -> Path:
    return write_images(tmp_path_factory.mktemp("photos") / "all", ant=60, bee=60, cat=60, dog=60)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Path:
    """A folder in which a network with three branches and two experts was trained."""
    return run_with_experts(tmp_path_factory.mktemp("experts"), images)


def point(directory: Path, policy: str = "confidence") -> dict[str, str]:
    (row,) = (row for row in rows(directory, "points") if row["policy"] == policy)
    return row


@pytest.mark.parametrize("experts", ["auto", "gaussian_noise", "plain", "soft"])
def test_a_point_is_what_a_loop_over_single_images_finds(
    experts: str, trained: Path, images: Path
) -> None:
    directory = run_in(
        trained, *FEW, f"experts={experts}", "distortion.kind=gaussian_noise",
        "distortion.level=20",
    )  # fmt: skip
    saved = store.load(trained / "outputs" / "train" / "noise" / "1" / "artifact")
    manifest, source = saved.manifest, FolderImages(images)
    assert saved.experts is not None
    temperatures = [manifest.temperatures.per_exit] + [
        expert.temperatures.per_exit for expert in manifest.experts
    ]
    index = {sample_id: i for i, sample_id in enumerate(source.sample_ids)}
    right, early, macs, taken = 0, 0, [], set()
    test = Split.load(manifest.split_file).test
    distort = Distortion("gaussian_noise", 20)
    for sample_id in test:
        i = index[sample_id]
        pixels = distort(PREPROCESSING.crop(source.read(i, 36)), seed_of(source.content_hashes[i]))
        with torch.inference_mode():
            sets, kinds = saved.experts(torch.from_numpy(PREPROCESSING.normalise(pixels))[None])
        p = torch.softmax(kinds[0].double() / 1.5, -1)
        chosen = int(p.argmax()) if p.max() >= 0.6 else 0
        taken.add(chosen)
        weights = {
            "plain": [1, 0, 0],
            "auto": [float(k == chosen) for k in range(3)],
            "gaussian_noise": [0, 0, 1],
            "soft": p.tolist(),
        }[experts]
        by_exit = [
            sum(
                w * torch.softmax(own[exit, 0].double() / t[exit], -1)
                for w, own, t in zip(weights, sets, temperatures, strict=True)
            )
            for exit in range(4)
        ]
        cost = manifest.classifier.macs if experts in ("auto", "soft") else 0
        seen: list[tuple[float, int]] = []
        for k in (0, 1, 3):
            cost += (3 if experts == "soft" else 1) * manifest.exits[k].head_macs
            seen.append((float(by_exit[k].max()), int(by_exit[k].argmax())))
            if seen[-1][0] >= 0.95:
                break
        segments = manifest.exits[k].macs
        early += k < 3
        answer = seen[-1][1]
        right += answer == source.labels[i]
        macs.append(cost + segments)
    row = point(directory)
    assert len(taken) > 1
    assert 0 < early < len(test)
    assert float(row["accuracy"]) == pytest.approx(right / len(test), rel=1e-5)
    assert float(row["edge_probability"]) == pytest.approx(early / len(test), rel=1e-5)
    assert float(row["macs"]) == pytest.approx(np.mean(macs), rel=1e-5)


def test_plain_heads_answer_as_those_of_the_artifact_without_experts(
    trained: Path, images: Path, tmp_path: Path
) -> None:
    make_run(tmp_path / "outputs" / "train" / "noise" / "1", images, branches=3)
    ours, theirs = (
        point(run_in(place, *FEW, "distortion.level=1")) for place in (trained, tmp_path)
    )
    measured = ("latency_ms", "missed_deadline")
    assert {k: v for k, v in ours.items() if not k.startswith(measured)} == {
        k: v for k, v in theirs.items() if not k.startswith(measured)
    }


def test_one_pass_gives_the_records_of_all_heads(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = shutil.copytree(trained, tmp_path / "copy")
    shutil.rmtree(place / "outputs" / "records", ignore_errors=True)
    passes = []
    real = eenn.records.recording.record_experts
    monkeypatch.setattr(
        eenn.records.recording,
        "record_experts",
        lambda *given: passes.append(given[-1]) or real(*given),
    )
    directory = run_in(place, *FEW, "experts=soft")
    assert len(passes) == 1
    run_in(place, *FEW, "experts=auto")
    run_in(place, *FEW, "experts=plain")
    # For drift the validation split was recorded besides, once.
    assert [title.split(", ")[1] for title in passes] == ["test", "val"]
    assert json.loads((directory / "summary.json").read_text())["experts"] == "soft"


@pytest.mark.parametrize("experts", ["jpeg", "classifier", "everyone"])
def test_experts_that_there_are_not_name_those_that_there_are(
    experts: str, trained: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run_in(trained, *FEW, f"experts={experts}")
    said = capfd.readouterr().err
    assert f"experts={experts}" in said
    assert "plain, gaussian_blur, gaussian_noise, auto, soft, matching" in said


def test_an_artifact_without_experts_says_how_to_train_some(
    images: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "outputs" / "train" / "noise" / "1", images, branches=3)
    with pytest.raises(SystemExit):
        run_in(tmp_path, *FEW, "experts=auto")
    assert "--config-name train_experts" in capfd.readouterr().err
