"""Losses, optimiser groups, callbacks and the machine's settings, each by itself."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import EarlyStopping
from torch import nn

from eenn.data.augmentation import Augmentation
from eenn.data.datamodule import EpochSampler, ImageDataModule
from eenn.data.demo import DemoImages
from eenn.errors import EennError
from eenn.models.architecture import Architecture
from eenn.models.building import build
from eenn.preprocess import Preprocessing
from eenn.records.recording import record
from eenn.training.callbacks import ResumableEarlyStopping
from eenn.training.losses import EarlyExitLoss, exit_weights
from eenn.training.module import EarlyExitModule


def module(**changes: object) -> EarlyExitModule:
    settings: dict[str, object] = {"lr_backbone": 1e-3, "lr_heads": 1e-2, "weight_decay": 0.1}
    settings |= {"schedule": "constant", "seed": 0}
    architecture = Architecture(classes=4, positions=(3, 10), width_mult=0.35, input_size=64)
    return EarlyExitModule(build(architecture), 4, (0.5, 0.7, 1.0), **{**settings, **changes})  # type: ignore[arg-type]


def test_the_loss_is_the_weighted_sum_over_exits_and_the_mean_over_samples() -> None:
    logits, labels = torch.randn(3, 5, 4), torch.randint(0, 4, (5,))
    weights = (0.15, 0.6, 1.0)
    total, per_exit = EarlyExitLoss(weights)(logits, labels)
    expected = []
    for z in logits.tolist():
        losses = [
            math.log(sum(math.exp(v) for v in row)) - row[label]
            for row, label in zip(z, labels.tolist(), strict=True)
        ]
        expected.append(sum(losses) / len(losses))
    assert per_exit.tolist() == pytest.approx(expected, rel=1e-5)
    assert float(total) == pytest.approx(np.dot(weights, expected), rel=1e-5)


def test_named_loss_weights() -> None:
    assert exit_weights("ones", 3) == (1, 1, 1)
    assert exit_weights("linspace", 6) == pytest.approx([0.15, 0.32, 0.49, 0.66, 0.83, 1.0])
    assert exit_weights("linspace", 1) == (1,)
    assert exit_weights([0.5, 2], 2) == (0.5, 2)


@pytest.mark.parametrize("spec", ["twos", [1, 2], [1, 2, 3, 4], [1, 0, 1], [1, -1, 1]])
def test_other_loss_weights_are_refused(spec: str | list[float]) -> None:
    with pytest.raises(EennError, match="3 positive numbers"):
        exit_weights(spec, 3)


def test_backbone_and_heads_learn_at_their_own_rates_and_only_kernels_decay() -> None:
    tested = module()
    optimiser = tested.configure_optimizers()
    assert isinstance(optimiser, torch.optim.AdamW)
    group_of = {p: group for group in optimiser.param_groups for p in group["params"]}
    assert len(group_of) == len(list(tested.network.parameters()))
    for name, parameter in tested.network.named_parameters():
        group = group_of[parameter]
        assert group["lr"] == (1e-3 if name.startswith("segments") else 1e-2)
        assert group["weight_decay"] == (0.1 if parameter.ndim > 1 else 0)


@pytest.mark.parametrize(
    ("changes", "allowed"),
    [
        ({"schedule": "linear"}, "onecycle, cosine, constant"),
        ({"lr_heads": 0}, "allowed are rates above 0"),
        ({"lr_backbone": -1}, "allowed are rates above 0"),
    ],
)
def test_wrong_optimiser_settings_say_what_is_allowed(
    changes: dict[str, object], allowed: str
) -> None:
    with pytest.raises(EennError, match=allowed):
        module(**changes)


def test_recording_keeps_order_and_runs_in_evaluation_mode() -> None:
    torch.manual_seed(0)
    network = build(Architecture(classes=4, positions=(3,), width_mult=0.35, input_size=64))
    images, labels = torch.randn(7, 3, 64, 64), torch.arange(7) % 4
    logits, truth = record(network, zip(images.split(3), labels.split(3), strict=True))
    expected = torch.stack([network.eval()(image[None])[:, 0] for image in images], dim=1)
    assert logits.shape == (2, 7, 4)
    np.testing.assert_allclose(logits, expected.detach().numpy(), rtol=1e-4, atol=1e-5)
    assert truth.tolist() == labels.tolist()


def test_freed_memory_is_kept() -> None:
    # In a process of its own, because the setting cannot be taken back.
    program = """
import resource, sys
import numpy as np
from eenn.hardware import keep_freed_memory
assert keep_freed_memory()
def step():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(40_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
step()
print(step())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert int(done.stdout) < 1000


def test_the_loss_is_not_rounded_under_autocast() -> None:
    logits, labels = torch.randn(3, 5, 4), torch.randint(0, 4, (5,))
    loss = EarlyExitLoss((0.15, 0.6, 1.0))
    with torch.autocast("cpu", torch.bfloat16):
        total, _ = loss(logits, labels)
    assert total.dtype == torch.float32
    assert total == loss(logits, labels)[0]


@pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*does not have many workers")
def test_lightning_gives_every_epoch_its_own_order() -> None:
    drawn: list[list[tuple[int, int]]] = []

    class Recorder(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def on_train_epoch_start(self) -> None:
            drawn.append(list(self.trainer.train_dataloader.sampler))

        def training_step(self, batch: object, batch_index: int) -> torch.Tensor:
            return self.weight.sum()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    source = DemoImages(4)
    data = ImageDataModule(source, Preprocessing(64, 64), Augmentation(), seed=0)
    Trainer(
        max_epochs=2, limit_train_batches=1, accelerator="cpu", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    ).fit(Recorder(), data.train_dataloader())  # fmt: skip
    sampler = EpochSampler(len(data.indices["train"]), seed=0)
    assert drawn[0] == list(sampler)
    sampler.set_epoch(1)
    assert drawn[1] == list(sampler)
    assert drawn[0] != drawn[1]


def test_checkpoints_of_the_first_version_keep_their_count_of_epochs() -> None:
    """Lightning finds the state of a callback by the name that its class had."""

    class StayingEarlyStopping(EarlyStopping):
        pass

    before = StayingEarlyStopping("val/loss", patience=5)
    name = before.state_key.replace(
        StayingEarlyStopping.__qualname__, StayingEarlyStopping.__name__
    )
    assert ResumableEarlyStopping("val/loss", patience=5).state_key == name
