"""Quantisation of a graph to int8: operations that int8 supports, and ranges measured on images."""

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

Images = NDArray[np.float32]


def with_int8_nodes(model: ModelProto) -> ModelProto:
    """Replace operations that ONNX Runtime lacks in int8; return an equivalent graph.

    PyTorch's exporter folds batch norms behind a convolution. Batch norms at the start of a head
    become 1x1 convolutions: they cannot be folded into the next convolution, because that pads with
    zeros.
    """
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes, weights = [], list(model.graph.initializer)
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":
            node, own = _as_convolution(node, tensors)
            weights += own
        elif node.op_type == "ReduceMean" and sorted(tensors[node.input[1]] % 4) == [2, 3]:
            nodes += _as_pool(node)
            continue
        nodes.append(node)
    used = {name for node in nodes for name in node.input}
    weights = [weight for weight in weights if weight.name in used]
    graph = helper.make_graph(
        nodes, "eenn", model.graph.input, model.graph.output, weights,
        value_info=model.graph.value_info,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def _as_pool(node: NodeProto) -> list[NodeProto]:
    """Replace a mean over height and width by a pool, flattened if the mean drops both axes."""
    keeps = next((a.i for a in node.attribute if a.name == "keepdims"), 1)
    name = node.output[0] if keeps else f"{node.output[0]}.pooled"
    pool = helper.make_node("GlobalAveragePool", node.input[:1], [name], name=node.name)
    if keeps:
        return [pool]
    return [pool, helper.make_node("Flatten", [name], node.output, name=f"{node.name}.flat")]


def _as_convolution(
    node: NodeProto, tensors: Mapping[str, NDArray[np.float32]]
) -> tuple[NodeProto, list[onnx.TensorProto]]:
    (epsilon,) = (a.f for a in node.attribute if a.name == "epsilon")
    scale, shift, mean, variance = (tensors[name].astype(np.float64) for name in node.input[1:])
    weight = scale / np.sqrt(variance + epsilon)
    bias = shift - mean * weight
    values = {"weight": weight.reshape(-1, 1, 1, 1), "bias": bias}
    weights = [
        numpy_helper.from_array(value.astype(np.float32), f"{node.output[0]}.{name}")
        for name, value in values.items()
    ]
    inputs = [node.input[0], *(weight.name for weight in weights)]
    convolution = helper.make_node("Conv", inputs, node.output, node.name, group=len(scale))
    return convolution, weights


def in_int8(model: ModelProto, batches: Iterable[Images]) -> ModelProto:
    """Quantise a graph; return it in int8 and leave the given one unchanged.

    Weights are int8 per channel, activations uint8, which CPUs multiply fastest. What
    `sensitive_nodes` finds stays in fp32.

    Args:
        batches: batches of preprocessed images (N, 3, H, W) to measure the ranges on.
    """
    # The quantiser moves the weights of the given graph to a file that it then removes.
    model = copy.deepcopy(model)
    # The property states that shapes are inferred and batch norms folded, which avoids a warning.
    helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})
    with TemporaryDirectory() as scratch:
        file = Path(scratch) / "int8.onnx"
        quantize_static(
            model,
            file,
            _Reader(batches, model.graph.input[0].name),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=sensitive_nodes(model),
        )
        return onnx.load(file)


def sensitive_nodes(model: ModelProto) -> list[str]:
    """Name the nodes that lose most of the accuracy in int8 and gain no time.

    These are the stem, which is the first convolution and, where it is depthwise, the second one,
    with few channels of wide range on the largest map; and layer norms, for which ONNX Runtime has
    no operation in int8.
    """
    sizes = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    found: list[str] = []
    for node in model.graph.node:
        if node.op_type == "Conv":
            groups = next((a.i for a in node.attribute if a.name == "group"), 1)
            if found and (len(found) > 1 or groups < sizes[node.input[1]][0]):
                break
            found.append(node.name)
    return found + [node.name for node in model.graph.node if node.op_type == "LayerNormalization"]


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    def __init__(self, batches: Iterable[Images], name: str) -> None:
        self._batches, self._name = iter(batches), name

    def get_next(self) -> dict[str, Images] | None:
        batch = next(self._batches, None)
        return None if batch is None else {self._name: batch}
