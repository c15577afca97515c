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
from eenn.data.augmentation import Augmentation
from eenn.data.datamodule import ImageDataModule
from eenn.data.demo import DemoImages
from eenn.data.distortions import Distortion
from eenn.data.splits import Split
from eenn.recording import record

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


@pytest.mark.slow
def test_the_default_run_shows_what_early_exits_are_about(tmp_path: Path) -> None:
    environment = {**os.environ, "WANDB_DATA_DIR": str(tmp_path)}
    command = [sys.executable, str(ROOT / "train.py"), "hydra.run.dir=run"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=1800)
    accuracy = json.loads((tmp_path / "run" / "metrics.json").read_text())["test"]["accuracy"]
    assert len(accuracy) == 6
    assert accuracy[-1] >= 0.85
    assert accuracy[0] <= accuracy[-1] - 0.15
    assert all(later >= earlier - 0.02 for earlier, later in pairwise(accuracy))

    saved = artifact.load(tmp_path / "run" / "artifact")
    data = ImageDataModule(
        DemoImages(),
        saved.manifest.preprocessing,
        Augmentation(),
        0,
        split=Split.load(saved.manifest.split_file),
    )
    # Blur of sigma 1.8 at 224 px, scaled to the demo's resolution.
    blur = Distortion("gaussian_blur", 1.8 * saved.manifest.preprocessing.input_size / 224)
    final = {}
    for distortion in (None, blur):
        logits, labels = record(saved.network, data.evaluation_dataloader("test", distortion))
        final[distortion] = (logits[-1].argmax(-1) == labels).mean()
    assert final[None] == pytest.approx(accuracy[-1])
    assert final[blur] <= final[None] - 0.10
