"""Training experts as users do: what is learned, what stays as it was, what is never touched."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml
from PIL import Image
from pytorch_lightning.loggers import Logger

from eenn.artifact import store
from eenn.artifact.manifest import ArtifactEdited, ArtifactMissing
from eenn.data.augmentation import Augmentation
from eenn.data.datamodule import ImageDataModule
from eenn.data.demo import DemoImages
from eenn.data.distortions import DrawnDistortion
from eenn.data.splits import Split
from eenn.errors import EennError
from eenn.models.architecture import Architecture
from eenn.models.building import build
from eenn.models.early_exit import EarlyExitNet
from eenn.records.recording import record
from eenn.run_directory import find_artifact
from eenn.statistics.calibration import fit_temperatures
from eenn.training.expert_recipe import ExpertRecipe
from eenn.training.experts import Fits
from eenn.training.module import HeadModule
from eenn.workflows import train_experts
from eenn.workflows.run import Label
from eenn.workflows.tracking import csv_logger
from eenn.workflows.train_experts import ExpertTraining, run_expert_training
from eenn.workflows.trained_images import TrainedImages
from tests.workflows.training import TINY, run_in, weights

EXPERTS = ("--config-name=train_experts", "logger=csv", "+trainer.enable_progress_bar=false")
FEW = (
    "recipe.epochs=1",
    "recipe.classifier_epochs=2",
    "recipe.fine_tuned_epochs=1",
)
RECIPE = ExpertRecipe(
    levels={"gaussian_blur": (0.5, 3), "jpeg": (60, 5)},
    epochs=1,
    lr=3e-3,
    weight_decay=0.01,
    classifier_epochs=1,
    classifier_lr=3e-3,
    sure=0.7,
    fine_tuned_epochs=1,
    fine_tuned_lr=1e-12,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*LeafSpec:FutureWarning",
    "ignore:.*does not have many workers",
    "ignore:The number of training batches",
    "ignore:Found .* module.* in eval mode",
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a plain network."""
    return run_in(tmp_path_factory.mktemp("base") / "run", *TINY, "logger=csv")


@pytest.fixture(scope="module")
def trained(base: Path) -> Path:
    """The run that trained experts for it."""
    return run_in(base.parent / "experts", f"artifact={base}", *EXPERTS, *FEW)


@pytest.fixture
def interrupted(tmp_path: Path) -> Path:
    """A run that was interrupted after it had finished heads."""
    (tmp_path / "run" / "finished").mkdir(parents=True)
    return tmp_path / "run"


def images(distortion: DrawnDistortion, split: Path) -> ImageDataModule:
    source = DemoImages(10)
    preprocessing = store.load(split.parent).manifest.preprocessing
    return ImageDataModule(
        source, preprocessing, Augmentation(), 0, 16, 0, Split.load(split), distortion
    )


def test_the_artifact_holds_the_plain_network_once_and_unchanged(base: Path, trained: Path) -> None:
    for name in ("weights.safetensors", "split.json"):
        before, after = (run / "artifact" / name for run in (base, trained))
        assert before.read_bytes() == after.read_bytes()
    plain, loaded = (store.load(run / "artifact") for run in (base, trained))
    assert plain.experts is None
    assert plain.manifest.experts == ()
    assert loaded.manifest.content["experts"]["base"] == plain.manifest.id
    assert loaded.manifest.id != plain.manifest.id
    kept = set(plain.manifest.content) - {"id", "created", "files"}
    for key in kept:
        assert loaded.manifest.content[key] == plain.manifest.content[key]
    content = (trained / "artifact" / "experts.safetensors").read_bytes()
    names = safetensors.torch.load(content)
    assert {name.split(".")[0] for name in names} == {"experts", "classifier"}


def test_every_head_set_answers_by_itself_on_the_one_backbone(trained: Path) -> None:
    loaded = store.load(trained / "artifact")
    assert loaded.experts is not None
    x = torch.randn(3, 3, 64, 64)
    logits, kinds = loaded.experts(x)
    assert logits.shape == (3, 3, 3, 10)
    assert kinds.shape == (3, 3)
    assert torch.equal(logits[0], loaded.network(x))
    for own, heads in zip(logits[1:], loaded.experts.experts.values(), strict=True):
        features = x
        for exit, (segment, head) in enumerate(zip(loaded.network.segments, heads, strict=True)):
            features = segment(features)
            assert torch.equal(own[exit], head(features))
        assert not torch.equal(own, logits[0])
    assert not any(module.training for module in loaded.experts.modules())


