"""Decisions over arrays of records against plain loops over images, and as a device makes them."""

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from eenn.errors import EennError
from eenn.exits.decide import decide, oracle
from eenn.exits.policies.base import FALLBACKS, Answer, ExitProbs, Policy
from eenn.exits.policies.registry import POLICIES, make_policy
from eenn.statistics.calibration import probabilities
from tests.exits.any_policy import any_policy

Floats = NDArray[np.float64]
Settings = dict[str, Any]
Case = tuple[Floats, tuple[int, ...], bool, Settings]

quick = settings(max_examples=150)
COMMITTEES = ["committee", "geometric_committee"]
# Multiples of 1/8 make ties, and are exact in floating point.
eighths = st.integers(0, 8).map(lambda number: number / 8)


class TooClose(Exception):
    """The rounding of a logarithm would decide."""


@st.composite
def exit_probs(draw: st.DrawFn) -> Floats:
    """Probabilities (exits, samples, classes), in eighths."""
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 3)))
    classes = draw(st.integers(1, 4))
    label = st.integers(0, classes - 1)
    cast = draw(arrays(np.int64, (*shape, 8), elements=label, fill=st.nothing()))
    return (cast[..., None] == np.arange(classes)).mean(-2)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Probabilities, active branches, whether there is a cloud, and settings for every rule."""
    probs = draw(exit_probs())
    branches = range(len(probs) - 1)
    active = tuple(branch for branch in branches if draw(st.booleans()))
    cloud = not active or draw(st.booleans())
    given = {
        "p_tar": draw(eighths),
        # Powers of two, so that no threshold is rounded.
        "strict": draw(st.sampled_from([1, 2, 8])),
        "agree": draw(st.integers(1, 4)),
        "low": draw(eighths),
        "weights": tuple(draw(eighths) for _ in branches),
        "as_printed": draw(st.booleans()),
    }
    return probs, active, cloud, given


def outputs_of(probs: Sequence[Floats] | Floats) -> list[ExitProbs]:
    return [ExitProbs(exit, p) for exit, p in enumerate(probs)]


def best(values: list[float]) -> tuple[int, float]:
    label = 0
    for candidate, value in enumerate(values):
        if value > values[label]:
            label = candidate
    return label, values[label]


def clearly(value: float, threshold: float) -> bool:
    """`value` >= `threshold`, where rounding of logarithms cannot turn it round."""
    if abs(value - threshold) < 1e-9 and value not in (0, 1):
        raise TooClose
    return value >= threshold


def certainty_of(values: list[float]) -> float:
    if max(values) == 1:
        return 1.0
    if max(values) == min(values):
        return 0.0
    return 1 - sum(p * math.log(1 / p) for p in values if p) / math.log(len(values))


def lead_of(values: list[float]) -> float:
    if len(values) == 1:
        return values[0]
    first, second = sorted(values, reverse=True)[:2]
    return first - second


def committee_of(
    name: str, members: list[list[float]], weights: list[float], printed: bool
) -> tuple[int, float]:
    """Label and confidence of the committee, a class at a time."""
    if not any(weights):
        weights = [1.0 for _ in weights]
    columns = list(zip(*members, strict=True))
    if name == "committee":
        sums = [sum(w * p for w, p in zip(weights, column, strict=True)) for column in columns]
        return best([total / (1 if printed else sum(weights)) for total in sums])
    shares, smallest = [w / sum(weights) for w in weights], 2.0**-1022
    products = [
        math.prod(max(p, smallest) ** share for share, p in zip(shares, column, strict=True))
        for column in columns
    ]
    label, largest = best(products)
    for product, column in zip(products, columns, strict=True):
        if column != columns[label] and largest - product < 1e-9 * largest:
            raise TooClose
    return label, largest / sum(products)


def one_image(
    name: str, given: Settings, exits: list[list[float]], active: tuple[int, ...], cloud: bool
) -> tuple[int, int, float]:
    """Exit, label and confidence of one image: the reference that knows no arrays."""
    last_exit, p_tar = len(exits) - 1, given["p_tar"]
    if name in COMMITTEES:
        if active:
            members, weights = [exits[b] for b in active], [given["weights"][b] for b in active]
            label, confidence = committee_of(name, members, weights, given["as_printed"])
            reaches = clearly if name == "geometric_committee" else float.__ge__
            if not cloud or reaches(confidence, p_tar):
                return active[-1], label, confidence
        return last_exit, *best(exits[last_exit])
    evaluated: list[tuple[int, float]] = []
    for exit in [*active, last_exit] if cloud else active:
        label, confidence = best(exits[exit])
        evaluated.append((label, confidence))
        is_inner = exit not in (*active[-1:], last_exit)
        needed = 1 - (1 - p_tar) / given["strict"] if is_inner else p_tar
        if name == "entropy":
            leaves = clearly(certainty_of(exits[exit]), needed)
        elif name == "margin":
            leaves = lead_of(exits[exit]) >= needed
        elif name == "patience":
            recent = [earlier for earlier, _ in evaluated[-given["agree"] :]]
            leaves = recent == given["agree"] * [label]
        else:
            leaves = confidence >= needed
        most_confident = max(evaluated, key=lambda pair: pair[1])
        is_low = name == "window" and most_confident[1] < given["low"]
        if is_low and (leaves or exit in active[-1:]):
            return exit, *most_confident
        if leaves:
            return exit, label, confidence
    if given["fallback_to"] == "most_confident":
        return exit, *most_confident
    return exit, label, confidence


@pytest.mark.parametrize("fallback_to", FALLBACKS)
@pytest.mark.parametrize("name", POLICIES)
@quick
@given(case=cases())
def test_every_policy_decides_as_a_loop_over_images(
    name: str, fallback_to: str, case: Case
) -> None:
    probs, active, cloud, given = case
    given["fallback_to"] = fallback_to
    decisions = decide(any_policy(name, given), outputs_of(probs), active, cloud)
    assert decisions.active == active
    for sample in range(probs.shape[1]):
        try:
            exits = probs[:, sample].tolist()
            taken, label, confidence = one_image(name, given, exits, active, cloud)
        except TooClose:
            continue
        assert (decisions.taken[sample], decisions.label[sample]) == (taken, label)
        tolerance = 1e-12 if name == "geometric_committee" else 0
        assert decisions.confidence[sample] == pytest.approx(confidence, rel=tolerance, abs=0)
        assert decisions.on_edge[sample] == (not cloud or taken in active)


def on_the_edge(
    policy: Policy, compute: Callable[[int], Floats], branches: int, active: tuple[int, ...]
) -> tuple[int, Answer, bool]:
    """One image as a device runs it: no exit is computed behind the one that accepts."""
    seen = []
    for branch in active:
        seen.append(ExitProbs(branch, compute(branch)))
        if policy.accept(seen, branch == active[-1])[0]:
            return branch, policy.answer(seen), True
    seen.append(ExitProbs(branches, compute(branches)))
    accepted = policy.accept(seen, True)[0]
    return branches, policy.answer(seen) if accepted else policy.fallback(seen), False


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("classes", [1, 2, 10, 101])
def test_one_image_at_a_time_decides_as_all_records_at_once(name: str, classes: int) -> None:
    generator = np.random.default_rng(classes)
    logits = generator.normal(0, 2, (4, 40, classes)) * np.arange(1, 5)[:, None, None]
    given = {"agree": 2, "low": 0.4, "strict": 3, "weights": (0.3, 0.5, 0.9)}
    for p_tar in (0.0, 0.3, 0.6, 0.9, 1.0):
        policy = any_policy(name, {**given, "p_tar": p_tar})
        for active in ((), (1,), (0, 2), (0, 1, 2)):
            whole = decide(policy, outputs_of(probabilities(logits)), active)
            for sample in range(logits.shape[1]):
                computed = []

                def compute(exit: int, sample: int = sample, done: list[int] = computed) -> Floats:
                    done.append(exit)
                    return probabilities(logits[exit, sample : sample + 1])

                taken, answer, on_edge = on_the_edge(policy, compute, 3, active)
                expected = whole.taken[sample], whole.label[sample], whole.on_edge[sample]
                assert (taken, answer.label[0], on_edge) == expected
                assert answer.confidence[0] == pytest.approx(whole.confidence[sample], rel=1e-12)
                assert computed == [exit for exit in (*active, 3) if exit <= taken]


def test_no_rule_can_be_given_a_label() -> None:
    assert set(inspect.signature(decide).parameters) == {"policy", "outputs", "active", "cloud"}
    for rule in POLICIES.values():
        for name in ("accept", "answer", "fallback"):
            parameters = set(inspect.signature(getattr(rule, name)).parameters)
            assert parameters == {"self", "seen"} | ({"last"} if name == "accept" else set())


@quick
@given(exit_probs(), st.data())
def test_the_oracle_is_right_wherever_an_exit_is(probs: Floats, data: st.DataObject) -> None:
    last, samples, classes = len(probs) - 1, probs.shape[1], probs.shape[2]
    labels = data.draw(arrays(np.int64, samples, elements=st.integers(0, classes - 1)))
    active = tuple(branch for branch in range(last) if data.draw(st.booleans()))
    bound = oracle(outputs_of(probs), labels, active)
    for sample, truth in enumerate(labels.tolist()):
        exits = [(exit, *best(probs[exit, sample].tolist())) for exit in (*active, last)]
        expected = next((exit for exit in exits if exit[1] == truth), exits[-1])
        assert (bound.taken[sample], bound.label[sample], bound.confidence[sample]) == expected
        assert bound.on_edge[sample] == (expected[0] != last)
    given = {"p_tar": data.draw(eighths), "agree": 2, "low": data.draw(eighths)}
    for name in set(POLICIES) - set(COMMITTEES):
        answers = decide(any_policy(name, given), outputs_of(probs), active).label
        assert (answers == labels).mean() <= (bound.label == labels).mean()


def test_a_committee_can_be_right_where_no_exit_is() -> None:
    outputs = outputs_of([[[0.5, 0.4, 0.1]], [[0.1, 0.4, 0.5]], [[1.0, 0.0, 0.0]]])
    committee = make_policy("committee", {"p_tar": 0.3, "weights": (0.5, 0.5)})
    assert decide(committee, outputs, (0, 1)).label == 1
    assert oracle(outputs, np.array([1]), (0, 1)).label == 0


@pytest.mark.parametrize("name", sorted(set(POLICIES) - {"patience"}))
@quick
@given(cases(), eighths)
def test_no_image_stays_on_the_edge_because_the_threshold_rises(
    name: str, case: Case, other: float
) -> None:
    probs, active, _, given = case
    low, high = (
        decide(any_policy(name, {**given, "p_tar": p_tar}), outputs_of(probs), active).on_edge
        for p_tar in sorted((given["p_tar"], other))
    )
    assert not (high & ~low).any()


@pytest.mark.parametrize("name", POLICIES)
@quick
@given(cases())
def test_without_active_branches_the_last_exit_answers(name: str, case: Case) -> None:
    probs, _, _, given = case
    decisions = decide(any_policy(name, given), outputs_of(probs), ())
    assert (decisions.taken == len(probs) - 1).all()
    assert not decisions.on_edge.any()
    assert (decisions.label == probs[-1].argmax(-1)).all()


@quick
@given(cases())
def test_a_window_is_between_the_confidence_rule_and_the_edge_alone(case: Case) -> None:
    probs, active, _, given = case
    outputs = outputs_of(probs)
    plain = decide(any_policy("confidence", given), outputs, active)
    window = decide(any_policy("window", given), outputs, active)
    assert not (plain.on_edge & ~window.on_edge).any()
    closed = decide(any_policy("window", {**given, "low": 0.0}), outputs, active)
    np.testing.assert_array_equal(closed.taken, plain.taken)
    np.testing.assert_array_equal(closed.label, plain.label)
    opened = decide(any_policy("window", {**given, "low": 1.0}), outputs, active)
    assert opened.on_edge.all() or not active


@pytest.mark.parametrize("active", [(1, 0), (0, 0), (2,), (-1,), (0, 2)])
def test_active_branches_that_do_not_exist_are_refused(active: tuple[int, ...]) -> None:
    outputs = outputs_of(np.full((3, 1, 2), 0.5))
    message = "allowed is an ascending choice of 1, 2, each once"
    with pytest.raises(EennError, match=message):
        decide(make_policy("confidence", {"p_tar": 0.5}), outputs, active)
    with pytest.raises(EennError, match=message):
        oracle(outputs, np.zeros(1, np.int64), active)


def test_somebody_has_to_answer() -> None:
    policy = make_policy("confidence", {"p_tar": 0.5})
    with pytest.raises(EennError, match="nobody answers; activate a branch"):
        decide(policy, outputs_of(np.ones((1, 1, 1))), (), cloud=False)
