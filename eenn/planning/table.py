"""Tables of designs, each with its coefficients, and the choice of a design under any conditions.

Objectives follow each other: each keeps the designs that are as good as its best one up to a share
that may be given up, as in the scheduler of SPINN (Laskaridis et al., 2020). NumPy only.
"""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, Generic, TypeVar

import numpy as np

from eenn.errors import EennError
from eenn.exits.policies.base import Floats, Ints
from eenn.planning.engine import Conditions, Power, Spent

D = TypeVar("D")
E = TypeVar("E")

# Values that differ less, relative to the larger of 1 and the best one, are equal.
EQUAL = 1e-9


class NoPlan(EennError):
    """An error raised when no plan keeps the bounds."""


@dataclass(frozen=True)
class Objective:
    """A quantity that a design should have little of, or much.

    Args:
        metric: see `METRICS`.
        most: whether more is better.
        give_up: the share of the best value that may be given up for the objectives behind.
    """

    metric: str
    most: bool = False
    give_up: float = 0.0


@dataclass(frozen=True)
class Limit:
    """Bounds that a design has to keep."""

    metric: str
    least: float = -math.inf
    most: float = math.inf


@dataclass(frozen=True)
class Goal:
    """The limits of a choice, and its objectives in the order of their importance."""

    objectives: tuple[Objective, ...]
    limits: tuple[Limit, ...] = ()

    @property
    def metrics(self) -> set[str]:
        """List the metrics of limits and objectives."""
        return {own.metric for own in self.objectives} | {own.metric for own in self.limits}

    def __str__(self) -> str:
        bounds = [
            f"{limit.metric} {sign} {bound:g}"
            for limit in self.limits
            for sign, bound in ((">=", limit.least), ("<=", limit.most))
            if math.isfinite(bound)
        ]
        return ", ".join(bounds) or "no limits"


FASTEST = Objective("latency_ms")
# Of designs that a goal cannot tell apart.
TIES = (FASTEST, Objective("sent_bytes"), Objective("cut"))


def equally_good(metric: Callable[[str], Floats], goal: Goal) -> Ints:
    """Find the rows that keep the limits and that no objective tells apart, ascending.

    Args:
        metric: gives the values of all rows by the metric's name.
    """
    rows: Ints | None = None
    for limit in goal.limits:
        values = metric(limit.metric)
        slack = [EQUAL * max(1.0, abs(b)) for b in (limit.least, limit.most) if math.isfinite(b)]
        room = max(slack, default=0.0)
        kept = np.flatnonzero((values >= limit.least - room) & (values <= limit.most + room))
        rows = kept if rows is None else np.intersect1d(rows, kept, assume_unique=True)
    for objective in goal.objectives:
        values = metric(objective.metric)
        values = values if rows is None else values[rows]
        if not len(values):
            break
        values = -values if objective.most else values
        best = values.min()
        given_up = objective.give_up * abs(best) if objective.give_up else 0.0
        kept = np.flatnonzero(values <= best + given_up + EQUAL * max(1.0, abs(best)))
        rows = kept if rows is None else rows[kept]
    return np.arange(0) if rows is None else rows


def first_choice(metric: Callable[[str], Floats], goal: Goal) -> int | None:
    """Choose one row: of equally good ones by `TIES`, then the first; None if none keeps the
    limits."""
    rows = equally_good(metric, replace(goal, objectives=(*goal.objectives, *TIES)))
    return int(rows[0]) if len(rows) else None


@dataclass(frozen=True)
class Row(Generic[D]):
    """One design with its coefficients.

    Args:
        cut: number of blocks or segments on the device.
        leaving: share of images that stop at each exit; the last one's are sent where any are.
        accuracy: NaN where no labels are known.
        to_exit_ms: the device's time for an image that stops at each exit; empty where only means
            are known.
    """

    design: D
    cut: int
    spent: Spent
    leaving: tuple[float, ...] = ()
    accuracy: float = math.nan
    to_exit_ms: tuple[float, ...] = ()


