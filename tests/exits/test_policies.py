"""The quantities of policies, against SciPy and direct formulas, and the settings they refuse."""

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from eenn.errors import EennError
from eenn.exits.decide import decide
from eenn.exits.policies.base import ExitProbs, Validation
from eenn.exits.policies.committee import Committee, GeometricCommittee
from eenn.exits.policies.patience import Patience
from eenn.exits.policies.registry import POLICIES, make_policy
from eenn.exits.policies.threshold import Confidence
from eenn.exits.policies.window import Window
from eenn.statistics.calibration import probabilities
from tests.exits.any_policy import any_policy

Floats = NDArray[np.float64]

quick = settings(max_examples=100)
THRESHOLD_RULES = sorted(set(POLICIES) - {"patience"})
COMMITTEES = ["committee", "geometric_committee"]
THREE_EXITS = [ExitProbs(exit, [[1.0]]) for exit in range(3)]
GIVEN = {"p_tar": 0.5, "agree": 2, "weights": (0.25, 0.75)}


def draw_probs(seed: int, exits: int, classes: int, samples: int = 30) -> list[ExitProbs]:
    generator = np.random.default_rng(seed)
    return [
        ExitProbs(exit, generator.dirichlet(np.full(classes, 0.4), samples))
        for exit in range(exits)
    ]


@pytest.mark.parametrize("classes", [2, 3, 10, 257])
def test_certainty_is_one_minus_scipys_relative_entropy(classes: int) -> None:
    (output,) = draw_probs(classes, 1, classes)
    entropy = scipy.stats.entropy(output.probs, axis=-1) / math.log(classes)
    np.testing.assert_allclose(output.certainty, 1 - entropy, atol=1e-12)


def test_a_class_without_probability_adds_no_entropy() -> None:
    output = ExitProbs(0, [[1, 0, 0, 0], [0.5, 0.5, 0, 0], [0.25, 0.25, 0.25, 0.25]])
    np.testing.assert_allclose(output.certainty, [1, 0.5, 0], atol=1e-15)


@pytest.mark.parametrize("classes", [1, 2, 3, 10])
def test_confidence_and_margin_are_those_of_the_sorted_row(classes: int) -> None:
    (output,) = draw_probs(classes, 1, classes)
    for sample, row in enumerate(output.probs.tolist()):
        first, second = (*sorted(row, reverse=True), 0.0)[:2]
        assert output.confidence[sample] == first == row[output.prediction[sample]]
        assert output.margin[sample] == first - second


@pytest.mark.parametrize("row", [[0.5, 0.5], [0.25, 0.25, 0.25, 0.25], [0.0, 0.5, 0.5]])
def test_the_first_of_equal_classes_is_predicted_with_no_margin(row: list[float]) -> None:
    output = ExitProbs(0, [row])
    assert output.prediction[0] == row.index(max(row))
    assert output.margin[0] == 0


@pytest.mark.parametrize("name", ["confidence", "entropy", "margin"])
@pytest.mark.parametrize("classes", range(1, 41))
def test_a_threshold_of_zero_lets_everything_leave_at_the_first_active_branch(
    name: str, classes: int
) -> None:
    uniform = np.full((3, 2, classes), 1 / classes)
    outputs = [ExitProbs(exit, probs) for exit, probs in enumerate(uniform)]
    for active in ((0,), (1,), (0, 1)):
        decisions = decide(make_policy(name, {"p_tar": 0.0}), outputs, active)
        assert decisions.taken.tolist() == 2 * [active[0]]


def test_a_confidence_of_exactly_the_threshold_is_accepted() -> None:
    output = ExitProbs(0, [[0.7, 0.3], [np.nextafter(0.7, 0), 0.3], [np.nextafter(0.7, 1), 0.3]])
    assert Confidence(p_tar=0.7).accept([output], True).tolist() == [True, False, True]


@quick
@given(st.floats(0, 1), st.integers(0, 9))
def test_equal_thresholds_per_exit_are_one_threshold(p_tar: float, seed: int) -> None:
    outputs = draw_probs(seed, 4, 3)
    one = decide(Confidence(p_tar=p_tar), outputs, (0, 2))
    for per_exit in ((p_tar,) * 4, [p_tar] * 4, np.full(4, p_tar)):
        many = decide(make_policy("confidence", {"p_tar": per_exit}), outputs, (0, 2))
        np.testing.assert_array_equal(many.taken, one.taken)
        np.testing.assert_array_equal(many.label, one.label)


