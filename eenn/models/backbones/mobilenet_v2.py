"""The backbone MobileNetV2 of torchvision, as a list of blocks and a classifier."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import MobileNet_V2_Weights, mobilenet_v2

from eenn.errors import EennError


def mobilenetv2(
    classes: int, width_mult: float = 1.0, weights: str | Path | None = None
) -> tuple[list[nn.Module], nn.Module]:
    """Build the 19 blocks of MobileNetV2's `features`, and its classifier (pooling included).

    Args:
        width_mult: multiplies the channels of every block.
        weights: `imagenet` (torchvision's, downloaded), the path of any torchvision
            `mobilenet_v2` state dict, or None for a random start. A classifier for another number
            of classes is left at its random start.

    Raises:
        EennError: the file of weights cannot be read or holds another network.
    """
    network = mobilenet_v2(num_classes=classes, width_mult=width_mult)
    if weights is not None:
        _load(network, _state_dict(weights), str(weights))
    classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), *network.classifier)
    return list(network.features), classifier


def _state_dict(weights: str | Path) -> dict[str, Tensor]:
    if weights == "imagenet":
        try:
            return dict(MobileNet_V2_Weights.IMAGENET1K_V2.get_state_dict(check_hash=True))
        except Exception as error:
            raise EennError(
                f"the ImageNet weights could not be downloaded ({error}); fetch "
                f"{MobileNet_V2_Weights.IMAGENET1K_V2.url} by hand and give model.weights=FILE"
            ) from error
    path = Path(weights).expanduser()
    if not path.is_file():
        raise EennError(
            f"model.weights={path} is not a file; allowed are imagenet, null, or the path of a "
            "torchvision mobilenet_v2 state dict"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise EennError(f"model.weights={path} is not a file that torch.load reads") from error
    if not isinstance(content, dict):
        raise EennError(f"model.weights={path} holds a {type(content).__name__}, not a state dict")
    return content


def _load(network: nn.Module, given: dict[str, Tensor], name: str) -> None:
    own = network.state_dict()
    if given.keys() != own.keys():
        raise EennError(
            f"model.weights={name} belongs to another network: {len(own.keys() - given.keys())} "
            f"entries are missing and {len(given.keys() - own.keys())} are unknown; "
            "it must be a torchvision mobilenet_v2 state dict"
        )
    other = {key: tensor for key, tensor in given.items() if tensor.shape != own[key].shape}
    inside = [key for key in other if not key.startswith("classifier.")]
    if inside:
        key = inside[0]
        raise EennError(
            f"model.weights={name} has other shapes: {key} is {tuple(other[key].shape)} instead of "
            f"{tuple(own[key].shape)}; model.width_mult must be that of the weights"
        )
    network.load_state_dict({**given, **{key: own[key] for key in other}})
