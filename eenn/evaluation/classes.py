"""Classes that leave early: one way to answer, class by class."""

from collections.abc import Sequence

import numpy as np

from eenn.evaluation.evaluated import Evaluated, Evaluation
from eenn.evaluation.grid import Case
from eenn.evaluation.rows import ClassAnswered, Network
from eenn.exits.settings import Setting
from eenn.records.evaluated_artifact import EvaluatedArtifact
from eenn.statistics.intervals import share


def classes_of(
    named: Sequence[tuple[str, EvaluatedArtifact]],
    evaluation: Evaluation,
    network: Network,
    level: float,
    setting: Setting,
) -> list[ClassAnswered]:
    """Measure one way to answer by one of the networks, class by class."""
    (found,) = (
        Evaluated(name, artifact, evaluation)
        for name, artifact in named
        if (name, artifact.split.seed) == (network.network, network.seed)
    )
    return by_class(found.case(found.split, level), setting, found.artifact.manifest.classes)


def by_class(case: Case, setting: Setting, classes: Sequence[str]) -> list[ClassAnswered]:
    """Measure every class that has samples; gives no rows where there are no labels.

    Args:
        setting: of a policy.
        classes: their names, by label.
    """
    labels, policy = case.labels, setting.policy
    if labels is None or policy is None:
        return []
    decisions = case.decide(policy, setting.active)
    right = decisions.label == labels
    last_right = case.outputs[-1].prediction == labels
    macs = case.costs.answer_macs(decisions)
    rows = []
    for label in np.unique(labels):
        own = labels == label
        early, n = own & decisions.on_edge, int(own.sum())
        rows.append(
            ClassAnswered(
                network=case.network,
                level=case.level,
                setting=setting,
                class_name=classes[label],
                n=n,
                accuracy=share(int(right[own].sum()), n),
                last_exit_accuracy=share(int(last_right[own].sum()), n),
                edge_probability=share(int(early.sum()), n),
                edge_accuracy=share(int(right[early].sum()), int(early.sum())),
                macs=float(macs[own].mean()),
            )
        )
    return rows
