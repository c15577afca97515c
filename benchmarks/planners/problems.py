"""Problems of every kind, each read, solved, and compared with the answer that is known."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeGuard, TypeVar

from benchmarks.planners.graph import MOST_LAYERS, TIMED, Layers
from benchmarks.planners.later import replanned, split_by_bandit, three_tiers
from eenn.planning.chain import Chain, ChainExit
from eenn.planning.costs import Link
from eenn.planning.engine import Conditions, Power
from eenn.planning.planners.dads import HEAVY, SLOWEST, paced
from eenn.planning.planners.edgent import deepest_in_time, right_sized
from eenn.planning.planners.flexdnn import every_set
from eenn.planning.planners.neurosurgeon import every_cut
from eenn.planning.planners.shortest_path import expected
from eenn.planning.planners.spinn import progressive
from eenn.planning.table import ENERGY, FASTEST, Goal, Limit, Objective, Table

D = TypeVar("D")
Problem = Mapping[str, Any]
CLOSE, CLOSE_CUT = 1e-9, 1e-6
# The most that the search may find, over the known value.
APPROXIMATE = 3.0
METRICS = ("latency_ms", "device_ms", "cloud_ms", "sent_bytes", "accuracy", "device_share")


class Differs(Exception):
    """An error raised for an answer that is not the known one; says what differs."""


def check(system: str, problem: Problem, answer: Any) -> None:
    """Check the answer to a problem against the known one.

    Raises:
        Differs: the answer is another one, or there is no planner for the problem.
    """
    if system not in CHECKS:
        raise Differs(f"unknown system; known are {', '.join(CHECKS)}")
    CHECKS[system](problem, answer)


def same(what: str, mine: object, known: object, close: float = CLOSE) -> None:
    """Compare two values, numbers up to a relative difference.

    Raises:
        Differs: they are not the same.
    """
    if isinstance(known, Mapping) and isinstance(mine, Mapping) and mine.keys() == known.keys():
        for key in known:
            same(f"{what} {key}", mine[key], known[key], close)
        return
    if isinstance(known, list | tuple) and isinstance(mine, list | tuple):
        if len(mine) == len(known):
            for one, other in zip(mine, known, strict=True):
                same(what, one, other, close)
            return
    elif (
        _is_number(mine)
        and _is_number(known)
        and math.isclose(mine, known, rel_tol=close, abs_tol=CLOSE)
    ):
        return
    if type(mine) is not type(known) or mine != known:
        raise Differs(f"{what}: {mine}, known is {known}")


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def one_of(what: str, mine: Iterable[object], known: Sequence[object]) -> None:
    """Check that there are choices, and that each is a known one.

    Raises:
        Differs: a choice is not known.
    """
    found = list(mine)
    if not found or any(choice not in known for choice in found):
        raise Differs(f"{what}: {found}, known is {known}")


def chain_of(problem: Problem) -> Chain:
    """Read the chain of a problem."""
    return Chain(*(tuple(problem[key]) for key in ("edge_ms", "cloud_ms", "payload_bytes")))


def conditions_of(problem: Problem) -> Conditions:
    """Read the link of a problem, and the load of its cloud."""
    return Conditions(Link(**problem["link"]), cloud_load=problem.get("cloud_load", 1.0))


def exits_of(rows: Iterable[Problem]) -> list[ChainExit]:
    """Read exits in ascending order."""
    exits = [ChainExit(r["after"], r["head_ms"], r.get("cloud_head_ms", 0.0)) for r in rows]
    return sorted(exits, key=lambda exit: exit.after)


def check_best(
    table: Table[D],
    at: Conditions,
    objective: Objective,
    answer: Problem,
    power: Power | None = None,
    key: Callable[[D], object] = lambda design: design,
) -> None:
    """Compare the best designs of a table.

    Raises:
        Differs: value or choices are others.
    """
    goal = Goal((objective,))
    row = table.choose(at, goal, power)
    same("value", float(table.metric(objective.metric, at, power)[row]), answer["value"])
    one_of("choice", [key(table.designs[row])], answer["choices"])


def neurosurgeon(problem: Problem, answer: Problem) -> None:
    power = Power(**problem["power"]) if "power" in problem else None
    objective = Objective(ENERGY) if problem.get("objective") == "energy" else FASTEST
    check_best(every_cut(chain_of(problem)), conditions_of(problem), objective, answer, power)


def layers_of(graph: Problem) -> Layers:
    """Read a graph of layers."""
    cloud_ms = {k: math.inf if ms is None else ms for k, ms in graph["cloud_ms"].items()}
    links = tuple((a, b) for a, b in graph["links"])
    return Layers(graph["edge_ms"], cloud_ms, graph["send_ms"], links)


def dads_light(problem: Problem, answer: Problem) -> None:
    layers = layers_of(problem)
    check_best(layers.cuts(), TIMED, FASTEST, answer, key=sorted)
    found = layers.minimum_cut()
    value = float(layers.spent(found).latency_ms(TIMED))
    same("value of the minimum cut", value, answer["value"], CLOSE_CUT)
    one_of("minimum cut", [sorted(found)], answer["choices"])


def dads_heavy(problem: Problem, answer: Problem) -> None:
    layers = layers_of(problem)
    if len(layers.device_ms) <= MOST_LAYERS:
        check_best(layers.every_cut(), TIMED, HEAVY, answer, key=sorted)
        return
    found, known = float(layers.searched().metric(SLOWEST, TIMED).min()), answer["value"]
    if not (1 - CLOSE) * known <= found <= (1 + CLOSE) * APPROXIMATE * known:
        raise Differs(f"value of the search: {found}, known is {known}")


def dads(problem: Problem, answer: Problem) -> None:
    table = layers_of(problem["graph"]).cuts()
    found = paced(table, TIMED, problem["frames_per_s"])
    metric, name = ("latency_ms",) * 2 if found.is_light else (SLOWEST, "stage_ms")
    mine = {
        "mode": "light" if found.is_light else "heavy",
        "keeps_up": found.keeps_up,
        name: float(table.metric(metric, TIMED)[found.row]),
    }
    same("answer", mine, answer)


def pacheco_couto(problem: Problem, answer: Problem) -> None:
    rows = sorted(problem.get("branches", ()), key=lambda row: int(row["after"]))
    rates = [row["exit_probability"] for row in rows]
    in_cloud = problem.get("cloud_branches", False)
    table = expected(chain_of(problem), exits_of(rows), rates, in_cloud)
    check_best(table, conditions_of(problem), FASTEST, answer)


def edgent(problem: Problem, answer: Problem) -> None:
    accuracy, at = [row["accuracy"] for row in problem["exits"]], conditions_of(problem)
    table = right_sized(chain_of(problem), exits_of(problem["exits"]), accuracy)
    deadline_ms = problem["deadline_ms"]
    found, known = deepest_in_time(table, at, deadline_ms), answer["edgent"]
    same("no exit in time", not len(found), known is None)
    if known is not None:
        same("exit", found.designs[0].exit, known["exit"])
        one_of("cut", [design.cut for design in found], known["cuts"])
        same("latency", float(found.metric("latency_ms", at)[0]), known["latency_ms"])
    limits = (Limit("latency_ms", most=deadline_ms),)
    goal, known = Goal((Objective("accuracy", most=True), FASTEST), limits), answer["most_accurate"]
    rows = table.equally_good(at, goal)
    same("none in time", not len(rows), known is None)
    if known is not None:
        best = table.at(rows)
        one_of("exit and cut", [list(design) for design in best], known["choices"])
        for name in ("accuracy", "latency_ms"):
            same(name, float(best.metric(name, at)[0]), known[name])


def spinn(problem: Problem, answer: Problem | None) -> None:
    samples, at = (problem["confidence"], problem["correct"]), conditions_of(problem)
    table = progressive(
        chain_of(problem), exits_of(problem["exits"]), samples, problem["cuts"],
        problem["thresholds"],
    )  # fmt: skip
    objectives = [Objective(name, way == "max", part) for name, way, part in problem["objectives"]]
    limits = [
        Limit(name, own.get("min", -math.inf), own.get("max", math.inf))
        for name, own in problem.get("limits", {}).items()
    ]
    rows = table.equally_good(at, Goal(tuple(objectives), tuple(limits)))
    same("impossible", not len(rows), answer is None)
    if answer is None:
        return
    one_of("cut and threshold", map(list, table.at(rows)), answer["designs"])
    first = [list(design) for design in table].index(answer["designs"][0])
    for name in METRICS:
        same(name, float(table.metric(name, at)[first]), answer["metrics"][name])


def exit_subset(problem: Problem, answer: Problem) -> None:
    parts = (problem[key] for key in ("segment_ms", "head_ms", "rest_ms", "accepts"))
    # The link has no part in it.
    check_best(every_set(*parts), TIMED, FASTEST, answer, key=list)


def three_tier(problem: Problem, answer: Problem) -> None:
    check_best(three_tiers(problem), TIMED, FASTEST, answer, key=list)


CHECKS: Mapping[str, Callable[[Problem, Any], None]] = {
    "neurosurgeon": neurosurgeon,
    "dads_light": dads_light,
    "dads_heavy": dads_heavy,
    "dads": dads,
    "pacheco_couto": pacheco_couto,
    "edgent": edgent,
    "spinn": spinn,
    "exit_subset": exit_subset,
    "splitee": lambda problem, answer: same("answer", split_by_bandit(problem), answer),
    "three_tier": three_tier,
    "replan": lambda problem, answer: same("answer", replanned(problem), answer),
}
