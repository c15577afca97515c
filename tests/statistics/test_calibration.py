"""Calibration against brute force, torch, torchmetrics and simulation."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy
from torchmetrics.classification import MulticlassCalibrationError

from eenn.errors import EennError
from eenn.statistics.calibration import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    ece,
    ece_if_calibrated,
    fit_temperature,
    fit_temperatures,
    how_fitted,
    nll,
    probabilities,
    reliability_bins,
    weight_of,
)

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

quick = settings(max_examples=100)


def draw_logits(seed: int, samples: int = 200, classes: int = 5) -> tuple[Floats, Labels]:
    """Random logits and labels that are likely but not certain to be the largest."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, generator.uniform(0.5, 6), (samples, classes))
    noisy = logits + generator.gumbel(0, generator.uniform(0.5, 4), logits.shape)
    return logits, noisy.argmax(-1)


def torch_nll(logits: Floats, labels: Labels, temperature: float = 1.0) -> float:
    return cross_entropy(torch.tensor(logits) / temperature, torch.tensor(labels)).item()


def searched_temperature(logits: Floats, labels: Labels, exits: int = 1) -> float:
    """The least mean of the samples' NLL and that of labels which the network itself would draw."""
    z, own = torch.tensor(logits), torch.softmax(torch.tensor(logits), -1)
    images = len(labels) / exits
    told = min(images, images * torch_nll(logits, labels))
    weight = told**2 / (told**2 + 60**2)

    def loss(temperature: float) -> float:
        unchanged = cross_entropy(z / temperature, own).item()
        return weight * torch_nll(logits, labels, temperature) + (1 - weight) * unchanged

    low, high = np.log([MIN_TEMPERATURE, MAX_TEMPERATURE])
    for _ in range(8):
        grid = np.linspace(low, high, 41)
        best = grid[np.argmin([loss(t) for t in np.exp(grid)])]
        low, high = best - (high - low) / 40, best + (high - low) / 40
    return float(np.exp(best))


@st.composite
def labelled_logits(draw: st.DrawFn) -> tuple[Floats, Labels]:
    """Up to a dozen samples; whole numbers among the logits make ties."""
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 5)))
    elements = st.integers(-3, 3).map(float) | st.floats(-200, 200)
    labels = arrays(np.int64, shape[0], elements=st.integers(0, shape[1] - 1))
    return draw(arrays(np.float64, shape, elements=elements)), draw(labels)


@pytest.mark.parametrize("seed", range(6))
def test_the_fitted_temperature_is_the_one_a_search_finds(seed: int) -> None:
    logits, labels = draw_logits(seed)
    expected = searched_temperature(logits, labels)
    assert MIN_TEMPERATURE < expected < MAX_TEMPERATURE
    assert fit_temperature(logits, labels) == pytest.approx(expected, abs=1e-3)


def test_the_shared_temperature_is_fitted_to_all_exits_together() -> None:
    drawn, labels = draw_logits(0)
    logits = np.stack([drawn, 0.3 * drawn, np.random.default_rng(1).normal(size=drawn.shape)])
    fitted = fit_temperatures(logits, labels)
    alone = [searched_temperature(z, labels) for z in logits[:2]]
    assert fitted.per_exit[:2] == pytest.approx(alone, abs=1e-3)
    assert len(fitted.per_exit) == 3
    together = searched_temperature(np.concatenate(logits), np.concatenate([labels] * 3), exits=3)
    assert fitted.shared == pytest.approx(together, abs=1e-3)


@quick
@given(labelled_logits())
@example((np.zeros((1, 1)), np.zeros(1, np.int64)))
@example((np.array([[0.0, 0.0, -1.0]]), np.array([1])))
def test_fitting_never_raises_the_nll(drawn: tuple[Floats, Labels]) -> None:
    logits, labels = drawn
    temperature = fit_temperature(logits, labels)
    before = torch_nll(logits, labels)
    assert torch_nll(logits, labels, temperature) <= before + 1e-9 * max(1, before)


def test_many_images_decide_alone() -> None:
    logits, labels = draw_logits(3, samples=20_000)
    fitted = torch_nll(logits, labels, fit_temperature(logits, labels))
    others = [torch_nll(logits, labels, float(t)) for t in np.geomspace(0.1, 10, 200)]
    assert fitted <= min(others) * (1 + 1e-4)


