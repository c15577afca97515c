"""Runs of train.py, and the weights that they leave."""

import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from eenn.workflows.console import train

# Ten classes of ten images, a narrow net, two epochs: seconds, and every step of a real run.
TINY = (
    "data.source.images_per_class=10",
    "data.batch_size=16",
    "model.width_mult=0.35",
    "branches=2",
    "trainer.max_epochs=2",
    "+trainer.enable_progress_bar=false",
)


def run_in(directory: Path, *overrides: str) -> Path:
    """Run train.py in this process, writing to `directory`; returns it."""
    resumed = any(override.startswith("resume=") for override in overrides)
    place = [] if resumed else [f"hydra.run.dir={directory}"]
    # An option in the middle would end Hydra's list of overrides.
    options = [override for override in overrides if override.startswith("--")]
    given = [override for override in overrides if override not in options]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py", *options, *place, *given])
        patch.setenv("WANDB_DATA_DIR", str(directory.parent))
        patch.chdir(directory.parent)
        train()
    return directory


def weights(directory: Path) -> dict[str, torch.Tensor]:
    """Read the weights of a run's artifact."""
    content = (directory / "artifact" / "weights.safetensors").read_bytes()
    return safetensors.torch.load(content)
