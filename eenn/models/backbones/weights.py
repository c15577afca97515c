"""The weights that a backbone starts from."""

from pathlib import Path

import torch
from torch import Tensor, nn

from eenn.errors import EennError
from eenn.models.backbones.registry import Backbone, Chain

IMAGENET = "imagenet"


def started(
    backbone: Backbone, classes: int, width_mult: float = 1.0, weights: str | Path | None = None
) -> Chain:
    """Build a backbone's chain with the weights it starts from.

    Args:
        weights: `imagenet` (published ones, downloaded), the path of a state dict of the network,
            or None for a random start. A classifier for another number of classes is left at its
            random start.

    Raises:
        EennError: the file of weights cannot be read or holds another network, or a width that the
            network does not have.
    """
    network = backbone.build(classes, width_mult)
    if weights is not None:
        _load(network, backbone, _state_dict(backbone, weights), str(weights))
    return backbone.take_apart(network)


def _state_dict(backbone: Backbone, weights: str | Path) -> dict[str, Tensor]:
    if weights == IMAGENET:
        published = backbone.published
        if published is None:
            raise EennError(
                f"model.weights={IMAGENET}: nobody publishes weights of {backbone.name}; allowed "
                "are null, or the path of its state dict"
            )
        try:
            return dict(published.download())
        except Exception as error:
            raise EennError(
                f"the ImageNet weights could not be downloaded ({error}); fetch "
                f"{published.place} by hand and give model.weights=FILE"
            ) from error
    path = Path(weights).expanduser()
    if not path.is_file():
        raise EennError(
            f"model.weights={path} is not a file; allowed are {IMAGENET}, null, or the path of a "
            f"state dict of {backbone.name}"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise EennError(f"model.weights={path} is not a file that torch.load reads") from error
    if not isinstance(content, dict):
        raise EennError(f"model.weights={path} holds a {type(content).__name__}, not a state dict")
    return content


def _load(network: nn.Module, backbone: Backbone, given: dict[str, Tensor], name: str) -> None:
    own = network.state_dict()
    if given.keys() != own.keys():
        raise EennError(
            f"model.weights={name} belongs to another network: {len(own.keys() - given.keys())} "
            f"entries are missing and {len(given.keys() - own.keys())} are unknown; "
            f"it must be a state dict of {backbone.name}"
        )
    other = {key: tensor for key, tensor in given.items() if tensor.shape != own[key].shape}
    inside = [key for key in other if not key.startswith(backbone.classifier)]
    if inside:
        key = inside[0]
        raise EennError(
            f"model.weights={name} has other shapes: {key} is {tuple(other[key].shape)} instead of "
            f"{tuple(own[key].shape)}; model.width_mult must be that of the weights"
        )
    # Of their own state dict, some networks also check the version.
    own.update({key: tensor for key, tensor in given.items() if key not in other})
    network.load_state_dict(own)
