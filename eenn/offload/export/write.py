"""From an artifact to ONNX graphs: a stage for every run of segments, a cloud part for every cut.

With experts there is a trunk for every run of segments, a head for every exit and head set, and the
distortion classifier. The network is exported once, and all other graphs are cut out of that graph,
so that any edge part and the cloud part behind it are the same operations as the whole. int8 is
static, with ranges that are measured once on the whole graph, so both sides of a cut are quantised
alike.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto
from onnx.utils import Extractor
from torch import Tensor, nn

from eenn.artifact import store
from eenn.artifact.store import Artifact
from eenn.cli import with_progress
from eenn.errors import EennError
from eenn.exits.head_sets import CLASSIFIER, PLAIN
from eenn.files import new_directory, write_file
from eenn.models.early_exit import EarlyExitNet
from eenn.offload.export.quantise import Quantiser, with_int8_nodes
from eenn.offload.graphs import index
from eenn.offload.graphs.index import NEXT_FEATURES, Graph, Graphs
from eenn.offload.protocol.wire import FEATURES, LOGITS

Images = NDArray[np.float32]

# Limit for fp32 graphs against PyTorch. Rounding differs with the order of additions, and deep
# networks amplify it: trained ones came to 1.1e-4. A graph that computes something else is off by
# more than this.
MAX_RELATIVE_DIFFERENCE = 1e-3


def export(artifact_dir: str | Path, calibration: Iterable[Images], images: Images) -> Graphs:
    """Write the graphs of an artifact to its folder `onnx`, whole or not at all.

    The artifact's manifest and id stay as they are.

    Args:
        calibration: batches (N, 3, H, W) of preprocessed training images to measure the ranges for
            int8 on; some hundred images in all.
        images: preprocessed real images (N, 3, H, W), on which every graph is compared with
            PyTorch.

    Raises:
        EennError: the folder exists, images are missing, or an fp32 graph differs from PyTorch by
            more than MAX_RELATIVE_DIFFERENCE; see also `store.load`.
    """
    loaded = store.load(artifact_dir)
    size = loaded.manifest.preprocessing.input_size
    with new_directory(loaded.manifest.path / index.FOLDER) as directory:
        truth = _outputs(loaded, _checked(images, size))
        batches = [_checked(batch, size) for batch in calibration]
        if not batches:
            raise EennError("no images to calibrate int8 with; give at least one training image")
        experts = _experts(loaded)
        whole = whole_graph(loaded.network, size, experts)
        cutter = Extractor(whole)
        rows = []

        def keep(model: ModelProto, cut: _Cut, precision: str) -> None:
            content = _finished(model, cut).SerializeToString()
            row = _row(cut, precision, content, truth)
            write_file(directory / row.file, content)
            rows.append(row)

        with TemporaryDirectory() as scratch:
            quantiser = Quantiser(whole, batches, Path(scratch))
            cuts = list(_cuts(len(loaded.network.segments), experts))
            for cut in with_progress(cuts, "export", "graphs"):
                model = cutter.extract_model([cut.input], list(cut.outputs))
                if cut.in_int8:
                    keep(quantiser(model), cut, "int8")
                keep(model, cut, "fp32")
        if loaded.experts:
            model = _exported(loaded.experts.classifier, size, [_KINDS])
            keep(model, _Cut(CLASSIFIER, _features(0), {_KINDS: LOGITS}), "fp32")
        result = Graphs(loaded.manifest, tuple(rows))
        write_file(directory / index.INDEX, result.to_json())
    return result


def whole_graph(
    network: EarlyExitNet, input_size: int, experts: Mapping[str, nn.Module] | None = None
) -> ModelProto:
    """Export the whole network as one graph, from `features_0` to `logits_k` and `features_k`.

    Exits k are counted from 1, the batch size is free, and batch norms are folded. The network is
    left in evaluation mode and in contiguous memory format.

    Args:
        experts: heads of experts by kind; they add outputs `logits_k_KIND` to every exit.
    """
    steps = _Steps(network, experts or {})
    names = [
        name
        for k in range(1, len(network.segments) + 1)
        for name in (_logits(k), _features(k), *(_logits(k, kind) for kind in steps.experts))
    ]
    return with_int8_nodes(_exported(steps, input_size, names))


def _exported(module: nn.Module, input_size: int, output_names: Sequence[str]) -> ModelProto:
    """Export a module that takes images as a graph with input `features_0` and any batch size."""
    # With channels last the exporter would add index arithmetic around every pooling.
    module = module.to(memory_format=torch.contiguous_format).eval()
    program = torch.onnx.export(
        module,
        (torch.zeros(2, 3, input_size, input_size),),
        input_names=[_features(0)],
        output_names=output_names,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    graph = model.graph
    # PyTorch writes the paths of its source files into every node.
    for value in chain(graph.node, graph.initializer, graph.input, graph.output, graph.value_info):
        del value.metadata_props[:]
    return model


class _Steps(nn.Module):
    """A module that returns logits, features and experts' logits of every exit as one tuple."""

    def __init__(self, network: EarlyExitNet, experts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.network: EarlyExitNet = network
        self.experts = nn.ModuleDict(experts)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        tensors: list[Tensor] = []
        for exit, (logits, features) in enumerate(self.network.steps(images)):
            own = (_head(heads, exit)(features) for heads in self.experts.values())
            tensors += [logits, features, *own]
        return tuple(tensors)


def _head(heads: nn.Module, exit: int) -> nn.Module:
    return heads.get_submodule(str(exit))


class _Cut(NamedTuple):
    """A graph to cut out: its name, and the names of its tensors in the whole graph."""

    name: str
    input: str
    outputs: Mapping[str, str]
    in_int8: bool = True


def _features(k: int) -> str:
    return f"features_{k}"


def _logits(k: int, heads: str = PLAIN) -> str:
    return f"logits_{k}" if heads == PLAIN else f"logits_{k}_{heads}"


def _cuts(exits: int, kinds: Collection[str]) -> Iterator[_Cut]:
    for split_point in range(exits):
        name, outputs = index.cloud_name(split_point), {_logits(exits): LOGITS}
        # With experts, only servers other than eenn-cloud run this graph, in fp32.
        yield _Cut(name, _features(split_point), outputs, in_int8=not kinds)
    if not kinds:
        for stop in range(1, exits):
            outputs = {_logits(stop): LOGITS, _features(stop): NEXT_FEATURES}
            for start in range(stop):
                yield _Cut(index.stage_name(start, stop), _features(start), outputs)
        return
    for stop in range(1, exits + 1):
        for start in range(stop):
            outputs = {_features(stop): NEXT_FEATURES}
            yield _Cut(index.trunk_name(start, stop), _features(start), outputs)
        for heads in (PLAIN, *kinds):
            name, outputs = index.head_name(stop, heads), {_logits(stop, heads): LOGITS}
            # Heads are small, and the ranges for int8 are not measured on features of experts.
            yield _Cut(name, _features(stop), outputs, in_int8=False)


def _finished(model: ModelProto, cut: _Cut) -> ModelProto:
    """Rename a cut model's inputs and outputs to the names of the graph."""
    names = {cut.input: FEATURES, **cut.outputs}
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in (*model.graph.input, *model.graph.output):
        value.name = names[value.name]
    del model.graph.value_info[:]
    model.graph.name, model.producer_name = cut.name, "eenn"
    return model


def _experts(loaded: Artifact) -> dict[str, nn.Module]:
    """Collect the heads of experts, by kind."""
    return dict(loaded.experts.experts) if loaded.experts else {}


def _outputs(loaded: Artifact, images: Images) -> dict[str, Images]:
    """Compute PyTorch's values of every tensor at which graphs are cut, by name."""
    values, given = {_features(0): images}, torch.from_numpy(images)
    with torch.inference_mode():
        for k, (logits, features) in enumerate(loaded.network.steps(given), 1):
            values[_logits(k)], values[_features(k)] = logits.numpy(), features.numpy()
            for kind, heads in _experts(loaded).items():
                values[_logits(k, kind)] = _head(heads, k - 1)(features).numpy()
        if loaded.experts:
            values[_KINDS] = loaded.experts.classifier(given).numpy()
    return values


def _row(cut: _Cut, precision: str, content: bytes, truth: Mapping[str, Images]) -> Graph:
    """Compare a graph with PyTorch, and make its row of the index."""
    session = index.open_session(content, threads=1)
    images = truth[cut.input]
    values = session.run(list(cut.outputs.values()), {FEATURES: images})
    own = dict(zip(cut.outputs, values, strict=True))
    difference = max(_relative_difference(own[name], truth[name]) for name in cut.outputs)
    if precision == "fp32" and not difference <= MAX_RELATIVE_DIFFERENCE:
        raise EennError(
            f"graph {cut.name} differs from PyTorch by {difference:.1e} of the largest value, "
            f"allowed is {MAX_RELATIVE_DIFFERENCE:g}; nothing was written; try other versions of "
            "torch and onnxruntime"
        )
    same = [
        float((own[name].argmax(-1) == truth[name].argmax(-1)).mean())
        for name, role in cut.outputs.items()
        if role == LOGITS
    ]
    return Graph(
        cut.name,
        precision,
        {value.name: tuple(value.shape[1:]) for value in session.get_inputs()},
        {value.name: tuple(value.shape[1:]) for value in session.get_outputs()},
        len(content),
        hashlib.sha256(content).hexdigest(),
        len(images),
        difference,
        same[0] if same else None,
    )


def _relative_difference(own: Images, truth: Images) -> float:
    return float(np.abs(own - truth).max() / np.abs(truth).max())


def _checked(images: Images, size: int) -> Images:
    if images.dtype != np.float32 or not len(images) or images.shape[1:] != (3, size, size):
        raise EennError(
            f"images to export with are {images.dtype} {images.shape}; allowed is float32 "
            f"(N, 3, {size}, {size}) with at least one image, as the preprocessing gives them"
        )
    return images


_KINDS = "kinds"  # the classifier's logits