@dataclass(frozen=True)
class Table(Collection[D]):
    """Designs and the means of their costs over images; one row each in every column.

    Args:
        leaving: (designs, exits).
        to_exit_ms: (designs, exits); NaN where it is not known, and behind a design's last exit.
    """

    designs: tuple[D, ...]
    spent: Spent
    accuracy: Floats
    leaving: Floats
    cuts: Ints
    to_exit_ms: Floats

    @classmethod
    def of(cls, rows: Iterable[Row[D]]) -> "Table[D]":
        """Lay out rows as a table; nobody leaves at exits that a row does not have."""
        every = list(rows)
        by_exit = list(zip_longest(*(row.leaving for row in every), fillvalue=0.0))
        leaving = np.array(by_exit, np.float64).reshape(-1, len(every)).T
        to_exit_ms = np.full_like(leaving, np.nan)
        for number, row in enumerate(every):
            to_exit_ms[number, : len(row.to_exit_ms)] = row.to_exit_ms
        return cls(
            designs=tuple(row.design for row in every),
            spent=Spent.stacked([row.spent for row in every]),
            accuracy=np.array([row.accuracy for row in every], np.float64),
            leaving=leaving,
            cuts=np.array([row.cut for row in every], np.int64),
            to_exit_ms=to_exit_ms,
        )

    def __len__(self) -> int:
        return len(self.designs)

    def __iter__(self) -> Iterator[D]:
        return iter(self.designs)

    def __contains__(self, design: object) -> bool:
        return design in self.designs

    def keeping(self, limit: Limit, at: Conditions) -> "Table[D]":
        """Select the designs that keep a limit."""
        return self.at(self.equally_good(at, Goal((), (limit,))))

    def at(self, rows: Sequence[int] | Ints) -> "Table[D]":
        """Select some rows, in the order given."""
        chosen = np.asarray(rows, np.int64)
        return Table(
            tuple(self.designs[row] for row in chosen.tolist()),
            self.spent.at(chosen),
            self.accuracy[chosen],
            self.leaving[chosen],
            self.cuts[chosen],
            self.to_exit_ms[chosen],
        )

    def only(self, admits: Callable[[D], bool]) -> "Table[D]":
        """Select the designs that a test admits."""
        return self.at([row for row, design in enumerate(self.designs) if admits(design)])

    def of_designs(self, designs: Sequence[E]) -> "Table[E]":
        """Give the same costs to other designs, one for each row."""
        return Table(
            tuple(designs), self.spent, self.accuracy, self.leaving, self.cuts, self.to_exit_ms
        )

    def metric(self, name: str, at: Conditions, power: Power | None = None) -> Floats:
        """Compute a metric of every design.

        Raises:
            EennError: the metric does not exist, or it is the energy and the power is not known.
        """
        if name not in METRICS:
            raise EennError(f"metric {name}: allowed are {', '.join(METRICS)}")
        if name == ENERGY:
            if power is None:
                raise EennError(f"{ENERGY} needs the device's watts; give them, or leave it out")
            return self.spent.energy_mj(at, power)
        return _COMPUTED[name](self, at)

    def equally_good(self, at: Conditions, goal: Goal, power: Power | None = None) -> Ints:
        """Find the designs that keep the limits and that no objective tells apart, ascending.

        Raises:
            EennError: see `metric`.
        """
        return equally_good(self._metrics(at, power), goal)

    def choose(self, at: Conditions, goal: Goal, power: Power | None = None) -> int:
        """Choose a design: of equally good ones the fastest, with fewest bytes, cut first.

        Returns:
            Its row.

        Raises:
            NoPlan: no design keeps the limits.
            EennError: see `metric`.
        """
        row = first_choice(self._metrics(at, power), goal)
        if row is None:
            raise NoPlan(f"none of {len(self)} designs keeps {goal}; widen the limits")
        return row

    def pruned(self, goal: Goal) -> "Table[D]":
        """Drop designs that another one beats or equals, whatever the conditions are.

        Of designs that equal each other the one that is cut first stays, then the first row.

        The best value of a goal stays in the table under all conditions, if the goal asks for
        little time, energy, bytes and blocks, and for much accuracy and share on the device.
        """
        spent = self.spent
        columns = [spent.device_ms, spent.cloud_ms, spent.away, spent.sent_bytes, spent.codec_ms]
        columns.append(-np.nan_to_num(self.accuracy))
        if CUT in goal.metrics:
            columns.append(np.asarray(self.cuts, np.float64))
        if goal.metrics & {P95, LATE}:
            # Who is nowhere later at an exit, and lets no fewer images leave up to it, has no
            # larger share of images above any time.
            request = spent.per_image_sent()
            columns += [request.sent_bytes, request.cloud_ms, request.codec_ms]
            columns += [*np.nan_to_num(self.to_exit_ms).T, *-self.leaving.cumsum(axis=1).T]
        return self.at(undominated(np.stack(columns, axis=1), self.cuts))

    def _metrics(self, at: Conditions, power: Power | None) -> Callable[[str], Floats]:
        computed: dict[str, Floats] = {}

        def metric(name: str) -> Floats:
            if name not in computed:
                computed[name] = self.metric(name, at, power)
            return computed[name]

        return metric