def test_each_exit_has_its_own_threshold() -> None:
    outputs = [ExitProbs(exit, [[0.6, 0.4], [0.8, 0.2], [0.95, 0.05]]) for exit in range(3)]
    assert decide(Confidence(p_tar=(0.9, 0.7, 0.0)), outputs, (0, 1)).taken.tolist() == [2, 1, 0]
    assert decide(Confidence(p_tar=(0.0, 0.7, 0.9)), outputs, (1,)).taken.tolist() == [2, 1, 1]


def test_a_window_offloads_from_exactly_low_to_below_p_tar() -> None:
    confidence = np.array([0.5, np.nextafter(0.6, 0), 0.6, np.nextafter(0.8, 0), 0.8])
    outputs = [ExitProbs(exit, np.stack([confidence, 1 - confidence], -1)) for exit in range(2)]
    decisions = decide(Window(p_tar=0.8, low=0.6), outputs, (0,))
    assert decisions.on_edge.tolist() == [True, True, False, False, True]


def test_a_window_looks_at_every_exit_before_it_gives_up_on_the_cloud() -> None:
    """The most confident exit so far decides whether the cloud would help, the newest alone
    whether the image leaves as usual."""
    confidences = [
        [0.7, 0.5, 0.5, 0.9, 0.5],
        [0.5, 0.7, 0.5, 0.5, 0.5],
        [0.5, 0.5, 0.7, 0.5, 0.5],
        [0.9, 0.9, 0.9, 0.9, 0.9],
    ]
    outputs = [
        ExitProbs(exit, np.stack([own, np.subtract(1, own)], -1))
        for exit, own in enumerate(confidences)
    ]
    rule = Window(p_tar=0.8, low=0.6)
    assert decide(rule, outputs, (0, 1, 2)).taken.tolist() == [3, 3, 3, 0, 2]
    # Only after the last active branch, and of active branches only.
    assert decide(rule, outputs, (0, 1)).taken.tolist() == [3, 3, 1, 0, 1]
    assert decide(rule, outputs, (2,)).taken.tolist() == [2, 2, 3, 2, 2]


def test_patience_counts_only_exits_in_a_row() -> None:
    labels = np.array([[0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 1, 0], [1, 1, 1, 0]])
    outputs = [ExitProbs(exit, np.eye(2)[row]) for exit, row in enumerate(labels)]
    assert decide(Patience(agree=2), outputs, (0, 1, 2)).taken.tolist() == [1, 2, 3, 1]
    assert decide(Patience(agree=3), outputs, (0, 1, 2)).taken.tolist() == [2, 3, 3, 3]
    assert decide(Patience(agree=1), outputs, (1, 2)).taken.tolist() == [1, 1, 1, 1]


@quick
@given(st.data())
def test_a_committees_confidence_is_a_probability(data: st.DataObject) -> None:
    exits, classes = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 3))
    weights = tuple(data.draw(st.floats(0, 1, allow_subnormal=False)) for _ in range(exits))
    elements = st.sampled_from([0.0, 1.0]) | st.floats(-9, 9)
    logits = 40 * data.draw(arrays(np.float64, (exits, 5, classes), elements=elements))
    outputs = [ExitProbs(exit, p) for exit, p in enumerate(probabilities(logits))]
    for policy in (Committee, GeometricCommittee):
        confidence = policy(p_tar=0.5, weights=weights).answer(outputs).confidence
        assert (confidence <= 1).all()
        assert (confidence >= (1 - 1e-12) / classes).all()


def test_a_committee_as_printed_can_exceed_one() -> None:
    outputs = [ExitProbs(exit, [[0.9, 0.1]]) for exit in range(3)]
    printed = Committee(p_tar=0.5, weights=(0.5, 0.7, 0.9), as_printed=True).answer(outputs)
    assert printed.confidence == pytest.approx(0.9 * (0.5 + 0.7 + 0.9))
    assert Committee(p_tar=0.5, weights=(0.5, 0.7, 0.9)).answer(
        outputs
    ).confidence == pytest.approx(0.9)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("classes", [2, 10])
def test_committees_are_the_weighted_means_of_numpy_and_scipy(seed: int, classes: int) -> None:
    outputs = draw_probs(seed, 3, classes)
    weights = np.random.default_rng(seed).uniform(0.1, 1, 4)
    members = np.stack([outputs[exit].probs for exit in (0, 2)])
    geometric = scipy.stats.gmean(members, axis=0, weights=weights[[0, 2], None, None])
    expected = {
        Committee: np.average(members, axis=0, weights=weights[[0, 2]]),
        GeometricCommittee: geometric / geometric.sum(-1, keepdims=True),
    }
    for policy, mean in expected.items():
        made = policy(p_tar=0.5, weights=tuple(weights))
        answer = made.answer([outputs[0], outputs[2]])
        np.testing.assert_array_equal(answer.label, mean.argmax(-1))
        np.testing.assert_allclose(answer.confidence, mean.max(-1), rtol=1e-12)


