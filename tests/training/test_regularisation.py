"""What a recipe changes in a backbone."""

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.ops import StochasticDepth

from eenn.errors import EennError
from eenn.models.building import build, place
from eenn.training.regularisation import Regularisation


def momenta(module: nn.Module) -> set[float | None]:
    return {own.momentum for own in module.modules() if isinstance(own, nn.BatchNorm2d)}


def test_momentum_is_set_in_the_segments_and_left_in_the_heads() -> None:
    network = build(place(5, 2, input_size=64, backbone="mobilenet_v3_small"))
    assert momenta(network.segments) == {0.01}
    Regularisation().apply(network.segments)
    assert momenta(network.segments) == {0.01}
    Regularisation(batch_norm_momentum=0.2).apply(network.segments)
    assert momenta(network.segments) == {0.2}
    assert momenta(network.heads) == {0.1}


def test_drop_path_rises_evenly_to_the_given_probability() -> None:
    network = build(place(5, 0, input_size=64, backbone="convnext_tiny"))
    own = [m.p for m in network.modules() if isinstance(m, StochasticDepth)]
    Regularisation(drop_path=0.1).apply(network.segments)
    # 0.1 is torchvision's own for this network, which rises the same way.
    assert [m.p for m in network.modules() if isinstance(m, StochasticDepth)] == pytest.approx(own)
    Regularisation(drop_path=0).apply(network.segments)
    assert all(m.p == 0 for m in network.modules() if isinstance(m, StochasticDepth))


def test_drop_path_reaches_the_places_that_timm_keeps_for_it() -> None:
    network = build(place(5, 1, "conv", 1.0, 64, "timm/tf_efficientnet_lite0"))
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    x = torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        before = network.eval()(x)
        Regularisation(drop_path=0.9).apply(network.segments)
        assert torch.equal(network.eval()(x), before)
    assert network.state_dict().keys() == state.keys()
    own = [m.p for m in network.modules() if isinstance(m, StochasticDepth)]
    assert own == pytest.approx(list(np.linspace(0, 0.9, 16)))


def test_a_backbone_without_blocks_to_skip_ignores_drop_path() -> None:
    Regularisation(drop_path=0.5).apply(build(place(5, 1, input_size=64)).segments)


@pytest.mark.parametrize(
    "given",
    [
        {"batch_norm_momentum": 0},
        {"batch_norm_momentum": 1.5},
        {"drop_path": 1},
        {"drop_path": -0.1},
    ],
)
def test_impossible_numbers_say_what_is_allowed(given: dict[str, float]) -> None:
    with pytest.raises(EennError, match=r"regularisation\.\w+=.*allowed is.*null"):
        Regularisation(**given)
