"""From an artifact to the pieces of its graphs: blocks and heads, in fp32 and int8.

The network is exported once and cut into pieces, so that any edge part and the cloud part behind it
are the same operations as the whole. int8 is static, with ranges that are measured once on the
whole network, so both sides of a cut are quantised alike. With experts there is a head for every
exit and head set, in fp32, and the distortion classifier.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
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
from eenn.offload.export.cutting import Cutter, Head
from eenn.offload.export.quantise import in_int8, with_int8_nodes
from eenn.offload.graphs import index
from eenn.offload.graphs.index import Graphs, Piece
from eenn.offload.graphs.pieces import (
    block_name,
    features_name,
    head_name,
    input_name,
    output_name,
)
from eenn.offload.protocol.wire import FEATURES, LOGITS

Images = NDArray[np.float32]
Models = Mapping[str, ModelProto]

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
        images: preprocessed real images (N, 3, H, W), on which every block and head is compared
            with PyTorch.

    Raises:
        EennError: the folder exists, images are missing, or an fp32 piece differs from PyTorch by
            more than MAX_RELATIVE_DIFFERENCE; see also `store.load`.
    """
    loaded = store.load(artifact_dir)
    size = loaded.manifest.preprocessing.input_size
    with new_directory(loaded.manifest.path / index.FOLDER) as directory:
        images = _checked(images, size)
        batches = [_checked(batch, size) for batch in calibration]
        if not batches:
            raise EennError("no images to calibrate int8 with; give at least one training image")
        made = _pieces(loaded, batches)
        contents = {
            precision: {name: piece.SerializeToString() for name, piece in pieces.items()}
            for precision, pieces in made.items()
        }
        differences = _differences(loaded, contents, images)
        rows = []
        for precision, own in contents.items():
            (directory / precision).mkdir()
            for name, content in own.items():
                difference = differences.get((name, precision))
                checked = None if difference is None else len(images)
                digest = hashlib.sha256(content).hexdigest()
                shape = _shape_taken(made[precision][name])
                row = Piece(name, precision, len(content), digest, checked, difference, shape)
                write_file(directory / row.file, content)
                rows.append(row)
        result = Graphs(loaded.manifest, tuple(rows))
        write_file(directory / index.INDEX, result.to_json())
    return result


def _shape_taken(piece: ModelProto) -> tuple[int, int, int] | None:
    """Read channels, height and width of the features that a piece takes; None if it takes none."""
    if not piece.graph.input:
        return None
    _, *sides = piece.graph.input[0].type.tensor_type.shape.dim
    channels, height, width = (side.dim_value for side in sides)
    return channels, height, width


def whole_graph(
    network: EarlyExitNet, input_size: int, experts: Mapping[str, nn.Module] | None = None
) -> ModelProto:
    """Export the whole network as one graph, from `features_0` to all features and logits.

    `features_B` are those before block B, and `logits_K` those of exit K, counted from 1. The batch
    size is free, and batch norms are folded. The network is left in evaluation mode and in
    contiguous memory format.

    Args:
        experts: heads of experts by kind; they add outputs `logits_K_KIND` to every exit.
    """
    steps = _Steps(network, experts or {})
    names, border = [], 0
    for exit, blocks in enumerate(network.blocks, 1):
        for _ in blocks:
            border += 1
            names.append(features_name(border))
        names += [_logits(exit, heads) for heads in (PLAIN, *steps.experts)]
    return with_int8_nodes(_exported(steps, input_size, names, features_name(0)))


