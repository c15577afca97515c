"""The report of a frontier over networks: which network and setting win at each cost."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from eenn.evaluation.designs import (
    CASCADE,
    COSTS,
    EARLY_EXITS,
    KINDS,
    PLAIN_CASCADE,
    SINGLE_EXIT,
    Design,
)
from eenn.evaluation.frontier import Frontier, Reported, WithinBudget
from eenn.exits.rests import CLOUD, DEVICE
from eenn.reports.canvas import QUANTITIES, Lines, draw_lines, finish, label_axis, make_panels
from eenn.reports.figures import Drawn
from eenn.reports.opening import point_numbers, tile
from eenn.reports.page import Section
from eenn.reports.report import Report, table_section
from eenn.reports.tables import Cell, flat, number, signed, varying, with_bounds, without, words
from eenn.statistics.intervals import Estimate

# The quantity, as of `Point`, that shows each cost; a share on the edge shows what is offloaded.
SHOWN = {
    "macs": "macs",
    "latency_ms": "latency_ms",
    "sent_bytes": "sent_bytes",
    "offloaded": "edge_probability",
}
MARKS = 30  # of a line, at most
# An interval tells designs apart that is this far from 0, half of the last digit that tables print.
TOLD_APART = 0.0005
_NAMES = {
    "macs": ("MMACs", 1e-6),
    "latency_ms": ("ms", 1.0),
    "sent_bytes": ("kB", 1e-3),
    "offloaded": ("% sent", 100.0),
}


def frontier_report(
    title: str,
    facts: Mapping[str, str],
    frontier: Frontier,
    rows: Mapping[str, Sequence[WithinBudget]],
    chosen: Reported,
    why: str,
    purpose: str,
    command: str,
) -> Report:
    """Put together the report of a frontier.

    Args:
        rows: designs within budgets, by cost.
        chosen: the design that opens the page; `why` is the reason in a sentence.
        purpose: the purpose of the command.
    """
    design, point = chosen.design, chosen.point
    singles, gain = frontier.against_singles("macs", chosen)
    title = f"{100 * point.accuracy.value:.1f} % right at {1e-6 * point.macs.value:.1f} MMACs"
    if np.isfinite(gain.value):
        more = "more" if gain.value >= 0 else "fewer"
        title += f", {100 * abs(gain.value):.1f} points {more} than single exits of that cost"
    headline = Section(
        title,
        "\n".join([f"{design_text(design)}.", why, *verdicts(rows["macs"])]),
        numbers=[
            tile(
                "accuracy",
                "%",
                100,
                point.accuracy,
                Estimate(singles, np.nan, np.nan),
                "single exits",
            ),
            *point_numbers(point, None, "accuracy")[1:],
        ],
        purpose=purpose,
        command=command,
    )
    tables = [
        table_section(f"Budgets of {_NAMES[cost][0]}", BUDGETS_TEXT, budget_rows(own))
        for cost, own in rows.items()
        if own
    ]
    drawn = [_figure(frontier, cost) for cost in list(COSTS)[1:] if rows[cost]]
    return Report(
        title,
        facts,
        {
            "budgets": [cells for own in rows.values() for cells in map(budget_cells, own)],
            "designs": [*_design_cells(frontier)],
        },
        [],
        drawn,
        tables,
        headline,
        _figure(frontier, "macs", chosen),
    )


def design_text(design: Design) -> str:
    """Describe a design in words: networks, branches, policy and the place of the rest."""
    name, active = design.family.evaluated.network.network, design.setting.branches
    rest = design.family.rest
    if design.kind == SINGLE_EXIT:
        where = ", in the cloud" if rest == CLOUD else ""
        return f"{name}, {f'exit {active}' if active else 'last exit'} for every image{where}"
    exits = f"exit{'s' if len(design.setting.active) > 1 else ''} {active}"
    places = {CLOUD: "the rest in the cloud", DEVICE: "the rest on the device"}
    place = places.get(rest, "the last of them answers the rest")
    return f"{name}, {exits}, {words(design.setting.policy_text)}, {place}"


def verdicts(rows: Sequence[WithinBudget]) -> list[str]:
    """Say for early exits and cascades at how many budgets they beat single exits of their cost."""
    said = []
    names = {
        EARLY_EXITS: "Early exits of one network",
        PLAIN_CASCADE: "Cascades of two networks with one exit each",
        CASCADE: "Cascades of two networks, the first with early exits,",
    }
    for kind, name in names.items():
        own = [
            row
            for row in rows
            if row.reported.design.kind == kind and np.isfinite(row.difference.value)
        ]
        if not own:
            continue
        ahead = sum(row.difference.low > TOLD_APART for row in own)
        behind = sum(row.difference.high < -TOLD_APART for row in own)
        said.append(
            f"{name} are more accurate than single exits of the same mean MACs at {ahead} of "
            f"{len(own)} budgets, less accurate at {behind}, and not told apart at "
            f"{len(own) - ahead - behind}."
        )
    return said


def budget_rows(rows: Sequence[WithinBudget]) -> list[dict[str, str]]:
    """Print what every kind of design reaches within budgets, as rows of a table."""
    cells = []
    for row in rows:
        name, scale = _NAMES[row.cost]
        point = row.reported.point
        cells.append(
            {
                f"at most, {name}": f"{scale * row.budget:g}",
                "kind": f"{row.reported.design.kind}{' (best)' if row.best else ''}",
                "design": design_text(row.reported.design),
                "accuracy %": with_bounds(point.accuracy, 100),
                "MMACs": f"{1e-6 * point.macs.value:.1f}",
                "ms": f"{point.latency_ms.value:.1f}",
                "edge %": f"{100 * point.edge_probability.value:.1f}",
                "kB sent": f"{1e-3 * point.sent_bytes.value:.1f}",
                "single exits %": number(100 * row.single_accuracy, ".1f"),
                "difference, points": signed(row.difference, 100, 1),
            }
        )
    alone = all(not np.isfinite(row.difference.value) for row in rows)
    hidden = ("single exits %", "difference, points") if alone else ()
    return varying(without(cells, hidden), ("edge %", "kB sent"))


def budget_cells(row: WithinBudget) -> dict[str, Cell]:
    """Lay out a row of budgets flat."""
    design = row.reported.design
    difference = row.difference
    return {
        "cost": row.cost,
        "budget": row.budget,
        "kind": design.kind,
        "best": row.best,
        "design": design_text(design),
        "rest": design.family.rest,
        "validation_accuracy": design.accuracy,
        "single_accuracy": row.single_accuracy,
        "difference": difference.value,
        "difference_low": difference.low,
        "difference_high": difference.high,
        **flat(row.reported.point),
    }


def _design_cells(frontier: Frontier) -> Iterator[dict[str, Cell]]:
    """Lay out the designs on the frontier of every cost and kind flat."""
    for cost in COSTS:
        for kind in KINDS:
            for design in frontier.front(cost, kind):
                yield {
                    "cost": cost,
                    "kind": kind,
                    "design": design_text(design),
                    "rest": design.family.rest,
                    "validation_accuracy": design.accuracy,
                    **flat(frontier.report(design).point),
                }


def _figure(frontier: Frontier, cost: str, chosen: Reported | None = None) -> Drawn:
    """Draw accuracy over a cost, a line per kind of design; a ring marks the chosen one."""
    quantity = SHOWN[cost]
    label, scale = QUANTITIES[quantity]
    figure, (axis,) = make_panels(1, width=5.6, height=3.4)
    fronts = {kind: frontier.spaced(cost, kind, MARKS) for kind in KINDS}
    lines: Lines = {
        kind: [_mark(frontier.report(one), quantity, scale) for one in front]
        for kind, front in fronts.items()
        if front
    }
    draw_lines(axis, lines, "accuracy")
    if chosen is not None:
        x, accuracy = _mark(chosen, quantity, scale)
        axis.plot(
            [x], [100 * accuracy.value], "o", color="#d55e00", markersize=14, fillstyle="none",
            markeredgewidth=2, label="this design", zorder=5,
        )  # fmt: skip
    label_axis(axis, label, "accuracy", "")
    ring = "; the ring marks the design of the numbers above" if chosen is not None else ""
    heading = {"macs": "MACs", "latency_ms": "latency", "sent_bytes": "bytes sent"}
    return Drawn(
        "headline" if chosen is not None else f"frontier_{quantity}",
        f"Accuracy over {heading.get(cost, 'edge probability')}",
        "A mark is a design that no other of its kind beats on validation, measured on the images "
        f"of this evaluation{ring}.",
        finish(figure, [axis]),
    )


def _mark(reported: Reported, quantity: str, scale: float) -> tuple[float, Estimate]:
    accuracy = reported.point.accuracy.value
    x: Estimate = getattr(reported.point, quantity)
    return scale * x.value, Estimate(accuracy, accuracy, accuracy)


BUDGETS_TEXT = (
    "Of every kind the design that is most accurate on validation within the budget there, and its "
    "results on the images of this evaluation. A single exit answers every image alike: the last "
    "exit of a network, or an earlier one, at the MACs of that exit alone. Its accuracy in the "
    "last columns is that of the best random mixture of two of them at exactly the same mean cost. "
    "The 95 % interval of the difference is that of a bootstrap over images, each with both values."
)
