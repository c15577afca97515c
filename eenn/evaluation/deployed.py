"""Deployments on the same images: the metrics of each, and the difference of every pair."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

from eenn.artifact.deployment import Deployment
from eenn.errors import EennError
from eenn.evaluation.differences import Difference, difference, per_sample
from eenn.evaluation.evaluated import Evaluated, Evaluation
from eenn.evaluation.exit_metrics import evaluate_exits
from eenn.evaluation.grid import Decided, by_policy, exits_taken, point
from eenn.evaluation.rows import ExitMetrics, ExitTaken, Point
from eenn.evaluation.unlabelled import Unlabelled, unlabelled
from eenn.exits.decide import last_exit
from eenn.exits.policies.base import Floats
from eenn.exits.settings import ActiveBranches, Baseline, Setting, swept_once
from eenn.records.evaluated_artifact import EvaluatedArtifact


class Subject(NamedTuple):
    """A deployment under evaluation.

    Args:
        label: distinguishes the deployment from others.
        name: of the deployment's network.
        upstream: the network that it passes images on to, or None.
    """

    label: str
    deployment: Deployment
    name: str
    artifact: EvaluatedArtifact
    upstream: EvaluatedArtifact | None = None

    def evaluation(self, otherwise: Evaluation) -> Evaluation:
        """Replace an evaluation's settings by those that the deployment holds."""
        deployment = self.deployment
        swept = swept_once(deployment.policy)
        return replace(
            otherwise,
            policies=[swept],
            p_tars=swept.values or otherwise.p_tars,
            active=ActiveBranches(active=[branch + 1 for branch in deployment.active]),
            temperature=deployment.temperature,
            experts=deployment.experts,
            upstream=self.upstream,
            rest=deployment.rest,
            payload=deployment.payload,
        )


@dataclass(frozen=True)
class Compared:
    """The rows of an evaluation of deployments, each with the label of its deployment.

    Args:
        points: of every deployment, and of the last exit alone, whose label is empty.
    """

    points: list[tuple[str, Point]]
    exits: list[tuple[str, ExitTaken]]
    exit_metrics: list[tuple[str, ExitMetrics]]
    unlabelled: list[tuple[str, Unlabelled]]
    differences: list[Difference]


def compare(subjects: Sequence[Subject], otherwise: Evaluation) -> Compared:
    """Evaluate deployments on the same images at every level, and compare every pair.

    Args:
        otherwise: settings that deployments do not hold: images, distortion, link.

    Raises:
        EennError: the deployments cannot be compared, as their images differ.
    """
    found = Compared([], [], [], [], [])
    for level in otherwise.levels:
        measured: dict[str, Mapping[str, Floats]] = {}
        samples: dict[str, tuple[str, ...]] = {}
        alone: dict[tuple[str, ...], Point] = {}
        for subject in subjects:
            evaluation = subject.evaluation(otherwise)
            evaluated = Evaluated(subject.name, subject.artifact, evaluation)
            records, temperatures = evaluated.answers(evaluated.split, level)
            case = evaluated.case(evaluated.split, level)
            decided = by_policy(case, subject.deployment.policy, subject.deployment.active)
            last = Decided(Setting(None, (), Baseline.LAST_EXIT_ONLY), last_exit(case.outputs))
            found.points.append((subject.label, point(case, decided)))
            then = subject.upstream.manifest.id if subject.upstream else ""
            alone.setdefault((subject.name, str(evaluation.experts), then), point(case, last))
            found.exits.extend((subject.label, row) for row in exits_taken(case, decided))
            rows = evaluate_exits(evaluated.network, case.level, records, temperatures)
            found.exit_metrics.extend((subject.label, row) for row in rows)
            measured[subject.label] = per_sample(case, decided.decisions)
            samples[subject.label] = records.sample_ids
        found.points.extend(("", last) for last in alone.values())
        _check_same(samples)
        for first, second in combinations(measured, 2):
            found.differences.append(
                difference(first, second, level, measured[first], measured[second])
            )
    for subject in subjects:
        own = unlabelled([(subject.name, subject.artifact)], subject.evaluation(otherwise))
        found.unlabelled.append((subject.label, own))
    return found


def _check_same(samples: Mapping[str, tuple[str, ...]]) -> None:
    (first, ids), *others = samples.items()
    for label, own in others:
        if own != ids:
            raise EennError(
                f"deployment={label}: its artifact's images are split in another way than those of "
                f"{first}; give images=PATH of other images, or artifacts of one split"
            )
