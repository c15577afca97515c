"""Figures over the jobs of a sweep: quantities against varied settings, and accuracy over MACs."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from matplotlib.figure import Figure

from eenn.files import JsonObject
from eenn.reports.canvas import (
    LEVELLED,
    QUANTITIES,
    Marks,
    draw_level,
    draw_lines,
    finish,
    label_axis,
    make_panels,
)
from eenn.reports.figures import BARS, Drawn
from eenn.reports.sweep_exits import exits_figure
from eenn.reports.sweep_jobs import SweepJob, number_of
from eenn.statistics.intervals import Estimate

SEED = "seed"  # jobs that differ in it alone are one line
PREFERRED = ("p_tar", "branches")  # to draw against
PANELS, TICKS = 4, 8
_COSTS = {"macs": ("MMACs", "MACs"), "answer_ms": ("time", "time")}
Pair = tuple[SweepJob, JsonObject]


def sweep_figures(jobs: Sequence[SweepJob]) -> list[Drawn]:
    """Draw accuracy and edge probability against the varied settings, and accuracy against MACs.

    Fewer than two jobs have no figures.
    """
    pairs = [(job, point) for job in jobs for point in job.points if "accuracy" in point]
    keys = [
        key
        for key in (jobs[0].varied if jobs else ())
        if len({job.varied.get(key) for job, _ in pairs}) > 1
    ]
    if not keys:
        return []
    against = _axis_of(keys, pairs)
    others = [key for key in keys if key not in (against, SEED)]
    made = []
    for quantity, heading in (
        ("accuracy", "Final accuracy" if pairs[0][0].curve else "Accuracy"),
        ("edge_probability", "Edge probability"),
    ):
        if any(math.isfinite(estimate_in(point, quantity).value) for _, point in pairs):
            title = f"{heading} over {against}"
            if others:
                title += f" by {', '.join(others)}"
            figure = _over_setting(pairs, against, others, quantity)
            caption = _GREY if quantity in LEVELLED and any(job.references for job in jobs) else ""
            made.append(Drawn(quantity, title, f"{title}. {caption}{BARS}", figure))
    if pairs[0][0].curve:
        named = [key for key in keys if key != SEED]
        return [*made, exits_figure([job for job, _ in pairs], named)]
    cost = cost_of(point for _, point in pairs)
    if any(math.isfinite(estimate_in(point, cost).value) for _, point in pairs):
        name, what = _COSTS[cost]
        caption = f"The accuracy of each job and the mean {what} to its answers. "
        figure = _over_cost(pairs, others, cost)
        made.append(Drawn(cost, f"Accuracy over {name}", f"{caption}{BARS}", figure))
    return made


def _axis_of(keys: Sequence[str], pairs: Sequence[Pair]) -> str:
    """Choose the setting to draw against: of numbers a usual one, or that with the most values."""

    def values(key: str) -> list[str]:
        return list({job.varied.get(key, "") for job, _ in pairs})

    numeric = [key for key in keys if all(number_of(v) is not None for v in values(key))]
    chosen = [key for key in numeric if key != SEED] or numeric or list(keys)
    usual = [key for key in PREFERRED if key in chosen]
    return usual[0] if usual else max(chosen, key=lambda key: len(values(key)))


def _over_setting(
    pairs: Sequence[Pair], against: str, others: Sequence[str], quantity: str
) -> Figure:
    panelled = others[-1] if len(others) > 1 else None
    parts = list(_by(pairs, lambda job: job.varied.get(panelled or "", "")).items())
    if len(parts) > PANELS:
        panelled, parts = None, [("", list(pairs))]
    within = [key for key in others if key != panelled]
    names = list(dict.fromkeys(job.varied.get(against, "") for job, _ in pairs))
    places = {name: number_of(name) for name in names}
    figure, panels = make_panels(len(parts), width=4.2)
    for axis, (value, own) in zip(panels, parts, strict=True):
        lines: dict[str, list[tuple[float, Estimate]]] = {}
        for job, point in own:
            place = places[job.varied.get(against, "")]
            x = names.index(job.varied.get(against, "")) if None in places.values() else place
            lines.setdefault(_name(job, within, point), []).append(
                (float(x or 0), estimate_in(point, quantity))
            )
        draw_lines(axis, _named(lines, against), quantity)
        references = _unique(point for job, _ in own for point in job.references)
        if len(references) == 1 and quantity in LEVELLED:
            (point,) = references
            draw_level(axis, [estimate_in(point, quantity)], quantity, str(point["policy"]))
        label_axis(axis, against, quantity, f"{panelled}={value}" if panelled else "")
        if None in places.values():
            axis.set_xticks(range(len(names)), names)
        elif len(names) <= TICKS:
            axis.set_xticks([place for place in places.values() if place is not None], names)
    return finish(figure, panels)


def cost_of(points: Iterable[JsonObject]) -> str:
    """Choose the cost of jobs: the measured time where all points have one, else the MACs."""
    measured = all(math.isfinite(estimate_in(point, "answer_ms").value) for point in points)
    return "answer_ms" if measured else "macs"


def _over_cost(pairs: Sequence[Pair], others: Sequence[str], cost: str) -> Figure:
    figure, (axis,) = make_panels(1, width=6.4)
    scale = QUANTITIES[cost][1]
    lines: dict[str, list[tuple[float, Estimate]]] = {}
    for job, point in pairs:
        mark = estimate_in(point, cost).value * scale, estimate_in(point, "accuracy")
        lines.setdefault(_name(job, others, point), []).append(mark)
    for point in _unique(point for job, _ in pairs for point in job.references):
        mark = estimate_in(point, cost).value * scale, estimate_in(point, "accuracy")
        lines.setdefault(str(point["policy"]), []).append(mark)
    draw_lines(axis, _named(lines, "jobs"), "accuracy")
    label_axis(axis, QUANTITIES[cost][0], "accuracy", "")
    return finish(figure, [axis])


def _name(job: SweepJob, keys: Sequence[str], point: JsonObject) -> str:
    """Name a line by the settings that its jobs share, and by the policy if jobs have several."""
    parts = [f"{key}={job.varied.get(key, '')}" for key in keys]
    if len(job.points) > 1:
        parts += [f"{point.get('policy', '')} {point.get('p_tar', '')} {point.get('active', '')}"]
    return " ".join(parts)


def _named(lines: Mapping[str, Marks], otherwise: str) -> Mapping[str, Marks]:
    """Name the one line of a sweep over one setting."""
    return {name or otherwise: marks for name, marks in lines.items()}


def _by(pairs: Iterable[Pair], key: Callable[[SweepJob], str]) -> dict[str, list[Pair]]:
    parts: dict[str, list[Pair]] = {}
    for job, point in pairs:
        parts.setdefault(key(job), []).append((job, point))
    return parts


def _unique(points: Iterable[JsonObject]) -> list[JsonObject]:
    return list({str(point): point for point in points}.values())


def estimate_in(point: JsonObject, quantity: str) -> Estimate:
    """Read a quantity and its interval off a flat point, NaN where they are missing."""
    found = [point.get(f"{quantity}{end}", math.nan) for end in ("", "_low", "_high")]
    return Estimate(*(float(v) if isinstance(v, int | float) else math.nan for v in found))


_GREY = "Grey: the whole network, where it is the same in all jobs. "
