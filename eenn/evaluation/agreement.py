"""Agreement of exits with each other and with the last exit, which needs no labels."""

from collections.abc import Sequence

from eenn.evaluation.rows import Agreement, Network
from eenn.exits.policies.base import ExitProbs
from eenn.statistics.intervals import means, share


def agreement(network: Network, level: float, exits: Sequence[ExitProbs]) -> list[Agreement]:
    """Compare the answers of every exit with those of every other, one row each."""
    n = len(exits[0].probs)
    rows = []
    for own in exits:
        same = {
            other.exit + 1: share(int((own.prediction == other.prediction).sum()), n)
            for other in exits
        }
        rows.append(
            Agreement(
                network=network,
                level=level,
                exit=own.exit + 1,
                n=n,
                confidence=means({"confidence": own.confidence})["confidence"],
                same_as_last=same[len(exits)],
                same=same,
            )
        )
    return rows