def test_one_branch_has_a_veto_only_in_the_geometric_mean() -> None:
    outputs = [ExitProbs(0, [[0.9, 0.1]]), ExitProbs(1, [[0.0, 1.0]])]
    weights = (0.8, 0.2)
    assert GeometricCommittee(p_tar=0.5, weights=weights).answer(outputs).label == 1
    assert Committee(p_tar=0.5, weights=weights).answer(outputs).label == 0


@pytest.mark.parametrize("name", COMMITTEES)
def test_the_cloud_answers_what_a_committee_does_not_accept(name: str) -> None:
    outputs = [ExitProbs(exit, [[0.6, 0.4]]) for exit in range(2)] + [ExitProbs(2, [[0.45, 0.55]])]
    policy = make_policy(name, {"p_tar": 0.9, "weights": (1.0, 1.0)})
    offloaded = decide(policy, outputs, (0, 1))
    assert (offloaded.taken, offloaded.label, offloaded.confidence) == (2, 1, 0.55)
    alone = decide(policy, outputs, (0, 1), cloud=False)
    assert (alone.taken, alone.label) == (1, 0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_probabilities_that_are_no_numbers_are_refused(value: float) -> None:
    with pytest.raises(EennError, match=r"exit 3: .* not finite numbers; check the network"):
        ExitProbs(2, [[0.5, 0.5], [0.5, value]])


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("row", [[np.nan, 0, 0], [0, np.inf, 0], [-np.inf, -np.inf, -np.inf]])
def test_probabilities_of_broken_logits_are_refused(row: list[float]) -> None:
    with pytest.raises(EennError, match="exit 1: "):
        ExitProbs(0, probabilities([[0, 0, 0], row]))


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_takes_its_own_settings_from_those_of_all(name: str) -> None:
    policy: Any = any_policy(name, {**GIVEN, "fallback_to": "last_exit"})
    assert type(policy) is POLICIES[name]
    assert policy.fallback_to == "last_exit"
    assert policy.agree == 2 if name == "patience" else policy.p_tar == 0.5


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("random", {}, "policy random: allowed are confidence, entropy, .*, window"),
        *((name, {"p_tar": 1.5}, "p_tar=1.5: allowed is 0 to 1") for name in THRESHOLD_RULES),
        *((name, {"p_tar": math.nan}, "p_tar=nan: allowed is 0 to 1") for name in THRESHOLD_RULES),
        *(
            (name, {"fallback_to": "none"}, "allowed are last_exit, most_confident")
            for name in POLICIES
        ),
        ("confidence", {"p_tar": (0.5, -0.1)}, "p_tar=-0.1: allowed is 0 to 1"),
        ("window", {"low": -1}, "low=-1: allowed is 0 to 1"),
        ("patience", {"agree": 0}, "policy.agree=0: allowed is a whole number of exits"),
        ("committee", {"weights": (0.5, -0.5)}, "weights .*: allowed are numbers from 0 up"),
        ("geometric_committee", {"weights": (math.nan,)}, "allowed are numbers from 0 up"),
        ("committee", {"weights": (math.inf,)}, "allowed are numbers from 0 up"),
    ],
)
def test_wrong_settings_are_refused(name: str, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(EennError, match=message):
        any_policy(name, {**GIVEN, **wrong})


@pytest.mark.parametrize(
    ("name", "missing"),
    [("confidence", "p_tar"), ("patience", "agree"), ("committee", "p_tar")],
)
def test_a_missing_setting_is_named(name: str, missing: str) -> None:
    with pytest.raises(EennError, match=f"policy {name} needs a value for {missing}"):
        make_policy(name, {}, Validation((0.5, 0.6)))


@pytest.mark.parametrize("name", COMMITTEES)
@pytest.mark.parametrize("weights", [(), (0.5,), (0.5, 0.5, 0.9)])
def test_a_committee_needs_one_weight_per_branch(name: str, weights: tuple[float, ...]) -> None:
    policy = make_policy(name, {"p_tar": 0.5, "weights": weights})
    with pytest.raises(EennError, match=f"{len(weights)} weights .* 2 branches; give one for"):
        decide(policy, THREE_EXITS, (0,))


@pytest.mark.parametrize("p_tar", [(), (0.5,), (0.5, 0.5), (0.5, 0.5, 0.5, 0.5)])
def test_thresholds_are_one_or_one_per_exit(p_tar: tuple[float, ...]) -> None:
    policy = make_policy("confidence", {"p_tar": p_tar})
    with pytest.raises(EennError, match=f"{len(p_tar)} thresholds .* 3 exits; give one number"):
        decide(policy, THREE_EXITS, (0,))
