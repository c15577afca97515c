"""The contract of every kind of branch head, by its name: for tests of old kinds and new ones."""

from itertools import pairwise

import torch

from eenn.models.architecture import Architecture
from eenn.models.building import build, measure_network

POSITIONS = (2, 5, 10, 13, 16)


def check_head(head: str) -> None:
    """Hold a kind of head against all of the contract, in a network of five branches."""
    architecture = Architecture(classes=7, positions=POSITIONS, head=head, input_size=64)
    network = build(architecture).eval()
    rows = measure_network(architecture)[1]
    images = torch.randn(2, 3, 64, 64)
    whole = network(images)
    assert whole.shape == (6, 2, 7)
    assert torch.isfinite(whole).all()
    for k, row in enumerate(rows, 1):
        logits, features = network.edge(images, k)
        assert features.shape[1:] == (row.channels, row.height, row.width)
        assert row.payload_bytes == 4 * features[0].numel()
        assert torch.equal(logits, whole[:k])
        assert row.head_macs > 0
    assert [row.after for row in rows] == [*POSITIONS, 18]
    assert all(a.macs < b.macs for a, b in pairwise(rows))
    network.train()(images).sum().backward()
    assert all(parameter.grad is not None for parameter in network.heads.parameters())