def undominated(columns: Floats, ties: Ints) -> Ints:
    """Find the rows that no other row beats or equals in all columns, ascending.

    Args:
        columns: less is better, (rows, columns).
        ties: of rows that are equal in all columns the one with the least stays.
    """
    # A row comes behind all that dominate it.
    left = np.lexsort((ties, *columns.T[::-1]))
    kept: list[int] = []
    while len(left):
        first = columns[left[0]]
        kept.append(int(left[0]))
        left = left[1:]
        left = left[~(first <= columns[left] + DOMINATED).all(axis=1)]
    return np.array(sorted(kept), np.int64)


def _late_share(table: Table[Any], at: Conditions) -> Floats:
    late = _image_ms(table, at) > at.deadline_ms * (1 + EQUAL)
    share: Floats = (late.mean(axis=2) * table.leaving).sum(axis=1)
    return share


def _p95_ms(table: Table[Any], at: Conditions) -> Floats:
    image_ms = _image_ms(table, at)
    shares = np.broadcast_to(table.leaving[:, :, None], image_ms.shape) / len(at.spread_ms)
    image_ms, shares = (own.reshape(len(table), -1) for own in (image_ms, shares))
    order = image_ms.argsort(axis=1)
    up_to = np.take_along_axis(shares, order, axis=1).cumsum(axis=1)
    first = (up_to >= 0.95 - EQUAL).argmax(axis=1)
    rows = np.arange(len(table))
    return np.asarray(image_ms[rows, order[rows, first]])


def _image_ms(table: Table[Any], at: Conditions) -> Floats:
    """Compute the milliseconds of an image by exit and addition, (designs, exits, additions)."""
    known = ~np.isnan(table.to_exit_ms)
    if not known.any(axis=1).all():
        raise EennError(f"{P95} and {LATE}: of this table only means are known; ask for latency_ms")
    spread_ms = np.array(at.spread_ms)
    to_exit_ms = at.slowdown * np.where(known, table.to_exit_ms, 0.0)
    image_ms = np.repeat(to_exit_ms[:, :, None], len(spread_ms), axis=2)
    request = table.spent.per_image_sent()
    sending_ms = request.codec_ms + request.away_ms(at)
    sent = request.away[:, None]
    image_ms[np.arange(len(table)), known.sum(axis=1) - 1] += np.where(
        sent > 0, sending_ms[:, None] + spread_ms, 0.0
    )
    return image_ms


# Coefficients that differ less are equal.
DOMINATED = 1e-12
ACCURACY, ENERGY, P95, LATE, CUT = "accuracy", "energy_mj", "p95_ms", "late_share", "cut"
# Metrics of which more is better.
WANTED = (ACCURACY, "device_share")
_COMPUTED: dict[str, Callable[[Table[Any], Conditions], Floats]] = {
    "latency_ms": lambda table, at: table.spent.latency_ms(at),
    "device_ms": lambda table, at: table.spent.on_device_ms(at),
    # The cloud's own cost, however busy it is.
    "cloud_ms": lambda table, _: table.spent.cloud_ms,
    "slowest_ms": lambda table, at: table.spent.slowest_ms(at),
    "sent_bytes": lambda table, _: table.spent.sent_bytes,
    ACCURACY: lambda table, _: table.accuracy,
    "device_share": lambda table, _: 1 - table.spent.away,
    CUT: lambda table, _: np.asarray(table.cuts, np.float64),
    P95: _p95_ms,
    LATE: _late_share,
}
METRICS = (*_COMPUTED, ENERGY)
