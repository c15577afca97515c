"""An artifact with random experts, for tests of whoever asks them."""

import copy
from pathlib import Path

import torch

from eenn.artifact import store
from eenn.artifact.manifest import fine_tuned_path
from eenn.data.datasets import FolderImages
from eenn.data.distortions import DrawnDistortion
from eenn.exits.head_sets import Classifier, Expert
from eenn.models.distortion_classifier import DistortionClassifier
from eenn.models.expert_net import ExpertNet
from eenn.statistics.calibration import Temperatures
from tests.artifact.trained_run import PREPROCESSING, make_run

KINDS = ("gaussian_blur", "gaussian_noise")


def run_with_experts(root: Path, images: Path) -> Path:
    """What trainings leave below `root`: three branches, two experts. Returns `root`."""
    run = make_run(root / "outputs" / "train" / "noise" / "1", images, branches=3)
    add_experts(run, images)
    return root


def add_experts(run: Path, images: Path) -> None:
    """Puts random experts and a classifier that is often sure into the artifact of `run`."""
    source = FolderImages(images)
    x = torch.stack([torch.from_numpy(PREPROCESSING(source.read(i, 36))) for i in range(16)])
    save_with_random_experts(run / "with_experts", run / "artifact", x)
    (run / "artifact").rename(run / "plain")
    (run / "with_experts").rename(run / "artifact")


def save_with_random_experts(path: Path, plain: Path, x: torch.Tensor) -> None:
    """Writes the artifact `plain` with experts to `path`; the classifier tells the images `x`
    apart."""
    base = store.load(plain)
    torch.manual_seed(1)
    heads = {}
    for kind in KINDS:
        own = copy.deepcopy(base.network.heads)
        for tensor in own.state_dict().values():
            if tensor.is_floating_point():
                tensor.mul_(1 + 0.3 * torch.randn_like(tensor).clamp(-3, 3))
        heads[kind] = own
    classifier = DistortionClassifier(2, PREPROCESSING.std).eval()
    with torch.inference_mode():
        logits = classifier(x)
    last, scale = classifier.layers[-1], 3 / logits.std(dim=0)
    last.bias.data = scale * (last.bias.data - logits.mean(dim=0))
    last.weight.data *= scale[:, None]
    experts = [
        Expert(kind, 1, 5, Temperatures((t, 1.2, 0.8, 1.1), 1.0), (0.1,) * 4, (0.1,) * 4, 1000)
        for kind, t in zip(KINDS, (0.7, 1.4), strict=True)
    ]
    store.save_with_experts(
        path,
        base.manifest,
        ExpertNet(base.network, heads, classifier),
        experts,
        Classifier(1.5, 0.6, (0.9, 0.9, 0.9), classifier.macs(x.shape[-1]), 5000),
    )


def add_fine_tuned(run: Path, kind: str) -> Path:
    """Puts a whole network for a kind beside the artifact of `run`; returns its directory."""
    base = store.load(run / "artifact")
    network = copy.deepcopy(base.network)
    torch.manual_seed(2)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.mul_(1 + 0.02 * torch.randn_like(tensor))
    path = fine_tuned_path(run / "artifact", kind)
    store.save_fine_tuned(
        path,
        base.manifest,
        network,
        temperatures=Temperatures((0.9, 1.1, 0.7, 1.2), 1.0),
        fitted="not at all",
        validation_accuracy=(0.2, 0.3, 0.4, 0.5),
        distortion=DrawnDistortion(kind, 1, 5),
    )
    return path
