"""Every backbone of the registry: a chain that is the source network, and the weights it reads."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.models import get_model_weights, mobilenet_v2

from eenn.errors import EennError
from eenn.models.backbones.registry import BACKBONES, Backbone, Chain, find_backbone
from eenn.models.backbones.weights import started
from eenn.models.building import place
from eenn.models.placement import measure, place_branches
from eenn.preprocess import Preprocessing
from tests.models.backbone_contract import check_backbone

# Blocks, MMACs of all blocks at 224 px, and positions of three and of five branches, as specified.
SPECIFIED: dict[str, tuple[int, float, tuple[int, ...], tuple[int, ...] | None]] = {
    "mobilenet_v2": (19, 312.9, (3, 10, 14), (2, 5, 10, 13, 16)),
    "mobilenet_v3_large": (17, 223.5, (4, 11, 13), (3, 6, 11, 12, 14)),
    "mobilenet_v3_small": (13, 58.0, (3, 6, 10), (2, 4, 6, 9, 10)),
    "efficientnet_b0": (18, 400.3, (4, 10, 13), (3, 6, 10, 12, 15)),
    "resnet18": (9, 1818.5, (2, 4, 6), (1, 3, 4, 6, 7)),
    "resnet50": (17, 4109.4, (4, 8, 13), (3, 5, 8, 11, 14)),
    "alexnet": (5, 655.6, (1, 2, 3), None),
    "vgg16": (13, 15346.6, (3, 6, 8), (2, 4, 6, 7, 9)),
    "convnext_tiny": (22, 4469.6, (6, 11, 16), (3, 7, 11, 14, 18)),
    "regnet_y_400mf": (17, 409.9, (3, 7, 12), (2, 4, 7, 11, 13)),
    "mnasnet1_0": (19, 324.0, (6, 11, 15), (4, 8, 11, 14, 16)),
    "shufflenet_v2_x1_0": (18, 147.8, (5, 9, 14), (3, 5, 9, 13, 16)),
}
WIDE = sorted(name for name, one in BACKBONES.items() if one.has_widths)
every_backbone = pytest.mark.parametrize("name", SPECIFIED)


def test_the_registry_has_the_specified_backbones() -> None:
    assert sorted(BACKBONES) == sorted(SPECIFIED)


@every_backbone
def test_every_backbone_keeps_the_contract(name: str) -> None:
    check_backbone(name)


@every_backbone
def test_macs_and_positions_are_as_specified(name: str) -> None:
    count, mmacs, three, five = SPECIFIED[name]
    blocks, _ = started(find_backbone(name), 7)
    x, macs = torch.zeros(1, 3, 224, 224), 0
    for block in blocks:
        own, x = measure(block, x)
        macs += own
    assert len(blocks) == count
    assert round(macs / 1e6, 1) == mmacs
    assert place_branches(blocks, 3, 224) == three
    if five is None:
        with pytest.raises(EennError, match="allowed are 0 to 4"):
            place_branches(blocks, 5, 224)
    else:
        assert place_branches(blocks, 5, 224) == five


@pytest.mark.parametrize("name", WIDE)
def test_widths_multiply_the_channels(name: str) -> None:
    half, whole = (started(find_backbone(name), 7, width)[0] for width in (0.5, 1.0))
    few, many = (
        sum(p.numel() for block in own for p in block.parameters()) for own in (half, whole)
    )
    assert few < 0.5 * many


def test_a_width_that_a_backbone_lacks_is_refused() -> None:
    with pytest.raises(EennError, match=r"width_mult=0\.5: resnet18 has one width.*mobilenet_v2"):
        place(7, 1, width_mult=0.5, backbone="resnet18")


def test_an_unknown_backbone_names_the_known_ones() -> None:
    with pytest.raises(EennError, match=r"model\.name=resnet: allowed are .*resnet18"):
        place(7, 1, backbone="resnet")


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small", "resnet18", "mnasnet1_0"])
def test_weights_are_loaded_and_a_classifier_of_other_classes_is_left_out(
    name: str, tmp_path: Path
) -> None:
    backbone = find_backbone(name)
    given = backbone.build(9).state_dict()
    torch.save(given, tmp_path / "weights.pth")
    for classes in (9, 5):
        torch.manual_seed(2)
        network = _source_of(backbone, classes, tmp_path / "weights.pth")
        fresh = _source_of(backbone, classes, None, seed=2)
        for key, tensor in network.items():
            kept = tensor.shape == given[key].shape
            assert kept or key.startswith(backbone.classifier)
            assert torch.equal(tensor, given[key] if kept else fresh[key]), key


def _source_of(
    backbone: Backbone, classes: int, weights: Path | None, seed: int = 2
) -> dict[str, torch.Tensor]:
    """Build a chain, and read its weights under the names of the source network."""
    torch.manual_seed(seed)
    chain = started(backbone, classes, weights=weights)
    source = backbone.build(classes)
    own = backbone.take_apart(source)
    for theirs, ours in zip(
        [*own.blocks, own.classifier], [*chain.blocks, chain.classifier], strict=True
    ):
        theirs.load_state_dict(ours.state_dict())
    return source.state_dict()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (nn.Linear(2, 2).state_dict(), "another network"),
        (mobilenet_v2(width_mult=0.5).state_dict(), "other shapes"),
        (torch.zeros(3), "not a state dict"),
    ],
)
def test_weights_of_another_net_are_refused(content: object, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(EennError, match=message):
        started(find_backbone("mobilenet_v2"), 5, weights=tmp_path / "weights.pth")


def test_a_weights_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(EennError, match=r"not a file that torch\.load reads"):
        started(find_backbone("mobilenet_v2"), 5, weights=tmp_path / "text.pth")
    with pytest.raises(EennError, match="allowed are imagenet, null"):
        started(find_backbone("mobilenet_v2"), 5, weights=tmp_path / "absent.pth")


@every_backbone
def test_preprocessing_is_what_the_published_weights_expect(name: str) -> None:
    """Against torchvision's own transform, on an image whose sides it does not enlarge."""
    published = get_model_weights(name).DEFAULT.transforms()
    own = find_backbone(name).preprocessing()
    assert (own.input_size, own.resize_size) == (published.crop_size[0], published.resize_size[0])
    pixels = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    image = Image.fromarray(pixels).resize((published.resize_size[0],) * 2)
    # Where nothing is left to resize, both cut the centre and normalise.
    torch.testing.assert_close(torch.from_numpy(own(image)), published(image))
    assert own.interpolation == published.interpolation.value


def test_a_backbone_that_torchvision_does_not_publish_has_the_usual_preprocessing() -> None:
    unpublished = Backbone("own", nn.Identity, lambda network: Chain([], network), "", False)
    assert unpublished.preprocessing(64, 72) == Preprocessing(64, 72)
    assert unpublished.preprocessing() == Preprocessing(224, 256)


@pytest.mark.parametrize(
    ("name", "resize_size"), [("efficientnet_b0", 110), ("resnet50", 99), ("convnext_tiny", 101)]
)
def test_at_another_size_the_crop_is_the_same_share(name: str, resize_size: int) -> None:
    """Of 256, 232 and 236 for a crop of 224."""
    own = find_backbone(name).preprocessing(96)
    assert (own.input_size, own.resize_size) == (96, resize_size)
    assert find_backbone(name).preprocessing(96, 120).resize_size == 120
