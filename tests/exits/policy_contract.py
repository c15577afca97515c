"""The contract of every exit policy, by its name: for tests of the policies, and of new ones."""

import json
from collections.abc import Mapping
from dataclasses import fields

import numpy as np
import pytest

from eenn.errors import EennError
from eenn.exits.decide import decide
from eenn.exits.policies.base import ExitProbs, Floats, Outputs, Policy, Validation
from eenn.exits.policies.registry import POLICIES, make_policy, policy_from_json
from tests.exits.any_policy import any_policy

# Settings of all policies; each takes its own of them.
GIVEN: Mapping[str, object] = {"p_tar": 0.7, "agree": 2, "weights": (0.3, 0.5), "low": 0.4}


def outputs(seed: int, samples: int = 60) -> Outputs:
    """Random probabilities of three exits for four classes, and random labels."""
    generator = np.random.default_rng(seed)
    probs: Floats = generator.dirichlet(np.full(4, 0.4), (3, samples))
    labels = np.asarray(generator.integers(4, size=samples))
    return Outputs([ExitProbs(exit, own) for exit, own in enumerate(probs)], labels)


def check_policy(name: str, seed: int = 0, settings: Mapping[str, object] = GIVEN) -> None:
    """Hold a policy against all of the contract, on random probabilities."""
    policy = any_policy(name, settings)
    exits = outputs(seed).exits
    _comes_back_from_its_text(policy, exits)
    _decides_for_one_image_as_for_many(policy, exits)
    _lets_no_image_stay_or_leave_later_where_it_is_bolder(policy, exits)
    _names_its_settings_where_one_is_misspelt(name)


def _comes_back_from_its_text(policy: Policy, exits: list[ExitProbs]) -> None:
    again = policy_from_json(policy.to_json())
    assert again == policy
    for active in ((0,), (1,), (0, 1)):
        one, other = (decide(each, exits, active) for each in (policy, again))
        np.testing.assert_array_equal(one.taken, other.taken)
        np.testing.assert_array_equal(one.label, other.label)
        np.testing.assert_array_equal(one.confidence, other.confidence)


def _decides_for_one_image_as_for_many(policy: Policy, exits: list[ExitProbs]) -> None:
    many = decide(policy, exits, (0, 1))
    for image in range(5):
        alone = [ExitProbs(each.exit, each.probs[image : image + 1]) for each in exits]
        one = decide(policy, alone, (0, 1))
        assert (one.taken[0], one.label[0]) == (many.taken[image], many.label[image])
        assert one.confidence[0] == pytest.approx(many.confidence[image])


def _lets_no_image_stay_or_leave_later_where_it_is_bolder(
    policy: Policy, exits: list[ExitProbs]
) -> None:
    """A fit tests candidates in this order, and the guard looks for the first that accepts.

    At every exit a bolder candidate accepts what a safer one does, with the same answer.
    """
    if policy.knob is None:
        return
    settings = json.loads(policy.to_json())
    del settings["name"]
    for active in ((0,), (1,), (0, 1)):
        values = policy.knob.candidates(len(active))
        few = [*values[:: max(len(values) // 8, 1)], values[-1]]
        candidates = [policy.of({**settings, policy.knob.name: value}) for value in few]
        for end in range(1, len(active) + 1):
            seen, last = [exits[exit] for exit in active[:end]], end == len(active)
            accepted = np.stack([own.accept(seen, last) for own in candidates])
            assert not (accepted[:-1] & ~accepted[1:]).any()
            answers = np.stack([own.answer(seen)[:2] for own in candidates])
            np.testing.assert_array_equal(answers[:-1], answers[1:])


def _names_its_settings_where_one_is_misspelt(name: str) -> None:
    own = {field.name for field in fields(POLICIES[name])}
    with pytest.raises(EennError, match=f"policy {name} has no setting fallback; allowed are"):
        make_policy(name, {"fallback": "last_exit"}, Validation((0.5, 0.5, 0.5)))
    assert "fallback_to" in own