def test_the_manifest_says_what_the_experts_are(trained: Path) -> None:
    loaded = store.load(trained / "artifact")
    assert loaded.experts is not None
    manifest, metrics = loaded.manifest, json.loads((trained / "metrics.json").read_text())
    assert [expert.kind for expert in manifest.experts] == ["gaussian_blur", "gaussian_noise"]
    for expert in manifest.experts:
        heads = loaded.experts.experts[expert.kind]
        assert expert.bytes == sum(
            t.numel() * t.element_size() for t in heads.state_dict().values()
        )
        distortion = DrawnDistortion(expert.kind, expert.mildest, expert.strongest)
        data = images(distortion, trained / "artifact" / "split.json")
        network = loaded.network
        network.heads, plain = heads, network.heads
        logits, labels = record(network, data.val_dataloader())
        network.heads = plain
        assert expert.validation_accuracy == pytest.approx((logits.argmax(-1) == labels).mean(1))
        fitted = fit_temperatures(logits, labels)
        assert expert.temperatures.per_exit == pytest.approx(fitted.per_exit, rel=1e-3)
        assert expert.temperatures.shared == pytest.approx(fitted.shared, rel=1e-3)
    classifier = manifest.classifier
    assert classifier.macs == loaded.experts.classifier.macs(64)
    assert len(classifier.validation_accuracy) == 3
    assert {"data", "seed", "hardware", "git_commit", "date"} <= metrics.keys()
    assert metrics["base"] == manifest.content["experts"]["base"]


def test_whole_networks_are_artifacts_beside_that_of_the_experts(base: Path, trained: Path) -> None:
    plain = store.load(base / "artifact")
    metrics = json.loads((trained / "metrics.json").read_text())
    assert set(metrics["fine_tuned"]) == {"gaussian_blur", "gaussian_noise"}
    for expert in store.load(trained / "artifact").manifest.experts:
        path = trained / f"fine_tuned_{expert.kind}"
        tuned = store.load(path)
        assert tuned.experts is None
        assert tuned.manifest.split_file.read_bytes() == plain.manifest.split_file.read_bytes()
        for key in ("architecture", "classes", "preprocessing", "exits", "split"):
            assert tuned.manifest.content[key] == plain.manifest.content[key]
        assert tuned.manifest.content["fine_tuned"] == {
            "base": plain.manifest.id,
            "kind": expert.kind,
            "mildest": expert.mildest,
            "strongest": expert.strongest,
        }
        learned, before = tuned.network.state_dict(), plain.network.state_dict()
        assert not any(
            torch.equal(learned[name], before[name]) for name in before if name.endswith("weight")
        )
        data = images(
            DrawnDistortion(expert.kind, expert.mildest, expert.strongest),
            path / "split.json",
        )
        logits, labels = record(tuned.network, data.val_dataloader())
        accuracy = (logits.argmax(-1) == labels).mean(1).tolist()
        assert tuned.manifest.validation_accuracy == pytest.approx(accuracy)
        assert metrics["fine_tuned"][expert.kind] == pytest.approx(accuracy)
        fitted = fit_temperatures(logits, labels)
        assert tuned.manifest.temperatures.per_exit == pytest.approx(fitted.per_exit, rel=1e-3)


def test_an_artifact_without_experts_says_how_to_train_some(base: Path) -> None:
    with pytest.raises(ArtifactMissing, match="--config-name train_experts"):
        assert store.load(base / "artifact").manifest.classifier


