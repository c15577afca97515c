"""The demo data: deterministic, and a fair miniature of what early exits are about."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from eenn import artifact
from eenn.calibration import log_probabilities, probabilities
from eenn.data.augmentation import Augmentation
from eenn.data.datamodule import ImageDataModule
from eenn.data.demo import DemoImages
from eenn.data.distortions import Distortion
from eenn.data.splits import Split
from eenn.decisions import decide
from eenn.experts import choose, picked
from eenn.manifest import Manifest
from eenn.policies import ExitProbs, make_policy
from eenn.recording import record, record_experts

ROOT = Path(__file__).parents[1]


def pixels(source: DemoImages) -> list[np.ndarray]:
    return [np.asarray(source.read(i, 64)) for i in range(len(source.labels))]


def test_same_seed_same_images_and_another_seed_others() -> None:
    one, same, other = (pixels(DemoImages(3, seed=seed)) for seed in (4, 4, 5))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_more_images_leave_the_first_ones_as_they_were() -> None:
    few, many = DemoImages(2), DemoImages(3)
    hash_of = dict(zip(many.sample_ids, many.content_hashes, strict=True))
    assert all(hash_of[s] == h for s, h in zip(few.sample_ids, few.content_hashes, strict=True))


def test_samples_are_named_labelled_and_of_one_size() -> None:
    source = DemoImages(2, size=48)
    assert len(source.classes) >= 10
    assert np.bincount(source.labels).tolist() == [2] * len(source.classes)
    assert len(set(source.sample_ids)) == len(set(source.content_hashes)) == len(source.labels)
    for sample_id, label in zip(source.sample_ids, source.labels, strict=True):
        assert sample_id.startswith(f"{source.classes[label]}/")
    assert {image.shape for image in pixels(source)} == {(48, 48, 3)}


def run_train(run: Path, *overrides: str) -> Path:
    """Runs train.py as a program; returns its run directory."""
    environment = {**os.environ, "WANDB_DATA_DIR": str(run.parent)}
    command = [sys.executable, str(ROOT / "train.py"), f"hydra.run.dir={run}", *overrides]
    subprocess.run(command, cwd=run.parent, env=environment, check=True, timeout=1800)
    return run


@pytest.fixture(scope="module")
def default_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_train(tmp_path_factory.mktemp("demo") / "run")


@pytest.mark.slow
def test_the_default_run_shows_what_early_exits_are_about(default_run: Path) -> None:
    accuracy = json.loads((default_run / "metrics.json").read_text())["test"]["accuracy"]
    assert len(accuracy) == 6
    assert accuracy[-1] >= 0.85
    assert accuracy[0] <= accuracy[-1] - 0.15
    assert all(later >= earlier - 0.02 for earlier, later in pairwise(accuracy))

    saved = artifact.load(default_run / "artifact")
    data = demo_images(saved.manifest)
    # Blur of sigma 1.8 at 224 px, scaled to the demo's resolution.
    blur = Distortion("gaussian_blur", 1.8 * saved.manifest.preprocessing.input_size / 224)
    final = {}
    for distortion in (None, blur):
        logits, labels = record(saved.network, data.evaluation_dataloader("test", distortion))
        final[distortion] = (logits[-1].argmax(-1) == labels).mean()
    assert final[None] == pytest.approx(accuracy[-1])
    assert final[blur] <= final[None] - 0.10


@pytest.mark.slow
def test_experts_are_right_where_plain_heads_are_confidently_wrong(default_run: Path) -> None:
    trained = run_train(
        default_run.parent / "experts", "experiment=distortion_experts", f"artifact={default_run}",
        "expert_training.epochs=3",
    )  # fmt: skip
    saved = artifact.load(trained / "artifact")
    manifest, data = saved.manifest, demo_images(saved.manifest)
    assert saved.experts is not None
    temperatures = [
        manifest.temperatures.per_exit,
        *(expert.temperatures.per_exit for expert in manifest.experts),
    ]
    policy = make_policy("confidence", {"p_tar": 0.8})
    for number, (kind, level, gain) in enumerate(
        (("gaussian_blur", 3, 0.15), ("gaussian_noise", 40, 0.15)), 1
    ):
        batches = data.evaluation_dataloader("test", Distortion(kind, level))
        sets, kinds, labels = record_experts(saved.experts, batches)
        chosen = choose(probabilities(kinds, manifest.classifier.temperature), 0.7)
        assert (chosen == number).mean() >= 0.98
        log_probs = [log_probabilities(z, t) for z, t in zip(sets, temperatures, strict=True)]
        on_edge, right = [], []
        for answers in (log_probs[0], picked(log_probs, chosen)):
            outputs = [ExitProbs(k, np.exp(z)) for k, z in enumerate(answers)]
            decided = decide(policy, outputs, range(5))
            correct = decided.label == labels
            right.append(correct.mean())
            on_edge.append(correct[decided.on_edge].mean())
        assert right[1] >= right[0] + gain
        assert on_edge[0] <= 0.8 - 0.2
        assert on_edge[1] >= 0.8 - 0.03


def demo_images(manifest: Manifest) -> ImageDataModule:
    """The demo images in the split of an artifact."""
    split = Split.load(manifest.split_file)
    return ImageDataModule(DemoImages(), manifest.preprocessing, Augmentation(), 0, split=split)
