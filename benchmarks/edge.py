"""Speed of the edge's stages, against one session, eager PyTorch and int8, and from a cold start.

    python -m benchmarks.edge

The cost of choosing heads by an image's distortion is measured too. MobileNetV2 at 224 pixels with
257 classes, five branches and random weights; one image, one thread. Variants take turns, and
medians count, of the thread's CPU time: a neighbour on a busy machine changes it least, and on an
idle machine it is the latency. A cold start is a process of its own, by the wall clock. Writes
results/edge_speed.json.
"""

import argparse
import copy
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from eenn.artifact import store
from eenn.data.splits import Split
from eenn.exits.head_sets import CLASSIFIER, Classifier, Expert, HeadChoice, HeadMode
from eenn.exits.policies.threshold import baseline_rule
from eenn.files import JsonObject, write_json
from eenn.models.architecture import Architecture
from eenn.models.building import build
from eenn.models.distortion_classifier import DistortionClassifier
from eenn.models.early_exit import EarlyExitNet
from eenn.models.expert_net import ExpertNet
from eenn.offload.edge.clouds import LocalCloud
from eenn.offload.edge.runtime import EdgeRuntime
from eenn.offload.export.write import export, whole_graph
from eenn.offload.graphs.index import Graphs, open_session
from eenn.offload.graphs.pieces import rest, steps
from eenn.preprocess import Preprocessing
from eenn.provenance import processor, provenance
from eenn.statistics.calibration import Temperatures

CLASSES, SIZE, POSITIONS = 257, 224, (2, 5, 10, 13, 16)
BRANCHES = len(POSITIONS)
ROUNDS, REPEATS, STARTS = 30, 5, 7
RESULT = Path("results/edge_speed.json")
KINDS = ("gaussian_blur", "gaussian_noise")
Images = NDArray[np.float32]
IMAGES: Images = np.random.default_rng(0).normal(size=(16, 3, SIZE, SIZE)).astype(np.float32)

# Two variants, and the target of their ratio.
RATIOS = (
    ("chain", "one session, all exits", "at most 1.10"),
    ("PyTorch, eager stages", "chain", "at least 4"),
    ("PyTorch, channels-last", "chain", ""),
    ("chain", "chain, int8", "at least 1.8"),
    ("edge runtime", "one session", ""),
    ("edge runtime, chosen experts", "edge runtime", ""),
)

FIRST_ANSWER = """
import sys, time
start = time.perf_counter()
from eenn.offload.edge.runtime import EdgeRuntime
from eenn.exits.policies.threshold import baseline_rule
imported = time.perf_counter()
runtime = EdgeRuntime(sys.argv[1], baseline_rule(1.0), range(int(sys.argv[3])))
loaded = time.perf_counter()
runtime.classify_file(sys.argv[2])
answered = time.perf_counter()
(peak,) = (line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(1e3 * (imported - start), 1e3 * (loaded - imported), 1e3 * (answered - loaded),
      1e3 * time.process_time(), int(peak) / 1024)
"""


