"""Tables of designs against plain loops: latency, energy, choices, and what pruning may drop."""

import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eenn.errors import EennError
from eenn.planning.costs import Link
from eenn.planning.engine import Conditions, Power, Spent, Way
from eenn.planning.table import FASTEST, METRICS, Goal, Limit, NoPlan, Objective, Row, Table

POWER = Power(compute_w=2.0, transmit_w=1.2, idle_w=0.3)
WANTED = {"accuracy", "device_share"}


def drawn(generator: np.random.Generator, designs: int) -> Table[int]:
    """Draw a table of three exits and small whole numbers, which often tie."""
    rows = []
    for number in range(designs):
        leaving = tuple(float(n) for n in generator.multinomial(4, [0.4, 0.3, 0.3]) / 4)
        to_exit = np.cumsum(generator.integers(0, 4, 3)).astype(float)
        away = leaving[-1] * float(generator.integers(2))
        cloud, sent, codec = (away * float(n) for n in generator.integers(0, 5, 3))
        spent = Spent(np.float64(leaving @ to_exit), *map(np.float64, (cloud, away, sent, codec)))
        accuracy = float(generator.integers(0, 5) / 4)
        cut = int(generator.integers(3))
        rows.append(Row(number, cut, spent, leaving, accuracy, tuple(to_exit.tolist())))
    return Table.of(rows)


def images_by_hand(table: Table[int], row: int, at: Conditions) -> list[tuple[float, float]]:
    """List milliseconds and share of the images that take as long, the fastest first."""
    found, own, spreads = [], table.spent, at.spread_ms
    for exit in range(3):
        ms, share = (
            at.slowdown * float(table.to_exit_ms[row, exit]),
            float(table.leaving[row, exit]),
        )
        away = float(own.away[row])
        if exit == 2 and away:
            sent_bytes, cloud, codec = (
                float(column[row]) / away for column in (own.sent_bytes, own.cloud_ms, own.codec_ms)
            )
            ms += codec + at.link.rtt_ms + 8e-3 * sent_bytes / at.link.bandwidth_mbps
            ms += at.cloud_load * cloud
            found += [(ms + more, share / len(spreads)) for more in spreads]
        else:
            found.append((ms, share))
    return sorted(found)


def by_hand(table: Table[int], row: int, at: Conditions) -> dict[str, float]:
    """Compute the metrics of one design with plain numbers."""
    own = table.spent
    device, cloud, away, sent, codec = (
        float(column[row])
        for column in (own.device_ms, own.cloud_ms, own.away, own.sent_bytes, own.codec_ms)
    )
    busy_ms, on_link_ms = at.slowdown * device + codec, 8e-3 * sent / at.link.bandwidth_mbps
    waiting_ms = away * at.link.rtt_ms + at.cloud_load * cloud
    images = images_by_hand(table, row, at)
    up_to = np.cumsum([share for _, share in images])
    return {
        "latency_ms": busy_ms + on_link_ms + waiting_ms,
        "device_ms": busy_ms,
        "cloud_ms": cloud,
        "slowest_ms": max(busy_ms, on_link_ms, at.cloud_load * cloud),
        "sent_bytes": sent,
        "accuracy": float(table.accuracy[row]),
        "device_share": 1 - away,
        "cut": float(table.cuts[row]),
        "p95_ms": images[int((up_to >= 0.95 - 1e-9).argmax())][0],
        "late_share": sum(share for ms, share in images if ms > at.deadline_ms),
        "energy_mj": 2.0 * busy_ms + 1.2 * on_link_ms + 0.3 * waiting_ms,
    }


def narrowed_by_hand(
    metrics: Sequence[dict[str, float]], goal: Goal
) -> tuple[list[int], int | None]:
    """Narrow the designs by plain loops; gives those left, and the one that ties leave."""
    rows = [
        row
        for row, own in enumerate(metrics)
        if all(
            limit.least - 1e-9 <= own[limit.metric] <= limit.most + 1e-9 for limit in goal.limits
        )
    ]
    for objective in goal.objectives:
        sign = -1 if objective.most else 1
        values = {row: sign * metrics[row][objective.metric] for row in rows}
        best = min(values.values(), default=0.0)
        rows = [row for row in rows if values[row] <= best + objective.give_up * abs(best) + 1e-9]
    ties = ("latency_ms", "sent_bytes", "cut")
    rank = lambda row: (*(round(metrics[row][name], 9) for name in ties), row)  # noqa: E731
    return rows, min(rows, key=rank, default=None)


def drawn_conditions(generator: np.random.Generator) -> Conditions:
    link = Link(float(generator.uniform(0.001, 0.1)), float(generator.uniform(0, 9)))
    slowdown, load = (float(factor) for factor in generator.uniform(0.5, 4, 2))
    spread_ms = tuple(generator.uniform(-1, 5, 3).tolist())
    return Conditions(link, slowdown, load, float(generator.uniform(5, 60)), spread_ms)


def drawn_goal(generator: np.random.Generator) -> Goal:
    names = generator.permutation([name for name in METRICS if name != "cut"])[:2].tolist()
    objectives = [
        Objective(name, name in WANTED, float(generator.choice([0.0, 0.1, 0.5]))) for name in names
    ]
    least = Limit("accuracy", least=float(generator.choice([0.0, 0.25, 0.5, 1.1])))
    most = Limit("latency_ms", most=float(generator.choice([15.0, 100.0, math.inf])))
    return Goal(tuple(objectives), (least, most))


