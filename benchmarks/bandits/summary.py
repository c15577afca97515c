"""The outcomes of bandits over many links, devices and exchange rates, a row for each rule."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.bandits.runs import SOON, PartRow

WITHIN = 0.05


@dataclass(frozen=True)
class Cell:
    """The outcomes under one condition.

    Args:
        alpha: the confidence that a branch accepts.
        fixed: the arm that is best on validation images, counted from 1.
        rows: of every rule, clean images before noisy ones.
    """

    link: str
    slowdown: float
    mu: float
    alpha: float
    fixed: int
    rows: tuple[tuple[PartRow, ...], ...]


@dataclass(frozen=True)
class RuleRow:
    """The outcomes of a rule in all cells of an exchange rate.

    Args:
        regret, noisy_regret: medians over the cells.
        within: cells with a regret of at most WITHIN on clean images.
        changed: cells whose best arm is another one in noise; `found` of them have it found within
            SOON images, by the median of the seeds.
        unchanged, kept: the same where it is still the same arm.
    """

    mu: float
    rule: str
    cells: int
    regret: float
    noisy_regret: float
    within: int
    changed: int
    found: int
    unchanged: int
    kept: int


def summaries(cells: Sequence[Cell]) -> list[RuleRow]:
    """Sum up the outcomes of every rule for every exchange rate."""
    by_rule: dict[tuple[float, str], list[tuple[PartRow, ...]]] = {}
    for cell in cells:
        for parts in cell.rows:
            by_rule.setdefault((cell.mu, parts[0].rule), []).append(parts)
    return [_summed(mu, rule, rows) for (mu, rule), rows in by_rule.items()]


def _summed(mu: float, rule: str, rows: Sequence[tuple[PartRow, ...]]) -> RuleRow:
    changed = [noisy.found <= SOON for clean, noisy in rows if clean.best != noisy.best]
    unchanged = [noisy.found <= SOON for clean, noisy in rows if clean.best == noisy.best]
    return RuleRow(
        mu=mu,
        rule=rule,
        cells=len(rows),
        regret=median(clean.regret for clean, _ in rows),
        noisy_regret=median(noisy.regret for _, noisy in rows),
        within=sum(clean.regret <= WITHIN for clean, _ in rows),
        changed=len(changed),
        found=sum(changed),
        unchanged=len(unchanged),
        kept=sum(unchanged),
    )
