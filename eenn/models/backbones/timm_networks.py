"""Networks of the library timm, taken apart by a rule that is proved on each of them."""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from eenn.errors import EennError
from eenn.models.backbones.registry import LIBRARIES, Backbone, Chain, Published
from eenn.preprocess import Preprocessing

LIBRARY = "timm"
# Of the input on which a chain is compared with its network, unless the network has one size.
PROBE_SIZE = 96
# A network is built and run once to take it apart, which has to fit the memory of a small device.
MOST_PARAMETERS = 400e6


class Plan(NamedTuple):
    """The names of the modules that make up a chain.

    Args:
        blocks: of each block, run one after the other.
        classifier: run one after the other.
    """

    blocks: tuple[tuple[str, ...], ...]
    classifier: tuple[str, ...]


def find(name: str) -> Backbone:
    """Find the network of that name in timm.

    Raises:
        EennError: timm is not installed, or has no such network.
    """
    timm = _timm()
    images = _pretrained(timm, name)
    published = Published(
        f"timm's weights of {name}",
        lambda: timm.create_model(name, pretrained=True).state_dict(),
        Preprocessing(
            images.input_size[-1],
            round(images.input_size[-1] / images.crop_pct),
            tuple(images.mean),
            tuple(images.std),
            images.interpolation,
        ),
    )

    def source(num_classes: int) -> nn.Module:
        built: nn.Module = timm.create_model(name, pretrained=False, num_classes=num_classes)
        return built

    return Backbone(
        f"{LIBRARY}/{name}",
        source,
        lambda network: _chain(network, plan(name)),
        f"{images.classifier}.",
        published=published,
    )


LIBRARIES[LIBRARY] = find


def _pretrained(timm: ModuleType, name: str) -> Any:
    """Read what timm says of a network's weights."""
    try:
        found = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    except RuntimeError:  # the part behind the point names no weights
        found = None
    if found is None:  # also for old names of networks that have another one now
        near = ", ".join(get_close_matches(name, timm.list_models(), n=8))
        raise EennError(
            f"model.name={name}: timm has no such network; "
            f"{f'near it are {near}' if near else 'timm.list_models() lists them'}"
        )
    return found


def _timm() -> ModuleType:
    try:
        return import_module("timm")
    except ModuleNotFoundError as error:
        raise EennError("timm is not installed; pip install 'eenn[timm]'") from error


@cache
def plan(name: str) -> Plan:
    """Plan how to take a network of timm apart.

    Its modules are run one after the other, and stages among them as their own modules, wherever
    that gives the same features bit for bit. Only square maps of features are borders of blocks.

    Raises:
        EennError: the network is not such a chain, or too large to try.
    """
    timm = _timm()
    with torch.device("meta"):
        size = sum(one.numel() for one in timm.create_model(name, num_classes=2).parameters())
    if size > MOST_PARAMETERS:
        raise EennError(
            f"{LIBRARY}/{name} has {size / 1e6:.0f} million parameters; allowed are "
            f"{MOST_PARAMETERS / 1e6:.0f} million"
        )
    with torch.device("cpu"), torch.random.fork_rng(devices=[]), torch.no_grad():
        network = timm.create_model(name, num_classes=2).eval()
        images = _pretrained(timm, name)
        side = images.input_size[-1] if images.fixed_input_size else PROBE_SIZE
        return _planned(name, network, torch.randn(2, 3, side, side))


def _planned(name: str, network: nn.Module, x: Tensor) -> Plan:
    parts: list[str] = []
    classifier: list[str] = []
    features, where = x, "forward"
    try:
        expected = network(x)
        for where, module in _modules(network):
            after = module(features)
            if not classifier and _is_map(after):
                parts += _expanded(where, module, features)
            else:
                classifier.append(where)
            features = after
    except Exception as error:
        raise _no_chain(name, where) from error
    if not parts or not _same(features, expected):
        raise _no_chain(name, classifier[0] if classifier else where)
    return Plan(tuple(_merged(network, parts)), tuple(classifier))


def _no_chain(name: str, module: str) -> EennError:
    return EennError(
        f"{LIBRARY}/{name} is not a chain of blocks: it breaks at its module {module}; allowed are "
        "networks whose modules run one after the other on square maps of features"
    )


def _expanded(name: str, module: nn.Module, x: Tensor) -> list[str]:
    """List the parts of a module that run one after the other; the module itself if it has none."""
    children = [*_modules(module)]
    if not _is_stage(module, children):
        return [name]
    given, features = [], x
    try:
        for _, child in children:
            given.append(features)
            features = child(features)
            if not _is_map(features):
                return [name]
        if not _same(features, module(x)):
            return [name]
    except Exception:
        return [name]
    return [
        part
        for (own, child), seen in zip(children, given, strict=True)
        for part in _expanded(f"{name}.{own}", child, seen)
    ]


def _is_stage(module: nn.Module, children: Sequence[tuple[str, nn.Module]]) -> bool:
    """Tell if a module may be no more than its children in a row."""
    if not children or type(module) is nn.Sequential:
        return bool(children)
    own = [child for _, child in children]
    if any(isinstance(child, nn.Conv2d | nn.Linear) for child in own):
        return False
    return any(isinstance(child, nn.Sequential) for child in own) or len({*map(type, own)}) == 1


def _merged(network: nn.Module, parts: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Put norms, activations and pools that stand alone behind the convolution before them."""
    block: list[str] = []
    is_open = False
    for part in parts:
        module = network.get_submodule(part)
        is_single = isinstance(module, _BatchNorm) or not [*module.children()]
        if not (is_open and is_single and not isinstance(module, nn.Conv2d)):
            if block:
                yield tuple(block)
            block = []
        block.append(part)
        is_open = is_single
    yield tuple(block)


def _modules(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """List the children that do anything."""
    return [
        (name, child) for name, child in module.named_children() if type(child) is not nn.Identity
    ]


def _is_map(features: object) -> bool:
    """Tell if features are (batch, channels, side, side), and not pooled to a pixel."""
    if not isinstance(features, Tensor) or features.ndim != 4:
        return False
    return features.shape[2] == features.shape[3] > 1


def _same(own: object, expected: object) -> bool:
    if not isinstance(own, Tensor) or not isinstance(expected, Tensor):
        return False
    return own.shape == expected.shape and torch.equal(own, expected)


def _chain(network: nn.Module, planned: Plan) -> Chain:
    def sequence(names: Sequence[str]) -> nn.Module:
        modules = [network.get_submodule(name) for name in names]
        return modules[0] if len(modules) == 1 else nn.Sequential(*modules)

    return Chain([sequence(block) for block in planned.blocks], sequence(planned.classifier))