@pytest.mark.parametrize("scale", [1e-30, 1, 1e4, 1e15, 1e30])
@pytest.mark.parametrize("labels", [[0, 1, 2], [1, 2, 0], [0, 1, 0]], ids=["right", "wrong", "mix"])
def test_no_scale_of_logits_makes_the_fit_diverge(scale: float, labels: list[int]) -> None:
    logits, answers = scale * np.eye(3), np.array(labels)
    temperature = fit_temperature(logits, answers)
    assert MIN_TEMPERATURE <= temperature <= MAX_TEMPERATURE
    before = torch_nll(logits, answers)
    assert torch_nll(logits, answers, temperature) <= before * (1 + 1e-12)


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (5, 1), (5, 4)])
@pytest.mark.parametrize("value", [0, -7.5, 1e30])
def test_constant_logits_keep_temperature_one(shape: tuple[int, int], value: float) -> None:
    assert fit_temperature(np.full(shape, value), np.zeros(shape[0], np.int64)) == 1


def test_many_logits_that_are_always_wrong_reach_the_limit() -> None:
    logits, wrong = np.tile(30 * np.eye(4), (500, 1)), np.tile((np.arange(4) + 1) % 4, 500)
    assert fit_temperature(logits, wrong) == MAX_TEMPERATURE


