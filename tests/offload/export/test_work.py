"""The work of an artifact's graphs against fvcore's counts of the network in PyTorch."""

import warnings
from collections import Counter
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from eenn.artifact.manifest import ArtifactEdited
from eenn.models.early_exit import EarlyExitNet
from eenn.offload.export.work import work_of
from eenn.offload.graphs.index import Graphs
from eenn.planning.work import Work
from tests.offload.exported import Exported


def counted(module: nn.Module, x: Tensor) -> Counter[str]:
    """MACs of a module by operation."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit")
        from fvcore.nn import FlopCountAnalysis

        analysis = FlopCountAnalysis(module, x)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        return Counter({name: int(macs) for name, macs in analysis.by_operator().items()})


def depthwise_macs(module: nn.Module, x: Tensor) -> int:
    """MACs of the convolutions that have as many groups as channels."""
    found = []

    def note(layer: nn.Module, given: object, result: Tensor) -> None:
        if isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels:
            found.append(result.numel() * layer.kernel_size[0] * layer.kernel_size[1])

    handles = [layer.register_forward_hook(note) for layer in module.modules()]
    module(x)
    for handle in handles:
        handle.remove()
    return sum(found)


def modules(network: EarlyExitNet) -> Iterator[tuple[str, nn.Module, Tensor]]:
    """Every block and head, with its input for one image."""
    x = torch.zeros(1, 3, 32, 32)
    for segment, head in zip(network.blocks, network.heads, strict=True):
        for block in segment:
            yield "block", block, x
            x = block(x)
        yield "head", head, x


@torch.no_grad()
def test_macs_are_exactly_those_of_fvcore(exported: Exported) -> None:
    work = work_of(exported.graphs)
    found: dict[str, list[Work]] = {"block": list(work.blocks), "head": list(work.heads)}
    for name, module, x in modules(exported.network.eval()):
        own, macs = found[name].pop(0), counted(module, x)
        # Batch norms are folded into convolutions, but for one at the start of a head.
        starts = x.numel() if name == "head" and macs["batch_norm"] else 0
        depthwise = depthwise_macs(module, x)
        products = macs["conv"] + macs["linear"] + macs["addmm"]
        assert own.depthwise_macs == depthwise + starts
        assert own.full_macs == products - depthwise
        layers = [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        assert own.layers == len(layers) + bool(starts)
        weights = sum(layer.weight.numel() for layer in layers)
        assert own.weights == weights + bool(starts) * x.shape[1]
    assert not any(found.values())


@torch.no_grad()
def test_macs_are_those_of_the_manifest_but_for_norms_and_pools(exported: Exported) -> None:
    manifest, work = exported.graphs.manifest, work_of(exported.graphs)
    own = [block.full_macs + block.depthwise_macs for block in work.blocks]
    others = [
        macs["batch_norm"] + macs["adaptive_avg_pool2d"]
        for name, module, x in modules(exported.network.eval())
        if name == "block"
        for macs in [counted(module, x)]
    ]
    totals = [block.macs for block in manifest.blocks]
    assert [sum(own[: n + 1]) + sum(others[: n + 1]) for n in range(len(own))] == totals
    assert work.after == tuple(row.after + 1 for row in manifest.exits)
    assert (work.artifact_id, work.input_size) == (manifest.id, 32)


@pytest.mark.parametrize("kept", [0.5, 0.01, 0.0])
def test_a_damaged_graph_is_one_line(
    kept: float, exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined = Graphs.joined
    monkeypatch.setattr(Graphs, "joined", lambda *given: _start(joined(*given), kept))
    with pytest.raises(
        ArtifactEdited, match=r"block_0 does not tell its work.*eenn-export"
    ) as caught:
        work_of(exported.graphs)
    assert "\n" not in str(caught.value)


def _start(content: bytes, share: float) -> bytes:
    return content[: int(share * len(content))]
