"""The figure of a sweep over trainings: the accuracy of every exit over the MACs to it."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from eenn.reports.canvas import draw_line, finish, label_axis, make_panels, style_in
from eenn.reports.figures import BARS, Drawn
from eenn.reports.sweep_jobs import SweepJob

WIDE, WIDER = 8, 200  # ratios of the most MACs to the fewest


def exits_figure(jobs: Sequence[SweepJob], keys: Sequence[str]) -> Drawn:
    """Draw the accuracy of every exit over its MACs, a line for each network.

    Lines are coloured by backbone, or by the first setting where all networks have the same one.

    Args:
        jobs: finished trainings.
        keys: the settings that tell networks apart; jobs that differ in none are one line, their
            mean.
    """
    by_backbone = len({job.backbone for job in jobs}) > 1
    coloured = "backbone" if by_backbone else "".join(keys[:1])

    def family(job: SweepJob) -> str:
        return job.backbone if by_backbone else job.varied.get(coloured, "")

    colours = list(dict.fromkeys(map(family, jobs)))
    # More pairs than colours: the setting varies within a colour.
    within = [k for k in keys if len({(family(j), j.varied.get(k)) for j in jobs}) > len(colours)]
    alike: dict[tuple[str, tuple[str, ...]], list[SweepJob]] = {}
    for job in jobs:
        member = tuple(job.varied.get(key, "") for key in within)
        alike.setdefault((family(job), member), []).append(job)
    # Of lines and of single marks, the number of each member within its colour.
    numbers: Mapping[bool, dict[tuple[str, ...], int]] = {True: {}, False: {}}
    figure, (axis,) = make_panels(1, width=7.2)
    for (colour, member), own in alike.items():
        name = " ".join(f"{key}={own[0].varied.get(key, '')}" for key in keys) or "all seeds"
        single = len(own[0].curve) == 1
        number = numbers[single].setdefault(member, len(numbers[single]))
        style = style_in(colours.index(colour), number, single)
        marks = [(macs / 1e6, right) for job in own for macs, right in job.curve]
        draw_line(axis, name, marks, "accuracy", style, 8 if single else 4.5)
    label_axis(axis, "MACs to the exit, millions", "accuracy", "")
    costs = [macs for job in jobs for macs, _ in job.curve]
    if (ratio := max(costs) / min(costs)) >= WIDE:
        _make_logarithmic(axis, ratio)
    colours_said = f"Colours: {coloured}. " if coloured else ""
    return Drawn(
        "macs", "Accuracy over MMACs", _CAPTION + colours_said + BARS, finish(figure, [axis])
    )


def _make_logarithmic(axis: Axes, ratio: float) -> None:
    """Make the x axis logarithmic, with plain numbers at as many ticks as have room."""
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if ratio < WIDER else (1,)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())


_CAPTION = (
    "Each mark is an exit, as if it answered all test images, over the MACs of all segments and "
    "heads up to it; a line is a network, and a large mark is one without branches. "
)
