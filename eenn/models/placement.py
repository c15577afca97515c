"""Placement of branches: spread evenly over the backbone's MACs, as in Pacheco et al. (2021a), or
given."""

import warnings
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn

from eenn.errors import EennError


def measure(module: nn.Module, x: Tensor) -> tuple[int, Tensor]:
    """Count the multiply-accumulates of `module` on `x`; return them with the module's output.

    fvcore counts them, BatchNorm included. The module runs in evaluation mode and is then put back
    into the mode it had.
    """
    training = module.training
    module.eval()
    with torch.no_grad(), warnings.catch_warnings():
        # From its import on fvcore uses torch.jit, which torch deprecates; the count is sound.
        warnings.filterwarnings("ignore", "`torch.jit")
        from fvcore.nn import FlopCountAnalysis

        analysis = FlopCountAnalysis(module, x)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        macs, output = int(analysis.total()), module(x)
    module.train(training)
    return macs, output


def place_branches(
    blocks: Sequence[nn.Module], branches: int | Sequence[int], input_size: int
) -> tuple[int, ...]:
    """Choose the blocks after which the branches sit; return their indices, ascending.

    Branch i of n goes after the first block whose cumulative MACs reach i/(n+1) of the blocks'
    total. A sequence gives the positions explicitly.

    Raises:
        EennError: there are too many branches, or positions that are not ascending inner blocks.
    """
    inner = len(blocks) - 1
    if not isinstance(branches, int) and not (
        isinstance(branches, Sequence) and all(isinstance(position, int) for position in branches)
    ):
        raise EennError(f"branches={branches}: allowed are 0 to {inner}, or a list of positions")
    if isinstance(branches, int):
        if not 0 <= branches <= inner:
            raise EennError(
                f"branches={branches}: allowed are 0 to {inner}, or a list of positions"
            )
        if branches == 0:
            return ()
        positions = _spread(_block_macs(blocks, input_size), branches)
    else:
        positions = tuple(branches)
    if sorted(set(positions)) != list(positions) or not all(0 <= p < inner for p in positions):
        shown = ", ".join(map(str, positions))
        if isinstance(branches, int):
            where = "two branches after one block"
            if len(set(positions)) == branches:
                where = "a branch after the last block, where the classifier is"
            raise EennError(
                f"branches={branches} would put {where} ({shown}); use fewer, or give the "
                "positions as a list"
            )
        raise EennError(
            f"branches=[{shown}]: positions must ascend and lie between 0 and {inner - 1}"
        )
    return positions


def _spread(macs: Sequence[int], branches: int) -> tuple[int, ...]:
    cumulative = list(accumulate(macs))
    shares = [cumulative[-1] * i / (branches + 1) for i in range(1, branches + 1)]
    return tuple(next(i for i, c in enumerate(cumulative) if c >= share) for share in shares)


def _block_macs(blocks: Sequence[nn.Module], input_size: int) -> list[int]:
    x = torch.zeros(1, 3, input_size, input_size)
    macs = []
    for block in blocks:
        block_macs, x = measure(block, x)
        macs.append(block_macs)
    return macs
