"""Errors of predicted stages on what was held out, and what plans lose that are chosen by them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import permutations, product

import numpy as np

from benchmarks.latency.measuring import EXIT_COUNT, WHOLE, Cell
from eenn.exits.policies.base import Floats
from eenn.offload.graphs.index import PRECISIONS
from eenn.planning.costs import Link
from eenn.planning.device_file import DeviceFile, Totals
from eenn.planning.device_prediction import predicted, rates_of, scaled
from eenn.planning.device_profile import CPU, DeviceProfile
from eenn.planning.rates import Rates
from eenn.planning.work import STAGES

BANDWIDTHS_MBPS, RTTS_MS = np.geomspace(0.05, 100, 25).tolist(), (1.0, 10.0, 40.0, 100.0)
SLOWDOWNS = (10.0, 30.0)
# Of a plan, relative to the best one.
WORST_LOSS = 0.15
# The stages that are known beside the whole network, where more than that is known.
KNOWN_STAGES = ("0-3", "0-11")
PRECISION, WIDTH, RESOLUTION, SEVERAL = "precision", "width", "resolution", "several"
DIFFERENCES = (PRECISION, WIDTH, RESOLUTION, SEVERAL)
Row = Mapping[str, float | str]


@dataclass(frozen=True)
class Errors:
    """Relative errors of predicted times."""

    median: float
    p90: float
    parts: int

    @classmethod
    def of(cls, errors: Iterable[float]) -> "Errors":
        """Summarise absolute relative errors."""
        every = list(errors)
        return cls(float(np.median(every)), float(np.quantile(every, 0.9)), len(every))


def stage_errors(cell: Cell, stages: dict[str, float], known: Iterable[str] = ()) -> list[float]:
    """Compare predicted stages between exits with the measured ones, known ones left out."""
    keys = [key for key in cell.between_exits if key not in known]
    return [abs(stages[key] / cell.profile.stages[key] - 1) for key in keys]


def by_rates(cell: Cell, rates: Rates) -> list[float]:
    """Compare stages that follow from rates with the measured ones."""
    keys = cell.between_exits
    ms = rates.predict(np.array([cell.work.features((STAGES, key)) for key in keys]))
    return stage_errors(cell, dict(zip(keys, ms.tolist(), strict=True)))


def left_out(cells: Sequence[Cell]) -> list[Row]:
    """Fit rates to all but one resolution, and to all but one width, and predict the one."""
    rows: list[Row] = []
    properties: dict[str, Callable[[Cell], float]] = {
        RESOLUTION: lambda cell: cell.shape.input_size,
        WIDTH: lambda cell: cell.shape.width,
    }
    for precision, (name, of) in product(PRECISIONS, properties.items()):
        alike = [cell for cell in cells if cell.shape.precision == precision]
        errors: list[float] = []
        for value in {of(cell) for cell in alike}:
            rates = rates_of((cell.profile, cell.work) for cell in alike if of(cell) != value)
            errors += (e for cell in alike if of(cell) == value for e in by_rates(cell, rates))
        rows.append({"precision": precision, "left_out": name, **asdict(Errors.of(errors))})
    return rows


def from_one_network(cells: Sequence[Cell]) -> list[Row]:
    """Predict every network from the profile of each other one in the same precision."""
    rows: list[Row] = []
    for precision in PRECISIONS:
        alike = [cell for cell in cells if cell.shape.precision == precision]
        errors = (
            error
            for other, cell in permutations(alike, 2)
            for error in stage_errors(cell, predicted(other.profile, other.work, cell.work).stages)
        )
        rows.append({"precision": precision, **asdict(Errors.of(errors))})
    return rows


def differing(cells: Sequence[Cell], name: str) -> list[tuple[Cell, Cell]]:
    """List the pairs of cells that differ in a property, or in several."""
    return [pair for pair in permutations(cells, 2) if difference(*pair) == name]


def difference(one: Cell, other: Cell) -> str:
    """Name the property in which two cells differ, if it is one."""
    a, b = one.shape, other.shape
    differ = {
        PRECISION: a.precision != b.precision,
        WIDTH: a.width != b.width,
        RESOLUTION: a.input_size != b.input_size,
    }
    found = [name for name, is_so in differ.items() if is_so]
    return found[0] if len(found) == 1 else SEVERAL


def as_device(cell: Cell, known_stages: Iterable[str] = ()) -> DeviceFile:
    """Describe a cell as a device of which few times are known, that of the whole among them."""
    profile = cell.profile
    stages = {key: profile.stages[key] for key in known_stages}
    return DeviceFile(
        device=str(cell.shape),
        kind=CPU,
        totals=Totals(stages, {WHOLE[1]: profile.exits[WHOLE[1]]}),
        precision=cell.shape.precision,
    )


@dataclass(frozen=True)
class Way:
    """A way to predict a cell as if it were another device, from another cell and some totals.

    Args:
        name: `shape` scales the other cell's times, `work` those that its rates give for the work
            of the cell's own network.
        known_stages: known beside the whole network's time.
        by_kind: whether factors may differ by kind of work.
    """

    name: str
    known_stages: tuple[str, ...] = ()
    by_kind: bool = False

    def guess(self, other: Cell, cell: Cell) -> DeviceProfile:
        """Predict the profile of a cell."""
        if self.name == SHAPE:
            reference, work = other.profile, other.work
        else:
            reference, work = predicted(other.profile, other.work, cell.work), cell.work
        device = as_device(cell, self.known_stages)
        return scaled(reference, device, work if self.by_kind else None)


SHAPE, WORK = "shape", "work"
WAYS = (
    Way(SHAPE), Way(WORK), Way(SHAPE, KNOWN_STAGES), Way(SHAPE, KNOWN_STAGES, True),
    Way(WORK, KNOWN_STAGES, True),
)  # fmt: skip


def by_totals(cells: Sequence[Cell]) -> list[Row]:
    """Predict every cell as if it were another device, from each other cell and some totals."""
    rows: list[Row] = []
    for differs, way in product(DIFFERENCES, WAYS):
        errors = (
            error
            for other, cell in differing(cells, differs)
            for error in stage_errors(cell, way.guess(other, cell).stages, way.known_stages)
        )
        rows.append({
            "differs": differs, "way": way.name, "totals": 1 + len(way.known_stages),
            "by_kind": way.by_kind, **asdict(Errors.of(errors)),
        })  # fmt: skip
    return rows


def regrets(cells: Sequence[Cell]) -> list[Row]:
    """Choose cuts by what each other cell and one total predict, and price them as measured."""
    rows: list[Row] = []
    for differs, name in product(DIFFERENCES, (SHAPE, WORK)):
        guesses = [
            (cell, Way(name).guess(*pair))
            for pair in differing(cells, differs)
            for cell in pair[1:]
        ]
        for slowdown in SLOWDOWNS:
            lost = np.concatenate([regret(*own, slowdown, cells) for own in guesses])
            rows.append({
                "differs": differs, "way": name, "slowdown": slowdown, "mean": float(lost.mean()),
                "worst": float(lost.max()), "too_bad": int((lost > WORST_LOSS).sum()),
                "plans": len(lost),
            })  # fmt: skip
    return rows


def regret(cell: Cell, guess: DeviceProfile, slowdown: float, cells: Sequence[Cell]) -> Floats:
    """Compute the relative loss of plans by a guessed profile, for every link, (links,).

    A plan is a cut without branches: the blocks before it on a device that is `slowdown` times
    slower than this machine, the others in a cloud that is this machine, in fp32.
    """
    (cloud,) = (
        own.profile
        for own in cells
        if (own.shape.input_size, own.shape.width, own.shape.precision)
        == (cell.shape.input_size, cell.shape.width, "fp32")
    )
    links = [Link(mbps, rtt_ms) for mbps, rtt_ms in product(BANDWIDTHS_MBPS, RTTS_MS)]
    cuts = range(len(cell.payload_bytes))
    in_cloud_ms = np.array([cloud.exits[f"{cut}-{EXIT_COUNT}"] for cut in cuts])
    on_link_ms = np.array([[own.latency_ms(sent) for sent in cell.payload_bytes] for own in links])

    def latency_ms(profile: DeviceProfile) -> Floats:
        on_device = [0.0, *(profile.stages[f"0-{cut}"] for cut in cuts[1:])]
        split = slowdown * np.array(on_device) + on_link_ms + in_cloud_ms
        whole = np.full((len(links), 1), slowdown * profile.exits[WHOLE[1]])
        return np.hstack([split, whole])

    chosen, measured_ms = latency_ms(guess).argmin(axis=1), latency_ms(cell.profile)
    priced_ms = measured_ms[np.arange(len(links)), chosen]
    return np.asarray(priced_ms / measured_ms.min(axis=1) - 1)