def make_artifact(path: Path) -> EarlyExitNet:
    """Make an artifact of the full-size network, with its exported graphs."""
    torch.manual_seed(0)
    architecture = Architecture(CLASSES, POSITIONS, input_size=SIZE)
    network = build(architecture).eval()
    store.save(
        path,
        network,
        architecture=architecture,
        classes=tuple(f"class {label}" for label in range(CLASSES)),
        preprocessing=Preprocessing(SIZE, SIZE * 8 // 7),
        temperatures=Temperatures((1.0,) * (BRANCHES + 1), 1.0),
        fitted="not at all",
        validation_accuracy=(0.0,) * (BRANCHES + 1),
        split=Split(0, (), (), ()),
    )
    export(path, np.split(IMAGES, 4), IMAGES[:4])
    return network


def add_experts(path: Path, plain: Path) -> None:
    """Make the artifact `plain` with two experts, and its exported graphs."""
    base = store.load(plain)
    heads = {kind: copy.deepcopy(base.network.heads) for kind in KINDS}
    classifier = DistortionClassifier(len(KINDS), base.manifest.preprocessing.std).eval()
    temperatures, accuracy = base.manifest.temperatures, base.manifest.validation_accuracy
    store.save_with_experts(
        path,
        base.manifest,
        ExpertNet(base.network, heads, classifier),
        [Expert(kind, 1, 5, temperatures, accuracy, accuracy, 0) for kind in KINDS],
        Classifier(1.0, 0.7, (0.0,) * (1 + len(KINDS)), classifier.macs(SIZE), 0),
    )
    export(path, np.split(IMAGES, 4), IMAGES[:4])


def make_variants(
    path: Path, with_experts: Path, network: EarlyExitNet
) -> dict[str, Callable[[Images], object]]:
    """Set up the measured functions of one image, every exit computed and none taken."""
    graphs = Graphs.read(path)

    def one_session(precision: str) -> Callable[[Images], object]:
        session = graphs.session(rest(graphs.manifest, 0), precision, 1)
        return lambda x: session.run(None, {"features": x})

    def chain(precision: str) -> Callable[[Images], object]:
        parts = [steps(graphs.manifest, k, k + 1) for k in range(BRANCHES + 1)]
        sessions = [graphs.session(pieces, precision, 1) for pieces in parts]

        def run(x: Images) -> None:
            for session in sessions:
                x = session.run(None, {"features": x})[-1]

        return run

    as_it_comes = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
    channels_last = copy.deepcopy(network).to(memory_format=torch.channels_last)

    def eager(net: EarlyExitNet, memory_format: torch.memory_format) -> Callable[[Images], None]:
        def run(x: Images) -> None:
            image = torch.from_numpy(x).to(memory_format=memory_format)
            with torch.inference_mode():
                for _ in net.steps(image):
                    pass

        return run

    whole = whole_graph(store.load(path).network, SIZE).SerializeToString()
    whole_session = open_session(whole, 1)
    logits = [f"logits_{k + 1}" for k in range(BRANCHES + 1)]
    runtimes = {
        precision: EdgeRuntime(
            path, baseline_rule(1.0), range(BRANCHES), LocalCloud(path, precision), precision
        )
        for precision in ("fp32", "int8")
    }
    chosen = EdgeRuntime(
        with_experts, baseline_rule(1.0), range(BRANCHES), LocalCloud(with_experts),
        experts=HeadChoice(HeadMode.CHOSEN),
    )  # fmt: skip
    classifier = Graphs.read(with_experts).session((CLASSIFIER,), "fp32", 1)
    return {
        "one session": one_session("fp32"),
        "one session, all exits": lambda x: whole_session.run(logits, {"features_0": x}),
        "chain": chain("fp32"),
        "edge runtime": runtimes["fp32"].classify,
        "one session, int8": one_session("int8"),
        "chain, int8": chain("int8"),
        "edge runtime, int8": runtimes["int8"].classify,
        "distortion classifier": lambda x: classifier.run(None, {"features": x}),
        "edge runtime, chosen experts": chosen.classify,
        "PyTorch, eager stages": eager(as_it_comes, torch.contiguous_format),
        "PyTorch, channels-last": eager(channels_last, torch.channels_last),
    }


def measure(variants: dict[str, Callable[[Images], object]]) -> dict[str, float]:
    """Measure the median milliseconds of CPU time of every variant."""
    image = np.random.default_rng(1).normal(size=(1, 3, SIZE, SIZE)).astype(np.float32)
    ms: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(ROUNDS):
        for name, variant in variants.items():
            # The variant before has filled the caches with its own weights.
            variant(image)
            for _ in range(REPEATS):
                start = time.thread_time()
                variant(image)
                ms[name].append(1e3 * (time.thread_time() - start))
    return {name: round(statistics.median(values), 3) for name, values in ms.items()}


def cold_starts(path: Path, file: Path) -> dict[str, float]:
    """Measure medians over fresh processes, from their start to an answer for one image file."""
    rows = []
    for _ in range(STARTS):
        command = [sys.executable, "-c", FIRST_ANSWER, str(path), str(file), str(BRANCHES)]
        start = time.perf_counter()
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        rows.append([1e3 * (time.perf_counter() - start), *map(float, run.stdout.split())])
    names = ("total_ms", "import_ms", "load_ms", "first_image_ms", "cpu_ms", "peak_resident_mb")
    columns = zip(names, zip(*rows, strict=True), strict=True)
    return {name: round(statistics.median(values), 1) for name, values in columns}


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None).parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        path, file = Path(scratch) / "artifact", Path(scratch) / "image.jpg"
        with_experts = Path(scratch) / "with_experts"
        network = make_artifact(path)
        add_experts(with_experts, path)
        pixels = np.random.default_rng(0).integers(0, 256, (24, 30, 3), np.uint8)
        Image.fromarray(pixels).resize((300, 240), Image.Resampling.BICUBIC).save(file)
        ms = measure(make_variants(path, with_experts, network))
        cold = cold_starts(path, file)
    ratios = {f"{one} / {other}": round(ms[one] / ms[other], 3) for one, other, _ in RATIOS}
    result: JsonObject = {
        "ms": ms,
        "ratios": ratios,
        "cold_start": cold,
        "clock": "CPU time of the one thread; cold starts by the wall clock",
        "rounds": ROUNDS,
        "repeats": REPEATS,
        "input_size": SIZE,
        "classes": CLASSES,
        "positions": POSITIONS,
        "onnxruntime": version("onnxruntime"),
        **provenance(0, "random pixels", processor()),
    }
    write_json(RESULT, result)
    for name, value in ms.items():
        print(f"{name:28} {value:7.2f} ms")
    for (ratio, value), (*_, target) in zip(ratios.items(), RATIOS, strict=True):
        print(f"{ratio}: {value:.2f}" + (f" (target: {target})" if target else ""))
    print(
        f"process start to first answer: {cold['total_ms']:.0f} ms (target: under 1000), import "
        f"{cold['import_ms']:.0f}, load {cold['load_ms']:.0f}, image {cold['first_image_ms']:.0f}; "
        f"{cold['peak_resident_mb']:.0f} MB resident (target: under 200)\nwrote {RESULT}"
    )


if __name__ == "__main__":
    main()
