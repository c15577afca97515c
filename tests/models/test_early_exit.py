"""The network: placement, heads, and segments that compose to the whole."""

import pytest
import torch
from torch import nn
from torchvision.models import mobilenet_v2

from eenn.errors import EennError
from eenn.models.architecture import Architecture, branches_text
from eenn.models.backbones.registry import find_backbone
from eenn.models.backbones.weights import started
from eenn.models.building import build, measure_network, place
from eenn.models.early_exit import EarlyExitNet
from eenn.models.heads import HEADS
from eenn.models.placement import measure, place_branches
from tests.models.head_contract import check_head

MOBILENET_V2 = find_backbone("mobilenet_v2")
PUBLISHED_POSITIONS = {
    224: {1: (10,), 2: (5, 13), 3: (3, 10, 14), 4: (3, 7, 12, 15), 5: (2, 5, 10, 13, 16)},
    300: {1: (10,), 2: (5, 13), 3: (3, 10, 15), 4: (3, 7, 12, 16), 5: (2, 5, 10, 13, 16)},
}


@pytest.fixture(scope="module")
def network() -> EarlyExitNet:
    torch.manual_seed(0)
    architecture = Architecture(classes=7, positions=(2, 5, 10, 13, 16), input_size=64)
    return build(architecture).eval()


def test_branches_go_where_the_papers_put_them() -> None:
    blocks, _ = started(MOBILENET_V2, 257)
    placed = {
        size: {n: place_branches(blocks, n, size) for n in positions}
        for size, positions in PUBLISHED_POSITIONS.items()
    }
    assert placed == PUBLISHED_POSITIONS


def test_explicit_positions_are_kept() -> None:
    blocks, _ = started(MOBILENET_V2, 5)
    assert place_branches(blocks, [3, 7], 224) == (3, 7)


@pytest.mark.parametrize("branches", [99, -1, 18, [5, 3], [3, 3], [18], [-1]])
def test_impossible_placements_say_what_is_allowed(branches: int | list[int]) -> None:
    blocks, _ = started(MOBILENET_V2, 5)
    with pytest.raises(EennError, match=r"allowed are 0 to|use fewer|between 0 and 17"):
        place_branches(blocks, branches, 64)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("width_mult", [0.5, 1.0])
def test_without_heads_the_net_is_torchvisions_bit_for_bit(
    layout: torch.memory_format, width_mult: float
) -> None:
    reference = mobilenet_v2(num_classes=7, width_mult=width_mult)
    ours = build(Architecture(7, (2, 5, 10, 13, 16), "linear", width_mult, 64))
    backbone = [*ours.segments.state_dict().values(), *ours.heads[-1].state_dict().values()]
    for own, theirs in zip(backbone, reference.state_dict().values(), strict=True):
        own.copy_(theirs)
    x = torch.randn(3, 3, 64, 64)
    reference.eval().to(memory_format=layout)
    ours.eval().to(memory_format=layout)
    assert torch.equal(ours(x)[-1], reference(x))


def test_a_net_without_branches_is_the_conventional_one() -> None:
    network = build(place(classes=7, branches=0, input_size=64)).eval()
    assert network(torch.randn(2, 3, 64, 64)).shape == (1, 2, 7)
    assert [len(segment) for segment in network.segments] == [19]


def test_forward_gives_every_exit_in_training_and_evaluation(network: EarlyExitNet) -> None:
    x = torch.randn(4, 3, 64, 64)
    assert network(x).shape == (6, 4, 7)
    assert network.train()(x).shape == (6, 4, 7)
    network.eval()


@pytest.mark.parametrize("split_point", range(7))
def test_edge_and_cloud_compose_to_the_whole(network: EarlyExitNet, split_point: int) -> None:
    x = torch.randn(2, 3, 64, 64)
    on_edge, features = network.edge(x, split_point)
    parts = [on_edge] if split_point else []
    if split_point < 6:
        parts.append(network.cloud(features, split_point))
    assert torch.equal(torch.cat(parts), network(x))


def test_stopping_early_runs_nothing_behind_the_exit(network: EarlyExitNet) -> None:
    ran: list[int] = []
    hooks = [
        segment.register_forward_hook(lambda *_, k=k: ran.append(k))
        for k, segment in enumerate(network.segments)
    ]
    steps = network.steps(torch.randn(1, 3, 64, 64))
    next(steps)
    next(steps)
    for hook in hooks:
        hook.remove()
    assert ran == [0, 1]


@pytest.mark.parametrize("head", HEADS)
def test_every_head_keeps_the_contract(head: str) -> None:
    check_head(head)


