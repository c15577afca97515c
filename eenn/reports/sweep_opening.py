"""The answer of a sweep: the settings that keep the accuracy at least cost."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from eenn.files import JsonObject
from eenn.reports.canvas import spread
from eenn.reports.headline import LOST
from eenn.reports.opening import change, tile
from eenn.reports.page import Number, Section
from eenn.reports.sweep_curves import SEED, cost_of, estimate_in
from eenn.reports.sweep_jobs import SweepJob
from eenn.statistics.intervals import UNKNOWN, Estimate

_CAUTION = (
    "Chosen on the images that the jobs report of; what is to be deployed is fitted on validation."
)
_COSTS = {"macs": ("fewest MACs", "fewer", "MACs"), "answer_ms": ("least time", "less", "time")}
_QUANTITIES: Mapping[str, tuple[str, str, float]] = {
    "accuracy": ("accuracy", "%", 100.0),
    "edge_probability": ("answered on the edge", "%", 100.0),
    "macs": ("MMACs per image", "", 1e-6),
    "answer_ms": ("mean time to the answer", "ms", 1.0),
    "sent_bytes": ("sent per image", "kB", 1e-3),
}


@dataclass(frozen=True)
class Candidate:
    """The mean results of jobs that differ in their seed alone, or one point of a job."""

    name: str
    found: Mapping[str, Estimate]

    def value(self, quantity: str) -> float:
        """Return the value of a quantity, NaN where it is not known."""
        return self.found[quantity].value


def sweep_answer(jobs: Sequence[SweepJob]) -> Section | None:
    """Choose the settings of a sweep that keep the accuracy at least cost, for the top of its page.

    Of the jobs that lose at most one point to the most accurate, the whole networks among them, it
    is the one with the shortest measured time, or with the fewest MACs. Distorted images count
    where there are no others.

    Returns:
        None where fewer than two jobs have a known accuracy and cost, or where images, link or
        machine differ, which nobody chooses.
    """
    candidates = _candidates(jobs)
    cost = cost_of(point for job in jobs for point in job.points)
    known = all(_known(own, cost) for own in candidates)
    if len(candidates) < 2 or not known or _surroundings(jobs[0].varied):
        return None
    best = max([*candidates, *_whole_networks(jobs)], key=lambda own: own.value("accuracy"))
    near = [own for own in candidates if own.value("accuracy") >= best.value("accuracy") - LOST]
    of = f"{best.name}, {100 * best.value('accuracy'):.1f} % right"
    least, less, spent = _COSTS[cost]
    if near:
        chosen = min(near, key=lambda own: own.value(cost))
        why = (
            f"Of {len(candidates)} ways it has the {least} of those that lose at most one point to "
            f"the most accurate: {of}."
        )
    else:
        chosen = max(candidates, key=lambda own: own.value("accuracy"))
        why = f"None of {len(candidates)} ways keeps within one point of {of}: this one does best."
    if chosen is best:
        why = (
            f"The most accurate of {len(candidates)} ways; none within one point of it costs less."
        )
    title = f"{chosen.name}: {100 * chosen.value('accuracy'):.1f} % right"
    if chosen is not best and _known(best, cost):
        title += f", {change(chosen.found[cost], best.found[cost], less)} {spent} than {best.name}"
    text = "\n".join(filter(None, [why, _rivals(chosen, candidates), _CAUTION]))
    return Section(title, text, numbers=_numbers(chosen, best))


def _rivals(chosen: Candidate, candidates: Sequence[Candidate]) -> str:
    """Say how many others are as accurate as far as the images can tell."""
    _, low, high = chosen.found["accuracy"]
    count = sum(low <= own.value("accuracy") <= high for own in candidates if own is not chosen)
    if not count:
        return ""
    others = len(candidates) - 1
    which = "the other" if others == 1 else f"{count} of the {others} others"
    return f"The accuracy of {which} {'lie' if count > 1 else 'lies'} within its interval."


def _surroundings(varied: Iterable[str]) -> bool:
    """Tell whether images, link or machine vary, so that jobs cannot be held against each other."""
    return any(
        key in ("data", "data.root") or key.startswith(("images", "link", "cloud", "edge.slowdown"))
        for key in varied
    )


def _candidates(jobs: Sequence[SweepJob]) -> list[Candidate]:
    pairs = [(job, point) for job in jobs for point in job.points if "accuracy" in point]
    mildest = min((_level(point) for _, point in pairs), default=0.0)
    alike: dict[str, list[JsonObject]] = {}
    for job, point in pairs:
        if _level(point) == mildest and math.isfinite(estimate_in(point, "accuracy").value):
            name = " ".join(f"{key}={value}" for key, value in job.varied.items() if key != SEED)
            if len(job.points) > 1:
                own = (point.get(key) for key in ("policy", "p_tar", "active"))
                name = " ".join([name, *(str(value) for value in own if value)])
            alike.setdefault(name or "all seeds", []).append(point)
    return [_candidate(name, points) for name, points in alike.items()]


def _whole_networks(jobs: Sequence[SweepJob]) -> list[Candidate]:
    points = [point for job in jobs for point in job.references]
    mildest = min(map(_level, points), default=0.0)
    return [
        _candidate(str(point["policy"]), [point])
        for point in points
        if _level(point) == mildest and math.isfinite(estimate_in(point, "accuracy").value)
    ]


def _candidate(name: str, points: Sequence[JsonObject]) -> Candidate:
    return Candidate(
        name,
        {key: spread([estimate_in(point, key) for point in points]) for key in _QUANTITIES},
    )


def _level(point: JsonObject) -> float:
    level = point.get("level", 0.0)
    return float(level) if isinstance(level, int | float) else 0.0


def _known(own: Candidate, quantity: str) -> bool:
    return math.isfinite(own.value(quantity))


def _numbers(chosen: Candidate, best: Candidate) -> list[Number]:
    compared = set(_QUANTITIES) - {"edge_probability"} if chosen is not best else set()
    return [
        tile(
            name, unit, scale, chosen.found[quantity],
            best.found[quantity] if quantity in compared else UNKNOWN, best.name,
        )
        for quantity, (name, unit, scale) in _QUANTITIES.items()
        if _known(chosen, quantity)
    ]  # fmt: skip
