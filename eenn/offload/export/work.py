"""The work of an artifact's blocks and heads, counted in their exported graphs."""

from math import prod

import onnx
from google.protobuf.message import DecodeError
from onnx import NodeProto, shape_inference

from eenn.artifact.manifest import ArtifactEdited
from eenn.exits.head_sets import PLAIN
from eenn.offload.graphs.index import Graphs
from eenn.offload.graphs.pieces import (
    Pieces,
    alone,
    block_name,
    borders,
    input_name,
    output_name,
)
from eenn.planning.work import NetworkWork, Work

PRODUCTS = ("Gemm", "MatMul")
Shapes = dict[str, list[int]]


def work_of(graphs: Graphs) -> NetworkWork:
    """Count the work of an artifact's blocks and plain heads; that of int8 graphs is the same.

    Raises:
        ArtifactEdited: a graph is damaged, or does not tell the sizes of its tensors.
        EennError: see `Graphs.content` and `NetworkWork`.
    """
    manifest = graphs.manifest
    _, *after = borders(manifest)
    blocks = (
        (input_name(block), block_name(block), output_name(block + 1)) for block in range(after[-1])
    )
    heads = (alone(manifest, exit, PLAIN) for exit in range(1, len(after) + 1))
    return NetworkWork(
        manifest.id,
        manifest.preprocessing.input_size,
        tuple(_counted(graphs, pieces) for pieces in blocks),
        tuple(_counted(graphs, pieces) for pieces in heads),
        tuple(after),
    )


def _counted(graphs: Graphs, pieces: Pieces) -> Work:
    """Count the work of a graph for one image."""
    try:
        model = onnx.load_from_string(graphs.joined(pieces, "fp32"))
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
        model = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        graph = model.graph
        shapes = {
            value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
            for value in (*graph.input, *graph.value_info, *graph.output)
        }
        weights = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
        rows = [
            _macs_and_weights(node, shapes | weights, weights)
            for node in graph.node
            if node.op_type in ("Conv", *PRODUCTS)
        ]
    except (DecodeError, shape_inference.InferenceError, LookupError, ValueError) as error:
        raise ArtifactEdited(
            f"{graphs.manifest.path}: the graph of {pieces[1]} does not tell its work "
            f"({str(error).splitlines()[0]:.200}); run `eenn-export` again"
        ) from error
    full, depthwise, own_weights = (sum(column) for column in zip((0, 0, 0), *rows, strict=True))
    return Work(full, depthwise, own_weights, len(rows))


def _macs_and_weights(node: NodeProto, shapes: Shapes, weights: Shapes) -> tuple[int, int, int]:
    """Count the full and the depthwise MACs of a node, and its weights."""
    given, factor, result = (shapes[name] for name in (*node.input[:2], node.output[0]))
    if min((*given, *factor, *result), default=0) < 1:
        raise ValueError(f"{node.name} has no fixed size")
    own_weights = prod(weights.get(node.input[1], [0]))
    if node.op_type in PRODUCTS:
        transposed = any(own.name == "transA" and own.i for own in node.attribute)
        return prod(result) * given[-2 if transposed else -1], 0, own_weights
    macs = prod(result) * prod(factor[1:])
    groups = next((own.i for own in node.attribute if own.name == "group"), 1)
    is_depthwise = groups == given[1] > 1
    return (0, macs, own_weights) if is_depthwise else (macs, 0, own_weights)
