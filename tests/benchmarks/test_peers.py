"""earlyon beside this project: its fit is carried over as it is, and its wrapper runs the same."""

import numpy as np
import pytest
import torch

from benchmarks.policies import peers
from benchmarks.policies.protocol import MACS, OFFLOADED_MS, WHOLE_MS, Prices
from eenn.exits.decide import last_exit
from eenn.models.architecture import Architecture
from eenn.models.building import build
from tests.benchmarks.records import made_up, part_costs

FRACTIONS = np.array([0.25, 0.5, 0.75])
TEMPERATURES = (1.0,) * 4


def logits(seed: int) -> peers.Logits:
    records = made_up(seed=seed)
    return peers.Logits(records.logs.astype(np.float32), records.labels)


def accuracy(way: peers.Fitted, on: peers.Logits) -> float:
    return float((way.decide(on).label == on.labels).mean())


@pytest.mark.parametrize("drop", peers.DROPS)
def test_both_keep_the_drop_where_they_were_fitted(drop: float) -> None:
    validation = logits(0)
    last = (validation.values[-1].argmax(-1) == validation.labels).mean()
    costs = peers.modelled(Prices(part_costs(), (0, 1, 2), MACS))
    ways = list(peers.fits(validation, TEMPERATURES, costs, drop))
    assert len({way.name for way in ways}) == len(ways) == 4
    for way in ways:
        assert accuracy(way, validation) >= last - drop - 1e-9
    spent = [costs.answer_macs(way.decide(validation)).mean() for way in ways]
    # One standard error kept in hand costs something.
    assert spent[0] >= spent[2]


def test_the_modelled_costs_are_those_of_the_comparison() -> None:
    prices = Prices(part_costs(), (0, 1, 2), MACS)
    decisions = last_exit(made_up().exits)
    costs = peers.modelled(prices)
    np.testing.assert_allclose(costs.answer_macs(decisions), 440)
    np.testing.assert_allclose(
        costs.latency_ms(decisions), WHOLE_MS * 440 / prices.whole_macs + OFFLOADED_MS
    )


@pytest.mark.parametrize("drop", peers.DROPS)
def test_earlyons_thresholds_keep_its_promise_by_our_rule(drop: float) -> None:
    pytest.importorskip("earlyon")
    validation = logits(0)
    last = (validation.values[-1].argmax(-1) == validation.labels).mean()
    way = peers.calibrated(validation, FRACTIONS, drop)
    assert accuracy(way, validation) >= last - drop - 1e-9
    assert not way.decide(validation).on_edge.all()
    assert way.decide(validation).on_edge.any()


# earlyon counts FLOPs once, by way of what PyTorch deprecates.
@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
@pytest.mark.parametrize(("threshold", "exit"), [(0.0, 0), (1.0, -1)])
def test_earlyons_wrapper_computes_the_same_logits(threshold: float, exit: int) -> None:
    pytest.importorskip("earlyon")
    from benchmarks.policies.peer_time import wrapped

    torch.manual_seed(0)
    network = build(Architecture(5, (2, 5), input_size=32)).eval()
    images = torch.randn(1, 3, 32, 32)
    answer = wrapped(network, 5, 32, threshold)(images)
    with torch.inference_mode():
        expected = network(images)[exit]
    assert answer.exit_taken == exit
    torch.testing.assert_close(answer.prediction, expected)
