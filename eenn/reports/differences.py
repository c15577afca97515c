"""Paired differences in reports: between deployments, and of a search for active branches."""

from collections.abc import Sequence

import numpy as np

from eenn.evaluation.branch_search import Saving
from eenn.evaluation.differences import Difference
from eenn.reports.tables import distorted, setting_columns, signed, varying, without, words


def difference_rows(rows: Sequence[Difference]) -> list[dict[str, str]]:
    """Print paired differences as rows of a table."""
    cells = [
        {
            "deployment": row.second,
            "against": row.first,
            "level": f"{row.level:g}",
            **_cells(row),
        }
        for row in rows
    ]
    return varying(_without_unknown(cells), ("level",))


def saving_rows(rows: Sequence[Saving]) -> list[dict[str, str]]:
    """Print the effects of switching branches off as rows of a table."""
    cells = [
        {
            **setting_columns(row.network, row.difference.level, row.setting),
            "off": row.off,
            **_cells(row.difference),
        }
        for row in rows
    ]
    return varying(_without_unknown(cells), ("seed", "level"))


def saving_lines(rows: Sequence[Saving], distortion: str) -> list[str]:
    """Say in a line each which branches are switched off, and what that changes."""
    several = len({row.network for row in rows}) > 1
    said = []
    for row in rows:
        changed = row.difference
        where = [f"{row.network.network}, seed {row.network.seed}"] if several else []
        where += [distorted(distortion, changed.level)] if changed.level else []
        where += [words(row.setting.policy_text)]
        if not row.off:
            said.append(f"{', '.join(where)}: no set of branches is better than all of them")
            continue
        off = f"branch{'es' * (' ' in row.off)} {row.off}"
        accuracy = f"accuracy by {signed(changed.accuracy, 100, 2)} points"
        parts = [
            *([accuracy] if np.isfinite(changed.accuracy.value) else []),
            f"MMACs by {signed(changed.macs, 1e-6, 2)}",
            f"latency by {signed(changed.latency_ms, 1, 2)} ms",
            f"the share on the edge by {signed(changed.edge_probability, 100, 2)} points",
        ]
        said.append(
            f"{', '.join(where)}: the search switches off {off}, and keeps "
            f"{row.setting.branches or 'none'}; against all branches, on {changed.n} images, this "
            f"changes {', '.join(parts)}"
        )
    return said


def _cells(row: Difference) -> dict[str, str]:
    return {
        "n": str(row.n),
        "accuracy, points": signed(row.accuracy, 100, 2),
        "edge, points": signed(row.edge_probability, 100, 2),
        "MMACs": signed(row.macs, 1e-6, 2),
        "latency ms": signed(row.latency_ms, 1, 2),
        "kB sent": signed(row.sent_bytes, 1e-3, 2),
    }


def _without_unknown(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Leave accuracy out where no row knows it."""
    accuracy = "accuracy, points"
    return rows if any(row[accuracy] != "-" for row in rows) else without(rows, (accuracy,))


DIFFERENCES_TEXT = (
    "The values of a deployment less those of the one it is compared with, on the same images. The "
    "95 % intervals are those of the differences: a bootstrap over images, each with both its "
    "values. Shares differ by percentage points."
)
SAVINGS_TEXT = (
    "Of all sets of branches the best on validation. The values of the branches that stay less "
    "those of all branches, both with a knob fitted to the goal, on the same images of this "
    "evaluation; 95 % intervals of a bootstrap over images, each with both its values."
)
