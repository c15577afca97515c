"""Networks that the user's own code builds: `custom/MODULE:FUNCTION`, given on the command line."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import cache

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from eenn.errors import EennError
from eenn.models.backbones.registry import LIBRARIES, Backbone, Chain
from eenn.models.own_code.importing import imported, told
from eenn.models.own_code.trust import CUSTOM

# Gives blocks and classifier for a number of classes.
Function = Callable[[int], object]


def find(name: str) -> Backbone:
    """Import the function `MODULE:FUNCTION` if the command line names it, and make it a backbone.

    The entries of the network's state dict are named `blocks.N.` and `classifier.`.

    Raises:
        EennError: the command line does not name it, or it cannot be imported.
    """
    function = imported(name)

    def source(num_classes: int) -> nn.Sequential:
        wanted = torch.get_default_device()
        # Code with values in it, such as rates of drop path, does not run on a meta device.
        with torch.device("cpu"):
            _check_again(name, function, num_classes)
            return _built(name, function, num_classes).to(wanted)

    return Backbone(f"{CUSTOM}/{name}", source, _take_apart, "classifier.")


LIBRARIES[CUSTOM] = find


def _built(name: str, function: Function, classes: int) -> nn.Sequential:
    """Call the function, and put its blocks and its classifier into one network."""
    try:
        made = function(classes)
        given = _modules(made)
    except Exception as error:
        raise EennError(f"{CUSTOM}/{name} fails for {classes} classes: {told(error)}") from error
    modules = [module for module in given if isinstance(module, nn.Module)]
    if len(modules) < max(2, len(given)):
        kinds = ", ".join(type(one).__name__ for one in given) or type(made).__name__
        raise EennError(
            f"{CUSTOM}/{name} gives {kinds}; allowed are a list of modules, which are the blocks "
            "(one at least), and a module, which is the classifier"
        )
    *blocks, classifier = modules
    first = {id(module): at for at, module in reversed([*enumerate(modules)])}
    for at, module in enumerate(modules):
        if first[id(module)] != at:
            raise EennError(
                f"{CUSTOM}/{name}: block {first[id(module)]} is used again as "
                f"{f'block {at}' if module is not classifier else 'the classifier'}; each has to "
                "be a module of its own"
            )
    return nn.Sequential(OrderedDict(blocks=nn.Sequential(*blocks), classifier=classifier))


def _modules(made: object) -> list[object]:
    """List the blocks and the classifier; nothing if they are given in another form."""
    match made:
        case [blocks, classifier] if isinstance(blocks, Iterable):
            return [*blocks, classifier]
    return []


@cache
def _check_again(name: str, function: Function, classes: int) -> None:
    """Check that every call gives a network of its own, with the same entries, none of them twice.

    The random numbers that follow are those without this check.
    """
    with torch.random.fork_rng(devices=[]):
        networks = [_built(name, function, classes) for _ in range(2)]
    if any(is_lazy(one) for one in networks[0].parameters()):
        raise EennError(f"{CUSTOM}/{name} has lazy modules; give them their sizes")
    first, second = (network.state_dict() for network in networks)
    shapes = [{key: one.shape for key, one in state.items()} for state in (first, second)]
    if shapes[0] != shapes[1]:
        keys = [*shapes[0], *shapes[1]]
        other = next(key for key in keys if shapes[0].get(key) != shapes[1].get(key))
        raise EennError(
            f"{CUSTOM}/{name} gives another network when it is called again: {other} differs; it "
            "has to give the same layers for the same number of classes"
        )
    buffers = [dict(network.named_buffers()) for network in networks]
    for key in buffers[0].keys() - first.keys():
        if not torch.equal(buffers[0][key], buffers[1][key]):
            raise EennError(
                f"{CUSTOM}/{name}: {key} has other values when it is called again, and is not in "
                "the state dict; make it persistent"
            )
    known: dict[int, str] = {}
    for state, again in ((first, False), (second, True)):
        for key, one in state.items():
            place = one.untyped_storage().data_ptr()
            if place and place in known:
                raise EennError(
                    f"{CUSTOM}/{name}: {known[place]} "
                    + ("is the same tensor in every call" if again else f"and {key} are one tensor")
                    + "; every block, in every network, needs weights of its own"
                )
            known[place] = key


def _take_apart(network: nn.Sequential) -> Chain:
    blocks, classifier = network
    return Chain([*blocks.children()], classifier)
