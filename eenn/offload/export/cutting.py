"""The cutting of a whole network's graph into the pieces that graphs are joined from."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from onnx import ModelProto, NodeProto, ValueInfoProto, helper

from eenn.errors import EennError
from eenn.offload.graphs import pieces
from eenn.offload.graphs.pieces import features_name
from eenn.offload.protocol.wire import FEATURES, LOGITS


class Head(NamedTuple):
    """A head to cut out: its piece, the border before it, and its logits in the whole graph."""

    piece: str
    border: int
    logits: str


class _Border(NamedTuple):
    """A border between two blocks.

    Args:
        features: the tensor of features.
        tensor: where graphs are cut: the features, or the quantised ones in int8.
        joint: name of this tensor in pieces.
        quantise, dequantise: nodes between features and tensor; None where they are the same.
    """

    features: str
    tensor: str
    joint: str
    quantise: NodeProto | None = None
    dequantise: NodeProto | None = None


class Cutter:
    """Cuts a graph into pieces.

    The pieces of an int8 graph meet at quantised tensors, so that joined graphs compute as the
    whole. Names of tensors and nodes begin with the piece's name, which keeps them apart.

    Args:
        whole: a graph of one input, `features_0`, that gives `features_B` for every border B.
        blocks: number of blocks.
    """

    def __init__(self, whole: ModelProto, blocks: int) -> None:
        graph = whole.graph
        self._whole = whole
        self._makers = {name: node for node in graph.node for name in node.output}
        self._weights = {tensor.name: tensor for tensor in graph.initializer}
        self._values = {value.name: value for value in (*graph.input, *graph.output)}
        self._borders = [self._border(border) for border in range(blocks + 1)]

    def pieces(self, heads: Sequence[Head]) -> Iterator[tuple[str, ModelProto]]:
        """Yield the pieces by name: blocks, heads, inputs and outputs.

        Raises:
            EennError: a block or head reads another tensor than the features before it.
        """
        for block, border in enumerate(self._borders[1:]):
            name = pieces.block_name(block)
            yield name, self._cut(name, self._borders[block], border.tensor, border.joint)
        for head in heads:
            piece = self._cut(head.piece, self._borders[head.border], head.logits, LOGITS)
            piece.graph.output.append(self._value(head.logits, LOGITS))
            yield head.piece, piece
        for number, border in enumerate(self._borders):
            name = pieces.input_name(number)
            yield name, self._input(name, border)
            if number:
                name = pieces.output_name(number)
                yield name, self._output(name, border)

    def _border(self, number: int) -> _Border:
        features = features_name(number)
        dequantise = self._makers.get(features)
        if dequantise is None or dequantise.op_type != "DequantizeLinear":
            return _Border(features, features, features)
        tensor = dequantise.input[0]
        return _Border(features, tensor, f"{features}.int8", self._makers[tensor], dequantise)

    def _cut(self, piece: str, first: _Border, last: str, name: str) -> ModelProto:
        """Cut out the nodes that compute a tensor from the features at a border.

        Args:
            last: the tensor in the whole graph.
            name: of the tensor in the piece.
        """
        found: set[str] = set()
        waiting, read = [last], set()
        while waiting:
            tensor = waiting.pop()
            if tensor in ("", first.tensor) or tensor in read:
                continue
            read.add(tensor)
            if tensor in self._weights:
                continue
            if tensor not in self._makers:
                raise EennError(
                    f"{piece} reads {tensor}, not only the features before it; allowed are blocks "
                    "and heads that take one tensor"
                )
            maker = self._makers[tensor]
            found.add(maker.output[0])
            if not self._is_batch_size(maker):
                waiting += maker.input
        # The features at any border tell the size of the batch as well as the images do.
        names = {features_name(0): first.joint, first.tensor: first.joint, last: name}
        nodes = [node for node in self._whole.graph.node if node.output[0] in found]
        return self._piece(piece, nodes, names)

    def _is_batch_size(self, node: NodeProto) -> bool:
        """Tell whether a node measures the batch size of the images, and nothing else."""
        axes = {attribute.name: attribute.i for attribute in node.attribute}
        is_of_images = list(node.input) == [features_name(0)]
        return node.op_type == "Shape" and is_of_images and axes == {"start": 0, "end": 1}

    def _input(self, name: str, border: _Border) -> ModelProto:
        node = border.quantise or helper.make_node("Identity", [FEATURES], [border.tensor])
        names = {node.input[0]: FEATURES, border.tensor: border.joint}
        piece = self._piece(name, [node], names)
        piece.graph.name, piece.producer_name = "eenn", "eenn"
        piece.graph.input.append(self._value(border.features, FEATURES))
        piece.opset_import.extend(self._whole.opset_import)
        piece.ir_version = self._whole.ir_version
        return piece

    def _output(self, name: str, border: _Border) -> ModelProto:
        nodes = [] if border.dequantise is None else [border.dequantise]
        names = {border.tensor: border.joint, border.features: border.features}
        piece = self._piece(name, nodes, names)
        piece.graph.output.append(self._value(border.features, border.features))
        return piece

    def _value(self, tensor: str, name: str) -> ValueInfoProto:
        """Copy the description of a tensor of the whole graph under another name."""
        value = ValueInfoProto()
        value.CopyFrom(self._values[tensor])
        value.name = name
        return value

    def _piece(
        self, piece: str, nodes: Sequence[NodeProto], names: Mapping[str, str]
    ) -> ModelProto:
        """Make a piece of copies of nodes and the weights that they read.

        Args:
            names: of tensors that other pieces know; the others get names of this piece.
        """

        def own(name: str) -> str:
            return names.get(name, f"{piece}/{name}") if name else name

        model = ModelProto()
        for node in nodes:
            copied = model.graph.node.add()
            copied.CopyFrom(node)
            copied.name = own(node.name)
            copied.input[:] = map(own, node.input)
            copied.output[:] = map(own, node.output)
        read = dict.fromkeys(name for node in nodes for name in node.input)
        for name in read:
            if name in self._weights:
                copied = model.graph.initializer.add()
                copied.CopyFrom(self._weights[name])
                copied.name = own(name)
        return model
