"""Networks of timm: which are chains, that their chains are they, and what is refused."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from eenn.errors import EennError
from eenn.models.backbones import timm_networks
from eenn.models.backbones.registry import find_backbone
from eenn.models.backbones.timm_networks import plan
from eenn.models.backbones.weights import started
from eenn.preprocess import Preprocessing
from tests.models.backbone_contract import check_backbone

# One small network of each family, and the number of its blocks.
CHAINS = {
    "convnext_atto": 19,
    "densenet121": 9,
    "dla34": 7,
    "dpn48b": 19,
    "edgenext_xx_small": 19,
    "efficientvit_b0": 23,
    "ese_vovnet19b_slim": 10,
    "fastvit_t8": 20,
    "ghostnet_100": 18,
    "hgnetv2_b0": 9,
    "inception_next_atto": 19,
    "lcnet_050": 14,
    "mnasnet_100": 19,
    "mobilenetv2_100": 19,
    "mobilenetv3_small_100": 13,
    "mobilenetv4_conv_small": 24,
    "mobileone_s0": 43,
    "mobilevit_xxs": 20,
    "nf_resnet26": 10,
    "poolformer_s12": 16,
    "regnetx_002": 14,
    "regnety_002": 14,
    "resnet18": 9,
    "resnet18d": 11,
    "rexnet_100": 18,
    "starnet_s1": 22,
    "tf_efficientnet_lite0": 18,
    "tinynet_e": 12,
    "vgg11_bn": 8,
}
# The module at which each breaks.
REFUSED = {
    "vit_tiny_patch16_224": "patch_embed",
    "swin_tiny_patch4_window7_224": "patch_embed",
    "hrnet_w18_small": "transition1",
    "efficientformer_l1": "head_dist",
    "mambaout_femto": "stem",
    "visformer_tiny": "global_pool",
    "repvit_m0_9": "head",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CHAINS)
def test_families_are_chains_of_blocks(name: str) -> None:
    # The plan is made by comparing the chain with the network bit for bit.
    assert len(plan(name).blocks) == CHAINS[name]


@pytest.mark.parametrize(
    "name", ["tf_efficientnet_lite0", "resnet18d", "densenet121", "regnety_002"]
)
def test_networks_of_timm_keep_the_contract(name: str) -> None:
    check_backbone(f"timm/{name}")


@pytest.mark.parametrize("name", REFUSED)
def test_a_network_that_is_no_chain_is_refused_by_the_module_where_it_breaks(name: str) -> None:
    with pytest.raises(EennError, match=f"breaks at its module {REFUSED[name]};"):
        started(find_backbone(f"timm/{name}"), 7)


@pytest.mark.parametrize(("side", "module"), [(1, "forward"), (8, "conv")])
def test_a_network_of_maps_alone_is_refused_as_well(side: int, module: str) -> None:
    class Pooling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            pooled: torch.Tensor = self.conv(x).mean((2, 3))
            return pooled

    with pytest.raises(EennError, match=f"breaks at its module {module};"):
        timm_networks._planned("pooling", Pooling(), torch.zeros(1, 3, side, side))


def test_the_stem_and_the_last_convolution_are_one_block_each() -> None:
    blocks = plan("tf_efficientnet_lite0").blocks
    assert (blocks[0], blocks[-1]) == (("conv_stem", "bn1"), ("conv_head", "bn2"))


def test_preprocessing_is_that_of_the_weights() -> None:
    found = find_backbone("timm/tf_efficientnet_lite0").preprocessing(160, 184)
    half = (0.5, 0.5, 0.5)
    assert found == Preprocessing(160, 184, half, half, "bicubic")
    own = find_backbone("timm/tf_efficientnet_lite0").preprocessing()
    assert (own.input_size, own.resize_size) == (224, 256)


def test_weights_are_loaded_and_a_classifier_of_other_classes_is_left_out(tmp_path: Path) -> None:
    backbone = find_backbone("timm/tf_efficientnet_lite0")
    given = backbone.build(9).state_dict()
    torch.save(given, tmp_path / "weights.pth")
    blocks, classifier = started(backbone, 5, weights=tmp_path / "weights.pth")
    assert torch.equal(blocks[0].state_dict()["0.weight"], given["conv_stem.weight"])
    assert classifier.state_dict()["1.weight"].shape == (5, 1280)


def test_building_draws_no_random_numbers_for_the_plan() -> None:
    plan.cache_clear()
    torch.manual_seed(3)
    first = started(find_backbone("timm/tinynet_e"), 5).blocks[0].state_dict()
    torch.manual_seed(3)
    again = started(find_backbone("timm/tinynet_e"), 5).blocks[0].state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)


def test_an_unknown_network_names_those_that_are_near() -> None:
    with pytest.raises(EennError, match=r"timm has no such network; .*resnet18"):
        find_backbone("timm/resnet19")
    # Old names, weights that are not there, and places that timm would download from.
    for name in ("gluon_resnet18_v1b", "resnet18.unknown", "hf_hub:a/b", "local-dir:/tmp"):
        with pytest.raises(EennError, match=f"model.name={name}: timm has no such network"):
            find_backbone(f"timm/{name}")
    with pytest.raises(
        EennError, match=r"model\.source=keras: allowed are torchvision, custom, timm"
    ):
        find_backbone("keras/resnet18")


def test_a_network_too_large_to_try_is_refused_before_it_is_built() -> None:
    with pytest.raises(EennError, match="million parameters; allowed are 400 million"):
        plan("eva_giant_patch14_224")


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(EennError, match=r"pip install 'eenn\[timm\]'"):
        timm_networks.find("resnet18")
