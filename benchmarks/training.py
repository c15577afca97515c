"""Speed of our training step against a bare loop, and of data loading against both.

    python -m benchmarks.training [--root FOLDER_OF_CLASS_FOLDERS]

Every measurement is a process of its own (an allocator setting cannot be taken back), variants take
turns, and medians count. Without --root the images are JPEGs of 300x240 drawn for the purpose.
Writes results/training_speed.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import mobilenet_v2

from eenn.data.augmentation import Augmentation
from eenn.data.datamodule import EpochSampler, TrainingImages
from eenn.data.datasets import FolderImages
from eenn.files import JsonObject, write_json
from eenn.hardware import prepare
from eenn.models.building import build, place
from eenn.preprocess import Preprocessing
from eenn.provenance import provenance
from eenn.training.losses import exit_weights
from eenn.training.module import EarlyExitModule

CLASSES, BATCH, SIZE = 101, 32, 224
WARM_UP, STEPS, ROUNDS = 2, 5, 3
RESULT = Path("results/training_speed.json")


def bare_loop(images: torch.Tensor, labels: torch.Tensor) -> float:
    """Measure images per second of torchvision's MobileNetV2 in the shortest training loop."""
    network = mobilenet_v2(num_classes=CLASSES).to(memory_format=torch.channels_last)
    return _loop(network, images, labels)


def as_pytorch_comes(images: torch.Tensor, labels: torch.Tensor) -> float:
    """Measure the bare loop without channels-last; the caller leaves the allocator alone, too."""
    return _loop(mobilenet_v2(num_classes=CLASSES), images, labels)


def ours(images: torch.Tensor, labels: torch.Tensor) -> float:
    """Measure images per second of our training under Lightning, with five `conv` branches."""
    from pytorch_lightning import Callback, Trainer

    ends: list[float] = []

    class Clock(Callback):
        def on_train_batch_end(self, *_: object) -> None:
            ends.append(time.perf_counter())

    network = build(place(CLASSES, 5, input_size=SIZE))
    module = EarlyExitModule(
        network, CLASSES, exit_weights("linspace", 6), 1e-4, 1e-3, 0.01, "onecycle", seed=0
    )
    steps = WARM_UP + STEPS
    data = DataLoader(TensorDataset(images.repeat(steps, 1, 1, 1), labels.repeat(steps)), BATCH)
    Trainer(
        max_epochs=1, accelerator="cpu", logger=False, callbacks=[Clock()],
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    ).fit(module, data)  # fmt: skip
    return BATCH / statistics.median(np.diff(ends[WARM_UP - 1 :]))


def _loop(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    optimiser = torch.optim.AdamW(network.parameters(), 1e-4)
    network.train()
    seconds = []
    for _ in range(WARM_UP + STEPS):
        start = time.perf_counter()
        optimiser.zero_grad()
        loss: torch.Tensor = nn.functional.cross_entropy(network(images), labels)
        torch.autograd.backward(loss)
        optimiser.step()
        seconds.append(time.perf_counter() - start)
    return BATCH / statistics.median(seconds[WARM_UP:])


def loading(root: Path) -> float:
    """Measure images per second of the augmented training loader alone, one worker per core."""
    source = FolderImages(root, on_error="skip")
    augmentation = Augmentation(0.6, rotation=10, colour=0.2, greyscale=0.1)
    samples = np.arange(len(source.labels))
    images = TrainingImages(source, samples, Preprocessing(SIZE, SIZE * 8 // 7), augmentation)
    sampler = EpochSampler(len(samples), seed=0)
    loader = iter(DataLoader(images, BATCH, sampler=sampler, num_workers=os.cpu_count() or 1))
    for _ in range(WARM_UP):
        next(loader)
    # Workers are ahead by now, so the clock runs over more batches than they prefetch.
    start, batches = time.perf_counter(), 20
    for _ in range(batches):
        next(loader)
    return BATCH * batches / (time.perf_counter() - start)


VARIANTS = {"ours": ours, "bare loop": bare_loop, "as PyTorch comes": as_pytorch_comes}


def measure(variant: str, root: Path) -> float:
    """Measure one variant in this process, images per second."""
    if variant == "loading":
        return loading(root)
    if variant != "as PyTorch comes":
        prepare("cpu")
    torch.manual_seed(0)
    return VARIANTS[variant](torch.randn(BATCH, 3, SIZE, SIZE), torch.randint(CLASSES, (BATCH,)))


def draw_photographs(root: Path, count: int = 800) -> None:
    """Draw JPEGs of 300x240 with the smoothness of photographs, in two class folders."""
    generator = np.random.default_rng(0)
    for i in range(count):
        coarse = Image.fromarray(generator.integers(0, 256, (24, 30, 3), np.uint8))
        folder = root / f"class{i % 2}"
        folder.mkdir(exist_ok=True)
        coarse.resize((300, 240), Image.Resampling.BICUBIC).save(folder / f"{i}.jpg", quality=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--root", type=Path, help="images to load; drawn ones without it")
    parser.add_argument("--variant", choices=[*VARIANTS, "loading"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.variant:
        print(json.dumps(measure(options.variant, options.root)))
        return
    with tempfile.TemporaryDirectory() as drawn:
        if options.root is None:
            draw_photographs(Path(drawn))
        root = options.root or drawn
        rates: dict[str, list[float]] = {name: [] for name in (*VARIANTS, "loading")}
        for _ in range(ROUNDS):
            for name, measured in rates.items():
                command = [sys.executable, "-m", "benchmarks.training", "--root", str(root)]
                run = subprocess.run(
                    [*command, "--variant", name], capture_output=True, text=True, check=True
                )
                measured.append(float(run.stdout.splitlines()[-1]))
                print(f"{name}: {measured[-1]:.1f} images/s", flush=True)
    medians = {name: statistics.median(measured) for name, measured in rates.items()}
    result: JsonObject = {
        "images_per_s": medians,
        "rounds": rates,
        "batch": BATCH,
        "input_size": SIZE,
        **provenance(
            0,
            options.root.name if options.root else "drawn JPEGs, 300x240",
            prepare("cpu").hardware,
        ),
    }
    write_json(RESULT, result)
    for other in ("bare loop", "as PyTorch comes"):
        print(f"ours / {other}: {medians['ours'] / medians[other]:.2f}")
    print(f"loading / ours: {medians['loading'] / medians['ours']:.1f}\nwrote {RESULT}")


if __name__ == "__main__":
    main()
