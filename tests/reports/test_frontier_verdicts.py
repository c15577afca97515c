"""The sentences on where early exits and cascades win and lose."""

from types import SimpleNamespace
from typing import cast

from eenn.evaluation.designs import CASCADE, EARLY_EXITS, SINGLE_EXIT
from eenn.evaluation.frontier import Reported, WithinBudget
from eenn.reports.frontier import verdicts
from eenn.statistics.intervals import UNKNOWN, Estimate


def row(kind: str, *difference: float) -> WithinBudget:
    reported = cast("Reported", SimpleNamespace(design=SimpleNamespace(kind=kind)))
    return WithinBudget("macs", 1.0, reported, False, 0.5, Estimate(*difference))


def test_only_differences_that_tables_show_are_told_apart() -> None:
    rows = [
        row(EARLY_EXITS, 0.03, 0.01, 0.05),
        row(EARLY_EXITS, 0.02, -0.01, 0.05),
        row(EARLY_EXITS, -0.02, -0.04, -0.01),
        # The same answers for all images but the one that a mixture weighs otherwise.
        row(EARLY_EXITS, -1e-6, -3e-6, -1e-7),
        row(EARLY_EXITS, 2e-6, 1e-6, 3e-6),
        row(SINGLE_EXIT, 0.03, 0.01, 0.05),
        row(EARLY_EXITS, *UNKNOWN),
    ]
    (said,) = verdicts(rows)
    assert "at 1 of 5 budgets, less accurate at 1, and not told apart at 3" in said
    (said,) = verdicts([row(CASCADE, 0.03, 0.01, 0.05)])
    assert "the first with early exits, are more accurate" in said
