"""The registry of backbones: networks that run as a chain of blocks, by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

from torch import Tensor, nn
from torchvision.models import get_model_builder, get_model_weights

from eenn.errors import EennError
from eenn.preprocess import Preprocessing


class Chain(NamedTuple):
    """A network taken apart: each block takes and gives one tensor, and a branch may follow it.

    Args:
        blocks: in order, made of the network's own modules.
        classifier: from the last block's features to logits, pooling included.
    """

    blocks: list[nn.Module]
    classifier: nn.Module


class Published(NamedTuple):
    """Weights that somebody trained on ImageNet, and the images that they expect.

    Args:
        place: where they can be fetched by hand.
        download: returns their state dict.
        images: the preprocessing of its images.
    """

    place: str
    download: Callable[[], Mapping[str, Tensor]]
    images: Preprocessing


TakeApart = TypeVar("TakeApart", bound=Callable[..., Chain])


@dataclass(frozen=True)
class Backbone:
    """A network by its name: how it is built, and how it is taken apart.

    Args:
        source: builds the network as its authors do, from `num_classes`, and from `width_mult` if
            the network has widths.
        take_apart: returns the chain that computes what the network does.
        classifier: the prefix of the entries in its state dict that depend on the classes.
        has_widths: whether all its channels can be multiplied.
        published: None if nobody trained it on ImageNet.
    """

    name: str
    source: Callable[..., nn.Module]
    take_apart: Callable[..., Chain]
    classifier: str
    has_widths: bool = False
    published: Published | None = None

    def build(self, classes: int, width_mult: float = 1.0) -> nn.Module:
        """Build the network with random weights.

        Raises:
            EennError: the network has one width, and `width_mult` is another.
        """
        if self.has_widths:
            return self.source(num_classes=classes, width_mult=width_mult)
        if width_mult != 1:
            wide = ", ".join(name for name, one in BACKBONES.items() if one.has_widths)
            raise EennError(
                f"model.width_mult={width_mult:g}: {self.name} has one width, 1; others have {wide}"
            )
        return self.source(num_classes=classes)

    def preprocessing(
        self, input_size: int | None = None, resize_size: int | None = None
    ) -> Preprocessing:
        """Return the preprocessing that the published weights expect, at the given sizes.

        Args:
            input_size: None for that of the weights.
            resize_size: None for the share of `input_size` that it has for the weights.

        Raises:
            EennError: see `Preprocessing`.
        """
        images = self.published.images if self.published else _USUAL
        if input_size is None:
            input_size = images.input_size
        if resize_size is None:
            resize_size = round(input_size * images.resize_size / images.input_size)
        return replace(images, input_size=input_size, resize_size=resize_size)


# Of networks that nobody trained on ImageNet.
_USUAL = Preprocessing(224, 256)
BACKBONES: dict[str, Backbone] = {}
# Libraries whose networks have names such as timm/resnet18, and what finds one by the second part.
LIBRARIES: dict[str, Callable[[str], Backbone]] = {}


def register(
    name: str,
    *,
    classifier: str = "classifier.",
    has_widths: bool = False,
    source: Callable[..., nn.Module] | None = None,
) -> Callable[[TakeApart], TakeApart]:
    """Register a network under `name`, for every program of this project; see `Backbone`.

    Args:
        source: None for torchvision's network of that name.
    """

    def known(take_apart: TakeApart) -> TakeApart:
        built_by = source or get_model_builder(name)
        BACKBONES[name] = Backbone(
            name, built_by, take_apart, classifier, has_widths, _torchvision_weights(name)
        )
        return take_apart

    return known


def find_backbone(name: str) -> Backbone:
    """Find the backbone of that name.

    Raises:
        EennError: no backbone has that name.
    """
    library, _, rest = name.partition("/")
    if rest and library in LIBRARIES:
        return LIBRARIES[library](rest)
    if rest:
        allowed = ", ".join(("torchvision", *LIBRARIES))
        raise EennError(f"model.source={library}: allowed are {allowed}")
    if name not in BACKBONES:
        raise EennError(f"model.name={name}: allowed are {', '.join(BACKBONES)}")
    return BACKBONES[name]


def _torchvision_weights(name: str) -> Published | None:
    """Describe torchvision's weights; None where it has none."""
    try:
        best = get_model_weights(name).DEFAULT
    except ValueError:
        return None
    images = best.transforms()
    return Published(
        best.url,
        lambda: best.get_state_dict(check_hash=True),
        Preprocessing(
            images.crop_size[0],
            images.resize_size[0],
            tuple(images.mean),
            tuple(images.std),
            images.interpolation.value,
        ),
    )
