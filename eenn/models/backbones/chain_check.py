"""The check of a chain of blocks, before a training begins with it."""

from itertools import chain as joined

import torch
from torch import Tensor, nn
from torch.func import functional_call

from eenn.errors import EennError
from eenn.models.backbones.registry import Chain
from eenn.models.own_code.importing import told

BATCH = 2
_MAP = "one tensor (batch, channels, side, side)"


def check_chain(name: str, chain: Chain, classes: int, input_size: int) -> None:
    """Check that blocks pass square maps of features on, and that the classifier gives logits.

    Args:
        name: of the network, for messages.

    Raises:
        EennError: the chain cannot have branches and cuts at all its borders.
    """
    seeded = torch.Generator("cpu").manual_seed(0)
    x = torch.randn(BATCH, 3, input_size, input_size, generator=seeded)
    for number, block in enumerate(chain.blocks):
        at = f"{name}, block {number}"
        x = _passed(at, block, x)
        if x.ndim != 4 or len(x) != BATCH or x.shape[2] != x.shape[3]:
            raise EennError(f"{at} gives {_shape(x)} for a batch of {BATCH}; allowed is {_MAP}")
    logits = _passed(f"{name}, classifier", chain.classifier, x)
    if logits.shape != (BATCH, classes):
        raise EennError(
            f"{name}, classifier gives {_shape(logits)} for a batch of {BATCH}; allowed is "
            f"{(BATCH, classes)}, a logit for each class"
        )


def _passed(at: str, module: nn.Module, x: Tensor) -> Tensor:
    """Run a module in evaluation mode, and check that it leaves its input as it was."""
    given, training = x.clone(), module.training
    try:
        with torch.no_grad():
            result = module.eval()(x)
    except Exception as error:
        raise EennError(f"{at} cannot take {_shape(given)}: {told(error)}") from error
    if not isinstance(result, Tensor) or result.dtype != torch.float32:
        kind = result.dtype if isinstance(result, Tensor) else type(result).__name__
        raise EennError(f"{at} gives {kind}; allowed is one tensor of float32")
    if not result.isfinite().all():
        raise EennError(f"{at} gives numbers that are not finite; allowed are finite ones")
    if not torch.equal(x, given):
        raise EennError(
            f"{at} changes its input in place, which a branch before it reads; make its first "
            "operation one that does not (inplace=False)"
        )
    _check_without_values(at, module, x)
    module.train(training)
    return result


def _check_without_values(at: str, module: nn.Module, x: Tensor) -> None:
    """Check that a module runs without values, as artifacts are first opened to bound memory."""
    state = joined(module.named_parameters(), module.named_buffers())
    bare = {name: tensor.to("meta") for name, tensor in state}
    try:
        with torch.no_grad(), torch.device("meta"):
            functional_call(module, bare, (x.to("meta"),))
    except Exception as error:
        raise EennError(
            f"{at} needs the values of tensors to find the shapes of others: {told(error)}; all "
            "its tensors must be parameters or buffers (register_buffer), and none may decide "
            "which code runs"
        ) from error


def _shape(x: Tensor) -> str:
    return str(tuple(x.shape))
