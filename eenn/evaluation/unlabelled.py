"""Tables that need no labels: agreement between exits, and drift."""

from collections.abc import Sequence
from dataclasses import dataclass

from eenn.evaluation.agreement import agreement
from eenn.evaluation.drift import Observed, drift
from eenn.evaluation.evaluated import VALIDATION, Evaluated, Evaluation
from eenn.evaluation.grid import Case
from eenn.evaluation.rows import Agreement, Drift
from eenn.exits.decide import last_exit
from eenn.exits.head_sets import DEPLOYED
from eenn.exits.settings import Baseline, Setting
from eenn.records.evaluated_artifact import EvaluatedArtifact, ImagesNotFound


@dataclass(frozen=True)
class Unlabelled:
    """The rows of the tables that need no labels.

    Args:
        left_out: networks without rows of drift, and why, a line each.
    """

    agreement: list[Agreement]
    drift: list[Drift]
    left_out: list[str]


def unlabelled(
    named: Sequence[tuple[str, EvaluatedArtifact]], evaluation: Evaluation
) -> Unlabelled:
    """Compare the exits of all artifacts with each other, and the images with validation.

    Drift is judged with the first policy at the middle value of its knob, all branches active.
    """
    found = Unlabelled([], [], [])
    for name, artifact in named:
        evaluated = Evaluated(name, artifact, evaluation)
        for level in evaluation.levels:
            case = evaluated.case(evaluated.split, level)
            found.agreement.extend(agreement(case.network, case.level, case.outputs))
        if evaluation.experts.mode not in DEPLOYED:
            # Heads that only an evaluation can choose differ from those of validation.
            found.left_out.append(f"{name}: no drift for experts={evaluation.experts}")
            continue
        try:
            validation = evaluated.case(VALIDATION, 0)
        except ImagesNotFound as error:
            found.left_out.append(f"{name}: no drift without validation images: {error}")
            continue
        setting = _judged(evaluated)
        known = _observed(validation, setting)
        for level in evaluation.levels:
            case = evaluated.case(evaluated.split, level)
            seen = _observed(case, setting)
            found.drift.extend(drift(case.network, case.level, setting, seen, known))
    return found


def _judged(evaluated: Evaluated) -> Setting:
    """Choose the setting by which images leave for the tests of drift."""
    first, validation = evaluated.policies()[:1], evaluated.validation
    policies = [one for swept in first for one in swept.policies(validation)]
    if not policies or not evaluated.largest:
        return Setting(None, (), Baseline.LAST_EXIT_ONLY)
    return Setting(policies[len(policies) // 2], evaluated.largest)


def _observed(case: Case, setting: Setting) -> Observed:
    if setting.policy is None:
        return Observed(case.outputs, last_exit(case.outputs))
    return Observed(case.outputs, case.decide(setting.policy, setting.active))
