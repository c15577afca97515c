"""The table of plans that a device follows: deployments, each with its costs, in `plans.json`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from eenn.artifact.deployment import Deployment
from eenn.artifact.manifest import Manifest
from eenn.errors import EennError
from eenn.exits.rests import CLOUD
from eenn.files import Json, JsonObject, from_json, read_small_json, write_json
from eenn.planning.costs import Link
from eenn.planning.engine import Conditions, Power, Spent
from eenn.planning.table import METRICS, Goal, Limit, NoPlan, Objective, Row, Table

FILE = "plans.json"
VERSION = 1
# A plan takes some 2 kB.
MAX_BYTES = 2**26
# Milliseconds, bytes or blocks of a plan.
MOST = 1e12
# Times that a choice computes at once: of every plan, exit and addition.
MOST_TIMES = 2**24


@dataclass(frozen=True)
class Plans:
    """A table of deployments, and the goal that one of them is chosen by.

    Args:
        power: of the device, where the goal needs it.
        at: the conditions of the planning.
        device: the hardware that the plans are for, in words.
        images: the images that accuracies were measured on, in words.
    """

    artifact_id: str
    device: str
    images: str
    date: str
    goal: Goal
    power: Power | None
    at: Conditions
    table: Table[Deployment]

    def choose(self, at: Conditions, with_cloud: bool = True) -> int:
        """Choose a plan for some conditions; return its row.

        Args:
            with_cloud: whether a cloud can be asked.

        Raises:
            NoPlan: no plan keeps the goal's limits.
        """
        rows = [row for row, own in enumerate(self.table) if with_cloud or own.rest != CLOUD]
        if not rows:
            raise NoPlan(f"all {len(self.table)} plans need a cloud; give --cloud URL")
        return rows[self.table.at(rows).choose(at, self.goal, self.power)]

    def check(self, manifest: Manifest) -> None:
        """Check that the plans fit an artifact.

        Raises:
            EennError: see `Deployment.check`.
        """
        for deployment in self.table:
            deployment.check(manifest)

    def save(self, path: Path) -> None:
        """Write the plans as JSON."""
        columns = {field.name: getattr(self.table.spent, field.name) for field in fields(Spent)}
        link, at = self.at.link, self.at
        rows: list[Json] = [
            {
                "deployment": deployment.to_json(),
                "cut": int(self.table.cuts[row]),
                "accuracy": float(self.table.accuracy[row]),
                "leaving": self.table.leaving[row].tolist(),
                "to_exit_ms": self.table.to_exit_ms[row].tolist(),
                **{name: float(column[row]) for name, column in columns.items()},
            }
            for row, deployment in enumerate(self.table)
        ]
        content: dict[str, Json] = {
            "version": VERSION,
            "artifact_id": self.artifact_id,
            "device": self.device,
            "images": self.images,
            "date": self.date,
            "goal": {
                "objectives": [asdict(own) for own in self.goal.objectives],
                "limits": [
                    {"metric": own.metric, "least": _number(own.least), "most": _number(own.most)}
                    for own in self.goal.limits
                ],
            },
            "power": None if self.power is None else asdict(self.power),
            "conditions": {
                **asdict(link),
                "slowdown": at.slowdown,
                "cloud_load": at.cloud_load,
                "deadline_ms": _number(at.deadline_ms),
                "spread_ms": list(at.spread_ms),
            },
            "plans": rows,
        }
        write_json(path, content)

    @classmethod
    def load(cls, path: Path) -> "Plans":
        """Read plans from a file.

        Raises:
            EennError: the file does not hold plans, or is for a later version of this program.
        """
        try:
            return _read(read_small_json(path, MAX_BYTES))
        except (ValueError, EennError) as error:
            said = str(error).replace(f"{_Stored.__name__}.", "").replace(_Stored.__name__, "it")
            raise EennError(
                f"{path} holds no plans: {said}; take one that `eenn-plan` wrote"
            ) from error
        except OSError as error:
            raise EennError(f"{path}: {error.strerror}; give a {FILE}") from error


@dataclass(frozen=True)
class _Limit:
    metric: str
    least: float | None
    most: float | None

    def __post_init__(self) -> None:
        if any(own is not None and math.isnan(own) for own in (self.least, self.most)):
            raise ValueError(f"limits of {self.metric:.80}: allowed are numbers, or null")


@dataclass(frozen=True)
class _Goal:
    objectives: tuple[Objective, ...]
    limits: tuple[_Limit, ...]

    def __post_init__(self) -> None:
        metrics = [own.metric for own in self.objectives] + [own.metric for own in self.limits]
        if odd := [metric for metric in metrics if metric not in METRICS]:
            raise ValueError(f"metric {odd[0]:.80}: allowed are {', '.join(METRICS)}")
        if not all(0 <= own.give_up <= 1 for own in self.objectives):
            raise ValueError("give_up of an objective: allowed is a share, 0 to 1")


@dataclass(frozen=True)
class _Conditions:
    bandwidth_mbps: float
    rtt_ms: float
    slowdown: float
    cloud_load: float
    deadline_ms: float | None
    spread_ms: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.spread_ms or not all(0 <= own <= MOST for own in self.spread_ms):
            raise ValueError(f"spread_ms: allowed are one or more numbers from 0 to {MOST:g}")
        if self.deadline_ms is not None and not self.deadline_ms > 0:
            raise ValueError(f"deadline_ms={self.deadline_ms:g}: allowed is a number above 0")


@dataclass(frozen=True)
class _Row:
    """The numbers of a plan, as of `Row` and `Spent`."""

    cut: int
    accuracy: float | None
    leaving: tuple[float, ...]
    to_exit_ms: tuple[float, ...]
    device_ms: float
    cloud_ms: float
    away: float
    sent_bytes: float
    codec_ms: float

    def __post_init__(self) -> None:
        columns = (self.device_ms, self.cloud_ms, self.sent_bytes, self.codec_ms, self.cut)
        numbers = (*columns, *self.to_exit_ms, *(() if self.accuracy is None else [self.accuracy]))
        if not all(0 <= number <= MOST for number in numbers):
            raise ValueError(f"a plan's costs: allowed are numbers from 0 to {MOST:g}")
        if not all(0 <= share <= 1 for share in (self.away, *self.leaving)):
            raise ValueError("a plan's shares: allowed are numbers from 0 to 1")
        if len(self.leaving) != len(self.to_exit_ms):
            raise ValueError("a plan's shares and times: allowed is one of each for every exit")


@dataclass(frozen=True)
class _Stored:
    """The content of the file beside the deployments."""

    version: int
    artifact_id: str
    device: str
    images: str
    date: str
    goal: _Goal
    power: Power | None
    conditions: _Conditions
    plans: tuple[_Row, ...]


def _read(content: Json) -> Plans:
    if not isinstance(content, Mapping) or content.get("version") != VERSION:
        raise ValueError(f"allowed is a JSON object of version {VERSION}")
    stored = from_json(_Stored, content)
    if not stored.plans:
        raise ValueError("it has no plan")
    rows = content["plans"]
    assert isinstance(rows, Sequence)
    deployments = [Deployment.from_json(_deployment(row)) for row in rows]
    if odd := {own.artifact_id for own in deployments} - {stored.artifact_id}:
        raise ValueError(f"a plan is for artifact {odd.pop():.12}, not {stored.artifact_id:.12}")
    if len({len(row.leaving) for row in stored.plans}) > 1:
        raise ValueError("plans have different numbers of exits")
    times = sum(len(row.leaving) for row in stored.plans) * len(stored.conditions.spread_ms)
    if times > MOST_TIMES:
        raise ValueError(f"{times} times of plans, exits and additions: allowed are {MOST_TIMES}")
    goal = Goal(
        stored.goal.objectives,
        tuple(
            Limit(
                own.metric,
                -math.inf if own.least is None else own.least,
                math.inf if own.most is None else own.most,
            )
            for own in stored.goal.limits
        ),
    )
    given = stored.conditions
    at = Conditions(
        Link(given.bandwidth_mbps, given.rtt_ms), given.slowdown, given.cloud_load,
        math.inf if given.deadline_ms is None else given.deadline_ms, given.spread_ms,
    )  # fmt: skip
    table = Table.of(map(_row, deployments, stored.plans))
    return Plans(
        stored.artifact_id, stored.device, stored.images, stored.date, goal, stored.power, at, table
    )


def _deployment(row: Json) -> JsonObject:
    own = row.get("deployment") if isinstance(row, Mapping) else None
    if not isinstance(own, Mapping):
        raise ValueError("a plan has no deployment")
    return own


def _row(deployment: Deployment, row: _Row) -> Row[Deployment]:
    columns = (row.device_ms, row.cloud_ms, row.away, row.sent_bytes, row.codec_ms)
    accuracy = math.nan if row.accuracy is None else row.accuracy
    spent = Spent(*(np.asarray(column, np.float64) for column in columns))
    return Row(deployment, row.cut, spent, row.leaving, accuracy, row.to_exit_ms)


def _number(bound: float) -> float | None:
    """Give a bound as JSON has it, which knows no infinity."""
    return bound if math.isfinite(bound) else None
