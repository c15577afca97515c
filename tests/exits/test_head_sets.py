"""Head sets chosen and mixed, against plain loops over images."""

import numpy as np
import pytest
from scipy.special import log_softmax

from eenn.errors import EennError
from eenn.exits.head_sets import (
    Classifier,
    HeadChoice,
    HeadMode,
    choose_head_sets,
    mix_heads,
    pick_heads,
)

SETS, EXITS, SAMPLES, CLASSES = 3, 2, 5, 4


def drawn() -> tuple[list[np.ndarray], np.ndarray]:
    """Log-probabilities of every head set, and probabilities of the kinds, one of them 0."""
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 3, (SETS, EXITS, SAMPLES, CLASSES))
    kinds = generator.dirichlet(np.ones(SETS), SAMPLES)
    kinds[0] = [0, 0.25, 0.75]
    return [*log_softmax(logits, axis=-1)], kinds


def test_the_most_probable_kind_is_chosen_where_it_is_sure_enough() -> None:
    kinds = np.array([[0.1, 0.7, 0.2], [0.1, 0.69, 0.21], [0.0, 0.1, 0.9], [0.8, 0.1, 0.1]])
    assert choose_head_sets(kinds, 0.7).tolist() == [1, 0, 2, 0]
    assert choose_head_sets(kinds, 0.0).tolist() == [1, 1, 2, 0]


def test_every_image_is_answered_by_its_own_head_set() -> None:
    log_probs, _ = drawn()
    chosen = np.array([2, 0, 1, 1, 2])
    found = pick_heads(log_probs, chosen)
    assert found.shape == (EXITS, SAMPLES, CLASSES)
    for sample, own in enumerate(chosen):
        for exit in range(EXITS):
            np.testing.assert_array_equal(found[exit, sample], log_probs[own][exit, sample])


def test_a_mixture_weighs_probabilities_by_those_of_the_kinds() -> None:
    log_probs, kinds = drawn()
    found = np.exp(mix_heads(log_probs, kinds))
    assert found.shape == (EXITS, SAMPLES, CLASSES)
    for sample in range(SAMPLES):
        for exit in range(EXITS):
            own = sum(kinds[sample, k] * np.exp(log_probs[k][exit, sample]) for k in range(SETS))
            np.testing.assert_allclose(found[exit, sample], own, rtol=1e-12)
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-12)


@pytest.mark.parametrize("sure", [-0.01, 1.01])
def test_how_sure_a_classifier_has_to_be_is_a_probability(sure: float) -> None:
    with pytest.raises(EennError, match=rf"sure={sure}: allowed is a probability"):
        Classifier(1.0, sure, (1.0,), 0, 0)


def test_what_users_write_of_experts_is_read_and_printed() -> None:
    for mode in HeadMode:
        if mode is not HeadMode.ONE_KIND:
            assert HeadChoice.named(mode.value) == HeadChoice(mode)
            assert str(HeadChoice(mode)) == mode.value
    own = HeadChoice.named("jpeg")
    assert (own.mode, own.kind, str(own)) == (HeadMode.ONE_KIND, "jpeg", "jpeg")
    assert [mode for mode in HeadMode if HeadChoice(mode).asks_classifier] == [
        HeadMode.CHOSEN,
        HeadMode.MIXTURE,
    ]