def test_a_changed_expert_is_never_loaded(trained: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(trained / "artifact", tmp_path / "artifact")
    content = bytearray((copied / "experts.safetensors").read_bytes())
    content[-1] ^= 1
    (copied / "experts.safetensors").write_bytes(content)
    with pytest.raises(ArtifactEdited, match="experts"):
        store.load(copied)


def test_experts_are_trained_anew_for_an_artifact_that_has_some(trained: Path) -> None:
    again = run_in(
        trained.parent / "again", f"artifact={trained}", *EXPERTS, *FEW,
        "+recipe.levels.box_blur=[1,3]", "~recipe.levels.gaussian_noise",
        "recipe.fine_tuned_epochs=0",
    )  # fmt: skip
    manifest = store.load(again / "artifact").manifest
    assert [expert.kind for expert in manifest.experts] == ["gaussian_blur", "box_blur"]
    assert weights(again).keys() == weights(trained).keys()
    assert not [*again.glob("fine_tuned_*")]


def test_heads_learn_and_the_backbone_stays_bit_for_bit(base: Path) -> None:
    from pytorch_lightning import Trainer

    network = store.load(base / "artifact").network
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    data = images(DrawnDistortion("gaussian_blur", 1, 3), base / "artifact" / "split.json")
    module = HeadModule(network, 10, 3e-3, 0.01, seed=0)
    modes: list[tuple[bool, bool]] = []

    hook = network.register_forward_hook(
        lambda *_: modes.append(
            (
                any(m.training for m in network.segments.modules()),
                all(m.training for m in network.heads.modules()),
            )
        )
    )
    Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        use_distributed_sampler=False,
    ).fit(module, data)  # fmt: skip
    hook.remove()
    changed = {
        name
        for name, tensor in network.state_dict().items()
        if not torch.equal(tensor, before[name])
    }
    assert not any(name.startswith("segments") for name in changed)
    # Statistics of their batch norms among them; all of every head.
    assert changed == {name for name in before if name.startswith("heads")}
    assert {segments for segments, _ in modes} == {False}
    assert {heads for _, heads in modes} == {True, False}


def train_directly(
    directory: Path, base: store.Artifact, source: DemoImages, interrupted: str | None = None
) -> None:
    """Trains by `RECIPE`; is interrupted when the fit of that name is about to begin."""

    def open_logger(folder: Path, name: str) -> Logger:
        if name == interrupted:
            raise KeyboardInterrupt
        return csv_logger(folder, Label(name, "train"))

    fits = Fits(
        directory / "fits", {"accelerator": "cpu", "enable_progress_bar": False}, open_logger
    )
    training = ExpertTraining(base, source, Augmentation(), 16, 0, 0, RECIPE, fits)
    run_expert_training(directory, training, {})


def test_no_test_image_is_read_and_the_given_network_stays_as_it_is(
    base: Path, tmp_path: Path
) -> None:
    loaded = store.load(base / "artifact")
    before = {name: tensor.clone() for name, tensor in loaded.network.state_dict().items()}
    split = Split.load(loaded.manifest.split_file)

    class Guarded(DemoImages):
        def read(self, index: int, shorter_side: int) -> Image.Image:
            assert self.sample_ids[index] not in split.test
            return super().read(index, shorter_side)

    train_directly(tmp_path, loaded, Guarded(10))
    assert all(torch.equal(t, before[name]) for name, t in loaded.network.state_dict().items())
    trained = store.load(tmp_path / "artifact").experts
    assert trained is not None
    # At a rate that moves nothing: from what the whole network is trained on.
    tuned = store.load(tmp_path / "fine_tuned_jpeg").network
    origin = EarlyExitNet([*trained.network.segments], [*trained.experts["jpeg"]])
    for (name, own), start in zip(tuned.named_parameters(), origin.parameters(), strict=True):
        torch.testing.assert_close(own, start, msg=name)


def test_an_interruption_after_the_experts_loses_none_of_them(base: Path, tmp_path: Path) -> None:
    loaded = store.load(base / "artifact")
    run = tmp_path / "outputs" / "train" / "experts" / "1"
    with pytest.raises(KeyboardInterrupt):
        train_directly(run, loaded, DemoImages(10), interrupted="fine_tuned_jpeg")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        newest = find_artifact("latest")
    assert newest == run.relative_to(tmp_path) / "artifact"
    assert store.load(run / "artifact").manifest.experts[1].kind == "jpeg"
    assert store.load(run / "fine_tuned_gaussian_blur")
    assert not (run / "fine_tuned_jpeg").exists()


def test_an_interrupted_run_goes_on_to_the_result_of_an_uninterrupted_one(
    base: Path, trained: Path, tmp_path: Path
) -> None:
    def interrupted(*given: Any, **_: Any) -> None:
        raise KeyboardInterrupt

    run = tmp_path / "run"
    again = (EXPERTS[0], f"resume={run}")
    starts = (f"artifact={base}", *EXPERTS, *FEW), again, again
    for overrides, where in zip(starts, ("train_classifier", "fine_tune", None), strict=True):
        with pytest.MonkeyPatch.context() as patch:
            if overrides != starts[0]:
                patch.setattr(train_experts, "train_heads", None)
            if where is None:
                run_in(run, *overrides)
                break
            patch.setattr(train_experts, where, interrupted)
            with pytest.raises(SystemExit):
                run_in(run, *overrides)
    for file in ("artifact/experts.safetensors", "fine_tuned_gaussian_blur/weights.safetensors"):
        assert (run / file).read_bytes() == (trained / file).read_bytes()
    one, other = (json.loads((place / "metrics.json").read_text()) for place in (run, trained))
    assert [one[key] for key in ("table", "fine_tuned")] == [other["table"], other["fine_tuned"]]