def test_choices_are_those_of_plain_loops_on_a_thousand_tables() -> None:
    generator = np.random.default_rng(3)
    chosen = 0
    for _ in range(1000):
        table = drawn(generator, int(generator.integers(1, 25)))
        at, goal = drawn_conditions(generator), drawn_goal(generator)
        metrics = [by_hand(table, row, at) for row in range(len(table))]
        for name in METRICS:
            expected = [own[name] for own in metrics]
            assert table.metric(name, at, POWER) == pytest.approx(expected)
        rows, best = narrowed_by_hand(metrics, goal)
        assert table.equally_good(at, goal, POWER).tolist() == rows
        if best is None:
            with pytest.raises(NoPlan, match="widen the limits"):
                table.choose(at, goal, POWER)
            continue
        assert table.choose(at, goal, POWER) == best
        chosen += 1
    assert chosen > 500


def test_no_choice_gets_worse_by_what_pruning_drops() -> None:
    generator = np.random.default_rng(4)
    dropped = 0
    for _ in range(500):
        table, goal = drawn(generator, int(generator.integers(1, 25))), drawn_goal(generator)
        kept = table.pruned(goal)
        dropped += len(table) - len(kept)
        for _ in range(3):
            at = drawn_conditions(generator)
            first = replace(goal, objectives=(replace(goal.objectives[0], give_up=0.0),))
            try:
                best = table.choose(at, first, POWER)
            except NoPlan:
                with pytest.raises(NoPlan):
                    kept.choose(at, first, POWER)
                continue
            own = kept.choose(at, first, POWER)
            name = first.objectives[0].metric
            expected = table.metric(name, at, POWER)[best]
            assert kept.metric(name, at, POWER)[own] == pytest.approx(expected)
    assert dropped > 2000


def test_tables_of_means_have_no_shares_of_late_images() -> None:
    table = Table.of([Row("only", 0, Way((1.0,)).spent([1.0]), (1.0,))])
    with pytest.raises(EennError, match="only means are known; ask for latency_ms"):
        table.metric("p95_ms", Conditions(Link(1.0, 1.0)))


@settings(max_examples=50)
@given(st.integers(0, 2**20), st.booleans())
def test_means_of_samples_are_the_costs_of_shares(seed: int, sends: bool) -> None:
    generator = np.random.default_rng(seed)
    in_cloud = tuple(generator.uniform(0, 9, 2)) if sends else ()
    way = Way(tuple(generator.uniform(0, 9, 3)), in_cloud, 700.0 * sends, 0.5 * sends)
    stops = generator.integers(0, 4, 30)
    begun = stops[:, None] >= np.arange(4)
    of_samples, of_shares = way.spent(begun), way.spent(begun.mean(axis=0))
    at = Conditions(Link(1.0, 7.0), 2.0, 3.0)
    assert of_samples.latency_ms(at).mean() == pytest.approx(float(of_shares.latency_ms(at)))
    for stop, ms in zip(stops, of_samples.latency_ms(at), strict=True):
        expected = 2.0 * sum(way.device_ms[: stop + 1])
        if sends and stop >= 2:
            expected += 0.5 + 7.0 + 700 * 8e-3 + 3.0 * sum(in_cloud[: stop - 1])
        assert ms == pytest.approx(expected)


def test_a_cloud_that_takes_no_requests_leaves_what_stays_on_the_device() -> None:
    rows = [
        Row("cloud", 0, Way((0.0,), (1.0,), 100.0).spent([1.0])),
        Row("device", 1, Way((50.0,)).spent([1.0])),
    ]
    full = Conditions(Link(10.0, 5.0), cloud_load=math.inf)
    table = Table.of(rows)
    assert table.designs[table.choose(full, Goal((FASTEST,)))] == "device"
    assert table.designs[table.choose(Conditions(Link(10.0, 5.0)), Goal((FASTEST,)))] == "cloud"
    only_cloud = table.only(lambda name: name == "cloud")
    assert only_cloud.choose(full, Goal((FASTEST,))) == 0


def test_what_cannot_be_computed_is_refused() -> None:
    table, at = drawn(np.random.default_rng(0), 3), Conditions(Link(1.0, 1.0))
    with pytest.raises(EennError, match="metric speed: allowed are latency_ms"):
        table.choose(at, Goal((Objective("speed"),)))
    with pytest.raises(EennError, match="watts"):
        table.choose(at, Goal((Objective("energy_mj"),)))
    with pytest.raises(EennError, match="slowdown=0"):
        Conditions(Link(1.0, 1.0), slowdown=0)


def test_choosing_loads_neither_torch_nor_scipy() -> None:
    code = (
        "import sys, eenn.planning.table; "
        "assert not {'torch', 'scipy', 'onnxruntime'} & set(sys.modules), sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_pruning_keeps_the_design_with_the_fewest_blocks_where_the_goal_asks_for_it() -> None:
    def row(cut: int, device_ms: float) -> Row[int]:
        return Row(
            cut, cut, Spent(np.float64(device_ms), *[np.float64(0)] * 4), (1.0,), 0.5, (1.0,)
        )

    table = Table.of([row(5, 1.0), row(0, 2.0)])
    assert table.pruned(Goal((Objective("cut"),))).designs == (5, 0)
    assert table.pruned(Goal((FASTEST,))).designs == (5,)
