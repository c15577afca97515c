"""The pieces of an exported network, and the graphs that are joined from them. No torch.

The network is cut at every border between its blocks, and every piece is stored once:

    block_B           block B, counted from 0
    head_K_SET        the head of exit K, counted from 1, in a head set: features to LOGITS
    input_B           the start of a graph before block B: FEATURES
    output_B          the end of a graph before block B: the tensor `features_name(B)`

A graph is some pieces in a row. ONNX models are protocol buffers, and those are joined by joining
their bytes: lists, such as nodes and weights, follow each other, and the name of the graph is
stated by `input_B` alone (https://protobuf.dev/programming-guides/encoding/#last-one-wins).
"""

from eenn.artifact.manifest import Manifest
from eenn.exits.head_sets import PLAIN

Pieces = tuple[str, ...]


def block_name(block: int) -> str:
    """Name the piece of a block."""
    return f"block_{block}"


def head_name(exit: int, heads: str) -> str:
    """Name the piece of an exit's head, counted from 1, in a head set."""
    return f"head_{exit}_{heads}"


def input_name(border: int) -> str:
    """Name the piece in which graphs begin that take the features before a block."""
    return f"input_{border}"


def output_name(border: int) -> str:
    """Name the piece in which graphs end that give the features before a block."""
    return f"output_{border}"


def features_name(border: int) -> str:
    """Name the tensor of the features before a block, as graphs give it."""
    return f"features_{border}"


def borders(manifest: Manifest) -> tuple[int, ...]:
    """List the split points' borders: the number of blocks before each, and of all blocks."""
    return (0, *(row.after + 1 for row in manifest.exits))


def segments(
    manifest: Manifest, start: int, stop: int, head: bool = True, output: bool = True
) -> Pieces:
    """List the pieces of the graph of the segments from split point `start` to `stop`.

    Args:
        head: whether the graph gives LOGITS of exit `stop`, of the plain heads.
        output: whether the graph gives the features behind these segments.
    """
    first, last = (borders(manifest)[split_point] for split_point in (start, stop))
    blocks = (block_name(block) for block in range(first, last))
    return (
        input_name(first),
        *blocks,
        *([head_name(stop, PLAIN)] if head else []),
        *([output_name(last)] if output else []),
    )


def rest(manifest: Manifest, split_point: int) -> Pieces:
    """List the pieces of the cloud's graph: FEATURES of the split point to the last LOGITS."""
    return segments(manifest, split_point, len(manifest.exits), output=False)


def alone(manifest: Manifest, exit: int, heads: str) -> Pieces:
    """List the pieces of the graph of a head alone, of an exit counted from 1."""
    return input_name(borders(manifest)[exit]), head_name(exit, heads)


def steps(manifest: Manifest, start: int, stop: int) -> Pieces:
    """List the pieces of the segments from split point `start` to `stop` as a `Part` runs them.

    With experts, heads are graphs of their own, so that the segments run once for all of them.
    """
    if manifest.experts:
        return segments(manifest, start, stop, head=False)
    return segments(manifest, start, stop, output=stop < len(manifest.exits))
