"""The contract that every backbone keeps."""

import copy

import torch
from torch import nn

from eenn.models.architecture import Architecture
from eenn.models.backbones.registry import find_backbone
from eenn.models.building import build


def check_backbone(name: str) -> None:
    """Check a backbone's chain against its source network, and its parts against the whole."""
    torch.manual_seed(0)
    network = find_backbone(name).build(7)
    blocks, classifier = find_backbone(name).take_apart(network)
    chain = nn.Sequential(*blocks, classifier)
    assert sorted(map(id, chain.parameters())) == sorted(map(id, network.parameters()))
    assert sorted(map(id, chain.buffers())) == sorted(map(id, network.buffers()))
    _check_bits(network, chain)
    _check_borders(name, len(blocks))


def _check_bits(network: nn.Module, chain: nn.Module) -> None:
    x = torch.randn(2, 3, 64, 64)
    state = copy.deepcopy(network.state_dict())
    for training in (False, True):
        found = []
        for own in (network, chain):
            # Both begin from the same statistics and random numbers.
            network.load_state_dict(state)
            torch.manual_seed(1)
            with torch.no_grad():
                found.append(own.train(training)(x))
        assert torch.equal(*found), training


def _check_borders(name: str, blocks: int) -> None:
    architecture = Architecture(7, tuple(range(blocks - 1)), "linear", 1.0, 64, name)
    network, x = build(architecture).eval(), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        whole = network(x)
        for split_point in range(blocks + 1):
            on_edge, features = network.edge(x, split_point)
            parts = [on_edge] if split_point else []
            if split_point < blocks:
                parts.append(network.cloud(features, split_point))
            assert torch.equal(torch.cat(parts), whole), split_point
    # No block changes in place what the head before it has read.
    network.train()(torch.randn(2, 3, 64, 64)).sum().backward()
    assert all(one.grad is not None for one in network.heads.parameters())
