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

from collections.abc import Sequence

from eenn.artifact.manifest import Manifest
from eenn.errors import EennError
from eenn.exits.head_sets import PLAIN
from eenn.offload.protocol.wire import Cut

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
    """List the borders where the image is, and behind each exit: the numbers of blocks before."""
    return (0, *(row.after + 1 for row in manifest.exits))


def cut_behind(manifest: Manifest, exit: int) -> Cut:
    """Find the cut behind an exit, counted from 1; 0 is the image."""
    return Cut(borders(manifest)[exit], str(exit))


def cut_at(manifest: Manifest, blocks: int) -> Cut:
    """Find the cut behind a number of blocks."""
    at = borders(manifest)
    return Cut(blocks, str(at.index(blocks)) if blocks in at else f"b{blocks}")


def cut_of(manifest: Manifest, active: Sequence[int], blocks: int | None) -> Cut:
    """Find the cut of a device: behind its last active branch, or behind more blocks.

    Args:
        active: the branches, counted from 0, ascending.
        blocks: number of blocks on the device; None for those up to the last active branch.

    Raises:
        EennError: the cut is before that branch, or behind the last block.
    """
    last = cut_behind(manifest, active[-1] + 1 if active else 0)
    if blocks is None:
        return last
    if not last.blocks <= blocks < borders(manifest)[-1]:
        raise EennError(
            f"cut={blocks}: allowed are {last.blocks} blocks, up to the last active branch, to "
            f"{borders(manifest)[-1] - 1}, before the last block; or leave it out"
        )
    return cut_at(manifest, blocks)


def between(first: int, last: int) -> Pieces:
    """List the pieces of the graph of the blocks between two borders, without a head."""
    blocks = (block_name(block) for block in range(first, last))
    return (input_name(first), *blocks, output_name(last))


def rest(manifest: Manifest, first: int) -> Pieces:
    """List the pieces of the cloud's graph: FEATURES at a border to the last LOGITS."""
    return segments(manifest, first, len(manifest.exits), output=False)


def alone(manifest: Manifest, exit: int, heads: str) -> Pieces:
    """List the pieces of the graph of a head alone, of an exit counted from 1."""
    return input_name(borders(manifest)[exit]), head_name(exit, heads)


def steps(manifest: Manifest, first: int, exit: int) -> Pieces:
    """List the pieces from a border to an exit, counted from 1, as a `Part` runs them.

    With experts, heads are graphs of their own, so that the blocks run once for all of them.
    """
    if manifest.experts:
        return between(first, borders(manifest)[exit])
    return segments(manifest, first, exit, output=exit < len(manifest.exits))


def segments(manifest: Manifest, first: int, exit: int, output: bool = True) -> Pieces:
    """List the pieces from a border to the LOGITS of an exit's plain head.

    Args:
        output: whether the graph gives the features before the head too.
    """
    *blocks, end = between(first, borders(manifest)[exit])
    return (*blocks, head_name(exit, PLAIN), *([end] if output else []))
