"""The demo data: deterministic, and a fair miniature of what early exits are about."""

from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader

from eenn.artifact import store
from eenn.artifact.manifest import Manifest
from eenn.data.augmentation import Augmentation
from eenn.data.datamodule import EvaluationImages, ImageDataModule
from eenn.data.demo import DemoImages
from eenn.data.distortions import Distortion
from eenn.data.splits import Split
from eenn.exits.decide import decide
from eenn.exits.head_sets import choose_head_sets, pick_heads
from eenn.exits.policies.base import ExitProbs
from eenn.exits.policies.registry import make_policy
from eenn.models.backbones.pooling import pooled
from eenn.models.backbones.registry import BACKBONES, Backbone, Chain
from eenn.records.recording import record_experts
from eenn.statistics.calibration import log_probabilities, probabilities
from tests.workflows.training import run_in

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*LeafSpec:FutureWarning",
    "ignore:.*does not have many workers",
    "ignore:The number of training batches",
    "ignore:Found .* module.* in eval mode",
)


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


def small_network(num_classes: int, width_mult: float) -> nn.Sequential:
    """Build convolutions that learn the demo data within seconds, which MobileNetV2 does not."""
    channels = (3, 24, 48, 96, 96)
    blocks = [
        nn.Sequential(
            nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
        )
        for before, after in pairwise(channels)
    ]
    return nn.Sequential(*blocks, pooled(nn.Linear(channels[-1], num_classes)))


def small_chain(network: nn.Sequential) -> Chain:
    *blocks, classifier = network
    return Chain(blocks, classifier)


@pytest.fixture(scope="module")
def with_experts(tmp_path_factory: pytest.TempPathFactory) -> store.Artifact:
    """A small network with one branch, and experts for blur and noise."""
    root = tmp_path_factory.mktemp("small")
    quiet = ("logger=csv", "+trainer.enable_progress_bar=false")
    with pytest.MonkeyPatch.context() as patch:
        small = Backbone("small", small_network, small_chain, "4.", has_widths=True)
        patch.setitem(BACKBONES, "small", small)
        plain = run_in(
            root / "plain", "data.source.images_per_class=150", "data.input_size=32",
            "data.resize_size=32", "model.name=small", "branches=1", "trainer.max_epochs=4",
            "optimiser.lr_backbone=0.01", "optimiser.lr_heads=0.01", *quiet,
        )  # fmt: skip
        trained = run_in(
            root / "experts", "--config-name=train_experts", f"artifact={plain}",
            "recipe.levels={gaussian_blur:[0.5,2],gaussian_noise:[5,80]}",
            "recipe.epochs=2", "recipe.lr=0.01",
            "recipe.classifier_epochs=2", "recipe.fine_tuned_epochs=0", *quiet,
        )  # fmt: skip
        return store.load(trained / "artifact")


@pytest.fixture(scope="module")
def unseen() -> DemoImages:
    """Drawings of another seed than those of the training."""
    return DemoImages(60, size=32, seed=1)


@pytest.mark.parametrize(("kind", "level"), [("gaussian_blur", 2), ("gaussian_noise", 80)])
def test_experts_are_right_where_plain_heads_are_confidently_wrong(
    with_experts: store.Artifact, unseen: DemoImages, kind: str, level: float
) -> None:
    plain, matching, chosen = answered(with_experts, unseen, Distortion(kind, level))
    # Of 600 drawings; the standard error of a difference is below 0.03.
    assert chosen.right.mean() >= plain.right.mean() + 0.1
    assert chosen.right.mean() == pytest.approx(matching.right.mean(), abs=0.01)
    # What is answered on the edge should be right in 80 %. Some 220 are, a standard error of 0.03.
    assert plain.right[plain.on_edge].mean() <= 0.8 - 0.05
    assert chosen.right[chosen.on_edge].mean() >= 0.8


def test_untouched_images_lose_nearly_nothing_by_the_choice(
    with_experts: store.Artifact, unseen: DemoImages
) -> None:
    plain, _, chosen = answered(with_experts, unseen, Distortion("gaussian_blur", 0))
    assert plain.right.mean() >= 0.5
    assert chosen.right.mean() >= plain.right.mean() - 0.01


class Answers(NamedTuple):
    """Of every image, whether it was answered rightly, and whether on the edge; bool (samples,)."""

    right: NDArray[np.bool_]
    on_edge: NDArray[np.bool_]


def answered(
    saved: store.Artifact, source: DemoImages, distortion: Distortion
) -> tuple[Answers, Answers, Answers]:
    """Answer at p_tar 0.8 with the plain heads, the matching ones, and the chosen ones."""
    manifest, policy = saved.manifest, make_policy("confidence", {"p_tar": 0.8})
    images = EvaluationImages(
        source, np.arange(len(source.labels)), manifest.preprocessing, distortion
    )
    assert saved.experts is not None
    sets, kinds, labels = record_experts(saved.experts, DataLoader(images, 100))
    temperatures = [each.temperatures.per_exit for each in (manifest, *manifest.experts)]
    log_probs = [log_probabilities(z, t) for z, t in zip(sets, temperatures, strict=True)]
    chosen = choose_head_sets(
        probabilities(kinds, manifest.classifier.temperature), manifest.classifier.sure
    )
    own = [expert.kind for expert in manifest.experts].index(distortion.kind) + 1
    found = []
    for answers in (log_probs[0], log_probs[own], pick_heads(log_probs, chosen)):
        outputs = [ExitProbs(k, np.exp(z)) for k, z in enumerate(answers)]
        decided = decide(policy, outputs, range(len(outputs) - 1))
        found.append(Answers(decided.label == labels, decided.on_edge))
    plain, matching, auto = found
    return plain, matching, auto


def demo_images(manifest: Manifest) -> ImageDataModule:
    """The demo images in the split of an artifact."""
    split = Split.load(manifest.split_file)
    return ImageDataModule(DemoImages(), manifest.preprocessing, Augmentation(), 0, split=split)
