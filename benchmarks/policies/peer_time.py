"""Time of a pass of earlyon's wrapper against this project's edge runtime, in turn.

    python -m benchmarks.policies.peer_time --artifact DIR

DIR holds an artifact with exported graphs. Both run the same network and weights on random images,
one image and one thread at a time: all exits computed and none taken, and leaving at the first
exit. Variants take turns, and medians count, of the thread's CPU time: a neighbour on a busy
machine changes it least, and on an idle machine it is the latency. Needs earlyon:
`pip install 'eenn[peers]'`. Writes results/peer_time.json.
"""

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.policies.optional import earlyon
from benchmarks.policies.peers import Wrapper
from eenn.artifact import store
from eenn.cli import one_line_errors
from eenn.errors import EennError
from eenn.exits.policies.threshold import baseline_rule
from eenn.files import JsonObject, write_json
from eenn.models.early_exit import EarlyExitNet
from eenn.offload.edge.clouds import LocalCloud
from eenn.offload.edge.runtime import EdgeRuntime
from eenn.provenance import processor, provenance

ROUNDS, REPEATS, WARM_UP = 20, 5, 3
RESULT = Path("results/peer_time.json")
# Thresholds by the exit that is taken: no confidence reaches the first, every one the second.
THRESHOLDS = {"no exit taken": 1.0, "first exit taken": 0.0}
OURS = "edge runtime"
FORMATS = {
    "earlyon": torch.contiguous_format,
    "earlyon, channels-last": torch.channels_last,
}
Pass = Callable[[], object]


class Backbone(nn.Module):
    """The network without its branches' heads, as earlyon wraps it."""

    def __init__(self, network: EarlyExitNet) -> None:
        super().__init__()
        self.segments, self.classifier = network.segments, network.heads[-1]

    def forward(self, x: Tensor) -> Tensor:
        for segment in self.segments:
            x = segment(x)
        logits: Tensor = self.classifier(x)
        return logits


def wrapped(network: EarlyExitNet, classes: int, input_size: int, threshold: float) -> Wrapper:
    """Wrap a network by earlyon, with the branches' own heads and one threshold at every exit.

    Raises:
        EennError: earlyon is not installed.
    """
    types, wrappers = earlyon("core.types"), earlyon("core.wrappers")
    branches = range(len(network.heads) - 1)
    config = types.EarlyExitConfig(
        backbone="custom",
        num_classes=classes,
        exit_points=[types.ExitPoint(f"exit{k}", f"segments.{k}", 1) for k in branches],
        confidence_thresholds=[threshold for _ in branches],
    )
    heads = {f"exit{k}": network.heads[k] for k in branches}
    shape = (1, 3, input_size, input_size)
    return wrappers.EarlyExitWrapper(Backbone(network), heads, nn.Identity(), config, shape).eval()


def variants(path: Path, threshold: float) -> dict[str, Pass]:
    """Set out one pass of both for the same image, random pixels.

    Raises:
        EennError: earlyon is not installed, or the artifact has no exported graphs.
    """
    artifact = store.load(path)
    size = artifact.manifest.preprocessing.input_size
    classes, last = len(artifact.manifest.classes), len(artifact.network.heads) - 1
    image = np.random.default_rng(0).normal(size=(1, 3, size, size)).astype(np.float32)
    ours = EdgeRuntime(path, baseline_rule(threshold), range(last), LocalCloud(path))
    passes: dict[str, Pass] = {OURS: lambda: ours.classify(image)}
    (answer,) = ours.classify(image)
    for name, memory_format in FORMATS.items():
        network = copy.deepcopy(artifact.network).eval().to(memory_format=memory_format)
        wrapper = wrapped(network, classes, size, threshold)
        tensor = torch.from_numpy(image).to(memory_format=memory_format)
        if (taken := wrapper(tensor).exit_taken % (last + 1)) != answer.exit:
            raise EennError(
                f"earlyon left at exit {taken}, counted from 0, the runtime at {answer.exit}: "
                "the two do not compute the same; look into the artifact's graphs"
            )
        passes[name] = partial(wrapper, tensor)
    return passes


def measured(passes: dict[str, Pass]) -> dict[str, float]:
    """Measure the median milliseconds of CPU time of every variant, which take turns."""
    ms: dict[str, list[float]] = {name: [] for name in passes}
    for number in range(WARM_UP + ROUNDS):
        for name, one_pass in passes.items():
            one_pass()  # the variant before has filled the caches with its own weights
            for _ in range(REPEATS):
                start = time.thread_time()
                one_pass()
                if number >= WARM_UP:
                    ms[name].append(1e3 * (time.thread_time() - start))
    return {name: round(statistics.median(values), 3) for name, values in ms.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="a pass of earlyon against the edge runtime")
    parser.add_argument("--artifact", required=True, type=Path, help="an exported artifact")
    path = parser.parse_args().artifact
    torch.set_num_threads(1)
    with one_line_errors():
        ms = {taken: measured(variants(path, own)) for taken, own in THRESHOLDS.items()}
    manifest = store.load(path).manifest
    ratio = {
        taken: {name: round(own[name] / own[OURS], 3) for name in FORMATS}
        for taken, own in ms.items()
    }
    result: JsonObject = {
        "ratio": ratio,
        "rounds": ROUNDS,
        "repeats": REPEATS,
        "input_size": manifest.preprocessing.input_size,
        "branches": len(manifest.exits) - 1,
        "earlyon": version("earlyon"),
        "onnxruntime": version("onnxruntime"),
        **provenance(0, "random pixels", processor()),
    }
    write_json(RESULT, result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
