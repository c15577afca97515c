"""The opening of a report: the answer in words and numbers, and a figure of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eenn.evaluation.fitting import LAST_EXIT, Fitted
from eenn.evaluation.rows import ClassAnswered, Point
from eenn.exits.settings import Baseline
from eenn.reports.canvas import QUANTITIES, draw_lines, finish, label_axis, make_panels
from eenn.reports.figures import Drawn
from eenn.reports.headline import headline_point
from eenn.reports.page import Number, Section
from eenn.reports.tables import words
from eenn.statistics.intervals import UNKNOWN, Estimate

MOST_LINES = 6


@dataclass(frozen=True)
class Answer:
    """The point that sums up an evaluation.

    Args:
        why: the reason of the choice, in a sentence.
        classes: of that point.
        purpose: the purpose of the command.
    """

    point: Point
    why: str
    classes: Sequence[ClassAnswered]
    purpose: str
    command: str


def summary_point(points: Sequence[Point], fitted: Fitted | None = None) -> Point:
    """Choose the point that sums up an evaluation, the last exit's where there is no policy.

    Args:
        fitted: the best fitted policy.
    """
    against_last = fitted is not None and fitted.goal.against == LAST_EXIT
    right = "same_as_last" if against_last else correctness_of(points)
    chosen = headline_point(
        points,
        fitted.setting if fitted else None,
        lambda point: point.macs.value,
        lambda point: estimate_of(point, right).value,
    )
    return chosen or next(p for p in points if p.setting.baseline is Baseline.LAST_EXIT_ONLY)


def correctness_of(points: Sequence[Point]) -> str:
    """Name the quantity of right answers: without labels, agreement with the last exit."""
    known = any(np.isfinite(point.accuracy.value) for point in points)
    return "accuracy" if known else "same_as_last"


def why_chosen(
    points: Sequence[Point], point: Point, fitted: Fitted | None, ways: str = "settings"
) -> str:
    """Explain the choice of the point that sums up the others.

    Args:
        ways: the word for the points.
    """
    if point.setting.policy is None:
        return "The last exit answers every image: no policy was evaluated."
    if fitted is not None:
        return (
            f"Fitted on validation to {words(str(fitted.goal))}; the numbers are of the images of "
            "this evaluation."
        )
    count = sum(p.setting.baseline is None and p.level == point.level for p in points)
    if count == 1:
        return "The only setting of this evaluation."
    last, right = last_exit_of(points, point), correctness_of(points)
    of = "agreement with" if right == "same_as_last" else "accuracy against"
    own = "its own" if len({other.network for other in points}) > 1 else "the"
    if last and estimate_of(last, right).value - estimate_of(point, right).value > 0.01 + 1e-9:
        return (
            f"None of {count} {ways} keeps within one point of {of} {own} last exit: this one "
            "does best."
        )
    return (
        f"Of {count} {ways} the cheapest that loses at most one point of {of} {own} last exit, "
        "chosen on these images."
    )


def answer_section(points: Sequence[Point], answer: Answer, notes: Sequence[str]) -> Section:
    """Lay out the answer for the top of a page.

    Args:
        notes: warnings about the answer, a line each.
    """
    point = answer.point
    last, right = last_exit_of(points, point), correctness_of(points)
    text = [way_text(point, points), answer.why, *_conventional(points, point, right), *notes]
    return Section(
        title_of(point, last, right),
        "\n".join(text),
        numbers=point_numbers(point, last, right),
        purpose=answer.purpose,
        command=answer.command,
    )


def title_of(point: Point, last: Point | None, right: str) -> str:
    """Sum up accuracy and savings of a point in a line."""
    name = "right" if right == "accuracy" else "answered as by the last exit"
    said = [f"{100 * estimate_of(point, right).value:.1f} % {name}"]
    if last is not None and last is not point:
        macs, time = (
            change(point.macs, last.macs, "fewer"),
            change(point.latency_ms, last.latency_ms),
        )
        said.append(f"{macs} MACs and {time} time than the last exit alone")
    return ", ".join(said)


def point_numbers(point: Point, last: Point | None, right: str) -> list[Number]:
    """List the numbers of a point, each beside that of the last exit alone."""
    numbers = []
    for quantity, name, unit, scale in (
        (right, "accuracy" if right == "accuracy" else "answers of the last exit", "%", 100.0),
        ("edge_probability", "answered on the edge", "%", 100.0),
        ("macs", "MMACs per image", "", 1e-6),
        ("latency_ms", "expected latency", "ms", 1.0),
        ("sent_bytes", "sent per image", "kB", 1e-3),
    ):
        compared = quantity not in ("edge_probability", "same_as_last")
        other = UNKNOWN
        if compared and last is not None and last is not point:
            other = estimate_of(last, quantity)
        numbers.append(tile(name, unit, scale, estimate_of(point, quantity), other))
    return numbers


def tile(
    name: str,
    unit: str,
    scale: float,
    estimate: Estimate,
    other: Estimate = UNKNOWN,
    beside: str = "last exit",
) -> Number:
    """Show a quantity large, beside it its interval and the same quantity of another way."""
    value, low, high = (scale * end for end in estimate)
    said = []
    if np.isfinite(low):
        said.append(f"{low:z.1f} to {high:z.1f}")
    if np.isfinite(other.value):
        said.append(f"{beside} {scale * other.value:.1f}")
    return Number(name, f"{value:z.1f} {unit}".strip(), "; ".join(said))


def change(own: Estimate, other: Estimate, less: str = "less") -> str:
    """Express a quantity as a share less or more than another: 31 % less."""
    share = 100 * (1 - own.value / other.value)
    return f"{abs(share):.0f} % {less if share >= 0 else 'more'}"


def way_text(point: Point, points: Sequence[Point]) -> str:
    """Describe a way to answer by the parts in which it differs from others."""
    setting, network = point.setting, point.network
    networks = {other.network for other in points}
    own = [network.network] if len(networks) > 1 else []
    if len({other.seed for other in networks}) > 1:
        own.append(f"seed {network.seed}")
    if setting.policy is None:
        return f"{', '.join(own or [network.network])}, {setting.name}."
    knob = f"p_tar {setting.value_text}" if setting.knob == "p_tar" else setting.value_text
    parts = [*own, words(setting.policy.label), knob, branches_text(point)]
    return f"{', '.join(filter(None, parts))}."


def branches_text(point: Point) -> str:
    """Name the active branches."""
    count = len(point.setting.active)
    if count > 1 and count == point.network.branches:
        return f"all {count} branches"
    return f"branch{'es' if count > 1 else ''} {point.setting.branches}"


def last_exit_of(points: Sequence[Point], point: Point) -> Point | None:
    """Find the point of the last exit alone, of the same network and level."""
    return next(
        (
            other
            for other in points
            if other.setting.baseline is Baseline.LAST_EXIT_ONLY
            and (other.network, other.level) == (point.network, point.level)
        ),
        None,
    )


def answer_figure(
    points: Sequence[Point], point: Point, lines: Mapping[str, Sequence[Point]], caption: str
) -> Drawn:
    """Draw accuracy against MACs, with the point that sums up the others marked.

    Args:
        lines: points by the name of their line.
        caption: the meaning of a line.
    """
    right = correctness_of(points)
    figure, (axis,) = make_panels(1, width=5.2, height=2.9)
    marks = {
        name: [(_mmacs(own), _exactly(own, right)) for own in line] for name, line in lines.items()
    }
    draw_lines(axis, marks, right)
    here = [own for own in points if own.level == point.level]
    lasts = [own for own in here if own.setting.baseline is Baseline.LAST_EXIT_ONLY]
    scale = QUANTITIES[right][1]
    for marked, mark, size, colour, label in (
        (lasts, "*", 13, "0.35", Baseline.LAST_EXIT_ONLY.value),
        ([point], "o", 14, "#d55e00", "this point"),
    ):
        xs = [_mmacs(own) for own in marked]
        ys = [scale * estimate_of(own, right).value for own in marked]
        axis.plot(
            xs, ys, mark, color=colour, markersize=size, label=label, markeredgewidth=2,
            zorder=5, fillstyle="none" if mark == "o" else "full",
        )  # fmt: skip
    label_axis(axis, QUANTITIES["macs"][0], right, "")
    shown = f"{caption}; the ring marks the point of the numbers above."
    return Drawn("headline", "Savings of early exits", shown, finish(figure, [axis]))


def curves_of(points: Sequence[Point], point: Point) -> dict[str, list[Point]]:
    """Divide the points of the chosen policy, at the level of the chosen point, into lines.

    A single network has a line per set of active branches, several networks one each.
    """
    chosen = point.setting.policy
    ways = [
        own
        for own in points
        if own.level == point.level
        and own.setting.baseline is None
        and own.setting.policy is not None
        and chosen is not None
        and own.setting.policy.name == chosen.name
        and not own.setting.goal
    ]
    networks = list(dict.fromkeys(own.network for own in ways))
    seeds = len({network.seed for network in networks}) > 1
    lines: dict[str, list[Point]] = {}
    for own in ways:
        name = branches_text(own)
        if len(networks) > 1:
            if not own.most_active:
                continue
            network = own.network
            name = f"{network.network}, seed {network.seed}" if seeds else network.network
        lines.setdefault(name, []).append(own)
    if len(lines) > MOST_LINES:
        lines = {"this network": [own for own in ways if own.network == point.network]}
    return lines


def _conventional(points: Sequence[Point], point: Point, right: str) -> list[str]:
    """Describe the conventional networks on the same images, if there are any."""
    return [
        f"{own.network.network[0].upper()}{own.network.network[1:]}, seed {own.network.seed}: "
        f"{100 * own.accuracy.value:.1f} % right at {_mmacs(own):.1f} MMACs"
        f"{_beats(own, point)}."
        for own in points
        if own.level == point.level
        and own.network != point.network
        and not own.network.branches
        and right == "accuracy"
    ]


def _beats(conventional: Point, point: Point) -> str:
    """Say so where a conventional network is at least as good as a point in both respects."""
    cheaper = conventional.macs.value <= point.macs.value
    if cheaper and conventional.accuracy.value >= point.accuracy.value:
        return ", at least as accurate as these early exits and no dearer"
    return ""


def _mmacs(point: Point) -> float:
    return 1e-6 * point.macs.value


def _exactly(point: Point, quantity: str) -> Estimate:
    value = estimate_of(point, quantity).value
    return Estimate(value, value, value)


def estimate_of(point: Point, quantity: str) -> Estimate:
    """Read a quantity off a point."""
    found: Estimate = getattr(point, quantity)
    return found