def test_macs_agree_with_a_count_over_layers() -> None:
    architecture = Architecture(classes=10, positions=(), input_size=64)
    row = measure_network(architecture)[1][0]
    convolutions = 0

    def count(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        nonlocal convolutions
        convolutions += output.numel() * module.weight[0].numel()  # type: ignore[union-attr,index]

    network = mobilenet_v2(num_classes=10).eval()
    for module in network.features.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    network(torch.zeros(1, 3, 64, 64))
    # fvcore adds BatchNorm, about 2 % of the convolutions.
    assert convolutions < row.macs < 1.05 * convolutions
    assert row.head_macs == 1280 * 10 + 1280 * 2 * 2


def test_a_branch_that_would_lie_behind_the_last_block_is_said_to() -> None:
    blocks = [nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 64, 5, padding=2)]
    with pytest.raises(EennError, match=r"branches=1 would put a branch after the last block"):
        place_branches(blocks, 1, 16)


@pytest.mark.parametrize("backbone", ["mobilenet_v3_small", "alexnet"])
def test_the_table_of_blocks_is_that_of_a_loop_over_the_blocks(backbone: str) -> None:
    architecture = place(5, 2, "conv", 1.0, 64, backbone)
    blocks, exits = measure_network(architecture)
    network = build(architecture).eval()
    own = [block for segment in network.segments for block in segment.children()]
    x, macs = torch.zeros(1, 3, 64, 64), 0
    for row, block in zip(blocks, own, strict=True):
        macs += measure(block, x)[0]
        x = block(x)
        assert (row.channels, row.height, row.width) == tuple(x.shape[1:])
        assert (row.macs, row.payload_bytes) == (macs, 4 * x.numel())
    for row in exits:
        here = blocks[row.after]
        assert (row.channels, row.height, row.width) == (here.channels, here.height, here.width)
        assert (row.macs, row.payload_bytes) == (here.macs, here.payload_bytes)


@pytest.mark.parametrize("input_size", [160, 224])
def test_conv_heads_are_cheap(input_size: int) -> None:
    totals = {}
    for head in ("linear", "conv"):
        architecture = Architecture(101, (2, 5, 10, 13, 16), head, input_size=input_size)
        rows = measure_network(architecture)[1]
        backbone = rows[-1].macs + rows[-1].head_macs
        assert all(row.head_macs <= 0.03 * backbone for row in rows)
        totals[head] = rows[-1].macs + sum(row.head_macs for row in rows)
    assert totals["conv"] <= 1.03 * totals["linear"]


def test_a_conv_head_can_say_all_that_a_linear_head_can() -> None:
    linear, conv = HEADS["linear"](24, 16, 2, 5), HEADS["conv"](24, 16, 2, 5)
    state = linear.state_dict()
    conv.get_submodule("seen").load_state_dict({"weight": state["3.weight"]})
    conv.get_submodule("made").load_state_dict(
        {"weight": torch.zeros(5, 192), "bias": state["3.bias"]}
    )
    x = torch.randn(2, 24, 16, 16)
    torch.testing.assert_close(conv.eval()(x), linear.eval()(x))


def test_a_pooled_conv_head_is_a_conv_head_on_halved_features_and_costs_less() -> None:
    x = torch.randn(2, 24, 13, 13)
    pooled = HEADS["pooled_conv"](24, 13, 2, 5).eval()
    own = HEADS["conv"](24, 7, 2, 5).eval()
    own.load_state_dict({k.removeprefix("1."): v for k, v in pooled.state_dict().items()})
    # A map of 13 is halved to 7, and the outermost windows have only the pixels that are there.
    halved = torch.stack(
        [
            torch.stack([x[:, :, i : i + 2, j : j + 2].mean((2, 3)) for j in range(0, 13, 2)], -1)
            for i in range(0, 13, 2)
        ],
        -2,
    )
    torch.testing.assert_close(pooled(x), own(halved))
    assert measure(pooled, x)[0] < measure(HEADS["conv"](24, 13, 2, 5), x)[0]


def test_a_map_as_small_as_the_last_one_is_not_pooled() -> None:
    same = HEADS["pooled_conv"](24, 4, 4, 5)
    assert type(same) is type(HEADS["conv"](24, 4, 4, 5))


def test_an_unknown_head_names_the_known_ones() -> None:
    with pytest.raises(EennError, match="linear, pool2, conv, pooled_conv"):
        build(Architecture(5, (3,), "dense", input_size=64))


def test_building_and_measuring_leave_the_statistics_untouched() -> None:
    architecture = Architecture(5, (3,), "conv", input_size=64)
    network = build(architecture)
    measure_network(architecture)
    means = [b for name, b in network.named_buffers() if name.endswith("running_mean")]
    assert means
    assert all(torch.count_nonzero(mean) == 0 for mean in means)
    assert network.training


def test_branches_are_counted_in_words() -> None:
    assert [branches_text(count) for count in (0, 1, 5)] == [
        "no branches",
        "1 branch",
        "5 branches",
    ]
