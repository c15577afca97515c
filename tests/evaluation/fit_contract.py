"""The contract of the fit of a policy's knob, by the policy's name."""

import pytest

from eenn.evaluation.fitting import Goal, fit
from eenn.exits.decide import decide
from eenn.exits.policies.registry import POLICIES
from tests.evaluation.cases import VALIDATION, case


def check_fit(name: str, seed: int) -> None:
    """Hold the fit of a policy's knob to a budget against trying all of its values."""
    data = case(80, seed)
    goal = Goal("macs", 450)
    fitted = fit(goal, data, name, {}, (0, 1), VALIDATION)
    knob = POLICIES[name].knob
    assert knob
    within = []
    for value in knob.candidates(2):
        policy = POLICIES[name].fit({knob.name: value}, VALIDATION)
        decisions = decide(policy, data.outputs, (0, 1))
        if data.costs.answer_macs(decisions).mean() <= goal.limit:
            within.append((decisions.label == data.labels).mean())
    assert fitted.validation_accuracy == pytest.approx(max(within))
