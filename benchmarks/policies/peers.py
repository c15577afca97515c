"""The fit of earlyon beside this project's: thresholds for the same loss of accuracy.

earlyon calibrates by its own code. It sees a network whose stages pass the recorded logits on and
whose heads pick their own, so its wrapper, its temperatures and its search run as they are.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.policies.optional import earlyon
from benchmarks.policies.protocol import MACS, OFFLOADED_MS, WHOLE_MS, Prices
from eenn.errors import EennError
from eenn.evaluation.fitting import Goal, fit
from eenn.evaluation.grid import Case, Service
from eenn.evaluation.rows import Network
from eenn.exits.decide import Decisions, decide
from eenn.exits.policies.base import ExitProbs, Floats, Ints, Policy
from eenn.exits.policies.threshold import DEFAULT, Confidence
from eenn.files import Json
from eenn.planning.costs import CostModel, Costs, Link
from eenn.statistics.calibration import probabilities
from eenn.statistics.intervals import means

DROPS = (0.005, 0.01, 0.02)
VERSION = "0.3.0"
# An earlyon model, whose classes are known only where the library is installed.
Wrapper = Any


class Logits(NamedTuple):
    """Raw logits of one split, float32 (exits, images, classes), and labels (images,)."""

    values: np.ndarray[Any, np.dtype[np.float32]]
    labels: Ints


@dataclass(frozen=True)
class Fitted:
    """A way to answer that was fitted on validation images.

    Args:
        temperatures: of every exit.
    """

    name: str
    policy: Policy
    active: tuple[int, ...]
    temperatures: tuple[float, ...]

    def decide(self, logits: Logits) -> Decisions:
        """Decide by the project's own rule."""
        return decide(self.policy, exits_of(logits, self.temperatures), self.active)


def exits_of(logits: Logits, temperatures: tuple[float, ...]) -> list[ExitProbs]:
    """Calibrate the probabilities of every exit."""
    pairs = zip(logits.values, temperatures, strict=True)
    return [ExitProbs(exit, probabilities(own, t)) for exit, (own, t) in enumerate(pairs)]


class Head(nn.Module):
    """A head that picks its logits from those of all exits, (images, exits, classes)."""

    def __init__(self, exit: int) -> None:
        super().__init__()
        self.exit = exit

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.exit]


def replaying(logits: Logits, fractions: Floats) -> Wrapper:
    """Wrap recorded logits as an early-exit network of earlyon.

    Args:
        fractions: of the backbone's MACs that are done at every branch, (branches,).

    Raises:
        EennError: earlyon is not installed.
    """
    types, wrappers, flops = (earlyon(f"core.{name}") for name in ("types", "wrappers", "flops"))
    branches, classes = len(logits.values) - 1, logits.values.shape[-1]
    names = [str(branch) for branch in range(branches)]
    wrapper = wrappers.EarlyExitWrapper(
        nn.Sequential(*(nn.Identity() for _ in names)),
        {f"exit{name}": Head(int(name)) for name in names},
        Head(branches),
        types.EarlyExitConfig(
            backbone="recorded",
            num_classes=classes,
            exit_points=[types.ExitPoint(f"exit{name}", name, classes) for name in names],
        ),
    )
    wrapper._flops_estimate = flops.FlopsEstimate(
        fractions=dict(zip(names, map(float, fractions), strict=True)),
        method="manifest",
        reliable=True,
        notes=(),
    )
    return wrapper


def calibrated(logits: Logits, fractions: Floats, drop: float) -> Fitted:
    """Fit earlyon's temperatures and thresholds for a drop of accuracy, by its own calibration.

    Raises:
        EennError: earlyon is not installed.
    """
    wrapper = replaying(logits, fractions)
    stacked = torch.from_numpy(np.ascontiguousarray(logits.values.swapaxes(0, 1)))
    loader = [(stacked, torch.from_numpy(logits.labels))]
    found = earlyon("core.thresholds").calibrate_thresholds(
        wrapper, loader, drop, fit_temperature=True, temperature_loader=loader
    )
    active = tuple(np.flatnonzero(found.enabled_exits).tolist())
    # The last exit accepts every image.
    thresholds = (*map(float, found.thresholds), 0.0)
    temperatures = tuple(map(float, found.temperatures.values()))
    return Fitted(f"earlyon {VERSION}", Confidence(p_tar=thresholds), active, temperatures)


def fits(
    validation: Logits, temperatures: tuple[float, ...], costs: CostModel, drop: float
) -> Iterator[Fitted]:
    """Fit this project's rule with one threshold, and with strict inner exits.

    The first is fitted to the fewest MACs, the second to the least modelled latency; each as the
    project does, one standard error of the accuracy kept in hand, and without, as earlyon does.
    """
    exits = exits_of(validation, temperatures)
    active = tuple(range(len(exits) - 1))
    case = Case(Network("artifact", len(active), 0), 0.0, exits, validation.labels, costs, _SERVICE)
    for careful, suffix in ((True, ""), (False, ", no standard error")):
        for name, strict, minimise in (
            ("one threshold, fewest MACs", 1.0, "macs"),
            ("strict 10, least latency", 10.0, "latency_ms"),
        ):
            goal = Goal(
                "accuracy_drop",
                drop,
                minimise=minimise,
                one_standard_error=careful,
                strict=(strict,),
            )
            found = fit(goal, case, DEFAULT, {}, active)
            yield Fitted(name + suffix, found.policy, active, temperatures)


# Batches and deadlines, which these fits do not look at.
_SERVICE = Service(20, 32)


def modelled(prices: Prices) -> CostModel:
    """Give the costs of answers as the fits read them: MACs, and the modelled latency."""
    branches = len(prices.active)
    share = WHOLE_MS / prices.whole_macs
    ms = Costs(
        tuple(share * own for own in prices.macs.segments),
        tuple(share * own for own in prices.macs.heads),
    )
    nothing = (0.0,) * (branches + 1)
    return CostModel(prices.macs, ms, ms, nothing, Link(94, OFFLOADED_MS))


def rows(
    validation: Logits, test: Logits, temperatures: tuple[float, ...], part_macs: Costs
) -> list[Json]:
    """Compare all fits for the same drop on the test images, earlyon's with this project's costs.

    Differences of accuracy are from the last exit's, paired.
    """
    active = tuple(range(len(validation.values) - 1))
    prices = Prices(part_macs, active, MACS)
    costs = modelled(prices)
    done = np.cumsum(part_macs.segments)[:-1] / sum(part_macs.segments)
    last = test.values[-1].argmax(-1) == test.labels
    found: list[Json] = []
    for drop in DROPS:
        ways = list(fits(validation, temperatures, costs, drop))
        try:
            ways.insert(0, calibrated(validation, done, drop))
        except EennError as error:
            print(f"earlyon: left out, {error}")
        for way in ways:
            decisions = way.decide(test)
            right = (decisions.label == test.labels).astype(np.float64)
            estimates = means({"accuracy": right, "drop": last - right})
            found.append(
                {
                    "goal": drop,
                    "fit": way.name,
                    "active": [branch + 1 for branch in way.active],
                    "policy": way.policy.to_json(),
                    **{
                        f"{name}{end}": value
                        for name, of in estimates.items()
                        for end, value in zip(("", "_low", "_high"), of, strict=True)
                    },
                    "edge_probability": float(decisions.on_edge.mean()),
                    "macs": float(costs.answer_macs(decisions).mean()),
                    "latency_ms": float(costs.latency_ms(decisions).mean()),
                }
            )
    return found
