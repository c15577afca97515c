"""Who answers an image, against plain loops over images."""

import numpy as np
import pytest
from scipy.special import log_softmax

from eenn.errors import EennError
from eenn.exits.head_sets import Classifier, HeadChoice, How, choose, mixed, picked

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
    assert choose(kinds, 0.7).tolist() == [1, 0, 2, 0]
    assert choose(kinds, 0.0).tolist() == [1, 1, 2, 0]


def test_every_image_is_answered_by_its_own_head_set() -> None:
    log_probs, _ = drawn()
    chosen = np.array([2, 0, 1, 1, 2])
    found = picked(log_probs, chosen)
    assert found.shape == (EXITS, SAMPLES, CLASSES)
    for sample, own in enumerate(chosen):
        for exit in range(EXITS):
            np.testing.assert_array_equal(found[exit, sample], log_probs[own][exit, sample])


def test_a_mixture_weighs_probabilities_by_those_of_the_kinds() -> None:
    log_probs, kinds = drawn()
    found = np.exp(mixed(log_probs, kinds))
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
    for how in How:
        if how is not How.ONE_KIND:
            assert HeadChoice.named(how.value) == HeadChoice(how)
            assert str(HeadChoice(how)) == how.value
    own = HeadChoice.named("jpeg")
    assert (own.how, own.kind, str(own)) == (How.ONE_KIND, "jpeg", "jpeg")
    assert [how for how in How if HeadChoice(how).asks_classifier] == [How.CHOSEN, How.MIXTURE]
