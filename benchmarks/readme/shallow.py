"""The table of the ways to train better shallow exits that were tried."""

from benchmarks.readme.results import Content, points, run_of, where
from benchmarks.shallow.compare import BASELINE, LAST_EXIT
from eenn.reports.tables import table

LEAST_GAIN = 0.01


def shallow() -> str:
    """Tabulate the gains of all variants over the baseline, and name those worth keeping."""
    run = run_of("shallow")
    rows: dict[str, dict[str, str]] = {}
    for row in run["rows"]:
        budget = row["budget"]
        column = budget if budget == LAST_EXIT else f"{100 * budget:g} %"
        cells = rows.setdefault(row["variant"], {"variant": f"`{row['variant']}`"})
        if row["variant"] == BASELINE:
            if row["seed"] is not None:
                cells[column] = ", ".join([*filter(None, [cells.get(column)]), _accuracy(row)])
        elif row["seed"] is None:
            cells[column] = points(row, "gain")
    kept = [name for name in rows if name != BASELINE and _worth_keeping(run, name)]
    return (
        f"{table(rows.values())}\n\nGain at least {100 * LEAST_GAIN:g} point at all three costs "
        "and lose nothing at the last exit that is told apart from chance: "
        f"{', '.join(kept) or 'none'}.\n\n"
        "First row: accuracy % of each seed. Others: points of accuracy over it at exactly equal "
        "mean MACs, both seeds together, with paired 95 % bootstrap intervals over the test "
        f"images, which do not know how trainings vary. 128 px, five branches. {where(run)}"
    )


def _accuracy(row: Content) -> str:
    return f"{100 * row['accuracy']:.1f}"


def _worth_keeping(run: Content, variant: str) -> bool:
    own = [row for row in run["rows"] if row["variant"] == variant and row["seed"] is None]
    return all(
        row["gain_high"] >= 0 if row["budget"] == LAST_EXIT else row["gain"] >= LEAST_GAIN
        for row in own
    )
