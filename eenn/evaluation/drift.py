"""Tests whether images differ from those that an artifact was validated on, by its exits."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from eenn.evaluation.rows import Drift, Network
from eenn.exits.decide import Decisions
from eenn.exits.policies.base import ExitProbs
from eenn.exits.settings import Setting
from eenn.statistics.drift import LEVEL, Tested, confidences_differ, holm, shares_differ
from eenn.statistics.intervals import Estimate, means, share


@dataclass(frozen=True)
class Observed:
    """The exits' outputs and the decisions on a set of images, without their labels."""

    exits: Sequence[ExitProbs]
    decisions: Decisions

    @property
    def n(self) -> int:
        """Count the images."""
        return len(self.decisions.taken)

    def stopped(self, exit: int) -> int:
        """Count the images that stopped at an exit, counted from 0."""
        return int((self.decisions.taken == exit).sum())


def drift(
    network: Network, level: float, setting: Setting, seen: Observed, validation: Observed
) -> list[Drift]:
    """Test every quantity of images against the validation images, as one family of tests.

    Args:
        level: of the images' distortion; validation images have none.
        setting: the way to answer by which both sets of images were decided.
    """
    compared = list(_compared(seen, validation))
    adjusted = holm([tested.p_value for _, _, _, tested in compared])
    return [
        Drift(
            network=network,
            level=level,
            setting=setting,
            quantity=quantity,
            n=seen.n,
            validation_n=validation.n,
            value=value,
            validation=known,
            difference=tested.difference,
            p_value=tested.p_value,
            p_adjusted=float(p_value),
            drift=bool(p_value < LEVEL),
        )
        for (quantity, value, known, tested), p_value in zip(compared, adjusted, strict=True)
    ]


def verdict(rows: Sequence[Drift]) -> str:
    """Say in a sentence whether the images of one network and level drift from validation."""
    first = rows[0]
    held = f"{first.n} images against {first.validation_n} of validation; false alarms at most"
    held = f"{held} {100 * LEVEL:g} %"
    found = [row.quantity for row in rows if row.drift]
    if found:
        return f"drift: {', '.join(found)} differ from validation ({held})"
    return f"no drift: none of {len(rows)} quantities differs from validation ({held})"


def _compared(
    seen: Observed, validation: Observed
) -> Iterator[tuple[str, Estimate, Estimate, Tested]]:
    for new, known in zip(seen.exits, validation.exits, strict=True):
        yield (
            f"confidence of exit {new.exit + 1}",
            _mean(new),
            _mean(known),
            confidences_differ(new.confidence, known.confidence),
        )
    active = seen.decisions.active
    stops = [(f"stopped at exit {exit + 1}", exit) for exit in active]
    for quantity, exit in stops if len(active) > 1 else ():
        yield _shares(quantity, seen, validation, seen.stopped(exit), validation.stopped(exit))
    if active:
        counts = (int(one.decisions.on_edge.sum()) for one in (seen, validation))
        yield _shares("edge share", seen, validation, *counts)


def _shares(
    quantity: str, seen: Observed, validation: Observed, count: int, known: int
) -> tuple[str, Estimate, Estimate, Tested]:
    tested = shares_differ(count, seen.n, known, validation.n)
    return quantity, share(count, seen.n), share(known, validation.n), tested


def _mean(exit: ExitProbs) -> Estimate:
    return means({"confidence": np.asarray(exit.confidence)})["confidence"]