def _exported(
    module: nn.Module, input_size: int, output_names: Sequence[str], input_name: str
) -> ModelProto:
    """Export a module that takes images as a graph with any batch size."""
    # With channels last the exporter would add index arithmetic around every pooling.
    module = module.to(memory_format=torch.contiguous_format).eval()
    program = torch.onnx.export(
        module,
        (torch.zeros(2, 3, input_size, input_size),),
        input_names=[input_name],
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
    """A module that returns all features and logits, those of experts included, as one tuple."""

    def __init__(self, network: EarlyExitNet, experts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.network: EarlyExitNet = network
        self.experts = nn.ModuleDict(experts)

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        tensors: list[Tensor] = []
        parts = zip(self.network.blocks, self.network.heads, strict=True)
        for exit, (blocks, head) in enumerate(parts):
            for block in blocks:
                # In another format the exporter would add index arithmetic to what follows.
                features = block(features).contiguous()
                tensors.append(features)
            heads = (head, *(_head(own, exit) for own in self.experts.values()))
            tensors += [own(features) for own in heads]
        return tuple(tensors)


def _head(heads: nn.Module, exit: int) -> nn.Module:
    return heads.get_submodule(str(exit))


def _logits(exit: int, heads: str) -> str:
    return f"logits_{exit}" if heads == PLAIN else f"logits_{exit}_{heads}"


def _experts(loaded: Artifact) -> dict[str, nn.Module]:
    """Collect the heads of experts, by kind."""
    return dict(loaded.experts.experts) if loaded.experts else {}


def _pieces(loaded: Artifact, batches: Sequence[Images]) -> dict[str, Models]:
    """Export the network, and cut it into pieces, by precision and name."""
    size, experts = loaded.manifest.preprocessing.input_size, _experts(loaded)
    whole, last = whole_graph(loaded.network, size, experts), 0
    plain, others, features = [], [], [features_name(0)]
    for exit, blocks in enumerate(loaded.network.blocks, 1):
        features += [features_name(last + own) for own in range(1, len(blocks) + 1)]
        last += len(blocks)
        plain.append(Head(head_name(exit, PLAIN), last, _logits(exit, PLAIN)))
        others += [Head(head_name(exit, kind), last, _logits(exit, kind)) for kind in experts]
    in_fp32 = dict(Cutter(whole, last).pieces([*plain, *others]))
    if loaded.experts:
        in_fp32[CLASSIFIER] = _exported(loaded.experts.classifier, size, [LOGITS], FEATURES)
        # Heads are small, and the ranges for int8 are not measured on features of experts.
        plain = []
        whole = Extractor(whole).extract_model(features[:1], features[1:])
    return {"fp32": in_fp32, "int8": dict(Cutter(in_int8(whole, batches), last).pieces(plain))}


class _Check(NamedTuple):
    """A piece, and PyTorch's values to compare it with.

    Args:
        pieces: the graph of the piece alone.
        features: the input of the piece.
        output: the tensor to compare with `truth`.
    """

    piece: str
    pieces: tuple[str, ...]
    features: Tensor
    output: str
    truth: Tensor


@torch.no_grad()
def _checks(loaded: Artifact, images: Images) -> Iterator[_Check]:
    """Run PyTorch on real images, block by block, and yield a check for every piece."""
    features, border = torch.from_numpy(images), 0
    experts = _experts(loaded)
    if loaded.experts:
        truth = loaded.experts.classifier(features)
        yield _Check(CLASSIFIER, (CLASSIFIER,), features, LOGITS, truth)
    parts = zip(loaded.network.blocks, loaded.network.heads, strict=True)
    for exit, (blocks, head) in enumerate(parts, 1):
        for block in blocks:
            name, before, features = block_name(border), features, block(features)
            pieces = (input_name(border), name, output_name(border + 1))
            border += 1
            yield _Check(name, pieces, before, features_name(border), features)
        heads = {PLAIN: head, **{kind: _head(own, exit - 1) for kind, own in experts.items()}}
        for kind, own in heads.items():
            name = head_name(exit, kind)
            yield _Check(name, (input_name(border), name), features, LOGITS, own(features))


def _differences(
    loaded: Artifact, contents: Mapping[str, Mapping[str, bytes]], images: Images
) -> dict[tuple[str, str], float]:
    """Compare every piece with PyTorch; return the largest differences by name and precision.

    Raises:
        EennError: a piece in fp32 differs by more than MAX_RELATIVE_DIFFERENCE.
    """
    found = {}
    heads = 1 + len(_experts(loaded))
    total = sum(len(blocks) + heads for blocks in loaded.network.blocks)
    for check in with_progress(_checks(loaded, images), "check", "pieces", total):
        given, truth = check.features.contiguous().numpy(), check.truth.contiguous().numpy()
        for precision, own in contents.items():
            if check.piece not in own:
                continue
            session = index.open_session(b"".join(own[name] for name in check.pieces), threads=1)
            (value,) = session.run([check.output], {FEATURES: given})
            difference = _relative_difference(value, truth)
            if precision == "fp32" and not difference <= MAX_RELATIVE_DIFFERENCE:
                raise EennError(
                    f"{check.piece} differs from PyTorch by {difference:.1e} of the largest value, "
                    f"allowed is {MAX_RELATIVE_DIFFERENCE:g}; nothing was written; try other "
                    "versions of torch and onnxruntime"
                )
            found[check.piece, precision] = difference
    return found


def _relative_difference(own: Images, truth: Images) -> float:
    difference, largest = float(np.abs(own - truth).max()), float(np.abs(truth).max())
    # Features that are all zero, as of a network that died in training, have to be zero.
    return 0.0 if difference == 0 else difference / largest if largest else np.inf


def _checked(images: Images, size: int) -> Images:
    if images.dtype != np.float32 or not len(images) or images.shape[1:] != (3, size, size):
        raise EennError(
            f"images to export with are {images.dtype} {images.shape}; allowed is float32 "
            f"(N, 3, {size}, {size}) with at least one image, as the preprocessing gives them"
        )
    return images