def test_training_images_are_distorted_after_their_augmentation(base: Path) -> None:
    distortion = DrawnDistortion("gaussian_noise", 5, 40)
    data = images(distortion, base / "artifact" / "split.json")
    loader = data.train_dataloader()
    (batch, _), (index, seed) = next(iter(loader)), next(iter(loader.sampler))
    image = data.source.read(int(data.indices["train"][index]), 64)
    pixels = distortion(Augmentation()(image, 64, seed), seed)
    np.testing.assert_array_equal(batch[0].numpy(), data.preprocessing.normalise(pixels))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("branches=3",), "branches is not a setting here"),
        (("data.batch_size=8",), "data is not a setting here"),
        (("+trainer.max_epochs=8",), "trainer.max_epochs is not a setting here"),
        (("trainer.devices=2",), "train on one device"),
        (("artifact=nowhere",), "nowhere"),
        (("recipe.levels={gaussian_blur:3}",), "allowed is a list of 2 numbers"),
        (("+recipe.levels.fog=[1,2]",), "'fog': allowed are"),
        (("+recipe.levels.jpeg=[0.5,9]",), "of jpeg from 1 to 100"),
        (("recipe.epochs=0",), "a whole number from 1 up"),
        (("recipe.fine_tuned_epochs=-1",), "a whole number from 0 up"),
        (("recipe.fine_tuned_lr=0",), "fine_tuned_lr=0.0: allowed are rates above 0"),
        (("recipe.sure=2",), "recipe.sure=2.0: allowed is a probability, 0 to 1"),
        (("recipe.lr=fast",), "recipe.lr=fast: allowed is a number"),
        (("recipe.rate=1",), "rate"),
    ],
)
def test_a_mistake_is_one_clear_line(
    overrides: tuple[str, ...],
    said: str,
    base: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        run_in(tmp_path / "run", f"artifact={base}", *EXPERTS, *overrides)
    assert ended.value.code == 1
    *_, line = capfd.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    assert said in line, line


def test_an_artifact_for_the_training_of_a_plain_network_is_a_mistake(
    base: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run_in(tmp_path / "run", f"artifact={base}", "logger=csv")
    assert "--config-name train_experts artifact=DIR" in capfd.readouterr().err


def test_each_training_goes_on_with_its_own_runs(
    trained: Path, interrupted: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for run, config, other in (
        (interrupted, (), "python train.py --config-name train_experts resume="),
        (
            trained / "fits" / "gaussian_blur",
            EXPERTS[:1],
            "allowed are latest, the directory of a run",
        ),
    ):
        with pytest.raises(SystemExit):
            run_in(run, *config, f"resume={run}")
        assert other in capfd.readouterr().err


def test_a_recipe_without_kinds_is_refused() -> None:
    with pytest.raises(EennError, match="mildest and strongest"):
        replace(RECIPE, levels={})


@pytest.mark.parametrize("layout", ["today's", "before recipes"])
def test_images_are_those_of_the_artifacts_run_in_either_layout(
    layout: str, base: Path, tmp_path: Path
) -> None:
    content = yaml.safe_load((base / "config.yaml").read_text())
    content["augmentation"]["rotation"] = 7
    if layout == "before recipes":
        content["data"]["augmentation"] = content.pop("augmentation")
        content |= {"artifact": None}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    images = TrainedImages.of(tmp_path)
    assert images.augmentation == Augmentation(rotation=7)
    assert images.data.source == {
        "name": "demo", "images_per_class": 10, "size": 64, "seed": 0,
    }  # fmt: skip
    assert (images.data.batch_size, images.data.num_workers) == (16, 0)


def test_heads_of_another_kind_of_branch_are_trained_too() -> None:
    network = build(Architecture(4, (3,), "pool2", 0.35, 64))
    assert HeadModule(network, 4, 1e-3, 0.0, 0).network.segments.training is False