def confident_logits(images: int, seed: int) -> tuple[Floats, Labels]:
    """Calibrated logits of a network that is right 97 times in 100, and labels."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(images, 10))
    logits[:, 0] += 14 * generator.gamma(4, 0.25, images)
    probs = probabilities(logits)
    return logits, (generator.random((images, 1)) > probs.cumsum(-1)).sum(-1).clip(0, 9)


@pytest.mark.parametrize("images", [1, 10, 30, 100, 300])
def test_few_images_or_only_right_ones_never_spoil_what_is_calibrated(images: int) -> None:
    unseen, truth = confident_logits(20_000, seed=0)
    before = nll(unseen, truth)
    after, all_right = [], 0
    for seed in range(1, 41):
        logits, labels = confident_logits(images, seed)
        all_right += bool((logits.argmax(-1) == labels).all())
        after.append(nll(unseen, truth, fit_temperature(logits, labels)))
    assert all_right or images == 300
    assert np.mean(after) <= 1.01 * before
    assert max(after) <= 1.05 * before


def test_few_images_still_mend_what_is_far_from_calibrated() -> None:
    unseen, truth = confident_logits(20_000, seed=0)
    logits, labels = confident_logits(300, seed=1)
    temperature = fit_temperature(3 * logits, labels)
    assert nll(3 * unseen, truth, temperature) < 0.8 * nll(3 * unseen, truth)


@pytest.mark.parametrize(
    ("images", "classes", "exits", "expected"),
    [
        (60, 5, 1, 0.5),  # more than a nat each: images count
        (60, 5, 2, 0.2),
        (60, 2, 1, np.log(2) ** 2 / (np.log(2) ** 2 + 1)),
        (6000, 5, 1, 1 / (1 + 0.01**2)),
    ],
)
def test_samples_weigh_by_their_number_or_their_nats(
    images: int, classes: int, exits: int, expected: float
) -> None:
    logits, labels = np.zeros((images, classes)), np.zeros(images, np.int64)
    given = {} if exits == 1 else {"exits": exits}
    assert weight_of(logits, labels, **given) == pytest.approx(expected, rel=1e-9)
    assert weight_of(1e9 * np.eye(classes), np.arange(classes)) == 0


def test_exits_that_validation_does_not_decide_are_named() -> None:
    many, labels = draw_logits(0, samples=500)
    right = 9 * np.eye(5)[labels]
    assert how_fitted(many[None], labels) == "minimal NLL on 500 validation samples"
    said = how_fitted(np.stack([many, right]), labels)
    assert said.endswith("too little weight: exit 2 (0.00)")
    said = how_fitted(np.stack([right, many, right]), labels)
    assert said.endswith("weight: exit 1 (0.00), exit 3 (0.00)")
    few = how_fitted(many[None, :20], labels[:20])
    assert "on 20 validation samples; held near 1" in few


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_refused(value: float) -> None:
    logits, labels = draw_logits(0)
    logits[3, 1] = value
    with pytest.raises(EennError, match="finite"):
        fit_temperature(logits, labels)
    with pytest.raises(EennError, match="finite"):
        fit_temperatures(np.stack([draw_logits(0)[0], logits]), labels)


def test_no_samples_are_refused() -> None:
    with pytest.raises(EennError, match="at least one sample"):
        fit_temperature(np.empty((0, 3)), np.empty(0, np.int64))


@pytest.mark.parametrize("temperature", [0.3, 1, 4.2])
def test_probabilities_and_nll_are_torchs(temperature: float) -> None:
    logits, labels = draw_logits(0)
    expected = torch.softmax(torch.tensor(logits) / temperature, -1).numpy()
    np.testing.assert_allclose(probabilities(logits, temperature), expected, rtol=1e-12)
    assert nll(logits, labels, temperature) == pytest.approx(
        torch_nll(logits, labels, temperature), rel=1e-12
    )


def test_each_exit_is_divided_by_its_own_temperature() -> None:
    logits = np.random.default_rng(0).normal(size=(3, 3, 3))
    temperatures = [0.5, 1.0, 7.0]
    expected = [torch.softmax(torch.tensor(logits[k]) / temperatures[k], -1) for k in range(3)]
    np.testing.assert_allclose(probabilities(logits, temperatures), np.stack(expected), rtol=1e-12)


def test_probabilities_of_huge_logits_are_finite() -> None:
    np.testing.assert_array_equal(probabilities([[1e30, -1e30]], 0.05), [[1, 0]])


@pytest.mark.parametrize("classes", [2, 10, 257])
@pytest.mark.parametrize("seed", range(3))
def test_ece_is_torchmetrics(classes: int, seed: int) -> None:
    logits, labels = draw_logits(seed, samples=700, classes=classes)
    probs = probabilities(logits)
    metric = MulticlassCalibrationError(classes, n_bins=15, norm="l1")
    expected = metric(torch.tensor(probs), torch.tensor(labels)).item()
    assert expected > 0.001
    assert ece(probs, labels) == pytest.approx(expected, abs=1e-6)


def test_ece_of_a_case_worked_by_hand() -> None:
    probs = [[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.0, 1.0]]
    # .9 is right half the time (gap .4, weight 1/2), .6 wrong (.6, 1/4), 1.0 right (0, 1/4).
    assert ece(probs, [0, 1, 0, 1], bins=10) == pytest.approx(0.4 / 2 + 0.6 / 4)


@quick
@given(
    st.integers(1, 20).flatmap(
        lambda bins: st.tuples(
            st.just(bins),
            st.lists(
                st.tuples(
                    st.integers(1, bins).map(lambda edge: edge / bins)
                    | st.integers(1, 10_000).map(lambda n: n / 10_000),
                    st.integers(0, 2),
                    st.integers(0, 2),
                ),
                min_size=1,
                max_size=30,
            ),
        )
    )
)
def test_reliability_bins_are_those_of_a_plain_loop(
    drawn: tuple[int, list[tuple[float, int, int]]],
) -> None:
    bins, samples = drawn
    members: list[list[tuple[float, bool]]] = [[] for _ in range(bins)]
    for confidence, answer, label in samples:
        (bin_,) = (b for b in range(bins) if b / bins < confidence <= (b + 1) / bins)
        members[bin_].append((confidence, answer == label))

    probs = np.zeros((len(samples), 3))
    for row, (confidence, answer, _) in enumerate(samples):
        probs[row, answer] = confidence
    found = reliability_bins(probs, [label for _, _, label in samples], bins)

    assert found.count.tolist() == [len(member) for member in members]
    means = [np.mean(m, axis=0) if m else [np.nan, np.nan] for m in members]
    np.testing.assert_allclose(found.confidence, [c for c, _ in means])
    np.testing.assert_allclose(found.accuracy, [a for _, a in means])


def test_a_confidence_of_zero_falls_in_the_first_bin() -> None:
    assert reliability_bins(np.zeros((2, 3)), [0, 1], bins=5).count.tolist() == [2, 0, 0, 0, 0]


def calibrated_probs(samples: int) -> Floats:
    generator = np.random.default_rng(5)
    return probabilities(generator.normal(0, 2, (samples, 4)))


def test_calibrated_data_show_the_ece_that_is_foretold() -> None:
    probs, trials = calibrated_probs(300), 1500
    mean, limit = ece_if_calibrated(probs, draws=1500)
    generator = np.random.default_rng(1)
    measured = []
    for _ in range(trials):
        labels = (generator.random((300, 1)) > probs.cumsum(-1)).sum(-1)
        measured.append(ece(probs, labels))
    assert np.mean(np.array(measured) <= limit) == pytest.approx(0.975, abs=0.015)
    assert np.mean(measured) == pytest.approx(mean, rel=0.03)


def test_the_foretold_ece_shrinks_with_the_root_of_the_samples() -> None:
    means = [ece_if_calibrated(calibrated_probs(n), draws=200)[0] for n in (500, 5_000, 50_000)]
    for fewer, more in pairwise(means):
        assert fewer / more == pytest.approx(np.sqrt(10), rel=0.15)


def test_the_foretold_ece_is_the_same_for_the_same_seed() -> None:
    probs = calibrated_probs(50)
    assert ece_if_calibrated(probs, 20, seed=3) == ece_if_calibrated(probs, 20, seed=3)
    assert ece_if_calibrated(probs, 20, seed=3) != ece_if_calibrated(probs, 20, seed=4)
