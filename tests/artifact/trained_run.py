"""What a training leaves behind, made in no time: a network with random weights."""

from collections.abc import Mapping
from pathlib import Path

import torch
import yaml

from eenn.artifact import store
from eenn.data.sources import SOURCES
from eenn.data.splits import split_samples
from eenn.models.building import build, place
from eenn.preprocess import Preprocessing
from eenn.statistics.calibration import Temperatures

PREPROCESSING = Preprocessing(32, 36)


def make_run(
    directory: Path,
    images: Path | Mapping[str, str],
    branches: int,
    seed: int = 0,
    head: str = "linear",
) -> Path:
    """Write what a training leaves for an evaluation, with random weights; returns `directory`.

    Args:
        images: a folder, or the settings of another source.
    """
    named = images if isinstance(images, Mapping) else {"name": "folder", "root": str(images)}
    source = SOURCES.opener("data.source", named)()
    names = [source.classes[label] for label in source.labels]
    split = split_samples(source.sample_ids, names, source.content_hashes, seed, source.parts)
    architecture = place(len(source.classes), branches, head, 0.35, 32)
    torch.manual_seed(seed)
    network = build(architecture).eval()
    # Spread the logits, or no confidence would ever reach a threshold.
    x = torch.stack([torch.from_numpy(PREPROCESSING(source.read(i, 36))) for i in range(16)])
    with torch.inference_mode():
        logits = network(x)
    for head, own in zip(network.heads, logits, strict=True):
        *_, last = (m for m in head.modules() if isinstance(m, torch.nn.Linear))
        scale = 3 / own.std(dim=0).mean()
        last.bias.data = scale * (last.bias.data - own.mean(dim=0))
        last.weight.data *= scale
    store.save(
        directory / "artifact",
        network,
        architecture=architecture,
        classes=source.classes,
        preprocessing=PREPROCESSING,
        temperatures=Temperatures((1.3, 0.8, 1.1, 0.9)[: branches + 1], 1.0),
        fitted="not at all",
        validation_accuracy=(0.2, 0.3, 0.4, 0.5)[: branches + 1],
        split=split,
    )
    settings = {"title": "noise", "source": dict(named)}
    (directory / "config.yaml").write_text(yaml.safe_dump({"data": settings}))
    return directory
